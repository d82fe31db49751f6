"""What a command is doing, on standard error: bars in a terminal; elsewhere, such as in a log file, a line a minute.

A command that is done within `FIRST_LINE_S` writes no line. The time left is said in one way everywhere, and not before
it is known: how fast work goes is measured from the first report on, and what was there already does not count.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

from cattune.cli import printable
from cattune.wording import time_left

T = TypeVar("T")

FIRST_LINE_S, LINE_EVERY_S = 10.0, 60.0
"""Where standard error is no terminal: when the first line comes, and how long after it each other one."""

SHOW_EVERY_S = 0.1
"""How often a bar is updated."""

LEAST_MEASURED_S = 2.0
"""How long work is watched before its speed is believed."""


class Update(Protocol):
    """Is told how far things are; a bar appears when it is first told of."""

    def __call__(
        self, bar: str, what: str, done: float, total: float, free: float = 0, least: float = 1, note: str = ""
    ) -> None:
        """Report.

        Args:
            bar: which bar.
            what: what is going on there.
            done: how much of it is done.
            total: how much there is; 0 where nobody knows.
            free: how much of what is done took no work, such as replies that were stored.
            least: how much has to be worked off before that says how fast it goes: as much as is under way at once.
            note: what else there is to say at this point.
        """


class Pace:
    """How fast work goes, and with it how long the rest takes.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: tuple[str, float, float] | None = None
        self._worked = self._rest = self._free = 0.0
        self._least = 1.0

    def tell(self, what: str, done: float, total: float, free: float = 0, least: float = 1) -> None:
        """How far things are; see `Update`.

        Measured afresh are other work than before, more at once than ever before, and what comes behind that which
        took no work: to read what was stored takes time, too.
        """
        is_other = self._started is None or self._started[0] != what
        was_free = free > self._free and not self._worked
        if is_other or was_free or least > self._least:
            self._started = what, self._clock(), done - free
            self._least = least
        assert self._started is not None
        self._worked, self._rest, self._free = done - free - self._started[2], total - done, free

    @property
    def left(self) -> float | None:
        """The seconds that the rest takes; None where there is none, or too little is done to say."""
        if self._started is None or self._rest <= 0 or self._worked < self._least:
            return None
        seconds = self._clock() - self._started[1]
        return seconds / self._worked * self._rest if seconds >= LEAST_MEASURED_S else None


class _Bar:
    """One bar, as it was last told of."""

    def __init__(self, name: str) -> None:
        self.name = printable(name)
        self.what = ""
        self.note = ""
        self.done = self.total = 0.0
        self.pace = Pace()
        self._since = time.monotonic()

    def tell(self, what: str, done: float, total: float, free: float, least: float, note: str) -> None:
        if printable(what) != self.what:
            self._since = time.monotonic()
        self.what, self.done, self.total, self.note = printable(what), done, total, printable(note)
        self.pace.tell(what, done, total, free, least)

    @property
    def is_open(self) -> bool:
        return self.done < self.total or not self.total

    @property
    def left(self) -> str:
        seconds = self.pace.left
        return "" if seconds is None else time_left(seconds)

    @property
    def line(self) -> str:
        if not self.total:
            return f"{self.name}: {self.what}, for {(time.monotonic() - self._since) / 60:.1f} min so far"
        parts = [f"{self.name}: {int(self.done):,} of {int(self.total):,} ({self.what})", self.note, self.left]
        return ", ".join(filter(None, parts))


class _Clock:
    """When something was last said on standard error beside the bars."""

    last = float("-inf")


def say(text: str) -> None:
    """Write to standard error: above the bars in a terminal, and elsewhere instead of the next line of theirs."""
    _Clock.last = time.monotonic()
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def progress_bars() -> Iterator[Update]:
    """Bars, or lines, that appear when they first get an update; bars vanish at the end."""
    bars: dict[str, _Bar] = {}
    with _drawn(bars) if sys.stderr.isatty() else _written(bars) as show:

        def update(
            bar: str, what: str, done: float, total: float, free: float = 0, least: float = 1, note: str = ""
        ) -> None:
            bars.setdefault(bar, _Bar(bar)).tell(what, done, total, free, least, note)
            show(bars[bar])

        yield update


@contextmanager
def _drawn(bars: dict[str, _Bar]) -> Iterator[Callable[[_Bar], None]]:
    """Draws bars; what others print meanwhile stands above them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:24}", markup=False),
        TextColumn("{task.fields[bar].what:14}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[bar].note}", markup=False),
        TextColumn("{task.fields[bar].left}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        tasks = {}
        shown: dict[str, float] = {}

        def show(bar: _Bar) -> None:
            now = time.monotonic()
            if bar.name not in tasks:
                tasks[bar.name] = drawn.add_task(bar.name, total=None, bar=bar)
            elif bar.is_open and now - shown[bar.name] < SHOW_EVERY_S:
                return
            shown[bar.name] = now
            drawn.update(tasks[bar.name], completed=bar.done, total=bar.total or None)

        yield show


@contextmanager
def _written(bars: dict[str, _Bar]) -> Iterator[Callable[[_Bar], None]]:
    """Writes a line now and then, about the first bar that is not done."""
    over = threading.Event()

    def write() -> None:
        wait = FIRST_LINE_S
        while not over.wait(wait):
            wait = LINE_EVERY_S
            if (silent := time.monotonic() - _Clock.last) < LINE_EVERY_S:
                wait = LINE_EVERY_S - silent
                continue
            bar = next((bar for bar in list(bars.values()) if bar.is_open), None)
            if bar is not None:
                with suppress(OSError, ValueError):  # nobody reads it any more
                    print(bar.line, file=sys.stderr, flush=True)

    thread = threading.Thread(target=write, name="cattune-progress", daemon=True)
    thread.start()
    try:
        yield lambda bar: None
    finally:
        over.set()
        thread.join()


def followed(items: Iterable[T], update: Update, bar: str, what: str, total: int) -> Iterator[T]:
    """The items, while a bar shows how many have been taken."""
    update(bar, what, 0, total)
    for number, item in enumerate(items, start=1):
        yield item
        update(bar, what, number, total)
