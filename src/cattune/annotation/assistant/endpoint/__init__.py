"""Whoever is asked: a model behind an OpenAI-compatible endpoint or in this process, and how fast it may be asked."""
