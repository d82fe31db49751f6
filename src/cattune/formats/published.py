"""The published format: `input`, `target` and, in training files, `important`.

`target` is a string or a number, which is then its text as the file has it. `important` is a mapping or a list of
mappings, from an effect phrase to its cause phrases: `[{"High Risk": ["Exercise: 2", "Weight: 4"]}]`. A single string
in the place of the list of causes, numbers in the place of phrases, and `important` as a string of JSON are taken as
what they plainly mean; anything else that is wrong with one link refuses that link, and is kept with the example and
counted.

The id of an example is its `id`, or its `idx`; all keys but the four above and `id` go to the metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from cattune.data.examples import Example, RefusedLink
from cattune.data.jsonl import number_text
from cattune.data.records import record_id
from cattune.errors import DataError
from cattune.formats.base import Format
from cattune.grounding.links import ground_links
from cattune.wording import listed, shown

ID_KEYS = ("id", "idx")
SOURCE = "published"
"""`CausalLink.source` of the links of this format."""

NOT_A_MAPPING = "link is not a mapping from an effect to its causes"
CAUSES_NOT_A_LIST = "causes are not a list of phrases"
CAUSE_NOT_TEXT = "cause is not text"


class Published(Format):
    """`{"input": .., "target": .., "important": ..}`; see above."""

    name = "published"
    keys = ("input", "target")
    expected = "the published format's 'input' and 'target' (with 'important', the causal links)"
    links = ("important",)
    ids = ID_KEYS
    renames = True

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """`important` alone marks it, too."""
        has_links = "important" in record and not record.keys() & {"prompt", "completion"}
        return "messages" not in record and (super().recognises(record) or ("schema" not in record and has_links))

    def example(self, record: Mapping[str, Any], where: str, name: str, occurrences: str) -> Example:
        """Make an example of a record; see `Format.example`."""
        return published_example(record, where, name, occurrences)


FORMAT = Published()


def published_example(
    record: Mapping[str, Any], where: str = "record", default_id: str | None = None, occurrences: str = "context"
) -> Example:
    """Make an example of a record of the published format.

    Args:
        record: as described above; a key with the value None counts as absent.
        where: the place of the record, for error messages ("data.jsonl, line 3").
        default_id: the id of a record that has none.
        occurrences: the rule for a phrase that occurs more than once, see `cattune.grounding.links`.

    Raises:
        DataError: `input` or `target` is missing, or a field is of a wrong type.
    """
    name = record_id(record, ID_KEYS, where, default_id)
    inside = f"{where}, example {shown(name)}"
    prompt = record.get("input")
    if not isinstance(prompt, str):
        raise _wrong(record, "input", "a string", inside)
    completion = _phrase(record.get("target"))
    if completion is None:
        raise _wrong(record, "target", "a string or a number", inside)
    refused: list[RefusedLink] = []
    phrases = list(_phrases(record, inside, refused))
    grounding = ground_links({"prompt": prompt, "completion": completion}, phrases, occurrences, SOURCE)
    try:
        return Example(
            id=name,
            prompt=prompt,
            completion=completion,
            links=grounding.links,
            refused=(*refused, *grounding.refused),
            metadata=FORMAT.metadata(record),
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _phrases(record: Mapping[str, Any], where: str, refused: list[RefusedLink]) -> Iterator[tuple[str, list[str]]]:
    """Each link in words; what is no link, or no phrase, goes to `refused`."""
    important = record.get("important")
    if important is None:
        return
    if isinstance(important, str):  # some data sets store what varies from row to row as JSON
        try:
            important = json.loads(important)
        except (ValueError, RecursionError):
            raise _wrong(record, "important", "JSON, where it is a string,", where) from None
    items = [important] if isinstance(important, Mapping) else important
    if not isinstance(items, list | tuple):
        raise _wrong(record, "important", "a mapping or a list of mappings, effect -> causes,", where)
    for item in items:
        if not isinstance(item, Mapping):
            refused.append(RefusedLink(_phrase(item) or shown(item), None, NOT_A_MAPPING))
            continue
        for effect, causes in item.items():
            single = _phrase(causes)
            listed = [single] if single is not None else causes
            if not isinstance(listed, list | tuple):
                refused.append(RefusedLink(effect, None, CAUSES_NOT_A_LIST))
                continue
            texts = [_phrase(cause) for cause in listed]
            refused += [
                RefusedLink(effect, shown(cause), CAUSE_NOT_TEXT)
                for cause, text in zip(listed, texts, strict=True)
                if text is None
            ]
            yield effect, [text for text in texts if text is not None]


def _phrase(value: Any) -> str | None:
    """A string or a number as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return value if isinstance(value, str) else number_text(value)


def _wrong(record: Mapping[str, Any], key: str, expected: str, where: str) -> DataError:
    if record.get(key) is None:
        found = listed(record)
        return DataError(f"{where}: the field {key!r} is missing; expected {expected} (keys found: {found})")
    return DataError(f"{where}: the field {key!r} must be {expected} and is {shown(record[key])}")
