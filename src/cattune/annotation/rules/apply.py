"""Annotation by rules: in templated or tabular text, patterns find the spans and edges join them; no model is asked.

A rule set names *patterns*, regular expressions each for one place of the example, and *edges*, which say what each
effect depends on. `file` reads one from YAML. The outcome is a function of the text alone: a pattern that takes
longer than `TIME_LIMIT` stops the run with an error, and is never counted as one that is not there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cattune.data.examples import CausalLink, Example, RefusedLink, Span
from cattune.errors import ConfigError
from cattune.grounding.links import CAUSE_IS_EFFECT, CAUSE_LATE, NO_CAUSE_LEFT
from cattune.wording import shown

SOURCE = "rule"
"""`CausalLink.source` of the links that rules make."""

TIME_LIMIT = 2.0
"""Seconds of processor time that one pattern may take on one text; a sound pattern needs less than a millisecond."""

MATCHES = ("one", "first", "last", "all")
"""Which of a pattern's matches in an example counts; `one` refuses a pattern that matches more than once."""

PLACES = ("prompt", "completion", "system", "user", "assistant", "tool", "developer")
"""Where a pattern may look: every field before the completion, the completion, or the messages of a role before it."""

EFFECT_NOT_FOUND = "the effect's pattern is not in the text"
EFFECT_AMBIGUOUS = "the effect's pattern matches more than once"
CAUSE_NOT_FOUND = "the cause's pattern is not in the text"
CAUSE_AMBIGUOUS = "the cause's pattern matches more than once"


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for, and where.

    Args:
        name: as edges call it.
        place: one of PLACES.
        regex: compiled by the module `regex`, which can be stopped.
        matches: one of MATCHES.
    """

    name: str
    place: str
    regex: Any
    matches: str = "one"


@dataclass(frozen=True, slots=True)
class Part:
    """The whole of a pattern's match, or with `group` the named group of it."""

    pattern: str
    group: str | None = None

    def __str__(self) -> str:
        return self.pattern if self.group is None else f"{self.pattern}.{self.group}"


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Patterns by name, and for each effect the causes that it depends on; `where` names the file in messages."""

    where: str
    patterns: Mapping[str, Pattern]
    edges: tuple[tuple[Part, tuple[Part, ...]], ...]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What the rules make of one example: links, what is refused and why, and the patterns that matched."""

    links: tuple[CausalLink, ...]
    refused: tuple[RefusedLink, ...]
    matched: frozenset[str]


@dataclass
class RuleReport:
    """What rules made of many examples.

    Attributes:
        rules: the rule set.
        examples: annotated, `with_links` of them with a link.
        replaced: examples that came with links or refused links of their own, which the rules' have replaced.
        links: made, over all examples.
        matched: examples that each pattern matched.
        refused: links and causes refused, by reason.
        missing: examples in which each part of a pattern was wanted, and was missing or ambiguous.
    """

    rules: RuleSet
    examples: int = 0
    with_links: int = 0
    replaced: int = 0
    links: int = 0
    matched: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """The patterns that matched no example: misspelt, or for another text."""
        return tuple(name for name in self.rules.patterns if not self.matched[name])

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        return {
            "rules": self.rules.where,
            "examples": self.examples,
            "with_links": self.with_links,
            "replaced": self.replaced,
            "links": self.links,
            "matched": {name: self.matched[name] for name in self.rules.patterns},
            "unmatched": list(self.unmatched),
            "refused": dict(sorted(self.refused.items())),
            "missing": dict(sorted(self.missing.items())),
        }


def annotate_all(rules: RuleSet, examples: Iterable[Example], report: RuleReport) -> Iterator[Example]:
    """Each example with the rules' links in the place of its own, while `report` keeps count.

    Raises:
        ConfigError: a pattern takes longer than TIME_LIMIT on a text, or all memory.
    """
    for example in examples:
        outcome = apply_rules(rules, example)
        report.examples += 1
        report.with_links += bool(outcome.links)
        report.replaced += bool(example.links or example.refused)
        report.links += len(outcome.links)
        report.matched.update(outcome.matched)
        for refusal in outcome.refused:
            report.refused[refusal.reason] += 1
            if refusal.reason in (EFFECT_NOT_FOUND, EFFECT_AMBIGUOUS):
                report.missing[refusal.effect] += 1
            elif refusal.reason in (CAUSE_NOT_FOUND, CAUSE_AMBIGUOUS):
                report.missing[str(refusal.cause)] += 1
        yield replace(example, links=outcome.links, refused=outcome.refused)


def annotate_by_rules(rules: RuleSet, example: Example) -> Example:
    """The example with the rules' links in the place of its own; errors as `apply_rules`."""
    outcome = apply_rules(rules, example)
    return replace(example, links=outcome.links, refused=outcome.refused)


def apply_rules(rules: RuleSet, example: Example) -> RuleResult:
    """Find every pattern in the example and join what the edges join.

    A link is refused where its effect is not found, or found more than once by a pattern that wants one; a cause where
    the same holds for it, or where it does not start before the effect ends. A refused link or cause is named by its
    text where that is known, else as the edges name it.

    Raises:
        ConfigError: a pattern takes longer than TIME_LIMIT on a text, or all memory.
    """
    found = {name: _search(pattern, example, rules.where) for name, pattern in rules.patterns.items()}
    links: list[CausalLink] = []
    refused: list[RefusedLink] = []
    for effect, causes in rules.edges:
        spans = _spans(effect, found, rules)
        if isinstance(spans, str):
            refused.append(RefusedLink(str(effect), None, EFFECT_NOT_FOUND if spans == _NONE else EFFECT_AMBIGUOUS))
            continue
        for span in spans:
            kept, problems = _causes(example, span, causes, found, rules)
            refused += problems
            if kept:
                links.append(CausalLink(span, kept, source=SOURCE))
            else:
                refused.append(RefusedLink(example.text_of(span), None, NO_CAUSE_LEFT))
    return RuleResult(tuple(links), tuple(refused), frozenset(name for name, matches in found.items() if matches))


_NONE, _SEVERAL = "none", "several"
_Match = tuple[str, Any]  # the field, and the match in it


def _search(pattern: Pattern, example: Example, where: str) -> list[_Match]:
    """The pattern's matches that are not empty, in reading order: all of them, or the two that prove more than one."""
    matches: list[_Match] = []
    for name, text in _texts(pattern.place, example):
        try:
            for match in pattern.regex.finditer(text, timeout=TIME_LIMIT):
                if match.start() < match.end():
                    matches.append((name, match))
                if pattern.matches == "one" and len(matches) > 1:
                    return matches
        except TimeoutError:
            raise ConfigError(
                f"{where}: the pattern {shown(pattern.name)} took more than {TIME_LIMIT:g} s on the {len(text)} "
                f"characters of {name} in example {shown(example.id)}; it tries the same characters in too many ways: "
                "avoid one repetition inside another, such as (a+)+, and say more exactly what may be repeated"
            ) from None
        except MemoryError:
            raise ConfigError(
                f"{where}: the pattern {shown(pattern.name)} took all memory on {name} in example "
                f"{shown(example.id)}; see that it does not call itself without end, as (?R)* does"
            ) from None
    return matches


def _texts(place: str, example: Example) -> Iterator[tuple[str, str]]:
    """The fields of a place, in reading order."""
    fields = list(example.fields.items())
    if place == "completion":
        yield fields[-1]
    elif place == "prompt":
        yield from fields[:-1]
    else:  # a role
        yield from (
            entry for entry, turn in zip(fields[:-1], example.messages[:-1], strict=False) if turn.role == place
        )


def _spans(part: Part, found: Mapping[str, list[_Match]], rules: RuleSet) -> list[Span] | str:
    """The spans that a part stands for, or _NONE or _SEVERAL."""
    which = rules.patterns[part.pattern].matches
    matches = found[part.pattern]
    if which == "one" and len(matches) > 1:
        return _SEVERAL
    chosen = {"first": matches[:1], "last": matches[-1:]}.get(which, matches)
    ends = [(name, *match.span(part.group or 0)) for name, match in chosen]
    # A group that took no part in the match is at -1, and one may be empty.
    return [Span(name, start, end) for name, start, end in ends if 0 <= start < end] or _NONE


def _causes(
    example: Example, effect: Span, parts: tuple[Part, ...], found: Mapping[str, list[_Match]], rules: RuleSet
) -> tuple[tuple[Span, ...], list[RefusedLink]]:
    """The causes of one effect in reading order, each once, and those that are refused."""
    place = {name: index for index, name in enumerate(example.fields)}
    text = example.text_of(effect)
    kept: set[Span] = set()
    refused: list[RefusedLink] = []
    for part in parts:
        spans = _spans(part, found, rules)
        if isinstance(spans, str):
            refused.append(RefusedLink(text, str(part), CAUSE_NOT_FOUND if spans == _NONE else CAUSE_AMBIGUOUS))
            continue
        before = [s for s in spans if (place[s.field], s.start) < (place[effect.field], effect.end) and s != effect]
        kept.update(before)
        # Under `all` those that stand before the effect are meant; one is refused only if none does.
        if not before:
            reason = CAUSE_IS_EFFECT if effect in spans else CAUSE_LATE
            refused.append(RefusedLink(text, example.text_of(spans[0]), reason))
    return tuple(sorted(kept, key=lambda s: (place[s.field], s.start, s.end))), refused
