"""Tasks: what the built-in ones draw, their counterfactuals, and how one is named, checked and brought from outside."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.data.examples import CausalLink, Example, Span
from cattune.data.records import example_to_dict
from cattune.errors import CattuneError, ConfigError
from cattune.formats.loading import save_examples
from cattune.tasks.load import load_task
from cattune.tasks.stg import BUILT_IN, find_record, make_split
from cattune.tasks.stg.counterfactual import _difference
from cattune.tasks.stg.task import StgTask

SUMS = """
from dataclasses import dataclass
from cattune import Example
from cattune.tasks.base import Task


@dataclass
class Sums(Task):
    most: int = 4
    name = "sums"
    scorer = "numeric"
    group_by = "carries"
    parts = frozenset({"groups"})

    def __post_init__(self):
        self.answers = tuple(str(n) for n in range(2 * self.most - 1))

    def splits(self, data_seed):
        pairs = [(a, b) for a in range(self.most) for b in range(self.most)]
        sums = [Example(f"{a}+{b}", f"{a} + {b} =", str(a + b), metadata={"carries": a + b > 9}) for a, b in pairs]
        return {"train": sums[data_seed % 2 :: 2], "test": sums[1 - data_seed % 2 :: 2]}


TASK = Sums
"""


DRAWN = {"cancer_risk": "1fd59a9a8fad9fcd", "air_quality": "321e30fb0abd8e1f", "bridge_repair": "c6b4c854260e5d8a"}
"""What every release draws: a fingerprint of each game's splits with the data seed 3."""


@pytest.mark.parametrize("game", BUILT_IN)
def test_a_game_always_draws_the_same(game: str) -> None:
    splits = StgTask(game=game, train=30, validation=5, test=20).splits(3)
    records = {name: [example_to_dict(example) for example in examples] for name, examples in splits.items()}
    text = json.dumps(records, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DRAWN[game]


def test_a_training_file_gives_its_wording_and_every_seed_its_examples(tmp_path: Path) -> None:
    game = StgTask().spec
    path = tmp_path / "train.jsonl"
    save_examples(path, make_split(game, "train", 20, 7))
    task = StgTask(validation=5, test=5, train_file=str(path))
    assert [len(task.splits(1)[name]) for name in ("train", "iid", "ood")] == [20, 5, 5]
    assert task.splits(1)["train"] == task.splits(2)["train"]
    assert task.files() == (str(path),)


@pytest.mark.parametrize(
    ("game", "answers", "scorer"),
    [
        ("cancer_risk", ("High", "Middle", "Low"), "exact"),
        ("bridge_repair", ("Urgent", "Routine"), "exact"),
        ("air_quality", None, "numeric"),
    ],
)
def test_closed_answers_are_the_classes(game: str, answers: tuple[str, ...] | None, scorer: str) -> None:
    task = StgTask(game=game)
    assert (task.answers, task.scorer) == (answers, scorer)


def test_a_rule_is_a_setting() -> None:
    wide = StgTask(rule="wide", train=200, validation=1, test=1).splits(0)["train"]
    assert sum(example.completion == "Middle" for example in wide) > 20


@given(
    game=st.sampled_from(BUILT_IN),
    seed=st.integers(0, 99),
    split=st.sampled_from(["train", "ood"]),
    redraw=st.integers(),
)
@settings(max_examples=60, deadline=None)
def test_only_one_causal_value_and_the_answer_change(game: str, seed: int, split: str, redraw: int) -> None:
    task = StgTask(game=game)
    example = make_split(task.spec, split, 1, seed)[0]
    before = {
        found.attribute.name: found.value(example.prompt or "")
        for found in find_record(example.prompt or "", task.spec, "")
    }
    others = task.counterfactuals(example, redraw)
    assert others == task.counterfactuals(example, redraw)
    assert len({other.id for other in (example, *others)}) == 1 + len(others)
    for other in others:
        after = {f.attribute.name: f.value(other.prompt or "") for f in find_record(other.prompt or "", task.spec, "")}
        assert [name for name in before if before[name] != after[name]] == [other.metadata["changed"]]
        assert other.metadata["changed"] in task.spec.causes
        assert other.completion == task.spec.label(after) != example.completion
        assert other.text_of(other.links[0].effect) == other.completion
        phrases = [[e.text_of(cause) for cause in e.links[0].causes] for e in (example, other)]
        assert sum(old != new for old, new in zip(*phrases, strict=True)) == 1
        assert all(text.split(":")[0] in task.spec.causes for text in phrases[1])


def test_links_of_parts_of_a_value_and_of_the_answer_stay_in_their_text() -> None:
    task = StgTask()
    prompt = (
        "Smoking: 10; Weight: 10; Yellow fingers: 3; Exercise: 1; Clothing size: 9; Certain gene: 1; Room size: 1; "
        "Hormones: 1 -> "
    )
    spans = tuple(
        Span("prompt", prompt.index(text), prompt.index(text) + len(text))
        for text in ("Smoking: 1", "10; W", "xercise: 1")
    )
    example = Example("a", prompt, "High", links=(CausalLink(Span("completion", 0, 4), spans),))
    for other in task.counterfactuals(example):
        texts = [other.text_of(cause) for cause in other.links[0].causes]
        assert texts[0].startswith("Smoking: ") and texts[1].endswith("; W") and texts[2].startswith("xercise: ")
        assert other.text_of(other.links[0].effect) == other.completion


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_a_difference_makes_one_text_of_another(old: str, new: str) -> None:
    edit = _difference("completion", old, new)
    assert edit.applied(old) == new


def test_causes_alone() -> None:
    task = StgTask(train=1, validation=1, test=1)
    short = task.causes_only(task.splits(0)["train"][0])
    assert set(short.metadata["attributes"]) == set(task.spec.causes)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"task": "stg", "trian": 3}, r"tasks\[0\]: the task .stg. has no setting .trian.; did you mean 'train'"),
        ({"task": "stg", "colour": 3}, r"no setting .colour.; its settings are game, train,"),
        ({"task": "stg", "train": 0}, r"tasks\[0\]: train is 0; it must be a whole number of at least 1"),
        ({"task": "stg", "train": True}, "train is true; it must be a whole number of at least 1"),
        ({"task": "stg", "links": "words"}, "links is .words.; it must be phrases or values"),
        ({"task": "stg", "game": "nope"}, r"tasks\[0\]: game: cannot read the game .nope."),
        ({"task": "stg", "rule": "nope"}, "rule: game .cancer_risk. has no outcome rule .nope."),
        ({"task": "files"}, "the setting 'train_file' of the task .files. is missing"),
        ({"task": "files", "train_file": "a", "scorer": "choice"}, "scorer: choice is the likelihood of each answer"),
        (
            {"task": "files", "train_file": "a", "eval_files": {"train": "b"}},
            "eval_files: a split cannot be called train",
        ),
        ({"task": "sgt"}, "unknown task 'sgt'; did you mean 'stg'"),
        ({"train": 3}, "the key 'task' is missing"),
    ],
)
def test_a_mistake_names_the_key(spec: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(spec, "tasks[0]")


def test_a_yaml_file_is_read_by_the_types_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text("task: files\ntrain_file: 007\nanswers: [yes, no]\n")
    assert load_task(path).settings() == {
        "train_file": "007",
        "eval_files": {},
        "occurrences": "context",
        "answers": ["yes", "no"],
        "group_by": None,
        "scorer": "exact",
    }


def test_a_task_of_ones_own_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "sums.py"
    path.write_text(SUMS)
    task = load_task({"task": str(path), "most": 2})
    assert (task.answers, task.settings()) == (("0", "1", "2"), {"most": 2})
    assert [example.prompt for example in task.splits(0)["train"]] == ["0 + 0 =", "1 + 0 ="]
    with pytest.raises(ConfigError, match="most is .many.; it must be a whole number"):
        load_task({"task": str(path), "most": "many"})


def test_a_task_of_a_package_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_sums.py").write_text(SUMS)
    folder = tmp_path / "outside_sums-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: outside-sums\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[cattune.tasks]\nsums = outside_sums:Sums\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside_sums", raising=False)
    assert load_task("sums").name == "sums"
    with pytest.raises(CattuneError, match="stg, files, sums"):
        load_task("summs-and-products")


def test_a_task_says_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "sums.py"
    path.write_text(SUMS)
    task = load_task(str(path))
    example = Example("a", prompt="1 + 1 =", completion=" 2")
    with pytest.raises(ConfigError, match="'sums' knows no counterfactuals"):
        task.counterfactuals(example)
    with pytest.raises(ConfigError, match="'sums' cannot cut an example to its causes"):
        task.causes_only(example)
