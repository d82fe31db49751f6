"""One cell: an arm trained on one seed's data and evaluated on each of its test splits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cattune.experiments.arms import get_arm
from cattune.experiments.data import REPORTED_SPLITS, GameData, draw

Report = Callable[[str, int, int], None]
"""Is told (what is going on, steps or examples done, how many in all)."""

CURVES = ("cross_entropy", "re_attention_loss", "causal_mass", "attention_ratio")
"""What is kept of the training log."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What to run.

    Args:
        arm: a name in `arms.ARMS`.
        seed: of the data, of the model's weights and of the order of training.
        data: the game.
        settings: of `CATConfig`, on top of the recipe and of the arm's own.
        strips: for how many of the first `ood` examples the attention is kept.
        splits: what to evaluate on.
    """

    arm: str
    seed: int
    data: GameData
    settings: Mapping[str, Any] = field(default_factory=dict)
    strips: int = 0
    splits: tuple[str, ...] = ("validation", *REPORTED_SPLITS)

    @property
    def name(self) -> str:
        """Tells the cell from the others of its grid."""
        return f"{self.arm}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class CellResult:
    """What came out.

    Args:
        cell: what was run.
        settings: of `CATConfig`, the recipe's, the arm's and the cell's own, as they were in force.
        splits: for each split what `SplitResult.to_dict` gives.
        curves: metric -> (step, value) over training.
        strips: see `strips.attention_strips`.
        train_seconds, seconds: wall time of the training alone, and of all.
        steps: optimizer steps.
        alignment: what became of the training links, see `AlignmentReport.to_dict`.
    """

    cell: Cell
    settings: Mapping[str, Any]
    splits: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, list[tuple[int, float]]]
    strips: list[dict[str, Any]]
    train_seconds: float
    seconds: float
    steps: int
    alignment: Mapping[str, Any]


def run_cell(cell: Cell, report: Report = lambda what, done, total: None) -> CellResult:
    """Draws the data, trains `tiny`, evaluates."""
    from cattune.evaluation.evaluate import evaluate_model
    from cattune.experiments.strips import attention_strips
    from cattune.experiments.training import load_or_build, make_config, make_trainer
    from cattune.models import tiny
    from cattune.tasks.stg import causal_only

    started = time.perf_counter()
    arm = get_arm(cell.arm)
    game, splits = draw(cell.data, cell.seed)
    # All arms share one vocabulary, so that they start from the very same weights.
    model, tokenizer = load_or_build(tiny.NAME, splits["train"], cell.seed)
    if arm.causal_only:
        splits = {name: [causal_only(example, game) for example in examples] for name, examples in splits.items()}
    settings = {**tiny.RECIPE, **arm.settings, **cell.settings}
    with tempfile.TemporaryDirectory() as folder:
        args = make_config(tiny.NAME, {**settings, "seed": cell.seed, "output_dir": folder})
        trainer = make_trainer(model, tokenizer, splits["train"], args, report)
        training_started = time.perf_counter()
        trainer.train()
        train_seconds = time.perf_counter() - training_started
    results = {}
    for split in cell.splits:
        if split in splits:  # `ood-unseen` is left out where training holds all causes
            results[split] = evaluate_model(
                model,
                tokenizer,
                splits[split],
                by="spurious_before_cause" if not arm.causal_only else None,
                progress=lambda *at, split=split: report(split, *at),
            )
    strips = []
    if cell.strips and not arm.causal_only:
        strips = attention_strips(model, tokenizer, splits["ood"][: cell.strips], game, results["ood"])
    return CellResult(
        cell=cell,
        settings=settings,
        splits={split: result.to_dict() for split, result in results.items()},
        curves=_curves(trainer.state.log_history),
        strips=strips,
        train_seconds=train_seconds,
        seconds=time.perf_counter() - started,
        steps=trainer.state.global_step,
        alignment=trainer.alignment.to_dict(),
    )


def _curves(history: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    return {name: [(log["step"], log[name]) for log in history if name in log] for name in CURVES}
