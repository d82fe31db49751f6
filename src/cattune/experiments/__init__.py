"""Experiments: a cell is a method on one seed's data, a grid is many cells; a training job, with its folder."""
