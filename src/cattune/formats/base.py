"""What a format is: how a record of it is recognised, and how an example is made of one. A format is one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cattune.data.examples import Example


class Format:
    """A form that records come in. A module of this folder that ends with `FORMAT = ...`, an instance, adds one.

    A package outside adds one by an entry point of the group `cattune.formats`.

    Attributes:
        name: what it is called.
        keys: what a record must have. Of several formats that recognise a record, the one with the most keys reads it.
        expected: the same in words, for errors; the keys alone if it is empty.
        links: the keys that hold causal links.
        ids: the keys that may hold the id; the first that a record has counts.
        renames: whether a later record of the same id gets another one ("604 (line 7)"), as where files are put
            together from data sets that count their own records; it is an error if not.
    """

    name: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]
    expected: ClassVar[str] = ""
    links: ClassVar[tuple[str, ...]] = ()
    ids: ClassVar[tuple[str, ...]] = ("id",)
    renames: ClassVar[bool] = False

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """Whether a record, without its empty values, is of this format; `schema` marks those of this library's own."""
        return "schema" not in record and record.keys() >= set(self.keys)

    def example(self, record: Mapping[str, Any], where: str, name: str, occurrences: str) -> Example:
        """Make an example of a record.

        Args:
            record: what is to be read; a key with the value None counts as absent.
            where: the place of the record, for error messages ("data.jsonl, line 3").
            name: the record's id, or what it is called for want of one.
            occurrences: the rule for a phrase that occurs more than once, see `cattune.grounding.links`.

        Raises:
            DataError: it is not as it should be; the message says what, and where.
        """
        raise NotImplementedError

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys that training reads; of a `Dataset`, the other columns are not even decoded."""
        return (*self.ids, *self.keys, *self.links)

    def metadata(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """What a record has beside its id and this format's keys."""
        own = {"id", *self.keys, *self.links}
        return {key: value for key, value in record.items() if key not in own and value is not None}
