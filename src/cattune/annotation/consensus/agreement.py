"""How far annotators agree: F1 over edges and over whole links for each pair, Krippendorff's alpha over all of them.

The units of alpha are the candidate edges of an example, and an annotator says yes or no to each: from every span that
any annotator names as an effect to every other that any names, and to every word that lies in none of these, where
they come before it. Edges that somebody proposes would not do alone: they have no unanimous no, and alpha, which
corrects for what chance would give, would call good annotators worse than chance. The words that nobody marks are for
edges what the gaps between units are for Krippendorff's alpha of unitizing. How finely they are cut matters little:
with more and more unanimous noes alpha nears the F1 of edges (Hripcsak and Rothschild 2005). A distance between the
sets of causes of an effect, such as MASI, would bring no correction for chance: sets of different examples have no
element in common, so that the distance that chance would give is always 1.

An annotator who does not have an example, or failed on it, has said nothing about it; that is no vote against.
Intervals are percentile intervals at 95% of RESAMPLES bootstrap samples of the examples.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cattune.annotation.consensus.ballots import Edge, Place, ballots, check_match, side_by_side, unnamed_words
from cattune.data.examples import Example

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its 95% interval; None where it is not defined, as F1 is where nobody proposes anything."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Two annotators on the examples that both have.

    Args:
        first: the one annotator, and `second` the other.
        examples: that both have.
        edges: how many edges both name, the first names, the second names.
        links: the same for whole links: an effect with all of its causes.
        edge_f1: F1 over edges, summed over examples; symmetric.
        link_f1: F1 over whole links.
    """

    first: str
    second: str
    examples: int
    edges: tuple[int, int, int]
    links: tuple[int, int, int]
    edge_f1: Figure
    link_f1: Figure


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of annotators.

    Args:
        annotators: their names.
        examples: that at least two of them have.
        units: candidate edges of these.
        alpha: Krippendorff's, nominal; 1 where nobody disagrees, None where nothing can be compared.
        pairs: each two annotators.
    """

    annotators: tuple[str, ...]
    examples: int
    units: int
    alpha: Figure
    pairs: tuple[PairAgreement, ...]

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)


def agreement(annotations: Mapping[str, Iterable[Example]], match: str = "exact") -> Agreement:
    """Compare annotations of the same examples, given by annotator.

    Raises:
        ConfigError: `match` is none of `ballots.MATCHES`.
        DataError: as `ballots.side_by_side`.
    """
    check_match(match)
    tally = Tally(list(annotations))
    for entry in side_by_side(annotations):
        tally.add_entry(entry, match)
    return tally.agreement()


class Tally:
    """Adds up what the figures are made of, example by example."""

    def __init__(self, annotators: Sequence[str]) -> None:
        self._annotators = tuple(annotators)
        self._pairs = list(combinations(annotators, 2))
        self._rows: Counter[tuple[float, ...]] = Counter()
        self._examples = {pair: 0 for pair in self._pairs}
        self._units = 0

    def add_entry(self, entry: Mapping[str, Example], match: str) -> None:
        """The annotations of one example, by annotator, see `ballots.side_by_side`."""
        votes = {annotator: ballot.yes.keys() for annotator, ballot in ballots(entry, match).items()}
        self.add(next(iter(entry.values())), votes)

    def add(self, example: Example, votes: Mapping[str, Iterable[Edge]]) -> None:
        """The edges that each annotator of an example names; annotators that do not have it are left out."""
        if len(votes) < 2:
            return
        edges = {annotator: frozenset(named) for annotator, named in votes.items()}
        links = {annotator: _links(named) for annotator, named in edges.items()}
        units, row = _coincidences(list(edges.values()), list(example.fields.values()))
        self._units += units
        for first, second in self._pairs:
            if first in votes and second in votes:
                self._examples[first, second] += 1
                for kind in (edges, links):
                    row += [len(kind[first] & kind[second]), len(kind[first]), len(kind[second])]
            else:
                row += [0] * 6
        self._rows[tuple(row)] += 1

    def agreement(self) -> Agreement:
        """The figures on all that was added."""
        total, draws = resampled(self._rows, 3 + 6 * len(self._pairs))
        pairs = []
        for index, pair in enumerate(self._pairs):
            at = 3 + 6 * index
            edges, links = (slice(start, start + 3) for start in (at, at + 3))
            pairs.append(
                PairAgreement(
                    *pair,
                    examples=self._examples[pair],
                    edges=_three(total[edges]),
                    links=_three(total[links]),
                    edge_f1=figure(f1(total[edges]), f1(draws[:, edges])),
                    link_f1=figure(f1(total[links]), f1(draws[:, links])),
                )
            )
        alpha = figure(_alpha(total[:3]), _alpha(draws[:, :3]))
        return Agreement(self._annotators, self._rows.total(), self._units, alpha, tuple(pairs))


def resampled(rows: Counter[tuple[float, ...]], width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums of the rows that examples gave, (width), and of RESAMPLES bootstrap samples of the examples.

    Examples with equal rows are interchangeable: a sample of examples is a multinomial draw over distinct rows. These
    are in the order of the examples: sorted, the draws would change with the order of the annotators.
    """
    distinct, counts = np.reshape(list(rows), (-1, width)), np.array(list(rows.values()), dtype=np.int64)
    n = int(counts.sum())
    random = np.random.default_rng(0)
    draws = np.zeros((RESAMPLES, width))
    for sample in draws if n else ():
        sample[:] = random.multinomial(n, counts / n) @ distinct
    return counts @ distinct, draws


def _links(edges: Iterable[Edge]) -> frozenset[tuple[Place, frozenset[Place]]]:
    causes: dict[Place, set[Place]] = {}
    for effect, cause in edges:
        causes.setdefault(effect, set()).add(cause)
    return frozenset((effect, frozenset(named)) for effect, named in causes.items())


def _coincidences(votes: Sequence[frozenset[Edge]], texts: Sequence[str]) -> tuple[int, list[float]]:
    """The number of candidate edges, and what alpha is made of: disagreement, and values that are no and yes."""
    m = len(votes)
    proposed = frozenset().union(*votes)
    effects = {effect for effect, _ in proposed}
    named = effects | {cause for _, cause in proposed}
    starts = sorted([place[:2] for place in named] + unnamed_words(texts, named))
    # Every effect is among the places that start before it ends, and is no cause of itself.
    units = sum(bisect_left(starts, (effect[0], effect[2])) - 1 for effect in effects)
    units += sum(effect == cause for effect, cause in proposed)
    yes = [sum(edge in named for named in votes) for edge in proposed]
    return units, [sum(k * (m - k) for k in yes) / (m - 1), m * units - sum(yes), sum(yes)]


def _alpha(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Krippendorff's alpha for two values, of (..., 3) sums: disagreeing pairs per (m - 1), noes, yeses.

    1 - D_observed / D_expected, where the coincidences of no with yes are 2 * disagreement, out of n values, and
    chance would give 2 * noes * yeses / (n - 1).
    """
    disagreement, no, yes = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha = 1 - (no + yes - 1) * disagreement / (no * yes)
    return np.where(disagreement > 0, alpha, np.where(no + yes > 0, 1.0, np.nan))


def f1(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of (..., 3) counts: of both, of the first, of the second."""
    both, first, second = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(2 * both / (first + second))


def figure(value: NDArray[np.float64], samples: NDArray[np.float64]) -> Figure:
    """A figure with the percentile interval of its bootstrap samples."""
    if np.isnan(value):
        return Figure(None)
    low, high = np.quantile(samples[~np.isnan(samples)], (0.025, 0.975))
    return Figure(float(value), float(low), float(high))


def _three(counts: NDArray[np.float64]) -> tuple[int, int, int]:
    both, first, second = (int(count) for count in counts)
    return both, first, second
