"""The first five hundred of the mutated inputs that benchmarks/mutations.py has ten thousand of."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mutation_trials
import pytest
from mutation_trials import loaded, trial

from cattune.errors import DataError
from cattune.formats.loading import load_examples

BLOCK = 50


@pytest.fixture(scope="module", autouse=True)
def everything_loaded() -> None:
    loaded()


@pytest.mark.parametrize("first", range(0, 500, BLOCK))
def test_mutated_inputs_are_read_or_refused_in_order(first: int, tmp_path: Path) -> None:
    problems = []
    for seed in range(first, first + BLOCK):
        folder = tmp_path / str(seed)
        folder.mkdir()
        done = trial(seed, folder, endless=0)
        if done.problem:
            problems.append(f"input {seed}: {done.kind}: {', '.join(done.steps)}: {done.problem}")
    assert not problems, "\n".join(problems)


def of_records(tmp_path: Path, outcome: str) -> tuple[int, Path]:
    """A seed whose file of records is read, or refused, and an empty folder."""
    for seed in range(100):
        folder = tmp_path / str(seed)
        folder.mkdir()
        done = trial(seed, folder)
        if done.kind == "records in a file" and done.outcome == outcome:
            break
    empty = tmp_path / "again"
    empty.mkdir()
    return seed, empty


def test_a_changed_word_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def upper(path: Any, occurrences: str = "context") -> Any:
        return [
            replace(e, prompt=e.prompt and e.prompt + "!", messages=tuple(replace(m, content="x") for m in e.messages))
            for e in load_examples(path, occurrences)
        ]

    seed, folder = of_records(tmp_path, "read")
    monkeypatch.setattr(mutation_trials, "load_examples", upper)
    assert "the texts: " in trial(seed, folder).problem


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (KeyError("a"), "KeyError: 'a'"),
        (DataError("\ud800"), "a message that cannot be printed"),
        (DataError(""), "no "),
    ],
)
def test_another_exception_or_a_bad_message_is_noticed(
    error: Exception, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Any, occurrences: str = "context") -> Any:
        raise error

    seed, folder = of_records(tmp_path, "refused")
    monkeypatch.setattr(mutation_trials, "load_examples", fail)
    assert problem in trial(seed, folder).problem


def test_what_takes_long_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: Any, occurrences: str = "context") -> Any:
        end = time.process_time() + 0.06
        while time.process_time() < end:
            pass
        return load_examples(path, occurrences)

    seed, folder = of_records(tmp_path, "read")
    monkeypatch.setattr(mutation_trials, "load_examples", busy)
    monkeypatch.setattr(mutation_trials, "SECONDS", 0.05)
    assert "of the processor" in trial(seed, folder).problem
