"""`cattune annotate` as a process: faults and kills, keys, budgets, a full disk, what it says and writes."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from assistant_server import read_log, running, write_replies
from behaving_server import Answer, behaving, good, refused

from cattune import Example, load_examples, save_examples
from cattune.annotation import Store, load_prior, output_limit
from cattune.annotation.assistant.prompt import example_tag
from cattune.annotation.assistant.reply_form import OUTPUT_LIMITS
from cattune.annotation.store.store import Failure
from cattune.cli import annotate_run
from cattune.cli import main as cli
from cattune.errors import ConfigError
from cattune.tasks.stg import load_game, make_split

KEY = "sk-test-0123456789abcdef"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENAI_API_KEY": KEY}


Done = subprocess.CompletedProcess[str]


def examples(count: int) -> list[Example]:
    return make_split(load_game("cancer_risk"), "train", count, seed=0)


class Folder:
    """A folder with an input, the replies to it, and the command line that annotates it."""

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        self.examples = examples(count)
        self.input = path / "in.jsonl"
        save_examples(self.input, [replace(example, links=()) for example in self.examples])
        self.replies = write_replies(path / "replies.jsonl", self.examples)
        self.log = path / "log.jsonl"

    def command(self, url: str, out: str = "out.jsonl", *options: object) -> list[str]:
        settings = ("--prior", "tabular_risk", "--model", "m", "--base-url", url, "--timeout", 1, *options)
        return [
            sys.executable,
            "-m",
            "cattune",
            "annotate",
            str(self.input),
            "--out",
            str(self.path / out),
            *map(str, settings),
        ]

    def run(
        self, url: str, out: str = "out.jsonl", *options: object, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(url, out, *options),
            capture_output=True,
            text=True,
            env={**ENVIRONMENT, **environment},
            timeout=300,
        )

    def start(self, url: str, *options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(url, "out.jsonl", *options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def answered(self) -> list[dict[str, Any]]:
        return [event for event in read_log(self.log) if event["event"] == "answer"] if self.log.exists() else []

    def wait_for(self, answers: int, process: subprocess.Popen[str]) -> None:
        while len(self.answered()) < answers:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, 60)


def stored(path: Path) -> int:
    with sqlite3.connect(path) as database:
        return int(database.execute("SELECT total(requests) FROM spent").fetchone()[0])


def check_kills(folder: Folder, kills: int, concurrency: int, seed: int) -> None:
    """Kill the command as often as said, let it end, and compare with a run without faults and kills."""
    with running(folder.replies) as url:
        done = folder.run(url, "clean.jsonl")
        assert done.returncode == 0, done.stderr
    options = ("--concurrency", concurrency, "--max-retries", 12)
    rng = random.Random(seed)
    count = len(folder.examples)
    faults = ("--faults", 0.2, "--seed", seed, "--latency", 0.02, "--retry-after", 0.2)
    lost_at_kills = 0
    with running(folder.replies, *faults, log=folder.log) as url:
        for kill in range(kills):
            process = folder.start(url, *options)
            folder.wait_for(int(count * (kill + rng.random()) / kills), process)
            process.kill()
            process.communicate()
            time.sleep(0.2)  # for the server to finish and note what it was writing
            assert not (folder.path / "out.jsonl").exists()
            lost = len(folder.answered()) - stored(folder.path / "out.jsonl.store") - lost_at_kills
            assert 0 <= lost <= concurrency
            lost_at_kills += lost
        done = folder.run(url, "out.jsonl", *options, "--json")
        assert done.returncode == 0, done.stderr
    assert (folder.path / "out.jsonl").read_bytes() == (folder.path / "clean.jsonl").read_bytes()

    events = read_log(folder.log)
    requests = Counter(event["body"] for event in events if event["event"] == "request")
    answers = Counter(event["body"] for event in events if event["event"] == "answer")
    lost_on_the_wire = requests.total() - answers.total()  # refused, dropped, stalled, or under way at a kill
    repeated = requests.total() - len(requests)
    assert repeated <= lost_on_the_wire + lost_at_kills
    # No whole reply was got twice, but for those that had not yet reached the disk at a kill.
    assert sum(times - 1 for times in answers.values()) <= lost_at_kills <= kills * concurrency
    assert answers.total() - lost_at_kills == stored(folder.path / "out.jsonl.store")
    faults_met = Counter(event["fault"] for event in events if event["fault"])
    assert faults_met.total() > 0.1 * count
    assert len(faults_met) > (10 if count >= 1000 else 5)  # which ones depends on where the kills fall


def test_faults_and_kills_change_nothing(folder: Folder) -> None:
    check_kills(folder, kills=2, concurrency=8, seed=1)


@pytest.mark.slow
def test_two_thousand_examples_faults_and_three_kills(tmp_path: Path) -> None:
    check_kills(Folder(tmp_path, 2000), kills=3, concurrency=32, seed=0)


def test_the_same_command_again_asks_nothing(folder: Folder) -> None:
    with running(folder.replies, log=folder.log) as url:
        first = folder.run(url, "out.jsonl", "--json")
        assert folder.run(url).returncode == 2  # the file is there
        again = folder.run(url, "out.jsonl", "--json", "--overwrite")
        assert (first.returncode, again.returncode) == (0, 0)
    assert len(folder.answered()) == 60
    assert (json.loads(first.stdout)["asked"], json.loads(again.stdout)["asked"]) == (60, 0)
    assert json.loads(again.stdout)["reused"] == 60
    made = load_examples(folder.path / "out.jsonl")
    assert [[(link.effect, link.causes) for link in example.links] for example in made] == [
        [(link.effect, link.causes) for link in example.links] for example in folder.examples
    ]


def test_two_processes_share_one_store(folder: Folder) -> None:
    store = ("--store", folder.path / "store")
    with running(folder.replies, "--latency", 0.05, log=folder.log) as url:
        commands = [folder.command(url, out, *store) for out in ("one.jsonl", "other.jsonl")]
        processes = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) for command in commands]
        assert [process.wait(60) for process in processes] == [0, 0]
    assert (folder.path / "one.jsonl").read_bytes() == (folder.path / "other.jsonl").read_bytes()
    assert len(folder.answered()) == 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stores_what_is_under_way(folder: Folder, number: int) -> None:
    with running(folder.replies, "--latency", 0.3, log=folder.log) as url:
        process = folder.start(url, "--concurrency", 6)
        folder.wait_for(6, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 128 + number
        assert "requests under way are waited for and stored" in said
        assert "the same command goes on where this one stopped" in said
        assert not (folder.path / "out.jsonl").exists()
        requests = [event for event in read_log(folder.log) if event["event"] == "request"]
        assert len(requests) == len(folder.answered()) == stored(folder.path / "out.jsonl.store") < 60
        assert folder.run(url).returncode == 0
    assert len(folder.answered()) == 60


def test_ctrl_c_ends_a_long_wait(folder: Folder) -> None:
    with running(folder.replies, "--faults", 1, "--only", "429", "--retry-after", 600) as url:
        process = folder.start(url)
        assert process.stderr is not None
        assert "asks to wait 600 s" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == 130


def test_ctrl_c_in_the_middle_of_a_line_stops_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python lets nothing be written to a stream, by a signal handler, that is being written to."""

    def refuse(message: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(annotate_run, "say", refuse)
    stopped: list[str] = []
    with annotate_run._interruptible(SimpleNamespace(stop=stopped.append)) as came:  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)
    assert came == [signal.SIGINT] and len(stopped) == 1


def test_a_budget_stops_the_run_and_a_higher_one_goes_on(folder: Folder) -> None:
    price = ("--price", 100, 100, "--concurrency", 4, "--parameters", '{"max_tokens": 30}')
    with running(folder.replies, log=folder.log) as url:
        done = folder.run(url, "out.jsonl", *price, "--budget", 2, "--json")
        assert done.returncode == 1, done.stderr
        record = json.loads(done.stdout)
        assert record["stopped"] == "budget"
        assert 0.5 < record["store_cost_usd"] <= 2
        assert record["out"] is None
        assert "the same command with a higher --budget goes on" in done.stderr
        assert not (folder.path / "out.jsonl").exists()
        done = folder.run(url, "out.jsonl", *price, "--budget", 100)
        assert done.returncode == 0, done.stderr
    assert len(folder.answered()) == 60


def test_a_wrong_key_stops_at_once_and_is_written_nowhere(folder: Folder) -> None:
    with running(folder.replies, "--key", "another", "--latency", 0.1, log=folder.log) as url:
        done = folder.run(url, "out.jsonl", "--json", "--concurrency", 4)
    assert done.returncode == 2
    assert "OPENAI_API_KEY" in done.stderr
    assert len(read_log(folder.log)) <= 4
    assert not (folder.path / "out.jsonl.store").exists()
    assert KEY not in done.stdout + done.stderr
    assert_nowhere(KEY, folder.path)


def test_the_right_key_is_sent_and_written_nowhere(folder: Folder) -> None:
    with running(folder.replies, "--key", KEY, "--faults", 0.3) as url:
        done = folder.run(url, "out.jsonl", "--json", "--max-retries", 12)
        assert done.returncode == 0, done.stderr
    assert KEY not in done.stdout + done.stderr
    assert_nowhere(KEY, folder.path)


def assert_nowhere(key: str, folder: Path) -> None:
    for path in folder.iterdir():
        assert key.encode() not in path.read_bytes(), path


def test_failed_examples_are_listed_kept_and_asked_again(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    lines = folder.replies.read_text().splitlines()
    mended = folder.path / "mended.jsonl"
    mended.write_text(folder.replies.read_text())
    record = json.loads(lines[7])
    record["text"] = "Tut mir leid, dazu sage ich nichts."
    folder.replies.write_text("\n".join([*lines[:7], json.dumps(record), *lines[8:]]))
    with running(folder.replies) as url:
        done = folder.run(url, "out.jsonl", "--json")
        assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert summary["failed"] == {"no_json": 1}
    assert summary["first_failures"][0]["id"] == folder.examples[7].id
    assert folder.examples[7].id in done.stderr
    assert "--retry-failed" in done.stderr
    assert f"cattune annotations replies {folder.path / 'out.jsonl.store'} shows them" in done.stderr
    made = load_examples(folder.path / "out.jsonl")
    assert [bool(example.links) for example in made] == [i != 7 for i in range(60)]
    for at in (("out.jsonl",), ("out.jsonl.store",), ("in.jsonl", "--store", folder.path / "out.jsonl.store")):
        assert cli.main(["annotations", "replies", str(folder.path / at[0]), *map(str, at[1:])]) == 0
        shown = capsys.readouterr().out
        assert f"example {folder.examples[7].id}: no_json: " in shown
        assert "advice: turn structured output on" in shown
        assert "| Tut mir leid, dazu sage ich nichts." in shown
    with running(mended, log=folder.log) as url:
        assert folder.run(url, "out.jsonl", "--overwrite").returncode == 1
        assert not folder.answered()
        assert folder.run(url, "out.jsonl", "--retry-failed").returncode == 0
    assert len(folder.answered()) == 1
    assert all(example.links for example in load_examples(folder.path / "out.jsonl"))


def test_replies_that_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(tmp_path / "replies.store") as store:
        for number, (example, text) in enumerate([("a", "x" * 1000), ("a", "two\n\x1b[2Jlines"), ("", "old")]):
            store.fail([Failure(bytes([number]), "no_json", "prose", text, example)]).result()
        store.reopen([bytes([2])]).result()
        store.fail([Failure(bytes([2]), "mystery", "?", "older", "")]).result()

    def shown(*options: str) -> str:
        assert cli.main(["annotations", "replies", str(tmp_path / "replies.store"), *options]) == 0
        return capsys.readouterr().out

    lines = shown().splitlines()
    assert lines[2:4] == ["  | " + "x" * 600, "  | ... and 400 characters more: --id shows all"]
    assert lines[7:9] == ["  | two", r"  | \x1b[2Jlines"]
    assert lines[10:] == ["an example of an earlier release: mystery, attempt 2: ?", "  | older", ""]
    assert "x" * 1000 in shown("--id", "a") and "older" not in shown("--id", "a")
    records = [json.loads(line) for line in shown("--json").splitlines()]
    assert [(record["example"], record["attempt"], len(record["reply"])) for record in records] == [
        ("a", 1, 1000),
        ("a", 1, 13),
        (None, 2, 5),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.jsonl",), "does not exist, and there is none beside it"),
        (("in.jsonl",), "is no store, and there is none beside it"),
        (("in.jsonl", "--store", "in.jsonl"), "in.jsonl is no store"),
        (("in.jsonl", "--store", "gone"), "gone cannot be read"),
        (("r.store", "--id", "zz"), 'no reply about the example "zz"'),
    ],
)
def test_replies_that_are_not_there(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.path)
    with Store("r.store") as store:
        store.fail([Failure(bytes(1), "no_json", "prose", "No.", "a")]).result()
    before = sorted(folder.path.iterdir())
    assert cli.main(["annotations", "replies", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sorted(folder.path.iterdir()) == before


def test_links_that_are_there_are_counted_within_the_limit(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    save_examples(folder.input, folder.examples)
    assert annotate(folder, "http://127.0.0.1:9/v1", "--dry-run", "--limit", 5) == 0
    assert "5 examples have links already, of 5; " in capsys.readouterr().err


def annotate(folder: Folder, url: str, *options: object) -> int:
    """The command in this process."""
    return cli.main(folder.command(url, "out.jsonl", *options)[3:])


@pytest.mark.parametrize(
    ("address", "count"),
    [("http://127.0.0.1:9/v1", 2), ("http://127.0.0.1:9/v1", 60), ("http://no-such-host.invalid/v1", 2)],
)
def test_the_same_command_goes_on_where_nobody_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str, count: int
) -> None:
    folder = Folder(tmp_path, count)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert annotate(folder, address, "--max-retries", 0) == 1
    said = capsys.readouterr().err
    assert "does not answer" in said and "no connection" in said
    assert "out.jsonl was not written" in said and "the same command goes on" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with running(folder.replies) as url:
        assert annotate(folder, url, "--max-retries", 0) == 0
    assert all(example.links for example in load_examples(tmp_path / "out.jsonl"))


@pytest.mark.parametrize(("count", "retries"), [(5, 0), (5, 1), (12, 0)])
def test_a_server_that_dies_is_told_as_gone_however_few_are_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, retries: int
) -> None:
    folder = Folder(tmp_path, count)
    with running(folder.replies, "--dies-after", 3) as url:
        assert annotate(folder, url, "--max-retries", retries) == 1
    said = capsys.readouterr().err
    assert "answer" in said and "out.jsonl was not written" in said and "the same command goes on" in said
    assert not (tmp_path / "out.jsonl").exists()
    with running(folder.replies, log=folder.log) as url:
        assert annotate(folder, url) == 0
    assert len(folder.answered()) in (count - 3, count - 2)  # the last answer may have died with the server


def test_a_text_that_breaks_each_connection_is_not_taken_for_a_server_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path, 6)
    with running(folder.replies, "--drops", example_tag(folder.examples[5])) as url:
        assert annotate(folder, url, "--max-retries", 1) == 1
    said = capsys.readouterr().err
    assert "1 example got no answer: the same command asks again" in said
    assert "sent again: 1 (1 x connection failed)" in said
    assert [bool(example.links) for example in load_examples(tmp_path / "out.jsonl")] == [True] * 5 + [False]


def test_the_same_command_asks_again_what_got_no_answer(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    all_replies = folder.replies.read_text()
    folder.replies.write_text("".join(all_replies.splitlines(keepends=True)[:-2]))  # the server knows no more
    with running(folder.replies) as url:
        assert annotate(folder, url) == 1
        said = capsys.readouterr().err
        assert "2 examples got no answer: the same command asks again" in said
        first = (folder.path / "out.jsonl").read_bytes()
        assert annotate(folder, url, "--model", "another") == 2
        assert "another input, prior, model or setting" in capsys.readouterr().err
        assert annotate(folder, url) == 1  # refused once more
        assert "2 examples got no answer: the same command asks again" in capsys.readouterr().err
        assert (folder.path / "out.jsonl").read_bytes() == first
    folder.replies.write_text(all_replies)
    with running(folder.replies, log=folder.log) as url:
        assert annotate(folder, url) == 0
        assert "in which 2 examples got no answer" in capsys.readouterr().err
        assert annotate(folder, url) == 2
        assert "already exists, complete, of an earlier run of this command" in capsys.readouterr().err
    assert len(folder.answered()) == 2
    assert all(example.links for example in load_examples(folder.path / "out.jsonl"))


def test_many_texts_that_are_refused_stop_no_rerun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing says that these refusals are about the texts; but an earlier run got answers."""
    folder = Folder(tmp_path, 15)
    replies = dict(json.loads(line).values() for line in folder.replies.read_text().splitlines())

    def answer(n: int, request: dict[str, Any]) -> Answer:
        tag = next(tag for tag in replies if tag in request["messages"][-1]["content"])
        return good(replies[tag]) if tag in list(replies)[:3] else refused(403, "Nein.")

    with behaving(answer) as server:
        for asked in (15, 12):
            server.requests.clear()
            assert annotate(folder, server.url) == 1
            assert "failed: 12 x status 403" in capsys.readouterr().err
            assert len(server.requests) == asked


def test_a_text_that_is_refused_stops_neither_the_run_nor_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path, 4)
    replies = dict(json.loads(line).values() for line in folder.replies.read_text().splitlines())
    tags = list(replies)

    def answer(n: int, request: dict[str, Any]) -> Answer:
        tag = next(tag for tag in tags if tag in request["messages"][-1]["content"])
        if tag == tags[2]:
            return refused(403, "your input was flagged", metadata={"reasons": ["x"]})
        return good(replies[tag])

    with behaving(answer) as server:
        for count in (4, 1):
            server.requests.clear()
            assert annotate(folder, server.url) == 1
            said = capsys.readouterr().err
            assert "failed: 1 x flagged" in said and "status 403: your input was flagged" in said
            assert "wrote" in said
            assert len(server.requests) == count
    assert [bool(example.links) for example in load_examples(tmp_path / "out.jsonl")] == [True, True, False, True]


def test_an_output_that_was_edited_is_not_replaced(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.replies.write_text("".join(folder.replies.read_text().splitlines(keepends=True)[:-2]))
    with running(folder.replies) as url:
        assert annotate(folder, url) == 1
        out = folder.path / "out.jsonl"
        save_examples(out, load_examples(out)[:-1])
        assert annotate(folder, url) == 2
    assert "out.jsonl was changed after an earlier run wrote it" in capsys.readouterr().err


def test_a_changed_input_reuses_what_is_the_same(folder: Folder) -> None:
    with running(folder.replies, log=folder.log) as url:
        assert folder.run(url, "out.jsonl", "--limit", 40).returncode == 0
        save_examples(folder.input, [replace(example, links=()) for example in folder.examples[10:]])
        done = folder.run(url, "out.jsonl", "--overwrite")
    assert "has changed since the last run (60 examples then, 50 now)" in done.stderr
    assert "replies to 30 texts are reused; new: 20" in done.stderr
    assert len(folder.answered()) == 60
    assert [example.id for example in load_examples(folder.path / "out.jsonl")] == [e.id for e in folder.examples[10:]]


def test_an_input_that_changes_while_it_runs_writes_nothing(folder: Folder) -> None:
    with running(folder.replies, "--latency", 0.1, log=folder.log) as url:
        process = folder.start(url, "--concurrency", 2)
        folder.wait_for(4, process)
        with folder.input.open("a") as file:
            file.write("\n")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "was changed while it was annotated" in said
    assert not (folder.path / "out.jsonl").exists()


def test_a_full_disk_stops_the_run_and_a_free_one_goes_on(folder: Folder) -> None:
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))\n"
        "from cattune.cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with running(folder.replies, log=folder.log) as url:
        arguments = folder.command(url, "out.jsonl", "--concurrency", 2)[3:]
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=ENVIRONMENT
        )
        assert done.returncode == 2
        assert "the store" in done.stderr
        assert "Traceback" not in done.stderr
        kept = stored(folder.path / "out.jsonl.store")
        assert 0 < kept < 60
        assert folder.run(url).returncode == 0
    assert len(folder.answered()) <= 60 + 2


def test_an_output_that_cannot_be_written_loses_no_reply(folder: Folder) -> None:
    with running(folder.replies, log=folder.log) as url:
        done = folder.run(url, "../" * 30 + "dev/full", "--store", folder.path / "store", "--overwrite")
        assert done.returncode == 2
        assert "disk is full" in done.stderr
        assert folder.run(url, "out.jsonl", "--store", folder.path / "store").returncode == 0
    assert len(folder.answered()) == 60


def test_a_server_with_one_slot_gets_each_request_once(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixteen at once would wait for 0.8 s, twice the time-out."""
    with running(folder.replies, "--slots", 1, "--latency", 0.05, log=folder.log) as url:
        assert annotate(folder, url, "--timeout", 0.4) == 0, capsys.readouterr().err
    events = [event["event"] for event in read_log(folder.log)]
    assert events[:3] == ["request", "answer", "request"]  # the first one is alone
    assert Counter(events) == {"request": 60, "answer": 60}


def test_dry_run_needs_no_key_and_no_network(folder: Folder) -> None:
    done = folder.run("http://127.0.0.1:9/v1", "out.jsonl", "--dry-run", "--price", 2, 8, OPENAI_API_KEY="")
    assert done.returncode == 0, done.stderr
    assert folder.examples[0].prompt is not None
    assert folder.examples[0].prompt.strip() in done.stdout
    assert "60 requests to send" in done.stderr
    assert "USD" in done.stderr
    assert not (folder.path / "out.jsonl.store").exists()
    record = json.loads(folder.run("", "out.jsonl", "--dry-run", "--price", 2, 8, "--json").stdout)
    assert record["cost_usd"] == pytest.approx((2 * record["prompt_tokens"] + 8 * record["completion_tokens"]) / 1e6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", 1), "--price"),
        (("--limit", 0), "--limit"),
        (("--max-output-tokens", 0), "--max-output-tokens"),
        (("--max-output-tokens", 9, "--parameters", '{"max_tokens": 9}'), "give one of them"),
        (("--answer-first", 2), "--answer-first"),
        (("--concurrency", 0), "concurrency"),
        (("--timeout", 0), "--timeout"),
        (("--reply-timeout", "nan"), "--reply-timeout"),
        (("--response-format", "yaml"), "--response-format"),
        (("--batch", "send", "x"), "--batch"),
        (("--local", "--price", 1, 1), "--local"),
        (("--parameters", "[1]"), "JSON object"),
        (("--parameters", '{"stream": true}'), "stream"),
        (("--prior", "nothing.yaml"), "nothing.yaml"),
        (("--out", "."), "folder"),
        (("--price", -1, 1), "prices"),
        (("--thought-tags", "<so>", " "), "thought tags"),
    ],
)
def test_calls_that_make_no_sense(
    folder: Folder, options: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = cli.main(folder.command("http://127.0.0.1:9/v1", "out.jsonl", *options)[3:])
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr().err
    assert status == 2
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize("form", ["json_schema", "json_object", "text"])
def test_the_user_says_which_form_to_ask_for(folder: Folder, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--response-format", form, "--limit", 2)
    with behaving(lambda n, request: refused(403)) as server:
        annotate(folder, server.url, *options)
    path = folder.path / "requests"
    assert annotate(folder, server.url, *options, "--batch", "write", path) == 0
    asked = [*server.requests, *(json.loads(line)["body"] for line in path.read_text().splitlines())]
    assert len(asked) == 4
    assert {request.get("response_format", {}).get("type", "text") for request in asked} == {form}


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ((), {"max_tokens": output_limit(load_prior("tabular_risk"))}),
        (("--max-output-tokens", 99), {"max_tokens": 99}),
        (("--parameters", '{"max_completion_tokens": 7}'), {"max_completion_tokens": 7}),
    ],
)
def test_every_request_has_a_limit_and_the_form_that_the_options_say(
    folder: Folder, options: tuple[object, ...], limit: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    def assistant(model: str, form: dict[str, Any], /, **settings: Any) -> None:
        made.update(settings, schema=form["json_schema"]["schema"])
        raise ConfigError("enough")

    monkeypatch.setattr("cattune.annotation.assistant.endpoint.client.Assistant", assistant)
    for answer_first in ((), ("--answer-first", 0), ("--answer-first", 1)):
        assert annotate(folder, "http://127.0.0.1:9/v1", *options, *answer_first) == 2
        assert {key: value for key, value in made["parameters"].items() if key in OUTPUT_LIMITS} == limit
        assert ("answer" in made["schema"]["properties"]) == (answer_first == ("--answer-first", 1))


@pytest.mark.parametrize(
    "options",
    [
        ("--batch", "write", "in.jsonl"),
        ("--batch", "write", "replies.store"),
        ("--batch", "write", "prior.yaml"),
        ("--batch", "write", "out.jsonl"),
        ("--out", "prior.yaml"),
        ("--out", "replies.store"),
        ("--store", "in.jsonl"),
    ],
)
def test_nothing_that_is_read_or_kept_is_overwritten(
    folder: Folder, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.input.parent)
    assert cli.main(["prior", "new", "--from", "tabular_risk", "--out", "prior.yaml"]) == 0
    Store("replies.store").close()
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    words = ["annotate", "in.jsonl", "--prior", "prior.yaml", "--model", "m", "--store", "replies.store"]
    assert cli.main([*words, "--out", "out.jsonl", "--overwrite", *options]) == 2
    assert "name another output" in (said := capsys.readouterr().err) or "two outputs" in said
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_the_input_is_not_overwritten(folder: Folder) -> None:
    before = folder.input.read_bytes()
    done = folder.run("http://127.0.0.1:9/v1", "in.jsonl", "--overwrite")
    assert done.returncode == 2
    assert folder.input.read_bytes() == before


def test_a_mistake_in_the_last_line_costs_nothing(folder: Folder) -> None:
    with folder.input.open("a") as file:
        file.write("{")
    with running(folder.replies, log=folder.log) as url:
        done = folder.run(url)
    assert done.returncode == 2
    assert "line 61" in done.stderr
    assert not folder.log.exists() or not read_log(folder.log)


@pytest.mark.slow
def test_a_local_model_annotates(tmp_path: Path) -> None:
    """An untrained model: what counts is that its replies are got, stored, judged and counted."""
    from cattune.annotation.assistant.prior import load_prior
    from cattune.annotation.assistant.prompt import build_messages
    from cattune.models import tiny

    folder = Folder(tmp_path, 3)
    prior = load_prior("tabular_risk")
    texts = [turn["content"] for example in folder.examples for turn in build_messages(prior, example)]
    model, tokenizer = tiny.build(texts, seed=0)
    model.config.max_position_embeddings = 16384
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    command = [sys.executable, "-m", "cattune", "annotate", folder.input, "--out", tmp_path / "out.jsonl", "--json"]
    settings = ["--prior", "tabular_risk", "--model", tmp_path / "model", "--local", "--concurrency", 2]
    limit = ["--parameters", '{"max_tokens": 8}', "--repair", 0]
    done = subprocess.run(
        list(map(str, [*command, *settings, *limit])), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 1, done.stderr
    record = json.loads(done.stdout)
    assert record["asked"] == 3
    assert sum(record["failed"].values()) == 3
    assert "replies are not held to a form" in done.stderr
    assert len(load_examples(tmp_path / "out.jsonl")) == 3


def test_a_chat_template_that_has_no_system_turn(tmp_path: Path) -> None:
    from cattune.annotation.assistant.local import LocalModel
    from cattune.models import tiny

    turn = "{% for m in messages %}{% if m.role == REFUSED %}{{ raise_exception('no such role') }}{% endif %}"
    template = turn + "<{{ m.role }}>{{ m.content }}{% endfor %}"
    messages = [{"role": role, "content": f"{role} said"} for role in ("system", "user", "assistant", "user")]

    def rendered(refused: str) -> str:
        model, tokenizer = tiny.build(["some text"], seed=0)
        tokenizer.chat_template = template.replace("REFUSED", repr(refused))
        model.save_pretrained(tmp_path / refused)
        tokenizer.save_pretrained(tmp_path / refused)
        return LocalModel(tmp_path / refused)._rendered(messages)

    later = "<assistant>assistant said<user>user said"
    assert rendered("nobody") == "<system>system said<user>user said" + later
    assert rendered("system") == "<user>system said\n\nuser said" + later
    with pytest.raises(ConfigError, match="chat template .* no such role"):
        rendered("assistant")
    template = "{{ 'a' * 2000000 }}" + template
    with pytest.raises(ConfigError, match="chat template .* it writes 2,000,"):
        rendered("nobody")
