"""Intervals for rates: what a count of right answers says about the rate behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z = 1.959963984540054
"""The normal distribution's 0.975 quantile: all intervals are of 95%."""

Interval = tuple[float, float]


def stderr_of_rate(rate: float, n: int) -> float:
    """Standard error of the mean of `n` outcomes that are 0 or 1: sqrt(p (1 - p) / n).

    It is zero at a rate of 0 or 1, where a small sample says less than that: see `wilson`.
    """
    return math.sqrt(rate * (1 - rate) / n)


def wilson(rate: float, n: int) -> Interval:
    """The score interval of a rate (Wilson 1927): all p with |rate - p| <= Z sqrt(p (1 - p) / n).

    It keeps its level for small `n` and for rates near 0 and 1 (Brown, Cai, DasGupta 2001): 0 of 12 is 0 to 0.24.

    Args:
        rate: of `n` outcomes that are 0 or 1.
        n: at least 1.
    """
    share = Z * Z / n
    middle = (rate + share / 2) / (1 + share)
    half = math.sqrt(share * (rate * (1 - rate) + share / 4)) / (1 + share)
    low = 0.0 if rate == 0 else max(0.0, middle - half)  # exactly, not up to rounding
    return low, 1.0 if rate == 1 else min(1.0, middle + half)


def mean_of_rates(rates: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The interval of the mean of rates of different examples, from theirs (Zou, Donner 2008: square and add)."""
    mean = sum(rates) / len(rates)
    below = math.hypot(*(rate - low for rate, (low, _) in zip(rates, intervals, strict=True)))
    above = math.hypot(*(high - rate for rate, (_, high) in zip(rates, intervals, strict=True)))
    return mean - below / len(rates), mean + above / len(rates)
