"""The input of an annotation run, read example by example, and never as a whole in memory.

Formats and names are those of `load_examples`. Links and refusals that the input has already are left out: they are
what is to be made.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from cattune.data.examples import Example
from cattune.errors import DataError
from cattune.formats.loading import unlinked_examples
from cattune.formats.reader import read_examples


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file that has been read through once and found to be right.

    Args:
        path: as it was given.
        examples: how many it has.
        with_links: how many of those that count have links, which are left out.
        sha256: of its bytes.
        state: what the file system says of it; another one means that it was changed.
    """

    path: str
    examples: int
    with_links: int
    sha256: str
    state: tuple[int, ...]


def check_input(path: str | os.PathLike[str], limit: int | None = None) -> InputFile:
    """Read a file through, so that a mistake in its last line costs nothing.

    Args:
        path: the file.
        limit: only so many examples, the first, will be annotated.

    Raises:
        DataError: something is wrong with the file or a record; the message says where and what.
    """
    name = os.fspath(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{name!r} is no file, and an input is read more than once; name a file")
    state = _state(path)
    count = with_links = 0
    for read in read_examples(path, links=False):
        count += 1
        with_links += read.has_links and (limit is None or count <= limit)
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
    return unlinked_examples(path)


def _state(path: str | os.PathLike[str]) -> tuple[int, ...]:
    try:
        at = os.stat(path)
    except OSError:
        return ()  # reading says what is wrong
    return at.st_ino, at.st_size, at.st_mtime_ns, at.st_ctime_ns
