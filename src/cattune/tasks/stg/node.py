"""A value of a parsed YAML file that knows where it stands, so that every complaint names the file and the key."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NoReturn

from cattune.errors import ConfigError
from cattune.wording import listed, shown

LARGEST = 10**6
MOST_DECIMALS = 6
"""Bounds within which a value survives the trip through the double that JSON holds."""


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it was found, such as "game.yaml: attributes[2].coupling.ratio"."""

    value: Any
    where: str

    def fail(self, expected: str) -> NoReturn:
        """Raise ConfigError: where, what was expected, what was got."""
        # Python refuses to print integers of more than 4300 digits.
        huge = isinstance(self.value, int) and self.value.bit_length() > 256
        got = "a number of more than 77 digits" if huge else repr(self.value)
        raise ConfigError(f"{self.where}: expected {expected}, got {got if len(got) <= 80 else got[:77] + '...'}")

    def keys(self, required: Collection[str], optional: Collection[str] = ()) -> None:
        """Check that this is a mapping with all required keys and no others than the optional ones."""
        names = set(self.names())
        if missing := [key for key in required if key not in names]:
            raise ConfigError(f"{self.where}: the key {missing[0]!r} is missing; add it")
        if unknown := sorted(names - set(required) - set(optional)):
            known = ", ".join([*required, *optional])
            raise ConfigError(f"{self.where}: the key {shown(unknown[0])} is not known here; expected only: {known}")

    def names(self) -> list[str]:
        """The keys of this mapping, each a text."""
        if not isinstance(self.value, dict):
            self.fail("a mapping of keys to values")
        for key in self.value:
            if not isinstance(key, str):
                Node(key, f"{self.where}, key").fail("a text as key (quote it)")
        return list(self.value)

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> Node:
        """The value under a key that is there."""
        separator = "." if ": " in self.where else ": "
        return Node(self.value[key], f"{self.where}{separator}{key}")

    def items(self, least: int = 1, most: int | None = None) -> Iterator[Node]:
        """The entries of this list, of which there are `least` to `most`."""
        if not isinstance(self.value, list) or len(self.value) < least or (most and len(self.value) > most):
            count = f"{least}" if most == least else f"at least {least}"
            self.fail(f"a list of {count} entries")
        return (Node(entry, f"{self.where}[{index}]") for index, entry in enumerate(self.value))

    def text(self, empty: bool = False) -> str:
        """This text; an empty one or one of blanks only where `empty` allows it."""
        if not isinstance(self.value, str) or not (empty or self.value.strip()):
            self.fail("a text (quote it)" if empty else "a text that is not empty (quote it)")
        if not all(c.isprintable() or c == "\n" for c in self.value):
            self.fail("a text without control characters other than the line feed")
        return str(self.value)

    def choice(self, choices: Collection[str]) -> str:
        """This text, one of the choices."""
        if not isinstance(self.value, str) or self.value not in choices:
            self.fail(f"one of {listed(choices)}")
        return str(self.value)

    def number(self) -> Decimal:
        """This number as the decimal that was written."""
        expected = f"a number from -{LARGEST} to {LARGEST} with at most {MOST_DECIMALS} decimals"
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not abs(self.value) <= LARGEST:
            self.fail(expected)
        number = Decimal(repr(self.value))
        if number != round(number, MOST_DECIMALS):
            self.fail(expected)
        return number

    def integer(self, low: int = -LARGEST, high: int = LARGEST) -> int:
        """This whole number from low to high."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            self.fail(f"a whole number from {low} to {high}")
        return self.value

    def deviation(self) -> float:
        """This standard deviation, >= 0."""
        if (number := self.number()) < 0:
            self.fail("a standard deviation >= 0")
        return float(number)

    def pair(self) -> tuple[Node, Node]:
        """The two entries of this list."""
        first, second = self.items(2, 2)
        return first, second
