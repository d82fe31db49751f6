"""Locks between processes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cattune.data.locks import FileLock, Locked
from cattune.errors import OutputError

fcntl = pytest.importorskip("fcntl")

BUSY = "the folder is in use; choose another"
HOLDER = """\
import sys, time
from cattune.data.locks import FileLock
lock = FileLock(sys.argv[1], "busy")
print("held", flush=True)
time.sleep(60)
"""
RACE = """\
import os, sys, time
from pathlib import Path
from cattune.errors import OutputError
from cattune.data.locks import FileLock
path, witness, got = Path(sys.argv[1]), Path(sys.argv[1] + ".witness"), 0
while got < int(sys.argv[2]):
    try:
        lock = FileLock(path, "busy")
    except OutputError:
        continue
    with lock:
        os.close(os.open(witness, os.O_CREAT | os.O_EXCL))  # fails where another one has the lock too
        assert os.fstat(lock._descriptor).st_nlink == 1
        witness.unlink()
    got += 1
"""


def start(code: str, *words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path, BUSY):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(Locked, match=rf"choose another \(held by process {os.getpid()} on "):
            FileLock(path, BUSY)
    assert list(tmp_path.iterdir()) == []
    FileLock(path, BUSY).release()


def test_a_lock_that_could_not_be_had_is_still_the_holders(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock(path, BUSY):
        for _ in range(2):
            with pytest.raises(OutputError):
                FileLock(path, BUSY)
        assert path.exists()


def test_a_lock_ends_with_its_holder_however_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = start(HOLDER, path)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(OutputError, match=f"process {holder.pid} on"):
        FileLock(path, BUSY)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert path.exists()
    FileLock(path, BUSY).release()
    assert not path.exists()


def test_no_two_processes_ever_hold_one_lock(tmp_path: Path) -> None:
    racers = [start(RACE, tmp_path / "lock", 300) for _ in range(3)]
    assert [racer.wait() for racer in racers] == [0, 0, 0]


def test_a_file_deleted_between_opening_and_locking_is_not_the_lock(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "lock"
    opened, flock = [], fcntl.flock

    def slow(descriptor: int, how: int) -> None:
        opened.append(os.fstat(descriptor).st_ino)
        if len(opened) == 1:
            path.unlink()  # its holder has released it
            (tmp_path / "in between").touch()  # takes the inode's number, where numbers are used again
        flock(descriptor, how)

    monkeypatch.setattr("fcntl.flock", slow)
    lock = FileLock(path, BUSY)
    assert len(opened) == 2 and path.exists()
    lock.release()


def test_a_lock_file_that_somebody_has_replaced_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path, BUSY)
    path.rename(tmp_path / "old")
    path.write_text("not ours")
    lock.release()
    assert path.read_text() == "not ours"


def test_a_forked_child_takes_nothing_away(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock", BUSY)
    child = os.fork()
    if not child:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(OutputError):
        FileLock(lock.path, BUSY)
    lock.release()


@pytest.mark.parametrize("name", ["no/such/folder/lock", "lock"])
def test_a_lock_that_cannot_be_made(tmp_path: Path, name: str, monkeypatch: Any) -> None:
    def refuse(path: Any, *rest: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    if name == "lock":
        monkeypatch.setattr("os.open", refuse)
    with pytest.raises(OutputError, match=f"{name}' cannot be written: .*"):
        FileLock(tmp_path / name, BUSY)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to("elsewhere")
    with pytest.raises(OutputError, match="lock"):
        FileLock(tmp_path / "lock", BUSY)
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_of_another_user(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(path: Any, *rest: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "lock").touch()
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(OutputError, match="lock of another user"):
        FileLock(tmp_path / "lock", BUSY)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with FileLock(tmp_path / "lock", BUSY):
        assert "has no locks" in caplog.text
    assert list(tmp_path.iterdir()) == []
