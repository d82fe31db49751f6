"""Data with what is needed to train, score and question a model on it."""
