"""One cell: a method trained on one seed's data of a task and evaluated on each of its test splits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cattune.methods.base import METHODS
from cattune.tasks.stg.task import StgTask

if TYPE_CHECKING:
    from cattune.data.examples import Example
    from cattune.training.trainer import CATTrainer

Report = Callable[[str, int, int], None]
"""Is told (what is going on, steps or examples done, how many in all)."""

CURVES = ("cross_entropy", "re_attention_loss", "causal_mass", "attention_ratio")
"""What is kept of the training log."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What to run.

    Args:
        method: a name in `methods.base.METHODS`, or the path of a .py file.
        seed: of the data, of the model's weights and of the order of training.
        task: the game.
        settings: of `CATConfig`, on top of the recipe and of the method's own.
        strips: for how many of the first `ood` examples the attention is kept.
        splits: what to evaluate on.
    """

    method: str
    seed: int
    task: StgTask
    settings: Mapping[str, Any] = field(default_factory=dict)
    strips: int = 0
    splits: tuple[str, ...] = StgTask.evaluated

    @property
    def name(self) -> str:
        """Tells the cell from the others of its grid."""
        return f"{METHODS.get(self.method).name}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class CellResult:
    """What came out.

    Args:
        cell: what was run.
        method, label, description: of its method: its name, and what people read.
        own_tests: whether it was tested on the task's own examples, or on what its method made of them.
        settings: of `CATConfig`, the recipe's, the method's and the cell's own, as they were in force.
        splits: for each split what `SplitResult.to_dict` gives.
        curves: metric -> (step, value) over training.
        strips: see `strips.attention_strips`.
        train_seconds, seconds: wall time of the training alone, and of all.
        steps: optimizer steps.
        alignment: what became of the training links, see `AlignmentReport.to_dict`.
    """

    cell: Cell
    method: str
    label: str
    description: str
    own_tests: bool
    settings: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, list[tuple[int, float]]]
    strips: list[dict[str, Any]]
    train_seconds: float
    seconds: float
    steps: int
    alignment: Mapping[str, Any]


def run_cell(cell: Cell, report: Report = lambda what, done, total: None) -> CellResult:
    """Draws the data, trains `tiny`, evaluates.

    Raises:
        ConfigError: there is no such method, or the task has not what it needs.
    """
    from cattune.evaluation.evaluate import evaluate_model
    from cattune.experiments.strips import attention_strips
    from cattune.models import tiny

    started = time.perf_counter()
    method, task = METHODS.get(cell.method), cell.task
    method.check(task)
    given = task.splits(cell.seed)
    splits = {name: method.prepare(name, examples, task) for name, examples in given.items()}
    train, train_seconds = splits["train"], 0.0
    for number, of_pass in enumerate(method.passes, start=1):
        settings = {**tiny.RECIPE, **method.settings, **cell.settings, **of_pass}
        trainer, seconds = _train(cell, given["train"], train, settings, report)
        train_seconds += seconds
        model, tokenizer = trainer.model, trainer.processing_class
        if number < len(method.passes):
            answers = evaluate_model(model, tokenizer, train).samples
            train = method.again(train, {sample.id for sample in answers if not sample.exact})
    results = {}
    for split in cell.splits:
        if split in splits:  # `ood-unseen` is left out where training holds all causes
            results[split] = evaluate_model(
                model,
                tokenizer,
                splits[split],
                by=task.group_by if splits[split] is given[split] else None,
                progress=lambda *at, split=split: report(split, *at),
            )
    own_tests = splits["ood"] is given["ood"]
    strips = []
    if cell.strips and own_tests:
        strips = attention_strips(model, tokenizer, splits["ood"][: cell.strips], task.spec, results["ood"])
    return CellResult(
        cell=cell,
        method=method.name,
        label=method.label,
        description=method.description,
        own_tests=own_tests,
        settings=settings,
        splits={split: result.to_dict() for split, result in results.items()},
        curves=_curves(trainer.state.log_history),
        strips=strips,
        train_seconds=train_seconds,
        seconds=time.perf_counter() - started,
        steps=trainer.state.global_step,
        alignment=trainer.alignment.to_dict(),
    )


def _train(
    cell: Cell, words: Sequence[Example], train: Sequence[Example], settings: Mapping[str, Any], report: Report
) -> tuple[CATTrainer, float]:
    """A trainer that has trained `tiny` from the start, and the seconds that training alone took.

    All methods share one vocabulary, that of `words`, so that they start from the very same weights.
    """
    from cattune.experiments.training import load_or_build, make_config, make_trainer
    from cattune.models import tiny

    model, tokenizer = load_or_build(tiny.NAME, words, cell.seed)
    with tempfile.TemporaryDirectory() as folder:
        args = make_config(tiny.NAME, {**settings, "seed": cell.seed, "output_dir": folder})
        trainer = make_trainer(model, tokenizer, train, args, report)
        started = time.perf_counter()
        trainer.train()
        return trainer, time.perf_counter() - started


def _curves(history: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    return {name: [(log["step"], log[name]) for log in history if name in log] for name in CURVES}
