"""Reads a game from YAML, a built-in one by its name or a user's by its path, and checks every key of it."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

from cattune.data.yaml_text import load_yaml, read_yaml
from cattune.tasks.stg.node import MOST_DECIMALS, Node
from cattune.tasks.stg.spec import (
    ARITHMETICS,
    ORDERS,
    ROLES,
    Answer,
    Attribute,
    Coupling,
    Distribution,
    Game,
    Integers,
    LabelRange,
    Outcome,
    Reals,
    Rule,
    Wording,
)
from cattune.wording import listed, shown

BUILT_IN = ("cancer_risk", "air_quality", "bridge_repair")
JOINER = r"[^\w\n]{1,4}?|\s+is\s+"
"""What may stand between an attribute's name and its value (a regular expression)."""


def load_game(name_or_path: str | Path) -> Game:
    """The built-in game of that name, or the game in that YAML file.

    Raises:
        ConfigError: no such game or file, or a key of it is missing, unknown or out of range.
    """
    if str(name_or_path) in BUILT_IN:
        where = f"{name_or_path}.yaml"
        text = resources.files("cattune.tasks.stg").joinpath("games", where).read_text(encoding="utf-8")
    else:
        where = str(name_or_path)
        text = read_yaml(where, "game", f"give the path of a YAML file or a built-in game: {', '.join(BUILT_IN)}")
    return parse_game(load_yaml(text, where), where)


def parse_game(value: Any, where: str) -> Game:
    """The game that a parsed YAML document describes; `where` names the document in errors."""
    node = Node(value, where)
    node.keys(["name", "version", "order", "wording", "attributes", "outcome"])
    name = node["name"].text()
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        node["name"].fail("a name of letters, digits, '_', '-' and '.' (it begins the examples' ids)")
    order = node["order"].choice(ORDERS)
    attributes = _attributes(node["attributes"])
    outcome = _outcome(node["outcome"], [a.name for a in attributes if a.role == "cause"])
    wording = _wording(node["wording"], {c.label for rule in outcome.rules.values() for c in rule.classes})
    version = node["version"].integer(1)
    return Game(name, version, order, wording, attributes, outcome, source=value)


def _attributes(node: Node) -> tuple[Attribute, ...]:
    attributes: list[Attribute] = []
    for entry in node.items():
        attribute = _attribute(entry)
        for other in attributes:
            if other.name in attribute.name or attribute.name in other.name:
                entry["name"].fail(f"a name that neither contains nor is contained in {shown(other.name)}")
        attributes.append(attribute)
    causes = [a.name for a in attributes if a.role == "cause"]
    if not causes:
        node.fail("at least one attribute with the role 'cause'")
    for entry in node.items():
        if "coupling" in entry:
            entry["coupling"]["partner"].choice(causes)
    return tuple(attributes)


def _attribute(node: Node) -> Attribute:
    if "role" not in node:
        node.keys(["name", "role"], ["integers", "uniform", "noise_sd", "decimals", "coupling", "ood", "suffix"])
    role = node["role"].choice(ROLES)
    if role == "spurious":
        node.keys(["name", "role", "coupling", "ood"], ["suffix"])
    name = node["name"].text() if "name" in node else ""
    if "name" in node and not re.fullmatch(r"[^\W\d_](.*[\w)])?", name):
        node["name"].fail("a name that begins with a letter and ends with a letter, a digit or ')'")
    suffix = node["suffix"].text() if "suffix" in node else ""
    if re.match(r"[\d.\s-]", suffix):
        node["suffix"].fail("a suffix that begins with neither a digit, a dot, a hyphen nor a blank")
    if role == "spurious":
        return Attribute(name, role, _distribution(node["ood"], []), _coupling(node["coupling"]), suffix)
    return Attribute(name, role, _distribution(node, ["name", "role", "suffix"]), None, suffix)


def _distribution(node: Node, others: list[str]) -> Distribution:
    required = [key for key in others if key != "suffix"]
    optional = [key for key in others if key == "suffix"]
    if "uniform" in node:
        node.keys([*required, "uniform", "decimals"], [*optional, "noise_sd"])
        low, high = (end.number() for end in node["uniform"].pair())
        if low > high:
            node["uniform"].fail("[low, high] with low <= high")
        noise_sd = node["noise_sd"].deviation() if "noise_sd" in node else 0.0
        return Reals(low, high, noise_sd, node["decimals"].integer(0, MOST_DECIMALS))
    node.keys([*required, "integers"], optional)
    first, last = (end.integer() for end in node["integers"].pair())
    if first > last:
        node["integers"].fail("[low, high] with low <= high")
    return Integers(first, last)


def _coupling(node: Node) -> Coupling:
    if "noise_sd" not in node:
        node.keys(["partner", "ratio"])
        return Coupling(node["partner"].text(), node["ratio"].number())
    node.keys(["partner", "ratio", "noise_sd", "decimals"])
    noise_sd, decimals = node["noise_sd"].deviation(), node["decimals"].integer(0, MOST_DECIMALS)
    return Coupling(node["partner"].text(), node["ratio"].number(), noise_sd, decimals)


def _outcome(node: Node, causes: list[str]) -> Outcome:
    if "answer" in node:
        node.keys(["coefficients", "answer"])
        return Outcome(_coefficients(node["coefficients"], causes), {}, None, _answer(node["answer"]))
    node.keys(["coefficients", "default_rule", "rules"])
    rules = {name: _rule(node["rules"][name]) for name in node["rules"].names()}
    default = node["default_rule"].choice(rules)
    return Outcome(_coefficients(node["coefficients"], causes), rules, default, None)


def _coefficients(node: Node, causes: list[str]) -> tuple[tuple[str, Any], ...]:
    node.keys(causes)
    for name in causes:
        if node[name].number() == 0:
            node[name].fail("a coefficient other than 0 (an attribute without influence is irrelevant)")
    return tuple((name, node[name].number()) for name in node.names())


def _answer(node: Node) -> Answer:
    node.keys(["clip", "scale"])
    ends = [[end.number() for end in node[key].pair()] for key in ("clip", "scale")]
    for key, (low, high) in zip(("clip", "scale"), ends, strict=True):
        if low >= high:
            node[key].fail("[low, high] with low < high")
    return Answer(*ends[0], *ends[1])


def _rule(node: Node) -> Rule:
    node.keys(["arithmetic", "classes"])
    arithmetic = node["arithmetic"].choice(ARITHMETICS)
    entries = list(node["classes"].items(2))
    classes: list[LabelRange] = []
    for index, entry in enumerate(entries):
        entry.keys(["label"], ["above", "at_least", "below", "at_most"])
        bounds = {key: entry[key].number() for key in entry.names() if key != "label"}
        if bool(bounds) != (index < len(entries) - 1):
            entry.fail("bounds for every class but the last, which takes what the others leave")
        label = entry["label"].text()
        if label != label.strip() or label in [c.label for c in classes]:
            entry["label"].fail("a label of its own, without blanks around it")
        classes.append(LabelRange(label, **bounds))
    return Rule(arithmetic, tuple(classes))


def _wording(node: Node, labels: set[str]) -> Wording:
    node.keys(["opening", "attribute", "separator", "closing"], ["labels"])
    texts: dict[str, str] = {}
    if "labels" in node:
        for label in node["labels"].names():
            if label not in labels:
                node["labels"].fail(f"only labels of this game as keys ({listed(sorted(labels))})")
            texts[label] = node["labels"][label].text()
        if len({texts.get(label, label) for label in labels}) < len(labels):
            node["labels"].fail("a text of its own for every label")
    attribute = node["attribute"].text()
    if not re.fullmatch(rf"\{{name\}}({JOINER})(?<!-)\{{value\}}", attribute):
        node["attribute"].fail(
            "'{name}', one to four signs or blanks or ' is ', no hyphen, and '{value}', as in '{name}: {value}'"
        )
    opening, closing = node["opening"].text(empty=True), node["closing"].text(empty=True)
    separator = node["separator"].text(empty=True)
    if re.search(r"\w$", opening):
        node["opening"].fail("a text that does not end in a letter or digit (the first attribute follows)")
    if re.match(r"\w|\.\d", closing):
        node["closing"].fail("a text that does not begin with a letter or digit (the last value stands before it)")
    if not re.fullmatch(r"(?!\.\d)\W(.*\W)?", separator, re.DOTALL):
        node["separator"].fail("a text that neither begins nor ends with a letter or digit, as in ', '")
    return Wording(opening, attribute, (separator,), closing, texts)
