"""When a store's file may go: opening one and removing an empty one exclude each other.

Who opens a store holds a shared lock on its folder until it is entered among the owners; who removes one holds the
exclusive lock, and sees all owners that there are. A lock on the folder leaves no file of its own behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without such locks: nothing is removed there
    fcntl = None  # type: ignore[assignment]

_PATIENCE_S = 5.0
"""How long to wait for a lock that is held for milliseconds; only another program could hold it for longer."""


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Nobody removes the store while this lasts."""
    with _locked(path, exclusive=False, patience=_PATIENCE_S):
        yield


@contextmanager
def removing(path: Path) -> Iterator[bool]:
    """Whether nobody opens the store while this lasts."""
    with _locked(path, exclusive=True, patience=0.0) as held:
        yield held


@contextmanager
def _locked(path: Path, exclusive: bool, patience: float) -> Iterator[bool]:
    try:
        handle = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _acquire(handle, exclusive, patience)
    finally:
        os.close(handle)  # gives the lock back


def _acquire(handle: int, exclusive: bool, patience: float) -> bool:
    if fcntl is None:
        return False
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        except OSError:  # a file system that has no locks
            return False
