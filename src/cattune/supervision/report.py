"""What became of the examples' causal links on their way to rows and keys: counts, reasons, and each loss by name.

Three sums always hold: links = aligned links + lost "link: ...", and the same for causes; rows asked for = rows + lost
"row: ...".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from cattune.data.examples import Example, RefusedLink, Span


@dataclass
class AlignmentReport:
    """What became of the examples' links.

    Attributes:
        examples: examples seen, and `left_out` of them kept out of the features, for want of a completion token.
        examples_without_links: these train on cross-entropy alone.
        straddled: examples whose first completion token began in the prompt.
        altered: examples of which the chat template leaves out or rewrites an earlier message, a thought for instance.
        truncated: examples cut at the maximum length, and `truncated_tokens` lost by it.
        links: links seen, `aligned_links` of them with a cause on a row of their effect.
        causes: causes seen, `aligned_causes` of them on a row of their effect.
        rows: rows that count: 0 < causal keys < visible keys.
        lost: how many links, causes, rows and keys were lost, by reason ("link: ...", "cause: ...", ...).
        ends: the tokens that end completions, as the tokenizer writes them, and how many each ends.
        refused: links that the examples came with and that could not be grounded, by reason.
        named: by reason, the example's id and what was lost; all losses, or the first `max_named` of each reason.
    """

    examples: int = 0
    left_out: int = 0
    examples_without_links: int = 0
    straddled: int = 0
    altered: int = 0
    truncated: int = 0
    truncated_tokens: int = 0
    links: int = 0
    aligned_links: int = 0
    causes: int = 0
    aligned_causes: int = 0
    rows: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    max_named: int | None = None
    named: dict[str, list[tuple[str, str]]] = field(default_factory=dict, repr=False)

    def __add__(self, other: AlignmentReport) -> AlignmentReport:
        """The report on both reports' examples, as one that had seen them in this order."""
        limits = [limit for limit in (self.max_named, other.max_named) if limit is not None]
        limit = min(limits, default=None)
        reasons = dict.fromkeys([*self.named, *other.named])
        added: dict[str, Any] = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
            if f.name not in ("named", "max_named")
        }
        named = {reason: (self.named.get(reason, []) + other.named.get(reason, []))[:limit] for reason in reasons}
        return AlignmentReport(**added, max_named=limit, named=named)

    def lose(self, example: Example, reason: str, what: Span | str, count: int = 1) -> None:
        """Count a loss and name it."""
        self.lost[reason] += count
        self._name(example, reason, what)

    def refuse(self, example: Example, link: RefusedLink) -> None:
        """Count a link that could not be grounded and name it."""
        self.refused[link.reason] += 1
        self._name(example, f"refused: {link.reason}", link)

    def _name(self, example: Example, reason: str, what: Span | RefusedLink | str) -> None:
        named = self.named.setdefault(reason, [])
        if self.max_named is None or len(named) < self.max_named:
            named.append((example.id, _in_words(example, what)))

    @property
    def problems(self) -> list[tuple[str, str, str]]:
        """(example id, reason, detail) for each loss that is named."""
        return [(name, reason, detail) for reason, losses in self.named.items() for name, detail in losses]

    def to_dict(self) -> dict[str, Any]:
        """All counts and problems, ready for JSON; `from_dict` gives an equal report back."""
        result = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "named"}
        result["lost"] = dict(sorted(self.lost.items()))
        result["refused"] = dict(sorted(self.refused.items()))
        result["ends"] = dict(sorted(self.ends.items()))
        result["problems"] = [{"id": i, "reason": reason, "detail": detail} for i, reason, detail in self.problems]
        return result

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> AlignmentReport:
        """The report of what `to_dict` gave."""
        values = {f.name: record[f.name] for f in fields(cls) if f.name != "named"}
        named: dict[str, list[tuple[str, str]]] = {}
        for problem in record["problems"]:
            named.setdefault(problem["reason"], []).append((problem["id"], problem["detail"]))
        counters = {name: Counter(record[name]) for name in ("lost", "refused", "ends")}
        return cls(**values | counters | {"named": named})

    def summary(self) -> str:
        """A few lines for people."""
        lines = [
            f"examples  {self.examples}, {self.examples_without_links} without links, {self.left_out} left out, "
            f"{self.truncated} truncated ({self.truncated_tokens} tokens)",
            f"links     {self.aligned_links} of {self.links} aligned, {self.refused.total()} refused before",
            f"causes    {self.aligned_causes} of {self.causes} aligned",
            f"rows      {self.rows} supervised",
        ]
        if self.altered:
            lines.insert(1, f"          {self.altered} with an earlier message that the chat template cuts or rewrites")
        lines += [f"  lost    {count} x {reason}" for reason, count in self.lost.most_common()]
        lines += [f"  refused {count} x {reason}" for reason, count in self.refused.most_common()]
        return "\n".join(lines)


def _in_words(example: Example, what: Span | RefusedLink | str) -> str:
    if isinstance(what, Span):
        return f"{what.field}[{what.start}:{what.end}] {example.text_of(what)!r}"
    if isinstance(what, RefusedLink):
        cause = "" if what.cause is None else f" <- {what.cause!r}"
        return repr(what.effect) + cause
    return what
