"""Training: what a trainer is given, and which evaluation was the best."""
