"""Text without the differences that do not matter when a phrase is looked for, with the way back to its positions.

Folding drops letter case, compatible forms (full width, ligatures, composed or decomposed letters), kinds of quotation
mark, dash, multiplication and division sign, and invisible format characters. White space stays, as one space, only
between two letters or digits. A character that would become a digit, as the superscript in "m²" or "½" would, stays.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

_SAME = {
    variant: plain
    for plain, variants in {
        "'": "\u2018\u2019\u201a\u201b\u2032\u02bc\u0060\u00b4",
        '"': "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb",
        "-": "\u2010\u2011\u2012\u2013\u2014\u2015\u2212",
        "*": "\u00d7\u2715",
        "/": "\u00f7",
    }.items()
    for variant in variants
}

_CONTINUES = frozenset(map(chr, (*range(0xFE00, 0xFE10), 0x200C, 0x200D)))
"""Variation selectors and joiners: they belong to the character before them, and are not seen."""


_EMPHASIS = re.compile(r"(?<!\w)(([*_`~])\2{0,2})(?!\s|\2)((?:(?!\2).)+)(?<!\s)\1(?!\w)", re.DOTALL)
_MOST_NESTED = 3


class Folded(NamedTuple):
    """A folded text and where each of its characters comes from.

    Args:
        text: the folded text.
        starts: for each of its characters, where the character that it comes from starts.
        ends: and where that ends, in code points of the original; neither is ever descending.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def place(self, start: int, end: int) -> tuple[int, int] | None:
        """The original of the folded characters [start, end), or None where that would cut a character."""
        starts = self.starts
        if start and starts[start] == starts[start - 1] or end < len(starts) and starts[end] == starts[end - 1]:
            return None
        return starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """Fold a text, in one pass."""
    letters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    after_word = False
    space: tuple[int, int] | None = None  # white space after a letter or digit, kept if another one follows
    for position, character in enumerate(text):
        form, is_word = _folded(character)
        if form == " ":
            if after_word:
                space = (space[0] if space else position, position + 1)
            continue
        if not form:
            if ends and not space and character in _CONTINUES:
                ends[-1] = position + 1
            continue
        if space and is_word:
            letters.append(" ")
            starts.append(space[0])
            ends.append(space[1])
        space = None
        after_word = is_word
        for letter in form:
            letters.append(letter)
            starts.append(position)
            ends.append(position + 1)
    return Folded("".join(letters), starts, ends)


def without_emphasis(text: str) -> str:
    """A text without Markdown's marks around words: "4 pens" for "**4** _pens_". Those inside a word stay: "2*3*4"."""
    for _ in range(_MOST_NESTED):
        text = _EMPHASIS.sub(r"\3", text)
    return text


@lru_cache(maxsize=1 << 14)
def _folded(character: str) -> tuple[str, bool]:
    """What a character becomes, a space for white space, nothing for an invisible one, and whether words are of it."""
    if character.isspace():
        return " ", False
    if character in _CONTINUES or unicodedata.category(character) == "Cf":
        return "", False
    form = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", _SAME.get(character, character)).casefold())
    if " " in form or (any(map(str.isdecimal, form)) and not character.isdecimal()):
        form = character
    form = "".join(_SAME.get(letter, letter) for letter in form)
    return form, form[-1].isalnum() or form[-1] == "_" or unicodedata.category(form[-1])[0] == "M"
