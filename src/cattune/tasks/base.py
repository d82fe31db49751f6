"""What a task is: data with what is needed to train, score and question a model on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cattune.data.examples import Example
from cattune.registry import Registry

PARTS = ("links", "groups", "counterfactuals", "causes_only")
"""What a method may need of a task beside its splits."""

Splits = Mapping[str, Sequence[Example]]
"""Examples by the split's name: `train`, then the splits to evaluate on, in the order in which they are reported."""


class Task(ABC):
    """Data, and what is known about it. A task is one file; what it does not know it leaves as it is here.

    Attributes:
        name: as it stands in results.
        answers: all answers there are, where they are a closed set; they are then scored by their likelihood too.
        group_by: the metadata key whose values divide a split's scores into groups.
        parts: which of `PARTS` it has.
    """

    name: ClassVar[str]
    answers: tuple[str, ...] | None = None
    group_by: str | None = None
    parts: frozenset[str] = frozenset()

    @abstractmethod
    def splits(self, data_seed: int) -> Splits:
        """Every split's examples, prompts and links included; what is drawn is drawn with `data_seed`.

        Raises:
            DataError, ConfigError: a file or a setting of the task is wrong.
        """

    def settings(self) -> Mapping[str, Any]:
        """What it was made with, as JSON holds it: part of a run's identity."""
        return {}

    def counterfactuals(self, example: Example) -> Sequence[Example]:
        """The example with another cause, and therefore another answer; only with the part `counterfactuals`."""
        raise NotImplementedError(f"the task {self.name!r} knows no counterfactuals")

    def causes_only(self, example: Example) -> Example:
        """The example cut to its causes; only with the part `causes_only`."""
        raise NotImplementedError(f"the task {self.name!r} cannot cut an example to its causes")


def _is_task(value: Any) -> bool:
    return isinstance(value, Task) or (isinstance(value, type) and issubclass(value, Task))


TASKS: Registry[type[Task]] = Registry("task", "cattune.tasks", {}, _is_task)
"""Tasks by name. Each is a class that is called with its settings, as a configuration gives them."""
