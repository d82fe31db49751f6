"""What models write around and inside the JSON that was asked for: thoughts, prose, single backslashes."""
