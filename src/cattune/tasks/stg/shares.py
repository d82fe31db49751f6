"""How often each class of a game occurs: a class that hardly ever does cannot be learned, and is told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from math import prod

from cattune.tasks.stg.generate import draw_causes
from cattune.tasks.stg.spec import Game, Integers

RARE = 0.01
"""A class with a smaller share is told: of 1600 training examples it has 16."""

MOST_TUPLES = 20_000
"""So many tuples of causal values are counted one by one; of a game with more, or with reals, as many are drawn."""


@dataclass(frozen=True, slots=True)
class ClassShares:
    """The share of each class among all causal values, by its label as it is worded.

    Args:
        shares: from 0 to 1, in the order of the rule's classes.
        exact: whether every tuple was counted; else `MOST_TUPLES` were drawn.
    """

    shares: dict[str, float]
    exact: bool

    def notes(self) -> list[str]:
        """A sentence on each class whose share is below `RARE`."""
        return [self._note(label, share) for label, share in self.shares.items() if share < RARE]

    def _note(self, label: str, share: float) -> str:
        if share:
            return f"class {label!r} is rare: {share:.2%} of {'all' if self.exact else 'drawn'} causal values"
        if self.exact:
            return f"class {label!r} cannot occur: no causal values lead to it; change its bounds or the coefficients"
        return f"class {label!r} did not occur in {MOST_TUPLES:,} draws; change its bounds or the coefficients"


def class_shares(game: Game) -> ClassShares:
    """The share of each class of the rule in force; empty for a numeric answer."""
    labels = [game.wording.labels.get(label, label) for label in game.labels]
    if not labels:
        return ClassShares({}, True)
    every = _every_tuple(game)
    draws = range(MOST_TUPLES)
    rng = random.Random(f"{game.name}/{game.version}/shares")
    found = Counter(game.label(values) for values in every or (draw_causes(game, rng) for _ in draws))
    return ClassShares({label: found[label] / found.total() for label in labels}, every is not None)


def _every_tuple(game: Game) -> Iterator[dict[str, Decimal]] | None:
    """All tuples of causal values, each as likely as another; None where they are too many or not whole numbers."""
    drawn = {a.name: a.drawn for a in game.attributes if a.role == "cause"}
    ranges = [range(d.low, d.high + 1) for d in drawn.values() if isinstance(d, Integers)]
    if len(ranges) < len(drawn) or prod(map(len, ranges)) > MOST_TUPLES:
        return None
    return (dict(zip(drawn, map(Decimal, values), strict=True)) for values in product(*ranges))
