"""The geometry of charts: axes, ticks and paths, in the units of an SVG view box or in percent of a width."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 30


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis, in the chart's units, and what is written there."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` on places from `start` to `end`; linear, or logarithmic for values above zero."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value stands."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[Tick]:
        """About `count` ticks at round values."""
        values = _decades(self.low, self.high, count) if self.log else _round_values(self.low, self.high, count)
        return [Tick(round(self.place(value), 1), f"{value:.10g}") for value in values]


def axis(values: Iterable[float], start: float, end: float, log: bool = False) -> Axis:
    """An axis that holds the values (above zero if logarithmic); of a length above zero whatever they are.

    Example:
        >>> [tick.label for tick in axis([0.0, 0.93], start=0, end=100).ticks()]
        ['0', '0.2', '0.4', '0.6', '0.8']
    """
    known = list(values) or [1.0]
    low, high = min(known), max(known)
    if log:
        return Axis(*((low, high) if high / low > 1 + 1e-6 else (low / 2, high * 2)), start, end, log=True)
    size = max(abs(low), abs(high))
    size = size if size > 1e-300 else 1.0  # below that, steps between ticks would round to nothing
    margin = 0.04 * (high - low) if high - low > 1e-6 * size else 0.1 * size
    # Zero is where losses and shares begin, so an axis that comes near it starts there.
    floor = 0.0 if 0 <= low < 0.5 * high else low - margin
    return Axis(floor, high + margin, start, end)


def path(points: Sequence[tuple[float, float | None]], x: Axis, y: Axis) -> str:
    """The `d` of an SVG path through the points; it breaks where a value is missing or the axis has no place for it.

    A point that stands alone is closed onto itself, which round line ends show as a dot.
    """
    runs: list[list[str]] = [[]]
    for step, value in points:
        if value is not None and drawable(value, y.log):
            runs[-1].append(f"{x.place(step):.1f} {y.place(value):.1f}")
        elif runs[-1]:
            runs.append([])
    return "".join(f"M{'L'.join(run)}{'Z' if len(run) == 1 else ''}" for run in runs if run)


def drawable(value: float | None, log: bool) -> bool:
    """Whether an axis has a place for a value."""
    return value is not None and math.isfinite(value) and (value > 0 or not log)


def _round_values(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _decades(low: float, high: float, count: int) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**e for e in range(first, last + 1) if low * 0.999 <= 10.0**e <= high * 1.001]
    if len(decades) < 2:  # a span within one decade or two reads better with round values
        return [value for value in _round_values(low, high, count) if value > 0]
    return decades[:: math.ceil(len(decades) / (count + 1))]
