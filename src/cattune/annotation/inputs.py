"""The input of an annotation run, read example by example, and never as a whole in memory.

Formats and names are those of `cattune.loading.load_examples`. Links and refusals that the input has already are left
out: they are what is to be made.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from cattune.errors import DataError
from cattune.examples import Example
from cattune.formats.columns import is_published
from cattune.io import read_jsonl, shown
from cattune.published import published_example
from cattune.records import example_from_dict

_LINKS = ("links", "refused", "important")


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file that has been read through once and found to be right.

    Args:
        path: as it was given.
        examples: how many it has.
        with_links: how many of them have links, which are left out.
        sha256: of its bytes.
        state: what the file system says of it; another one means that it was changed.
    """

    path: str
    examples: int
    with_links: int
    sha256: str
    state: tuple[int, ...]


class SeenKeys:
    """A set of short texts or bytes on disk, so that a hundred thousand of them take no memory."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # "": a temporary file, removed at the end
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (key PRIMARY KEY, note INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, key: str | bytes, note: int = 0) -> int | None:
        """Put a key in; return the note that it was put in with before, None if it is new."""
        cursor = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, note))
        if cursor.rowcount:
            return None
        return int(self._database.execute("SELECT note FROM seen WHERE key = ?", (key,)).fetchone()[0])

    def close(self) -> None:
        """Remove it."""
        self._database.close()


def check_input(path: str | os.PathLike[str]) -> InputFile:
    """Read a file through, so that a mistake in its last line costs nothing.

    Raises:
        DataError: something is wrong with the file or a record; the message says where and what.
    """
    name = os.fspath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{name!r} is no file, and an input is read more than once; name a file")
    state = _state(path)
    count = with_links = 0
    for _, has_links in _records(path):
        count += 1
        with_links += has_links
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    found = InputFile(name, count, with_links, digest.hexdigest(), state)
    check_unchanged(found)
    return found


def check_unchanged(found: InputFile) -> None:
    """Raise a `DataError` if the file is not what it was when it was checked."""
    if _state(found.path) != found.state:
        raise DataError(
            f"{found.path} was changed while it was annotated, so results might belong to other texts; nothing was "
            "written. Run the same command again: what was answered is stored"
        )


def iter_examples(path: str | os.PathLike[str]) -> Iterator[Example]:
    """The examples of a file, without links, one at a time; errors as in `check_input`."""
    for example, _ in _records(path):
        yield example


def _records(path: str | os.PathLike[str]) -> Iterator[tuple[Example, bool]]:
    """Each example, and whether it had links."""
    published: bool | None = None
    with closing(SeenKeys()) as ids:
        for number, record in read_jsonl(path):
            where, name = f"{path}, line {number}", f"line-{number}"
            if published is None:
                published = is_published(record, where)
            has_links = any(record.get(key) for key in _LINKS)
            example = _example(record, published, where, name)
            before = ids.add(example.id, number)
            if before is not None and published:
                example = replace(example, id=f"{example.id} (line {number})")
                before = ids.add(example.id, number)
            if before is not None:
                raise DataError(
                    f"{path}, lines {before} and {number}: both have the id {shown(example.id)}; give each its own"
                )
            yield example, has_links


def _example(record: dict[str, Any], published: bool, where: str, name: str) -> Example:
    """An example whose links are not even looked at: grounding those of a large file takes minutes."""
    content = {key: value for key, value in record.items() if key not in _LINKS}
    if published:
        return published_example(content, where, name)
    return example_from_dict(content, where, name)


def _state(path: str | os.PathLike[str]) -> tuple[int, ...]:
    try:
        at = os.stat(path)
    except OSError:
        return ()  # reading says what is wrong
    return at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns
