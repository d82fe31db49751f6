"""Files that are written whole or not at all.

The text goes to a temporary file in the same folder, which takes the target's name only when all of it is on the disk,
so that neither a full disk nor Ctrl-C leaves half a file or harms the one that was there.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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
