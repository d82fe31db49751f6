"""What a method is: a way of training. Experiments compare them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from cattune.data.examples import Example
from cattune.errors import ConfigError
from cattune.registry import Registry
from cattune.tasks.base import Task
from cattune.wording import listed


class Method:
    """Training as the settings say, unless a subclass says otherwise. A method is one file.

    Attributes:
        name: as it stands in results.
        label: as people read it.
        description: what sets it apart, in a few words.
        settings: of `CATConfig`, on top of the recipe that all methods share; penalties are among them.
        needs: which of `tasks.base.PARTS` a task must have.
        passes: settings of each pass, on top of `settings`. Every pass trains a model from the start; the last counts.
    """

    name: str = "none"
    label: str = "Settings as given"
    description: str = "no method beside the settings"
    settings: Mapping[str, Any] = {}
    needs: frozenset[str] = frozenset()
    passes: Sequence[Mapping[str, Any]] = ({},)

    def prepare(self, split: str, examples: Sequence[Example], task: Task) -> Sequence[Example]:
        """The examples of a split as this method trains on them (`train`) or is tested on them (the others)."""
        return examples

    def again(self, examples: Sequence[Example], wrong: Collection[str]) -> Sequence[Example]:
        """The training examples of the next pass.

        Args:
            examples: as `prepare` gave them.
            wrong: the ids of those that the model of the pass before answers wrongly.
        """
        return examples

    def check(self, task: Task) -> None:
        """Refuse a task without what this method needs.

        Raises:
            ConfigError: something is missing; the message names it.
        """
        if missing := sorted(self.needs - task.parts):
            has = listed(sorted(task.parts)) if task.parts else "none of the parts that methods may need"
            raise ConfigError(
                f"the method {self.name!r} needs {listed(missing)} of a task, and the task {task.name!r} has {has}; "
                "choose another method, or a task that has it"
            )


def _is_method(value: Any) -> bool:
    return isinstance(value, Method)


METHODS: Registry[Method] = Registry(
    "method",
    "cattune.methods",
    {
        "sft": "cattune.methods.sft:METHOD",
        "cat": "cattune.methods.cat:METHOD",
        "cat-published": "cattune.methods.cat_published:METHOD",
        "causal-only": "cattune.methods.causal_only:METHOD",
        "cda": "cattune.methods.cda:METHOD",
        "jtt": "cattune.methods.jtt:METHOD",
    },
    _is_method,
)
"""Methods by name."""
