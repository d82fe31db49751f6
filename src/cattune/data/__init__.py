"""Files in: which kind a file is of, its lines, and YAML that is safe to walk."""
