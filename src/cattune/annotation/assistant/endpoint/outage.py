"""That a server has stopped answering, as in a restart, and that it answers again: each is told once."""

from __future__ import annotations

from collections.abc import Callable

TOLD_AFTER = 3
"""So many tries in a row, of whichever requests, fail before that is worth a line: one alone is sent again silently."""


class Outage:
    """Watches what becomes of tries.

    Args:
        tell: is told what the user should know, in a sentence.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._was_there = False
        self._failed = 0

    def failed(self, why: str) -> None:
        """A try got no answer."""
        self._failed += 1
        if self._was_there and self._failed == TOLD_AFTER:
            self._tell(f"the assistant has stopped answering ({why}); trying again")

    def answered(self) -> None:
        """A try was answered."""
        if self._was_there and self._failed >= TOLD_AFTER:
            self._tell("the assistant answers again")
        self._was_there, self._failed = True, 0
