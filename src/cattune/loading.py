"""Examples from a file, and to a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from cattune.errors import DataError
from cattune.examples import Example
from cattune.formats.columns import is_published
from cattune.grounding import check_occurrences
from cattune.io import read_jsonl, shown, write_jsonl
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


def _note_id(name: str, number: int, seen: dict[str, int], what: str) -> None:
    if name in seen:
        raise DataError(f"{what} {seen[name]} and {number}: both have the id {shown(name)}; give each its own")
    seen[name] = number
