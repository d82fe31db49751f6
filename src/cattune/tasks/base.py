"""What a task is: data with what is needed to train, score and question a model on it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from cattune.data.examples import Example
from cattune.errors import ConfigError
from cattune.registry import Registry

PARTS = ("links", "groups", "counterfactuals", "causes_only")
"""What a method may need of a task beside its splits."""

Splits = Mapping[str, Sequence[Example]]
"""Examples by the split's name: `train`, then the splits to evaluate on, in the order in which they are reported."""

Scorer = Literal["exact", "numeric", "choice"]
"""What the accuracy of a split means: the share of greedy answers that equal the target, the share that state its
number, or, where the answers are a closed set, the share whose most likely answer is the target."""


class SettingError(ConfigError):
    """What is wrong with one setting of a task, found by its class; `load_task` says where the setting stands.

    Args:
        setting: its name.
        problem: what is wrong, and what to do.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting, self.problem = setting, problem

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.setting, self.problem)  # it travels between processes


class Task(ABC):
    """Data, and what is known about it. A task is one file; what it does not know it leaves as it is here.

    A task with settings is a dataclass: its fields are the settings that a configuration may give, each checked by its
    type before `__post_init__` runs. There a task says what it knows, such as `self.answers = (...)`, and raises a
    `SettingError` for what no type can tell.

    Attributes:
        name: as it stands in results.
        answers: all answers there are, where they are a closed set; their likelihood is then reported too.
        group_by: the metadata key whose values divide a split's scores into groups.
        parts: which of `PARTS` it has.
        scorer: what its accuracy means; "choice" needs `answers`.
        evaluated: the splits that a run is scored on; None is all but `train`.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Sums(Task):
    ...     name = "sums"
    ...     scorer = "numeric"
    ...     most: int = 9
    ...     def splits(self, data_seed):
    ...         pairs = [(a, b) for a in range(self.most) for b in range(self.most)]
    ...         sums = [Example(f"{a}+{b}", prompt=f"{a} + {b} =", completion=f" {a + b}") for a, b in pairs]
    ...         return {"train": sums[data_seed % 2 :: 2], "test": sums[1 - data_seed % 2 :: 2]}
    >>> task = Sums(most=3)
    >>> task.settings(), [example.prompt for example in task.splits(0)["test"]]
    ({'most': 3}, ['0 + 1 =', '1 + 0 =', '1 + 2 =', '2 + 1 ='])
    """

    name: ClassVar[str]
    answers: tuple[str, ...] | None = None
    group_by: str | None = None
    parts: frozenset[str] = frozenset()
    scorer: Scorer = "exact"
    evaluated: tuple[str, ...] | None = None

    @abstractmethod
    def splits(self, data_seed: int) -> Splits:
        """Every split's examples, prompts and links included; what is drawn is drawn with `data_seed`.

        Raises:
            DataError, ConfigError: a file or a setting of the task is wrong.
        """

    def settings(self) -> Mapping[str, Any]:
        """What it was made with, as JSON holds it: part of a run's identity."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self) if field.init}

    def files(self) -> Sequence[str]:
        """The local files that its splits are read from: their hashes are part of a run's identity."""
        return ()

    def counterfactuals(self, example: Example, data_seed: int = 0) -> Sequence[Example]:
        """The example with another cause, and therefore another answer; only with the part `counterfactuals`.

        Nothing where no other value of a single cause leads to another answer.

        Raises:
            ConfigError: the task knows none.
        """
        raise ConfigError(
            f"the task {self.name!r} knows no counterfactuals; a method that asks for them names them in `needs`"
        )

    def causes_only(self, example: Example) -> Example:
        """The example cut to its causes; only with the part `causes_only`.

        Raises:
            ConfigError: the task cannot do that.
        """
        raise ConfigError(f"the task {self.name!r} cannot cut an example to its causes; see `needs` of the method")


def _plain(value: Any) -> Any:
    """A setting as JSON gives it back."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _is_task(value: Any) -> bool:
    return isinstance(value, Task) or (isinstance(value, type) and issubclass(value, Task))


TASKS: Registry[type[Task]] = Registry(
    "task",
    "cattune.tasks",
    {"stg": "cattune.tasks.stg.task:StgTask", "files": "cattune.tasks.files:FilesTask"},
    _is_task,
)
"""Tasks by name. Each is a class that is called with its settings; `tasks.load.load_task` checks and calls it."""
