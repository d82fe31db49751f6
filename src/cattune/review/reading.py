"""Reading a file for review, and what has to be in order before one is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cattune.errors import ConfigError, OutputError
from cattune.review.index import Index
from cattune.review.source import Source

Progress = Callable[[int, int], None]
"""Is told how many bytes have been read, and of how many."""


def read_source(path: Path, target: Path, progress: Progress | None = None) -> tuple[Source, Index]:
    """Read a file that will be saved to `target`.

    Raises:
        DataError: The file is not in order.
        ConfigError: It would be saved to itself, in another format.
    """
    source, index = Source(path), Index()
    try:
        for example, place in source.scan(native_only=target == path):
            index.add(example)
            if progress is not None and not len(index) % 500:
                progress(place, source.size)
        index.seal()
    except BaseException:
        source.close()
        raise
    return source, index


def check_new_target(target: Path, advice: str) -> None:
    """Refuse a file to save to that is there already, or that would be packed; `advice` is for the former."""
    if target.suffix == ".gz":
        raise ConfigError(f"{target}: expected a name without .gz; edits are written to places in the file")
    if os.path.lexists(target):
        raise OutputError(f"{target} already exists; {advice}")
