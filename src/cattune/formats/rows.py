"""Examples out of what a caller holds in memory: a list of examples, or of rows in any format that a file may have."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cattune.data.examples import Example
from cattune.errors import DataError
from cattune.formats.reader import ROWS, Ids, Maker
from cattune.wording import shown

_PLAIN = frozenset({str, int, float, bool})

EXPECTED = "expected a list of examples or of rows (dicts), or a datasets.Dataset"


def examples_of(data: Any) -> list[Example]:
    """The examples of a list of examples, or of a list of rows in any format that a file may have.

    A key whose value is None counts as absent, in the metadata too: `datasets` gives every row the keys of all rows.
    The first row decides which format all have. A row without an id is named by its index, "row-0"; of two published
    rows of one id, the later one is called "604 (row 7)".

    Raises:
        DataError: this is no such list, or a row is wrong, or two have the same id.
    """
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Sequence):
        raise DataError(f"{EXPECTED}, got {type(data).__name__}; {_advice(data)}")
    if not all(isinstance(item, Example) for item in data):
        return list(_from_rows(data))
    with Ids(ROWS) as ids:
        return [ids.own(example, row) for row, example in enumerate(data)]


def example_of_row(row: Any, index: int, make: Maker) -> Example:
    """The example of one row.

    Raises:
        DataError: the row is wrong.
    """
    if not isinstance(row, Mapping):
        raise DataError(f"{ROWS.place(index)}: expected a mapping, as the first row is, got {shown(row)}")
    return make(without_nulls(row), index)


def without_nulls(value: Any) -> Any:
    """The value without keys that have none, at any depth."""
    if type(value) in _PLAIN:  # the most frequent by far: spares each of them two questions
        return value
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in value]
    return value


def _from_rows(rows: Sequence[Any]) -> Iterator[Example]:
    first = rows[0]
    if not isinstance(first, Mapping):
        others = f"row 0 is an Example, and others are not: {EXPECTED}"
        raise DataError(others if isinstance(first, Example) else f"row 0: {EXPECTED}, got {shown(first)}")
    make = Maker(ROWS)
    with Ids(ROWS) as ids:
        for index, row in enumerate(rows):
            yield ids.own(example_of_row(row, index, make), index, make.renames)


def _advice(data: Any) -> str:
    """What to do with data of another kind."""
    if isinstance(data, str | bytes | os.PathLike):
        return "read a file with load_examples"
    if isinstance(data, Mapping):
        return f"choose one of {', '.join(shown(key) for key in list(data)[:5]) or 'its splits'}, which it maps to data"
    if type(data).__name__ == "IterableDataset":
        return (
            "links are aligned and counted before training, so a stream has to be stored first: "
            "datasets.Dataset.from_generator(lambda: iter(stream)) keeps it on disk, and training then reads it there"
        )
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        return "make a Dataset of the table: datasets.Dataset.from_pandas(table)"
    if isinstance(data, Iterator):
        return "it can be read only once; make a list of it: list(...)"
    if isinstance(data, Iterable) or hasattr(data, "__getitem__"):
        return "make a list of it: list(...)"
    return "load_examples reads a file"
