"""Several annotations of the same examples become one, in which each link has the confidence that it deserves.

The confidence of an edge (an effect and one of its causes) is the share of the annotators of its example who name it,
and becomes its weight in training. An annotator who does not have the example, or failed on it, has no vote. Where
people have accepted or rejected the edge, only their votes count. Edges below the threshold are refused, with the link
kept so that a reviewer can bring it back.

Why a plain share: estimating each annotator's reliability (Dawid and Skene 1979) does better where there are three or
more annotators who err independently and are not equally good, and worse where there are two or where some make the
same mistakes, as assistant models do (`docs/consensus.md` has the figures). Who knows that one annotator is better says
so with a weight.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cattune.annotation.consensus.agreement import Agreement, Tally
from cattune.annotation.consensus.ballots import Ballot, Edge, Place, ballots, check_match, side_by_side
from cattune.data.examples import METHODS, OUTVOTED, REJECTED, CausalLink, Example, RefusedLink, Span
from cattune.errors import ConfigError
from cattune.wording import listed, shown

THRESHOLD = 0.5
"""The least confidence of an edge that is kept; of two annotators, one is enough, for half the weight."""


@dataclass
class Counts:
    """What became of the annotations.

    Attributes:
        examples: in the result.
        missing: examples that each annotator does not have, or failed on; these are no votes against.
        annotations: for each number of annotators, the examples that have so many.
        kept: edges in the result, `accepted` of them by people.
        outvoted: edges below the threshold.
        rejected: edges that people turned down.
        divided: edges that one person accepted and another rejected, whichever way it went.
        confidences: edges kept, by confidence.
        metadata_differ: examples whose metadata differ between annotations; the first annotation's values are kept.
    """

    examples: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    annotations: Counter[int] = field(default_factory=Counter)
    kept: int = 0
    accepted: int = 0
    outvoted: int = 0
    rejected: int = 0
    divided: int = 0
    confidences: Counter[float] = field(default_factory=Counter)
    metadata_differ: int = 0

    def to_dict(self) -> dict[str, Any]:
        """All counts, ready for JSON."""
        result: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        result["missing"] = dict(self.missing)
        result["annotations"] = {str(n): count for n, count in sorted(self.annotations.items())}
        result["confidences"] = {f"{c:.3g}": count for c, count in sorted(self.confidences.items(), reverse=True)}
        return result


@dataclass(frozen=True, slots=True)
class Consensus:
    """The joined examples, how far the annotators agree, and what became of their edges."""

    examples: tuple[Example, ...]
    agreement: Agreement
    counts: Counts


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One edge: its confidence, who names it, and whether people had the word."""

    edge: Edge
    confidence: float
    link: CausalLink  # the proposal that was found with the least ado
    proposers: tuple[str, ...]
    accepted: bool
    rejected: bool


def join(
    annotations: Mapping[str, Sequence[Example]],
    threshold: float = THRESHOLD,
    match: str = "exact",
    weights: Mapping[str, float] | None = None,
) -> Consensus:
    """Join annotations, given by annotator, into one.

    The examples are those of the first annotation, then what only later ones have; text and metadata are the first's.
    Each link has the edges of one effect that have the same confidence and the same proposers, so that its weight is
    true of each of its causes. What annotators could not ground stays in `refused`, each entry once.

    Args:
        annotations: annotator -> examples; an example of the same id must have the same text in all of them.
        threshold: the least confidence of an edge that is kept, > 0, <= 1.
        match: one of `ballots.MATCHES`: when two spans are the same.
        weights: of the annotators' votes, > 0; 1 for those that it does not name.

    Raises:
        ConfigError: there are fewer than two annotations, or an argument is out of range.
        DataError: an annotation has an id twice, or an example is not the same text in two annotations.
    """
    votes = _check(annotations, threshold, match, weights or {})
    counts = Counts(missing=Counter(dict.fromkeys(annotations, 0)))
    tally = Tally(list(annotations))
    examples = []
    for entry in side_by_side(annotations):
        said = ballots(entry, match)
        first = next(iter(entry.values()))
        tally.add(first, {annotator: ballot.yes.keys() for annotator, ballot in said.items()})
        counts.examples += 1
        counts.annotations[len(said)] += 1
        counts.missing.update(annotator for annotator in annotations if annotator not in said)
        examples.append(_joined(entry, said, votes, threshold, counts))
    return Consensus(tuple(examples), tally.agreement(), counts)


def _check(
    annotations: Mapping[str, Sequence[Example]], threshold: float, match: str, weights: Mapping[str, float]
) -> dict[str, float]:
    """The weight of each annotator's vote."""
    check_match(match)
    if len(annotations) < 2:
        raise ConfigError(f"expected two annotations or more to join, got {len(annotations)}")
    if not 0 < threshold <= 1:
        raise ConfigError(f"expected a threshold > 0 and at most 1, got {threshold}")
    for annotator, weight in weights.items():
        if annotator not in annotations:
            raise ConfigError(f"a weight is given for {shown(annotator)}; the annotators are {listed(annotations)}")
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"expected the weight of {shown(annotator)} to be a finite number > 0, got {weight}")
    return {annotator: float(weights.get(annotator, 1.0)) for annotator in annotations}


def _joined(
    entry: Mapping[str, Example],
    said: Mapping[str, Ballot],
    votes: Mapping[str, float],
    threshold: float,
    counts: Counts,
) -> Example:
    first, *others = entry.values()
    names = list(first.fields)
    verdicts = [_verdict(edge, said, votes, counts) for edge in _edges(said)]
    kept = [verdict for verdict in verdicts if verdict.confidence >= threshold - 1e-9]  # 2/3 >= 0.6666666667
    for verdict in kept:
        counts.kept += 1
        counts.accepted += verdict.accepted
        counts.confidences[verdict.confidence] += 1
    refused = [entry for example in (first, *others) for entry in _carried(example)]
    for verdict in verdicts:
        if verdict.confidence < threshold - 1e-9:
            counts.rejected += verdict.rejected
            counts.outvoted += not verdict.rejected
            refused.append(_refusal(first, names, verdict))
    metadata = dict(first.metadata)
    counts.metadata_differ += any(
        key in metadata and metadata[key] != value for other in others for key, value in other.metadata.items()
    )
    for other in others:
        metadata = {**other.metadata, **metadata}
    return replace(first, links=_links(names, kept), refused=tuple(dict.fromkeys(refused)), metadata=metadata)


def _edges(said: Mapping[str, Ballot]) -> list[Edge]:
    """Every edge that anybody named or turned down, in reading order."""
    return sorted({edge for ballot in said.values() for edge in (*ballot.yes, *ballot.no)})


def _verdict(edge: Edge, said: Mapping[str, Ballot], votes: Mapping[str, float], counts: Counts) -> _Verdict:
    proposers = sorted(annotator for annotator, ballot in said.items() if edge in ballot.yes)
    accepted = [annotator for annotator in proposers if edge in said[annotator].accepted]
    rejected = [annotator for annotator, ballot in said.items() if edge in ballot.rejected]
    counts.divided += bool(accepted and rejected)
    people = bool(accepted or rejected)
    confidence = _share(accepted, [*accepted, *rejected], votes) if people else _share(proposers, said, votes)
    links = [said[annotator].yes[edge] for annotator in proposers]
    links = links or [said[annotator].no[edge] for annotator in sorted(said) if edge in said[annotator].no]
    best = min(links, key=lambda link: (METHODS.index(link.method), -link.score))
    return _Verdict(edge, confidence, best, tuple(proposers), bool(accepted), bool(rejected))


def _share(some: Sequence[str], everyone: Sequence[str] | Mapping[str, Ballot], votes: Mapping[str, float]) -> float:
    if len(some) == len(everyone):
        return 1.0
    # Summed in the order of the names, so that the share does not depend on the order of the annotations.
    return sum(votes[name] for name in sorted(some)) / sum(votes[name] for name in sorted(everyone))


def _links(names: Sequence[str], verdicts: Sequence[_Verdict]) -> tuple[CausalLink, ...]:
    groups: dict[tuple[Place, float, bool, tuple[str, ...]], list[_Verdict]] = {}
    for verdict in verdicts:
        key = verdict.edge[0], -verdict.confidence, verdict.accepted, verdict.proposers
        groups.setdefault(key, []).append(verdict)
    return tuple(_link(names, groups[key]) for key in sorted(groups))


def _link(names: Sequence[str], verdicts: Sequence[_Verdict]) -> CausalLink:
    """One link out of edges of one effect, one confidence and the same proposers."""
    first = verdicts[0]
    found = [verdict.link for verdict in verdicts]
    return CausalLink(
        effect=_span(names, first.edge[0]),
        causes=tuple(_span(names, verdict.edge[1]) for verdict in verdicts),
        weight=first.confidence or first.link.weight,
        source=f"consensus of {', '.join(first.proposers)}" if first.proposers else first.link.source,
        method=max((link.method for link in found), key=METHODS.index),
        score=min(link.score for link in found),
        status="accepted" if first.accepted else "proposed",
    )


def _span(names: Sequence[str], place: Place) -> Span:
    return Span(names[place[0]], place[1], place[2])


def _refusal(example: Example, names: Sequence[str], verdict: _Verdict) -> RefusedLink:
    link = replace(_link(names, [verdict]), status="proposed")
    reason = REJECTED if verdict.rejected else OUTVOTED
    return RefusedLink(example.text_of(link.effect), example.text_of(link.causes[0]), reason, link)


def _carried(example: Example) -> list[RefusedLink]:
    """What could not be grounded; rejected and outvoted links are voted on again."""
    return [entry for entry in example.refused if entry.link is None or entry.reason not in (REJECTED, OUTVOTED)]
