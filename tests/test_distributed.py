"""Two processes do what one does: data parallel through the trainer, and parameters sharded with FSDP2.

Both processes run on this machine's CPU over gloo, in one go for all tests of this file.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from two_processes import DEEPSPEED_RUNS, SHARDED_RUNS, TRAINER_RUNS, trainer_run

TIMEOUT = 120  # seconds; a process that waits for the other for ever must not hang the tests
EVALUATED = ("loss", "re_attention_loss", "causal_mass", "attention_ratio", "supervised_rows")
FIGURES = ("loss", "cross_entropy", "gamma", "re_attention_loss", "causal_mass", "attention_ratio", "supervised_rows")


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes saved."""
    return shared_folder(tmp_path_factory, "plain")


@pytest.fixture(scope="module")
def of_deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of processes that DeepSpeed has changed for good."""
    pytest.importorskip("deepspeed")
    return shared_folder(tmp_path_factory, "deepspeed")


def shared_folder(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    """Made once for all workers of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"two_processes_{kind}"
    with FileLock(folder.with_suffix(".lock")):
        if not folder.exists():
            folder.mkdir()
            run_two_processes(folder, kind)
    return folder


def run_two_processes(folder: Path, kind: str) -> None:
    """Runs the program twice at once; FOLDER/RANK.log has what each process said."""
    processes, logs = [], [(folder / f"{rank}.log").open("w") for rank in range(2)]
    for rank, log in enumerate(logs):
        command = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(folder), kind]
        sides = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        if kind == "deepspeed":
            sides |= {"DS_ACCELERATOR": "cpu", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        environment = os.environ | sides | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    deadline = time.monotonic() + TIMEOUT
    try:
        while any(process.poll() is None for process in processes):
            if time.monotonic() > deadline or any(process.poll() for process in processes):
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for log in logs:
            log.close()


def result(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.pt"
    if not path.exists():
        logs = "\n".join((folder / f"{rank}.log").read_text()[-4000:] for rank in range(2))
        pytest.fail(f"the two processes did not finish {name!r} within {TIMEOUT} s\n{logs}")
    return torch.load(path, weights_only=False)


def assert_same(two: dict[str, torch.Tensor], one: dict[str, torch.Tensor], tolerance: float) -> None:
    assert two.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", TRAINER_RUNS)
class TestTrainer:
    def test_one_process_has_no_supervised_row_in_a_step(self, of_two_processes: Path, name: str) -> None:
        """What the data were ordered for; without it the tests below would show less."""
        shares = result(of_two_processes, name)["shares"]
        assert shares[0][1][0] == 0 < shares[0][0][0]
        assert shares[1][0][0] == 0 < shares[1][1][0]
        assert len({first[1] - second[1] for first, second in shares}) > 1  # nor are the completion tokens even

    def test_figures_and_weights(self, of_two_processes: Path, tmp_path: Path, name: str) -> None:
        two, one = result(of_two_processes, name), trainer_run(tmp_path, **TRAINER_RUNS[name])
        assert_same(two["weights"], one["weights"], 2e-6)
        for logged, expected in zip(two["history"], one["history"], strict=True):
            for figure in FIGURES:
                assert logged[figure] == pytest.approx(expected[figure], rel=1e-4, abs=1e-5), figure

    def test_evaluation(self, of_two_processes: Path, tmp_path: Path, name: str) -> None:
        """The last batch is filled up with examples that were already seen; they count once."""
        two, one = result(of_two_processes, name), trainer_run(tmp_path, **TRAINER_RUNS[name])
        for figure in EVALUATED:
            assert two["metrics"][f"eval_{figure}"] == pytest.approx(one["metrics"][f"eval_{figure}"], rel=1e-4), figure


@pytest.mark.parametrize("name", DEEPSPEED_RUNS)
def test_deepspeed(of_deepspeed: Path, tmp_path: Path, name: str) -> None:
    two, one = result(of_deepspeed, name), trainer_run(tmp_path, **DEEPSPEED_RUNS[name] | {"deepspeed": None})
    assert_same(two["weights"], one["weights"], 2e-6)
    for logged, expected in zip(two["history"], one["history"], strict=True):
        for figure in FIGURES:
            assert logged[figure] == pytest.approx(expected[figure], rel=1e-4, abs=1e-5), figure
    for figure in EVALUATED:
        assert two["metrics"][f"eval_{figure}"] == pytest.approx(one["metrics"][f"eval_{figure}"], rel=1e-4), figure


@pytest.mark.parametrize("name", SHARDED_RUNS)
def test_sharded_parameters(of_two_processes: Path, name: str) -> None:
    two, one = result(of_two_processes, name), SHARDED_RUNS[name]()
    for losses, expected in zip(two["losses"], one["losses"], strict=True):
        assert losses == pytest.approx(expected, rel=1e-5)
    assert_same(two["weights"], one["weights"], 2e-6)
