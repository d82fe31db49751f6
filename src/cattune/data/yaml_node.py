"""A YAML file for people to write in: every scalar is the text that stands there, every complaint names its line.

YAML turns `5.0` into a number, `no` into False and `2024-05-01` into a date. Where phrases of a text are meant that is
always wrong, so nothing is turned into anything here. What YAML would quietly lose is refused: a key that is given
twice, the `#4` of `room #4`, which is a comment to it, and the comma of `[6,359 yen]`, which makes two entries to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

import yaml

from cattune.data.yaml_text import compose_yaml
from cattune.errors import ConfigError
from cattune.wording import listed, shown

_LOST_COMMENT = re.compile(r"[ \t]+#\w")


def parse_yaml(text: str, source: str) -> Node:
    """The top of a YAML document; `source` names the file in errors.

    Raises:
        ConfigError: It is not YAML, is empty, or holds more than one document.
    """
    top = compose_yaml(text, source)
    if top is None:
        raise ConfigError(f"{source} is empty; expected a YAML mapping")
    return Node(top, source)


@dataclass(frozen=True, slots=True)
class Node:
    """A value, the file it is from, and its key path, such as `examples[0].links[2].effect`."""

    value: yaml.Node
    source: str
    path: str = ""

    @property
    def where(self) -> str:
        """File, line (from 1) and key path."""
        line = f"{self.source}, line {self.value.start_mark.line + 1}"
        return f"{line}, {self.path}" if self.path else line

    def fail(self, expected: str) -> NoReturn:
        """Raise a ConfigError: where, what was expected, what was got."""
        raise ConfigError(f"{self.where}: expected {expected}, got {self._got()}")

    def is_mapping(self) -> bool:
        """Whether this is keys with values."""
        return isinstance(self.value, yaml.MappingNode)

    def keys(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Node]:
        """The values of this mapping, which has all required keys and no others than the optional ones."""
        if not isinstance(self.value, yaml.MappingNode):
            self.fail(f"a mapping with {', '.join(required or optional)}")
        found: dict[str, Node] = {}
        known = [*required, *optional]
        for key, value in self.value.value:
            at = Node(key, self.source, self.path)
            if not isinstance(key, yaml.ScalarNode):
                at.fail("a text as key")
            name = key.value
            if name in found:
                raise ConfigError(f"{at.where}: the key {shown(name)} is given twice; keep one")
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"the keys here are {listed(known)}"
                raise ConfigError(f"{at.where}: unknown key {shown(name)}; {hint}")
            found[name] = Node(value, self.source, f"{self.path}.{name}" if self.path else name)
        for name in required:
            if name not in found:
                raise ConfigError(f"{self.where}: the key {name!r} is missing; add it")
        return found

    def items(self) -> Iterator[Node]:
        """The entries of this list, which is not empty."""
        if not isinstance(self.value, yaml.SequenceNode) or not self.value.value:
            self.fail("a list of at least one entry")
        entries = self.value.value
        for before, after in zip(entries, entries[1:], strict=False):
            if self.value.flow_style and _is_cut_number(before, after):
                text = f"{before.value},{after.value}"
                raise ConfigError(
                    f"{self.where}: a comma parts the entries of a list in brackets, so {shown(text)} is two of them; "
                    "put it in quotes, or a blank after the comma if two are meant"
                )
        return (Node(entry, self.source, f"{self.path}[{index}]") for index, entry in enumerate(entries))

    def text(self) -> str:
        """This text, as it is written; not empty or blank."""
        value = self.value
        if self.is_mapping():
            self.fail("a text (one with ': ' in it needs quotes)")
        if not isinstance(value, yaml.ScalarNode) or not value.value.strip():
            self.fail("a text that is not empty")
        end = value.end_mark
        if value.style is None and end.buffer and (lost := _LOST_COMMENT.match(end.buffer, end.pointer)):
            raise ConfigError(
                f"{self.where}: to YAML, the {shown(lost[0].strip())} after {shown(value.value)} begins a comment; put "
                "the text in quotes, or a blank after the # if a comment is meant"
            )
        try:  # two escapes that make one character, as JSON has them, are that character
            return str(value.value.encode("utf-16", "surrogatepass").decode("utf-16"))
        except UnicodeDecodeError:
            self.fail("a text without halves of surrogate pairs")

    def choice(self, choices: Collection[str]) -> str:
        """This text, one of the choices."""
        if not isinstance(self.value, yaml.ScalarNode) or self.value.value not in choices:
            self.fail(f"one of {', '.join(choices)}")
        return str(self.value.value)

    def integer(self, low: int, high: int) -> int:
        """This whole number from low to high."""
        digits = self.value.value if isinstance(self.value, yaml.ScalarNode) else ""
        if not re.fullmatch(r"[0-9]{1,9}", digits) or not low <= int(digits) <= high:
            self.fail(f"a whole number from {low} to {high}")
        return int(digits)

    def _got(self) -> str:
        if isinstance(self.value, yaml.ScalarNode):
            return shown(self.value.value) if self.value.value else "nothing"
        if isinstance(self.value, yaml.SequenceNode):
            return f"a list of {len(self.value.value)}"
        names = [key.value for key, _ in self.value.value if isinstance(key, yaml.ScalarNode)]
        return f"a mapping with the keys {shown(', '.join(names))}"


def _is_cut_number(before: yaml.Node, after: yaml.Node) -> bool:
    """Whether two entries are the halves of a number that was cut at its comma."""
    plain = all(isinstance(node, yaml.ScalarNode) and node.style is None for node in (before, after))
    touching = after.start_mark.index == before.end_mark.index + 1
    return plain and touching and before.value[-1:].isdigit() and after.value[:1].isdigit()
