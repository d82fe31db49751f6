"""What must be said beside a score, in sentences, out of result records; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.io import counted, shown


def remarks(name: str, scores: Mapping[str, Any], majority: str, answers: int) -> list[str]:
    """Of a model that always answers the same, is no better than that, or was cut off while it answered.

    Args:
        name: what the scores are of.
        scores: `constant_answer`, `beats_majority`, `unfinished` and `max_new_tokens`.
        majority: the best constant answer.
        answers: how many there are.
    """
    said = []
    constant = scores["constant_answer"]
    if constant is not None:
        best = constant.strip() == majority.strip()
        rest = "the best constant answer" if best else f"and {shown(majority)} is the best constant answer"
        said.append(f"{name}: every answer is {shown(constant)}, {rest}")
    elif not scores["beats_majority"]:
        said.append(f"{name}: no better than the best constant answer, {shown(majority)}, as far as 95% intervals tell")
    if cut := scores["unfinished"]:
        verb, limit = "was" if cut == 1 else "were", counted(scores["max_new_tokens"], "token")
        said.append(f"{name}: {cut:,} of {counted(answers, 'answer')} {verb} cut off at {limit}")
    return said


def arms_remarks(
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]], labels: Mapping[str, str] | None = None
) -> list[str]:
    """The remarks on each arm and split of what `experiments.grid.summarize` gives.

    Args:
        arms: arm -> split -> scores; a split that is not in `labels` is left out, where there are any.
        labels: arms and splits by name -> as people read them; by default as they are.
    """
    return [
        remark
        for arm, splits in arms.items()
        for name, scores in splits.items()
        if labels is None or name in labels
        for remark in remarks(
            f"{arm}, {name}" if labels is None else f"{labels[arm]}, {labels[name]}",
            scores,
            scores["majority_label"],
            scores["answers"],
        )
    ]
