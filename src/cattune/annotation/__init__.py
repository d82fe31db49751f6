"""Causal links for a data set: an assistant model, rules or people name phrases, which become spans of the text.

A `prior` says what causes what and shows handwritten examples, `prompt` asks an assistant model in its words, `reply`
reads what came back, and `judgement` grounds it and says what is wrong with it. `course` is that for one example, with
a second chance; `annotate` takes a data set through it, with an `assistant` to ask and a `storage` that keeps what it
said. `rules` need no model; `consensus` makes one annotation out of several, and `report` says what a file holds.
"""
