"""Edits that are not saved yet, in a file beside the one they belong to.

An edit is appended, and on the disk, before the page is told that it is done, so that neither a crash nor a closed
window loses any. A record holds the whole example as the edit left it and the hash of the line that it came from: what
an edit meant can be read even where the file has since changed.

While a review runs it holds a lock on its journal, so that no second one starts on the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cattune.errors import DataError, OutputError
from cattune.examples import Example
from cattune.io import parse_line, to_json
from cattune.records import example_from_dict, example_to_dict

SUFFIX = ".review-journal"
KINDS = ("set", "undo", "redo")


@dataclass(frozen=True, slots=True)
class Record:
    """One edit.

    Args:
        kind: one of `KINDS`.
        base: the hash of the example's line in the file, before any edit.
        example: what the edit made of it.
    """

    kind: str
    base: int
    example: Example


class Journal:
    """The open journal of one file."""

    def __init__(self, target: Path) -> None:
        """Open, or begin, the journal of a file, and lock it.

        Raises:
            OutputError: It cannot be written, or another review holds it.
        """
        self.path = target.with_name(target.name + SUFFIX)
        try:
            self._file: BinaryIO = self.path.open("a+b")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OutputError(
                f"{self.path} cannot be written ({reason}), and edits are kept there until they are saved; copy the "
                "file to a folder of your own, or name one with --out"
            ) from error
        if not _lock(self._file):
            self._file.close()
            raise OutputError(
                f"{target} is already open in another review; use its page, or stop it (Ctrl-C) and start this again"
            )

    def read(self) -> list[Record]:
        """All edits, oldest first; one that was cut short, by a crash while it was written, was never confirmed.

        Raises:
            DataError: It holds something else.
        """
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            self._cut(whole)
        return list(self._records(data[:whole]))

    def append(self, record: Record) -> None:
        """Write an edit and wait until it is on the disk.

        Raises:
            OutputError: It cannot be; the journal is then as it was.
        """
        self._write([record])

    def clear(self, records: Iterable[Record] = ()) -> None:
        """Forget all edits but these."""
        self._cut(0)
        self._write(records)

    def close(self) -> None:
        """Let go of the journal; it is deleted if it holds nothing."""
        with suppress(OSError, ValueError):
            self._file.seek(0, os.SEEK_END)
            if not self._file.tell():
                self.path.unlink()
            self._file.close()

    def _records(self, data: bytes) -> Iterator[Record]:
        for number, line in enumerate(data.splitlines(), start=1):
            where = f"{self.path}, line {number}"
            record = parse_line(line, where)
            if record.get("kind") not in KINDS or not isinstance(record.get("base"), str):
                raise DataError(f"{where}: this is no journal of cattune review; rename the file and start again")
            try:
                base = int(record["base"], 16)
            except ValueError:
                raise DataError(f"{where}: 'base' must be a hexadecimal number, got {record['base']!r}") from None
            yield Record(record["kind"], base, example_from_dict(record.get("example", {}), where))

    def _write(self, records: Iterable[Record]) -> None:
        data = b"".join(to_json(_to_dict(record), str(self.path)) + b"\n" for record in records)
        if not data:
            return
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._cut(end)
            raise OutputError(f"{self.path} cannot be written ({error.strerror}); the edit was not made") from error

    def _cut(self, size: int) -> None:
        self._file.seek(size)
        self._file.truncate()
        self._file.flush()


def _to_dict(record: Record) -> dict[str, Any]:
    return {"kind": record.kind, "base": f"{record.base:016x}", "example": example_to_dict(record.example)}


def _lock(file: BinaryIO) -> bool:
    """Whether the file is now this process's alone; where the system has no such locks, it always is."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
