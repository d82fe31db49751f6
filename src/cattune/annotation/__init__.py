"""Causal links for a data set: an assistant model, rules or people name phrases, which become spans of the text.

A `prior` says what causes what and shows handwritten examples, `prompt` asks an assistant model in its words, `reply`
reads what came back, and `judgement` grounds it and says what is wrong with it.
"""
