"""The result in one sentence, in words that the numbers bear out."""

from __future__ import annotations

import math

from cattune.reports.data import Arm, Score

CLEAR = 2.0
"""A difference counts as one when it exceeds this many times its own spread, or its own interval (Newcombe 1998)."""

SMALLEST = 0.01
"""And when it is at least one point, so that a tiny spread does not make news of a tiny difference."""


def finding(baseline: Arm, method: Arm, iid: str, ood: str) -> str:
    """One sentence on what breaking the spurious correlations does to the accuracy of two arms.

    Args:
        baseline: the arm to compare with, usually plain fine-tuning.
        method: the arm that is reported on.
        iid: name of the split with the training data's spurious correlations.
        ood: name of the split without them.
    """
    return (
        f"{_movement(baseline, iid, ood)} when the spurious correlations break; "
        f"{_movement(method, iid, ood)}{_comparison(baseline.scores[ood], method.scores[ood])}."
    )


def _movement(arm: Arm, iid: str, ood: str) -> str:
    before, after = arm.scores[iid], arm.scores[ood]
    if not _differ(before, after):
        return f"{arm.label} stays at {_percent(after.mean)} ({_percent(before.mean)} before)"
    verb = "falls" if after.mean < before.mean else "rises"
    return f"{arm.label} {verb} from {_percent(before.mean)} to {_percent(after.mean)}"


def _comparison(baseline: Score, method: Score) -> str:
    if not _differ(baseline, method):
        return ", which is not clearly different"
    points = 100 * (method.mean - baseline.mean)
    return f", {abs(points):.1f} points {'higher' if points > 0 else 'lower'}"


def _differ(one: Score, other: Score) -> bool:
    low, high = sorted((one, other), key=lambda score: score.mean)
    return high.mean - low.mean > max(math.hypot(_above(low), _below(high)), SMALLEST)


def _above(score: Score) -> float:
    """How far up the rate may truly be: to the end of its interval, which is honest at 0 and for few answers."""
    return CLEAR * (score.spread or 0.0) if score.high is None else score.high - score.mean


def _below(score: Score) -> float:
    return CLEAR * (score.spread or 0.0) if score.low is None else score.mean - score.low


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f}\u00a0%"
