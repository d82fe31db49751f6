"""Which occurrences of its phrases a link means, judged by how they stand together.

The phrases of one thought stand close together. So every choice has a cost, in characters, and the cheapest is taken:

- Two places are as far apart as the characters between them, plus `SENTENCE` for each sentence end among these.
- A cause costs its distance to the effect or, if that is less, to the cause listed before or after it: causes are
  listed in reading order, and those of an answer stand by each other and far from it. `BACK` is added to a distance
  against that order, and to each cause `FAR` times its distance to the effect, for places that the list leaves equal.
- A cause that is part of the effect, or around it, costs `NESTED` more: it is the effect's own words. One that stands
  nowhere before the effect costs `LATE` more; it will be refused, but it still tells where the effect is.
- Links run through the text in order: an effect before that of the link before it, or after that of the link after it,
  costs `ORDER`.

The effect is the place where its causes, and its distance to the nearest of them, cost least in sum, the first of equal
ones; one that no cause precedes only if there is no other. The mentions of a phrase that a link names several times
take different places.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cattune.grounding.search import Place

SENTENCE = 40.0
BACK = 40.0
FAR = 0.05
NESTED = 1000.0
LATE = 100.0
ORDER = 100.0

MAX_EFFECTS = 24
"""Of an effect that occurs more often, the places beside its rarest cause are compared, and no others."""
MAX_MENTIONS = 16
"""Of a phrase that a link names more often, only so many mentions are sure to take different places."""

_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|[\u3002\uff01\uff1f\u061f\u06d4\u0964]|\n")


class _Around(NamedTuple):
    """What a cause is judged by: the places of the effect and of the causes listed before and after, if known."""

    effect: Place
    previous: Place | None
    following: Place | None


class Context:
    """Chooses among the occurrences in one text.

    Args:
        joined: the fields of the example, joined.
        breaks: where the second field and those after it start; a sentence ends there too.
    """

    def __init__(self, joined: str, breaks: Sequence[int]) -> None:
        self._sentence_ends = sorted({match.start() for match in _SENTENCE_END.finditer(joined)}.union(breaks))

    def choose(
        self,
        effects: Sequence[Place],
        causes: Sequence[Sequence[Place]],
        before: Place | None = None,
        after: Place | None = None,
    ) -> tuple[Place, list[Place]]:
        """The effect's place, and one for each cause as it is listed: before the effect if the cause has such a one.

        Args:
            effects: the occurrences of the effect, in reading order, at least one.
            causes: for each mention of a cause its occurrences, in reading order, at least one; for mentions of the
                same phrase the same object.
            before: where the effect of the link before this one is, if that is known.
            after: the same of the link after it.
        """
        if len(effects) == 1:
            return effects[0], self._causes_of(effects[0], causes)
        best: tuple[bool, float, Place, list[Place]] | None = None
        for effect in _candidates(effects, causes):
            places = self._causes_of(effect, causes)
            cost = sum(self._cost(place, _around(effect, places, i)) for i, place in enumerate(places))
            cost += min(self._distance(place, effect) for place in places)
            cost += ORDER * ((before is not None and effect < before) + (after is not None and effect > after))
            is_useless = all(place[0] >= effect[1] or place == effect for place in places)
            if best is None or (is_useless, cost) < best[:2]:
                best = is_useless, cost, effect, places
        assert best is not None
        return best[2:]

    def _causes_of(self, effect: Place, causes: Sequence[Sequence[Place]]) -> list[Place]:
        """A place for each cause, given the effect's: those that have only one first, then the others as listed."""
        chosen: list[Place | None] = [found[0] if len(found) == 1 else None for found in causes]
        taken = {place for place in chosen if place is not None}
        mentions = Counter(map(id, causes))
        for index, found in enumerate(causes):
            if len(found) > 1:
                around = _around(effect, chosen, index)
                near = _near(found, around, min(mentions[id(found)], MAX_MENTIONS))
                cheapest = min((self._cost(place, around), place) for place in near - taken or near)[1]
                chosen[index] = cheapest
                taken.add(cheapest)
        return [place for place in chosen if place is not None]

    def _cost(self, cause: Place, around: _Around) -> float:
        effect, previous, following = around
        far = self._distance(cause, effect)
        cost = far
        if previous is not None:
            cost = min(cost, self._distance(previous, cause) + BACK * (cause[0] <= previous[0]))
        if following is not None:
            cost = min(cost, self._distance(cause, following) + BACK * (following[0] <= cause[0]))
        cost += FAR * far
        if cause[0] >= effect[1]:
            return cost + LATE
        is_nested = (cause[0] - effect[0]) * (cause[1] - effect[1]) <= 0
        return cost + NESTED if is_nested else cost

    def _distance(self, one: Place, other: Place) -> float:
        first, second = (one, other) if one < other else (other, one)
        gap = second[0] - first[1]
        if gap <= 0:
            return 0.0
        ends = self._sentence_ends
        return gap + SENTENCE * (bisect_left(ends, second[0]) - bisect_left(ends, first[1]))


def _around(effect: Place, places: Sequence[Place | None], index: int) -> _Around:
    previous = places[index - 1] if index else None
    return _Around(effect, previous, places[index + 1] if index + 1 < len(places) else None)


def _candidates(effects: Sequence[Place], causes: Sequence[Sequence[Place]]) -> Sequence[Place]:
    if len(effects) <= MAX_EFFECTS:
        return effects
    near = {effects[-1]}  # the place that the most causes precede
    for place in min(causes, key=len)[: MAX_EFFECTS // 2]:
        at = bisect_left(effects, place)
        near.update(effects[max(0, at - 1) : at + 2])
    return sorted(near)


def _near(found: Sequence[Place], around: _Around, mentions: int) -> set[Place]:
    """The occurrences next to the effect and to the neighbours in the list.

    None that is after the effect, or is the effect itself, if there are others. As many on each side as there are
    mentions, and one more before, since the nearest may be a part of its neighbour.
    """
    end = bisect_left(found, (around.effect[1], 0)) or len(found)
    near: set[Place] = set()
    for place in around:
        if place is not None:
            at = min(end, bisect_left(found, place))
            near.update(found[max(0, at - 1 - mentions) : min(end, at + mentions)])
    return near - {around.effect} or near
