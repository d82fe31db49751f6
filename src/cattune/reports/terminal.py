"""Tables of results for a terminal, out of result records; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

NONE = "-"


def print_splits(splits: Mapping[str, Mapping[str, Any]], file: IO[str] | None = None) -> None:
    """Print `splits_table` to a file, standard output by default; a file that is no terminal gets it at full width."""
    _print(splits_table(splits), file)


def print_arms(arms: Mapping[str, Mapping[str, Mapping[str, Any]]], file: IO[str] | None = None) -> None:
    """Print a grid's arms by splits, with the best constant answer as the last row.

    Args:
        arms: what `experiments.grid.summarize` gives.
    """
    from rich import box
    from rich.table import Table

    first = next(iter(arms.values()))
    several = any(scores["sd"] is not None for scores in first.values())
    caption = f"percent ± {'standard deviation over seeds' if several else 'standard error'}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    table.add_column("arm")
    for name in first:
        table.add_column(name, justify="right", no_wrap=True)
    for arm, splits in arms.items():
        cells = (percent(s["accuracy"], s["stderr"] if s["sd"] is None else s["sd"]) for s in splits.values())
        table.add_row(arm, *cells)
    table.add_row("majority", *(percent(scores["majority"]) for scores in first.values()), style="dim")
    _print(table, file)


def _print(table: Table, file: IO[str] | None) -> None:
    from rich.console import Console

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=200)
    console.print(table)


def splits_table(splits: Mapping[str, Mapping[str, Any]]) -> Table:
    """The scores of each split and, below each, its groups if there are any, and the best constant answer.

    Args:
        splits: for each split's name what `SplitResult.to_dict` gives, as in the file that `cattune evaluate` writes.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption="percent ± standard error", caption_justify="left")
    table.add_column("split")
    for title in ("n", "exact", "numeric", "balanced"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, scores in splits.items():
        table.add_row(Text(_one_line(name), style="bold"), *_cells(scores))
        for group, group_scores in scores.get("groups", {}).items():
            table.add_row(Text(_one_line(f"{scores['grouped_by']} = {group}", indent="  ")), *_cells(group_scores))
        majority = scores["majority"]
        table.add_row(Text(_one_line(f"majority: {majority['label']}", indent="  ")), *_cells(majority), style="dim")
    return table


def percent(rate: float | None, stderr: float | None = None) -> str:
    """A rate from 0 to 1 as percent with one decimal, ± its standard error; a dash for None."""
    if rate is None:
        return NONE
    text = f"{100 * rate:.1f}"
    return text if stderr is None else f"{text} ± {100 * stderr:.1f}"


def _cells(scores: Mapping[str, Any]) -> list[str]:
    return [
        str(scores["n"]),
        percent(scores["accuracy"], scores["stderr"]),
        percent(scores["numeric_accuracy"], scores["numeric_stderr"]),
        percent(scores["balanced_accuracy"], scores["balanced_stderr"]),
    ]


def _one_line(text: str, indent: str = "", limit: int = 50) -> str:
    """A name or label from the user's data on one line of limited length, without what would steer a terminal."""
    line = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
    return indent + (line if len(line) <= limit else line[: limit - 1] + "…")
