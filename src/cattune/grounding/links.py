"""Phrases become spans: a causal link that is given in words is found in the fields of an example.

`cattune.grounding.search` finds where a phrase occurs. Where it occurs more than once, one of five rules decides:

- `context`: the occurrences of effect and causes that fit together, and the links before and after, best; see
  `cattune.grounding.context`.
- `nearest`: the effect is the occurrence that the most of its causes precede; among those, the one with the smallest
  total distance (characters between a cause's end and the effect's start) to its causes; a tie goes to the later. Each
  cause is then its nearest occurrence before the effect.
- `all`: every occurrence of the effect makes a link, whose causes are all occurrences of every cause before it.
- `first`: the first occurrence of the effect and of each cause, where the one is before the other.
- `error`: a phrase that occurs more than once is refused.

An occurrence of a cause is before the effect when it starts before the effect ends and is not the effect itself. A
phrase that a link names k times, such as the equal values of two attributes, stands for k occurrences, or for as many
as there are: under `nearest` the k nearest, under `first` the first k.

A link's method and score are those of the worst found of its phrases.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from cattune.data.examples import METHODS, CausalLink, RefusedLink
from cattune.errors import ConfigError
from cattune.grounding.context import Context
from cattune.grounding.search import Found, Phrase, Place, SearchText

__all__ = ["OCCURRENCES", "Grounding", "Phrase", "check_occurrences", "ground_links"]

OCCURRENCES = ("context", "nearest", "all", "first", "error")
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


class _Cause(NamedTuple):
    """A cause phrase of a link, where it occurs, and how often the link names it."""

    phrase: Phrase
    found: Found
    times: int


_Chosen: TypeAlias = "list[tuple[_Cause, list[Place]]]"
"""The causes of one effect place with the occurrences that were chosen; none where none is before the effect."""


class _Link(NamedTuple):
    """A link whose effect was found, and those of its causes that were."""

    effect: Found
    causes: list[_Cause]
    listed: list[_Cause]
    """The same, as the link names them: each as many times as it does."""


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
    phrases: Iterable[tuple[str | Phrase, Sequence[str | Phrase]]],
    occurrences: str = "context",
    source: str = "unknown",
) -> Grounding:
    """Find links that are given in words.

    Args:
        fields: name and text of each field, in reading order, the completion last (`Example.fields`).
        phrases: for each link the effect phrase and its cause phrases, in the order of the reasoning.
        occurrences: the rule for a phrase that occurs more than once, one of `OCCURRENCES`.
        source: where the links come from, for `CausalLink.source`.

    Raises:
        ConfigError: There is no such rule.
    """
    check_occurrences(occurrences)
    given = [(_phrase(effect), [_phrase(cause) for cause in causes]) for effect, causes in phrases]
    grounder = _Grounder(fields, [effect for effect, _ in given], occurrences)
    links: list[CausalLink] = []
    refused: list[RefusedLink] = []
    for index, (effect, causes) in enumerate(given):
        pairs, problems = grounder.ground(index, effect, causes)
        links += [grounder.link(index, place, chosen, source) for place, chosen in pairs]
        refused += problems
    return Grounding(tuple(links), tuple(refused))


def check_occurrences(occurrences: str) -> None:
    """Refuse a rule that is none of `OCCURRENCES` with a `ConfigError`."""
    if occurrences not in OCCURRENCES:
        raise ConfigError(f"occurrences must be one of {', '.join(OCCURRENCES)}, got {occurrences!r}")


class _Grounder:
    """Grounds the links of one example one after the other."""

    def __init__(self, fields: Mapping[str, str], effects: Sequence[Phrase], rule: str) -> None:
        self._text = SearchText(fields)
        self._rule = rule
        self._effects = [self._text.find(effect, is_effect=True) for effect in effects]
        self._context = Context(self._text.joined, self._text.starts[1:])
        self._before: Place | None = None  # the effect of the last link that was grounded

    def ground(
        self, index: int, effect: Phrase, causes: Sequence[Phrase]
    ) -> tuple[list[tuple[Place, _Chosen]], list[RefusedLink]]:
        """Each effect place of a link with what was chosen for its causes, and what is refused."""
        places = self._effects[index].places
        problem = self._problem_of_effect(effect, places, causes)
        if problem:
            return [], [RefusedLink(effect.text, None, problem)]
        found: dict[Phrase, _Cause] = {}
        problems: dict[Phrase, str] = {}
        for cause, times in Counter(causes).items():
            occurrences = self._text.find(cause, is_effect=False)
            problem = self._problem_of_cause(cause, occurrences.places)
            if problem:
                problems[cause] = problem
            else:
                found[cause] = _Cause(cause, occurrences, times)
        link = _Link(self._effects[index], list(found.values()), [found[cause] for cause in causes if cause in found])
        pairs: list[tuple[Place, _Chosen]] = []
        whole_link: str | None = TOO_MANY
        if self._rule != "all" or len(places) * sum(len(cause.found.places) for cause in link.causes) <= MAX_PAIRS:
            pairs = self._pairs(index, link)
            problems |= _unused(link, pairs)
            pairs = [pair for pair in pairs if any(found for _, found in pair[1])]
            whole_link = None if pairs else NO_CAUSE_LEFT
        refused = [RefusedLink(effect.text, cause.text, problems[cause]) for cause in causes if cause in problems]
        if whole_link:
            refused.append(RefusedLink(effect.text, None, whole_link))
        else:
            self._before = pairs[0][0]
        return pairs, refused

    def link(self, index: int, effect: Place, chosen: _Chosen, source: str) -> CausalLink:
        """A link, with the method and score of the worst found of its phrases."""
        found = [self._effects[index], *(cause.found for cause, places in chosen if places)]
        causes = dict.fromkeys(place for _, places in chosen for place in places)  # in order, without repeats
        return CausalLink(
            self._text.span(effect),
            tuple(map(self._text.span, causes)),
            source=source,
            method=max((one.method for one in found), key=METHODS.index),
            score=min(one.score for one in found),
        )

    def _pairs(self, index: int, link: _Link) -> list[tuple[Place, _Chosen]]:
        if not link.causes:
            return []
        if self._rule == "context":
            return [self._in_context(index, link)]
        return [
            (effect, [(cause, _choose_cause(effect, cause, self._rule)) for cause in link.causes])
            for effect in _choose_effects(link, self._rule)
        ]

    def _in_context(self, index: int, link: _Link) -> tuple[Place, _Chosen]:
        following = self._effects[index + 1].places if index + 1 < len(self._effects) else []
        after = following[0] if len(following) == 1 else None
        causes = [cause.found.places for cause in link.listed]
        effect, places = self._context.choose(link.effect.places, causes, self._before, after)
        return effect, [
            (cause, [place] if _is_before(place, effect) else [])
            for cause, place in zip(link.listed, places, strict=True)
        ]

    def _problem_of_effect(self, effect: Phrase, places: list[Place], causes: Sequence[Phrase]) -> str | None:
        if not effect.text.strip():
            return EFFECT_EMPTY
        if not places:
            return EFFECT_MISSING
        if self._rule == "error" and len(places) > 1:
            return EFFECT_REPEATED
        return None if causes else NO_CAUSES

    def _problem_of_cause(self, cause: Phrase, places: list[Place]) -> str | None:
        if not cause.text.strip():
            return CAUSE_EMPTY
        if not places:
            return CAUSE_MISSING
        return CAUSE_REPEATED if self._rule == "error" and len(places) > 1 else None


def _phrase(given: str | Phrase) -> Phrase:
    return given if isinstance(given, Phrase) else Phrase(given)


def _is_before(cause: Place, effect: Place) -> bool:
    return cause[0] < effect[1] and cause != effect


def _unused(link: _Link, pairs: list[tuple[Place, _Chosen]]) -> dict[Phrase, str]:
    """The causes that stand before none of the effect's places, and why."""
    used = {cause.phrase for _, chosen in pairs for cause, places in chosen if places}
    effects = {effect for effect, _ in pairs}
    return {
        cause.phrase: CAUSE_LATE if effects.isdisjoint(cause.found.places) else CAUSE_IS_EFFECT
        for cause in link.causes
        if cause.phrase not in used
    }


def _choose_effects(link: _Link, rule: str) -> list[Place]:
    effects = link.effect.places
    if rule == "all":
        return effects
    if rule != "nearest" or len(effects) == 1:
        return effects[:1]

    def preference(effect: Place) -> tuple[int, int, int]:
        before = [place for cause in link.causes for place in _choose_cause(effect, cause, rule)]
        distance = sum(max(0, effect[0] - end) for _, end in before)
        return len(before), -distance, effect[0]

    return [max(effects, key=preference)]


def _choose_cause(effect: Place, cause: _Cause, rule: str) -> list[Place]:
    """The occurrences of a cause that a link to this effect takes, in reading order."""
    places, times = cause.found.places, cause.times
    end = bisect_left(places, (effect[1], 0))  # those that start before the effect ends
    if rule == "nearest":
        last = [place for place in places[max(0, end - times - 1) : end] if place != effect]
        return last[-times:]
    before = places[:end] if rule == "all" else places[: min(end, times)]
    return [place for place in before if place != effect]
