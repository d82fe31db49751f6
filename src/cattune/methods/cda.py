"""Counterfactual data augmentation: each training example stands beside others that differ from it in the cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cattune.data.examples import Example
from cattune.methods.base import Method
from cattune.tasks.base import Task


class CounterfactualAugmentation(Method):
    """Adds the counterfactuals of the training examples, each right after the example that it is of."""

    name = "cda"
    label = "Counterfactual augmentation"
    description = "plain fine-tuning on the training examples and their counterfactuals"
    settings = {"gamma": 0.0}
    needs = frozenset({"counterfactuals"})

    def prepare(self, split: str, examples: Sequence[Example], task: Task) -> Sequence[Example]:
        """The training examples with their counterfactuals; tests stay as they are."""
        if split != "train":
            return examples
        return [
            each
            for example in examples
            for each in (
                example,
                *(
                    replace(other, id=f"{example.id} (counterfactual {number})")
                    for number, other in enumerate(task.counterfactuals(example), start=1)
                ),
            )
        ]


METHOD = CounterfactualAugmentation()
