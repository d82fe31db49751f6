"""Which format the keys of a record, or the columns of a data set, are of; and what to do where they are of none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cattune.data.own_kinds import EXAMPLES, own_kind
from cattune.errors import DataError
from cattune.wording import listed

EXPECTED = (
    "expected 'prompt' and 'completion', or 'messages', or the published format's 'input' and 'target' (with "
    "'important', the causal links)"
)

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


def is_published(record: Mapping[str, Any], where: str) -> bool:
    """Whether a record has the published format's keys; they are prompt-completion or conversational if not.

    Args:
        record: a key with the value None counts as absent.
        where: the place of the record, for the error.

    Raises:
        DataError: they are of no format that is read here.
    """
    names = [key for key, value in record.items() if value is not None]
    keys = set(names)
    if keys & {"schema", "messages"} or {"prompt", "completion"} <= keys:
        return False
    if {"input", "target"} <= keys or ("important" in keys and not keys & {"prompt", "completion"}):
        return True
    advice, kind = _advice(names), own_kind(keys)
    if kind not in (None, EXAMPLES) and "input" not in keys and not advice:
        raise DataError(
            f"{where}: the keys ({listed(names)}) are those of {kind.name}, and not of an example; {kind.use}"
        )
    missing = [
        f"the field {name!r} is missing"
        for pair in (("prompt", "completion"), ("input", "target"))
        for name in pair
        if name not in keys and keys & set(pair)
    ]
    problem = missing[0] if missing else "this is no format that cattune reads"
    raise DataError(f"{where}: {problem}; {EXPECTED} (keys found: {listed(names)})" + (f"; {advice}" if advice else ""))


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
