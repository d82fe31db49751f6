"""The command line: exit statuses, messages, and `cattune align`."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cattune import CausalLink, Example, Span, save_examples
from cattune.cli import main as cli
from cattune.cli import printable, say
from cattune.errors import DataError

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # what is left in the buffer at the end is what goes wrong

Command = Callable[[argparse.Namespace], int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Command], None]:
    """Make a function the only command, named `try`."""

    def install(run: Command) -> None:
        module = ModuleType("cattune.cli.try")

        def add_parser(subparsers: Any) -> None:
            subparsers.add_parser("try").set_defaults(run=run)

        module.add_parser = add_parser  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cli, "COMMANDS", ("try",))

    return install


def raising(error: BaseException) -> Command:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("cattune 0.")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n    {name}" in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = cli.main([name, "--help"])
    except SystemExit as stop:
        status = int(stop.code or 0)
    assert status == 0
    assert capsys.readouterr().out.startswith(f"usage: cattune {name} ")


@pytest.mark.parametrize(
    "argv", [[], ["nonsense"], ["align"], ["align", "f", "--tokenizer", "tiny", "--max-length", "x"]]
)
def test_wrong_call_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    assert "usage: cattune" in capsys.readouterr().err


def test_status_is_the_commands_own(command: Callable[[Command], None]) -> None:
    command(lambda args: 0)
    assert cli.main(["try"]) == 0


def test_users_error_is_one_message_and_status_2(
    command: Callable[[Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(DataError("data.jsonl, line 3: not JSON \x1b[31m\u202e")))
    assert cli.main(["try"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "cattune: error: data.jsonl, line 3: not JSON \\x1b[31m\\u202e\n"


def test_failure_is_one_line_a_hint_and_status_1(
    command: Callable[[Command], None], capsys: pytest.CaptureFixture[str]
) -> None:
    command(raising(RuntimeError("first line\nsecond line")))
    assert cli.main(["try"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "cattune: failed: RuntimeError: first line second line"
    assert "--debug" in lines[1] and len(lines) == 2


def test_interruption_is_status_130(command: Callable[[Command], None], capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(KeyboardInterrupt()))
    assert cli.main(["try"]) == 130
    assert capsys.readouterr().err == "cattune: interrupted; no half-written file is left: run it again\n"


@pytest.mark.parametrize("argv", [["--debug", "try"], ["try", "--debug"]])
@pytest.mark.parametrize("error", [DataError("wrong"), RuntimeError("broken")])
def test_debug_lets_errors_through(argv: list[str], error: Exception, command: Callable[[Command], None]) -> None:
    command(raising(error))
    with pytest.raises(type(error)):
        cli.main(argv)


def test_libraries_are_quiet_only_during_a_command_and_not_with_debug(
    command: Callable[[Command], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "0")
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append((os.environ.get("TRANSFORMERS_VERBOSITY"), os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]))
        return 0

    command(run)
    cli.main(["try"])
    cli.main(["try", "--debug"])
    assert seen == [("error", "0"), (None, "0")]
    assert "TRANSFORMERS_VERBOSITY" not in os.environ


@given(st.text())
def test_printable_text_has_no_control_characters(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert shown == text or not text.isprintable()


# A program whose one command prints more than a pipe holds, or waits.
PROGRAM = """
import sys, time, types
from cattune.cli import main as cli
module = types.ModuleType("cattune.cli.try")
def run(args):
    print("started" if {wait} else "x" * {size}, flush={wait})
    time.sleep(30 if {wait} else 0)
    return 0
module.add_parser = lambda subparsers: subparsers.add_parser("try").set_defaults(run=run)
sys.modules["cattune.cli.try"] = module
cli.COMMANDS = ("try",)
sys.exit(cli.main(["try"]))
"""


def program(size: int = 0, wait: bool = False) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(size=size, wait=wait)]


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_closed_pipe_ends_quietly(size: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(program(size), stdout=writer, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_table_that_its_reader_cuts_off_ends_quietly() -> None:
    table = "Table(('a', 'b'), [Row('x' * 50, ['y'])] * 2000)"
    source = PROGRAM.format(size=1, wait=False).replace(
        'print("started" if False else "x" * 1, flush=False)',
        f"from cattune.reports.tables import Row, Table, print_tables; print_tables([{table}])",
    )
    assert "print_tables" in source
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_another_pipe_that_breaks_is_a_failure(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: object) -> int:
        raise BrokenPipeError(32, "a worker went away")

    module = ModuleType("cattune.cli.try")
    module.add_parser = lambda subparsers: subparsers.add_parser("try").set_defaults(run=run)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cattune.cli.try", module)
    monkeypatch.setattr(cli, "COMMANDS", ("try",))
    assert cli.main(["try"]) == 1
    assert "a worker went away" in capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("size", [10, 1_000_000])
def test_full_disk_behind_stdout_is_a_failure(size: int) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(program(size), stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[0].startswith("cattune: failed: OSError: ") and len(lines) == 2


def test_what_a_stream_cannot_encode_is_printed_as_its_escape(
    command: Callable[[Command], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: argparse.Namespace) -> int:
        print("東 \udcff")
        return 0

    command(run)
    for encoding, expected in (("latin-1", b"\\u6771 \\udcff\n"), ("utf-8", "東 \\udcff\n".encode())):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert cli.main(["try"]) == 0 and written.getvalue() == expected


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_is_no_failure(
    name: str, command: Callable[[Command], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(args: argparse.Namespace) -> int:
        say(f"{sys.stderr.isatty()}")
        return 0

    command(run)
    monkeypatch.setattr(sys, name, None)
    assert cli.main(["try"]) == 0


def test_ctrl_c_is_status_130() -> None:
    with subprocess.Popen(
        program(wait=True), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as running:
        assert running.stdout and running.stderr
        assert running.stdout.readline() == b"started\n"
        time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 130
        assert running.stderr.read() == b"cattune: interrupted; no half-written file is left: run it again\n"


def test_module_runs_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cattune", "align", "no.jsonl", "--tokenizer", "tiny"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "cattune: error: no.jsonl does not exist; check the path\n"


# --- cattune align


def example(name: str = "a", links: tuple[CausalLink, ...] | None = None) -> Example:
    if links is None:
        links = (CausalLink(Span("completion", 0, 4), (Span("prompt", 9, 10),)),)
    return Example(id=name, prompt="Smoking: 8, Weight: 3\nAnswer: ", completion="High", links=links)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two examples, the first one with a link that aligns."""
    path = tmp_path / "data.jsonl"
    save_examples(path, [example("a"), example("b", links=())])
    return path


def align(path: Path, *arguments: str) -> int:
    return cli.main(["align", str(path), "--tokenizer", "tiny", *arguments])


def test_align_writes_a_report(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "report.json"
    assert align(data, "--out", str(out)) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert (report["examples"], report["links"], report["aligned_links"], report["rows"]) == (2, 1, 1, 1)
    assert report["problems"] == []
    assert report["provenance"]["config"]["tokenizer"] == "tiny"
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert "1 example has no link" in stderr


def test_align_prints_json_to_stdout_and_the_table_to_stderr(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert align(data, "--json") == 0
    stdout, stderr = capsys.readouterr()
    assert json.loads(stdout)["aligned_causes"] == 1
    assert "not used, and why" in stderr


def test_align_replaces_a_report_only_when_told_to(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    out.write_text("mine", encoding="utf-8")
    assert align(data, "--out", str(out)) == 2
    assert out.read_text(encoding="utf-8") == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert align(data, "--out", str(out), "--overwrite") == 0
    assert json.loads(out.read_text(encoding="utf-8"))["examples"] == 2


def test_align_never_overwrites_its_input(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = data.read_bytes()
    assert align(data, "--out", str(data.parent / "." / data.name), "--overwrite") == 2
    assert "is an input file" in capsys.readouterr().err
    assert data.read_bytes() == before


def test_align_counts_refusals_by_what_was_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "published.jsonl"
    links = {"High": ["Smoking: 8", "Age: 9"], "Low": ["Smoking: 8"]}
    record = {"id": "x", "input": "Smoking: 8\nAnswer: ", "target": "High", "important": links}
    path.write_text(json.dumps(record), encoding="utf-8")
    assert align(path, "--json") == 0
    stdout, stderr = capsys.readouterr()
    report = json.loads(stdout)
    assert (report["aligned_links"], report["refused_links"]) == (1, 1)
    assert (report["aligned_causes"], report["refused_causes"]) == (1, 1)
    assert "what to do:" in stderr and "exactly as it stands" in stderr
    assert "example x: refused: effect is not in the text: 'Low'" in stderr


def test_align_strict_refuses_what_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "published.jsonl", tmp_path / "report.json"
    record = {"input": "Smoking: 8\nAnswer: ", "target": "High", "important": {"High": ["Smoking: 8", "Age: 9"]}}
    path.write_text(json.dumps(record), encoding="utf-8")
    assert align(path) == 0
    assert align(path, "--strict", "--out", str(out)) == 2
    assert "--strict: of 1 link, 1 used, with 1 problem" in capsys.readouterr().err
    assert json.loads(out.read_text(encoding="utf-8"))["refused"] == {"cause is not in the text": 1}


def test_align_strict_accepts_what_is_used_in_full(data: Path) -> None:
    assert align(data, "--strict") == 0


def test_align_refuses_a_file_none_of_whose_links_align(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    assert align(data, "--max-length", "3", "--out", str(out)) == 2
    assert "1 link, and none can be used" in capsys.readouterr().err
    assert json.loads(out.read_text(encoding="utf-8"))["rows"] == 0


def test_align_accepts_a_file_without_links(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    save_examples(path, [example(links=())])
    assert align(path) == 0


def test_align_honours_the_rule_for_repeated_phrases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "published.jsonl"
    record = {"input": "8 or 8\nAnswer: ", "target": "High", "important": {"High": ["8"]}}
    path.write_text(json.dumps(record), encoding="utf-8")
    assert align(path, "--occurrences", "all") == 0
    assert align(path, "--occurrences", "error") == 2
    assert "occurs more than once" in capsys.readouterr().err


def test_align_loads_a_saved_tokenizer(data: Path, tmp_path: Path) -> None:
    from cattune.models.tiny import build_tokenizer

    folder = tmp_path / "tokenizer"
    build_tokenizer(["Smoking: 8, Weight: 3\nAnswer: High"]).save_pretrained(folder)
    assert cli.main(["align", str(data), "--tokenizer", str(folder), "--strict"]) == 0


@pytest.mark.parametrize(
    "files", [{}, {"tokenizer.json": "{"}, {"tokenizer_config.json": "[]"}, {"config.json": '{"model_type": "x"}'}]
)
def test_align_explains_a_damaged_tokenizer(
    data: Path, tmp_path: Path, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert cli.main(["align", str(data), "--tokenizer", str(folder)]) == 2
    assert "no tokenizer can be loaded" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["./missing", "/missing", "a/b/c", "", " "])
def test_align_does_not_look_for_paths_on_the_hub(name: str, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["align", str(data), "--tokenizer", name]) == 2
    assert "does not exist; name a folder with a tokenizer" in capsys.readouterr().err


def test_align_explains_an_unreachable_hub(data: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cattune", "align", str(data), "--tokenizer", "no-such-owner/no-such-tokenizer"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no folder 'no-such-owner/no-such-tokenizer', and no tokenizer of this name" in done.stderr
    assert "Traceback" not in done.stderr


def test_align_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "published.jsonl"
    record = {"id": "\x1b[2Jgone", "input": "a ", "target": "b", "important": {"b": ["a"], "[red]c": ["a\x1b"]}}
    path.write_text(json.dumps(record), encoding="utf-8")
    align(path)
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "\\x1b[2Jgone" in err and "[red]c" in err


KEYS = ["id", "prompt", "completion", "input", "target", "important", "messages", "links", "schema", "metadata", "x"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["a b", "b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
RECORDS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
PAIRS = st.builds(lambda a, b, rest: {**rest, "prompt": a, "completion": b}, st.text(), st.text(), RECORDS)
PUBLISHED = st.builds(lambda a, b, rest: {**rest, "input": a, "target": b}, st.text(), st.text(), RECORDS)
FILES = st.binary(max_size=40) | st.lists(RECORDS | PAIRS | PUBLISHED, max_size=3).map(
    lambda records: "\n".join(map(json.dumps, records)).encode()
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=FILES, length=st.none() | st.integers(-1, 6))
def test_align_never_fails_on_what_a_file_holds(content: bytes, length: int | None, tmp_path: Path) -> None:
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(content)
    arguments = [] if length is None else [f"--max-length={length}"]
    assert align(path, *arguments) in (0, 2)
