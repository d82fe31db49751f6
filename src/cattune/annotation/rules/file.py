r"""Reads a rule set from YAML, a packaged one by its name or a user's by its path, and checks every key of it.

patterns:
  answer:  {in: completion, regex: '\S(.*\S)?'}
  smoking: {attribute: Smoking}
  sold:    {in: user, regex: 'sold (?P<number>\d+)', matches: first}
edges:
  answer: [smoking, sold.number]
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

from cattune.annotation.rules.apply import MATCHES, PLACES, Part, Pattern, RuleSet
from cattune.data.yaml_node import Node, parse_yaml
from cattune.data.yaml_text import read_yaml
from cattune.errors import ConfigError
from cattune.wording import listed, shown

BUILT_IN = ("air_quality", "bridge_repair", "cancer_risk")

_ADVICE = f"give the path of a YAML file or packaged rules: {', '.join(BUILT_IN)}"
_NAME = r"[^\W\d]\w*"
# A cell of a table or of a list begins where a field or a line does, or after a sign that is no part of a word or a
# quotation; a hyphen only with a blank before it, so that "non-Smoking: 1" does not hold "Smoking: 1".
_CELL_START = r"(?<=(?:^|[^\w\s'’\-]|(?:^|\s)-)[^\S\n]*)"
_JOINER = r"[^\w\n,;.:=|]{0,3}[:=|][^\w\n,;.]{0,4}?"
_NUMBER = r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?[^\W\d_]*%?(?![\w%]|[.,:/-]\d)"
_WORDS = r"(?!\d)[^\s*,;|)\]}\"'][^,;|)\]}\"'\n]*?(?=\s*(?:[,;|)\]}\"'\n]|\.(?:\s|$)|$))"


def load_rules(name_or_path: str | Path) -> RuleSet:
    """The packaged rule set of that name, or the one in that YAML file.

    Raises:
        ConfigError: there is no such rule set or file, or a key of it is missing, unknown or wrong.
    """
    where = str(name_or_path)
    if where not in BUILT_IN:
        return parse_rules(read_yaml(where, "rules", _ADVICE), where)
    packaged = resources.files("cattune.annotation.rules") / "packaged" / f"{where}.yaml"
    return parse_rules(packaged.read_text(encoding="utf-8"), f"{where}.yaml")


def parse_rules(text: str, where: str) -> RuleSet:
    """The rule set that a YAML text describes; `where` names the text in errors."""
    top = parse_yaml(text, where).keys(["patterns", "edges"])
    patterns = {name: _pattern(name, node) for name, node in _entries(top["patterns"], "PATTERN: {...}").items()}
    edges = []
    used: set[str] = set()
    for effect, node in _entries(top["edges"], "EFFECT: [CAUSE, ...]").items():
        part, causes = _part(effect, node, patterns), _causes(node, patterns)
        if part in causes:
            node.fail("causes other than the effect itself")
        edges.append((part, causes))
        used.update(entry.pattern for entry in (part, *causes))
    if unused := [name for name in patterns if name not in used]:
        raise ConfigError(f"{top['patterns'].where}: {shown(unused[0])} stands in no edge; use it, or take it out")
    return RuleSet(where, patterns, tuple(edges))


def _entries(node: Node, example: str) -> dict[str, Node]:
    """The values of a mapping whose keys are the user's own names."""
    if not node.is_mapping() or not node.value.value:
        node.fail(f"a mapping of at least one {example}")
    return node.keys([key.value for key, _ in node.value.value if isinstance(key.value, str)])


def attribute_regex(name: str, value: str | None = None) -> str:
    """The expression that finds "name: value" in a cell of its own, with the groups `name` and `value`.

    Args:
        name: of the attribute, as printed.
        value: an expression for the value; by default a number with what is joined to it ("7.5%", "23rd", "114Mbps"),
            or words up to a comma, a semicolon, a bar, a closing bracket, a full stop or the end of the line.
    """
    values = rf"(?P<value>{value})" if value is not None else rf"(?P<value>{_NUMBER}|{_WORDS})"
    return rf"(?m){_CELL_START}(?P<name>{re.escape(name)}){_JOINER}{values}"


def _pattern(name: str, node: Node) -> Pattern:
    if not re.fullmatch(_NAME, name):
        node.fail(f"a pattern whose name has letters, digits and '_' only, which {shown(name)} has not")
    kind = "attribute" if "attribute" in _names(node) else "regex"
    keys = node.keys([kind], ["in", "matches", *(["value"] if kind == "attribute" else [])])
    expression = keys[kind].text()
    if kind == "attribute":
        value = keys["value"].text() if "value" in keys else None
        if value is not None:
            _compile(value, keys["value"])  # so that a mistake in it is not blamed on the whole
        expression = attribute_regex(expression, value)
    compiled = _compile(expression, keys["value" if "value" in keys else kind])
    if compiled.fullmatch(""):
        keys[kind].fail("an expression that matches at least one character")
    place = keys["in"].choice(PLACES) if "in" in keys else "prompt"
    return Pattern(name, place, compiled, keys["matches"].choice(MATCHES) if "matches" in keys else "one")


def _names(node: Node) -> list[str]:
    return [key.value for key, _ in node.value.value] if node.is_mapping() else []


def _compile(expression: str, node: Node) -> Any:
    import regex  # type: ignore[import-untyped, unused-ignore]

    try:
        return regex.compile(expression)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        node.fail(f"a regular expression ({error})")


def _causes(node: Node, patterns: dict[str, Pattern]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for entry in node.items():
        part = _part(entry.text(), entry, patterns)
        if part in parts:
            entry.fail("every cause once")
        parts.append(part)
    return tuple(parts)


def _part(text: str, node: Node, patterns: dict[str, Pattern]) -> Part:
    name, dot, group = text.partition(".")
    if name not in patterns:
        raise ConfigError(
            f"{node.where}: there is no pattern {shown(name)}; expected a pattern's name, or NAME.GROUP; the "
            f"patterns are {listed(patterns)}"
        )
    if dot and group not in patterns[name].regex.groupindex:
        groups = patterns[name].regex.groupindex
        has = f"its named groups are {listed(groups)}" if groups else "write one as (?P<name>...)"
        raise ConfigError(f"{node.where}: the pattern {shown(name)} has no group {shown(group)}; {has}")
    return Part(name, group if dot else None)
