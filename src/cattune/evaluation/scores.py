"""Scores of predictions against targets: pure functions of texts, no model.

**Exact**: the whole completion equals the whole target, white space at both ends aside.

**Numeric**: the number that the prediction states equals the number that the target states, as exact rationals, with no
tolerance: 0.67 is not 2/3. `answers` says which number of a text is the one that it states, `numbers` what is a number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from cattune.evaluation.answers import stated_number
from cattune.evaluation.intervals import mean_of_rates, stderr_of_rate, wilson

MAX_CLASSES = 20
"""Targets with more distinct values than this are not a closed label set."""

MIN_CLASS_SIZE = 5
"""A label with fewer examples is rare: one recall out of a handful of examples would sway the mean of recalls."""

MAX_RARE_SHARE = 0.05
"""Rare labels may hold this share of the examples; if they hold more, the label set is not a closed one."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How many of a group of predictions are right, by each measure; rates are from 0 to 1.

    Args:
        n: number of examples.
        accuracy: share that matches exactly.
        stderr: standard error of `accuracy`; zero, which says too much, where all or none are right.
        low, high: its 95% interval, see `intervals.wilson`.
        numeric_n: number of examples whose target states a number.
        numeric_accuracy: share of those whose number is right; None if there are none.
        numeric_stderr, numeric_low, numeric_high: its standard error and interval.
        balanced_accuracy: mean recall over the labels that are not rare; None unless the label set is closed.
        balanced_stderr, balanced_low, balanced_high: its standard error and interval.
        recall: each label that `balanced_accuracy` is the mean of, with its number of examples and its recall.
        rare_labels: labels with fewer than `MIN_CLASS_SIZE` examples, left out of that mean, with their numbers.
    """

    n: int
    accuracy: float
    stderr: float
    low: float
    high: float
    numeric_n: int = 0
    numeric_accuracy: float | None = None
    numeric_stderr: float | None = None
    numeric_low: float | None = None
    numeric_high: float | None = None
    balanced_accuracy: float | None = None
    balanced_stderr: float | None = None
    balanced_low: float | None = None
    balanced_high: float | None = None
    recall: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    rare_labels: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON-ready types."""
        record = asdict(self)
        record["recall"] = {label: {"n": n, "recall": rate} for label, (n, rate) in self.recall.items()}
        return record


def exact_match(prediction: str, target: str) -> bool:
    """Whether the texts are equal, white space at both ends aside."""
    return prediction.strip() == target.strip()


def last_number(text: str) -> Fraction | None:
    """The number that a text states, by the rules of `answers` and `numbers`; None if it states none.

    It is the last one where nothing marks the answer, hence the name.
    """
    return stated_number(text)


def numeric_match(prediction: str, target: str) -> bool | None:
    """Whether both texts state the same number; None if the target states none, so that there is nothing to match."""
    wanted = last_number(target)
    return None if wanted is None else last_number(prediction) == wanted


def majority_label(targets: Iterable[str]) -> tuple[str, float]:
    """The most frequent target (the first in code point order among equals) and its share of the examples."""
    counts = Counter(target.strip() for target in targets)
    label = min(counts, key=lambda text: (-counts[text], text))
    return label, counts[label] / counts.total()


def score(predictions: Sequence[str], targets: Sequence[str]) -> Scores:
    """Score predictions against targets of the same number, at least one.

    Raises:
        ValueError: their numbers differ, or there are none.
    """
    if not targets or len(predictions) != len(targets):
        raise ValueError(f"as many predictions as targets, at least one: got {len(predictions)} and {len(targets)}")
    exact = [exact_match(p, t) for p, t in zip(predictions, targets, strict=True)]
    matches = (numeric_match(p, t) for p, t in zip(predictions, targets, strict=True))
    numeric = [match for match in matches if match is not None]
    recall, rare = _recalls(exact, targets)
    return Scores(
        n=len(exact),
        numeric_n=len(numeric),
        recall=recall,
        rare_labels=rare,
        **_rate("", exact),
        **(_rate("numeric_", numeric) if numeric else {}),
        **(_balanced(recall) if recall else {}),
    )


def _rate(name: str, outcomes: Sequence[bool]) -> dict[str, Any]:
    rate, n = sum(outcomes) / len(outcomes), len(outcomes)
    low, high = wilson(rate, n)
    return {f"{name}accuracy": rate, f"{name}stderr": stderr_of_rate(rate, n), f"{name}low": low, f"{name}high": high}


def _balanced(recall: Mapping[str, tuple[int, float]]) -> dict[str, float]:
    rates = [rate for _, rate in recall.values()]
    low, high = mean_of_rates(rates, [wilson(rate, n) for n, rate in recall.values()])
    return {
        "balanced_accuracy": sum(rates) / len(rates),
        # Recalls of different labels come from different examples, so their variances add.
        "balanced_stderr": math.hypot(*(stderr_of_rate(rate, n) for n, rate in recall.values())) / len(rates),
        "balanced_low": low,
        "balanced_high": high,
    }


def _recalls(exact: Sequence[bool], targets: Sequence[str]) -> tuple[dict[str, tuple[int, float]], dict[str, int]]:
    """The recall of each label, and the labels too rare to have one; both empty unless the label set is closed."""
    labels = [target.strip() for target in targets]
    sizes = Counter(labels)
    rare = {label: size for label, size in sorted(sizes.items()) if size < MIN_CLASS_SIZE}
    if len(sizes) > MAX_CLASSES or len(sizes) - len(rare) < 2 or sum(rare.values()) > MAX_RARE_SHARE * len(labels):
        return {}, {}
    right = Counter(label for label, hit in zip(labels, exact, strict=True) if hit)
    return {label: (sizes[label], right[label] / sizes[label]) for label in sorted(sizes) if label not in rare}, rare
