"""Examples from a file or a data set, and to a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from cattune.data.own_kinds import EXAMPLES, own_kind
from cattune.errors import DataError
from cattune.examples import Example
from cattune.grounding import check_occurrences
from cattune.io import listed, read_jsonl, shown, write_jsonl
from cattune.published import published_example
from cattune.records import example_from_dict, example_to_dict


def load_examples(path: str | os.PathLike[str], occurrences: str = "context") -> list[Example]:
    """Read the examples of a JSONL file in this library's schema, in plain TRL form, or in the published format.

    The first record decides which format the file has. A record without an id is named by its line, "line-7". In this
    library's schema an id that stands twice is an error; in the published format, where ids come from the data sets
    that a file was put together from, the later example is called "604 (line 7)".

    Args:
        path: the file.
        occurrences: published format only: the rule for a phrase that occurs more than once, see `cattune.grounding`.

    Raises:
        DataError: Something is wrong with the file or a record; the message says where and what.
        ConfigError: There is no such rule.
    """
    check_occurrences(occurrences)
    lines: dict[str, int] = {}
    examples: list[Example] = []
    published: bool | None = None
    for number, record in read_jsonl(path):
        where, name = f"{path}, line {number}", f"line-{number}"
        if published is None:
            published = is_published(record, where)
        if published:
            example = published_example(record, where, name, occurrences)
            if example.id in lines:
                example = replace(example, id=f"{example.id} (line {number})")
        else:
            example = example_from_dict(record, where, name)
        _note_id(example.id, number, lines, f"{path}, lines")
        examples.append(example)
    return examples


def examples_from_dataset(dataset: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Make examples of the rows of a `datasets.Dataset`, or of any mappings, in this library's schema or TRL's.

    A key whose value is None counts as absent, in the metadata too: `datasets` gives every row the keys of all rows.
    A row without an id is named by its index, "row-0".

    Raises:
        DataError: The data set is none, is a dict of splits, has no rows, or a row is wrong.
    """
    if isinstance(dataset, Mapping | str | bytes) or not isinstance(dataset, Iterable):
        raise DataError(
            f"expected a data set of rows, got {type(dataset).__name__}; choose one split of it, or read a file with "
            "load_examples"
        )
    rows: dict[str, int] = {}
    examples = []
    for index, row in enumerate(dataset):
        example = example_from_dict(_without_nulls(row), f"row {index}", f"row-{index}")
        _note_id(example.id, index, rows, "rows")
        examples.append(example)
    if not examples:
        raise DataError("the data set has no rows")
    return examples


def save_examples(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Write examples in this library's JSONL schema, atomically; `load_examples` gives equal ones back.

    Returns:
        How many were written.

    Raises:
        DataError: There are none, two have the same id, or one's metadata cannot be written as JSON.
        OutputError: The file cannot be written.
    """
    return write_jsonl(path, _records(path, examples))


def _records(path: str | os.PathLike[str], examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    lines: dict[str, int] = {}
    for number, example in enumerate(examples, start=1):
        _note_id(example.id, number, lines, f"{path}, lines")
        yield example_to_dict(example)
    if not lines:
        raise DataError(f"{path}: there are no examples to write")


def is_published(record: Mapping[str, Any], where: str) -> bool:
    """Whether a file whose first record this is has the published format; a `DataError` where it has none we read."""
    keys = {key for key, value in record.items() if value is not None}
    if "schema" in keys or "messages" in keys or {"prompt", "completion"} <= keys:
        return False
    found, kind = listed(record), own_kind(keys)
    if kind not in (None, EXAMPLES) and "input" not in keys:
        raise DataError(f"{where}: the keys ({found}) are those of {kind.name}, and not of an example; {kind.use}")
    if keys & {"input", "target", "important"}:
        return True
    if keys & {"prompt", "completion"}:
        return False
    raise DataError(
        f"{where}: this is no format that cattune reads; expected 'prompt' and 'completion', or 'messages', or the "
        f"published format's 'input' and 'target' (keys found: {found})"
    )


def _note_id(name: str, number: int, seen: dict[str, int], what: str) -> None:
    if name in seen:
        raise DataError(f"{what} {seen[name]} and {number}: both have the id {shown(name)}; give each its own")
    seen[name] = number


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
