"""Models and tokenizers by name: a folder, an adapter's folder, or a name on the model hub."""
