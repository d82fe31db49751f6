"""Just Train Twice (Liu et al. 2021): what a first model gets wrong, the second sees more often.

https://arxiv.org/abs/2107.09044
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cattune.data.examples import Example
from cattune.errors import ConfigError
from cattune.methods.base import Method


class JustTrainTwice(Method):
    """Two passes of plain fine-tuning; the second has each wrongly answered training example `times` times.

    Args:
        times: how often such an example stands in the second pass.
        first_epochs: of the first pass, which must end before the model knows all examples by heart.
    """

    name = "jtt"
    label = "Just Train Twice"
    settings = {"gamma": 0.0}

    def __init__(self, times: int = 6, first_epochs: float = 1.0) -> None:
        if times < 2:
            raise ConfigError(f"times is {times}; it must be at least 2, or the second pass is as the first")
        self.times = times
        self.description = f"plain fine-tuning, the errors of a first model of {first_epochs:g} epochs {times} times"
        self.passes = ({"num_train_epochs": first_epochs, "max_steps": -1}, {})

    def again(self, examples: Sequence[Example], wrong: Collection[str]) -> Sequence[Example]:
        """The examples, and the wrong ones again."""
        repeated = [example for example in examples if example.id in wrong]
        return [
            *examples,
            *(
                replace(example, id=f"{example.id} (again {number})")
                for number in range(1, self.times)
                for example in repeated
            ),
        ]


METHOD = JustTrainTwice()
