r"""Finds the JSON objects in what a language model wrote: in a code fence, between sentences, with a comma too many.

Only such faults are corrected as leave one reading: what stands around the objects, a comma before a closing bracket,
line breaks inside strings, and a backslash before a character that JSON has no escape for, as in `"\sqrt"`: it is
meant as one (`escapes` deals with those that JSON reads otherwise, as in `"\frac"`). Libraries that repair JSON
(json-repair, the partial modes of pydantic and others) also close what was never closed, and guess where a quotation
mark is missing. A reply that was cut off would then come out well-formed, with fewer links than the model named, and
nobody would know. Here it is an error.

Every pass is linear in the text and none is recursive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from cattune.wording import shown

MOST_DEPTH = 32
"""The deepest nesting that is read."""

_OPENING = re.compile(r'\{(?=\s*")')  # a brace of prose or of a set is no object
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}"]', re.DOTALL)
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"|,(?=\s*[\]}])', re.DOTALL)
_ESCAPE = re.compile(r'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|.)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text that begins as an object does.

    Args:
        text: the stretch.
        start: where it begins.
        value: the object; None if it is none.
        problem: why it is none, in words; empty if it is one.
        is_cut: whether the text ends before the object does.
    """

    text: str
    start: int = 0
    value: dict[str, Any] | None = None
    problem: str = ""
    is_cut: bool = False


def find_objects(text: str, position: int = 0) -> Iterator[Found]:
    """The outermost objects from a position on, in order; numbers in them are the text that was written."""
    while opening := _OPENING.search(text, position):
        start = opening.start()
        end, depth = _end_of(text, start)
        if end is None:
            yield Found(text[start:], start, problem="its brackets or quotation marks do not close", is_cut=depth > 0)
            return
        yield replace(_read(text[start:end], depth), start=start)
        position = end


def _end_of(text: str, start: int) -> tuple[int | None, int]:
    """Where the object that begins at `start` is closed, and how deep it is nested.

    None where it is never closed; then how deep it still is, or 0 where quotation marks are to blame and not a cut.
    """
    depth = deepest = 0
    for token in _TOKEN.finditer(text, start):
        kind = token[0]
        if kind in "{[":
            depth += 1
            deepest = max(depth, deepest)
        elif kind in "}]":
            depth -= 1
            if depth == 0:
                return token.end(), deepest
        elif kind == '"':  # one that no other closes: the text stops inside a string, or has one too many
            return None, 0 if text.rstrip("` \t\r\n").endswith("}") else depth
    return None, depth


def _read(stretch: str, depth: int) -> Found:
    if depth > MOST_DEPTH:
        return Found(stretch, problem=f"it is nested more than {MOST_DEPTH} deep")
    try:
        try:
            return Found(stretch, value=_parse(stretch))
        except json.JSONDecodeError:
            return Found(stretch, value=_parse(_STRING_OR_COMMA.sub(_corrected, stretch)))
    except UnicodeEncodeError:
        return Found(stretch, problem="it holds half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 20) : error.pos + 20]
        return Found(stretch, problem=f"it is not JSON: {error.msg} near {shown(near)}")
    except ValueError as error:
        return Found(stretch, problem=str(error))


def _parse(text: str) -> dict[str, Any]:
    value: dict[str, Any] = _DECODER.decode(text)
    text.encode()
    if "\\u" in text:  # an escape may be half of a surrogate pair, too
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _corrected(match: re.Match[str]) -> str:
    """A string whose every backslash is a JSON escape, or nothing for a comma."""
    return "" if match[0] == "," else _ESCAPE.sub(_escaped, match[0])


def _escaped(match: re.Match[str]) -> str:
    return match[0] if match[1] else f"\\{match[0]}"


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no JSON value")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("it has a key twice in one object, of which only one could be kept")
    return value


_DECODER = json.JSONDecoder(
    strict=False,
    parse_int=str,
    parse_float=str,
    parse_constant=_refuse_constant,
    object_pairs_hook=_without_repeats,
)
