"""Several annotations of the same examples, side by side: what each annotator says about each edge.

An *edge* is an effect and one of its causes. Here a span is a *place*, (field number, start, end), so that places
compare in reading order.
"""

from __future__ import annotations

import pickle
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cattune.data.examples import FAILED, OUTVOTED, REJECTED, CausalLink, Example
from cattune.data.on_disk import SeenKeys, Shelf
from cattune.errors import ConfigError, DataError
from cattune.wording import listed, shown

Place: TypeAlias = tuple[int, int, int]
Edge: TypeAlias = tuple[Place, Place]  # effect, cause

MATCHES = ("exact", "overlap")
"""When two spans are the same: their ends are equal, or they share at least half of the words that either has."""

LEAST_OVERLAP = 0.5

# Chinese, Japanese and Korean characters count each as a word: these scripts put no blanks between words.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
WORD = re.compile(rf"[{_CJK}]|\d+(?:[.,]\d+)*|[^\W{_CJK}]+")


@dataclass(slots=True)
class Ballot:
    """What one annotator says about one example.

    Args:
        yes: edges of the links, each with the link that has it.
        accepted: those of them that a person has accepted.
        no: edges that were turned down, by a person or by a vote, each with the refused link.
        rejected: those of them that a person has rejected.
    """

    yes: dict[Edge, CausalLink] = field(default_factory=dict)
    accepted: set[Edge] = field(default_factory=set)
    no: dict[Edge, CausalLink] = field(default_factory=dict)
    rejected: set[Edge] = field(default_factory=set)


def check_match(match: str) -> None:
    """Refuse a way of matching that is none of MATCHES with a `ConfigError`."""
    if match not in MATCHES:
        raise ConfigError(f"expected match to be one of {', '.join(MATCHES)}, got {shown(match)}")


def side_by_side(annotations: Mapping[str, Iterable[Example]]) -> Iterator[dict[str, Example]]:
    """For each example the annotators that have it, in the order of the first annotation, then of the second, ...

    The first annotation is read along, the others wait on disk: memory does not grow with any of them.

    Raises:
        DataError: an annotation has an id twice, or an example is not the same text in two annotations.
    """
    first, *others = annotations
    with Shelf() as shelf, SeenKeys() as ids:
        for index, annotator in enumerate(others):
            for example in annotations[annotator]:
                # A pickle of our own, in a file without a name that nobody else can write to.
                if not shelf.put(example.id, index, pickle.dumps(example, pickle.HIGHEST_PROTOCOL)):
                    raise _twice(annotator, example)
        for example in annotations[first]:
            if ids.add(example.id) is not None:
                raise _twice(first, example)
            yield _entry({first: example}, others, shelf.take(example.id))
        for values in shelf.take_all():
            yield _entry({}, others, values)


def _entry(entry: dict[str, Example], names: Sequence[str], values: list[tuple[int, bytes]]) -> dict[str, Example]:
    for index, value in values:
        example: Example = pickle.loads(value)
        if entry:
            _check_same_text(*next(iter(entry.items())), names[index], example)
        entry[names[index]] = example
    return entry


def _twice(annotator: str, example: Example) -> DataError:
    return DataError(f"{annotator}: the id {shown(example.id)} stands there twice; give each example its own")


def ballots(entry: Mapping[str, Example], match: str = "exact") -> dict[str, Ballot]:
    """What each annotator of one example says, with spans that match made the same.

    An annotator that failed on the example, so that it has no links and the reason why, says nothing and is left out.
    """
    said = {annotator: _ballot(example) for annotator, example in entry.items() if not has_failed(example)}
    if match == "overlap":
        stand_in = _stand_ins(next(iter(entry.values())), said.values())
        said = {annotator: _moved(ballot, stand_in) for annotator, ballot in said.items()}
    return said


def is_before(cause: Place, effect: Place) -> bool:
    """Whether the one can be a cause of the other: it starts before the other ends, and is not the other."""
    return cause[:2] < (effect[0], effect[2]) and cause != effect


def unnamed_words(texts: Sequence[str], named: Iterable[Place]) -> list[tuple[int, int]]:
    """Field and start of each word that touches none of the places."""
    marked = [bytearray(len(text)) for text in texts]
    for field_number, start, end in named:
        marked[field_number][start:end] = b"\1" * (end - start)
    return [
        (number, match.start())
        for number, text in enumerate(texts)
        for match in WORD.finditer(text)
        if marked[number].find(1, match.start(), match.end()) < 0
    ]


def _ballot(example: Example) -> Ballot:
    number = {name: index for index, name in enumerate(example.fields)}
    ballot = Ballot()

    def edges(link: CausalLink) -> Iterator[Edge]:
        effect = number[link.effect.field], link.effect.start, link.effect.end
        for cause in link.causes:
            yield effect, (number[cause.field], cause.start, cause.end)

    for link in example.links:
        for edge in edges(link):
            ballot.yes[edge] = _better(link, ballot.yes.get(edge))
            if link.status == "accepted":
                ballot.accepted.add(edge)
    for refusal in example.refused:
        if refusal.link is None or refusal.reason not in (REJECTED, OUTVOTED):
            continue
        for edge in edges(refusal.link):
            if edge not in ballot.yes:  # a link that was corrected is refused as it was and there as it is
                ballot.no[edge] = refusal.link
                if refusal.reason == REJECTED:
                    ballot.rejected.add(edge)
    return ballot


def has_failed(example: Example) -> bool:
    """Whether an annotator could say nothing about the example."""
    return not example.links and any(entry.reason.startswith(FAILED) for entry in example.refused)


def _better(link: CausalLink, other: CausalLink | None) -> CausalLink:
    """The one that was found with less ado."""
    return link if other is None or link.score > other.score else other


def _stand_ins(example: Example, said: Iterable[Ballot]) -> dict[Place, Place]:
    """For each place the one that stands for it: the one that most annotators name, then the shortest, then the first.

    A place has one stand-in, the first in that order that it overlaps, so that chains of overlaps do not run together.
    """
    times: Counter[Place] = Counter()
    for ballot in said:
        times.update({place for edge in (*ballot.yes, *ballot.no) for place in edge})
    texts = list(example.fields.values())
    words = {place: _words(texts[place[0]], place) for place in times}
    chosen: list[Place] = []
    stand_in: dict[Place, Place] = {}
    for place in sorted(times, key=lambda p: (-times[p], p[2] - p[1], p)):
        alike = next((other for other in chosen if other[0] == place[0] and _alike(words[place], words[other])), None)
        if alike is None:
            chosen.append(place)
        stand_in[place] = alike or place
    return stand_in


def _words(text: str, place: Place) -> frozenset[int]:
    """Where the words start that lie in a place, or the place's part of them."""
    return frozenset(match.start() for match in WORD.finditer(text, place[1], place[2]))


def _alike(one: frozenset[int], other: frozenset[int]) -> bool:
    return bool(one & other) and len(one & other) >= LEAST_OVERLAP * len(one | other)


def _moved(ballot: Ballot, stand_in: Mapping[Place, Place]) -> Ballot:
    """The ballot with each place's stand-in; an edge that would fold up or turn round stays as it is."""

    def moved(edge: Edge) -> Edge:
        effect, cause = stand_in[edge[0]], stand_in[edge[1]]
        return (effect, cause) if is_before(cause, effect) else edge

    result = Ballot()
    for edge, link in ballot.yes.items():
        result.yes[moved(edge)] = _better(link, result.yes.get(moved(edge)))
    result.accepted = set(map(moved, ballot.accepted))
    for edge, link in ballot.no.items():
        if moved(edge) not in result.yes:
            result.no[moved(edge)] = link
            if edge in ballot.rejected:
                result.rejected.add(moved(edge))
    return result


def _check_same_text(first: str, one: Example, second: str, other: Example) -> None:
    same_roles = [turn.role for turn in one.messages] == [turn.role for turn in other.messages]
    if one.fields == other.fields and same_roles:
        return
    where = f"example {shown(one.id)} is not the same in {first} and in {second}"
    advice = "join annotations of one and the same file, or give different examples different ids"
    if list(one.fields) != list(other.fields) or not same_roles:
        raise DataError(f"{where}: one has {_shape(one)}, the other {_shape(other)}; {advice}")
    name = next(name for name, text in one.fields.items() if text != other.fields[name])
    texts: Sequence[str] = (one.fields[name], other.fields[name])
    at = next((i for i, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), min(map(len, texts)))
    start = max(0, at - 10)
    raise DataError(
        f"{where}: {name} differs from character {at} on, {shown(texts[0][start : at + 30])} and "
        f"{shown(texts[1][start : at + 30])}; {advice}"
    )


def _shape(example: Example) -> str:
    roles = [turn.role for turn in example.messages]
    return f"messages of {listed(roles)}" if roles else "prompt and completion"
