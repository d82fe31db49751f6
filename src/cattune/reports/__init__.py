"""Pages and tables out of result objects; nothing here computes a result."""
