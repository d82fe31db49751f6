"""Plain fine-tuning on the causes alone: what there is to learn, and so the most that a method may reach."""

from __future__ import annotations

from collections.abc import Sequence

from cattune.data.examples import Example
from cattune.methods.base import Method
from cattune.tasks.base import Task


class CausesAlone(Method):
    """Trains on, and is tested on, examples that are cut to their causes."""

    name = "causal-only"
    label = "Causes alone"
    description = "plain fine-tuning on prompts that hold nothing but the causal attributes: what there is to learn"
    settings = {"gamma": 0.0}
    needs = frozenset({"causes_only"})

    def prepare(self, split: str, examples: Sequence[Example], task: Task) -> Sequence[Example]:
        """Every example cut to its causes."""
        return [task.causes_only(example) for example in examples]


METHOD = CausesAlone()
