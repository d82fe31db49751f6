"""Causal Attention Tuning as cattune does it by default."""

from __future__ import annotations

from cattune.methods.base import Method


class CausalAttentionTuning(Method):
    """The Re-Attention loss with the default settings of `CATConfig`."""

    name = "cat"
    label = "Causal Attention Tuning"
    description = "cattune's default: objective uniform, gamma 1 falling linearly to 0"
    needs = frozenset({"links"})


METHOD = CausalAttentionTuning()
