"""JSONL in and out, and files that are written whole or not at all.

Reading: whatever is wrong with a file is a `DataError` that names the file and the line. Writing: the text goes to a
temporary file in the same folder, which takes the target's name only when all of it is on the disk, so that neither a
full disk nor Ctrl-C leaves half a file or harms the one that was there.
"""

from __future__ import annotations

import errno
import gzip
import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cattune.data.lines import numbered_lines
from cattune.data.temporary import create, held, is_temporary, remove_abandoned, temporary_path
from cattune.errors import CattuneError, DataError, OutputError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "no permission; choose another folder",
    errno.EPERM: "not permitted; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "it is a file, not a folder; choose another path",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


_NAME = re.compile(r"[\w.\[\]-]{1,60}")


class WrittenFloat(float):
    """A number of a JSON file that Python would print differently, with the text that the file has (`8.50`, `1e2`)."""

    text: str


def number_text(value: int | float) -> str:
    """A number as its JSON file has it: 8 is "8", 5.0 is "5.0", 8.50 is "8.50"."""
    return value.text if isinstance(value, WrittenFloat) else repr(value)


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a JSON Lines file, plain or gzipped: one JSON object per line, UTF-8.

    Lines of white space only are passed over; they hold nothing.

    Yields:
        The line number, from 1, and the object. A number that Python would print differently is a `WrittenFloat`.

    Raises:
        DataError: The file is missing, empty or unreadable, or a line is not UTF-8, not strict JSON (NaN, a key
            twice in one object, half of a surrogate pair), or not an object.
    """
    count = 0
    for number, line in numbered_lines(path):
        if line.strip():
            count += 1
            yield number, parse_line(line, f"{path}, line {number}")
    if not count:
        raise DataError(f"{path} is empty; expected one JSON object per line")


def write_jsonl(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> int:
    """Write records as JSON Lines, atomically; return how many.

    Raises:
        DataError: A record holds what JSON cannot (NaN, half of a surrogate pair, an object of another type).
        OutputError: The file cannot be written.
    """
    count = 0
    with atomic_file(path) as write:
        for record in records:
            count += 1
            write(to_json(dict(record), f"{path}, record {count}") + b"\n")
    return count


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write one value as indented JSON, atomically; errors as in `write_jsonl`."""
    with atomic_file(path) as write:
        write(to_json(value, str(path), indent=2) + b"\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as UTF-8 with its line ends as they are, atomically; errors as in `write_jsonl`."""
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: the text holds half of a surrogate pair at position {error.start}") from None
    with atomic_file(path) as write:
        write(data)


def prepare_output_dir(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Make an output folder and see that it can be written to, before hours of work depend on it.

    With `overwrite`, files that are already there stay until one of the same name is written.

    Raises:
        OutputError: It holds files and `overwrite` is False, it is not a folder, or it cannot be written to.
    """
    folder = Path(path)
    probe = temporary_path(folder)
    with blaming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        check_output_dir(folder, overwrite)
        remove_abandoned(folder)
        create(probe, 0o600).close()
        probe.unlink(missing_ok=True)
    return folder


def check_output_dir(path: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuse an output folder that holds files, unless `overwrite`; leaves everything as it is.

    The temporary files of a process that was killed do not count.

    Raises:
        OutputError: It holds files, or cannot be read.
    """
    folder = Path(path)
    with blaming(folder):
        if not overwrite and folder.is_dir() and not all(map(is_temporary, folder.iterdir())):
            raise OutputError(f"{folder} already holds files; pass --overwrite, or choose another folder")


def shown(value: Any, limit: int = 60) -> str:
    """A value for an error message: its JSON, or else its type, cut to `limit` characters."""
    try:
        text = json.dumps(value[:limit] if isinstance(value, str) else value, ensure_ascii=False)
        text = text.encode(errors="backslashreplace").decode()
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(values: Iterable[Any], most: int = 8) -> str:
    """Values for an error message: the first so many, and how many more there are; names stand without quotes."""
    every = list(values)
    named = [value if isinstance(value, str) and _NAME.fullmatch(value) else shown(value) for value in every[:most]]
    return (", ".join(named) or "none") + (f" and {len(every) - most} more" if len(every) > most else "")


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, and a verb where there is one: "1 example", "1,200 examples", "1 reply is"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """One line of a JSONL file as an object; `where` is its place, for the `DataError` where it is none."""
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from None
    try:
        record = json.loads(
            text, parse_float=_parse_float, parse_constant=_refuse_constant, object_pairs_hook=_object_without_repeats
        )
        if "\\u" in text:  # an escape is the only way for half of a surrogate pair to come in
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    except RecursionError:
        raise DataError(f"{where}: the JSON is nested too deeply") from None
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"{where}: not JSON ({reason}); the line reads {shown(text)}") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object, got {shown(record)}")
    return record


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(text)} is out of range")
    if repr(value) == text:
        return value
    written = WrittenFloat(value)
    written.text = text
    return written


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON value; write null or leave the key out")


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(repeated)} stands twice in one object, and only one could be kept")
    return record


def to_json(value: Any, where: str, indent: int | None = None) -> bytes:
    """A value as JSON in UTF-8; `where` is its place, for the `DataError` where it holds what JSON cannot."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be written as JSON: {error}") from error


@contextmanager
def blaming(target: Path) -> Iterator[None]:
    """Turn what the system says about a file into an `OutputError` about the target."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, CattuneError):
            raise
        reason = str(error)
        if isinstance(error, OSError):
            reason = _ADVICE.get(error.errno or 0, error.strerror or reason)
        raise OutputError(f"{str(target)!r} cannot be written: {reason}") from error


Put = Callable[[Path, Path], None]
"""Gives a temporary file, the first, the name that it was written for, the second."""


@contextmanager
def atomic_file(
    path: str | os.PathLike[str], *, like: os.stat_result | None = None, put: Put | None = None
) -> Iterator[Callable[[bytes], None]]:
    """Give a function that writes to a temporary file beside `path`; on success that becomes `path`, else it goes.

    A file that is replaced hands on its permissions and, where that is allowed, its owner and group; the temporary file
    is at no time more open than it. One whose name ends in `.gz` is written gzipped.
    Only the file's own failures become an `OutputError`: an `OSError` of the caller's passes through as it is.

    Args:
        path: the file to write.
        like: whose permissions a new file gets; None: those that the system gives.
        put: gives the file its name, when all of it is on the disk; None: in place of whatever is there.
    """
    target = Path(path)
    with blaming(target):
        final = Path(os.path.realpath(target))  # a link to a file stays a link
        # A pipe or a device, such as /dev/stdout, is written to directly: there is nothing to keep whole.
        direct = target.exists() and not stat.S_ISREG(target.stat().st_mode)
        final.parent.mkdir(parents=True, exist_ok=True)
        model = None if direct else final.stat() if final.exists() else like
    temporary = temporary_path(final.parent)
    own: os.stat_result | None = None
    file: BinaryIO | None = None
    packed: gzip.GzipFile | None = None

    def write(data: bytes) -> None:
        assert file is not None
        with blaming(target):
            (packed or file).write(data)

    try:
        with blaming(target):
            mode = 0o666 if model is None else 0o600
            if not direct:
                remove_abandoned(final.parent)
            file = target.open("wb") if direct else create(temporary, mode)
            own = os.fstat(file.fileno())
            if target.suffix == ".gz":  # without name and time, so that equal contents give equal files
                packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0)
        yield write
        with blaming(target):
            if packed is not None:
                packed.close()
            file.flush()
            if model is not None:
                hand_on(final.stat() if final.exists() else model, file.fileno())
            if not direct:
                os.fsync(file.fileno())
            with held(file):
                file.close()
                if not direct:
                    (put or os.replace)(temporary, final)
            if not direct:
                sync_folder(final.parent)
    except BaseException:
        for opened in (packed, file):
            with suppress(OSError):  # the flush of a close fails again on a full disk
                if opened is not None:
                    opened.close()
        with suppress(OSError):  # of that name may by now be what was put out of its place, and that stays
            if not direct and own is not None and os.path.samestat(own, temporary.stat()):
                temporary.unlink()
        raise


def hand_on(model: os.stat_result, descriptor: int) -> None:
    """Give a file the owner, group and permissions of another one, as far as is allowed, and never more than those."""
    if os.name != "posix":
        return
    for owner, group in ((-1, model.st_gid), (model.st_uid, -1)):
        with suppress(OSError):
            os.fchown(descriptor, owner, group)
    same_group = os.fstat(descriptor).st_gid == model.st_gid
    os.fchmod(descriptor, stat.S_IMODE(model.st_mode) & (0o7777 if same_group else ~0o070))


def sync_folder(folder: Path) -> None:
    """See to it that names given in a folder outlive a loss of power, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
