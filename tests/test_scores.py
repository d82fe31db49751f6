"""Scores: the rules that the module states, and a slow reference for everything that is counted."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.evaluation.intervals import mean_of_rates, stderr_of_rate, wilson
from cattune.evaluation.scores import (
    MAX_CLASSES,
    MIN_CLASS_SIZE,
    exact_match,
    majority_label,
    numeric_match,
    score,
)


def test_a_target_without_a_number_has_nothing_to_match() -> None:
    assert numeric_match("5", "Low Risk") is None
    assert numeric_match("Low Risk", "5") is False
    assert numeric_match("0.67", "2/3") is False
    assert numeric_match("It is $6,359.00.", "#### 6359") is True


def test_exact_ignores_white_space_at_the_ends_only() -> None:
    assert exact_match(" Low Risk\n", "Low Risk")
    assert not exact_match("Low  Risk", "Low Risk")
    assert not exact_match("low risk", "Low Risk")


pairs = st.lists(st.tuples(st.sampled_from("ABC 1"), st.sampled_from("ABC 12")), min_size=1, max_size=60)


@given(pairs)
def test_scores_agree_with_a_slow_reference(rows: list[tuple[str, str]]) -> None:
    targets, predictions = [t for t, _ in rows], [p for _, p in rows]
    result = score(predictions, targets)
    hits = [p.strip() == t.strip() for t, p in rows]
    assert result.n == len(rows)
    assert result.accuracy == pytest.approx(statistics.fmean(hits))
    assert result.stderr == pytest.approx(statistics.pstdev(map(float, hits)) / math.sqrt(len(hits)))
    with_number = [hit for hit, t in zip(hits, targets, strict=True) if t == "1"]
    assert result.numeric_n == len(with_number)
    assert (result.numeric_accuracy is None) == (not with_number)
    if with_number:
        assert result.numeric_accuracy == pytest.approx(statistics.fmean(with_number))

    by_label: dict[str, list[bool]] = {}
    for hit, target in zip(hits, targets, strict=True):
        by_label.setdefault(target.strip(), []).append(hit)
    common = {label: outcomes for label, outcomes in by_label.items() if len(outcomes) >= MIN_CLASS_SIZE}
    rare = len(rows) - sum(map(len, common.values()))
    if len(common) < 2 or rare > 0.05 * len(rows):
        assert result.balanced_accuracy is None and result.balanced_stderr is None and not result.recall
        return
    recalls = [statistics.fmean(outcomes) for outcomes in common.values()]
    variance = sum(r * (1 - r) / len(o) for r, o in zip(recalls, common.values(), strict=True))
    assert result.balanced_accuracy == pytest.approx(statistics.fmean(recalls))
    assert result.balanced_stderr == pytest.approx(math.sqrt(variance) / len(recalls))
    assert set(result.recall) | set(result.rare_labels) == set(by_label)


def test_a_rare_label_is_left_out_of_the_mean_and_named() -> None:
    targets = ["High"] * 50 + ["Low"] * 49 + ["Middle"]
    result = score(["High"] * 100, targets)
    assert result.balanced_accuracy == 0.5
    assert result.recall == {"High": (50, 1.0), "Low": (49, 0.0)}
    assert result.rare_labels == {"Middle": 1}
    assert result.to_dict()["recall"]["High"] == {"n": 50, "recall": 1.0}


def test_many_distinct_targets_are_not_a_closed_label_set() -> None:
    closed = [str(i) for i in range(MAX_CLASSES)] * MIN_CLASS_SIZE
    assert score(closed, closed).balanced_accuracy == 1.0
    wide = [str(i) for i in range(MAX_CLASSES + 1)] * MIN_CLASS_SIZE
    assert score(wide, wide).balanced_accuracy is None


def test_a_constant_answer_scores_one_share_exactly_and_one_label_in_balance() -> None:
    targets = ["Low"] * 60 + ["High"] * 40
    label, share = majority_label(targets)
    result = score([label] * 100, targets)
    assert (label, share) == ("Low", 0.6)
    assert result.accuracy == 0.6 and result.balanced_accuracy == 0.5


@given(st.lists(st.sampled_from(["b", "a", " a", "c"]), min_size=1))
def test_the_majority_is_a_most_frequent_label_and_the_first_among_equals(targets: list[str]) -> None:
    stripped = [t.strip() for t in targets]
    label, share = majority_label(targets)
    assert stripped.count(label) == max(map(stripped.count, stripped))
    assert all(stripped.count(other) < stripped.count(label) for other in stripped if other < label)
    assert share == stripped.count(label) / len(targets)


def test_the_standard_error_of_a_rate() -> None:
    assert stderr_of_rate(0.5, 100) == pytest.approx(0.05)
    assert stderr_of_rate(1.0, 3) == 0.0


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # statsmodels.stats.proportion.proportion_confint(right, n, method="wilson")
        (0, 12, 0.0, 0.24249400665524096),
        (12, 12, 0.7575059933447589, 0.9999999999999999),
        (1, 12, 0.014865094404917095, 0.35387991114111705),
        (6, 12, 0.253781597633706, 0.746218402366294),
        (0, 1, 0.0, 0.7934506856227627),
        (1, 1, 0.2065493143772374, 1.0),
        (387, 400, 0.9451958471762332, 0.9809101576211996),
        (2475, 4000, 0.6035913276987979, 0.633680804519898),
    ],
)
def test_the_interval_of_a_rate_is_wilsons(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right / n, n) == pytest.approx((low, high), abs=1e-12)


@given(st.integers(1, 3000), st.data())
def test_the_ends_of_an_interval_are_where_the_score_test_turns(n: int, data: st.DataObject) -> None:
    rate = data.draw(st.integers(0, n)) / n
    low, high = wilson(rate, n)
    assert 0 <= low <= rate <= high <= 1 and low < high
    for end in (low, high):
        if 0 < end < 1:
            assert abs(rate - end) == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / n))
    assert wilson(1 - rate, n) == pytest.approx((1 - high, 1 - low))


def test_no_right_answer_in_twelve_is_no_certainty() -> None:
    result = score(["a"] * 12, ["b 1"] * 12)
    assert (result.accuracy, result.stderr, result.low) == (0.0, 0.0, 0.0) and result.high == pytest.approx(
        0.2425, abs=1e-4
    )
    assert (result.numeric_low, result.numeric_high) == (result.low, result.high)


def test_balanced_accuracy_has_an_interval_that_does_not_shrink_to_a_point() -> None:
    result = score(["x"] * 10 + ["y"] * 10, ["x"] * 10 + ["y"] * 10)
    low, _ = wilson(1.0, 10)
    assert (result.balanced_accuracy, result.balanced_high) == (1.0, 1.0)
    assert result.balanced_low == pytest.approx(1 - math.sqrt(2) * (1 - low) / 2)
    assert mean_of_rates([0.5], [(0.3, 0.8)]) == pytest.approx((0.3, 0.8))


@pytest.mark.parametrize(("predictions", "targets"), [([], []), (["a"], ["a", "b"])])
def test_scores_need_a_prediction_for_each_target(predictions: list[str], targets: list[str]) -> None:
    with pytest.raises(ValueError, match="as many predictions as targets"):
        score(predictions, targets)
