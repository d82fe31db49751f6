from __future__ import annotations

import errno
import getpass
import json
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cattune.data.jsonl
import cattune.provenance
from cattune.data.atomic import atomic_file, prepare_output_dir, write_text
from cattune.data.jsonl import number_text, read_jsonl, write_json, write_jsonl
from cattune.errors import DataError, OutputError
from cattune.provenance import provenance
from cattune.wording import shown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
is_root = hasattr(os, "geteuid") and os.geteuid() == 0


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- reading


def read(path: Path, data: bytes) -> list[tuple[int, dict[str, Any]]]:
    path.write_bytes(data)
    return list(read_jsonl(path))


def test_lines_are_numbered_from_one_and_blank_lines_hold_nothing(tmp_path: Path) -> None:
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": "\xe2\x80\xa8"}'
    assert read(tmp_path / "x", data) == [(1, {"a": 1}), (4, {"a": "\u2028"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not JSON .*column 2"),
        (b"nonsense", "not JSON"),
        (b"[1]", r"expected a JSON object, got \[1\]"),
        (b"5", "expected a JSON object, got 5"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": NaN}', "NaN is no JSON value"),
        (b'{"a": 1e999}', "out of range"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', 'the key "c" stands twice'),
        (b'{"a": "\\ud800"}', "surrogate pair"),
        (b'{"\\uDFFF": 1}', "surrogate pair"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a": 1} {"a": 2}', "Extra data"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path / "x.jsonl", b'{"good": 1}\n\n' + line + b'\n{"good": 2}\n')
    assert "x.jsonl, line 3: " in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("data", [b"", b"\n", b"  \n\t\n"])
def test_an_empty_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path / "x", data)


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    for path, message in [(tmp_path / "no", "does not exist"), (tmp_path, "is a folder"), ("a\0b", "not a file name")]:
        with pytest.raises(DataError, match=message):
            list(read_jsonl(path))
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_jsonl(tmp_path / "file" / "below"))


@pytest.mark.skipif(is_root, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch(mode=0)
    with pytest.raises(DataError, match="Permission denied"):
        list(read_jsonl(path))


def test_numbers_keep_their_text(tmp_path: Path) -> None:
    ((_, record),) = read(tmp_path / "x", b'{"a": [8, 5.0, 8.50, 1e2, -0.0, 0.1]}')
    assert [number_text(value) for value in record["a"]] == ["8", "5.0", "8.50", "1e2", "-0.0", "0.1"]
    assert record["a"] == [8, 5.0, 8.5, 100.0, 0.0, 0.1]
    assert json.dumps(record["a"]) == "[8, 5.0, 8.5, 100.0, -0.0, 0.1]"


@given(st.binary(max_size=60) | st.lists(JSON, max_size=3).map(lambda v: "\n".join(map(json.dumps, v)).encode()))
@settings(max_examples=100, deadline=None)
def test_fuzz_read_jsonl(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    try:
        for _, record in read(path, data):
            json.dumps(record, ensure_ascii=False).encode()
    except DataError as error:
        assert str(path) in str(error)
        str(error).encode()


# --- writing


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_jsonl_round_trip(tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    assert write_jsonl(path, records) == len(records)
    assert [record for _, record in read_jsonl(path)] == records


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("old")
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), object(), "\ud800", deep):
        with pytest.raises(DataError, match="record 2: cannot be written as JSON"):
            write_jsonl(path, [{"a": 1}, {"a": value}])
        with pytest.raises(DataError, match="cannot be written as JSON"):
            write_json(path, {"a": value})
    with pytest.raises(DataError, match="surrogate pair at position 1"):
        write_text(path, "a\udc00")
    assert (names(tmp_path), path.read_text()) == (["x.jsonl"], "old")


def test_folders_are_made_and_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.json"
    old = os.umask(0o027)
    try:
        write_json(path, {"é": [1]})
    finally:
        os.umask(old)
    assert path.read_text(encoding="utf-8") == '{\n  "é": [\n    1\n  ]\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert names(path.parent) == ["x.json"]
    path.chmod(0o604)
    write_json(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o604  # a file that is replaced hands on its own


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o660])
def test_a_temporary_file_is_never_more_open_than_the_one_it_replaces(tmp_path: Path, mode: int) -> None:
    path, seen = tmp_path / "x", []
    path.write_text("old")
    path.chmod(mode)

    def look(*_: Path) -> None:
        (temporary,) = tmp_path.glob(".cattune-*")
        seen.append(stat.S_IMODE(temporary.stat().st_mode))

    with atomic_file(path, put=lambda *names: (look(), os.replace(*names))[1]) as write:
        look()
        write(b"new")
    assert seen == [0o600, mode] and stat.S_IMODE(path.stat().st_mode) == mode
    with atomic_file(tmp_path / "y", like=path.stat()) as write:
        write(b"new")
    assert stat.S_IMODE((tmp_path / "y").stat().st_mode) == mode


@pytest.mark.skipif(not is_root, reason="only root may give files away")
def test_a_file_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    path.chmod(0o2640)
    write_text(path, "new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 2345, 0o2640)


def test_a_group_that_cannot_be_handed_on_gets_no_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, owner: int, group: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    status = list(tmp_path.stat())
    status[stat.ST_MODE], status[stat.ST_GID] = 0o100664, status[stat.ST_GID] + 1
    monkeypatch.setattr("os.fchown", refuse)
    with atomic_file(tmp_path / "x", like=os.stat_result(status)) as write:
        write(b"new")
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o604


def test_only_what_was_written_here_is_deleted_after_a_failure(tmp_path: Path) -> None:
    def put(temporary: Path, final: Path) -> None:
        (tmp_path / "theirs").rename(temporary)  # as where two files exchange their names
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "theirs").write_text("theirs")
    with pytest.raises(OutputError, match="Input/output"), atomic_file(tmp_path / "x", put=put) as write:
        write(b"ours")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(Path("real") / "x")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x").read_text() == "new"


class FullDisk:
    """A file on which only `room` bytes find place."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, data: bytes) -> int:
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("old")
    create = cattune.data.atomic.create
    monkeypatch.setattr("cattune.data.atomic.create", lambda *a: FullDisk(create(*a), room=100))
    with pytest.raises(OutputError, match=r"x\.jsonl.*the disk is full; free some space"):
        write_jsonl(path, ({"a": i} for i in range(1000)))
    monkeypatch.undo()
    assert (names(tmp_path), path.read_text()) == (["x.jsonl"], "old")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OutputError, match="quota"):
        write_text(tmp_path / "x", "new")
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_device_that_is_full_and_stays_a_device(size: int) -> None:
    with pytest.raises(OutputError, match="disk is full"):
        write_text("/dev/full", "x" * size)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_is_written_to_directly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE, text=True)
    write_text(tmp_path / "pipe", "through")
    assert reader.communicate(timeout=20)[0] == "through"
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("of the caller's own"), RuntimeError])
def test_an_interruption_leaves_nothing(tmp_path: Path, error: Any) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("old")

    def records() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise error

    with pytest.raises(error if isinstance(error, type) else type(error)) as caught:
        write_jsonl(path, records())
    assert not isinstance(caught.value, OutputError)
    assert (names(tmp_path), path.read_text()) == (["x.jsonl"], "old")


@pytest.mark.parametrize(
    ("name", "message"),
    [("folder", "it is a folder"), ("file/below", "not a folder"), ("a\0b", "null"), ("n" * 300, "too long")],
)
def test_targets_that_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(OutputError, match=message):
        write_text(tmp_path / name, "x")
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("cattune.data.atomic.create", refuse)
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match="no permission"):
        write_text(tmp_path / "x", "x")
    with pytest.raises(OutputError, match="no permission"):
        prepare_output_dir(tmp_path)


@pytest.mark.skipif(is_root, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "fixed"
    folder.mkdir(mode=0o555)
    for write in (lambda: write_text(folder / "x", "x"), lambda: prepare_output_dir(folder)):
        with pytest.raises(OutputError, match="no permission"):
            write()


# --- output folders


def test_prepare_output_dir(tmp_path: Path) -> None:
    folder = prepare_output_dir(tmp_path / "a" / "b")
    assert names(folder) == []
    assert prepare_output_dir(folder) == folder
    (folder / "results.json").write_text("{}")
    with pytest.raises(OutputError, match="already holds files; pass --overwrite") as caught:
        prepare_output_dir(folder)
    assert "cannot be written" not in str(caught.value)
    assert prepare_output_dir(str(folder), overwrite=True) == folder
    assert names(folder) == ["results.json"]
    with pytest.raises(OutputError, match="is a file, not a folder"):
        prepare_output_dir(folder / "results.json", overwrite=True)


# --- provenance


def test_provenance_holds_what_it_says() -> None:
    made_by = provenance(seed=3, gamma=1.0, names=("a", "b"), rate=float("nan"), folder=Path("runs/x"))
    assert {"cattune", "python", "torch", "transformers", "git_revision", "git_dirty", "created"} <= made_by.keys()
    assert made_by["config"] == {"seed": 3, "gamma": 1.0, "names": ["a", "b"], "rate": "nan", "folder": "runs/x"}
    assert made_by["created"].endswith("+00:00")
    assert made_by["cattune"] == cattune.__version__
    json.dumps(made_by, allow_nan=False)


def test_provenance_leaks_nothing(tmp_path: Path) -> None:
    home = str(Path.home())
    text = json.dumps(
        provenance(
            model=tmp_path / "model",
            data={"NAME": f"x={tmp_path}/d.jsonl"},
            output_dir=f"{home}/runs/out",
            other=["/home/someone", "~/x", r"C:\Users\someone", "file:///home/someone/y", object()],
        )
    )
    for secret in (str(tmp_path.parent), f"{home}/", socket.gethostname(), "someone"):
        assert secret not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text
    assert '"model": ".../model"' in text and '"output_dir": ".../out"' in text


@pytest.mark.parametrize(
    "text",
    ["meta-llama/Llama-3", "https://host.org/a/b", "runs/x", "../x/y", "</s>", "a and/or b", "{% if %}/{% end %}"],
)
def test_what_is_no_absolute_path_stays(text: str) -> None:
    assert provenance(value=text)["config"]["value"] == text


def checkout(folder: Path, name: str) -> Path:
    package = folder / "src" / "cattune"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e@x.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return package


def test_git_revision_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cattune.provenance, "_PACKAGE", checkout(tmp_path, cattune.provenance.DISTRIBUTION))
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as inside a git hook: not our checkout
    clean = provenance()
    assert len(clean["git_revision"]) == 40 and clean["git_dirty"] is False
    with (tmp_path / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert provenance()["git_dirty"] is True


def test_no_git_revision_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cattune.provenance, "_PACKAGE", checkout(tmp_path / "other", "another-project"))
    assert provenance()["git_revision"] is None
    monkeypatch.setattr(cattune.provenance, "_PACKAGE", tmp_path)
    assert provenance()["git_revision"] is None
    monkeypatch.setenv("PATH", "")
    assert provenance()["git_revision"] is None


def test_shown_is_short_and_printable() -> None:
    assert shown({"a": "é"}) == '{"a": "é"}'
    assert shown("x" * 1000) == '"' + "x" * 56 + "..."
    assert shown(object()) == "a object"
    shown("\ud800").encode()
    assert cattune.wording.shown([1] * 100).endswith("...")
