"""The one way from records to examples, for files and for rows in memory: the first record decides on the format.

Each example has an id of its own: that of its record, or its number ("line-7", "row-0"). An id that stands twice is an
error, or, in a format that allows it, gets its number ("604 (line 7)").
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cattune.data.examples import Example
from cattune.data.jsonl import read_jsonl
from cattune.data.on_disk import SeenKeys
from cattune.data.records import record_id
from cattune.errors import DataError
from cattune.formats.base import Format
from cattune.formats.columns import format_of
from cattune.grounding.links import check_occurrences
from cattune.wording import shown


@dataclass(frozen=True, slots=True)
class Numbering:
    """What records are numbered by: the lines of a file, or the rows of what is in memory."""

    unit: str
    path: str | os.PathLike[str] | None = None

    def place(self, number: int) -> str:
        """Where a record is, for messages."""
        return f"row {number}" if self.path is None else f"{self.path}, {self.unit} {number}"

    def renamed(self, example: Example, number: int) -> Example:
        """The example under the name that a later one of the same id gets."""
        return replace(example, id=f"{example.id} ({self.unit} {number})")

    def same_id(self, first: int, second: int, name: str) -> DataError:
        """The error about two of one id."""
        before = "" if self.path is None else f"{self.path}, "
        return DataError(
            f"{before}{self.unit}s {first} and {second}: both have the id {shown(name)}; give each its own"
        )


ROWS = Numbering("row")


class Ids(SeenKeys):
    """The ids of one source, on disk; a context manager."""

    def __init__(self, numbering: Numbering) -> None:
        super().__init__()
        self._numbering = numbering

    def own(self, example: Example, number: int, renames: bool = False) -> Example:
        """The example under an id that no earlier one has.

        Raises:
            DataError: an earlier one has it, and `renames` is False.
        """
        before = self.add(example.id, number)
        if before is not None and renames:
            example = self._numbering.renamed(example, number)
            before = self.add(example.id, number)
        if before is not None:
            raise self._numbering.same_id(before, number, example.id)
        return example


class Maker:
    """Makes examples of the records of one source, one after the other.

    Args:
        numbering: of the source.
        links: whether links are looked at; grounding those of a large file takes minutes.
        occurrences: the rule for a phrase that occurs more than once, see `cattune.grounding.links`.
        format: the records' format; None for the first record's.

    Raises:
        ConfigError: there is no such rule.
    """

    def __init__(
        self, numbering: Numbering, links: bool = True, occurrences: str = "context", format: Format | None = None
    ) -> None:
        check_occurrences(occurrences)
        self.numbering = numbering
        self.format = format
        self._links = links
        self._occurrences = occurrences

    def __call__(self, record: Mapping[str, Any], number: int) -> Example:
        """The example of a record, under its own id, which others may have too.

        Raises:
            DataError: the record is wrong, or of no format; the message says where and what.
        """
        where = self.numbering.place(number)
        if self.format is None:
            self.format = format_of(record, where)
        if not self._links:
            record = {key: value for key, value in record.items() if key not in self.format.links}
        name = record_id(record, self.format.ids, where, f"{self.numbering.unit}-{number}")
        try:
            return self.format.example(record, where, name, self._occurrences)
        except DataError as error:
            if str(error).startswith(where):
                raise
            raise DataError(f"{where}: {error}") from None

    @property
    def renames(self) -> bool:
        """Whether a later example of the same id gets another one."""
        return self.format is not None and self.format.renames


class Read(NamedTuple):
    """An example of a file, and whether its record has links, looked at or not."""

    example: Example
    has_links: bool


def read_examples(path: str | os.PathLike[str], links: bool = True, occurrences: str = "context") -> Iterator[Read]:
    """The examples of a file, one at a time; what has been read is in no memory. Arguments and errors as for `Maker`.

    Raises:
        DataError: the file cannot be read, or has no record.
    """
    make = Maker(Numbering("line", path), links, occurrences)
    return _read(path, make)


def _read(path: str | os.PathLike[str], make: Maker) -> Iterator[Read]:
    with Ids(make.numbering) as ids:
        for number, record in read_jsonl(path):
            example = ids.own(make(record, number), number, make.renames)
            assert make.format is not None
            yield Read(example, any(record.get(key) for key in make.format.links))
