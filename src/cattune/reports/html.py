"""`report.html`, out of a `ReportData`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cattune.reports.data import Curve, Metric, ReportData, Score, Strip
from cattune.reports.page import render_page, visible
from cattune.reports.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, axis, drawable, path
from cattune.reports.terminal import percent, spread

COLOURS = 6
"""The style sheet has colours and dashes for this many arms, and shapes for as many splits; they repeat after that."""


def render_report(data: ReportData) -> str:
    """The page, as text for a UTF-8 file; every text of the data is escaped."""
    return render_page(
        "report.html.j2",
        data.provenance,
        {"spread": _spread},
        data=data,
        slots={arm.name: i % COLOURS for i, arm in enumerate(data.arms)},
        arm_labels={arm.name: arm.label for arm in data.arms},
        sizes=_sizes(data),
        chart=_chart(data),
        intervals=any("[" in _spread(score) for arm in data.arms for score in arm.scores.values()),
        panels=[_panel(data, metric) for metric in data.metrics],
        strips=[_strip(strip, _brightest(data.strips)) for strip in data.strips],
        brightest=_brightest(data.strips),
        provenance=_provenance(data.provenance),
    )


def _sizes(data: ReportData) -> dict[str, str]:
    """How many examples each split has, in words; more than one number if the arms were not given the same."""
    sizes = {}
    for split in data.splits:
        numbers = sorted({arm.scores[split.name].n for arm in data.arms if split.name in arm.scores})
        sizes[split.name] = " or ".join(map(str, numbers))
    return sizes


def _spread(score: Score) -> str:
    """What stands behind an accuracy, if anything does."""
    return "" if score.spread is None else spread(score.mean, score.spread, score.low, score.high)


def _chart(data: ReportData) -> dict[str, Any]:
    """The dot chart: for each arm, and for the majority, a lane for each split."""
    shares = {split.name: Score(data.majority[split.name], n=0) for split in data.splits}
    every = [score for scores in (shares, *(arm.scores for arm in data.arms)) for score in scores.values()]
    lowest = 100 * min(_reach(score)[0] for score in every)
    x = Axis(max(0.0, 10 * ((lowest - 1) // 10)), 100.0, 0.0, 100.0)
    lanes = {arm.name: _lanes(data, arm.scores, x) for arm in data.arms}
    return {"ticks": x.ticks(), "lanes": lanes, "majority": _lanes(data, shares, x)}


def _lanes(data: ReportData, scores: Mapping[str, Score], x: Axis) -> list[dict[str, Any]]:
    lanes = []
    for i, split in enumerate(data.splits):
        if split.name in scores:
            score = scores[split.name]
            low, high = (x.place(100 * end) for end in _reach(score))
            lanes.append(
                {
                    "shape": i % COLOURS,
                    "title": f"{split.label}: {percent(score.mean)} {_spread(score)}".rstrip(),
                    "x": round(x.place(100 * score.mean), 2),
                    "from": round(low, 2),
                    "width": round(high - low, 2),
                }
            )
    return lanes


def _reach(score: Score) -> tuple[float, float]:
    """Where a whisker begins and ends: as the interval where the table shows it, else the mean ± its spread."""
    if score.low is not None and score.high is not None and "[" in _spread(score):
        return score.low, score.high
    reach = score.spread or 0.0
    return max(score.mean - reach, 0.0), min(score.mean + reach, 1.0)


def _panel(data: ReportData, metric: Metric) -> dict[str, Any]:
    """One metric's curves, with their axes."""
    curves = [curve for curve in data.curves if curve.metric == metric.name]
    shown = [(s, v) for c in curves for s, v in c.points if v is not None and drawable(v, metric.log)]
    missing = sum(not drawable(value, metric.log) for curve in curves for _, value in curve.points)
    x = axis([0.0, *(step for step, _ in shown)], LEFT, WIDTH - RIGHT)
    x = Axis(x.low, max(step for step, _ in shown) or 1.0, x.start, x.end) if shown else x
    y = axis((value for _, value in shown), HEIGHT - BOTTOM, TOP, metric.log)
    return {
        "metric": metric,
        "x_ticks": x.ticks(4),
        "y_ticks": y.ticks(),
        "curves": [{"arm": c.arm, "d": d, "last": _last(c)} for c in curves if (d := path(c.points, x, y))],
        "missing": missing,
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM,
    }  # fmt: skip


def _last(curve: Curve) -> str:
    values = [value for _, value in curve.points if value is not None]
    return f"{values[-1]:.4g}" if values else "none"


def _brightest(strips: Iterable[Strip]) -> float:
    """The attention that the strongest colour stands for: the same in all strips, so that they can be compared."""
    return max((value for strip in strips for row in strip.rows for value in row.attention), default=0.0) or 1.0


def _strip(strip: Strip, brightest: float) -> dict[str, Any]:
    rows = []
    for row in strip.rows:
        cells = [
            {
                "text": visible(token),
                "kind": kind or "plain",
                "strength": f"{value / brightest:.3f}",
                "title": f"{visible(token)}: {percent(value)} %" + (f" ({kind})" if kind else ""),
            }
            for token, kind, value in zip(strip.tokens, strip.kinds, row.attention, strict=True)
        ]
        rows.append({"row": row, "cells": cells})
    return {"strip": strip, "rows": rows}


def _provenance(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The simple entries; those with a structure are shown as JSON."""
    return [(key, str(value)) for key, value in record.items() if not isinstance(value, Mapping | list | tuple)]
