"""Prompt and completion: this library's schema, and the plain records that TRL reads (see `cattune.data.records`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cattune.data.examples import Example
from cattune.data.messages import TEMPLATE_KEYS
from cattune.data.records import example_from_dict
from cattune.formats.base import Format


class PromptCompletion(Format):
    """`{"prompt": .., "completion": ..}`, perhaps with `schema` and `links`; a conversation is of the same schema."""

    name = "prompt-completion"
    keys: ClassVar[tuple[str, ...]] = ("prompt", "completion")
    links = ("links", "refused")

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """Whatever has a schema is read here, unless it is a conversation."""
        return "schema" in record or record.keys() >= set(self.keys)

    def example(self, record: Mapping[str, Any], where: str, name: str, occurrences: str) -> Example:
        """Make an example of a record; see `Format.example`."""
        return example_from_dict(record, where, name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of the schema, but for the metadata."""
        return ("schema", "id", "prompt", "completion", "messages", *self.links, *TEMPLATE_KEYS)


FORMAT = PromptCompletion()
