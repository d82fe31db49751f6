"""Experiments: an arm is a way of training, a cell is an arm on one seed's data, a grid is many cells."""
