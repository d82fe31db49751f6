"""Annotation without a model: patterns find the spans of templated text and edges join them."""
