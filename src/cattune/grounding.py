"""Phrases become spans: a causal link that is given in words is found in the fields of an example.

A phrase is looked for verbatim in the fields joined in reading order. Occurrences that are whole words and numbers are
preferred: "5" is found inside "5.0" or "15" only where it stands nowhere by itself. Occurrences may overlap.

A phrase lies in one field. Only where it runs across the start of the completion, as "Answer: 8" does when "Answer: "
ends the prompt, it is cut, without white space at its ends: an effect to its part in the completion, which is what is
predicted, a cause to its part in the prompt, which is what is read.

Where a phrase occurs more than once, one of four rules decides:

- `nearest`: the effect is the occurrence that the most of its causes precede; among those, the one with the smallest
  total distance (characters between a cause's end and the effect's start) to its causes; a tie goes to the later. Each
  cause is then its nearest occurrence before the effect.
- `all`: every occurrence of the effect makes a link, whose causes are all occurrences of every cause before it.
- `first`: the first occurrence of the effect and of each cause, where the one is before the other.
- `error`: a phrase that occurs more than once is refused.

An occurrence of a cause is before the effect when it starts before the effect ends and is not the effect itself. A
phrase that a link names k times, such as the equal values of two attributes, stands for the k nearest (under `first`,
for the first k) occurrences, or for as many as there are.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from cattune.errors import ConfigError
from cattune.examples import CausalLink, RefusedLink, Span

OCCURRENCES = ("nearest", "all", "first", "error")
"""The rules for a phrase that occurs more than once."""

EFFECT_EMPTY = "effect is empty"
EFFECT_MISSING = "effect is not in the text"
EFFECT_REPEATED = "effect occurs more than once"
CAUSE_EMPTY = "cause is empty"
CAUSE_MISSING = "cause is not in the text"
CAUSE_REPEATED = "cause occurs more than once"
CAUSE_LATE = "cause comes after its effect"
CAUSE_IS_EFFECT = "cause is the effect itself"
NO_CAUSES = "link names no causes"
NO_CAUSE_LEFT = "none of its causes could be used"
TOO_MANY = "phrases occur too often to link all of them"

MAX_PAIRS = 10_000
"""Under the rule `all`, the most pairs of an effect's and a cause's occurrence that a link may come to."""

# A sign belongs to its number unless it stands between two operands; a comma groups three digits.
_NUMBER = re.compile(r"(?:(?<![\w)%.])[-\u2212])?(?:\d+(?:,\d{3}(?!\d))*(?:\.\d+)*|(?<!\w)\.\d+)")
_WORD = re.compile(r"\w+")
_ZERO_WIDTH_JOINER = "\u200d"

_Place = tuple[int, int]  # [start, end) in the joined fields
_Pair = tuple[_Place, list[_Place]]  # an effect and its causes


@dataclass(frozen=True, slots=True)
class _Cause:
    """A cause phrase of a link, where it occurs, in reading order, and how often the link names it."""

    phrase: str
    places: list[_Place]
    times: int


@dataclass(frozen=True, slots=True)
class Grounding:
    """What became of an example's links: those with spans, and what was refused and why.

    Of the links that were given, those that could be used are in `links` (under the rule `all` one for each occurrence
    of the effect), and each of the others is in `refused` with cause None. An entry of `refused` with a cause is one
    cause that could not be used; the rest of its link may be in `links`.
    """

    links: tuple[CausalLink, ...]
    refused: tuple[RefusedLink, ...]


def ground_links(
    fields: Mapping[str, str],
    phrases: Iterable[tuple[str, Sequence[str]]],
    occurrences: str = "nearest",
    source: str = "unknown",
) -> Grounding:
    """Find links that are given in words.

    Args:
        fields: name and text of each field, in reading order, the completion last (`Example.fields`).
        phrases: for each link the effect phrase and its cause phrases.
        occurrences: the rule for a phrase that occurs more than once, one of `OCCURRENCES`.
        source: where the links come from, for `CausalLink.source`.

    Raises:
        ConfigError: There is no such rule.
    """
    check_occurrences(occurrences)
    text = _Text(fields)
    links: list[CausalLink] = []
    refused: list[RefusedLink] = []
    for effect, causes in phrases:
        pairs, problems = _ground(text, effect, causes, occurrences)
        links += [CausalLink(text.span(at), tuple(map(text.span, found)), source=source) for at, found in pairs]
        refused += problems
    return Grounding(tuple(links), tuple(refused))


def check_occurrences(occurrences: str) -> None:
    """Refuse a rule that is none of `OCCURRENCES` with a `ConfigError`."""
    if occurrences not in OCCURRENCES:
        raise ConfigError(f"occurrences must be one of {', '.join(OCCURRENCES)}, got {occurrences!r}")


class _Text:
    """The joined fields of one example, and where phrases occur in them."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._names = list(fields)
        self._starts = list(accumulate((len(text) for text in fields.values()), initial=0))[:-1]
        self._joined = "".join(fields.values())
        self._inside = _inside_tokens(self._joined)
        for start in self._starts:
            self._inside[start] = 0  # a token ends with its field
        self._found: dict[tuple[str, bool], list[_Place]] = {}

    def span(self, place: _Place) -> Span:
        index = self._field(place[0])
        return Span(self._names[index], place[0] - self._starts[index], place[1] - self._starts[index])

    def occurrences(self, phrase: str, is_effect: bool) -> list[_Place]:
        """Usable occurrences in reading order: those that are whole words if there are any, else all."""
        key = (phrase, is_effect)
        if key not in self._found:
            self._found[key] = self._find(phrase, is_effect)
        return self._found[key]

    def _find(self, phrase: str, is_effect: bool) -> list[_Place]:
        whole: list[_Place] = []
        partial: list[_Place] = []
        start = self._joined.find(phrase)
        while start >= 0:
            end = start + len(phrase)
            place = self._in_one_field(start, end, is_effect)
            if place is not None:
                (partial if self._inside[start] or self._inside[end] else whole).append(place)
            start = self._joined.find(phrase, start + 1)
        return whole or partial

    def _in_one_field(self, start: int, end: int, is_effect: bool) -> _Place | None:
        completion = self._starts[-1]
        if start < completion < end:
            start, end = (completion, end) if is_effect else (start, completion)
            part = self._joined[start:end]
            start, end = end - len(part.lstrip()), start + len(part.rstrip())
        if start >= end or self._field(start) != self._field(end - 1):
            return None
        return start, end

    def _field(self, position: int) -> int:
        return bisect_left(self._starts, position + 1) - 1


def _inside_tokens(text: str) -> bytearray:
    """For each position 0..len(text), 1 where a cut there would split a word, a number or a composed character."""
    inside = bytearray(len(text) + 1)
    for pattern in (_WORD, _NUMBER):
        for match in pattern.finditer(text):
            inside[match.start() + 1 : match.end()] = b"\x01" * (match.end() - match.start() - 1)
    if not text.isascii():
        for position, character in enumerate(text):
            if character == _ZERO_WIDTH_JOINER or unicodedata.category(character).startswith("M"):
                inside[position] = 1
                following = text[position + 1 : position + 2]
                if character == _ZERO_WIDTH_JOINER or _WORD.match(following):
                    inside[position + 1] = 1
    inside[0] = inside[-1] = 0
    return inside


def _ground(text: _Text, effect: str, causes: Sequence[str], rule: str) -> tuple[list[_Pair], list[RefusedLink]]:
    """Each effect place with its cause places, and what is refused."""
    effects = text.occurrences(effect, is_effect=True) if effect.strip() else []
    problem = _problem_of_effect(effect, effects, causes, rule)
    if problem:
        return [], [RefusedLink(effect, None, problem)]
    causes_found: list[_Cause] = []
    problems: dict[str, str] = {}
    for cause, times in Counter(causes).items():
        places = text.occurrences(cause, is_effect=False) if cause.strip() else []
        problem = _problem_of_cause(cause, places, rule)
        if problem:
            problems[cause] = problem
        else:
            causes_found.append(_Cause(cause, places, times))
    pairs: list[_Pair] = []
    if rule == "all" and len(effects) * sum(len(cause.places) for cause in causes_found) > MAX_PAIRS:
        whole_link: str | None = TOO_MANY
    else:
        pairs, late = _pair(effects, causes_found, rule)
        problems |= late
        whole_link = None if pairs else NO_CAUSE_LEFT
    refused = [RefusedLink(effect, cause, problems[cause]) for cause in causes if cause in problems]
    if whole_link:
        refused.append(RefusedLink(effect, None, whole_link))
    return pairs, refused


def _pair(effects: list[_Place], causes: list[_Cause], rule: str) -> tuple[list[_Pair], dict[str, str]]:
    """The chosen effect places with their causes, and the cause phrases that precede none of them, with why."""
    chosen = _choose_effects(effects, causes, rule)
    picked: list[dict[_Place, None]] = [{} for _ in chosen]  # a dict: in order, without repeats
    problems: dict[str, str] = {}
    for cause in causes:
        used = False
        for effect, places in zip(chosen, picked, strict=True):
            choice = _choose_cause(effect, cause, rule)
            places.update(dict.fromkeys(choice))
            used = used or bool(choice)
        if not used:
            problems[cause.phrase] = CAUSE_IS_EFFECT if set(chosen) & set(cause.places) else CAUSE_LATE
    return [(effect, list(places)) for effect, places in zip(chosen, picked, strict=True) if places], problems


def _problem_of_effect(effect: str, places: list[_Place], causes: Sequence[str], rule: str) -> str | None:
    if not effect.strip():
        return EFFECT_EMPTY
    if not places:
        return EFFECT_MISSING
    if rule == "error" and len(places) > 1:
        return EFFECT_REPEATED
    return None if causes else NO_CAUSES


def _problem_of_cause(cause: str, places: list[_Place], rule: str) -> str | None:
    if not cause.strip():
        return CAUSE_EMPTY
    if not places:
        return CAUSE_MISSING
    return CAUSE_REPEATED if rule == "error" and len(places) > 1 else None


def _choose_effects(effects: list[_Place], causes: list[_Cause], rule: str) -> list[_Place]:
    if rule == "all":
        return effects
    if rule != "nearest" or len(effects) == 1:
        return effects[:1]

    def preference(effect: _Place) -> tuple[int, int, int]:
        before = [place for cause in causes for place in _choose_cause(effect, cause, rule)]
        distance = sum(max(0, effect[0] - end) for _, end in before)
        return len(before), -distance, effect[0]

    return [max(effects, key=preference)]


def _choose_cause(effect: _Place, cause: _Cause, rule: str) -> list[_Place]:
    """The occurrences of a cause that a link to this effect takes, in reading order."""
    places, times = cause.places, cause.times
    end = bisect_left(places, (effect[1], 0))  # those that start before the effect ends
    if rule == "nearest":
        last = [place for place in places[max(0, end - times - 1) : end] if place != effect]
        return last[-times:]
    before = places[:end] if rule == "all" else places[: min(end, times)]
    return [place for place in before if place != effect]
