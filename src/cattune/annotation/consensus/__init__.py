"""Several annotations of the same examples: side by side, how far they agree, and joined into one."""
