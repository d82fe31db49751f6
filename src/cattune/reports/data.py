"""What a report shows: plain numbers and texts, given by whoever computed them.

Every class is frozen, checks itself, and goes to JSON and back (`to_dict`, `ReportData.from_dict`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cattune.errors import DataError
from cattune.reports.from_json import build

KINDS = ("", "cause", "spurious")
"""What a token of a heat-strip is: neither, part of a cause, part of a spurious attribute."""


@dataclass(frozen=True, slots=True)
class Score:
    """An arm's accuracy on a split.

    Args:
        mean: from 0 to 1; the mean over seeds.
        spread: what `ReportData.spread_label` says; None where there is none to give.
        n: number of examples of the split.
        seeds: the accuracy of each seed, in the order of the seeds.
        low, high: the 95% interval of one seed's accuracy; None where there are several seeds.
    """

    mean: float
    n: int
    spread: float | None = None
    seeds: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for value in (self.mean, *self.seeds):
            if not 0 <= value <= 1:
                raise DataError(f"an accuracy must be from 0 to 1, got {value}")
        if self.spread is not None and not 0 <= self.spread < math.inf:
            raise DataError(f"a spread must be a finite number >= 0, got {self.spread}")
        if (self.low is None) != (self.high is None):
            raise DataError(f"an interval has both ends or none, got {self.low} and {self.high}")
        if self.low is not None and self.high is not None and not 0 <= self.low <= self.high <= 1:
            raise DataError(f"an interval must lie from 0 to 1, got {self.low} to {self.high}")


@dataclass(frozen=True, slots=True)
class Split:
    """A column of the results table; `description` says in a few words what sets it apart."""

    name: str
    label: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Arm:
    """A row of the results table: a way of training, and its score on each split that it was evaluated on."""

    name: str
    label: str
    scores: Mapping[str, Score]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """A panel of curves; `log` gives it a logarithmic axis, which shows values above zero only."""

    name: str
    label: str
    description: str = ""
    log: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """One metric of one arm over training: (step, value) in the order of the steps; a value of None leaves a gap.

    Several curves of one arm and metric, one for each seed, are drawn in one colour.
    """

    arm: str
    metric: str
    points: tuple[tuple[float, float | None], ...]


@dataclass(frozen=True, slots=True)
class StripRow:
    """What one arm did with one example.

    Args:
        arm: the arm's name.
        prediction: the text that it wrote.
        correct: whether that is the target.
        attention: for each token of the strip the attention that the answer's row pays to it, from 0 to 1.
        causal_mass: the attention to all causal tokens together, if it is to be told.
        spurious_mass: the attention to all spurious tokens together, if it is to be told.
    """

    arm: str
    prediction: str
    correct: bool
    attention: tuple[float, ...]
    causal_mass: float | None = None
    spurious_mass: float | None = None


@dataclass(frozen=True, slots=True)
class Strip:
    """One example as a heat-strip: its tokens, the `KINDS` they are of, and a row for each arm."""

    example_id: str
    split: str
    target: str
    tokens: tuple[str, ...]
    kinds: tuple[str, ...]
    rows: tuple[StripRow, ...]

    def __post_init__(self) -> None:
        where = f"the heat-strip of example {self.example_id!r}"
        if len(self.kinds) != len(self.tokens):
            raise DataError(f"{where} has {len(self.tokens)} tokens and {len(self.kinds)} kinds; expected as many")
        if unknown := set(self.kinds) - set(KINDS):
            raise DataError(f"{where} has tokens of kind {sorted(unknown)}; expected one of {KINDS}")
        for row in self.rows:
            if len(row.attention) != len(self.tokens):
                raise DataError(
                    f"{where} has {len(self.tokens)} tokens, and {len(row.attention)} attentions of {row.arm!r}"
                )
            if not all(0 <= value < math.inf for value in row.attention):
                raise DataError(f"{where} has attentions of {row.arm!r} that are not finite numbers >= 0")


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a report shows.

    Args:
        title: of the page.
        finding: the result in one sentence; `reports.finding.finding` writes one.
        splits: the columns of the table.
        arms: its rows; the first is the baseline.
        majority: for each split the share of its most frequent answer: the table's last row.
        intro: paragraphs that say what was done.
        notes: sentences below the table: what must be said beside its numbers.
        spread_label: what the numbers behind ± are, e.g. "standard deviation over 3 seeds".
        metrics: the panels of curves.
        curves: the curves in them.
        strips: the heat-strips.
        no_strips: why there are none, where there are none.
        provenance: what made the results: versions, seeds, configuration.
    """

    title: str
    finding: str
    splits: tuple[Split, ...]
    arms: tuple[Arm, ...]
    majority: Mapping[str, float]
    intro: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    spread_label: str = "standard error"
    metrics: tuple[Metric, ...] = ()
    curves: tuple[Curve, ...] = ()
    strips: tuple[Strip, ...] = ()
    no_strips: str = "None were recorded."
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        splits, arms = [split.name for split in self.splits], [arm.name for arm in self.arms]
        if not splits or not arms:
            raise DataError(f"a report needs a split and an arm at least, got {len(splits)} and {len(arms)}")
        _unique("split", splits)
        _unique("arm", arms)
        if missing := [name for name in splits if name not in self.majority]:
            raise DataError(f"the report has no majority share for {missing}; the majority row is always shown")
        for arm in self.arms:
            _known(f"arm {arm.name!r}", "split", arm.scores, splits)
        for curve in self.curves:
            _known("a curve", "arm", [curve.arm], arms)
            _known("a curve", "metric", [curve.metric], [metric.name for metric in self.metrics])
        for strip in self.strips:
            _known(f"the heat-strip of example {strip.example_id!r}", "arm", [row.arm for row in strip.rows], arms)

    def to_dict(self) -> dict[str, Any]:
        """The data as JSON-ready types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ReportData:
        """The data from what `to_dict` gave, through JSON or not.

        Raises:
            DataError: a key is missing or unknown, or a value is not what its field holds.
        """
        return build(cls, record, "report")


def _unique(what: str, names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"the report names the {what} {repeated[0]!r} twice; give each {what} a name of its own")


def _known(where: str, what: str, names: Iterable[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise DataError(f"{where} names the {what} {name!r}; the report has {', '.join(known) or 'none'}")
