r"""Where a phrase occurs in the fields of an example: exactly, loosely or, failing that, in much the same words.

The first of these ways that finds anything decides, and gives all of its places:

1. `exact`, as whole words and numbers (score 1).
2. `loose`, as whole words and numbers (score 0.99): equal up to letter case, compatible forms (full width, ligatures,
   composed or not), kinds of quotation mark and dash, invisible format characters, and white space: any run of it is
   one space, and beside a symbol, as in "$ 5" or "3 * 4", none.
3. `exact`, then `loose`, as a part of a word (0.9, 0.89), as "apple" is of "apples"; loosely from 4 characters on.
4. `fuzzy` (`grounding.fuzzy`; score 0.85 to 0.98): the same words in the same order, but for misspelt or inflected
   ones.
5. `exact`, as a number without its sign or its zeros after the point (0.5), as "84" is of "84.0".
6. The same ways for the phrase without Markdown's emphasis, as in "**84** pens": `loose` at best, and 0.02 less.

A number is never found in another one: "5" is not in "15", nor is "5 apples" like "6 apples". And no way cuts what is
one character to a reader: a letter and its accents, a flag, an emoji made of several; nor the command that a phrase
ends with, as "\ne" is of "\neq". Chinese, Japanese, Thai and others write no spaces, so that there a phrase may begin
and end between any two characters.

The text is read once for its word boundaries, and once more, folded, when a phrase is not there exactly.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import itemgetter

from cattune.data.examples import Span
from cattune.grounding.folding import Folded, fold, without_emphasis
from cattune.grounding.fuzzy import WordIndex

Place = tuple[int, int]  # [start, end) in the joined fields

WHOLE, IN_WORD, IN_NUMBER, IN_CHARACTER = range(4)  # what a cut at a position would split

_LOOSE = 0.99
_CUTS_WORD = 0.1  # taken off the score
_NUMBER_PART = 0.5
_LOOSE_PART = 4  # characters
_EMPHASIZED = 0.02  # taken off the score

LONGER = 2
"""A phrase that is so many times as long as the whole text is not searched: white space alone cannot explain it."""

# A sign belongs to its number unless it stands between two operands; a comma groups three digits.
_NUMBER = re.compile(r"(?:(?<![\w)%.])[-\u2212])?(?:\d+(?:,\d{3}(?!\d))*(?:\.\d+)*|(?<!\w)\.\d+)")
_ZEROS = re.compile(r"\.0+(?!\d)")
# Scripts without spaces: Thai, Lao, Burmese, Khmer, hiragana and Han.
_NO_SPACES = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[^\W{_NO_SPACES}]+")
_ENDS_WITH_COMMAND = re.compile(r"\\[A-Za-z]+\Z")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
# Beside combining marks: joiners, skin tones, and the tags that spell a region's flag.
_CONTINUES = re.compile("[\u200c\u200d\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Phrase:
    """A phrase to be found.

    Args:
        text: the phrase.
        quote: a longer stretch of the text around the phrase, which tells which occurrence is meant. It is searched as
            phrases are, and places outside it are left aside, unless the phrase is in none of its places: a quote
            that is wrong costs nothing.
        field: the only field in which it is looked for; None for all.
    """

    text: str
    quote: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The places of a phrase, in reading order, how they were found (`cattune.data.examples.METHODS`), and how well."""

    places: list[Place]
    method: str = "exact"
    score: float = 1.0


class SearchText:
    """The joined fields of one example, and where phrases occur in them.

    Args:
        fields: name and text of each field, in reading order, the completion last (`Example.fields`).

    Attributes:
        joined: the fields, one after the other.
        starts: where in it each field starts.
    """

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._names = list(fields)
        self.starts = list(accumulate((len(text) for text in fields.values()), initial=0))[:-1]
        self.joined = "".join(fields.values())
        self._cuts = _cuts(self.joined)
        for start in self.starts:
            self._cuts[start] = WHOLE  # a token ends with its field
        self._found: dict[tuple[Phrase, bool], Found] = {}

    @cached_property
    def _folded(self) -> Folded:
        return fold(self.joined)

    @cached_property
    def _words(self) -> WordIndex:
        return WordIndex(self._folded.text, [bisect_left(self._folded.starts, start) for start in self.starts[1:]])

    def span(self, place: Place) -> Span:
        """A place as a span of its field."""
        index = self._field(place[0])
        return Span(self._names[index], place[0] - self.starts[index], place[1] - self.starts[index])

    def find(self, phrase: Phrase, is_effect: bool) -> Found:
        """The places of a phrase, each within one field; `Found.places` is empty where there is none.

        Only a phrase across the start of the completion, as "Answer: 8" is when "Answer: " ends the prompt, is cut,
        without white space at its ends: an effect to its part in the completion, a cause to its part in the prompt.
        """
        key = (phrase, is_effect)
        if key not in self._found:
            self._found[key] = self._find(phrase, is_effect)
        return self._found[key]

    def _find(self, phrase: Phrase, is_effect: bool) -> Found:
        if not phrase.text.strip():
            return Found([])
        quotes = next((places for _, _, places in self._ways(phrase.quote) if places), []) if phrase.quote else []
        anywhere: Found | None = None
        for method, score, raw in self._ways(phrase.text):
            places = self._in_one_field([place for place in raw if _is_inside(place, quotes)], phrase, is_effect)
            if places:
                return Found(places, method, score)
            if anywhere is None:
                places = self._in_one_field(raw, phrase, is_effect)
                anywhere = Found(places, method, score) if places else None
            if anywhere is not None and not quotes:
                break
        return anywhere or Found([])

    def _ways(self, phrase: str) -> Iterator[tuple[str, float, list[Place]]]:
        """Method, score and places of each way to find the phrase, in the order of the module's description."""
        if not phrase.strip() or len(phrase) > LONGER * len(self.joined):
            return
        ways = self._ways_of(phrase)
        yield next(ways)  # it finds most phrases, at once
        plain = without_emphasis(phrase)
        for way in ways:
            if way[0] != "fuzzy" or plain == phrase:  # what is like a phrase with its marks is more so without them
                yield way
        if plain != phrase:
            for method, score, places in self._ways_of(plain):
                yield "loose" if method == "exact" else method, score - _EMPHASIZED, places

    def _ways_of(self, phrase: str) -> Iterator[tuple[str, float, list[Place]]]:
        exact = self._by_cut(self._exact(phrase))
        yield "exact", 1.0, exact[WHOLE]
        needle, digits = fold(phrase).text, numbers(phrase)
        loose = self._by_cut(self._loose(needle))
        yield "loose", _LOOSE, self._with_numbers(digits, loose[WHOLE])
        in_words = [self._without_cut_command(needle, found[IN_WORD]) for found in (exact, loose)]
        yield "exact", 1.0 - _CUTS_WORD, in_words[0]
        if len(needle) >= _LOOSE_PART:
            yield "loose", _LOOSE - _CUTS_WORD, self._with_numbers(digits, in_words[1])
        yield self._fuzzy(needle, digits)
        yield "exact", _NUMBER_PART, [place for place in exact[IN_NUMBER] if self._has_value(place)]

    def _by_cut(self, found: Iterable[Place]) -> tuple[list[Place], ...]:
        places: tuple[list[Place], ...] = ([], [], [], [])
        for start, end in found:
            places[max(self._cuts[start], self._cuts[end])].append((start, end))
        return places

    def _without_cut_command(self, needle: str, found: list[Place]) -> list[Place]:
        """The places that end where a word does, if the phrase, which is folded, ends with a command."""
        if not found or not _ENDS_WITH_COMMAND.search(needle):
            return found
        return [place for place in found if self._cuts[place[1]] == WHOLE]

    def _with_numbers(self, digits: list[str], found: list[Place]) -> list[Place]:
        """The places whose numbers are these. Folding makes no digit, and drops none."""
        return [place for place in found if numbers(self.joined[place[0] : place[1]]) == digits] if digits else found

    def _exact(self, phrase: str) -> Iterator[Place]:
        start = self.joined.find(phrase)
        while start >= 0:
            yield start, start + len(phrase)
            start = self.joined.find(phrase, start + 1)

    def _loose(self, needle: str) -> Iterator[Place]:
        """Places in the text whose folded form is `needle`."""
        at = self._folded.text.find(needle) if needle else -1
        while at >= 0:
            place = self._folded.place(at, at + len(needle))
            if place is not None:
                yield place
            at = self._folded.text.find(needle, at + 1)

    def _fuzzy(self, needle: str, digits: list[str]) -> tuple[str, float, list[Place]]:
        found = {}
        for start, end, score in self._words.similar(needle):
            place = self._folded.place(start, end)
            if place is not None:
                found[place] = min(score, _LOOSE - 0.01)
        whole = self._with_numbers(digits, self._by_cut(found)[WHOLE])
        return "fuzzy", min((found[place] for place in whole), default=1.0), whole

    def _has_value(self, place: Place) -> bool:
        """Whether a place that cuts numbers cuts off no more than a sign, which may be a minus, and zeros."""
        start, end = place
        return (self._cuts[start] < IN_NUMBER or self.joined[start - 1] in "-\u2212") and (
            self._cuts[end] < IN_NUMBER or _ZEROS.match(self.joined, end) is not None
        )

    def _in_one_field(self, raw: list[Place], phrase: Phrase, is_effect: bool) -> list[Place]:
        places = []
        completion = self.starts[-1]
        for start, end in raw:
            if start < completion < end:
                start, end = (completion, end) if is_effect else (start, completion)
                part = self.joined[start:end]
                start, end = end - len(part.lstrip()), start + len(part.rstrip())
            if start >= end or self._field(start) != self._field(end - 1):
                continue
            if phrase.field in (None, self._names[self._field(start)]):
                places.append((start, end))
        return places

    def _field(self, position: int) -> int:
        return bisect_left(self.starts, position + 1) - 1


def _is_inside(place: Place, others: list[Place]) -> bool:
    """Whether a place is part of one of others that all go further to the right, each than the one before."""
    at = bisect_right(others, place[0], key=itemgetter(0))
    return at > 0 and place[1] <= others[at - 1][1]


def numbers(text: str) -> list[str]:
    """The numbers of a text, in plain digits, with their signs and without commas that group digits."""
    if text.isascii():
        return [number.replace(",", "") for number in _NUMBER.findall(text)]
    return [
        unicodedata.normalize("NFKC", number).replace(",", "").replace("\u2212", "-")
        for number in _NUMBER.findall(text)
    ]


def _cuts(text: str) -> bytearray:
    """For each position 0..len(text), what a cut there would split: nothing, a word, a number, a composed character."""
    cuts = bytearray(len(text) + 1)
    for pattern, code in ((_WORD, IN_WORD), (_NUMBER, IN_NUMBER)):
        for match in pattern.finditer(text):
            cuts[match.start() + 1 : match.end()] = bytes([code]) * (match.end() - match.start() - 1)
    if not text.isascii():
        _mark_composed(text, cuts)
    cuts[0] = cuts[-1] = WHOLE
    return cuts


def _mark_composed(text: str, cuts: bytearray) -> None:
    in_word = False  # of the character that marks belong to
    for position, character in enumerate(text):
        if not (_CONTINUES.match(character) or unicodedata.category(character)[0] == "M"):
            in_word = _WORD.match(character) is not None
            continue
        if text[position - 1 : position].isspace():
            continue  # it has nothing to belong to
        cuts[position] = IN_CHARACTER
        if character == _JOINER:
            cuts[position + 1] = IN_CHARACTER
        elif in_word and _WORD.match(text, position + 1):
            cuts[position + 1] = IN_WORD
    for match in _FLAG.finditer(text):
        cuts[match.start() + 1] = IN_CHARACTER
