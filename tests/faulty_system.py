"""A system that fails, kills and interferes at a chosen step, for the review page's files.

Only the doors through which `cattune.review` and `cattune.data` write are replaced: what opens a file to write, and
`os.fsync`, `os.ftruncate`, `os.pwrite`, `os.link`, `os.unlink`, `os.replace` and the exchange of two names.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

KINDS = (
    "none",
    "fails",
    "fails when done",
    "full disk",
    "broken disk",
    "never shorter",
    "killed before",
    "killed after",
    "interference",
)
"""What happens at the step: nothing; an error, or one after the work was done; errors from then on, on a full disk
(which can still make files shorter and delete them) or a broken one; an error on a system where no file can be made
shorter; kill -9; another program's work."""
_NEEDS_ROOM = ("write", "fsync", "link", "pwrite", "open")


class Killed(BaseException):
    """The process is no more; whatever it does afterwards has no effect."""


def kill(document: Any) -> None:
    """Leave a document as kill -9 does: the system closes its files, and nothing else is done."""
    document.source.close()
    document.journal._file.close()
    descriptor, document.journal._lock._descriptor = document.journal._lock._descriptor, None
    os.close(descriptor)


class Faults:
    """One fault at one step."""

    def __init__(self, kind: str = "none", step: int = 0, interfere: Callable[[], None] = lambda: None) -> None:
        self.kind, self.step, self.interfere = kind, step, interfere
        self.steps = 0
        self.dead = False
        self.happened = False
        self.where = ""

    def do(self, name: str, work: Callable[[], Any], part: Callable[[], Any] = lambda: None) -> Any:
        """Do one step, or what the fault makes of it; `part` is a part of the work, which a failure may leave."""
        if self.dead:
            raise Killed
        here, after = self.steps == self.step, self.steps > self.step
        self.steps += 1
        if here and self.kind != "none":
            self.happened, self.where = True, name
        if here and self.kind == "killed before":
            part()
            self.dead = True
            raise Killed
        broken = (here or after) and self.kind == "broken disk"
        stuck = self.kind == "never shorter" and (here or (name == "ftruncate" and after))
        if (here and self.kind == "fails") or broken or stuck:
            part()
            raise OSError(errno.EIO, "Input/output error")
        if (here or after) and self.kind == "full disk" and name in _NEEDS_ROOM:
            part()
            raise OSError(errno.ENOSPC, "No space left on device")
        if here and self.kind == "interference":
            self.interfere()
        result = work()
        if here and self.kind == "killed after":
            self.dead = True
            raise Killed
        if here and self.kind == "fails when done":
            raise OSError(errno.EIO, "Input/output error")
        return result

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Stand between the library and the system for a while."""
        from cattune.review import exchange

        faults, swap = self, exchange.swap

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                size = len(data)
                whole, half = super().write, bytes(data)[: size // 2]
                return int(faults.do("write", lambda: whole(data), lambda: whole(half)))

        def create(path: Path, mode: int) -> Any:
            return io.BufferedWriter(faults.do("open", lambda: Raw(path, "xb", opener=_with(0, mode))))

        def open_private(path: Path) -> Any:
            return faults.do("open", lambda: Raw(path, "r+b", opener=_with(os.O_CREAT, 0o600)))

        doors: dict[str, Callable[..., Any]] = {
            "cattune.data.atomic.create": create,
            "cattune.review.journal._open_private": open_private,
            "cattune.review.exchange.swap": lambda *names: faults.do("swap", lambda: swap(*names)),
        }
        for name in ("fsync", "ftruncate", "pwrite", "link", "unlink", "replace"):
            doors[f"os.{name}"] = self._door(name, getattr(os, name))
        patches = [patch(name, door) for name, door in doors.items()]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()

    def _door(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *words, **others: self.do(name, lambda: work(*words, **others))


def _with(more: int, mode: int) -> Callable[[str, int], int]:
    return lambda path, flags: os.open(path, flags | more, mode)
