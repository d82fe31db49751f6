"""The formats that examples come in: which one a record has, and the examples of what a caller holds in memory."""
