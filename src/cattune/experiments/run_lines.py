"""A training run in lines for people: what it is about to do, each logging step, each evaluation, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cattune.supervision.report import AlignmentReport
from cattune.wording import counted, time_left, time_taken

_NAMES = {  # in a log file, and in a terminal of 80 columns
    "loss": ("loss", "loss"),
    "cross_entropy": ("cross-entropy", "CE"),
    "re_attention_loss": ("Re-Attention loss", "RA"),
    "causal_mass": ("causal mass", "mass"),
    "learning_rate": ("learning rate", "lr"),
}
LEGEND = "CE is cross-entropy, RA the Re-Attention loss, mass the causal mass"

_ADVICE = "training has failed; lower learning_rate, or train in bf16 or float32, not fp16"


@dataclass(frozen=True, slots=True)
class Line:
    """What is said.

    Args:
        text: with every figure's name.
        short: the same for a terminal of 80 columns, with the names as in `LEGEND`.
    """

    text: str
    short: str

    @classmethod
    def of(cls, text: str) -> Line:
        """A line that is as short as it gets."""
        return cls(text, text)


def opening(
    alignment: AlignmentReport,
    *,
    steps: int,
    examples_a_step: int,
    gamma: float,
    trained: int,
    parameters: int,
    device: str,
) -> list[Line]:
    """What is said before the first step.

    Args:
        alignment: what became of the training set's links.
        steps: optimizer steps in all.
        examples_a_step: over all devices and accumulation steps.
        gamma: the weight of the Re-Attention loss at its highest.
        trained, parameters: how many parameters are trained, of how many.
        device: where.
    """
    examples = alignment.examples - alignment.left_out
    epochs = steps * examples_a_step / max(examples, 1)
    course = f"{counted(steps, 'step')} of {examples_a_step} ({epochs:.1f} epochs)"
    used = f"{alignment.aligned_links:,} of {alignment.links:,} used"
    links = f"causal links: {used}, on {counted(alignment.rows, 'row')}"
    if alignment.refused.total():
        links += f"; {alignment.refused.total():,} refused before"
    if alignment.examples_without_links:
        links += f"; {counted(alignment.examples_without_links, 'example')} without links"
    if not gamma:
        links += "; gamma is 0: they are looked at, and not trained on"
    seen = alignment.links or alignment.refused
    lines = [
        f"{counted(examples, 'example')}, {course}, on {device}",
        f"{trained:,} of {counted(parameters, 'parameter')} trained",
        links if seen else "no causal links: plain fine-tuning",
    ]
    return [Line.of(line) for line in lines]


def step_line(logs: Mapping[str, Any], step: int, steps: int, seconds_left: float | None) -> Line:
    """A logging step.

    Args:
        logs: the Trainer's.
        step, steps: optimizer steps done, and in all.
        seconds_left: what the rest will take; None where there is none.
    """
    figures = {name: logs[name] for name in _NAMES if name in logs}
    return _line(f"step {step} of {steps}", f"{step:>{len(str(steps))}}/{steps} ", figures, _left(seconds_left))


def evaluation_line(logs: Mapping[str, Any], step: int, steps: int, is_best: bool) -> Line:
    """An evaluation of one split, whose figures begin with `eval_` and, where it has one, its name."""
    prefix = evaluation_prefix(logs)
    split = " ".join(prefix.removeprefix("eval_").removesuffix("_").split()) or "evaluation"
    figures = {name: logs[prefix + name] for name in _NAMES if name != "loss" and prefix + name in logs}
    short = f"{step:>{len(str(steps))}}/{steps}  {split}:"
    return _line(f"step {step} of {steps}, {split}", short, figures, "best so far" if is_best else "")


def _line(text: str, short: str, figures: Mapping[str, float], rest: str) -> Line:
    """Figures with their names, after what they are of; an alarm goes before figures that are no finite numbers."""
    values = {name: f"{x:.1e}" if name == "learning_rate" else _number(x) for name, x in figures.items()}
    long_parts = [*(f"{_NAMES[name][0]} {value}" for name, value in values.items()), *filter(None, [rest])]
    parts = [*(f"{_NAMES[name][1]} {value}" for name, value in values.items()), *filter(None, [rest])]
    line = Line(f"{text}: {', '.join(long_parts)}", f"{short} {'  '.join(parts).replace('about ', '~')}")
    wrong = [_NAMES[name][0] for name, x in figures.items() if not math.isfinite(x)]
    if not wrong:
        return line
    alarm = f"NOT FINITE: {', '.join(wrong)}; {_ADVICE}"
    return Line(f"{alarm}\n{line.text}", f"{alarm}\n{line.short}")


def _left(seconds: float | None) -> str:
    return "" if seconds is None else time_left(seconds)


def evaluation_prefix(logs: Mapping[str, Any]) -> str:
    """What the names of an evaluation's figures begin with; nothing where the log is of no evaluation."""
    found = [name.removesuffix("runtime") for name in logs if name.startswith("eval_") and name.endswith("_runtime")]
    return found[0] if found else ""


def ending(
    step: int, steps: int, seconds: float, folder: Path, metric: str | None, best: Mapping[str, Any] | None
) -> list[Line]:
    """What is said when the model is saved.

    Args:
        step, steps: optimizer steps done, and as many as there might have been.
        seconds: of training.
        folder: where the model is.
        metric: the figure that says which evaluation is the best, if one does.
        best: that evaluation, as `results.json` has it; None where none gave a number.
    """
    lines = [f"trained in {time_taken(seconds)}; the model is in {folder}"]
    if step < steps:
        lines.insert(0, f"stopped early, after step {step} of {steps}: evaluations no longer got better")
    if best is not None:
        value = f"{best['metric']} {_number(best['value'])} at step {best['step']}"
        is_saved = best["saved_step"] == best["step"]
        saved = "its weights are saved" if is_saved else f"the weights of step {best['saved_step']} are saved"
        lines.append(f"the best evaluation: {value}; {saved}")
    elif metric is not None:
        lines.append(f"no evaluation gave a number for {metric}; the weights of step {step} are saved")
    return [Line.of(line) for line in lines]


def _number(value: float) -> str:
    return f"{value:.3f}" if value == 0 or 5e-4 <= abs(value) < 1000 else f"{value:.1e}"
