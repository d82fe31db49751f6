"""YAML that users write, read in one way for all: as UTF-8, of a bounded size, and safe to walk and to print.

A few lines of YAML can stand for billions of values (aliases of aliases), or for one that holds itself. Such documents
are refused here, so that no reader has to think of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import yaml

from cattune.data.own_kinds import CONFIGURATION, GAME, PRIOR, RULES, STORE, is_store, own_kind, top_keys
from cattune.errors import ConfigError
from cattune.wording import shown

LARGEST = 1 << 20
"""Bytes of the largest YAML file: reading takes seconds a megabyte, and such a file is data and no settings."""
MOST_DEPTH = 100
MOST_VALUES = 100_000
"""How deep a document may be nested, and how many values it may stand for, its aliases written out."""

_TOO_DEEP = f"nested too deeply; the most is {MOST_DEPTH}"

_KINDS = {"prior": PRIOR, "rules": RULES, "game": GAME, "configuration": CONFIGURATION}


def read_yaml(path: str | Path, what: str, advice: str) -> str:
    """The text of a YAML file.

    Args:
        path: the file.
        what: what it is to hold: "prior", "rules", "game" or "configuration".
        advice: what may be given in its place, for errors.

    Raises:
        ConfigError: it cannot be read, is too large, is not UTF-8, or is another kind of file.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the {what} {shown(str(path), 200)}: {reason}; {advice}") from None
    if len(data) > LARGEST:
        raise ConfigError(f"{path}: larger than 1 MB, which no {what} is; is it a data file? {advice}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if is_store(data):
            raise ConfigError(f"{path} is {STORE.name}, and not {_KINDS[what].name}; {STORE.use}") from None
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save the {what} as UTF-8") from None
    kind = own_kind(top_keys(text), expected=_KINDS[what])
    if kind is not None:
        raise ConfigError(f"{path} is {kind.name} by its keys, and not {_KINDS[what].name}; {kind.use}")
    return text


def compose_yaml(text: str, source: str, loader: type[Any] = yaml.BaseLoader) -> yaml.Node | None:
    """The nodes of a YAML document; None where it is empty.

    Args:
        text: the document.
        source: names it in errors.
        loader: gives the nodes their tags.

    Raises:
        ConfigError: it is not YAML, holds more than one document, itself, or too much.
    """
    try:
        top: yaml.Node | None = yaml.compose(text, Loader=_bounded(loader, source))
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source}{_line(error.problem_mark)}: not valid YAML: {_reason(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: not valid YAML: {_TOO_DEEP}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if top is not None:
        _Walk(source).measure(top, 0)
    return top


def load_yaml(text: str, source: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The value of a YAML document; a key that is given twice is refused.

    Args:
        text: the document.
        source: names it in errors.
        loader: says what a value is; the rules of YAML 1.1 by default.

    Raises:
        ConfigError: as `compose_yaml`, or a value is not what its tag says.
    """
    top = compose_yaml(text, source, loader)
    if top is None:
        return None
    constructor = loader("")
    try:
        _check_keys(top, source, set())
        return constructor.construct_document(top)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        raise ConfigError(f"{source}{_line(error.problem_mark)}: not valid YAML: {_reason(error)}") from None
    except Exception as error:  # PyYAML lets through what its conversions raise: !!int '' is an IndexError
        raise ConfigError(f"{source}: not valid YAML: {type(error).__name__}: {error}") from None
    finally:
        constructor.dispose()


def _bounded(loader: type[Any], source: str) -> type[Any]:
    """The loader, which gives up on a document as soon as it is too large or too deep; all of it may take long."""

    class Bounded(loader):
        nodes = depth = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            self.nodes += 1
            self.depth += 1
            line = _line(self.peek_event().start_mark)
            if self.depth > MOST_DEPTH + 1:
                raise ConfigError(f"{source}{line}: not valid YAML: {_TOO_DEEP}")
            if self.nodes > MOST_VALUES:
                raise ConfigError(f"{source}{line}: not valid YAML: it holds more than {MOST_VALUES:,} values")
            node: yaml.Node | None = super().compose_node(parent, index)
            self.depth -= 1
            return node

    return Bounded


class _Walk:
    """Measures a document with its aliases written out, each node once."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._sizes: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def measure(self, node: yaml.Node, depth: int) -> tuple[int, int]:
        """How many values a node stands for, and how deep it is."""
        if isinstance(node, yaml.ScalarNode):
            return 1, 1
        if id(node) in self._open:
            self._fail(node, "an alias stands for a value that holds it; write the value out")
        if id(node) not in self._sizes:
            if depth >= MOST_DEPTH:
                self._fail(node, _TOO_DEEP)
            self._open.add(id(node))
            size, height = 1, 0
            for child in _children(node):
                below, deep = self.measure(child, depth + 1)
                size, height = size + below, max(height, deep)
            self._open.discard(id(node))
            self._sizes[id(node)] = size, height + 1
        size, height = self._sizes[id(node)]
        if depth + height > MOST_DEPTH + 1:
            self._fail(node, _TOO_DEEP)
        if size > MOST_VALUES:
            self._fail(node, f"with its aliases it stands for more than {MOST_VALUES:,} values")
        return size, height

    def _fail(self, node: yaml.Node, reason: str) -> NoReturn:
        raise ConfigError(f"{self._source}{_line(node.start_mark)}: not valid YAML: {reason}")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value)


def _check_keys(node: yaml.Node, source: str, seen: set[int]) -> None:
    if isinstance(node, yaml.ScalarNode) or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise ConfigError(
                        f"{source}{_line(key.start_mark)}: the key {shown(key.value)} is given twice in one mapping"
                    )
                keys.add((key.tag, key.value))
    for child in _children(node):
        _check_keys(child, source, seen)


def _line(mark: yaml.Mark | None) -> str:
    return f", line {mark.line + 1}" if mark else ""


def _reason(error: yaml.MarkedYAMLError) -> str:
    """What PyYAML found, and where that began."""
    reason = str(error.problem)
    if error.context and error.context_mark:
        reason = f"{reason}, {error.context} that begins in{_line(error.context_mark).lstrip(',')}"
    return reason + ("; indent with blanks, not with tabs" if "'\\t'" in reason else "")
