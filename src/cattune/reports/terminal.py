"""Tables of results for a terminal, out of result records; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

from cattune.reports.remarks import arms_remarks, remarks
from cattune.reports.tables import Row, Table, harmless, print_tables

NONE = "-"

_MISSED = 0.01
"""Where a standard error, doubled, misses the 95% interval's ends by more than this, the interval is shown instead."""

_INTERVAL = "; [from, to] is a 95% interval, where a standard error would say too much"


def print_splits(splits: Mapping[str, Mapping[str, Any]], file: IO[str] | None = None) -> None:
    """Print the scores of each split, its groups if there are any, the best constant answer, and what must be said.

    Args:
        splits: for each split's name what `SplitResult.to_dict` gives, as in the file that `cattune evaluate` writes.
        file: standard output by default; one that is no terminal gets the table at full width.
    """
    rows, notes = [], []
    for name, scores in splits.items():
        rows.append(Row(_one_line(name), _cells(scores), "bold"))
        for group, group_scores in scores.get("groups", {}).items():
            rows.append(Row(_one_line(f"{scores['grouped_by']} = {group}", indent="  "), _cells(group_scores)))
        majority = scores["majority"]
        rows.append(Row(_one_line(f"majority: {majority['label']}", indent="  "), _cells(majority), "dim"))
        notes += [f"{_one_line(name)}: {remark}" for remark in remarks(scores, majority["label"], scores["n"])]
    titles = ("split", "n", "exact", "numeric", "balanced")
    print_tables([Table(titles, rows, _caption("standard error", rows))], file, notes=notes)


def print_arms(arms: Mapping[str, Mapping[str, Mapping[str, Any]]], file: IO[str] | None = None) -> None:
    """Print a grid's arms by splits, the best constant answer as the last row, and what must be said.

    Args:
        arms: what `experiments.grid.summarize` gives.
        file: standard output by default; one that is no terminal gets the table at full width.
    """
    first = next(iter(arms.values()))
    rows = [Row(arm, [_mean(scores) for scores in splits.values()]) for arm, splits in arms.items()]
    majority = [percent(scores["majority"]) for scores in first.values()]
    several = any(scores["sd"] is not None for scores in first.values())
    caption = _caption("standard deviation over seeds" if several else "standard error", rows)
    table = Table(("arm", *first), [*rows, Row("majority", majority, "dim")], caption)
    print_tables([table], file, notes=arms_remarks(arms))


def percent(rate: float | None, stderr: float | None = None) -> str:
    """A rate from 0 to 1 as percent with one decimal, ± its standard error; a dash for None."""
    if rate is None:
        return NONE
    text = f"{100 * rate:.1f}"
    return text if stderr is None else f"{text} ± {100 * stderr:.1f}"


def spread(rate: float, stderr: float, low: float | None, high: float | None) -> str:
    """What is said behind a rate: ± its standard error, or its interval where that error says too much.

    That is where it is 0.0 (all or none are right), and where few answers make it a poor guide to the interval.
    """
    if low is not None and high is not None:
        missed = max(abs(low - (rate - 2 * stderr)), abs(high - (rate + 2 * stderr)))
        if stderr < 0.0005 or missed > _MISSED:
            return f"[{percent(low)}, {percent(high)}]"
    return f"± {percent(stderr)}"


def _caption(what: str, rows: list[Row]) -> str:
    interval = any("[" in cell for row in rows for cell in row.cells)
    return f"percent ± {what}{_INTERVAL if interval else ''}"


def _mean(scores: Mapping[str, Any]) -> str:
    rate = scores["accuracy"]
    if scores["sd"] is not None:
        return percent(rate, scores["sd"])
    return f"{percent(rate)} {spread(rate, scores['stderr'], scores['low'], scores['high'])}"


def _cells(scores: Mapping[str, Any]) -> list[str]:
    return [str(scores["n"]), *(_rate(scores, name) for name in ("", "numeric_", "balanced_"))]


def _rate(scores: Mapping[str, Any], name: str) -> str:
    rate, stderr, low, high = (scores[name + key] for key in ("accuracy", "stderr", "low", "high"))
    return NONE if rate is None else f"{percent(rate)} {spread(rate, stderr, low, high)}"


def _one_line(text: str, indent: str = "", limit: int = 50) -> str:
    """A name or label from the user's data on one line of limited length, without what would steer a terminal."""
    line = harmless(" ".join(text.split()))
    return indent + (line if len(line) <= limit else line[: limit - 1] + "…")
