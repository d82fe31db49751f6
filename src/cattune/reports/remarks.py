"""What must be said beside a score, in sentences, out of result records; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.wording import counted, shown


def remarks(scores: Mapping[str, Any], majority: str, answers: int) -> list[str]:
    """Sentences about one split's scores, without its name.

    Args:
        scores: `constant_answer`, `beats_majority`, `unfinished` and `max_new_tokens`.
        majority: the best constant answer.
        answers: how many there are.
    """
    said = []
    constant = scores["constant_answer"]
    if constant is not None:
        best = constant.strip() == majority.strip()
        rest = "the best constant answer" if best else f"and {shown(majority)} is the best constant answer"
        said.append(f"every answer is {shown(constant)}, {rest}")
    elif not scores["beats_majority"]:
        said.append(f"no better than the best constant answer, {shown(majority)}, as far as 95% intervals tell")
    if cut := scores["unfinished"]:
        verb, limit = "was" if cut == 1 else "were", counted(scores["max_new_tokens"], "token")
        said.append(f"{cut:,} of {counted(answers, 'answer')} {verb} cut off at {limit}")
    return said


def arms_remarks(
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]], labels: Mapping[str, str] | None = None
) -> list[str]:
    """The remarks on each arm of what `experiments.grid.summarize` gives, with the splits that they hold for.

    Args:
        arms: arm -> split -> scores.
        labels: arms and splits by name -> as people read them; the splits that are shown. By default all, as they are.
    """
    said = []
    for arm, splits in arms.items():
        names: dict[str, list[str]] = {}
        for name, scores in splits.items():
            if labels is None or name in labels:
                for remark in remarks(scores, scores["majority_label"], scores["answers"]):
                    names.setdefault(remark, []).append(labels[name] if labels else name)
        said += [f"{labels[arm] if labels else arm} ({'; '.join(on)}): {remark}" for remark, on in names.items()]
    return said
