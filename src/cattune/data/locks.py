"""Locks between processes: one at a time writes to a file or a folder.

A lock is a small file that its holder has locked with `flock`. The system lets go of it when the process ends, however
it ends, so that no lock outlives its holder. The file says who holds it, for the message that the next one gets.

The file is deleted when the lock is released. Another process may have opened it before, and would then lock a file
that nobody else can find. So whoever gets a lock looks whether the file of that name is still the one that it locked,
and tries again where it is not.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from cattune.data.atomic import blaming
from cattune.errors import OutputError

_MODE = 0o600
_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # Lustre without "flock", some NFS

logger = logging.getLogger(__name__)


class Locked(OutputError):
    """Another process, or another part of this one, has the lock."""


class FileLock:
    """A lock that this process holds, from its making to `release`; also a context manager."""

    def __init__(self, path: str | os.PathLike[str], busy: str) -> None:
        """Take a lock, or refuse at once.

        Where the file system has no locks, this is said in a warning, and the lock keeps nobody out.

        Args:
            path: the lock's file; it is made with mode 0600 and holds nothing but who has the lock.
            busy: what to tell the user where another process has it: what is in use, and what to do.

        Raises:
            Locked: Another process has the lock.
            OutputError: Its file cannot be made.
        """
        self.path = Path(path)
        self._owner = os.getpid()
        self._descriptor: int | None = self._take(busy)

    def release(self) -> None:
        """Let go of the lock; once is enough. In a process that was forked from the holder, the lock stays."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        if os.getpid() == self._owner and is_at(self.path, descriptor):
            with suppress(OSError):  # a folder that has become read-only; the lock is free all the same
                self.path.unlink()
        if os.getpid() == self._owner:
            _unlock(descriptor)  # children that were forked in the meantime have it open as well
        os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _take(self, busy: str) -> int:
        while True:
            descriptor = self._open()
            try:
                if not _lock(descriptor, self.path):
                    raise Locked(f"{busy}{_holder(descriptor)}")
                if is_at(self.path, descriptor):
                    _sign(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # its holder has deleted it since it was opened

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            with blaming(self.path):
                return os.open(self.path, flags, _MODE)
        except OutputError as error:
            if isinstance(error.__cause__, PermissionError) and self.path.exists():
                raise OutputError(
                    f"{self.path} is the lock of another user, who may be writing here; ask them, and delete it if "
                    "no process of theirs does"
                ) from error
            raise


def _lock(descriptor: int, path: Path) -> bool:
    """Whether the file is now this process's alone; where there are no locks, it always is."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not a Unix
        return True
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _WITHOUT_LOCKS:
            raise OutputError(f"{path} cannot be locked: {error.strerror}; choose another folder") from error
        logger.warning(
            "%s: this file system has no locks; see to it that no other process writes here", path.parent.resolve()
        )
    return True


def _unlock(descriptor: int) -> None:
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one of that name."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # a full disk: the lock holds, unsigned
        os.truncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(errors="replace"))


def _holder(descriptor: int) -> str:
    """Who has the lock, as its file says, in brackets."""
    with suppress(OSError):
        words = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
        if words:
            return f" (held by {words})"
    return ""
