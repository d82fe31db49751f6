"""Which format the keys of a record, or the columns of a data set, are of; and what to do where they are of none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cattune.data.own_kinds import EXAMPLES, own_kind
from cattune.errors import DataError
from cattune.formats.base import Format
from cattune.formats.known import formats
from cattune.wording import listed

_PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
    ("problem", "solution"),
    ("query", "response"),
    ("prompt", "chosen"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("prompt", "completion"),
    ("input", "output"),
    ("source", "target"),
)
"""What well-known data sets call what the model is given, and what it learns to write."""

_OTHERS = {
    "conversations": "write each of the 'conversations' as 'messages', a list of {'role': 'user', 'content': ...} and "
    "{'role': 'assistant', 'content': ...}",
    "text": "divide 'text' into what the model is given, 'prompt', and what it learns to write, 'completion'",
}
"""What to do with columns that no other name would make right."""


def format_of(record: Mapping[str, Any], where: str) -> Format:
    """The format that a record is of.

    Args:
        record: a key with the value None counts as absent.
        where: the place of the record, for the error.

    Raises:
        DataError: it is of no format that is read here.
        ConfigError: a format of a package outside cannot be loaded.
    """
    given = {key: value for key, value in record.items() if value is not None}
    for one in formats():
        if one.recognises(given):
            return one
    names = list(given)
    advice, kind = _advice(names), own_kind(names)
    if kind not in (None, EXAMPLES) and "input" not in given and not advice:
        raise DataError(
            f"{where}: the keys ({listed(names)}) are those of {kind.name}, and not of an example; {kind.use}"
        )
    simplest = sorted(formats(), key=lambda one: len(one.keys))
    missing = [
        f"the field {key!r} is missing"
        for one in simplest
        for key in one.keys
        if key not in given and given.keys() & set(one.keys)
    ]
    problem = missing[0] if missing else "this is no format that cattune reads"
    expected = ", or ".join(one.expected or " and ".join(map(repr, one.keys)) for one in simplest)
    found = f"{where}: {problem}; expected {expected} (keys found: {listed(names)})"
    raise DataError(found + (f"; {advice}" if advice else ""))


def _advice(columns: Iterable[str]) -> str:
    """What to do with the columns of a well-known kind of data set; nothing for an unknown one."""
    by_name = {name.lower(): name for name in columns}
    for prompt, completion in _PAIRS:
        if prompt in by_name and completion in by_name:
            if prompt == "instruction" and "input" in by_name:
                return f"join 'instruction' and 'input' to 'prompt', and rename {by_name[completion]!r} to 'completion'"
            given = ((by_name[prompt], "prompt"), (by_name[completion], "completion"))
            renamed = {old: new for old, new in given if old != new}
            return f"rename the columns (of a Dataset: rename_columns({renamed}))"
    return next((advice for name, advice in _OTHERS.items() if name in by_name), "")
