"""What a chat template may take: it is a program that came with a model, and may loop for ever or want all memory.

Its sandbox keeps it from files and from other code, not from that. In the main thread, where data sets are prepared,
renderings are stopped that take too much processor time and, on Linux, too much memory; the clock on the wall does not
count, so that a busy machine leaves out no example. In another thread, and on Windows, only the length of what comes
out is bounded. One built-in operation that looks for no signal is nowhere cut short.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import ClassVar

TICK = 0.5
"""Seconds of the process's time between two looks at how far the templates have come."""

FEW, SLOW_TICKS = 4, 3
"""An example is given up at its third tick before which fewer than four renderings began; sound ones are thousands."""

MEMORY, MEMORY_EACH = 256 << 20, 32
"""Bytes that renderings may take beyond what the process has, and more for each character of an example."""

LONGEST = 1 << 20
"""Characters that a template may write on its own; beyond, eight for each that it is given."""


class Exceeded(Exception):
    """A template took more than it may."""


class _Stop(BaseException):
    """Ends a rendering; no `except Exception` of a library takes it for an error of its own."""


class Bounds:
    """Bounds the renderings that are made through `run`; entered once for many, since looking at the memory takes time.

    The timer of the process's own time and the limit of its data segment are used, and given back.
    """

    _watching: ClassVar[Bounds | None] = None

    def __init__(self) -> None:
        self._begun = self._seen = self._slow = self._size = self._written = 0
        self._inside = False
        self._memory: tuple[int, int] | None = None

    def __enter__(self) -> Bounds:
        if threading.current_thread() is threading.main_thread():
            self._watch()
            self._memory = _data_limit()
            self._limit_memory()
        return self

    def __exit__(self, *_: object) -> None:
        if Bounds._watching is self:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            Bounds._watching = None
        if self._memory is not None:
            _limit_data(*self._memory)

    def next_example(self, size: int) -> None:
        """Begin another example, of so many characters, with all its time before it."""
        self._slow = 0
        if size > LONGEST or self._size > LONGEST:
            self._size = size
            self._limit_memory()

    def run(self, render: Callable[[], str], given: Callable[[], int]) -> str:
        """What `render` gives.

        Args:
            render: calls the template.
            given: how many characters the template is given; asked where it writes many.

        Raises:
            Exceeded: it takes too long, too much memory, or writes too much.
        """
        why = f"it takes more than {TICK * (SLOW_TICKS - 1):g} s of processor time"
        if self._slow < SLOW_TICKS:
            self._begun += 1
            try:
                try:
                    self._inside = True
                    text = render()
                finally:
                    self._inside = False
                self._written += len(text)
                if len(text) <= LONGEST or len(text) <= LONGEST + 8 * given():
                    if self._written > MEMORY // MEMORY_EACH:  # what others wrote is not the next one's to answer for
                        self._limit_memory()
                    return text
                why = f"it writes {len(text):,} characters"
            except _Stop:
                pass
            except MemoryError:
                why = f"it takes more than {self._room() >> 20} MB of memory"
        raise Exceeded(why)  # out here, where it keeps no frame alive, and nothing of what that holds

    def _watch(self) -> None:
        if not hasattr(signal, "setitimer") or Bounds._watching is not None:
            return
        if signal.getsignal(signal.SIGVTALRM) is signal.SIG_DFL:
            # It stays: a late signal, which another thread may still have before it, would end the process else.
            signal.signal(signal.SIGVTALRM, _tick)
        if signal.getsignal(signal.SIGVTALRM) is _tick:  # or else the timer is somebody else's
            Bounds._watching = self
            signal.setitimer(signal.ITIMER_VIRTUAL, TICK, TICK)

    def _limit_memory(self) -> None:
        self._written = 0
        if self._memory is not None:
            soft, hard = self._memory
            most = _data_held() + self._room()
            _limit_data(most if soft < 0 else min(most, soft), hard)  # -1 is no limit

    def _room(self) -> int:
        return MEMORY + MEMORY_EACH * self._size

    def tick(self) -> None:
        """Look how far the templates have come, and stop the one that is at work if they have not."""
        self._slow += self._inside and self._begun - self._seen < FEW
        self._seen = self._begun
        if self._inside and self._slow >= SLOW_TICKS:
            self._inside = False
            raise _Stop


def _tick(_number: int, _frame: FrameType | None) -> None:
    if Bounds._watching is not None:
        Bounds._watching.tick()


def _data_limit() -> tuple[int, int] | None:
    """The limit of the data segment, soft and hard; None where the system does not keep to it or tell its size."""
    if not os.path.exists("/proc/self/statm"):
        return None
    import resource

    return resource.getrlimit(resource.RLIMIT_DATA)


def _limit_data(soft: int, hard: int) -> None:
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_DATA, (soft if hard < 0 else min(soft, hard), hard))
    except (OSError, ValueError):
        return  # a sandbox that allows no limits: then there is none


def _data_held() -> int:
    """Bytes of the data segment and the stack (proc(5))."""
    import resource

    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[5]) * resource.getpagesize()
