"""Examples from a file, and to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

from cattune.data.examples import Example
from cattune.data.jsonl import read_jsonl, write_jsonl
from cattune.data.on_disk import SeenKeys
from cattune.data.records import example_from_dict, example_to_dict
from cattune.errors import DataError
from cattune.formats.columns import is_published
from cattune.formats.published import published_example
from cattune.grounding.links import check_occurrences
from cattune.wording import shown

LINK_KEYS = ("links", "refused", "important")
"""The keys of a record that hold links, in any of the formats."""

Make: TypeAlias = Callable[[dict[str, Any], bool, str, str], Example]
"""Makes an example of a record, told whether the file has the published format, the record's place, and its id if it
has none."""


def load_examples(path: str | os.PathLike[str], occurrences: str = "context") -> list[Example]:
    """Read the examples of a JSONL file in this library's schema, in plain TRL form, or in the published format.

    The first record decides which format the file has. A record without an id is named by its line, "line-7". In this
    library's schema an id that stands twice is an error; in the published format, where ids come from the data sets
    that a file was put together from, the later example is called "604 (line 7)".

    Args:
        path: the file, plain or gzipped.
        occurrences: published format only: the rule for a phrase that occurs more than once, see `grounding.links`.

    Raises:
        DataError: Something is wrong with the file or a record; the message says where and what.
        ConfigError: There is no such rule.
    """
    return list(iter_examples(path, occurrences))


def iter_examples(path: str | os.PathLike[str], occurrences: str = "context") -> Iterator[Example]:
    """As `load_examples`, one example at a time; what has been read is in no memory."""
    check_occurrences(occurrences)

    def make(record: dict[str, Any], published: bool, where: str, name: str) -> Example:
        return _example(record, published, where, name, occurrences)

    return (example for _, example in named_examples(path, make))


def without_links(record: dict[str, Any], published: bool, where: str, name: str) -> Example:
    """An example whose links are not even looked at: grounding those of a large file takes minutes."""
    return _example({key: value for key, value in record.items() if key not in LINK_KEYS}, published, where, name)


def unlinked_examples(path: str | os.PathLike[str]) -> Iterator[Example]:
    """The examples of a file, without their links, one at a time."""
    return (example for _, example in named_examples(path, without_links))


def named_examples(path: str | os.PathLike[str], make: Make) -> Iterator[tuple[dict[str, Any], Example]]:
    """Each record of a file and the example that is made of it, under an id of its own; as in `load_examples`."""
    published: bool | None = None
    with SeenKeys() as ids:
        for number, record in read_jsonl(path):
            where = f"{path}, line {number}"
            if published is None:
                published = is_published(record, where)
            example = make(record, published, where, f"line-{number}")
            before = ids.add(example.id, number)
            if before is not None and published:
                example = replace(example, id=f"{example.id} (line {number})")
                before = ids.add(example.id, number)
            if before is not None:
                raise _same_id(f"{path}, lines", before, number, example.id)
            yield record, example


def _example(record: dict[str, Any], published: bool, where: str, name: str, occurrences: str = "context") -> Example:
    if published:
        return published_example(record, where, name, occurrences)
    return example_from_dict(record, where, name)


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
    number = 0
    with SeenKeys() as ids:
        for number, example in enumerate(examples, start=1):
            before = ids.add(example.id, number)
            if before is not None:
                raise _same_id(f"{path}, lines", before, number, example.id)
            yield example_to_dict(example)
    if not number:
        raise DataError(f"{path}: there are no examples to write")


def _same_id(what: str, first: int, second: int, name: str) -> DataError:
    return DataError(f"{what} {first} and {second}: both have the id {shown(name)}; give each its own")
