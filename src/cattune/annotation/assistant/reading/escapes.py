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

from cattune.grounding.search import LONGER, Phrase

_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
_ESCAPED = re.compile(r"[\b\f\n\r\t\\]")
_CONTROL = re.compile(r"([\b\f\n\r\t])([A-Za-z]*)")
_SHORT = 2
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD_AFTER_SPACE = re.compile(r"(\s+)([A-Za-z]+)")
_BACKSLASHES = re.compile(r"\\+")
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
        if not _ESCAPED.search(phrase.text) and not (phrase.quote and _ESCAPED.search(phrase.quote)):
            return phrase
        return Phrase(self._meant(phrase.text), phrase.quote and self._meant(phrase.quote))

    def _meant(self, words: str) -> str:
        if words in self._text or len(words) > LONGER * len(self._text):
            return words
        literal = _CONTROL.sub(self._reading, words)
        # As many backslashes as the text has: a model may write one for the two of a line break, or four for two.
        parts = _BACKSLASHES.split(literal)
        if all(part in self._text for part in parts):
            found = re.search(r"\\{1,4}".join(map(re.escape, parts)), self._text)
            if found:
                return found[0]
        plain = _BEFORE_SIGN.sub("", literal)  # a sign that is escaped as JavaScript and Markdown do
        return plain if plain in self._text else literal

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
