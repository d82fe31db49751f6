"""Follows a training run: says each line of it, and keeps them in a log file beside the model."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.trainer_pt_utils import get_model_param_count

from cattune.experiments.run_folder import LOG
from cattune.experiments.run_lines import Line, ending, evaluation_line, evaluation_prefix, opening, step_line
from cattune.training.best_metric import best_evaluation

if TYPE_CHECKING:
    from cattune.training.trainer import CATTrainer

LINES_A_RUN = 20
"""Logging steps of a short run, unless the user says how many."""

Say = Callable[[Line], None]


class Follower(TrainerCallback):
    """Says what a run is about to do, and a line for each logging step and each evaluation; the first process does.

    The log file goes on where training goes on from a checkpoint. It is not touched before the first step is computed,
    as nothing of the folder is.

    Args:
        trainer: which is followed.
        folder: where the log file is.
        say: is told each line.
        own_logging: whether the user said how often to log; else a run of few steps logs more often.
    """

    def __init__(self, trainer: CATTrainer, folder: Path, say: Say, own_logging: bool) -> None:
        self._trainer = trainer
        self._is_main = trainer.args.process_index == 0
        self._path = folder / LOG
        self._tell = say
        self._own_logging = own_logging
        self._start = (0.0, 0)
        self._unwritten: list[str] = []
        self._owns_folder = self._has_warned = False
        trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Called by the Trainer."""
        if not self._own_logging:
            state.logging_steps = min(state.logging_steps, math.ceil(state.max_steps / LINES_A_RUN))
        self._start = (time.monotonic(), state.global_step)
        lines = opening(
            self._trainer.alignment,
            steps=state.max_steps,
            examples_a_step=args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            gamma=args.gamma,
            trained=get_model_param_count(model, trainable_only=True),
            parameters=get_model_param_count(model),
            device=str(args.device),
        )
        if state.global_step:
            self._write(f"resumed after step {state.global_step} of {state.max_steps}")
        for line in lines:
            self.say(line)
        if self._trainer.alignment.problems:  # the trainer has warned of them already
            self._write(self._trainer.alignment.summary())

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._owns_folder = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **kwargs: Any) -> None:
        """Called by the Trainer."""
        if evaluation_prefix(logs):
            self.say(evaluation_line(logs, state.global_step, state.max_steps, _is_best(args, state, logs)))
        elif "loss" in logs:
            started, first = self._start
            pace = (time.monotonic() - started) / max(state.global_step - first, 1)
            remaining = state.max_steps - state.global_step
            self.say(step_line(logs, state.global_step, state.max_steps, pace * remaining if remaining else None))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._owns_folder = True

    def say_ending(self, folder: Path, seconds: float, best: Mapping[str, Any] | None) -> None:
        """Say how training ended, when its model is saved; `best` is `best_of_run`'s."""
        state, metric = self._trainer.state, self._trainer.args.metric_for_best_model
        for line in ending(state.global_step, state.max_steps, seconds, folder, metric, best):
            self.say(line)

    def say(self, line: Line) -> None:
        """Say a line and write it down."""
        if self._is_main:
            self._tell(line)
            self._write(line.text)

    def _write(self, text: str) -> None:
        self._unwritten.append(text)
        if not (self._is_main and self._owns_folder):
            return
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(f"{line}\n" for line in self._unwritten))
        except OSError as error:  # no reason to lose the training
            if not self._has_warned:
                self._tell(Line.of(f"{self._path} cannot be written: {error.strerror}; training goes on"))
            self._has_warned = True
            return
        self._unwritten.clear()


def best_of_run(trainer: CATTrainer) -> dict[str, Any] | None:
    """The best evaluation during training and what of it was saved; None where no figure says which is best.

    Returns:
        `metric`, its `value`, its `step`, and `saved_step`, whose weights the trainer holds now.
    """
    metric, args, state = trainer.args.metric_for_best_model, trainer.args, trainer.state
    found = best_evaluation(state.log_history, metric, bool(args.greater_is_better)) if metric else None
    if found is None:
        return None
    loaded = args.load_best_model_at_end and re.search(r"-(\d+)$", state.best_model_checkpoint or "")
    step, value = found
    return {
        "metric": metric,
        "value": value,
        "step": step,
        "saved_step": int(loaded[1]) if loaded else state.global_step,
    }


def as_json(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The Trainer's log with numbers that JSON has no word for as texts: "nan", "inf", "-inf"."""
    return [
        {key: str(x) if isinstance(x, float) and not math.isfinite(x) else x for key, x in log.items()}
        for log in history
    ]


def _is_best(args: Any, state: Any, logs: Mapping[str, Any]) -> bool:
    metric = args.metric_for_best_model
    if metric is None or metric not in logs:
        return False
    found = best_evaluation(state.log_history, metric, args.greater_is_better)
    return found is not None and found[0] == state.global_step
