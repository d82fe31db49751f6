"""What one example has been, for undo and redo."""

from __future__ import annotations

from dataclasses import dataclass

from cattune.data.examples import Example
from cattune.review.journal import Record

_STEPS = {"undo": -1, "redo": 1}


@dataclass(slots=True)
class History:
    """What one example has been.

    Args:
        states: oldest first.
        saved: what the file has.
        version: grows with every step, undo and redo included.
        at: which of the states it is now.
    """

    states: list[Example]
    saved: Example
    version: int = 0
    at: int = 0

    @property
    def now(self) -> Example:
        """The example as it is."""
        return self.states[self.at]

    def has(self, by: int) -> bool:
        """Whether one can go that many states on, or back."""
        return 0 <= self.at + by < len(self.states)

    def push(self, example: Example) -> None:
        """A new state; what had been undone is forgotten."""
        del self.states[self.at + 1 :]
        self.states.append(example)
        self.go(1)

    def go(self, by: int) -> None:
        """Go on or back."""
        self.at += by
        self.version += 1

    def replay(self, record: Record) -> None:
        """Make an edit of a journal again; an undo past the journal's beginning becomes a new state."""
        by = _STEPS.get(record.kind, 0)
        if by and self.has(by) and self.states[self.at + by] == record.example:
            self.go(by)
        else:
            self.push(record.example)
