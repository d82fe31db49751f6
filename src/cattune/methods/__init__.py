"""How to train: one file for each method."""
