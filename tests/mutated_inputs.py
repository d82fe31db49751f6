"""Files of records that went wrong on their way: mutated by a seeded generator.

Nothing here is cattune's: what is mutated is written as the documentation of the formats has it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

Rng = random.Random

WORDS = (
    "4 and 5",
    "High Risk",
    "Straße İ",
    "e\u0301a\u0308",
    "שלום 5",
    "\u202e4",
    "日本",
    "👩‍👩‍👧 🇩🇪",
    "\x00",
    "\ufeff",
    "\u2028",
    "\x85",
    "\r",
    "\t",
    "<|im_end|>",
    "</think>",
    "{{ x }}",
    "\\",
    '"',
    "½",
    "\ue000",
    "\u200b",
    "ﬁ",
    "\x1b[31m",
    "İi",
    " ",
)
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"))
LONE = ("\ud800", "\udfff", "a\udc80b", "\ude00\ud83d")
RAW = (
    b"\xff\xfe",
    b"\x00",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\xf5\x80\x80\x80",
    b"\r",
    b"\x1f\x8b\x08",
    b"\x1a",
)
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7", "shift_jis", "utf-8-sig")


class Mutant(NamedTuple):
    """An input: its bytes, what was done to it, and whether all of that leaves its meaning as it was."""

    data: bytes
    steps: tuple[str, ...]
    harmless: bool


def text(rng: Rng) -> str:
    """A few words, among them those that break programs."""
    return "".join(
        rng.choice((rng.choice(WORDS), "6 is 4 and 2", "Smoking: 8, ", " ")) for _ in range(rng.randrange(1, 6))
    )


# --- records


def span(rng: Rng, field: str, content: str, end: int | None = None) -> dict[str, Any]:
    high = len(content) if end is None else end
    start = rng.randrange(high) if high else 0
    stop = rng.randrange(start + 1, high + 1) if high else 1
    return {"field": field, "start": start, "end": stop, "text": content[start:stop]}


def link(rng: Rng, fields: dict[str, str]) -> dict[str, Any]:
    names = list(fields)
    made = {
        "effect": span(rng, names[-1], fields[names[-1]]),
        "causes": [span(rng, name, fields[name]) for name in rng.choices(names[:-1], k=rng.randrange(1, 3))],
    }
    return made | rng.choice(({}, {"weight": 0.5, "source": "rule"}, {"method": "fuzzy", "score": 0.8}))


def own_record(rng: Rng, name: Any) -> dict[str, Any]:
    fields = {"prompt": text(rng), "completion": text(rng)}
    links = [link(rng, fields) for _ in range(rng.randrange(3))]
    return {"schema": "cattune/1", "id": name, **fields, "links": links, "metadata": {"a": [1, {"b": None}]}}


def chat_record(rng: Rng, name: Any) -> dict[str, Any]:
    roles = rng.choice((("user", "assistant"), ("system", "user", "assistant"), ("user", "assistant") * 2))
    messages = [{"role": role, "content": text(rng)} for role in roles]
    fields = {f"messages[{i}].content": message["content"] for i, message in enumerate(messages)}
    record = {"id": name, "messages": messages, "links": [link(rng, fields) for _ in range(rng.randrange(2))]}
    return record | rng.choice(({}, {"chat_template_kwargs": {"enable_thinking": False}}, {"tools": [{"name": "f"}]}))


def turns_record(rng: Rng, name: Any) -> dict[str, Any]:
    return {
        "id": name,
        "prompt": [{"role": "user", "content": [{"type": "text", "text": text(rng)}]}],
        "completion": [{"role": "assistant", "content": text(rng)}],
        "topic": text(rng),
    }


def published_record(rng: Rng, name: Any) -> dict[str, Any]:
    prompt, target = text(rng), text(rng)
    causes = [prompt[i : i + 4] for i in (0, rng.randrange(len(prompt)))]
    important: Any = rng.choice(([{target: causes}], {target: causes[0]}, json.dumps([{target: causes}]), None))
    return {"idx": name, "input": prompt, "target": rng.choice((target, 8.5, 12)), "important": important}


FORMATS: dict[str, Callable[[Rng, Any], dict[str, Any]]] = {
    "own": own_record,
    "chat": chat_record,
    "turns": turns_record,
    "published": published_record,
}


def records(rng: Rng) -> tuple[str, list[dict[str, Any]]]:
    """Sound records of one format, whose ids are texts or numbers."""
    kind, named = rng.choice(list(FORMATS)), rng.random() < 0.7
    return kind, [FORMATS[kind](rng, f"n{i}" if named else i) for i in range(rng.randrange(1, 5))]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a value where something may stand instead."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ([at] if at else []) + [place for key, item in items for place in places(item, (*at, key))]


def nested(depth: int, inside: Any = 0) -> Any:
    for _ in range(depth):
        inside = [inside] if depth % 2 else {"a": inside}
    return inside


def other_value(rng: Rng) -> Any:
    """A value that hardly any place takes."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: rng.choice(NUMBERS),
        lambda: text(rng),
        lambda: rng.choice(LONE),
        lambda: rng.choice((None, True, False, "")),
        lambda: rng.choice(([], {}, [None], [[]], {"": ""})),
        lambda: nested(rng.choice((3, 60, 400))),
        lambda: rng.choice(WORDS) * 3000,
        lambda: {text(rng): text(rng) for _ in range(3)},
        lambda: [text(rng)] * 3,
        lambda: rng.choice(
            ("user", "assistant", "prompt", "completion", "cattune/1", "cattune/2", "context", "nan", "1e400")
        ),
    )
    return rng.choice(kinds)()


def mutated_value(rng: Rng, value: Any) -> str:
    """Change one place of a mapping or list, in place; return what was done."""
    *way, last = rng.choice(places(value) or [("new",)])
    inner = value
    for key in way:
        inner = inner[key]
    what = rng.choice(("replace", "replace", "replace", "delete", "copy", "wrap", "rename", "cut", "add"))
    if what == "delete":
        del inner[last]
    elif what == "copy" and isinstance(inner, list):
        inner.insert(last, inner[last])
    elif what == "wrap":
        inner[last] = rng.choice(([inner[last]], {"value": inner[last]}, json.dumps(str(inner[last]))))
    elif what == "rename" and isinstance(inner, dict):
        inner[rng.choice(("id", "input", "messages", "links", text(rng), rng.choice(LONE)))] = inner.pop(last)
    elif what == "cut" and isinstance(inner[last], str):
        inner[last] = inner[last][: len(inner[last]) // 2]
    elif what == "add" and isinstance(inner, dict):
        inner[text(rng)] = other_value(rng)
    else:
        what, inner[last] = "replace", other_value(rng)
    return f"{what} {last if isinstance(last, str) and last.isalpha() else '*'}"


def lines_of(rng: Rng, rows: list[Any]) -> list[bytes]:
    """The rows as JSON, each in a way of its own."""
    result = []
    for row in rows:
        line = json.dumps(row, ensure_ascii=rng.random() < 0.5, separators=rng.choice(((", ", ": "), (",", ":"))))
        result.append(line.encode("utf-8", "surrogatepass"))
    return result


def file_of_records(rng: Rng) -> tuple[str, Mutant]:
    """A JSONL file of one format, with some things done to its values, its lines and its bytes."""
    kind, rows = records(rng)
    steps = [f"value: {mutated_value(rng, rng.choice(rows))}" for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))]
    if rng.random() < 0.05:
        steps.append("value: twice")
        rows.append(rows[0])
    harmful = bool(steps)
    lines = lines_of(rng, rows)
    if rng.random() < 0.3:
        step, broken = _mutate_lines(rng, lines)
        steps, harmful = [*steps, f"lines: {step}"], harmful or broken
    data = rng.choice((b"\n", b"\n", b"\r\n")).join(lines) + rng.choice((b"\n", b""))
    if rng.random() < 0.25:
        data, step, broken = mutated_bytes(rng, data)
        steps, harmful = [*steps, f"bytes: {step}"], harmful or broken
    if rng.random() < 0.1:
        data, step, broken = _packed(rng, data)
        steps, harmful = [*steps, f"gzip: {step}"], harmful or broken
    return kind, Mutant(data, tuple(steps), not harmful)


def _mutate_lines(rng: Rng, lines: list[bytes]) -> tuple[str, bool]:
    """Change the lines in place; return what was done, and whether it may change what they mean."""
    at = rng.randrange(len(lines))
    line = lines[at]
    harmless: dict[str, Callable[[], bytes]] = {
        "blank lines": lambda: b"\n \t\n" + line,
        "white space": lambda: b" \t" + line + b"  ",
        "wide": lambda: _wide(rng, line),
    }
    harmful: dict[str, Callable[[], bytes]] = {
        "a key twice": lambda: line[:-1] + b', "prompt": "other", "prompt": "another", "id": 7}',
        "cut off": lambda: line[: rng.randrange(len(line))],
        "two in one": lambda: line + line,
        "an array": lambda: b"[" + line + b"]",
        "a comma": lambda: line + b",",
        "deep": lambda: b'{"prompt": ' + b"[" * 100_000,
        "deep and closed": lambda: (
            b'{"id": 1, "prompt": "a", "completion": "b", "metadata": ' + b"[" * 900 + b"]" * 900 + b"}"
        ),
        "long": lambda: line[:-1] + b', "more": "' + b"4 and 5 \\u00e9" * 100_000 + b'"}',
        "long words": lambda: json.dumps(
            {"input": "4 and 5, " * 20_000, "target": "9", "important": [{"9": ["4", "5"]}]}
        ).encode(),
        "digits": lambda: line[:-1] + b', "more": ' + b"9" * 5000 + b"}",
        "a constant": lambda: (
            line[:-1] + b', "more": ' + rng.choice((b"NaN", b"Infinity", b"-Infinity", b"1e999")) + b"}"
        ),
        "single quotes": lambda: line.replace(b'"', b"'"),
        "Python": lambda: str(json.loads(line)).encode("utf-8", "surrogatepass"),
        "nothing": lambda: b"",
        "null": lambda: rng.choice((b"null", b"7", b'"a"', b"[]", b"{}", b"true")),
        "pretty": lambda: json.dumps(json.loads(line), indent=1).encode("utf-8", "surrogatepass"),
    }
    step = rng.choice([*harmless] * 6 + [*harmful])
    lines[at] = (harmless | harmful)[step]()
    return step, step in harmful


def _wide(rng: Rng, line: bytes) -> bytes:
    """The line with more than a page of a column of its own in front, where the format has such."""
    values = json.dumps({f"k{i}": [i, {"a": i}] for i in range(rng.randrange(200, 300))}).encode()
    return b'{"wide": ' + values + b", " + line[1:] if line[:2] == b'{"' and b'"schema"' not in line else line


def mutated_bytes(rng: Rng, data: bytes) -> tuple[bytes, str, bool]:
    """The bytes with one thing done to them, what that was, and whether it may change what they mean."""
    at = rng.randrange(len(data) + 1)
    end = min(len(data), at + rng.randrange(9))
    step = rng.choice(("BOM", "flip", "insert", "remove", "cut off", "repeat", "encoding", "zeros", "empty"))
    if step == "BOM":
        return b"\xef\xbb\xbf" + data, step, False
    if step == "encoding":
        encoding = rng.choice(ENCODINGS)
        decoded = data.decode("utf-8", "replace")
        return decoded.encode(encoding, "replace"), encoding, True
    return (
        {
            "flip": lambda: data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            "insert": lambda: data[:at] + rng.choice(RAW) + data[at:],
            "remove": lambda: data[:at] + data[end:],
            "cut off": lambda: data[:at],
            "repeat": lambda: data[:at] + data[at:end] * 3 + data[end:],
            "zeros": lambda: data + b"\x00" * rng.choice((1, 4096)),
            "empty": lambda: rng.choice((b"", b"\n", b"\r\n\r\n", b"\xef\xbb\xbf", b"\x00")),
        }[step](),
        step,
        True,
    )


@cache
def bomb() -> bytes:
    """A small file that unpacks to 320 MB without a line end."""
    return gzip.compress(b'{"prompt": "' + b"a" * (320 << 20), 1, mtime=0)


def _packed(rng: Rng, data: bytes) -> tuple[bytes, str, bool]:
    if rng.random() < 0.02:
        return bomb(), "a bomb", True
    packed = gzip.compress(data, mtime=0)
    step = rng.choice(("whole", "whole", "two", "cut off", "flip", "twice", "more behind"))
    at = rng.randrange(10, len(packed))
    return (
        {
            "whole": lambda: packed,
            "two": lambda: gzip.compress(data[:at], mtime=0) + gzip.compress(data[at:], mtime=0),
            "cut off": lambda: packed[:at],
            "flip": lambda: packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :],
            "twice": lambda: gzip.compress(packed, mtime=0),
            "more behind": lambda: packed + rng.choice(RAW),
        }[step](),
        step,
        step not in ("whole", "two"),
    )
