"""Temporary files: those of a killed process go at the next write, those of a living one never do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cattune.cli import main as cli
from cattune.data import temporary
from cattune.data.atomic import atomic_file, prepare_output_dir, write_text
from cattune.errors import OutputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs flock")

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
WRITES = """
import sys, time
from cattune.data.atomic import atomic_file
with atomic_file(sys.argv[1]) as write:
    write(b"half")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def writer(path: Path) -> subprocess.Popen[bytes]:
    """A process in the middle of writing a file; a line on its standard input lets it end."""
    command = [sys.executable, "-c", WRITES, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    (tmp_path / "notes.tmp").touch()
    (tmp_path / ".cattune-mine").touch()
    killed, living = writer(tmp_path / "a"), writer(tmp_path / "b")
    killed.kill()
    killed.communicate()
    assert len(names(tmp_path)) == 4
    write_text(tmp_path / "c", "c")
    left = set(names(tmp_path)) - {"c", "notes.tmp", ".cattune-mine"}
    assert len(left) == 1
    living.communicate(b"\n")
    assert living.returncode == 0
    assert names(tmp_path) == [".cattune-mine", "b", "c", "notes.tmp"]


def test_a_process_does_not_remove_what_it_writes_itself(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a") as write, atomic_file(tmp_path / "b") as other:
        write(b"a")
        other(b"b")
        write_text(tmp_path / "c", "c")
    assert names(tmp_path) == ["a", "b", "c"]


def test_a_file_is_held_until_it_has_its_name(tmp_path: Path) -> None:
    def put(path: Path, final: Path) -> None:
        temporary.remove_abandoned(tmp_path)
        os.replace(path, final)

    with atomic_file(tmp_path / "a", put=put) as write:
        write(b"a")
    assert names(tmp_path) == ["a"]


def test_a_file_that_was_removed_before_it_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, removed = temporary.fcntl.flock, []

    def late(file: object, operation: int) -> None:
        if not removed:
            removed.extend(path.unlink() for path in tmp_path.iterdir())  # another process was quicker
        flock(file, operation)

    monkeypatch.setattr(temporary.fcntl, "flock", late)
    write_text(tmp_path / "a", "a")
    assert removed
    assert names(tmp_path) == ["a"]


def test_processes_that_write_in_one_folder_lose_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cattune.data.atomic import write_text\nfor i in range(100): write_text(sys.argv[1], str(i))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], env=ENVIRONMENT) for name in "abcd"
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys("abcd", "99")


def test_a_folder_with_nothing_but_what_a_killed_process_left_is_empty(tmp_path: Path) -> None:
    killed = writer(tmp_path / "a")
    killed.kill()
    killed.communicate()
    assert prepare_output_dir(tmp_path) == tmp_path
    assert names(tmp_path) == []
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="already holds files"):
        prepare_output_dir(tmp_path)


def test_a_command_removes_what_an_earlier_one_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killed = writer(tmp_path / "a")
    killed.kill()
    killed.communicate()
    assert cli.main(["prior", "new", "--from", "arithmetic", "--out", str(tmp_path / "p.yaml")]) == 0
    assert names(tmp_path) == ["p.yaml"]
