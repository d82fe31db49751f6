"""A training file and files to evaluate on, as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import expanduser
from typing import Literal

from cattune.formats.loading import load_examples
from cattune.tasks.base import Scorer, SettingError, Splits, Task


@dataclass
class FilesTask(Task):
    """Files of examples; every data seed gets the same.

    Args:
        train_file: training examples, in this library's JSONL, in prompt-completion form or in the published format.
        eval_files: name of a split -> its file.
        occurrences: how a phrase that occurs several times is resolved, see `grounding`.
        answers: all answers that there are, where they are a closed set.
        group_by: the metadata key whose values divide a split's scores into groups.
        scorer: what accuracy means, see `tasks.base.Scorer`.
    """

    train_file: str
    eval_files: Mapping[str, str] = field(default_factory=dict)
    occurrences: Literal["context", "nearest", "all", "first", "error"] = "context"
    answers: tuple[str, ...] | None = None
    group_by: str | None = None
    scorer: Scorer = "exact"

    name = "files"

    def __post_init__(self) -> None:
        """Make the paths whole.

        Raises:
            SettingError: a split has the name of the training data, or the answers are not a closed set to choose from.
        """
        self.train_file = expanduser(self.train_file)  # no shell read it
        self.eval_files = {name: expanduser(path) for name, path in self.eval_files.items()}
        if "train" in self.eval_files:
            raise SettingError("eval_files", "a split cannot be called train, which is the training file; rename it")
        if self.scorer == "choice" and not self.answers:
            raise SettingError("scorer", "choice is the likelihood of each answer; give all of them as answers")
        self.parts = frozenset({"links"} | ({"groups"} if self.group_by is not None else set()))

    def splits(self, data_seed: int) -> Splits:
        """Every file's examples."""
        named = {"train": self.train_file, **self.eval_files}
        return {name: load_examples(path, self.occurrences) for name, path in named.items()}

    def files(self) -> Sequence[str]:
        """The training file, then the others."""
        return (self.train_file, *self.eval_files.values())
