"""A file of examples, read one at a time, and copied with some of them replaced.

The file stays open, so that what was loaded can still be read and saved elsewhere after another program has put a new
file in its place. Every line is checked against its hash when it is read again: what is shown is what was loaded.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from cattune.data.examples import Example
from cattune.data.jsonl import parse_line
from cattune.data.lines import open_lines, raw_lines, readable, without_mark
from cattune.errors import ConfigError, DataError
from cattune.formats import prompt_completion
from cattune.formats.reader import Ids, Maker, Numbering
from cattune.review.problems import FileChanged


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the system says of a file; where two are equal, the file was most likely not written to in between."""

    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, file: str | os.PathLike[str] | int) -> Stamp:
        """The stamp of a path or an open file."""
        status = os.stat(file)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class Lines:
    """Where each example's line stands in a file, and its hash (8 bytes)."""

    def __init__(self) -> None:
        self.starts = array("q")
        self.sizes = array("q")
        self.hashes = array("Q")

    def __len__(self) -> int:
        return len(self.starts)

    def add(self, start: int, line: bytes) -> None:
        """Note a line that begins at this byte."""
        self.add_known(start, len(line), line_hash(line))

    def add_known(self, start: int, size: int, digest: int) -> None:
        """Note a line whose hash is known."""
        self.starts.append(start)
        self.sizes.append(size)
        self.hashes.append(digest)


def line_hash(line: bytes) -> int:
    """Eight bytes that tell one line from another."""
    return int.from_bytes(hashlib.blake2b(line, digest_size=8).digest())


class Source:
    """An open file of examples.

    Attributes:
        path: the file.
        native: whether it is in this library's schema, so that unchanged lines may be kept as they are.
        lines: where each example stands.
        digest: SHA-256 of the whole file, as it was read.
    """

    def __init__(self, path: Path, at: Path | None = None) -> None:
        """Open a file; `at` is where it stands now if `path` is only going to be its name."""
        self.path = path
        with readable(path):
            self._file: BinaryIO = open_lines(at or path, gzipped=False)  # edits are written to places in the file
        self.lines = Lines()
        self.native = True
        self.digest = ""
        self._stamp = Stamp.of(self._file.fileno())
        if not stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            raise DataError(f"{path} is no regular file; write what it gives to a file first")
        self._make = Maker(Numbering("line", path))
        self._renamed: dict[int, str] = {}
        self._numbers = array("q")

    @property
    def size(self) -> int:
        """Bytes of the file when it was opened."""
        return self._stamp.size

    @property
    def status(self) -> os.stat_result:
        """What the system says of the open file."""
        return os.fstat(self._file.fileno())

    def scan(self, native_only: bool = False) -> Iterator[tuple[Example, int]]:
        """Read the file from its start, once, and give each example with the byte at which its line ends.

        Raises:
            DataError: A record is wrong, or there is none; the message says where and what.
            ConfigError: `native_only`, and a record is not in this library's schema.
        """
        whole = hashlib.sha256()
        place = 0
        with Ids(self._make.numbering) as ids:
            for number, line in raw_lines(self._file, self.path):
                whole.update(line)
                start, place = place, place + len(line)
                if not without_mark(line, number).strip():
                    continue
                index = len(self.lines)
                self.lines.add(start, line)
                self._numbers.append(number)
                example, is_native = self._read(line, number)
                self.native = self.native and is_native
                if native_only and not self.native:
                    raise ConfigError(
                        f"{self.path}, line {number}, is not in cattune's own schema, and saving would change its "
                        "format; name a new file with --out"
                    )
                own = ids.own(example, number, self._make.renames)
                if own is not example:
                    self._renamed[index] = own.id
                yield own, place
        self.digest = whole.hexdigest()
        if not self.lines:
            raise DataError(f"{self.path} is empty; expected one JSON object per line")

    def example(self, index: int) -> Example:
        """Read one example again.

        Raises:
            FileChanged: Its line is not what it was.
        """
        example, _ = self._read(self.line(index), self._numbers[index])
        return replace(example, id=self._renamed[index]) if index in self._renamed else example

    def line(self, index: int) -> bytes:
        """The bytes of one line, with its line end."""
        with readable(self.path):
            self._file.seek(self.lines.starts[index])
            line = self._file.read(self.lines.sizes[index])
        if line_hash(line) != self.lines.hashes[index]:
            raise self._overwritten()
        return line

    def check_unchanged(self, at: Path) -> None:
        """Refuse with a `FileChanged` if the file of this name is not the one that was read."""
        try:
            stamp = Stamp.of(at)
            if stamp != self._stamp and (stamp.size != self.size or self.digest != _digest(at)):
                raise self._changed("was changed by another program")
        except FileNotFoundError:
            raise self._changed("was moved or deleted") from None
        except OSError as error:
            raise self._changed(f"cannot be read any more ({error.strerror})") from error

    def looks_unchanged(self) -> bool:
        """Whether the file of that name seems to be the one that was read; cheap, and wrong after a mere `touch`."""
        try:
            return Stamp.of(self.path) == self._stamp
        except OSError:
            return False

    def copy(self, write: Callable[[bytes], None], changed: Callable[[int], bytes | None]) -> tuple[Lines, str]:
        """Write the file anew, with the lines for which `changed` gives bytes replaced and all else as it is.

        Returns:
            Where the lines of the copy stand, and its SHA-256.

        Raises:
            FileChanged: The file was written to since it was read, so that there is nothing to copy from.
        """
        old, new = hashlib.sha256(), hashlib.sha256()
        lines = Lines()
        place = 0
        self._file.seek(0)

        def put(data: bytes) -> None:
            nonlocal place
            new.update(data)
            write(data)
            place += len(data)

        end = 0
        for index, (start, size) in enumerate(zip(self.lines.starts, self.lines.sizes, strict=True)):
            gap, line = self._file.read(start - end), self._file.read(size)
            old.update(gap)
            old.update(line)
            end = start + size
            if gap and self.native:
                put(gap)
            replacement = changed(index)
            if replacement is None:
                lines.add_known(place, len(line), self.lines.hashes[index])
                put(line)
            else:
                lines.add(place, replacement)
                put(replacement)
        rest = self._file.read(self.size - end)  # not what another program has appended
        old.update(rest)
        if rest and self.native:
            put(rest)
        if old.hexdigest() != self.digest:
            raise self._overwritten()
        return lines, new.hexdigest()

    def moved_to(self, path: Path, at: Path, lines: Lines, digest: str) -> Source:
        """The source of a copy of this one, in this library's schema, which `copy` has described.

        Args:
            path: the name that the copy is for.
            at: the name that it has.
            lines: where the copy's lines stand.
            digest: the copy's SHA-256.
        """
        other = Source(path, at)
        other.lines, other.digest = lines, digest
        other._make.format = prompt_completion.FORMAT
        other._numbers = array("q", range(1, len(lines) + 1)) if not self.native else self._numbers
        return other

    def close(self) -> None:
        """Let go of the file."""
        with suppress(OSError):
            self._file.close()

    def _read(self, line: bytes, number: int) -> tuple[Example, bool]:
        """The example of a line, and whether it is in this library's schema."""
        record = parse_line(without_mark(line, number), self._make.numbering.place(number))
        return self._make(record, number), "schema" in record

    def _overwritten(self) -> FileChanged:
        return FileChanged(
            f"{self.path} was overwritten while it was open here, and what was loaded is gone; reload to carry your "
            "edits over to what it is now, or put the old file back: the edits stay in the journal"
        )

    def _changed(self, what: str) -> FileChanged:
        return FileChanged(f"{self.path} {what}; save under another name, or reload to carry your edits over")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
