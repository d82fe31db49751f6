"""Causal Attention Tuning with the settings of its publication."""

from __future__ import annotations

from cattune.methods.base import Method


class PublishedCAT(Method):
    """The objective `div`, whose weight falls with the epochs."""

    name = "cat-published"
    label = "CAT as published"
    description = "objective div, alpha 2, gamma 1 falling exponentially with the epochs"
    settings = {"objective": "div", "alpha": 2.0, "gamma_schedule": "exponential", "gamma_rate": 1.0}
    needs = frozenset({"links"})


METHOD = PublishedCAT()
