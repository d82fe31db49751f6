"""Progress bars on standard error; none where that is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[[str, str, int, int], None]
"""Is told (bar, what is going on, done, how many in all); a bar appears when it is first told of."""


@contextmanager
def progress_bars() -> Iterator[Update]:
    """Bars that appear as they are told of, and vanish at the end."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:24}"),
        TextColumn("{task.fields[what]:14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:
        tasks = {}

        def update(bar: str, what: str, done: int, total: int) -> None:
            if bar not in tasks:
                tasks[bar] = bars.add_task(escape(bar), total=total, what=escape(what))
            bars.update(tasks[bar], completed=done, total=total, what=escape(what))

        yield update
