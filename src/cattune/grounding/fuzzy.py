"""Phrases that stand in a text in almost the same words.

A place agrees with a phrase when their words are the same in the same order, but for the articles a, an and the,
punctuation, and words that are spelt or inflected differently: of four letters or more, with the same first letter, and
82% similar (rapidfuzz's `ratio`: twice the letters in common, over the letters of both). Numbers and symbols must be
equal, and a word that one side lacks, such as "not" or a name, makes another phrase. What agrees must be 85% similar
as a whole. This is strict on purpose: a phrase that is not found is reported, one that is found in the wrong
place trains the wrong thing.

Both sides are folded (`grounding.folding`). Only words of the text that begin like one of the phrase are compared, and
only places of the phrase's rarest word are looked at, the first `MAX_PLACES` of them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

from rapidfuzz import fuzz, process

MIN_SCORE = 0.85
MAX_PLACES = 200
NEARLY = 0.03
"""Places whose score is within this of the best one's are all given."""

_WORD_SCORE = 82.0
_WORD_LENGTH = 4
_ALTERNATIVES = 16  # of one word

# Numbers with their commas and points, words with their accents and inner apostrophes, or one symbol.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w(?:[\w\u0300-\u036f]|'(?=\w))*|[^\w\s]")
_SKIPPED = frozenset(("a", "an", "the", *".,;:!?\"'()[]{}"))
_HYPHEN = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")


class _Token(NamedTuple):
    text: str
    start: int
    end: int


class WordIndex:
    """The words of a folded text.

    Args:
        text: the text.
        breaks: ascending positions at which no word goes on, such as where a field ends.
    """

    def __init__(self, text: str, breaks: list[int]) -> None:
        self._text = text
        self._tokens: list[_Token] = []
        for start, end in pairwise((0, *breaks, len(text))):
            self._tokens += _tokens(text, start, end)
        self._places: dict[str, list[int]] = defaultdict(list)
        self._by_letter: dict[str, list[str]] = defaultdict(list)
        for index, token in enumerate(self._tokens):
            if token.text not in self._places and _may_vary(token.text):
                self._by_letter[token.text[0]].append(token.text)
            self._places[token.text].append(index)
        self._variants: dict[str, list[str]] = {}

    def similar(self, phrase: str) -> list[tuple[int, int, float]]:
        """The places that agree with a folded phrase about as well as the best does, in reading order.

        Returns:
            Start, end and score of each; the score is from `MIN_SCORE` to 1.
        """
        tokens = _tokens(phrase, 0, len(phrase))
        choices = []
        for token in tokens:
            choices.append(self._like(token.text))
            if not choices[-1]:
                return []
        if not choices:
            return []
        counts = [sum(len(self._places[word]) for word in choice) for choice in choices]
        rarest = counts.index(min(counts))
        anchors = sorted(index - rarest for word in choices[rarest] for index in self._places[word])
        found = []
        for first in anchors[:MAX_PLACES]:
            last = first + len(tokens) - 1
            if first < 0 or last >= len(self._tokens):
                continue
            if any(self._tokens[first + i].text not in choice for i, choice in enumerate(choices)):
                continue
            start, end = self._tokens[first].start, self._tokens[last].end
            if self._follows(start, phrase[: tokens[0].start]):
                start -= tokens[0].start  # the phrase's article or quotation mark is there too
            score = fuzz.ratio(phrase, self._text[start:end], score_cutoff=100 * MIN_SCORE) / 100
            if score:
                found.append((start, end, score))
        best = max((score for _, _, score in found), default=0.0)
        return [place for place in found if place[2] >= best - NEARLY]

    def _follows(self, position: int, words: str) -> bool:
        """Whether some words, as they are, end at a position of the text and begin no later than a word does."""
        return self._text[:position].endswith(words) and not self._text[: position - len(words)][-1:].isalnum()

    def _like(self, word: str) -> list[str]:
        """The words of the text that may stand for a word: itself, if it is there, and its variants."""
        if word not in self._variants:
            same = [word] if word in self._places else []
            if _may_vary(word) and word[0] in self._by_letter:
                near = process.extract(
                    word,
                    self._by_letter[word[0]],
                    scorer=fuzz.ratio,
                    score_cutoff=_WORD_SCORE,
                    limit=_ALTERNATIVES,
                )
                same += [text for text, _, _ in near if text != word]
            self._variants[word] = same
        return self._variants[word]


def _tokens(text: str, start: int, end: int) -> list[_Token]:
    """What must agree, of text[start:end]: numbers, words and symbols, without what may be left out."""
    tokens = []
    for match in _TOKEN.finditer(text, start, end):
        word = match.group()
        if word in _SKIPPED or (word == "-" and _HYPHEN.match(text, match.start())):
            continue
        tokens.append(_Token(word.replace(",", "") if word[0].isdecimal() else word, match.start(), match.end()))
    return tokens


def _may_vary(word: str) -> bool:
    return len(word) >= _WORD_LENGTH and not any(map(str.isdecimal, word))
