"""Giving a file its name while other programs may use the same one: what they wrote is never overwritten.

Linux and macOS can exchange the names of two files in one step. What was put out of its place can then be looked at,
and gets its name back where it is not what was expected. Where the system or the file system cannot do that, the file
is looked at right before it is replaced; in the microseconds between the two another program's file could be lost.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cattune.data.atomic import Put
from cattune.review.problems import FileChanged

_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def put_new(temporary: Path, final: Path) -> None:
    """Give a file a name that no other has.

    Raises:
        FileExistsError: There is a file of that name.
    """
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(final):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final)) from None
        os.replace(temporary, final)
    else:
        with suppress(OSError):
            os.unlink(temporary)


def put_in_place(check: Callable[[Path], None]) -> Put:
    """What gives a file the name of another one, provided that it is the one expected.

    Args:
        check: raises `FileChanged` where the file of a name is not the one that may be replaced.
    """

    def put(temporary: Path, final: Path) -> None:
        check(final)
        ours = temporary.stat()
        try:
            if not swap(temporary, final):
                os.replace(temporary, final)
                return
        except FileNotFoundError:
            check(final)
            raise
        try:
            check(temporary)
        except FileChanged:
            swap(temporary, final)
            if not os.path.samestat(ours, temporary.stat()):  # replaced once more: the newest stays
                swap(temporary, final)
            raise
        with suppress(OSError):
            os.unlink(temporary)

    return put


def swap(one: Path, other: Path) -> bool:
    """Exchange the names of two files in one step; False where that cannot be done.

    Raises:
        OSError: It should be possible, and failed; nothing is changed then.
    """
    try:
        library = ctypes.CDLL(None, use_errno=True)
        names = os.fsencode(one), os.fsencode(other)
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, ctypes.c_uint(2))  # RENAME_SWAP
        else:
            here = -100  # AT_FDCWD
            failed = library.renameat2(here, names[0], here, names[1], ctypes.c_uint(2))  # RENAME_EXCHANGE
    except (AttributeError, TypeError, OSError):  # another system, or an old C library
        return False
    if failed:
        number = ctypes.get_errno()
        if number in _UNABLE:
            return False
        raise OSError(number, os.strerror(number), str(other))
    return True
