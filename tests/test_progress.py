"""What commands say while they work: the time left, bars, lines where there is no terminal."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.annotation.summary import Summary
from cattune.cli import progress
from cattune.cli.annotate_progress import show
from cattune.cli.progress import Pace, followed, progress_bars, time_left
from cattune.experiments.cell import Cell
from cattune.experiments.grid import share_done
from cattune.tasks.stg.task import StgTask

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "about 10 s left"),
        (11, "about 20 s left"),
        (59, "about 1 min left"),
        (170, "about 3 min left"),
        (3600, "about 60 min left"),
        (7344, "about 2 h left"),
        (86400 * 3, "about 3 days left"),
    ],
)
def test_a_time_left_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert time_left(seconds) == text


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_more_time_is_never_said_to_be_less(one: float, other: float) -> None:
    def said(seconds: float) -> float:
        _, number, unit, _ = time_left(seconds).split()
        return float(number) * {"s": 1, "min": 60, "h": 3600, "days": 86400}[unit]

    assert (said(one) <= said(other)) == (one <= other) or said(one) == said(other)


def test_the_first_of_many_requests_under_way_says_nothing_of_the_speed() -> None:
    """600 requests of 12 s, 16 at a time: 600 / 16 * 12 s = 450 s, and not the 7,200 s of one after another."""
    clock = Clock()
    pace = Pace(clock)
    pace.tell("examples", 0, 600, least=16)
    clock.now += 12
    for done in range(1, 16):
        pace.tell("examples", done, 600, least=16)
        assert pace.left is None
    for done in range(16, 65):
        clock.now += 12 if done % 16 == 1 else 0  # the others of a round come right behind the first
        pace.tell("examples", done, 600, least=16)
        assert pace.left is not None and 200 < pace.left < 900
    assert pace.left == pytest.approx((600 - 64) / 16 * 12)


def test_what_was_there_already_is_no_speed() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.tell("examples", 500, 600, free=500, least=2)
    clock.now += 3
    pace.tell("examples", 501, 600, free=500, least=2)
    assert pace.left is None
    clock.now += 7
    pace.tell("examples", 502, 600, free=500, least=2)
    assert pace.left == pytest.approx(5 * 98)


def test_the_time_that_reading_what_was_stored_takes_is_no_work() -> None:
    clock = Clock()
    pace = Pace(clock)
    for stored in range(501):
        clock.now += 1
        pace.tell("examples", stored, 600, free=stored)
        assert pace.left is None
    clock.now += 5
    pace.tell("examples", 501, 600, free=500)
    assert pace.left == pytest.approx(5 * 99)


def test_the_time_left_is_not_that_of_the_start_where_few_were_under_way() -> None:
    """One, two, four and then 16 at once, of 12 s each; the first time left is said when 16 of them are done."""
    clock = Clock()
    pace = Pace(clock)
    pace.tell("examples", 0, 600, least=1)
    done = 0
    for at_once in (1, 2, 4, 8, 16):
        pace.tell("examples", done, 600, least=at_once)
        clock.now += 12
        for _ in range(at_once):
            done += 1
            pace.tell("examples", done, 600, least=at_once)
    assert pace.left == pytest.approx((600 - 31) / 16 * 12)


def test_steps_that_an_earlier_run_did_are_no_speed() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.tell("training", 501, 1000)
    clock.now += 10
    pace.tell("training", 511, 1000)
    assert pace.left == pytest.approx(489)


def test_other_work_is_measured_afresh_and_a_standstill_is_seen() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.tell("training", 0, 10)
    clock.now += 100
    pace.tell("training", 10, 10)
    assert pace.left is None
    pace.tell("answering", 0, 10)
    assert pace.left is None
    clock.now += 4
    pace.tell("answering", 2, 10)
    assert pace.left == pytest.approx(16)
    clock.now += 4
    assert pace.left == pytest.approx(32)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come every 50 ms."""
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.1)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.05)
    monkeypatch.setattr(progress, "LEAST_MEASURED_S", 0.0)


def next_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The next lines to come, which are all the same."""
    capsys.readouterr()
    for _ in range(200):
        time.sleep(0.05)
        if said := set(capsys.readouterr().err.splitlines()):
            return said.pop() if len(said) == 1 else str(said)
    raise TimeoutError


def test_where_there_is_no_terminal_a_line_comes_now_and_then(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as update:
        update("cattune x", "reading", 0, 0)
        assert next_line(capsys) == "cattune x: reading, for 0.0 min so far"
        update("cattune x", "examples\x1b", 0, 2000)
        update("cattune x", "examples\x1b", 1500, 2000, note="12 USD")
        assert next_line(capsys) == "cattune x: 1,500 of 2,000 (examples\\x1b), 12 USD, about 10 s left"
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""  # it is over


def test_the_line_is_about_what_is_not_done(quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as update:
        update("one", "x", 3, 3)
        update("two", "x", 1, 3)
        update("three", "x", 1, 3)
        assert next_line(capsys).startswith("two: 1 of 3 (x)")


def test_what_is_quickly_done_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as update:
        update("x", "y", 1, 2)
    assert capsys.readouterr().err == ""


def test_a_closed_log_is_no_failure(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with progress_bars() as update:
        update("x", "y", 1, 2)
        log.close()
        time.sleep(0.2)


def test_what_is_followed_is_what_it_was() -> None:
    told: list[tuple[object, ...]] = []

    def update(*at: object) -> None:
        told.append(at)

    assert list(followed("abc", update, "bar", "what", 3)) == ["a", "b", "c"]
    assert told == [("bar", "what", done, 3) for done in range(4)]


def test_annotate_tells_what_is_stored_from_what_was_asked() -> None:
    told: list[tuple[object, ...]] = []
    summary = Summary(done=7, from_store=5, prompt_tokens=1000, completion_tokens=234)
    show(lambda *at: told.append(at), summary, 10, 16, None)  # type: ignore[arg-type]
    assert told == [("cattune annotate", "examples", 7, 10, 5, 16, "1,234 tokens")]


def test_annotate_tells_what_failed_and_what_was_sent_again() -> None:
    told: list[str] = []
    again = Counter({"time-out": 2, "status 503": 1200, "status 500": 1, "status 429": 3})
    summary = Summary(done=7, failed=Counter(no_json=1, empty=1), sent_again=again)
    show(lambda *at: told.append(str(at[-1])), summary, 10, 16, None)  # type: ignore[arg-type]
    assert told == ["2 failed, sent again: 1,206 (1,200 x status 503, 3 x status 429, 2 x time-out), 0 tokens"]


def test_a_cell_is_done_in_shares() -> None:
    cell = Cell("sft", 0, StgTask(train=20, validation=100, test=200), splits=("validation", "iid"))
    steps = 5
    shares = [
        share_done(cell, steps, "training", 0),
        share_done(cell, steps, "training", 5),
        share_done(cell, steps, "validation", 100),
        share_done(cell, steps, "iid", 100),
        share_done(cell, steps, "iid", 200),
    ]
    assert shares == pytest.approx([0, 0.4, 0.6, 0.8, 1])
    assert share_done(cell, steps, "done", 1) == 1
    assert share_done(cell, steps, "saving", 1) == 0


# A command that waits, and forks a child that waits, too.
WAITS = """
import os, sys, time, types
from cattune.cli import main as cli
module = types.ModuleType("cattune.cli.{name}")
def run(args):
    if os.fork():
        print("started", flush=True)
    time.sleep(30)
module.add_parser = lambda subparsers: subparsers.add_parser("{name}").set_defaults(run=run)
sys.modules["cattune.cli.{name}"] = module
cli.COMMANDS = ("{name}",)
sys.exit(cli.main(["{name}"]))
"""


@pytest.mark.parametrize("name", ["align", "train"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_says_so(name: str, number: int) -> None:
    command = [sys.executable, "-c", WAITS.format(name=name)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, start_new_session=True
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"started\n"
        time.sleep(0.1)
        os.killpg(running.pid, number)
        said = running.stderr.read().decode()
        assert running.wait(timeout=20) == 128 + number
    expected = "terminated" if name == "train" else "terminated; no half-written file is left: run it again"
    assert said == f"cattune: {expected}\n"  # once: the child has nothing to say


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = WAITS.format(name="align").replace("os.fork()", "True").replace("time.sleep(30)", "time.sleep(0.5)")
    command = [sys.executable, "-c", f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{code}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=ENVIRONMENT) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGHUP)
        assert running.wait(timeout=20) == 0


def test_a_line_of_the_commands_own_takes_the_place_of_the_next_one(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 1.0)
    with progress_bars() as update:
        update("one", "x", 1, 3)
        for _ in range(4):
            progress.say("step\x1b")
            time.sleep(0.1)
        assert set(capsys.readouterr().err.splitlines()) == {"step\\x1b"}
        assert next_line(capsys).startswith("one: 1 of 3 (x)")
