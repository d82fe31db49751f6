"""Runs that were cut off, folders that hold something already, and disks that fail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from cattune.cli.main import main
from cattune.data.locks import FileLock
from cattune.experiments.checkpoints import last_whole, read_checkpoint
from cattune.experiments.run_folder import claimed
from cattune.experiments.run_identity import differences
from cattune.experiments.write_failures import write_failure

STEPS = ("--max_steps", "6", "--save_strategy", "steps", "--save_steps", "2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_rows(folder / "train.jsonl", "hats")
    return folder


def write_rows(path: Path, word: str) -> None:
    rows = [{"prompt": f"Ann has {i} {word}. How many? ", "completion": str(i)} for i in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def words_of(data: Path, folder: Path, *words: str, model: str | Path = "tiny") -> list[str]:
    given = ["--model", str(model), "--train_file", str(data / "train.jsonl"), "--output_dir", str(folder)]
    return ["train", *given, "--gamma", "0", "--per_device_train_batch_size", "2", *words]


def train(data: Path, folder: Path, *words: str) -> int:
    return main(words_of(data, folder, *words))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not cut off."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert train(data, folder, *STEPS) == 0
    return folder


@pytest.fixture
def cut(whole: Path, tmp_path: Path) -> Path:
    """The same, as if it had been killed after its last checkpoint."""
    return cut_off(whole, tmp_path / "run")


def cut_off(whole: Path, folder: Path) -> Path:
    shutil.copytree(whole, folder)
    run = json.loads((folder / "run.json").read_text())
    for name in [*run["model_files"], "results.json"]:
        (folder / name).unlink()
    (folder / "run.json").write_text(json.dumps(run | {"model_files": []}))
    return folder


def assert_same_model(one: Path, other: Path, name: str = "model.safetensors") -> None:
    a, b = load_file(one / name), load_file(other / name)
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def cut_file(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def damage_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:40] = b"x" * 32
    path.write_bytes(content)


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no state": (lambda c: (c / "trainer_state.json").unlink(), "trainer_state.json is missing: it was cut off"),
    "half a state": (lambda c: cut_file(c / "trainer_state.json"), "trainer_state.json is damaged"),
    "empty state": (lambda c: (c / "trainer_state.json").write_text(""), "trainer_state.json is damaged"),
    "other state": (lambda c: (c / "trainer_state.json").write_text("[1]"), "trainer_state.json is damaged"),
    "empty folder": (lambda c: [file.unlink() for file in c.iterdir()], "it is empty"),
    "no weights": (lambda c: (c / "model.safetensors").unlink(), "it holds no weights"),
    "half the weights": (lambda c: cut_file(c / "model.safetensors"), "model.safetensors is damaged or cut off"),
    "empty weights": (lambda c: (c / "model.safetensors").write_bytes(b""), "model.safetensors is damaged or cut off"),
    "damaged weights": (lambda c: damage_header(c / "model.safetensors"), "model.safetensors is damaged or cut off"),
    "no optimizer": (lambda c: (c / "optimizer.pt").unlink(), "weights alone"),
    "half an optimizer": (lambda c: cut_file(c / "optimizer.pt"), "optimizer.pt is damaged or cut off"),
    "a changed optimizer": (lambda c: flip(c / "optimizer.pt"), "optimizer.pt is damaged or cut off"),
    "no pickle": (lambda c: (c / "optimizer.pt").write_text("hello"), "optimizer.pt is damaged or cut off"),
    "no scheduler": (lambda c: (c / "scheduler.pt").unlink(), "scheduler.pt"),
    "half a scheduler": (lambda c: cut_file(c / "scheduler.pt"), "scheduler.pt is damaged or cut off"),
    "no random state": (lambda c: (c / "rng_state.pth").unlink(), "rng_state.pth, a state of the random numbers"),
    "half a random state": (lambda c: cut_file(c / "rng_state.pth"), "rng_state.pth is damaged or cut off"),
    "half the settings": (lambda c: cut_file(c / "training_args.bin"), "training_args.bin is damaged or cut off"),
    "in progress": (lambda c: (c / "checkpoint-is-incomplete.txt").touch(), "cut off while it was written"),
    "a missing shard": (
        lambda c: (
            (c / "model.safetensors").unlink(),
            (c / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}'),
        ),
        "model-1.safetensors, a part of the weights, is missing",
    ),
    "a damaged index": (
        lambda c: (c / "model.safetensors.index.json").write_text("{"),
        "the index of its shards is damaged",
    ),
    "no adapter's configuration": (
        lambda c: (c / "model.safetensors").rename(c / "adapter_model.safetensors"),
        "adapter_config.json is missing",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_seen(whole: Path, tmp_path: Path, kind: str) -> None:
    checkpoint = tmp_path / "checkpoint-6"
    shutil.copytree(whole / "checkpoint-6", checkpoint)
    assert read_checkpoint(checkpoint).fault is None
    damage, fault = FAULTS[kind]
    damage(checkpoint)
    assert fault in str(read_checkpoint(checkpoint).fault)


def test_the_last_whole_checkpoint(cut: Path) -> None:
    (cut / "checkpoint-6" / "trainer_state.json").unlink()
    (cut / "checkpoint-5").mkdir()
    (cut / "checkpoint-abc").mkdir()
    (cut / "checkpoint-9").touch()
    found, faulty = last_whole(cut)
    assert found is not None and found.step == 4 and found.max_steps == 6
    assert [checkpoint.path.name for checkpoint in faulty] == ["checkpoint-6", "checkpoint-5"]
    assert last_whole(cut / "absent") == (None, [])


def test_states_of_several_processes(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "checkpoint-6", tmp_path / "c")
    (tmp_path / "c" / "rng_state.pth").rename(tmp_path / "c" / "rng_state_0.pth")
    assert "rng_state_1.pth" in str(read_checkpoint(tmp_path / "c", processes=2).fault)


class TestTheSameCommand:
    def test_goes_on_from_the_last_whole_checkpoint(self, data: Path, whole: Path, cut: Path, caplog: Any) -> None:
        """The half one is named and kept, and the weights are those of the run that was not cut off."""
        cut_file(cut / "checkpoint-6" / "optimizer.pt")
        assert train(data, cut, *STEPS) == 0
        assert "checkpoint-6 cannot be resumed from and is left aside: optimizer.pt is damaged" in caplog.text
        assert "checkpoint-4: 4 of 6 steps are done, 2 are left" in caplog.text
        assert (cut / "aside-checkpoint-6" / "optimizer.pt").exists()
        assert_same_model(cut, whole)
        assert json.loads((cut / "results.json").read_text())["training"]["steps"] == 6
        assert not list(cut.glob(".cattune-*"))

    def test_saves_what_is_trained_to_its_end(self, data: Path, whole: Path, cut: Path, caplog: Any) -> None:
        assert train(data, cut, *STEPS) == 0
        assert "6 of 6 steps are done, 0 are left" in caplog.text
        assert json.loads((cut / "results.json").read_text())["training"]["steps"] == 6
        assert_same_model(cut, whole)

    def test_through_a_link(self, data: Path, whole: Path, cut: Path) -> None:
        (cut.parent / "link").symlink_to(cut, target_is_directory=True)
        shutil.rmtree(cut / "checkpoint-6")
        assert train(data, cut.parent / "link", *STEPS) == 0
        assert_same_model(cut, whole)

    @pytest.mark.parametrize(
        ("words", "named"),
        [
            (["--learning_rate", "0.5"], "learning_rate was 0.001, is 0.5"),
            (["--max_steps", "3"], "max_steps was 6, is 3"),
            (["--seed", "7"], "seed was 42, is 7"),
            (["--gamma_rate", "2"], "gamma_rate was 1.0, is 2.0"),
            (["--dtype", "bfloat16"], 'dtype was null, is "bfloat16"'),
        ],
    )
    def test_another_command_does_not(self, data: Path, cut: Path, words: list[str], named: str, capsys: Any) -> None:
        changed = dict(zip(STEPS[::2], STEPS[1::2], strict=True)) | {words[0]: words[1]}
        assert train(data, cut, *(word for pair in changed.items() for word in pair)) == 2
        error = capsys.readouterr().err
        assert "this is not the same one" in error and named in error
        nothing_left = "nothing is left to do" in error and "checkpoint-6 has done 6 steps" in error
        assert nothing_left if named.endswith("is 3") else "--resume_from_checkpoint true" in error
        assert "--overwrite" in error

    def test_other_data_do_not(self, tmp_path: Path, cut: Path, capsys: Any) -> None:
        write_rows(tmp_path / "train.jsonl", "caps")
        assert train(tmp_path, cut, *STEPS) == 2
        assert "train_file has other contents" in capsys.readouterr().err

    def test_what_does_not_change_the_weights_may_change(self, data: Path, cut: Path) -> None:
        assert train(data, cut, *STEPS[:-1], "3", "--logging_steps", "1", "--save_total_limit", "2") == 0

    def test_a_finished_run_is_kept(self, data: Path, whole: Path, capsys: Any) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
        assert train(data, whole, *STEPS) == 2
        assert "already holds a finished run" in capsys.readouterr().err
        assert train(data, whole, *STEPS, "--resume_from_checkpoint", "true") == 2
        assert "there is nothing left to do" in capsys.readouterr().err
        assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before

    def test_nothing_to_resume(self, data: Path, cut: Path, capsys: Any) -> None:
        for path in cut.glob("checkpoint-*"):
            shutil.rmtree(path)
        assert train(data, cut, "--max_steps", "6", "--save_strategy", "no") == 2
        error = capsys.readouterr().err
        assert "save_strategy is no, so there is nothing to resume; save_strategy: steps with save_steps" in error
        assert "--overwrite starts anew" in error
        (cut / "checkpoint-2").mkdir()
        assert train(data, cut, *STEPS) == 2
        assert "holds no whole checkpoint, so there is nothing to resume (checkpoint-2: it is empty)" in (
            capsys.readouterr().err
        )


class TestNamedCheckpoints:
    def test_a_half_one_is_refused_and_the_last_whole_one_named(self, data: Path, cut: Path, capsys: Any) -> None:
        (cut / "checkpoint-6" / "trainer_state.json").unlink()
        for path in (cut / "checkpoint-6", cut, cut / "checkpoint-7"):
            assert train(data, cut, *STEPS, "--resume_from_checkpoint", str(path)) == 2
            error = capsys.readouterr().err
            assert "cannot be resumed from" in error and f"the last whole one there is {cut}/checkpoint-4" in error

    def test_settings_may_change_and_later_checkpoints_are_put_aside(self, data: Path, cut: Path) -> None:
        words = ("--max_steps", "8", "--save_strategy", "steps", "--save_steps", "2", "--learning_rate", "0.01")
        assert train(data, cut, *words, "--resume_from_checkpoint", str(cut / "checkpoint-2")) == 0
        assert sorted(path.name for path in cut.glob("*checkpoint-*")) == [
            *("aside-checkpoint-4", "aside-checkpoint-6"),
            *("checkpoint-2", "checkpoint-4", "checkpoint-6", "checkpoint-8"),
        ]

    def test_fewer_steps_than_are_done(self, data: Path, cut: Path, capsys: Any) -> None:
        assert train(data, cut, "--max_steps", "3", "--resume_from_checkpoint", "true") == 2
        assert "checkpoint-6 has done 6 steps, and these settings ask for 3" in capsys.readouterr().err
        assert not list(cut.glob("aside-*"))

    def test_overwriting_and_resuming_contradict_each_other(self, data: Path, cut: Path, capsys: Any) -> None:
        for where in ("true", str(cut / "checkpoint-2")):
            assert train(data, cut, *STEPS, "--overwrite", "--resume_from_checkpoint", where) == 2
            assert "give one of them" in capsys.readouterr().err

    def test_false_is_no_checkpoint(self, data: Path, cut: Path, capsys: Any) -> None:
        assert train(data, cut, *STEPS, "--resume_from_checkpoint", "false") == 2
        assert "resume_from_checkpoint is false" in capsys.readouterr().err

    def test_another_model(self, data: Path, cut: Path, tmp_path: Path, capsys: Any) -> None:
        rows = [{"prompt": f"Eve sold {i} red caps to me today. ", "completion": str(i)} for i in range(8)]
        (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = (*STEPS, "--resume_from_checkpoint", str(cut / "checkpoint-2"))
        assert train(tmp_path, tmp_path / "other", *words) == 2
        assert "checkpoint-2 is of another model" in capsys.readouterr().err
        assert not (tmp_path / "other").exists()

    def test_another_optimizer(self, data: Path, cut: Path, capsys: Any) -> None:
        words = (*STEPS, "--optim", "adafactor", "--resume_from_checkpoint", "true")
        before = sorted(cut.rglob("*"))
        if train(data, cut, *words) == 2:
            assert "Traceback" not in capsys.readouterr().err
            assert sorted(cut.rglob("*")) == before


class TestOverwriting:
    def test_what_the_earlier_run_wrote_goes(self, data: Path, whole: Path, tmp_path: Path, caplog: Any) -> None:
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        (folder / "notes.txt").write_text("mine")
        (folder / "checkpoint-abc").mkdir()
        assert train(data, folder, "--max_steps", "1", "--overwrite") == 0
        left = {path.name for path in folder.iterdir()}
        assert {"notes.txt", "checkpoint-abc", "model.safetensors", "results.json", "run.json"} <= left
        assert not left & {"checkpoint-2", "checkpoint-4", "checkpoint-6"}
        assert "checkpoint-abc, notes.txt from elsewhere stay there" in caplog.text

    def test_an_adapter_and_a_whole_model(self, data: Path, whole: Path, tmp_path: Path) -> None:
        pytest.importorskip("peft")
        folder = tmp_path / "run"
        words = ("--max_steps", "1", "--peft", "{r: 2, target_modules: [q_proj]}")
        assert main(words_of(data, folder, *words, model=whole)) == 0
        assert (folder / "adapter_config.json").exists() and not (folder / "model.safetensors").exists()
        assert train(data, folder, "--max_steps", "1", "--overwrite") == 0
        assert not list(folder.glob("adapter_*")) and (folder / "model.safetensors").exists()
        assert not (folder / "README.md").exists()

    def test_a_fault_found_before_the_first_step_costs_nothing(
        self, data: Path, cut: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise torch.OutOfMemoryError("no memory")

        before = sorted(cut.rglob("*"))
        monkeypatch.setattr(Trainer, "training_step", fail)
        assert train(data, cut, *STEPS, "--overwrite") == 1
        assert sorted(cut.rglob("*")) == before

    def test_a_folder_that_old_checkpoints_would_take_along(self, data: Path, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "run" / "checkpoint-abc").mkdir(parents=True)
        words = (*STEPS, "--save_total_limit", "1")
        assert train(data, tmp_path / "run", *words, "--overwrite") == 2
        assert "checkpoint-abc, which save_total_limit would count" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.bin", "model-00001-of-2.safetensors"])
    def test_a_strange_model_is_in_the_way(self, data: Path, cut: Path, name: str, capsys: Any) -> None:
        (cut / name).write_text("{}")
        for words in (("--overwrite",), ()):
            assert train(data, cut, *STEPS, *words) == 2
            assert f"{name}, which no run of cattune wrote there" in capsys.readouterr().err
        assert (cut / name).exists() and (cut / "checkpoint-6").exists()

    def test_results_of_a_release_without_a_record(self, data: Path, whole: Path, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        (folder / "run.json").unlink()
        (folder / "adapter_config.json").write_text("{}")
        assert train(data, folder, "--max_steps", "1", "--overwrite") == 0
        assert not (folder / "adapter_config.json").exists() and not (folder / "checkpoint-2").exists()


class TestOneAtATime:
    def test_the_second_run_says_who_holds_the_folder(self, data: Path, tmp_path: Path, capsys: Any) -> None:
        folder = tmp_path / "run"
        folder.mkdir()
        with FileLock(folder / ".cattune-train.lock", "busy"):
            assert train(data, folder, *STEPS) == 2
            error = capsys.readouterr().err
            assert f"another run is writing to {folder}" in error and f"held by process {os.getpid()} on" in error
        assert list(folder.iterdir()) == []

    def test_folders_made_for_nothing_go_again(self, tmp_path: Path) -> None:
        with claimed(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()
        assert list(tmp_path.iterdir()) == []


class Rust(Exception):
    """What safetensors raises, in its words."""


FULL = "the disk is full"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), FULL),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only"),
        (OSError(errno.EFBIG, "File too large"), "a file would be larger than files may be here"),
        (PermissionError(errno.EACCES, "Permission denied"), "there is no permission to write"),
        (Rust("Error while serializing: I/O error: No space left on device (os error 28)"), FULL),
        (Rust("Error while serializing: I/O error: Disk quota exceeded (os error 122)"), "the disk quota is used up"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), FULL),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), FULL),
        (ValueError("no space between heads"), None),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
    ],
)
def test_what_kept_a_file_from_being_written(tmp_path: Path, error: Exception, reason: str | None) -> None:
    found = write_failure(error, tmp_path, size=1 << 60)
    assert found == reason or (reason is not None and str(found).startswith(reason))
    outer = RuntimeError("while saving")
    outer.__cause__ = error
    assert write_failure(outer, tmp_path, size=1 << 60) == found


def test_a_writer_that_gives_no_number_on_a_disk_with_room(tmp_path: Path) -> None:
    error = RuntimeError("unexpected pos 64 vs 0")
    assert "GB are free" in str(write_failure(error, tmp_path, size=0))
    assert list(tmp_path.iterdir()) == []
    assert write_failure(FileNotFoundError(errno.ENOENT, "gone"), tmp_path / "gone", 0) == "the folder is gone"


class TestADiskThatFails:
    def test_in_a_checkpoint(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        """The half checkpoint goes, the whole one is named, and the same command goes on from it."""
        folder, save = tmp_path / "run", Trainer._save_optimizer_and_scheduler

        def fail(trainer: Trainer, output: str) -> None:
            if output.endswith("checkpoint-4"):
                raise OSError(errno.ENOSPC, "No space left on device")
            save(trainer, output)

        monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", fail)
        assert train(data, folder, *STEPS) == 1
        error = capsys.readouterr().err
        assert FULL in error and str(folder) in error
        assert f"the same command goes on from {folder}/checkpoint-2 (step 2 of 6)" in error
        assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "run.json", "train.log"]
        monkeypatch.undo()
        assert train(data, folder, *STEPS) == 0

    @pytest.mark.parametrize("where", ["model", "results"])
    def test_at_the_end(
        self, data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, where: str
    ) -> None:
        folder, save, write = tmp_path / "run", Trainer.save_model, "cattune.experiments.run_job.write_json"

        def fail(*args: Any, **kwargs: Any) -> None:
            raise Rust("I/O error: No space left on device (os error 28)")

        def fail_last(trainer: Trainer, output: str, _internal_call: bool = False) -> None:
            save(trainer, output, _internal_call)
            if "checkpoint" not in output:
                (Path(output) / "model.safetensors").write_bytes(b"half")
                fail()

        if where == "model":
            monkeypatch.setattr(Trainer, "save_model", fail_last)
        else:
            monkeypatch.setattr(write, fail)
        assert train(data, folder, *STEPS) == 1
        error = capsys.readouterr().err
        assert FULL in error and "the same command goes on from" in error
        assert not (folder / "results.json").exists() and not list(folder.glob(".cattune-*"))
        assert (folder / "model.safetensors").exists() == (where == "results")
        monkeypatch.undo()
        assert train(data, folder, *STEPS) == 0
        assert_same_model(folder, whole)


class TestInterrupted:
    def stop_at(self, step: int, monkeypatch: pytest.MonkeyPatch, stop: Callable[[], Any]) -> None:
        step_of = Trainer.training_step

        def training_step(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
            if trainer.state.global_step == step:
                stop()
            return step_of(trainer, *args, **kwargs)

        monkeypatch.setattr(Trainer, "training_step", training_step)

    def test_ctrl_c_says_how_to_go_on(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        self.stop_at(3, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
        assert train(data, tmp_path / "run", *STEPS) == 130
        assert f"the same command goes on from {tmp_path}/run/checkpoint-2 (step 2 of 6)" in caplog.text
        assert train(data, tmp_path / "run", *STEPS, "--overwrite") == 130
        assert "the same command without --overwrite goes on" in caplog.text

    def test_while_the_model_takes_its_place(
        self, data: Path, whole: Path, cut: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is there then is taken for no model, and the same command ends with the whole one."""
        rename = Path.rename

        def stop_at_tokenizer(path: Path, target: Path) -> Path:
            if path.name == "tokenizer.json":
                raise KeyboardInterrupt
            return rename(path, target)

        monkeypatch.setattr(Path, "rename", stop_at_tokenizer)
        assert train(data, cut, *STEPS) == 130
        assert not (cut / "config.json").exists() and not (cut / "results.json").exists()
        monkeypatch.undo()
        assert train(data, cut, *STEPS) == 0
        assert_same_model(cut, whole)

    def test_without_checkpoints(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        self.stop_at(3, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
        assert train(data, tmp_path / "run", "--max_steps", "6") == 130
        assert "because save_strategy is no, so there is nothing to resume" in caplog.text

    def test_before_the_first_step(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        self.stop_at(0, monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
        assert train(data, tmp_path / "run", *STEPS) == 130
        assert "is as it was; run the command again" in caplog.text and list(tmp_path.iterdir()) == []

    def test_sigterm(self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
        before = signal.getsignal(signal.SIGTERM)
        self.stop_at(3, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
        assert train(data, tmp_path / "run", *STEPS) == 143 and signal.getsignal(signal.SIGTERM) == before
        assert f"goes on from {tmp_path}/run/checkpoint-2" in caplog.text
        assert not list((tmp_path / "run").glob(".cattune-*"))

    def test_sigterm_with_a_last_checkpoint(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
    ) -> None:
        monkeypatch.setattr("threading.Timer.start", lambda timer: timer.function())  # transformers waits 3 s
        self.stop_at(3, monkeypatch, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit) as stopped:
            train(data, tmp_path / "run", "--max_steps", "6", "--enable_jit_checkpoint")
        assert stopped.value.code == 143
        assert "goes on from" in caplog.text and not (tmp_path / "run" / "results.json").exists()


@pytest.mark.slow
def test_kills_while_checkpoints_are_written(data: Path, tmp_path: Path) -> None:
    """Whenever it is killed, the same command ends with the weights of a run that was not."""
    steps = ("--max_steps", "12", "--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "3")
    assert train(data, tmp_path / "whole", *steps) == 0
    folder, killed = tmp_path / "run", 0
    for wait in (0.02, 0.05):
        before = {path.name for path in folder.glob("checkpoint-*")}
        run = subprocess.Popen(
            [sys.executable, "-m", "cattune", *words_of(data, folder, *steps)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        while run.poll() is None and not {path.name for path in folder.glob("checkpoint-*")} - before:
            time.sleep(0.001)
        time.sleep(wait)
        run.kill()
        killed += run.wait() != 0
    assert killed
    if not (folder / "results.json").exists():
        checkpoint, _ = last_whole(folder)
        assert train(data, folder, *steps, *([] if checkpoint else ["--overwrite"])) == 0
    assert_same_model(folder, tmp_path / "whole")


def test_differences_of_runs() -> None:
    one = {"model": "tiny", "settings": {"a": 1}, "peft": None}
    assert differences(one, one) == []
    assert differences(one, one | {"settings": {"a": 2, "b": 0}}) == ["a was 1, is 2", "b was null, is 0"]
