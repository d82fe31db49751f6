"""Which evaluation was the best: the figure that says so, checked before training, and found in the log after it.

transformers looks the figure up after the first evaluation, which may be hours after the start, and takes every name
that does not end in `loss` for one that should grow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from cattune.errors import ConfigError

_ALWAYS = ("loss", "cross_entropy")
_OF_ROWS = ("re_attention_loss", "causal_mass", "attention_ratio")
_SHRINKING = ("loss", "cross_entropy")


def is_better_greater(metric: str) -> bool:
    """Whether a figure of that name should grow."""
    return not metric.endswith(_SHRINKING)


def evaluation_metrics(eval_data: Any, captures: bool) -> list[str]:
    """The names of the figures that an evaluation gives.

    Args:
        eval_data: features, or a mapping of named splits to features.
        captures: whether attention is looked at.
    """
    splits = eval_data.items() if isinstance(eval_data, Mapping) else [("", eval_data)]
    return [
        f"eval_{split}{'_' if split else ''}{figure}"
        for split, features in splits
        for figure in (*_ALWAYS, *(_OF_ROWS if captures and _has_rows(features) else ()))
    ]


def settle_best_metric(args: TrainingArguments, eval_data: Any, captures: bool) -> None:
    """Make `metric_for_best_model` the name of a figure that evaluations give; a split that is the only one is added.

    Raises:
        ConfigError: evaluations give none of that name.
    """
    if args.metric_for_best_model is None or args.eval_strategy == IntervalStrategy.NO or eval_data is None:
        return
    names = evaluation_metrics(eval_data, captures)
    given = args.metric_for_best_model
    full = given if given.startswith("eval_") else f"eval_{given}"
    if full not in names and isinstance(eval_data, Mapping) and len(eval_data) == 1:
        full = f"eval_{next(iter(eval_data))}_{full.removeprefix('eval_')}"
    if full not in names:
        raise ConfigError(
            f"metric_for_best_model is {given!r}, which no evaluation gives; it must be one of {', '.join(names)}"
        )
    args.metric_for_best_model = full


def best_evaluation(history: Iterable[Mapping[str, Any]], metric: str, greater: bool) -> tuple[int, float] | None:
    """(step, value) of the first best evaluation of a log, as transformers chooses it; None without a number.

    Args:
        history: `trainer.state.log_history`.
        metric: the full name of a figure.
        greater: whether it should grow.
    """
    found = [(int(log["step"]), float(log[metric])) for log in history if metric in log]
    found = [(step, value) for step, value in found if not math.isnan(value)]
    return min(found, key=lambda pair: -pair[1] if greater else pair[1], default=None)


def _has_rows(features: Sequence[Mapping[str, Any]]) -> bool:
    return any(len(row["query_rows"]) for row in features)
