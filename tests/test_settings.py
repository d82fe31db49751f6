"""Settings: what is written in a file or on a command line becomes what the setting's type asks for, or is refused."""

from __future__ import annotations

import math
from dataclasses import fields
from enum import Enum
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.cli.train import read_words
from cattune.data.settings import Word, read_settings, typed
from cattune.errors import ConfigError
from cattune.experiments.job import TrainJob
from cattune.training.config import CATConfig

REQUIRED = {"model": "tiny", "train_file": "train.jsonl", "output_dir": "run"}


def setting(name: str, words: list[str]) -> Any:
    """What a job makes of `--name word ...`."""
    return TrainJob.from_dict(REQUIRED | read_words([f"--{name}", *words])).settings[name]


def setting_of_file(name: str, text: str) -> Any:
    """What a job makes of `name: text` in a file."""
    return TrainJob.from_dict(REQUIRED | read_settings(f"{name}: {text}", "config.yaml")).settings[name]


HINTS = get_type_hints(CATConfig)
NAMES = sorted(f.name for f in fields(CATConfig) if f.init and f.name not in ("output_dir", "resume_from_checkpoint"))


def kind_of(hint: Any) -> Any:
    """The one type of a setting, beside None, and beside the text that transformers allows for an enumeration."""
    kinds = [kind for kind in get_args(hint | None) if kind is not NoneType]
    choices = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Enum)]
    return choices[0] if choices else kinds[0] if kinds[0] in VALUES and len(kinds) == 1 else None


VALUES: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(),
    float: st.floats(allow_nan=False),
    # Brackets and quotes are YAML's, and the first three are its words for nothing.
    str: st.text(min_size=1).filter(
        lambda text: text not in ("~", "null", "Null", "NULL") and text[0] not in "[{\"'" and text[:2] != "--"
    ),
}
SIMPLE = {name: kind for name in NAMES if (kind := kind_of(HINTS[name])) is not None}


@settings(deadline=None)
@given(st.data())
def test_every_setting_of_a_simple_kind_is_read_from_the_command_line_as_it_was_written(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(SIMPLE)))
    kind = SIMPLE[name]
    value = data.draw(VALUES[kind] if kind in VALUES else st.sampled_from(list(kind)))  # type: ignore[call-overload]
    word = str(value.value if isinstance(value, Enum) else value)
    assert setting(name, [word]) == value
    assert type(setting(name, [word])) is kind


def test_the_simple_kinds_are_nearly_all() -> None:
    assert len(SIMPLE) > 0.8 * len(NAMES)
    assert {"save_strategy", "optim", "hub_strategy", "lr_scheduler_type", "run_name", "eval_delay"} <= set(SIMPLE)


CHOICES = [(name, choice.value) for name, kind in SIMPLE.items() if issubclass(kind, Enum) for choice in kind]


@pytest.mark.parametrize(("name", "choice"), CHOICES)
def test_every_choice_is_taken_bare_and_in_quotes_from_file_and_command_line(name: str, choice: str) -> None:
    for text in (choice, f"'{choice}'", f'"{choice}"'):
        assert setting(name, [text]) == choice
        assert setting_of_file(name, text) == choice


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("save_strategy", "no", "no"),
        ("logging_strategy", "no", "no"),
        ("include_num_input_tokens_seen", "no", "no"),
        ("include_num_input_tokens_seen", "true", True),
        ("strict", "yes", True),
        ("strict", "off", False),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", "5E-5", 0.00005),
        ("max_grad_norm", ".inf", math.inf),
        ("max_steps", "1e3", 1000),
        ("seed", "007", 7),
        ("seed", "'7'", 7),
        ("run_name", "007", "007"),
        ("run_name", "1.10", "1.10"),
        ("run_name", "no", "no"),
        ("run_name", "2024-05-01", "2024-05-01"),
        ("run_name", "12:30", "12:30"),
        ("run_name", "null", None),
        ("layers", "3", [3]),
        ("layers", "[0, -1]", [0, -1]),
        ("report_to", "wandb", "wandb"),
        ("report_to", "[wandb, 7]", ["wandb", "7"]),
        ("label_names", "labels", ["labels"]),
        (
            "lr_scheduler_kwargs",
            "{num_cycles: 2, rate: 1e-3, mode: on}",
            {"num_cycles": 2, "rate": 0.001, "mode": "on"},
        ),
        ("liger_kernel_config", "{rope: yes, swiglu: no}", {"rope": True, "swiglu": False}),
    ],
)
def test_a_bare_word_means_what_its_setting_takes(name: str, text: str, value: Any) -> None:
    assert setting(name, [text]) == value
    assert setting_of_file(name, text) == value


def test_words_that_are_no_yaml_are_texts_where_a_text_is_asked_for() -> None:
    for word in ("a #1", "#1", "a: b", "- a", "@x", "%x", "[x", "it's", "*x", "!x", "`"):
        assert setting("run_name", [word]) == word


def test_several_words_are_a_list() -> None:
    assert setting("layers", ["0", "-1"]) == [0, -1]
    assert setting("report_to", ["wandb", "tensorboard"]) == ["wandb", "tensorboard"]
    with pytest.raises(ConfigError, match="max_steps"):
        setting("max_steps", ["1", "2"])


@pytest.mark.parametrize(
    ("name", "word", "message"),
    [
        ("save_strategy", "never", 'save_strategy is "never"; it must be one of no, steps, epoch, best'),
        ("save_strategy", "true", "save_strategy is true; it must be one of no, steps, epoch, best"),
        ("seed", "1.5", "seed is 1.5; it must be a whole number"),
        ("seed", "", "seed is null; it must be a whole number"),
        ("strict", "maybe", 'strict is "maybe"; it must be true or false'),
        ("layers", "[0, true]", "layers is [0, true]; it must be a list, each entry a whole number"),
        ("gamma", "true", "gamma is true; it must be a number"),
        ("dtype", "bf16", 'dtype is "bf16"; it must be auto or bfloat16 or float16 or float32 or float64'),
        ("gamma", "{a: 1", "line 1: not valid YAML: expected ',' or '}'"),
        ("gamma", "9" * 5000 + "x", "it must be a number"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_what_it_must_be(name: str, word: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        setting(name, [word])
    assert message in str(error.value) and len(str(error.value)) < 300


def test_a_value_of_python_is_held_to_the_type_too() -> None:
    assert typed("gamma", "1e-3", float) == 0.001
    assert typed("x", False, Literal[False] | None) is False
    with pytest.raises(ConfigError, match="save_strategy is false"):
        typed("save_strategy", False, HINTS["save_strategy"])
    with pytest.raises(ConfigError, match="must be true or false"):
        typed("x", "no such", bool)


def test_a_missing_required_setting_is_told_however_it_is_empty() -> None:
    for text in ("", "null", "~", "''"):
        with pytest.raises(ConfigError, match="missing: output_dir"):
            TrainJob.from_dict(REQUIRED | read_settings(f"output_dir: {text}", "config.yaml"))


def test_a_home_folder_is_meant_where_a_path_begins_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    paths = {"model": "tiny", "train_file": "~/t.jsonl", "output_dir": "~/run", "resume_from_checkpoint": "~/c"}
    job = TrainJob.from_dict({**paths, "eval_files": {"iid": "~/e.jsonl"}})
    assert (job.train_file, job.output_dir) == ("/home/ann/t.jsonl", "/home/ann/run")
    assert job.eval_files == {"iid": "/home/ann/e.jsonl"} and job.settings["resume_from_checkpoint"] == "/home/ann/c"


def test_evaluation_files_by_name() -> None:
    for words in (["no=1.jsonl", "b=x=y"], ["{no: 1.jsonl, b: x=y}"]):
        given_words = read_words(["--eval_files", *words])
        assert TrainJob.from_dict(REQUIRED | given_words).eval_files == {"no": "1.jsonl", "b": "x=y"}
    with pytest.raises(ConfigError, match="given twice"):
        TrainJob.from_dict(REQUIRED | read_words(["--eval_files", "a=1", "a=2"]))


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(NAMES), yaml_values | st.text().map(Word))
def test_values_of_any_kind_are_taken_or_refused_for_every_setting(name: str, value: Any) -> None:
    try:
        typed(name, value, HINTS[name])
    except ConfigError as error:
        assert name in str(error) and len(str(error)) < 900
