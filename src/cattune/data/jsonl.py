"""JSON and JSON Lines in and out: whatever is wrong with a file is a `DataError` that names the file and the line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cattune.data.atomic import atomic_file
from cattune.data.lines import numbered_lines
from cattune.errors import DataError
from cattune.wording import shown


class WrittenFloat(float):
    """A number of a JSON file that Python would print differently, with the text that the file has (`8.50`, `1e2`)."""

    text: str


def number_text(value: int | float) -> str:
    """A number as its JSON file has it: 8 is "8", 5.0 is "5.0", 8.50 is "8.50"."""
    return value.text if isinstance(value, WrittenFloat) else repr(value)


def read_jsonl(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read a JSON Lines file, plain or gzipped: one JSON object per line, UTF-8.

    Lines of white space only are passed over; they hold nothing.

    Yields:
        The line number, from 1, and the object. A number that Python would print differently is a `WrittenFloat`.

    Raises:
        DataError: The file is missing, empty or unreadable, or a line is not UTF-8, not strict JSON (NaN, a key
            twice in one object, half of a surrogate pair), or not an object.
    """
    count = 0
    for number, line in numbered_lines(path):
        if line.strip():
            count += 1
            yield number, parse_line(line, f"{path}, line {number}")
    if not count:
        raise DataError(f"{path} is empty; expected one JSON object per line")


def write_jsonl(path: str | os.PathLike[str], records: Iterable[Mapping[str, Any]]) -> int:
    """Write records as JSON Lines, atomically; return how many.

    Raises:
        DataError: A record holds what JSON cannot (NaN, half of a surrogate pair, an object of another type).
        OutputError: The file cannot be written.
    """
    count = 0
    with atomic_file(path) as write:
        for record in records:
            count += 1
            write(to_json(dict(record), f"{path}, record {count}") + b"\n")
    return count


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write one value as indented JSON, atomically; errors as in `write_jsonl`."""
    with atomic_file(path) as write:
        write(to_json(value, str(path), indent=2) + b"\n")


def parse_line(line: bytes, where: str) -> dict[str, Any]:
    """One line of a JSONL file as an object; `where` is its place, for the `DataError` where it is none."""
    try:
        text = line.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start + 1} of the line); save the file as UTF-8") from None
    try:
        record = json.loads(
            text, parse_float=_parse_float, parse_constant=_refuse_constant, object_pairs_hook=_object_without_repeats
        )
        if "\\u" in text:  # an escape is the only way for half of a surrogate pair to come in
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DataError(f"{where}: half of a surrogate pair (\\ud800 to \\udfff), which is no character") from None
    except RecursionError:
        raise DataError(f"{where}: the JSON is nested too deeply") from None
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"{where}: not JSON ({reason}); the line reads {shown(text)}") from None
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected a JSON object, got {shown(record)}")
    return record


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {shown(text)} is out of range")
    if repr(value) == text:
        return value
    written = WrittenFloat(value)
    written.text = text
    return written


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON value; write null or leave the key out")


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(repeated)} stands twice in one object, and only one could be kept")
    return record


def to_json(value: Any, where: str, indent: int | None = None) -> bytes:
    """A value as JSON in UTF-8; `where` is its place, for the `DataError` where it holds what JSON cannot."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be written as JSON: {error}") from error
