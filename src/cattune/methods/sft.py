"""Plain fine-tuning: what every other method is compared with."""

from __future__ import annotations

from cattune.methods.base import Method


class PlainFineTuning(Method):
    """Cross-entropy alone."""

    name = "sft"
    label = "Plain fine-tuning"
    description = "cross-entropy alone"
    settings = {"gamma": 0.0}


METHOD = PlainFineTuning()
