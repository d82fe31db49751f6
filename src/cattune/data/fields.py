"""The values of a record, each checked for its type; what is wrong is told with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from cattune.errors import DataError
from cattune.wording import shown

Place: TypeAlias = "str | tuple[Place, str] | tuple[Place, str, int]"
"""Where a value of a record stands; put into words only when something is wrong with it, or reading would be slow."""


def at_place(where: Place) -> str:
    """A place in words."""
    if isinstance(where, str):
        return where
    return f"{at_place(where[0])}, {where[1]}" + "".join(f"[{index}]" for index in where[2:])


def mapping(value: Any, where: Place, keys: Sequence[str]) -> dict[str, Any]:
    """The mapping without its empty values; keys that would be lost are refused."""
    if type(value) is not dict and not isinstance(value, Mapping):
        raise DataError(f"{at_place(where)}: expected a mapping with {', '.join(keys)}, got {shown(value)}")
    given = {key: item for key, item in value.items() if item is not None}
    for key in given:
        if key not in keys:
            raise DataError(f"{at_place(where)}: unknown key {shown(key)}; the keys are {', '.join(keys)}")
    return given


def list_of(record: Mapping[str, Any], key: str, where: Place) -> Sequence[Any]:
    """The list of a key; an empty one where the key is missing."""
    value = record.get(key, [])
    if not is_list(value) and not is_list(value := rows_of(value)):
        raise DataError(f"{at_place(where)}: {key!r} must be a list, got {shown(value)}")
    items: Sequence[Any] = value
    return items


def is_list(value: Any) -> bool:
    """Whether a value is a sequence and no text."""
    return type(value) is list or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def rows_of(value: Any) -> Any:
    """A mapping of lists as the list of mappings that it stands for, as `datasets` has a `Sequence` of mappings.

    Anything else is returned as it is.
    """
    if not isinstance(value, Mapping) or not value or not all(map(is_list, value.values())):
        return value
    columns = list(value.values())
    if len({len(column) for column in columns}) > 1:
        return value
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def text_of(record: Mapping[str, Any], key: str, where: Place) -> str:
    """The text of a key that must be there."""
    if key not in record:
        raise DataError(f"{at_place(where)}: the field {key!r} is missing")
    value = record[key]
    if not isinstance(value, str):
        raise DataError(f"{at_place(where)}: {key!r} must be a string, got {shown(value)}")
    return value


def from_json(value: Any, key: str, where: str) -> Any:
    """The value, read from JSON where it is text, as data sets of one type a column have it."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: {key!r} is a string, but not JSON: {shown(value)}") from None
