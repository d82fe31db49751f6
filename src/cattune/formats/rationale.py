"""Prompt, completion and rationale: the phrases of the prompt that explain the whole completion.

`{"prompt": "Ann has 4 pens and buys 2. ", "completion": "6", "rationale": ["4 pens", "buys 2"]}`: one link, from the
completion to each phrase, which is found as those of the published format are. A rationale that is a text is no
list of phrases: it goes to the metadata, as other keys do, and the record is one of prompt and completion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.data.examples import Example, RefusedLink
from cattune.data.fields import is_list, text_of
from cattune.errors import DataError
from cattune.formats.base import Format
from cattune.formats.published import CAUSE_NOT_TEXT
from cattune.grounding.links import ground_links
from cattune.grounding.search import Phrase
from cattune.wording import shown

_SPANS = {"links", "refused"}
"""Keys that hold links as spans."""


class Rationale(Format):
    """`rationale` is a list of texts; records without one have no links."""

    name = "rationale"
    keys = ("prompt", "completion", "rationale")
    expected = "'prompt', 'completion' and 'rationale' (a list of phrases of the prompt)"
    links = ("rationale",)

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """A rationale in one text, or beside spans, is no list of phrases: it is metadata."""
        return super().recognises(record) and is_list(record["rationale"]) and not _SPANS & record.keys()

    def example(self, record: Mapping[str, Any], where: str, name: str, occurrences: str) -> Example:
        """Make an example of a record; see `Format.example`."""
        inside = f"{where}, example {shown(name)}"
        given = {key: value for key, value in record.items() if value is not None}
        prompt, completion = text_of(given, "prompt", inside), text_of(given, "completion", inside)
        if spans := _SPANS & given.keys():
            raise DataError(f"{inside}: has both 'rationale' and {min(spans)!r}; keep one")
        phrases = given.get("rationale", ())
        if not is_list(phrases):
            raise DataError(f"{inside}: 'rationale' must be a list of phrases of the prompt, got {shown(phrases)}")
        causes = [phrase for phrase in phrases if isinstance(phrase, str)]
        fields = {"prompt": prompt, "completion": completion}
        effect = Phrase(completion, field="completion")  # the prompt may have these words, too
        grounding = ground_links(fields, [(effect, causes)] if causes else [], occurrences, self.name)
        refused = [RefusedLink(completion, shown(phrase), CAUSE_NOT_TEXT) for phrase in phrases if phrase not in causes]
        return Example(
            name,
            prompt,
            completion,
            links=grounding.links,
            refused=(*refused, *grounding.refused),
            metadata=self.metadata(record),
        )


FORMAT = Rationale()
