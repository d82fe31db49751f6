"""Training: what a trainer is given."""
