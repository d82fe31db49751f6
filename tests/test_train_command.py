"""`cattune train`: from files to a model and its results; what is wrong is said in one line and nothing is written."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from cattune.cli.main import main
from cattune.cli.train import read_words
from cattune.errors import CattuneError, ConfigError
from cattune.experiments.job import TrainJob
from cattune.training.config import CATConfig

ROWS = [
    {"input": f"red: {i}, blue: {9 - i} so: ", "target": i, "important": [{f"so: {i}": [f"red: {i}"]}]}
    for i in range(8)
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(text)
    config = {
        "model": "tiny",
        "train_file": str(tmp_path / "train.jsonl"),
        "eval_files": {"test": str(tmp_path / "test.jsonl")},
        "output_dir": str(tmp_path / "run"),
        "max_steps": 2,
        "learning_rate": "1e-3",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


def train(files: Path, *words: str) -> int:
    return main(["train", str(files / "config.yaml"), *words])


def test_a_model_its_results_and_the_same_scores_again(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(files, "--seed", "3", "--gamma=0.5", "--max_grad_norm=.inf") == 0
    assert "majority" in capsys.readouterr().out
    record = json.loads((files / "run" / "results.json").read_text())
    assert record["splits"]["test"]["n"] == 8
    assert record["training"]["steps"] == 2 and record["training"]["alignment"]["rows"] == 8
    assert record["provenance"]["config"]["settings"]["gamma"] == 0.5
    assert json.loads((files / "run" / "run.json").read_text())["identity"]["settings"]["max_grad_norm"] == "Infinity"
    assert record["provenance"]["config"]["seed"] == 3
    AutoModelForCausalLM.from_pretrained(files / "run")

    scores = files / "scores.json"
    assert (
        main(
            ["evaluate", "--model", str(files / "run"), "--data", f"test={files / 'test.jsonl'}", "--out", str(scores)]
        )
        == 0
    )
    assert json.loads(scores.read_text())["splits"]["test"] == record["splits"]["test"]

    # Resuming and training on from a folder are the ecosystem's: a folder is a model's name like any other.
    assert (
        train(
            files,
            "--model",
            str(files / "run"),
            "--output_dir",
            str(files / "again"),
            "--eval_files",
            f"a={files / 'test.jsonl'}",
        )
        == 0
    )
    assert list(json.loads((files / "again" / "results.json").read_text())["splits"]) == ["a"]


def test_resume(files: Path) -> None:
    assert train(files, "--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2") == 0
    whole = json.loads((files / "run" / "results.json").read_text())
    checkpoint = str(files / "run" / "checkpoint-2")
    assert (
        train(files, "--max_steps", "4", "--output_dir", str(files / "resumed"), "--resume_from_checkpoint", checkpoint)
        == 0
    )
    resumed = json.loads((files / "resumed" / "results.json").read_text())
    assert resumed["training"]["steps"] == 4
    assert resumed["splits"] == whole["splits"]


def test_an_output_folder_that_cannot_be_is_the_users_to_change(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(files, "--output_dir", "n" * 300) == 2
    assert "cannot be written: the name is too long" in capsys.readouterr().err


def test_what_cannot_be_evaluated_is_refused_before_training(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": "user", "content": "4 + 2?"}, {"role": "assistant", "content": "6"}]
    (files / "talk.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert train(files, "--eval_files", f"talk={files / 'talk.jsonl'}") == 2
    assert 'eval_files, talk: example "line-1" is a conversation' in capsys.readouterr().err
    assert not (files / "run").exists()


def test_peft(files: Path) -> None:
    pytest.importorskip("peft")
    assert train(files) == 0
    adapter = [
        "--model",
        str(files / "run"),
        "--output_dir",
        str(files / "adapter"),
        "--peft",
        "{r: 2, target_modules: [q_proj]}",
    ]
    assert train(files, *adapter) == 0
    assert (files / "adapter" / "adapter_config.json").is_file()
    scores = files / "scores.json"
    assert (
        main(
            ["evaluate", "--model", str(files / "adapter"), "--data", f"t={files / 'test.jsonl'}", "--out", str(scores)]
        )
        == 0
    )


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ("{peft_type: IA3}", 'peft: peft_type is "IA3"; only LORA can be trained'),
        ("{task_type: SEQ_CLS}", 'peft: task_type is "SEQ_CLS"; only CAUSAL_LM can be trained'),
        ("{lora_alpah: 4}", 'peft: a LoraConfig has no setting "lora_alpah"; did you mean lora_alpha'),
    ],
)
def test_an_adapter_that_would_not_be_what_was_asked_for_is_refused(
    files: Path, lora: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(files, "--peft", lora) == 2
    assert message in capsys.readouterr().err and not (files / "run").exists()


@pytest.mark.parametrize(
    "lora",
    [
        "{r: 2, target_modules: all-linear}",
        "{r: 2, use_dora: true, target_modules: [q_proj]}",
        "{r: 2, target_modules: [v_proj], modules_to_save: [embed_tokens, lm_head]}",
    ],
)
def test_an_adapter_on_tiny_is_saved_with_what_it_needs(
    lora: str, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`tiny` is on no disk and no hub: the whole model is saved, and loads from wherever the folder is moved to."""
    pytest.importorskip("peft")
    assert train(files, "--learning_rate", "0.1", "--peft", lora) == 0
    assert "the adapter is merged into it" in caplog.text
    result = json.loads((files / "run" / "results.json").read_text())
    moved, scores = (files / "run").rename(files / "moved"), files / "scores.json"
    AutoModelForCausalLM.from_pretrained(moved)
    call = ["evaluate", "--model", str(moved), "--data", f"test={files / 'test.jsonl'}", "--out", str(scores)]
    assert main(call) == 0
    assert json.loads(scores.read_text())["splits"] == result["splits"]


def test_json_on_standard_output(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(files, "--json") == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["n"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gamma", "-1"], "gamma is -1"),
        (["--alpha", "0"], "alpha is 0"),
        (["--objective", "kl"], "unknown objective 'kl'"),
        (["--layers", "9"], "layers"),
        (["--heads", "[77]"], "heads"),
        (["--gama", "1"], "unknown setting 'gama'; did you mean gamma"),
        (["--gamma", "much"], 'gamma is "much"; it must be a number'),
        (["--max_steps", "2.5"], "max_steps is 2.5"),
        (["--train_file", "absent.jsonl"], "absent.jsonl"),
        (["--model", "absent/model"], "absent/model"),
        (["--occurrences", "last"], "last"),
        (["--eval_files", "ood"], "NAME=FILE"),
        (["--eval_files", "ood=absent.jsonl"], "absent.jsonl"),
        (["--peft", "{rank: 2}"], "peft"),
        (["--seed"], "seed is true; it must be a whole number"),
        (["stray"], "stray"),
        (["--gamma", "[1"], "not valid YAML"),
    ],
)
def test_refusals_write_nothing(
    files: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(files.rglob("*"))
    assert train(files, *words) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert sorted(files.rglob("*")) == before


def test_links_none_of_which_align(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"important": {"absent phrase": ["red"]}} for row in ROWS]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train(files) == 2
    assert "no causal link of the training set could be aligned" in capsys.readouterr().err


def test_a_folder_that_holds_results_is_kept_unless_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "run").mkdir()
    (files / "run" / "results.json").write_text("old")
    assert train(files) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (files / "run" / "results.json").read_text() == "old"
    assert train(files, "--overwrite") == 0


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "7", "", "? [a]\n: 1", "a: 1\na: 2", "a: " + "[" * 3000])
def test_a_configuration_that_is_no_mapping(files: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "config.yaml").write_text(text)
    assert train(files) == 2
    assert "config" in capsys.readouterr().err


def test_help_needs_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "TrainingArguments" in text
    own = {f.name for f in dataclasses.fields(TrainJob)} - {"settings"} | {f.name for f in CATConfig.own_fields()}
    described = re.findall(r"^  (\w+) +[A-Z`]", text, re.MULTILINE)
    assert set(described) == own and len(described) == len(own)
    assert max(map(len, text.splitlines())) <= 100


def test_words() -> None:
    assert read_words(["--a", "1", "--b-c=x", "--d", "--e", "1", "2.5"]) == {
        "a": "1",
        "b_c": "x",
        "d": True,
        "e": ["1", "2.5"],
    }
    with pytest.raises(ConfigError, match="given twice"):
        read_words(["--a", "1", "--a", "2"])
    with pytest.raises(ConfigError, match="--no_a: --a is given too"):
        read_words(["--a", "--no-a"])
    assert read_words(["--no-self-check", "--no_x", "1"]) == {"self_check": False, "no_x": "1"}


@given(st.lists(st.text(max_size=12), max_size=6))
def test_words_of_any_kind_are_read_or_refused(words: list[str]) -> None:
    try:
        settings: dict[str, Any] = read_words(["--x", *words])
    except CattuneError:
        return
    assert "x" in settings


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["model", "train_file", "eval_files", "output_dir", "gamma", "layers", "peft", "seed", "nothing"]
        ),
        json_values,
    )
)
def test_jobs_of_any_kind_are_read_or_refused(given_keys: dict[str, Any]) -> None:
    with contextlib.suppress(CattuneError):
        TrainJob.from_dict(given_keys)
