"""Which of this library's own files one is, by its keys, so that a file in another's place is called by its name."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

STORE_MARK = b"cat1"
"""What stands in an SQLite file's header, as the application's id, where the file is a store of replies."""
_STORE_MARK_AT = 68


class OwnKind(NamedTuple):
    """A kind of file: what it is, with its article, and what it is for."""

    name: str
    use: str


PRIOR = OwnKind("a prior", "give it to `cattune annotate --prior`")
RULES = OwnKind("a rule set", "give it to `cattune annotations rules --rules`")
GAME = OwnKind("a game", "give it to `cattune stg --game`")
CONFIGURATION = OwnKind("a configuration of `cattune train`", "give it to `cattune train`")
EXAMPLES = OwnKind("a file of examples", "commands take it as FILE")
REQUESTS = OwnKind("a file of requests for a batch queue", "send it to the provider, and `--batch read` the results")
RESULTS = OwnKind("a file of results of a batch queue", "give it to `cattune annotate --batch read`")
STORE = OwnKind("a store of replies", "give it to `cattune annotate --store`; the examples are in that command's --out")

_MARKS: tuple[tuple[OwnKind, frozenset[str]], ...] = (
    (PRIOR, frozenset({"task", "graph"})),
    (RULES, frozenset({"patterns", "edges"})),
    (GAME, frozenset({"attributes", "outcome"})),
    (CONFIGURATION, frozenset({"train_file", "output_dir", "eval_files"})),
    (REQUESTS, frozenset({"custom_id", "body"})),
    (RESULTS, frozenset({"custom_id", "response", "error"})),
    (OwnKind("a journal of `cattune review`", "run `cattune review` on the file that it belongs to"),
     frozenset({"base", "example"})),
    (OwnKind("the samples of `cattune evaluate`", "name the file of examples that was evaluated"),
     frozenset({"prompt_tail", "prediction"})),
    (OwnKind("a report of `cattune align`", "name the file of examples that it is about"),
     frozenset({"aligned_links", "aligned_causes"})),
    (OwnKind("the results of `cattune demo`", "name a file of examples"), frozenset({"arms", "gap_closed"})),
    (OwnKind("a manifest of `cattune stg`", "name one of the .jsonl files beside it"),
     frozenset({"generator", "omitted"})),
    (OwnKind("the results of `cattune train` or `evaluate`", "name a file of examples"), frozenset({"splits"})),
    (EXAMPLES, frozenset({"prompt", "completion", "messages", "input", "target", "important"})),
)  # fmt: skip
"""Keys that are found in files of a kind; where those of several are found, the kind with the most."""

_YAML_KEY = re.compile(r"^([A-Za-z_]\w*)[ \t]*:(?:\s|$)", re.MULTILINE)
_INDENT = re.compile(r'\{\s*\n([ \t]+)"')


def own_kind(keys: Iterable[str], expected: OwnKind | None = None) -> OwnKind | None:
    """The kind that a file with these keys is of; None where it is none, or could be the expected one."""
    found = set(keys)
    scores = {kind: len(found & marks) for kind, marks in _MARKS}
    best = max(scores, key=lambda kind: scores[kind])
    return None if not scores[best] or (expected is not None and scores[expected]) else best


def is_store(head: bytes) -> bool:
    """Whether an SQLite file that begins so is a store of replies."""
    return head[_STORE_MARK_AT : _STORE_MARK_AT + len(STORE_MARK)] == STORE_MARK


def top_keys(text: str) -> Collection[str]:
    """The keys at the top of JSON Lines (the first line's), of indented JSON, or of YAML; no other text has any."""
    lines = text.lstrip("\ufeff \t\r\n")
    if not lines.startswith("{"):
        return set(_YAML_KEY.findall(text))
    try:
        first = json.JSONDecoder().raw_decode(lines)[0]
    except (ValueError, RecursionError):
        indent = _INDENT.match(lines)  # it is cut off; what stands at the first key's depth is at the top
        return set(re.findall(rf'^{indent[1]}"(\w+)"\s*:', lines, re.MULTILINE)) if indent else set()
    return set(first) if isinstance(first, dict) else set()
