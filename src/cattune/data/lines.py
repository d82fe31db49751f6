"""The lines of a JSONL file, plain or gzipped, one at a time, however large it is.

A file is known by its first bytes and not by its name: a gzip file is unpacked while it is read, and what is plainly no
JSON Lines is called what it is, with the way on.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from cattune.data.file_kinds import GZIP, HEAD, file_kind
from cattune.errors import DataError

LONGEST_LINE = 1 << 28
"""Bytes of the longest line that is read; a binary file may be one line, and would fill the memory."""

_BOM = b"\xef\xbb\xbf"


def numbered_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, from 1, and its line end; without a byte order mark.

    Raises:
        DataError: The file cannot be read, is of another kind, is damaged, or has a line without end.
    """
    with readable(path), open_lines(path) as file:
        for number, line in raw_lines(file, path):
            yield number, without_mark(line, number)


def raw_lines(file: BinaryIO, path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    """Each line of an open file as it stands there, with its number, from 1; `path` is what messages call the file.

    Raises:
        DataError: The file has a line without end.
    """
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE + 1), b""), start=1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{path}, line {number}: longer than {LONGEST_LINE >> 20} MB; expected one JSON object per line"
            )
        yield number, line


def without_mark(line: bytes, number: int) -> bytes:
    """The line without the byte order mark that the first one may begin with."""
    return line.removeprefix(_BOM) if number == 1 else line


def open_lines(path: str | os.PathLike[str], gzipped: bool = True) -> BinaryIO:
    """Open a JSONL file for reading; what it gives is unpacked.

    Args:
        path: the file.
        gzipped: whether a gzip file will do; where positions in the file are needed, it will not.

    Raises:
        DataError: It is of another kind.
        OSError: It cannot be opened; see `readable`.
    """
    file: BinaryIO = open(path, "rb")  # noqa: SIM115 - the caller closes it
    try:
        head = _head(file)
        if gzipped and head.startswith(GZIP):
            file = cast(BinaryIO, io.BufferedReader(_Gunzipped(file)))
            head = _head(file)
        if kind := file_kind(head):
            raise DataError(f"{path} is {kind.name}; {kind.advice}")
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def readable(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says about a JSONL file that is opened or read into a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; name a JSONL file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); copy or download it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise DataError(f"{str(path)!r} is not a file name: {error}") from error


class _Gunzipped(gzip.GzipFile):
    """A gzip file that closes the file below with itself."""

    def __init__(self, below: BinaryIO) -> None:
        super().__init__(fileobj=below, mode="rb")
        self._below = below

    def close(self) -> None:
        super().close()
        self._below.close()


def _head(file: BinaryIO) -> bytes:
    """The first bytes, which stay where they are."""
    return cast(io.BufferedReader, file).peek(HEAD)[:HEAD]
