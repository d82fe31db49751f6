"""What became of the examples' causal links on their way to rows and keys: counts, reasons, and each loss by name.

Three sums always hold: links = aligned links + lost "link: ...", and the same for causes; rows asked for = rows + lost
"row: ...".
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from cattune.examples import Example, RefusedLink, Span


@dataclass
class AlignmentReport:
    """What became of the examples' links.

    Attributes:
        examples: examples seen, and `left_out` of them kept out of the features, for want of a completion token.
        examples_without_links: these train on cross-entropy alone.
        straddled: examples whose first completion token began in the prompt.
        truncated: examples cut at the maximum length, and `truncated_tokens` lost by it.
        links: links seen, `aligned_links` of them with a cause on a row of their effect.
        causes: causes seen, `aligned_causes` of them on a row of their effect.
        rows: rows that count: 0 < causal keys < visible keys.
        lost: how many links, causes, rows and keys were lost, by reason ("link: ...", "cause: ...", ...).
        refused: links that the examples came with and that could not be grounded, by reason.
        losses: the example, the reason and what was lost, for each loss; `problems` says it in words.
    """

    examples: int = 0
    left_out: int = 0
    examples_without_links: int = 0
    straddled: int = 0
    truncated: int = 0
    truncated_tokens: int = 0
    links: int = 0
    aligned_links: int = 0
    causes: int = 0
    aligned_causes: int = 0
    rows: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    losses: list[tuple[Example, str, Span | RefusedLink | str]] = field(default_factory=list, repr=False)

    def __add__(self, other: AlignmentReport) -> AlignmentReport:
        """The report on both reports' examples."""
        return AlignmentReport(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def lose(self, example: Example, reason: str, what: Span | str, count: int = 1) -> None:
        """Count a loss and name it."""
        self.lost[reason] += count
        self.losses.append((example, reason, what))

    def refuse(self, example: Example, link: RefusedLink) -> None:
        """Count a link that could not be grounded and name it."""
        self.refused[link.reason] += 1
        self.losses.append((example, link.reason, link))

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """(example id, reason, detail) for each loss, in words; written when it is asked for, most runs never do."""
        return [_in_words(*loss) for loss in self.losses]

    def to_dict(self) -> dict[str, Any]:
        """All counts and problems, ready for JSON."""
        result = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "losses"}
        result["lost"] = dict(sorted(self.lost.items()))
        result["refused"] = dict(sorted(self.refused.items()))
        result["problems"] = [{"id": i, "reason": reason, "detail": detail} for i, reason, detail in self.problems]
        return result

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"examples  {self.examples}, {self.examples_without_links} without links, {self.left_out} left out, "
            f"{self.truncated} truncated ({self.truncated_tokens} tokens)",
            f"links     {self.aligned_links} of {self.links} aligned, {self.refused.total()} refused before",
            f"causes    {self.aligned_causes} of {self.causes} aligned",
            f"rows      {self.rows} supervised",
        ]
        lines += [f"  lost    {count} x {reason}" for reason, count in self.lost.most_common()]
        lines += [f"  refused {count} x {reason}" for reason, count in self.refused.most_common()]
        return "\n".join(lines)


def _in_words(example: Example, reason: str, what: Span | RefusedLink | str) -> tuple[str, str, str]:
    if isinstance(what, Span):
        return example.id, reason, f"{what.field}[{what.start}:{what.end}] {example.text_of(what)!r}"
    if isinstance(what, RefusedLink):
        cause = "" if what.cause is None else f" <- {what.cause!r}"
        return example.id, f"refused: {reason}", repr(what.effect) + cause
    return example.id, reason, what
