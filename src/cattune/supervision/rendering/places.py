"""Finds where positions of the contents stand in a rendered conversation, whatever the template does with them.

A mark, a character that occurs nowhere, is put at a position of a content, and the conversation is rendered again. If
all of the text but the mark stays as it was, then the mark stands where that position went. If anything else changes,
the mark got the template to do something else (it broke a tag in two, or kept white space from being trimmed), and it
says nothing. So no template is known by name, and no text is searched for a content that may occur in it twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeAlias

Point: TypeAlias = tuple[int, int]
"""A message's index, and a position in its content."""

_TRIES = 16
_PRIVATE = [*range(0xE000, 0xF900), *range(0xF0000, 0xFFFFE)]  # Unicode leaves these characters to whoever uses them


class Places:
    """Where the contents of one rendered conversation stand.

    Args:
        text: the rendered conversation.
        contents: of its messages, in order.
        render: renders the conversation with other contents; None where the template refuses them.
    """

    def __init__(self, text: str, contents: Sequence[str], render: Callable[[list[str]], str | None]) -> None:
        self._text = text
        self._contents = contents
        self._render = render
        used = set(text).union(*contents)
        self._marks = list(islice((mark for mark in map(chr, _PRIVATE) if mark not in used), 2 * len(contents)))

    def find(self, points: Sequence[Point]) -> dict[Point, int]:
        """The text position of each point that has one."""
        points = sorted(set(points))
        if not points:
            return {}
        if len(points) <= len(self._marks):
            found = self._mark(points)
            if found is not None or len(points) == 1:
                return found or {}
        half = len(points) // 2
        return self.find(points[:half]) | self.find(points[half:])

    def whole(self) -> list[tuple[int, int, int] | None]:
        """For each content, (start, end, text_start) of what the text holds of it; None where it was not only trimmed.

        Blank contents, which templates test for, are None.
        """
        inner = [(len(c) - len(c.lstrip()), len(c.rstrip())) for c in self._contents]
        filled = [i for i, (start, end) in enumerate(inner) if start < end]
        # One place tells where a content stands, if all of it stands there; that of the end is hardly ever in a tag.
        shifts: dict[int, int] = {}
        for side in (1, 0):
            missing = [(i, inner[i][side]) for i in filled if i not in shifts]
            shifts |= {i: place - at for (i, at), place in self.find(missing).items()}
        for i in filled:
            if i not in shifts and (shift := self._shift_within(i, *inner[i])) is not None:
                shifts[i] = shift
        kept = {i: shift for i, shift in shifts.items() if self._same(i, *inner[i], shift)}
        outer = [(i, at) for i in kept for at in self._outer(i, *inner[i], kept[i])]
        found = self.find(outer)
        result: list[tuple[int, int, int] | None] = [None] * len(inner)
        for i, shift in kept.items():
            start, end = inner[i]
            size = len(self._contents[i])
            first = 0 if found.get((i, 0)) == shift else start
            last = size if found.get((i, size)) == size + shift else end
            result[i] = (first, last, first + shift)
        return result

    def span(self, index: int, start: int, end: int) -> tuple[int, int]:
        """Where the characters [start, end) of a content stand, outer white space aside; (0, 0) where they do not."""
        content = self._contents[index]
        inner = content[start:end].strip()
        if not inner:
            return 0, 0
        low = start + content[start:end].index(inner)
        high = low + len(inner)
        found = self.find([(index, low), (index, high)])
        if len(found) < 2 or found[index, high] - found[index, low] != high - low:
            return 0, 0
        shift = found[index, low] - low
        return (low + shift, high + shift) if self._same(index, low, high, shift) else (0, 0)

    def _mark(self, points: list[Point]) -> dict[Point, int] | None:
        """The places of all points, or None where their marks change more than they add."""
        marks = dict(zip(self._marks, points, strict=False))
        contents: list[list[str]] = [[] for _ in self._contents]
        done = [0] * len(contents)
        for mark, (index, at) in marks.items():
            contents[index] += [self._contents[index][done[index] : at], mark]
            done[index] = at
        marked = self._render(
            ["".join([*parts, c[at:]]) for parts, c, at in zip(contents, self._contents, done, strict=True)]
        )
        if marked is None:
            return None
        parts = re.split(f"([{''.join(marks)}])", marked)
        if len(parts) != 2 * len(marks) + 1 or "".join(parts[0::2]) != self._text or {*parts[1::2]} != {*marks}:
            return None
        places, position = {}, 0
        for literal, mark in zip(parts[0::2], parts[1::2], strict=False):
            position += len(literal)
            places[marks[mark]] = position
        return places

    def _shift_within(self, index: int, start: int, end: int) -> int | None:
        """Where a content stands whose ends the template looks at, as it looks for a tag; None if it is torn apart."""
        points = [(index, at) for at in range(start + 1, end, max(1, (end - start) // _TRIES))]
        shifts = {place - at for (_, at), place in self.find(points).items()}
        return shifts.pop() if len(shifts) == 1 else None

    def _outer(self, index: int, start: int, end: int, shift: int) -> list[int]:
        """The ends of a content beyond its outer white space, where the text has just as much of it there."""
        size = len(self._contents[index])
        ends = [(0, 0, start), (size, end, size)]
        return [at for at, low, high in ends if low < high and self._same(index, low, high, shift)]

    def _same(self, index: int, start: int, end: int, shift: int) -> bool:
        return start + shift >= 0 and self._text.startswith(self._contents[index][start:end], start + shift)
