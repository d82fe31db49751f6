"""Whether a request waits for its turn at the server, or hangs.

What a server has not yet begun is silent, and so is what it will never answer. Servers answer in about the order in
which they are asked, so a request's silence counts from the last end of another one, as long as that one may have been
before it in the queue: `PASSED_BY` times as many may as were under way when it was sent. A request that is given up may
have been in the way, too, but that may also be the server that hangs: it counts once, until there is another sign of
life. A server that takes long for every answer is given longer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

TIMES_THE_USUAL = 4.0
"""A request is not given up before it took so many times as long as the last answers did: twice for as many more
requests that are under way by now, and twice for a longer reply."""

PASSED_BY = 2
"""One for those that were there before, and one for a server that does not keep the order."""

LOOKED_AT_S = 1.0
"""The longest time between two looks at what is under way."""


class Waiting:
    """A request that is under way.

    Args:
        patience: what watches it.
        since: from when its silence counts.
        before: so many others may end before its turn comes.
        timer: ends it.
    """

    def __init__(self, patience: Patience, since: float, before: int, timer: asyncio.Timeout) -> None:
        self._patience = patience
        self.since = since
        self.before = before
        self.timer = timer

    def heard(self) -> None:
        """The server has shown a sign of life about this request."""
        self._patience.heard(self)


class Patience:
    """Ends requests that hang.

    Args:
        timeout_s: how long a server may be silent about a request that is in nobody's queue.
        usual_s: tells how long answers have taken lately; 0 where that is not known.
        clock: seconds.
    """

    def __init__(
        self, timeout_s: float, usual_s: Callable[[], float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout_s = timeout_s
        self._usual_s = usual_s
        self._clock = clock
        self._under_way: list[Waiting] = []
        self._was_excused = False
        self._next_look: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Waiting]:
        """A block that waits for the answer to one request.

        Raises:
            TimeoutError: the server was silent for too long.
        """
        async with asyncio.timeout(None) as timer:
            waiting = Waiting(self, self._clock(), PASSED_BY * len(self._under_way), timer)
            self._under_way.append(waiting)
            self._look_later()
            try:
                yield waiting
            finally:
                self._under_way.remove(waiting)
                if not timer.expired():
                    self.heard(waiting)
                    for other in self._under_way:
                        other.before -= 1
                elif not self._was_excused:
                    self._was_excused = True
                    self._count_anew(self._under_way)

    def heard(self, waiting: Waiting) -> None:
        """The server works: others may be waiting for it to be done with this one."""
        self._was_excused = False
        self._count_anew(other for other in self._under_way if other is waiting or other.before > 0)

    def overdue(self) -> list[Waiting]:
        """What has been silent for too long."""
        longest = max(self._timeout_s, TIMES_THE_USUAL * self._usual_s())
        now = self._clock()
        return [waiting for waiting in self._under_way if now - waiting.since >= longest]

    def _count_anew(self, silences: Iterable[Waiting]) -> None:
        now = self._clock()
        for waiting in silences:
            waiting.since = now

    def _look_later(self) -> None:
        if self._next_look is None:
            wait = min(LOOKED_AT_S, self._timeout_s / 8)
            self._next_look = asyncio.get_running_loop().call_later(wait, self.look)

    def look(self) -> None:
        """End what has been silent for too long."""
        self._next_look = None
        overdue = self.overdue()
        for waiting in overdue if self._was_excused else overdue[:1]:  # its end may excuse the others
            waiting.timer.reschedule(asyncio.get_running_loop().time())
        if self._under_way:
            self._look_later()
