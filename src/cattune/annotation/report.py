"""What an annotated file holds: coverage, grounding, refusals, order, lengths, status, and agreement with a reference.

Everything is counted in one pass over the examples, and none of them is kept. Distances and lengths are in characters
of the fields joined in reading order, without what a chat template puts between them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from cattune.annotation.consensus.agreement import Agreement, Tally
from cattune.annotation.consensus.ballots import check_match, side_by_side
from cattune.annotation.consensus.trivial import Comparison, TrivialTally
from cattune.data.examples import METHODS, STATUSES, CausalLink, Example, Span

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
MOST_VALUES, DIGITS = 10_000, 4
FILE, REFERENCE = "this file", "reference"

_PROMPT, _COMPLETION = "prompt", "completion"


class Distribution(Counter[float]):
    """Values with their counts, and what a reader wants to know of them.

    Whole numbers are kept as they are: there are no more of them than a text has characters. Of other numbers there may
    be as many as there are links; where there are more than MOST_VALUES different ones, they are kept to DIGITS digits.
    """

    is_rounded = False

    def count(self, value: float) -> None:
        """Count a value once more."""
        self[self._kept(value)] += 1
        if not self.is_rounded and len(self) > MOST_VALUES:
            self.is_rounded = True
            exact = dict(self)
            self.clear()
            for number, times in exact.items():
                self[self._kept(number)] += times

    def _kept(self, value: float) -> float:
        return float(f"{value:.{DIGITS}g}") if self.is_rounded and isinstance(value, float) else value

    def summary(self) -> dict[str, Any] | None:
        """n, mean and the QUANTILES (the least value with so large a share at or below it); None if there are none."""
        n = self.total()
        if not n:
            return None
        values = sorted(self)
        reached = list(accumulate(self[value] for value in values))
        quantiles = {
            f"{q:g}": next(v for v, up_to in zip(values, reached, strict=True) if up_to >= q * n) for q in QUANTILES
        }
        return {"n": n, "mean": sum(value * count for value, count in self.items()) / n, "quantiles": quantiles}


@dataclass
class AnnotationReport:
    """Counts over the examples of one file.

    Attributes:
        examples: seen; `with_links` have a link, `with_answer_links` one whose effect lies in the completion.
        without_links: have none: `failed` of them have refused links instead, the others nothing at all.
        links: in all examples, and `causes` of these links.
        links_per_example: over all examples.
        causes_per_link: over all links.
        methods: links by how their phrases were found, and `scores` of those that were not found verbatim.
        statuses: links by status; `sources` by source; `weights` of all links.
        refused_links: links that are refused as a whole, by reason; `refused_causes` single causes of links.
        recoverable: refused links, or causes, that have their link still, so that a reviewer can bring them back.
        order: causes by where they and their effect lie ("prompt -> completion").
        overlapping: causes that end after their effect starts.
        ambiguous: effects and causes whose text stands elsewhere in the example, too, out of `spans`.
        distances: characters from the end of a cause to the start of its effect; 0 where they overlap.
        effect_lengths: characters of the effects, and `cause_lengths` of the causes.
        agreement: with the reference, if there is one.
        trivial: the same of rules that read nothing, beside the file; None where the reference explains no completion.
        missing: examples that only the file annotates, and that only the reference does.
    """

    examples: int = 0
    with_links: int = 0
    with_answer_links: int = 0
    failed: int = 0
    links: int = 0
    causes: int = 0
    links_per_example: Distribution = field(default_factory=Distribution)
    causes_per_link: Distribution = field(default_factory=Distribution)
    methods: Counter[str] = field(default_factory=Counter)
    scores: Distribution = field(default_factory=Distribution)
    statuses: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    weights: Distribution = field(default_factory=Distribution)
    refused_links: Counter[str] = field(default_factory=Counter)
    refused_causes: Counter[str] = field(default_factory=Counter)
    recoverable: int = 0
    order: Counter[str] = field(default_factory=Counter)
    overlapping: int = 0
    spans: int = 0
    ambiguous: int = 0
    distances: Distribution = field(default_factory=Distribution)
    effect_lengths: Distribution = field(default_factory=Distribution)
    cause_lengths: Distribution = field(default_factory=Distribution)
    agreement: Agreement | None = None
    trivial: Comparison | None = None
    missing: tuple[int, int] | None = None

    @property
    def without_links(self) -> int:
        """Examples that train on cross-entropy alone."""
        return self.examples - self.with_links

    def add(self, example: Example) -> None:
        """Count one example more."""
        self.examples += 1
        self.with_links += bool(example.links)
        self.with_answer_links += any(link.effect.field == example.completion_field for link in example.links)
        self.failed += bool(example.refused and not example.links)
        self.links_per_example.count(len(example.links))
        for refusal in example.refused:
            (self.refused_links if refusal.cause is None else self.refused_causes)[refusal.reason] += 1
            self.recoverable += refusal.link is not None
        if not example.links:
            return
        starts = dict(zip(example.fields, accumulate(map(len, example.fields.values()), initial=0), strict=False))
        for link in example.links:
            self._add_link(link, starts, example.completion_field)
        spans = {span for link in example.links for span in (link.effect, *link.causes)}
        text = "\n".join(example.fields.values())
        self.spans += len(spans)
        self.ambiguous += sum(_occurs_twice(text, phrase) for phrase in map(example.text_of, spans))

    def _add_link(self, link: CausalLink, starts: Mapping[str, int], completion: str) -> None:
        self.links += 1
        self.causes += len(link.causes)
        self.causes_per_link.count(len(link.causes))
        self.methods[link.method] += 1
        if link.method != "exact":
            self.scores.count(link.score)
        self.statuses[link.status] += 1
        self.sources[link.source] += 1
        self.weights.count(link.weight)
        self.effect_lengths.count(link.effect.end - link.effect.start)
        effect_start = starts[link.effect.field] + link.effect.start
        effect_place = _place(link.effect, completion)
        for cause in link.causes:
            gap = effect_start - starts[cause.field] - cause.end
            self.order[f"{_place(cause, completion)} -> {effect_place}"] += 1
            self.overlapping += gap < 0
            self.distances.count(max(gap, 0))
            self.cause_lengths.count(cause.end - cause.start)

    def to_dict(self) -> dict[str, Any]:
        """All counts and summaries, ready for JSON."""
        return {
            "examples": {
                "n": self.examples,
                "with_links": self.with_links,
                "with_answer_links": self.with_answer_links,
                "without_links": self.without_links,
                "failed": self.failed,
            },
            "links": {
                "n": self.links,
                "causes": self.causes,
                "per_example": self.links_per_example.summary(),
                "causes_per_link": self.causes_per_link.summary(),
                "weights": self.weights.summary(),
                "statuses": {status: self.statuses[status] for status in STATUSES},
                "sources": _counted(self.sources),
            },
            "grounding": {
                "methods": {method: self.methods[method] for method in METHODS},
                "scores": self.scores.summary(),
                "spans": self.spans,
                "ambiguous": self.ambiguous,
            },
            "refused": {
                "links": _counted(self.refused_links),
                "causes": _counted(self.refused_causes),
                "recoverable": self.recoverable,
            },
            "order": {"fields": _counted(self.order), "overlapping": self.overlapping},
            "lengths": {
                "distance": self.distances.summary(),
                "effects": self.effect_lengths.summary(),
                "causes": self.cause_lengths.summary(),
            },
            "reference": self._reference(),
        }

    def _reference(self) -> dict[str, Any] | None:
        if self.agreement is None or self.missing is None:
            return None
        pair, (only_file, only_reference) = self.agreement.pairs[0], self.missing
        both, here, there = pair.edges
        record = self.agreement.to_dict()
        return {
            "examples": pair.examples,
            "only_in_file": only_file,
            "only_in_reference": only_reference,
            "precision": both / here if here else None,
            "recall": both / there if there else None,
            "edges": {"both": both, "file": here, "reference": there},
            "edge_f1": record["pairs"][0]["edge_f1"],
            "link_f1": record["pairs"][0]["link_f1"],
            "alpha": record["alpha"],
            "units": self.agreement.units,
            "trivial": self.trivial.to_dict() if self.trivial is not None else None,
        }


def annotation_report(
    examples: Iterable[Example], reference: Iterable[Example] | None = None, match: str = "exact"
) -> AnnotationReport:
    """Report on annotated examples and, with a reference, on how far they agree with it.

    Args:
        examples: what to report on.
        reference: the same examples, annotated by somebody who is believed; an example that only one of the two has
            is counted and not compared.
        match: when two spans are the same, see `ballots.MATCHES`.

    Raises:
        DataError: an id stands twice, or an example of the reference is another text.
    """
    report = AnnotationReport()
    if reference is None:
        for example in examples:
            report.add(example)
        return report
    check_match(match)
    tally, trivial = Tally([FILE, REFERENCE]), TrivialTally(FILE)
    sizes = Counter({FILE: 0, REFERENCE: 0})
    for entry in side_by_side({FILE: examples, REFERENCE: reference}):
        sizes.update(entry.keys())
        tally.add_entry(entry, match)
        if FILE in entry:
            report.add(entry[FILE])
        if len(entry) == 2:
            trivial.add(entry[FILE], entry[REFERENCE])
    report.agreement, report.trivial = tally.agreement(), trivial.comparison()
    common = report.agreement.examples
    report.missing = sizes[FILE] - common, sizes[REFERENCE] - common
    return report


def _place(span: Span, completion: str) -> str:
    return _COMPLETION if span.field == completion else _PROMPT


def _occurs_twice(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text more than once, as whole words."""
    if text.count(phrase) < 2:
        return False
    before = r"(?<!\w)" if phrase[0].isalnum() else ""
    after = r"(?!\w)" if phrase[-1].isalnum() else ""
    places = re.finditer(before + re.escape(phrase) + after, text)
    return next(places, None) is not None and next(places, None) is not None


def _counted(counts: Counter[str]) -> dict[str, int]:
    """The most frequent first, and in the order of their names where equally many."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
