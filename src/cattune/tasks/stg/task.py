"""The Spurious Token Game as a task: splits drawn with a seed, or a training file with tests in its wording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from os.path import expanduser
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from cattune.data.examples import Example
from cattune.errors import CattuneError
from cattune.formats.loading import load_examples
from cattune.tasks.base import PARTS, SettingError, Splits, Task
from cattune.tasks.stg.counterfactual import counterfactuals_of
from cattune.tasks.stg.generate import SPLITS, causal_tuple, make_split
from cattune.tasks.stg.parse import BUILT_IN, load_game
from cattune.tasks.stg.spec import Game
from cattune.tasks.stg.wording import causal_only, find_record, wording_from
from cattune.tasks.stg.write import draw_splits, split_sizes
from cattune.wording import shown

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]


@dataclass
class StgTask(Task):
    """A game, how much of it, and how it is linked.

    Args:
        game: name of a built-in game, or a YAML file.
        train: number of training examples; ignored with `train_file`.
        validation, test: number of examples of each validation and test split.
        links: what a cause covers, see `stg.LINKS`.
        rule: one of the game's outcome rules; its default by default.
        train_file: train on this file instead, with the other splits in its wording; every seed gets the same.

    >>> task = StgTask(train=2, validation=1, test=1)
    >>> example = task.splits(data_seed=0)["train"][0]
    >>> task.answers, example.completion
    (('High', 'Middle', 'Low'), 'Low')
    >>> [(other.metadata["changed"], other.completion) for other in task.counterfactuals(example)]
    [('Smoking', 'High'), ('Exercise', 'High')]
    """

    game: str = "cancer_risk"
    train: Count = 1600
    validation: Count = 1000
    test: Count = 4000
    links: Literal["phrases", "values"] = "phrases"
    rule: str | None = None
    train_file: str | None = None

    name = "stg"
    group_by = "spurious_before_cause"
    parts = frozenset(PARTS)
    evaluated = ("validation", "iid", "ood", "ood-permuted", "ood-unseen")

    def __post_init__(self) -> None:
        """Read the game, and the wording of the training file.

        Raises:
            SettingError: the game, the rule or the file cannot be used.
        """
        self.spec: Game = _of("game", load_game, self.game)
        if self.rule is not None:
            self.spec = _of("rule", self.spec.with_rule, self.rule)
        if self.train_file is not None:
            self.train_file = expanduser(self.train_file)
            self.spec = self.spec.with_wording(_of("train_file", wording_from, self.train_file, self.spec))
        wording = self.spec.wording.labels
        self.answers = tuple(wording.get(label, label) for label in self.spec.labels) or None
        self.scorer = "exact" if self.answers else "numeric"

    def splits(self, data_seed: int) -> Splits:
        """Every split of `stg.SPLITS`; one that cannot be drawn (`ood-unseen`) is left out."""
        sizes = split_sizes(self.train, self.validation, self.test)
        if self.train_file is None:
            return draw_splits(self.spec, sizes, data_seed, self.links)[0]
        train = load_examples(self.train_file)
        seen = {_causal_tuple(example, self.spec) for example in train}
        drawn = {
            split: make_split(self.spec, split, sizes[split], data_seed, links=self.links, seen=seen)
            for split in SPLITS
            if split != "train"
        }
        return {"train": train, **drawn}

    def files(self) -> Sequence[str]:
        """The game's file, where it is not built in, and the training file."""
        own = () if self.game in BUILT_IN else (self.game,)
        return (*own, *(() if self.train_file is None else (self.train_file,)))

    def counterfactuals(self, example: Example, data_seed: int = 0) -> Sequence[Example]:
        """See `counterfactual.counterfactuals_of`."""
        return counterfactuals_of(example, self.spec, data_seed)

    def causes_only(self, example: Example) -> Example:
        """See `wording.causal_only`."""
        return causal_only(example, self.spec)


def _causal_tuple(example: Example, game: Game) -> tuple[Decimal, ...]:
    prompt = example.prompt or ""
    found = find_record(prompt, game, f"example {shown(example.id)}")
    return causal_tuple(game, {entry.attribute.name: entry.value(prompt) for entry in found})


def _of(setting: str, read: Callable[..., T], *given: Any) -> T:
    """What is read of a setting; what is wrong with it is told as that setting's."""
    try:
        return read(*given)
    except CattuneError as error:
        raise SettingError(setting, str(error)) from error
