"""Examples from a file, and to a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from cattune.data.examples import Example
from cattune.data.jsonl import write_jsonl
from cattune.data.records import example_to_dict
from cattune.errors import DataError
from cattune.formats.reader import Ids, Numbering, read_examples


def load_examples(path: str | os.PathLike[str], occurrences: str = "context") -> list[Example]:
    """Read the examples of a JSONL file in this library's schema, in plain TRL form, or in another of the formats.

    The first record decides which format the file has. A record without an id is named by its line, "line-7". In this
    library's schema an id that stands twice is an error; in the published format, where ids come from the data sets
    that a file was put together from, the later example is called "604 (line 7)".

    Args:
        path: the file, plain or gzipped.
        occurrences: for links in words: the rule for a phrase that occurs more than once, see `grounding.links`.

    Raises:
        DataError: Something is wrong with the file or a record; the message says where and what.
        ConfigError: There is no such rule.

    >>> import json, pathlib, tempfile
    >>> record = {"prompt": "Ann has 4 pens and buys 2. ", "completion": "6", "rationale": ["4 pens", "buys 2"]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "pens.jsonl")
    ...     _ = file.write_text(json.dumps(record))
    ...     (example,) = load_examples(file)
    >>> example.id, [example.text_of(cause) for cause in example.links[0].causes]
    ('line-1', ['4 pens', 'buys 2'])
    """
    return list(iter_examples(path, occurrences))


def iter_examples(path: str | os.PathLike[str], occurrences: str = "context") -> Iterator[Example]:
    """As `load_examples`, one example at a time; what has been read is in no memory."""
    return (read.example for read in read_examples(path, occurrences=occurrences))


def unlinked_examples(path: str | os.PathLike[str]) -> Iterator[Example]:
    """The examples of a file, without their links, one at a time."""
    return (read.example for read in read_examples(path, links=False))


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
    with Ids(Numbering("line", path)) as ids:
        for number, example in enumerate(examples, start=1):
            yield example_to_dict(ids.own(example, number))
    if not number:
        raise DataError(f"{path}: there are no examples to write")
