"""A cell's data: a game's splits drawn with the cell's seed, or a training file with test splits in its wording."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from cattune.data.examples import Example
from cattune.formats.loading import load_examples
from cattune.tasks.stg import Game, draw_splits, find_record, load_game, make_split, split_sizes, wording_from
from cattune.tasks.stg.generate import SPLITS, causal_tuple

REPORTED_SPLITS = ("iid", "ood", "ood-permuted", "ood-unseen")
"""The test splits, in the order in which they are reported."""


@dataclass(frozen=True, slots=True)
class GameData:
    """Which game, how much of it, and how it is linked.

    Args:
        game: name of a built-in game, or a YAML file.
        train: number of training examples; ignored with `train_file`.
        validation, test: number of examples of each validation and test split.
        links: what a cause covers, see `stg.LINKS`.
        train_file: train on this file instead, with the other splits in its wording; every seed gets the same.
    """

    game: str = "cancer_risk"
    train: int = 1600
    validation: int = 1000
    test: int = 4000
    links: str = "phrases"
    train_file: str | None = None


def draw(data: GameData, seed: int) -> tuple[Game, dict[str, list[Example]]]:
    """The game in its wording, and every split's examples. A split that cannot be drawn (`ood-unseen`) is left out."""
    game = load_game(data.game)
    sizes = split_sizes(data.train, data.validation, data.test)
    if data.train_file is None:
        return game, draw_splits(game, sizes, seed, data.links)[0]
    train = load_examples(data.train_file)
    game = game.with_wording(wording_from(data.train_file, game))
    seen = {_causal_tuple(example, game) for example in train}
    splits = {
        split: make_split(game, split, sizes[split], seed, links=data.links, seen=seen)
        for split in SPLITS
        if split != "train"
    }
    return game, {"train": train, **splits}


def _causal_tuple(example: Example, game: Game) -> tuple[Decimal, ...]:
    prompt = example.prompt or ""
    values = {
        found.attribute.name: Decimal(prompt[found.value_start : found.end].removesuffix(found.attribute.suffix))
        for found in find_record(prompt, game, f"example {example.id!r}")
    }
    return causal_tuple(game, values)
