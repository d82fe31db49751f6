r"""Which characters a phrase is meant to have, where its model may have written single backslashes into JSON.

`"\frac"` is valid JSON for a form feed and `rac`, `"\times"` for a tab and `imes`, `"C:\new"` for a line break and
`ew`; `"\$5"` is none, and often means `$5`. What is meant is decided by the text that the phrase is copied from: a
phrase that stands there as it is stays. Otherwise a character for which JSON has a short escape is read as backslash
and letter wherever the text has that command, or does not have the character before that word. (A line break may stand
for another white space, as models break lines, but before a word of one or two letters, as in `"\nu"`.) So a command is
found whole or not at all: what is left of it, such as `rac`, is never looked for.
"""

from __future__ import annotations

import re
from functools import cached_property

from cattune.phrase_search import Phrase

_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_ESCAPED = re.compile(r"[\b\f\n\r\t\\]")
_CONTROL = re.compile(r"([\b\f\n\r\t])([A-Za-z]*)")
_SHORT = 2
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD_AFTER_SPACE = re.compile(r"(\s+)([A-Za-z]+)")
_BEFORE_SPACE = re.compile(r"\\(?=\s|$)")
_BEFORE_SIGN = re.compile(r"\\(?=[^\w\s]|_)")


class Escapes:
    """Reads phrases as a text has them.

    Args:
        text: what phrases are copied from.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def meant(self, phrase: Phrase) -> Phrase:
        """The phrase with the backslashes that are meant."""
        quote = phrase.quote and self._meant(phrase.quote)
        return Phrase(self._meant(phrase.text), quote)

    def _meant(self, words: str) -> str:
        if _ESCAPED.search(words) is None or words in self._text:
            return words
        literal = _CONTROL.sub(self._reading, words)
        others = (
            _BEFORE_SPACE.sub(r"\\\\", literal),  # the line break of LaTeX, written with its two backslashes
            literal.replace("\\\\", "\\"),  # escaped twice
            _BEFORE_SIGN.sub("", literal),  # a sign that is escaped as JavaScript and Markdown do
        )
        return next((reading for reading in (literal, *others) if reading in self._text), literal)

    def _reading(self, match: re.Match[str]) -> str:
        space, word = match.groups()
        command = f"\\{_LETTERS[space]}{word}"
        if not word:
            return space if space in "\n\r\t" else command  # form feeds and backspaces are copied exactly, or not meant
        is_there = (space, word.casefold()) in self._words
        return match[0] if is_there and command not in self._commands else command

    @cached_property
    def _commands(self) -> set[str]:
        return set(_COMMAND.findall(self._text))

    @cached_property
    def _words(self) -> set[tuple[str, str]]:
        """The words that stand after white space, with each character that this may be, in lower case."""
        words = set()
        for spaces, word in _WORD_AFTER_SPACE.findall(self._text):
            words |= {(space, word.casefold()) for space in (spaces if len(word) <= _SHORT else f"{spaces}\n")}
        return words
