"""Temporary files: each is held by the process that writes it, and what a killed one left behind is removed.

A process holds its file with `flock`, which ends with the process however that ends. Whoever writes in the same folder
next removes the files that nobody holds.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # a system without such locks: nothing is removed there
    fcntl = None  # type: ignore[assignment]

PREFIX, SUFFIX = ".cattune-", ".tmp"


def temporary_path(folder: Path) -> Path:
    """The path of a new temporary file in a folder."""
    return folder / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"


def is_temporary(path: Path) -> bool:
    """Whether a file is one of these, by its name."""
    return path.name.startswith(PREFIX) and path.name.endswith(SUFFIX)


def create(path: Path, mode: int) -> BinaryIO:
    """A new file to write to, at no time more open than `mode`, that this process holds.

    Raises:
        OSError: it cannot be made.
    """
    while True:
        file: BinaryIO = open(path, "xb", opener=partial(os.open, mode=mode))  # noqa: SIM115 - the caller closes it
        with suppress(OSError):  # a file system that has no locks: then nobody can take the file for abandoned, either
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH)
        if _is_at(path, file.fileno()):
            return file
        file.close()  # removed before it was held


@contextmanager
def held(file: BinaryIO) -> Iterator[None]:
    """Hold a file for as long as this lasts, although it is closed in between: until it has its name."""
    descriptor = os.dup(file.fileno())
    try:
        yield
    finally:
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of this user in a folder that no living process holds."""
    if fcntl is None:
        return
    with suppress(OSError):
        for path in filter(is_temporary, map(folder.joinpath, os.listdir(folder))):
            with suppress(OSError):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, descriptor):  # by now it may have become the file that it was written for
                path.unlink()
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
