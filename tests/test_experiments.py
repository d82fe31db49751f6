"""Arms, cells and grids: same start and same steps for every arm, results joined as they should be."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch

from cattune.cli.main import main
from cattune.data.examples import Example
from cattune.errors import ConfigError
from cattune.experiments.cell import Cell, CellResult, run_cell
from cattune.experiments.grid import gap_closed, summarize
from cattune.experiments.training import load_or_build, make_config
from cattune.methods.base import METHODS
from cattune.tasks.stg import find_record
from cattune.tasks.stg.task import StgTask

SMALL = StgTask(train=24, validation=4, test=8)


def result(arm: str, seed: int, accuracy: float) -> CellResult:
    scores: dict[str, Any] = {
        "accuracy": accuracy, "stderr": 0.01, "low": accuracy - 0.02, "high": accuracy + 0.02, "n": 100,
        "majority": {"label": "Low", "accuracy": 0.6}, "constant_answer": "Low" if accuracy == 0.6 else None,
        "beats_majority": accuracy > 0.6, "unfinished": 3, "max_new_tokens": 4,
    }  # fmt: skip
    return CellResult(Cell(arm, seed, SMALL), arm, arm, "", True, {}, {"ood": scores}, {}, [], 1.0, 2.0, 3, {})


def test_arms_start_from_the_same_weights_whatever_they_train_on() -> None:
    splits = SMALL.splits(0)
    one, _ = load_or_build("tiny", splits["train"], 0)
    other, _ = load_or_build("tiny", splits["train"], 0)
    third, _ = load_or_build("tiny", splits["train"], 1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(third.parameters()))


@pytest.mark.parametrize("arm", METHODS.names())
def test_a_cell_trains_and_evaluates_every_split(arm: str) -> None:
    told: list[tuple[str, int, int]] = []
    outcome = run_cell(Cell(arm, 0, SMALL, {"max_steps": 2, "logging_steps": 1}, strips=2), lambda *at: told.append(at))
    assert list(outcome.splits) == ["validation", "iid", "ood", "ood-permuted", "ood-unseen"]
    assert outcome.splits["ood"]["n"] == 8
    assert outcome.steps == 2
    assert [step for step, _ in outcome.curves["causal_mass"]] == [1, 2]
    assert ("training", 2, 2) in told and ("ood", 8, 8) in told
    assert len(outcome.strips) == (0 if arm == "causal-only" else 2)
    for strip in outcome.strips:
        assert len(strip["tokens"]) == len(strip["kinds"]) == len(strip["attention"])
        assert sum(strip["attention"]) == pytest.approx(1, abs=1e-5)
        causes = "".join(t for t, kind in zip(strip["tokens"], strip["kinds"], strict=True) if kind == "cause")
        assert all(name in causes for name in ("Smoking", "Weight", "Exercise"))
        assert "Yellow" not in causes
    json.dumps(outcome.splits)


def test_causal_only_sees_the_causes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from cattune.experiments import training

    seen: list[Any] = []
    monkeypatch.setattr(training, "make_trainer", lambda model, tokenizer, train, *rest: seen.extend(train) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cell(Cell("causal-only", 0, SMALL))
    assert len(seen) == 24
    assert all("Smoking" in x.prompt and "Yellow" not in x.prompt and "Room" not in x.prompt for x in seen)


def test_a_training_file_gives_tests_in_its_wording_and_unseen_causes(tmp_path: Path) -> None:
    rows = []
    for i in range(1, 9):
        values = {"Smoking": i, "Weight": 3, "Exercise": 2, "Yellow fingers": i * 3 // 2, "Clothing size": 3}
        values |= {"Hormones": 1, "Certain gene": 4, "Room size": 5}
        record = ", ".join(f"{name}: {value}" for name, value in values.items())
        high = 1.2 * i + 0.7 * 3 - 2 > 7.2
        rows.append({"input": f"Tell me. {record} Answer: ", "target": "High Risk" if high else "Low Risk"})
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = StgTask(validation=4, test=50, train_file=str(path))
    game, splits = task.spec, task.splits(0)
    assert len(splits["train"]) == 8
    assert all(
        (x.prompt or "").startswith("Tell me. ") and (x.prompt or "").endswith(" Answer: ") for x in splits["ood"]
    )
    assert {x.target for x in splits["ood"]} == {"High Risk", "Low Risk"}

    def causes(example: Any) -> tuple[str, ...]:
        found = find_record(example.prompt, game, example.id)
        return tuple(sorted(example.prompt[f.start : f.end] for f in found if f.attribute.role == "cause"))

    train = {causes(example) for example in splits["train"]}
    assert not train & {causes(example) for example in splits["ood-unseen"]}


def test_summary_over_seeds() -> None:
    results = [result("sft", seed, accuracy) for seed, accuracy in enumerate((0.5, 0.6, 0.7))]
    entry = summarize(results)["sft"]["ood"]
    assert entry["accuracy"] == pytest.approx(0.6)
    assert entry["sd"] == pytest.approx(statistics.stdev([0.5, 0.6, 0.7]))
    assert entry["stderr"] == pytest.approx(entry["sd"] / 3**0.5)
    assert entry["seeds"] == [0.5, 0.6, 0.7] and entry["n"] == 100 and entry["majority"] == 0.6
    assert (entry["unfinished"], entry["answers"], entry["majority_label"]) == (9, 300, "Low")
    assert (entry["constant_answer"], entry["beats_majority"], entry["low"]) == (None, False, None)
    one = summarize(results[:1])["sft"]["ood"]
    assert (one["stderr"], one["low"], one["high"]) == (0.01, 0.48, 0.52)
    assert summarize([result("sft", seed, 0.6) for seed in (0, 1)])["sft"]["ood"]["constant_answer"] == "Low"


def test_gap_closed() -> None:
    arms = summarize([result("sft", 0, 0.6), result("cat", 0, 0.9), result("causal-only", 0, 1.0)])
    compared = {"method": "cat", "baseline": "sft", "ceiling": "causal-only"}
    assert gap_closed(arms, "ood", **compared) == pytest.approx(0.75)
    assert gap_closed({name: arms[name] for name in ("sft", "cat")}, "ood", **compared) is None
    assert gap_closed(arms, "ood", method="sft", baseline="cat", ceiling="causal-only") == pytest.approx(-3)


def test_the_recipe_is_the_tiny_model_s_and_gives_way_to_what_is_set(tmp_path: Path) -> None:
    assert make_config("tiny", {"output_dir": str(tmp_path)}).max_steps > 0
    by_epochs = make_config("tiny", {"output_dir": str(tmp_path), "num_train_epochs": 2})
    assert by_epochs.max_steps == -1 and by_epochs.num_train_epochs == 2
    assert make_config("other", {"output_dir": str(tmp_path)}).max_steps == -1
    with pytest.raises(ConfigError, match="refused"):
        make_config("tiny", {"output_dir": str(tmp_path), "lr_scheduler_type": "no such"})


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'dpo'.*sft.*causal-only"):
        METHODS.get("dpo")


OWN = """
from cattune.methods.base import Method


class Half(Method):
    name, label, description = "half", "Half of it", "the first half of the training examples"
    settings = {"gamma": 0.0}

    def prepare(self, split, examples, task):
        return examples[: len(examples) // 2] if split == "train" else examples


METHOD = Half()
"""


class TestDemoCommand:
    def test_a_method_of_ones_own_goes_by_its_name(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in ("own.py", "same.py"):
            Path(name).write_text(OWN)
        words = ["demo", "--out", "d", "--steps", "2", "--train-size", "24", "--test-size", "5", "--jobs", "1"]
        assert main([*words, "--arms", "sft", str(tmp_path / "own.py")]) == 0
        record = json.loads(Path("d/results.json").read_text())
        assert list(record["arms"]) == list(record["provenance"]["config"]["settings"]) == ["sft", "half"]
        assert sorted(path.name for path in Path("d/cells").iterdir()) == ["half-seed0.json", "sft-seed0.json"]
        assert "Half of it" in Path("d/report.html").read_text()
        assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"d", "own.py", "same.py"}
        assert main([*words, "--overwrite", "--arms", "own.py", "same.py"]) == 2
        assert "two methods with the name 'half'" in capsys.readouterr().err

    def test_writes_results_and_report(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = tmp_path / "demo"
        words = [
            "--size",
            "s",
            "--steps",
            "2",
            "--test-size",
            "8",
            "--train-size",
            "24",
            "--jobs",
            "2",
            "--arms",
            "sft",
            "cat",
        ]
        assert main(["demo", "--out", str(out), *words]) == 0
        record = json.loads((out / "results.json").read_text())
        assert set(record["arms"]) == {"sft", "cat"}
        for split in ("iid", "ood"):
            scores = record["arms"]["cat"][split]
            assert 0 <= scores["accuracy"] <= 1 and scores["n"] == 8 and scores["stderr"] >= 0
        assert record["provenance"]["config"]["train_size"] == 24
        assert (out / "cells" / "cat-seed0.json").is_file()
        page = (out / "report.html").read_text()
        assert "Causal Attention Tuning" in page and "http://" not in page and "https://" not in page
        out_text, err = capsys.readouterr()
        assert "majority" in out_text and "cancer_risk; the answer depends on Smoking, Weight, Exercise" in out_text
        assert "class 'Middle' is rare: 0.20% of all causal values" in err and "'Middle' is rare" in page.replace(
            "&#39;", "'"
        )
        assert "The game is cancer_risk. Its answer depends on Smoking, Weight and Exercise." in page
        assert "Yellow fingers goes along with Smoking" in page

        before = (out / "results.json").read_bytes()
        assert main(["demo", "--out", str(out), *words]) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert (out / "results.json").read_bytes() == before

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--seeds", "0"], "--seeds is 0"),
            (["--arms", "dpo"], "unknown method 'dpo'"),
            (["--game", "nothing_such"], "nothing_such"),
            (["--train-file", "absent.jsonl"], "absent.jsonl"),
        ],
    )
    def test_refusals_write_nothing(
        self, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["demo", "--out", str(tmp_path / "demo"), *words]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "demo").exists()


def test_tiny_takes_the_attention_backend_and_the_precision_that_are_asked_for() -> None:
    examples = [Example(id="one", prompt="a b", completion="c")]
    model, _ = load_or_build("tiny", examples, 0, "eager", "bfloat16")
    assert model.config._attn_implementation == "eager"
    assert model.dtype == torch.bfloat16
    for wrong in ({"attn_implementation": "xformers"}, {"dtype": "bfloat61"}):
        with pytest.raises(ConfigError, match="'tiny' cannot be loaded"):
            load_or_build("tiny", examples, 0, **wrong)
