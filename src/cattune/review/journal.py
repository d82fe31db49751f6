"""Edits that are not saved yet, in a file beside the one they belong to.

An edit is appended, and on the disk, before the page is told that it is done, so that neither a crash nor a closed
window loses any. A record holds the whole example as the edit left it and the hash of the example that the file had:
what an edit meant can be read even where the file has since changed. The journal is only ever appended to, until all
that it holds is saved.

An edit that could not be written in full is undone before the page is told. It comes back neither with the
next edit nor after a restart.

While a review runs it holds a lock, so that no second one starts on the same file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from cattune.data.atomic import atomic_file, sync_folder
from cattune.data.examples import Example
from cattune.data.jsonl import parse_line, to_json
from cattune.data.locks import FileLock, Locked, is_at
from cattune.data.records import example_from_dict, example_to_dict
from cattune.errors import DataError, OutputError
from cattune.review.exchange import put_new
from cattune.wording import shown

SUFFIX = ".review-journal"
LOCK_SUFFIX = ".review-lock"
KINDS = ("set", "undo", "redo", "settled")
_VOID = b"#"
"""Written over the first byte of a record that was taken back, where the journal could not be made shorter."""


@dataclass(frozen=True, slots=True)
class Record:
    """One edit, or the note that all edits of an example before it have been dealt with.

    Args:
        kind: one of `KINDS`.
        base: `fingerprint` of what the file had when the edit was made.
        example: what the edit made of it.
    """

    kind: str
    base: int
    example: Example


def fingerprint(example: Example) -> int:
    """Eight bytes that tell what one example holds from what another does."""
    data = to_json(example_to_dict(example), f"example {example.id!r}")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


class Journal:
    """The open journal of one file.

    Attributes:
        path: the journal's file; it is its owner's alone to read.
        torn: whether the last record found by `read` was cut short.
    """

    def __init__(self, target: Path) -> None:
        """Open, or begin, the journal of a file, and lock it.

        Raises:
            OutputError: It cannot be written, or another review holds it.
        """
        self.path = target.with_name(target.name + SUFFIX)
        self.torn = False
        busy = f"{target} is already open in another review; use its page, or stop it (Ctrl-C) and start this again"
        try:
            self._lock = FileLock(target.with_name(target.name + LOCK_SUFFIX), busy)
            try:
                self._open()
            except BaseException:
                self._lock.release()
                raise
        except Locked:
            raise
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise OutputError(
                f"{self.path} cannot be written ({reason}), and edits are kept there until they are saved; copy the "
                "file to a folder of your own, or name one with --out"
            ) from error
        with suppress(OSError):  # a journal that root began is its file's owner's to go on with
            status = os.stat(target)
            os.fchown(self._file.fileno(), status.st_uid, status.st_gid)

    def read(self) -> list[Record]:
        """All edits, oldest first; one that was cut short, by a crash while it was written, was never confirmed.

        Raises:
            DataError: It holds something else.
            OutputError: It cannot be read, or what was cut short cannot be taken out.
        """
        with self._blaming("the edits in it cannot be read"):
            data = self._content()
            whole = data.rfind(b"\n") + 1
            records = list(self._records(data[:whole]))
            self.torn = whole < len(data)
            if self.torn:
                os.ftruncate(self._file.fileno(), whole)
        self._end = whole
        return records

    def append(self, *records: Record) -> None:
        """Write edits and wait until they are on the disk.

        Raises:
            OutputError: They cannot be; the journal is then as it was.
        """
        data = b"".join(to_json(_to_dict(record), str(self.path)) + b"\n" for record in records)
        settling = all(record.kind == "settled" for record in records)
        with self._blaming("the file was not read again" if settling else "the edit was not made"):
            self._see_that_it_is_there()
            os.ftruncate(self._file.fileno(), self._end)  # what could not be taken back before
            try:
                self._put(data)
                os.fsync(self._file.fileno())
            except OSError:
                self._take_back()
                raise
        self._end += len(data)

    def clear(self) -> None:
        """Forget all edits, when they are saved.

        Raises:
            OutputError: That cannot be written; the edits are then there until the next one is appended.
        """
        self._end = 0
        with self._blaming("saved edits are still in it"):
            os.ftruncate(self._file.fileno(), 0)

    def close(self) -> None:
        """Let go of the journal; it is deleted if it holds nothing."""
        with suppress(OSError, ValueError):
            if not os.fstat(self._file.fileno()).st_size and is_at(self.path, self._file.fileno()):
                self.path.unlink()
            self._file.close()
        self._lock.release()

    def _open(self) -> None:
        self._file = _open_private(self.path)
        with suppress(OSError):
            os.fchmod(self._file.fileno(), 0o600)  # one of an earlier release
        self._end = os.fstat(self._file.fileno()).st_size
        sync_folder(self.path.parent)

    def _see_that_it_is_there(self) -> None:
        """Write the journal anew if another program has deleted it; refuse if it has put something in its place."""
        if is_at(self.path, self._file.fileno()):
            return
        if os.path.lexists(self.path):
            raise OutputError(f"{self.path} was replaced by another program; move it away")
        with atomic_file(self.path, like=os.fstat(self._file.fileno()), put=put_new) as write:
            write(self._content()[: self._end])
        old = self._file
        self._open()
        old.close()

    def _content(self) -> bytes:
        self._file.seek(0)
        return self._file.readall()

    def _put(self, data: bytes) -> None:
        self._file.seek(self._end)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) or 0 :]

    def _take_back(self) -> None:
        """Leave nothing of the last record: cut it off, or else make it void."""
        descriptor = self._file.fileno()
        try:
            os.ftruncate(descriptor, self._end)
        except OSError:
            try:
                os.pwrite(descriptor, _VOID, self._end)
            except OSError as error:
                raise OutputError(
                    f"{self.path} can no longer be written ({error.strerror}), and what is in it is uncertain; stop "
                    "the review, see to the disk, and look at the example again. As far as this page goes"
                ) from error
        with suppress(OSError):
            os.fsync(descriptor)

    def _records(self, data: bytes) -> Iterator[Record]:
        for number, line in enumerate(data.splitlines(), start=1):
            if line.startswith(_VOID):
                continue
            where = f"{self.path}, line {number}"
            try:
                record = parse_line(line, where)
                if record.get("kind") not in KINDS or not isinstance(record.get("base"), str):
                    raise DataError(f"{where}: this is no record of a journal of cattune review")
                base = _number(record["base"], where)
                example = example_from_dict(record.get("example", {}), where)
            except DataError as error:
                raise DataError(
                    f"{error}. Unsaved edits are kept in this file; delete the line to go on with the others, or "
                    "rename the file to start without them"
                ) from error
            yield Record(record["kind"], base, example)

    @contextmanager
    def _blaming(self, outcome: str) -> Iterator[None]:
        """Turn what the system says about the journal into an `OutputError` with what that means."""
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror}); {outcome}") from error
        except OutputError as error:
            raise OutputError(f"{error}; {outcome}") from error


def _open_private(path: Path) -> FileIO:
    """Open a file to read and write, without a buffer that could outlive a failure; a new one is its owner's alone."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)

    return open(path, "r+b", buffering=0, opener=opener)


def _to_dict(record: Record) -> dict[str, Any]:
    return {"kind": record.kind, "base": f"{record.base:016x}", "example": example_to_dict(record.example)}


def _number(text: str, where: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise DataError(f"{where}: 'base' must be a hexadecimal number, got {shown(text)}") from None
