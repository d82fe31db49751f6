"""What the filters need to know of every example: a few numbers each, and the text in one piece for searching.

Kept in arrays, so that a filter over 100,000 examples is a few vector operations. Memory: about 30 bytes an example,
its id, and its text.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cattune.data.examples import METHODS, OUTVOTED, REJECTED, Example
from cattune.review.edits import is_reviewed

if TYPE_CHECKING:
    import numpy as np

STATUSES = ("proposed", "accepted", "rejected", "outvoted", "refused", "none")
"""What an example may hold: links of a status, links that a person or a majority is against, phrases that could not be
used, or no link at all."""
REVIEWED = 1 << len(STATUSES)
DISAGREEMENT = REVIEWED << 1

ORDERS = ("file", "score", "weight")
"""As in the file; lowest score first; lowest weight first."""

_MOST_SOURCES = 63
OTHER_SOURCES = "(other sources)"
"""Stands for all sources after the first 63 of a file, which the bits of a number can tell apart."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which examples are wanted; within a group any of the names, between groups all of them; empty means all.

    Args:
        statuses: of `STATUSES`.
        methods: of `cattune.data.examples.METHODS`.
        sources: of `Index.sources`.
        reviewed: reviewed ones only, or those that are not, or (None) both.
        disagreement: only examples with a weight below 1, as the consensus annotator gives, or an outvoted link.
        scores: lowest and highest of an example's lowest score; an example without links has none. None: any.
        text: is in the id or in a field, upper and lower case alike.
        order: one of `ORDERS`.
    """

    statuses: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    reviewed: bool | None = None
    disagreement: bool = False
    scores: tuple[float, float] | None = None
    text: str = ""
    order: str = "file"


class Index:
    """One row for each example; rows are added once, and updated when an example is edited."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.sources: list[str] = []
        self._flags: Any = array("H")
        self._methods: Any = array("B")
        self._sources: Any = array("Q")
        self._scores: Any = array("f")
        self._weights: Any = array("f")
        self._text = bytearray()
        self._ends = array("q")

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, example: Example) -> None:
        """Add the next example; none after `seal`."""
        self.ids[example.id] = len(self.ids)
        columns = (self._flags, self._methods, self._sources, self._scores, self._weights)
        for column, value in zip(columns, self._row(example), strict=True):
            column.append(value)
        self._text += "\0".join((example.id, *example.fields.values(), "")).casefold().encode()
        self._ends.append(len(self._text))

    def seal(self) -> None:
        """Make vectors of the columns."""
        import numpy as np

        for name in ("_flags", "_methods", "_sources", "_scores", "_weights"):
            setattr(self, name, np.array(getattr(self, name)))

    def update(self, index: int, example: Example) -> None:
        """Note what an edit has made of an example; its id and text stay."""
        columns = (self._flags, self._methods, self._sources, self._scores, self._weights)
        for column, value in zip(columns, self._row(example), strict=True):
            column[index] = value

    @property
    def reviewed(self) -> int:
        """How many examples are reviewed."""
        return int(((self._flags & REVIEWED) != 0).sum())

    def select(self, wanted: Filter) -> tuple[np.ndarray, dict[str, dict[str, int]]]:
        """The examples that a filter lets through, in its order, and how many there are of each kind.

        A group's counts are those with every *other* group's choice in force: what a click in the group would give.
        """
        import numpy as np

        groups = self._groups(wanted)
        everything = np.ones(len(self), dtype=bool)
        for mask in groups.values():
            everything &= mask

        def without(group: str) -> np.ndarray:
            left = np.ones(len(self), dtype=bool)
            for name, mask in groups.items():
                if name != group:
                    left &= mask
            return left

        counts = {
            "statuses": _count(self._flags[without("statuses")], STATUSES),
            "methods": _count(self._methods[without("methods")], METHODS),
            "sources": _count(self._sources[without("sources")], self.sources),
            "reviewed": _count(self._flags[without("reviewed")] // REVIEWED, ("reviewed",)),
            "disagreement": _count(self._flags[without("disagreement")] // DISAGREEMENT, ("disagreement",)),
        }
        counts["reviewed"]["unreviewed"] = int(without("reviewed").sum()) - counts["reviewed"]["reviewed"]
        found = np.flatnonzero(everything)
        if wanted.order != "file":
            key = self._scores if wanted.order == "score" else self._weights
            found = found[np.argsort(key[found], kind="stable")]  # NaN, an example without links, comes last
        return found, counts

    def next_unreviewed(self, wanted: Filter, after: int) -> int | None:
        """The first example past this one, in the filter's order and from its start again, that is not reviewed."""
        import numpy as np

        found, _ = self.select(wanted)
        at = np.flatnonzero(found == after)
        turned = np.roll(found, -int(at[0]) - 1) if at.size else found
        left = turned[(self._flags[turned] & REVIEWED) == 0]
        return int(left[0]) if left.size and int(left[0]) != after else None

    def _groups(self, wanted: Filter) -> dict[str, np.ndarray]:
        """For each group that has a choice, which examples it lets through."""
        groups: dict[str, np.ndarray] = {}
        choices = (
            ("statuses", self._flags, wanted.statuses, STATUSES),
            ("methods", self._methods, wanted.methods, METHODS),
            ("sources", self._sources, wanted.sources, self.sources),
        )
        for name, column, chosen, known in choices:
            if chosen:
                bits = sum(1 << known.index(choice) for choice in set(chosen) if choice in known)
                groups[name] = (column & column.dtype.type(bits)) != 0
        if wanted.reviewed is not None:
            groups["reviewed"] = ((self._flags & REVIEWED) != 0) == wanted.reviewed
        if wanted.disagreement:
            groups["disagreement"] = (self._flags & DISAGREEMENT) != 0
        if wanted.scores is not None:
            low, high = wanted.scores
            slack = 1e-6  # scores are kept in single precision
            groups["scores"] = (self._scores >= low - slack) & (self._scores <= high + slack)
        if wanted.text:
            groups["text"] = self._matching(wanted.text)
        return groups

    def _matching(self, text: str) -> np.ndarray:
        import numpy as np

        found = np.zeros(len(self), dtype=bool)
        # A reader's half of a surrogate pair is in no text; NUL parts the fields here, and is asked for by nobody.
        needle = text.casefold().encode(errors="replace")
        place = self._text.find(needle)
        while place >= 0:
            index = bisect_right(self._ends, place)
            found[index] = True
            place = self._text.find(needle, self._ends[index])
        return found

    def _row(self, example: Example) -> tuple[int, int, int, float, float]:
        flags = methods = sources = 0
        for link in example.links:
            flags |= 1 << STATUSES.index(link.status)
            methods |= 1 << METHODS.index(link.method)
            sources |= 1 << self._source(link.source)
            if link.weight < 1:
                flags |= DISAGREEMENT
        for refusal in example.refused:
            if refusal.link is None or refusal.reason not in (REJECTED, OUTVOTED):
                flags |= 1 << STATUSES.index("refused")
            elif refusal.reason == REJECTED:
                flags |= 1 << STATUSES.index("rejected")
            else:
                flags |= 1 << STATUSES.index("outvoted") | DISAGREEMENT
        if not example.links:
            flags |= 1 << STATUSES.index("none")
        if is_reviewed(example):
            flags |= REVIEWED
        score = min((link.score for link in example.links), default=float("nan"))
        weight = min((link.weight for link in example.links), default=float("nan"))
        return flags, methods, sources, score, min(weight, 1e30)

    def _source(self, source: str) -> int:
        if source not in self.sources:
            if len(self.sources) >= _MOST_SOURCES:
                source = OTHER_SOURCES
            if source not in self.sources:
                self.sources.append(source)
        return self.sources.index(source)


def _count(column: np.ndarray, names: Sequence[str]) -> dict[str, int]:
    """How many rows have each name's bit."""
    bit = column.dtype.type
    return {name: int((column & bit(1 << place) != 0).sum()) for place, name in enumerate(names)}
