"""Tables for a terminal of any width: as columns where they fit, else a block for each row under its label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 200
"""The width for a file or a pipe, where nothing has to fit a screen."""

_LEAST_LABEL = 24
"""Labels are wrapped down to this width before the columns are given up."""

_GAP = 2


class Row(NamedTuple):
    """A row: its label, a cell for each of the other columns, and a style of rich's for both."""

    label: str
    cells: Sequence[str]
    style: str = ""


class Table(NamedTuple):
    """The titles of all columns, the label's first, then the rows, and what stands below them."""

    titles: Sequence[str]
    rows: Sequence[Row]
    caption: str = ""


def print_tables(
    tables: Iterable[Table], file: IO[str] | None = None, *, title: str = "", notes: Iterable[str] = ()
) -> None:
    """Print tables to a file, standard output by default, below a title and above notes.

    No label is cut, and nothing in them can steer the terminal.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=file, highlight=False)
    if not console.is_terminal:
        console = Console(file=file, highlight=False, width=WIDE)
    if title:
        console.print(Text(harmless(title), style="bold"), soft_wrap=True)
    for table in tables:
        (_print_columns if _fits(table, console.width) else _print_blocks)(console, table)
        if table.caption:
            console.print(Text(table.caption, style="italic"))
    for note in notes:
        console.print(Text(harmless(note)))


def harmless(text: str) -> str:
    """The text with what does not print replaced."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _fits(table: Table, width: int) -> bool:
    from rich.cells import cell_len

    columns = list(zip(table.titles, *((row.label, *row.cells) for row in table.rows), strict=True))
    label, *others = (max(map(cell_len, column)) for column in columns)
    return width - sum(other + _GAP for other in others) >= min(label, _LEAST_LABEL)


def _print_columns(console: Console, table: Table) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, title in enumerate(table.titles):
        drawn.add_column(Text(title), justify="right" if index else "left", no_wrap=index > 0)
    for row in table.rows:
        drawn.add_row(*(Text(harmless(cell)) for cell in (row.label, *row.cells)), style=row.style or None)
    console.print(drawn)


def _print_blocks(console: Console, table: Table) -> None:
    from rich.text import Text

    console.print(Text(table.titles[0], style="bold"))
    indent = max(len(row.label) - len(row.label.lstrip()) for row in table.rows) if table.rows else 0
    for row in table.rows:
        console.print(Text(harmless(row.label), style=row.style))
        for title, cell in zip(table.titles[1:], row.cells, strict=True):
            if cell:
                console.print(Text(f"{' ' * (indent + 2)}{title}: {harmless(cell)}", style=row.style))
    console.print()
