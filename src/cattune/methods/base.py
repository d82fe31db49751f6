"""What a method is: a way of training, which is an arm of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from cattune.data.examples import Example
from cattune.registry import Registry
from cattune.tasks.base import Task


class Method:
    """Plain fine-tuning, unless a subclass says otherwise. A method is one file.

    Attributes:
        name: as it stands in results.
        label: as people read it.
        description: what sets it apart, in a few words.
        settings: of `CATConfig`, on top of the recipe that all methods share; penalties are among them.
        needs: which of `tasks.base.PARTS` a task must have.
        passes: how many times a model is trained from the start, each with the examples that `prepare` gives then.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str]
    settings: Mapping[str, Any] = {}
    needs: frozenset[str] = frozenset()
    passes: int = 1

    def prepare(self, split: str, examples: Sequence[Example], task: Task) -> Sequence[Example]:
        """The examples of a split as this method trains on them (`train`) or is tested on them (the others)."""
        return examples


def _is_method(value: Any) -> bool:
    return isinstance(value, Method)


METHODS: Registry[Method] = Registry("method", "cattune.methods", {}, _is_method)
"""Methods by name."""
