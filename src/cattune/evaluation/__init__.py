"""Is the answer right? Greedy generation, and the scores of what it wrote.

`scores` is pure, `generation` runs the model, `evaluate` puts both together for a list of examples.
"""
