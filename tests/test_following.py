"""A run that can be followed: its lines, its log file, evaluations on the way, early stopping, the best model."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from cattune.cli.main import main
from cattune.errors import ConfigError
from cattune.experiments.following import as_json
from cattune.experiments.run_lines import ending, evaluation_line, opening, step_line
from cattune.experiments.training import early_stopping, make_config
from cattune.supervision.report import AlignmentReport
from cattune.training.best_metric import best_evaluation, evaluation_metrics, settle_best_metric
from cattune.training.config import CATConfig
from cattune.wording import time_left, time_taken

LOGS = {
    "loss": 3.4123,
    "cross_entropy": 2.31,
    "re_attention_loss": 1.1023,
    "causal_mass": 0.0812,
    "learning_rate": 1.34e-4,
    "grad_norm": math.inf,  # as a first step in fp16 has it
}


FIGURES = st.floats(-1e50, 1e50) | st.sampled_from([math.nan, math.inf, -math.inf])


class TestLines:
    def test_a_step(self) -> None:
        line = step_line(LOGS, 10, 800, 170)
        assert line.text == (
            "step 10 of 800: loss 3.412, cross-entropy 2.310, Re-Attention loss 1.102, causal mass 0.081, "
            "learning rate 1.3e-04, about 3 min left"
        )
        assert line.short == " 10/800  loss 3.412  CE 2.310  RA 1.102  mass 0.081  lr 1.3e-04  ~3 min left"

    def test_the_last_step_of_plain_fine_tuning(self) -> None:
        assert step_line({"loss": 1.0, "learning_rate": 0.0}, 5, 5, None).text == (
            "step 5 of 5: loss 1.000, learning rate 0.0e+00"
        )

    @pytest.mark.parametrize("name", ["loss", "cross_entropy", "re_attention_loss"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_loss_that_is_no_finite_number_is_said_loudly(self, name: str, value: float) -> None:
        for line in (step_line(LOGS | {name: value}, 1, 2, None), step_line({name: value}, 1, 2, None)):
            for text in (line.text, line.short):
                assert text.startswith("NOT FINITE: ") and "lower learning_rate" in text and str(value) in text
        evaluation = evaluation_line({f"eval_{name}": value, "eval_runtime": 1.0}, 1, 2, False)
        assert name == "loss" or "NOT FINITE" in evaluation.text

    def test_an_evaluation(self) -> None:
        logs = {
            "eval_a b_loss": 0.5,
            "eval_a b_cross_entropy": 0.5,
            "eval_a b_causal_mass": 0.9,
            "eval_a b_runtime": 1.0,
        }
        line = evaluation_line(logs, 10, 800, is_best=True)
        assert line.text == "step 10 of 800, a b: cross-entropy 0.500, causal mass 0.900, best so far"
        assert line.short == " 10/800  a b: CE 0.500  mass 0.900  best so far"
        assert evaluation_line({"eval_runtime": 1.0, "eval_cross_entropy": 1.0}, 1, 1, False).text == (
            "step 1 of 1, evaluation: cross-entropy 1.000"
        )

    def test_before_the_first_step(self) -> None:
        report = AlignmentReport(
            examples=1600, left_out=1, examples_without_links=20, links=4810, aligned_links=4700, rows=1580
        )
        report.refused = Counter({"absent": 10})
        facts: dict[str, Any] = {"steps": 800, "examples_a_step": 16, "trained": 7, "parameters": 1000, "device": "cpu"}
        assert [line.text for line in opening(report, gamma=1.0, **facts)] == [
            "1,599 examples, 800 steps of 16 (8.0 epochs), on cpu",
            "7 of 1,000 parameters trained",
            "causal links: 4,700 of 4,810 used, on 1,580 rows; 10 refused before; 20 examples without links",
        ]
        assert "gamma is 0" in opening(report, gamma=0.0, **facts)[-1].text
        assert opening(AlignmentReport(examples=1), gamma=0.0, **facts)[-1].text == "no causal links: plain fine-tuning"

    def test_the_end(self) -> None:
        best = {"metric": "eval_ood_loss", "value": 0.41, "step": 60, "saved_step": 60}
        run = Path("run")
        lines = [line.text for line in ending(90, 120, 245, run, "eval_ood_loss", best)]
        assert lines == [
            "stopped early, after step 90 of 120: evaluations no longer got better",
            "trained in 4 min 5 s; the model is in run",
            "the best evaluation: eval_ood_loss 0.410 at step 60; its weights are saved",
        ]
        assert ending(90, 90, 1, run, None, None)[0].text == "trained in 1.0 s; the model is in run"
        last = ending(90, 90, 1, run, "eval_ood_loss", best | {"saved_step": 90})[-1].text
        assert last.endswith("the weights of step 90 are saved")
        assert "no evaluation gave a number" in ending(90, 90, 1, run, "eval_ood_loss", None)[-1].text

    @given(st.floats(0, 1e9))
    def test_times_are_short(self, seconds: float) -> None:
        assert len(time_left(seconds)) <= 24 and len(time_taken(seconds)) <= 20

    @given(st.integers(1, 99999), st.lists(FIGURES, min_size=5, max_size=5), st.floats(0, 1e6))
    def test_a_short_line_fits_a_terminal(self, steps: int, values: list[float], seconds: float) -> None:
        logs = dict(zip(LOGS, values, strict=False))
        line = step_line(logs, steps, steps, seconds).short.rpartition("\n")[2]
        assert len(line) <= 100  # 80 with the figures of a usual run: see above

    def test_the_log_is_json_whatever_happened(self) -> None:
        log = as_json([{"loss": math.nan, "ratio": math.inf, "step": 1, "x": -math.inf}])
        assert json.loads(json.dumps(log, allow_nan=False)) == [{"loss": "nan", "ratio": "inf", "step": 1, "x": "-inf"}]


class TestBestMetric:
    ROWS = [{"query_rows": [1]}]
    NO_ROWS = [{"query_rows": []}]

    def settle(self, metric: str | None, data: Any, captures: bool = True) -> str | None:
        args = CATConfig(output_dir="x", eval_strategy="steps", eval_steps=1, metric_for_best_model=metric)
        settle_best_metric(args, data, captures)
        return args.metric_for_best_model

    def test_names_that_there_are(self) -> None:
        assert evaluation_metrics(self.ROWS, captures=False) == ["eval_loss", "eval_cross_entropy"]
        assert "eval_a b_causal_mass" in evaluation_metrics({"a b": self.ROWS}, captures=True)
        assert evaluation_metrics({"a": self.NO_ROWS}, captures=True) == ["eval_a_loss", "eval_a_cross_entropy"]

    @pytest.mark.parametrize(
        ("given_name", "splits", "found"),
        [
            ("eval_ood_loss", ["iid", "ood"], "eval_ood_loss"),
            ("ood_loss", ["iid", "ood"], "eval_ood_loss"),
            ("ood_cross_entropy", ["iid", "ood"], "eval_ood_cross_entropy"),
            ("loss", ["test"], "eval_test_loss"),
            ("eval_causal_mass", ["test"], "eval_test_causal_mass"),
            ("eval_loss", ["eval"], "eval_eval_loss"),
            ("train_loss", ["train"], "eval_train_loss"),
            ("x/y é_loss", ["x/y é", "z"], "eval_x/y é_loss"),
            (None, ["iid", "ood"], None),
        ],
    )
    def test_a_name_is_found(self, given_name: str | None, splits: list[str], found: str | None) -> None:
        assert self.settle(given_name, dict.fromkeys(splits, self.ROWS)) == found

    @pytest.mark.parametrize("name", ["loss", "accuracy", "eval_loss", "ood_los", "iid_runtime"])
    def test_a_name_that_no_evaluation_gives_is_refused_with_those_that_there_are(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"which no evaluation gives.*eval_iid_loss.*eval_ood_causal_mass"):
            self.settle(name, {"iid": self.ROWS, "ood": self.ROWS})
        with pytest.raises(ConfigError):
            self.settle("causal_mass", {"test": self.NO_ROWS})

    @pytest.mark.parametrize(
        ("name", "greater"),
        [("loss", False), ("eval_ood_cross_entropy", False), ("re_attention_loss", False), ("causal_mass", True)],
    )
    def test_losses_shrink_and_the_rest_grows_unless_told(self, name: str, greater: bool) -> None:
        assert CATConfig(output_dir="x", metric_for_best_model=name).greater_is_better is greater
        told = CATConfig(output_dir="x", metric_for_best_model=name, greater_is_better=not greater)
        assert told.greater_is_better is not greater

    @given(st.lists(st.floats(), max_size=8), st.booleans())
    def test_the_best_is_the_one_that_transformers_takes(self, values: list[float], greater: bool) -> None:
        best, at = (-math.inf if greater else math.inf), None
        for step, value in enumerate(values):
            if value > best if greater else value < best:
                best, at = value, step
        found = best_evaluation([{"step": i, "m": x} for i, x in enumerate(values)], "m", greater)
        assert found is None if at is None else found == (at, best) or math.isinf(best)


class TestSettings:
    @pytest.mark.parametrize(
        "settings",
        [
            {"load_best_model_at_end": True},
            {"metric_for_best_model": "loss"},
            {"eval_strategy": "no", "metric_for_best_model": "x"},
        ],
    )
    def test_what_is_about_evaluations_needs_them(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="set eval_strategy"):
            make_config("tiny", {"output_dir": "x", **settings})
        with pytest.raises(ConfigError, match="early_stopping_patience"):
            make_config("tiny", {"output_dir": "x"}, stops_early=True)

    def test_the_best_model_is_saved_as_often_as_it_is_evaluated(self) -> None:
        best = {"output_dir": "x", "load_best_model_at_end": True}
        steps = make_config("tiny", best | {"eval_strategy": "steps", "eval_steps": 7})
        assert (steps.save_strategy, steps.save_steps) == ("steps", 7)
        assert make_config("tiny", best | {"eval_strategy": "steps"}).save_steps == 10
        assert make_config("tiny", best | {"eval_strategy": "epoch"}).save_strategy == "epoch"
        with pytest.raises(ConfigError, match="requires the save and eval strategy to match"):
            make_config("tiny", best | {"eval_strategy": "steps", "save_strategy": "epoch"})
        assert make_config("tiny", {"output_dir": "x"}).save_strategy == "no"

    @pytest.mark.parametrize(("patience", "threshold"), [(0, 0.0), (-1, 0.0), (1, -1.0), (1, math.nan), (None, 0.1)])
    def test_early_stopping_out_of_range(self, patience: int | None, threshold: float) -> None:
        with pytest.raises(ConfigError, match="early_stopping"):
            early_stopping(patience, threshold)


ROWS = [
    {"input": f"red: {i}, blue: {9 - i} so: ", "target": i, "important": [{f"so: {i}": [f"red: {i}"]}]}
    for i in range(8)
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("c.yaml").write_text(
        "model: tiny\ntrain_file: d.jsonl\noutput_dir: run\nmax_steps: 6\nuse_cpu: true\nlearning_rate: 1e-3\n"
        "per_device_train_batch_size: 4\n"
    )
    return tmp_path / "run"


def train(*words: str) -> int:
    return main(["train", "c.yaml", *words])


def results(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())["training"]
    return found


STEPS = ("--eval_strategy", "steps", "--eval_steps", "2")


def test_each_step_is_a_line_on_standard_error_and_in_the_log_file(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    lines = (run / "train.log").read_text().splitlines()
    assert [line for line in capsys.readouterr().err.splitlines() if line in lines] == lines
    assert [line.partition(":")[0] for line in lines if line.startswith("step")] == [
        f"step {i} of 6" for i in range(1, 7)
    ]
    assert "causal links: 8 of 8 used, on 8 rows" in lines[2]
    for name in ("loss", "cross-entropy", "Re-Attention loss", "causal mass", "learning rate"):
        assert f"{name} " in lines[3]
    assert lines[-2].endswith("the model is in run") and lines[-1] == "results: run/results.json"


def test_how_often_to_log_is_the_users_to_say(run: Path) -> None:
    assert train("--logging_steps", "4") == 0
    assert (run / "train.log").read_text().count("step ") == 1
    assert train("--overwrite", "--logging_strategy", "no", "--disable_tqdm") == 0
    text = (run / "train.log").read_text()
    assert "step " not in text and "causal links" in text


def test_a_resumed_run_goes_on_in_its_log_file(run: Path) -> None:
    assert train("--max_steps", "4", "--save_strategy", "steps", "--save_steps", "2", "--overwrite") == 0
    assert train("--max_steps", "4", "--resume_from_checkpoint", "run/checkpoint-2") == 0
    text = (run / "train.log").read_text()
    assert text.count("step 2 of 4") == 2  # the line, and where it was resumed
    assert text.count("step 4 of 4") == 2 and "resumed after step 2 of 4" in text


def test_links_that_are_not_used_are_in_the_log_file_with_the_reason(run: Path) -> None:
    rows = [*ROWS[1:], ROWS[0] | {"important": {"absent": ["red"]}}]
    Path("d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train() == 0
    text = (run / "train.log").read_text()
    assert "7 of 7 used, on 7 rows; 1 refused before" in text and "refused 1 x" in text


def test_a_log_file_that_cannot_be_written_ends_no_training(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.mkdir()
    (run / "train.log").mkdir()
    assert train("--overwrite") == 0
    assert capsys.readouterr().err.count("train.log cannot be written") == 1
    assert results(run)["steps"] == 6


def test_a_loss_that_is_no_number_is_said_and_costs_no_results(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--learning_rate", "1e30", "--max_grad_norm", "0", "--eval_files", "a=d.jsonl")
    assert train(*words, "--eval_strategy", "steps", "--eval_steps", "6", "--load_best_model_at_end") == 0
    error = capsys.readouterr().err
    assert "NOT FINITE: cross-entropy" in error and "no evaluation gave a number for eval_a_loss" in error
    assert results(run)["best"] is None and any("nan" in log.values() for log in results(run)["log"])


@pytest.mark.parametrize("metric", ["ood_loss", "eval_ood_causal_mass"])
def test_the_best_model_is_the_saved_one(run: Path, metric: str, capsys: pytest.CaptureFixture[str]) -> None:
    # The first steps are better than the last ones: at this rate training goes wrong.
    words = ("--learning_rate", "0.3", "--eval_files", "iid=d.jsonl", "ood=d.jsonl", "--metric_for_best_model", metric)
    assert train(*words, *STEPS, "--load_best_model_at_end", "true", "--lr_scheduler_type", "constant") == 0
    best = results(run)["best"]
    assert best["metric"] == f"eval_{metric.removeprefix('eval_')}" and best["saved_step"] == best["step"]
    logged = {log["step"]: log[best["metric"]] for log in results(run)["log"] if best["metric"] in log}
    assert set(logged) == {2, 4, 6}
    assert best["value"] == logged[best["step"]] == (max if "mass" in metric else min)(logged.values())
    saved, kept = (load_file(folder / "model.safetensors") for folder in (run, run / f"checkpoint-{best['step']}"))
    assert all((saved[name] == kept[name]).all() for name in kept) and saved.keys() == kept.keys()
    error = capsys.readouterr().err
    assert "best so far" in error and f"at step {best['step']}; its weights are saved" in error


def test_an_adapter_is_the_best_one_too(run: Path) -> None:
    pytest.importorskip("peft")
    assert train("--output_dir", "base", "--max_steps", "1") == 0  # of `tiny` itself no base is stored anywhere
    words = (
        "--model",
        "base",
        "--eval_files",
        "a=d.jsonl",
        "--peft",
        "{r: 2, target_modules: all-linear}",
        "--learning_rate",
        "3",
    )
    assert train(*words, *STEPS, "--load_best_model_at_end", "--lr_scheduler_type", "constant") == 0
    best = results(run)["best"]
    folders = (run, run / f"checkpoint-{best['step']}")
    saved, kept = (load_file(folder / "adapter_model.safetensors") for folder in folders)
    assert all((saved[name] == kept[name]).all() for name in kept)


def test_training_stops_early(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--eval_files", "a=d.jsonl", "--max_steps", "40", "--early_stopping_threshold", "100")
    assert train(*words, *STEPS, "--early_stopping_patience", "2") == 0
    assert results(run)["steps"] == 6  # the first is the best so far, and none is better by 100
    assert "stopped early, after step 6 of 40" in capsys.readouterr().err
    assert results(run)["best"]["saved_step"] == 6


def test_a_resumed_run_stops_where_it_would_have_stopped(run: Path) -> None:
    words = ("--eval_files", "a=d.jsonl", "--max_steps", "40", "--early_stopping_threshold", "100", *STEPS)
    saving = ("--early_stopping_patience", "2", "--save_strategy", "steps", "--save_steps", "2")
    assert train(*words, *saving) == 0
    assert train(*words, *saving, "--output_dir", "again", "--resume_from_checkpoint", "run/checkpoint-4") == 0
    assert results(Path("again"))["steps"] == results(run)["steps"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (STEPS, "eval_strategy asks for evaluations during training, on eval_files"),
        (("--eval_on_start",), "eval_on_start asks for evaluations"),
        ((*STEPS, "--eval_files", "a=d.jsonl", "b=d.jsonl", "--load_best_model_at_end"), "must be one of eval_a_loss"),
        ((*STEPS, "--eval_files", "a=d.jsonl", "--load_best_model_at_end", "--save_strategy", "no"), "to match"),
        ((*STEPS, "--eval_files", "a=d.jsonl", "--eval_accumulation_steps", "0"), "eval_accumulation_steps is 0"),
        (("--report_to", "wandb"), "wandb"),
        (("--report_to", "nosuch"), "nosuch is not supported"),
        (("--deepspeed", "nosuch.json"), "deepspeed"),
        (("--fsdp", "full_shard"), "fsdp"),
        (("--optim", "adamw_8bit"), "bitsandbytes"),
        (("--optim", "galore_adamw"), "galore_torch"),
        (("--optim_args", "momentum", "--optim", "sgd"), "not enough values"),
        (("--use_liger_kernel", "true"), "liger"),
        (("--push_to_hub", "true"), "offline"),
        (("--log_level", "nosuch"), "KeyError: 'nosuch'"),
        (("--accelerator_config", "nosuch.json"), "nosuch.json"),
        (("--accelerator_config", "{nosuch: 1}"), "nosuch"),
        (("--torch_compile_backend", "nosuch"), "NOSUCH"),
        (("--learning_rate", "-1"), "Invalid learning rate"),
        (("--lr_scheduler_type", "warmup_stable_decay"), "num_decay_steps"),
        (("--lr_scheduler_type", "reduce_lr_on_plateau"), "eval strategy"),
        (("--gradient_accumulation_steps", "0"), "gradient_accumulation_steps is 0"),
        (("--gradient_checkpointing", "--gradient_checkpointing_kwargs", "{nosuch: 1}"), "nosuch"),
        (("--dataloader_num_workers", "-1"), "num_workers"),
        (("--seed", "-1"), "Seed"),
        (("--max_steps", "0"), "max_steps is 0"),
        (("--max_steps", "-1", "--num_train_epochs", "0"), "num_train_epochs is 0"),
        (("--peft", "{r: -1, target_modules: all-linear}"), "positive"),
        (("--peft", "{target_modules: [nosuch]}"), "nosuch"),
    ],
)
def test_settings_that_are_refused_late_end_as_those_refused_early(
    run: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*words) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cattune: ")]
    assert len(error) == 1 and message in error[0] and "failed" not in error[0]
    assert not (run / "results.json").exists() and not (run / "train.log").exists()
