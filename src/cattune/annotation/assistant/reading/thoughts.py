"""What a reply says once its model has done thinking.

A reasoning model may draft, sketch and reject JSON before it answers, so only what follows the last end of thought
counts. The opening tag may be missing, since many chat templates write it into the prompt; prose may stand before it.
A tag inside a string of the answer is a phrase of a text about such tags, and ends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

from cattune.annotation.assistant.reading.loose_json import Found, find_objects

ThoughtTags: TypeAlias = "tuple[str, str]"
"""How a model opens and closes its thoughts."""

IsAnswer: TypeAlias = "Callable[[dict[str, Any]], bool]"
"""Whether an object is the answer that was asked for."""

MOST_TRIES = 20
"""So many objects around tags are looked at, each in time linear in the reply; then each tag is taken for one."""

_PAIRS: tuple[ThoughtTags, ...] = (
    ("<|channel>", "<channel|>"),  # Gemma 4
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("[unused16]", "[unused17]"),  # Pangu
    ("[THINK]", "[/THINK]"),  # Magistral
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    ("Here's my thought process:", "Here's my response:"),
)
# Others write a word in angle brackets: <think>, <seed:think>, <longcat_think>, <|START_THINKING|>, <|end_of_thought|>.
_WORDS = ("think", "thought", "reason", "analysis", "reflection", "scratchpad", "monologue")
_NAME = rf"(?:\w{{1,20}}:)?\w{{0,20}}(?:{'|'.join(_WORDS)})(?:ing|s)?"
_CLOSES = rf"(?:[<◁]|&lt;)[|｜]?\s*(?:/|end[_▁](?:of[_▁])?)\s*{_NAME}\s*[|｜]?(?:[>▷]|&gt;)"
_OPENS = rf"(?:[<◁]|&lt;)[|｜]?\s*(?:(?:begin|start)[_▁](?:of[_▁])?)?{_NAME}(?:\s[^<>]{{0,200}})?[|｜]?(?:[>▷]|&gt;)"
# gpt-oss, with its special tokens and without.
_CHANNEL_CLOSES = r"<\|channel\|>\s*final(?:\s*<\|constrain\|>\s*\w+)?(?:\s*<\|message\|>)?|assistantfinal"
_CHANNEL_OPENS = r"<\|channel\|>\s*(?:analysis|commentary)|\A(?:assistant)?(?-i:analysis(?=[A-Z]|[^\w\s:.,;]))"


def after_thoughts(text: str, is_answer: IsAnswer, tags: ThoughtTags | None = None) -> str | None:
    """What follows the last end of thought; all of it where there is no thought, None where one has no end.

    Args:
        text: the reply, without white space at its ends.
        is_answer: tells the answer, inside which tags are words.
        tags: what else opens and closes a thought.
    """
    marks, hints = _marks(tags)
    lowered = text.casefold()
    if not any(hint in lowered for hint in hints):  # so it is for most replies, and much faster seen
        return text
    answers = _Answers(text, is_answer)
    start, is_open = 0, False
    for mark in marks.finditer(text):
        if answers.hold(mark.start()):
            continue
        is_open = mark.lastgroup == "opens"
        if not is_open:
            start = mark.end()
            answers.skip_to(start)
    return None if is_open else text[start:]


@lru_cache(maxsize=8)
def _marks(tags: ThoughtTags | None) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """The pattern of all marks, and in lower case what a reply that has one has at least one of."""
    pairs = _PAIRS if tags is None else (tags, *_PAIRS)
    closes = "|".join([*(re.escape(pair[1]) for pair in pairs), _CLOSES, _CHANNEL_CLOSES])
    opens = "|".join([*(re.escape(pair[0]) for pair in pairs), _OPENS, _CHANNEL_OPENS])
    hints = (*_WORDS, "channel", "assistantfinal", *(mark.casefold() for pair in pairs for mark in pair))
    return re.compile(f"(?P<closes>{closes})|(?P<opens>{opens})", re.IGNORECASE), hints


class _Answers:
    """Where answers stand in a reply. Positions are asked about in ascending order."""

    def __init__(self, text: str, is_answer: IsAnswer) -> None:
        self._text = text
        self._is_answer = is_answer
        self._tries = MOST_TRIES
        self._next = 0  # no object that begins before is of interest any more
        self._found: Found | None = None
        self._until = 0  # where the last answer that was found ends

    def hold(self, position: int) -> bool:
        """Whether a position is inside an answer."""
        while position >= self._until and self._tries:
            found = self._found or next(find_objects(self._text, self._next), None)
            if found is None:
                self._tries = 0
                break
            self._found = found
            if position < found.start:
                return False
            end = found.start + len(found.text)
            if position >= end:
                self.skip_to(end)
            elif found.value is not None and self._is_answer(found.value):
                self._until = end
            else:  # a sketch, or a brace that nothing closes; the answer may begin inside
                self._tries -= 1
                self.skip_to(found.start + 1)
        return position < self._until

    def skip_to(self, position: int) -> None:
        """Forget the objects that begin before a position."""
        self._next = max(position, self._next)
        if self._found is not None and self._found.start < position:
            self._found = None
