"""The same record with one causal value drawn again, so that the answer is another: what a model that reads the causes
answers anew, and one that reads the spurious attributes, which stay as they are, does not.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from cattune.data.examples import CausalLink, Example, RefusedLink, Span
from cattune.errors import DataError
from cattune.tasks.stg.generate import plain_value, redraw
from cattune.tasks.stg.spec import Game
from cattune.tasks.stg.wording import Found, find_record
from cattune.wording import shown

TRIES = 200
"""Draws of another value for one cause before it is left as it is."""


@dataclass(frozen=True, slots=True)
class _Edit:
    """The characters [start, end) of a field become `text`."""

    field: str
    start: int
    end: int
    text: str

    def applied(self, whole: str) -> str:
        return whole[: self.start] + self.text + whole[self.end :]

    def moved(self, span: Span, length: int) -> Span:
        """Where a span of the old field, of that length, is in the new one; one that meets the edit holds all of it."""
        if span.field != self.field:
            return span
        shift = len(self.text) - (self.end - self.start)
        if (span.start, span.end) == (0, length):
            return Span(span.field, 0, length + shift)
        start = span.start if span.start <= self.start else max(span.start + shift, self.start)
        if self.start < span.start < self.end:
            start = self.start
        end = span.end if span.end <= self.start else max(span.end, self.end) + shift
        return Span(span.field, start, end) if start < end else Span(span.field, 0, length + shift)


def counterfactuals_of(example: Example, game: Game, data_seed: int = 0) -> list[Example]:
    """One example for each cause of which another value leads to another answer, in an order of chance.

    Only that value and the answer change; links move along. The id is the example's with the cause behind it, and the
    metadata's `changed` names the cause. The same example and seed give the same counterfactuals.

    Args:
        example: of the game, in any wording that `find_record` reads; its answer follows the rule in force.
        game: whose rule decides, and from whose distributions values are drawn.
        data_seed: chooses the values and the order.

    Raises:
        DataError: the prompt does not hold the game's attributes, each once.
    """
    where = f"example {shown(example.id)}"
    if example.prompt is None:
        raise DataError(f"{where}: expected a prompt and a completion, got a conversation")
    found = find_record(example.prompt, game, where)
    values = {entry.attribute.name: entry.value(example.prompt) for entry in found}
    before = game.label(values)
    made = []
    for entry in (entry for entry in found if entry.attribute.role == "cause"):
        name = entry.attribute.name
        rng = random.Random(f"counterfactual/{game.name}/{game.version}/{example.id}/{name}/{data_seed}")
        for _ in range(TRIES):
            changed = {**values, name: redraw(entry.attribute, rng)}
            if (answer := game.label(changed)) not in (before, example.target.strip()):
                made.append((rng.random(), _changed(example, entry, changed[name], answer)))
                break
    return [other for _, other in sorted(made, key=lambda pair: pair[0])]


def _changed(example: Example, entry: Found, value: Decimal, answer: str) -> Example:
    prompt, completion = example.prompt or "", example.completion or ""
    name, digits = entry.attribute.name, entry.end - len(entry.attribute.suffix)
    lead, tail = len(completion) - len(completion.lstrip()), len(completion.rstrip())
    new = completion[:lead] + answer + completion[tail:]
    edits = (_Edit("prompt", entry.value_start, digits, f"{value:f}"), _difference("completion", completion, new))
    lengths = {"prompt": len(prompt), "completion": len(completion)}
    metadata = {**example.metadata, "changed": name}
    if isinstance(old := metadata.get("attributes"), Mapping):
        metadata["attributes"] = {**old, name: plain_value(value)}
    return replace(
        example,
        id=f"{example.id}, other {name}",
        prompt=edits[0].applied(prompt),
        completion=new,
        links=tuple(_moved(link, edits, lengths) for link in example.links),
        refused=tuple(_moved_refusal(refusal, edits, lengths) for refusal in example.refused),
        metadata=metadata,
    )


def _difference(field: str, old: str, new: str) -> _Edit:
    """The shortest edit that makes one text of another."""
    shorter = min(len(old), len(new))
    start = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    same = next((i for i in range(shorter - start) if old[-1 - i] != new[-1 - i]), shorter - start)
    return _Edit(field, start, len(old) - same, new[start : len(new) - same])


def _moved(link: CausalLink, edits: Iterable[_Edit], lengths: Mapping[str, int]) -> CausalLink:
    effect, causes = link.effect, link.causes
    for edit in edits:
        effect = edit.moved(effect, lengths[edit.field])
        causes = tuple(edit.moved(cause, lengths[edit.field]) for cause in causes)
    return replace(link, effect=effect, causes=causes)


def _moved_refusal(refusal: RefusedLink, edits: Iterable[_Edit], lengths: Mapping[str, int]) -> RefusedLink:
    return refusal if refusal.link is None else replace(refusal, link=_moved(refusal.link, edits, lengths))
