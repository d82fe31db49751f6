r"""The numbers that a plain text holds, as exact rationals; `notation.plain` makes a text plain.

What is one number:

- `84`, `084`, `84.0`, `.5`, `8.4e1`, `5 x 10^3`, `10^3`; `3/4`, `1 1/2` and `1 and 1/2` (a fraction below one after a
  whole number adds to it).
- Digits in groups of three, set off by commas, apostrophes or blanks (`7,200`, `7 200`: ISO 80000-1 asks for blanks),
  or as in India (`1,00,000`); a comma that groups nothing separates numbers, and so does a blank in a longer list.
- A minus sign (hyphen, U+2212 or en dash) counts where it touches its number or the number's currency sign and follows
  no digit, letter, `)`, `%` or `.`: `10-3` ends in 3, `= -3` in -3.
- Currency, percent signs and units are not read: `$ 5` is 5, and `12%` is 12, not 0.12.

What is none, although it has digits: an exponent or a number with one, an index, digits that end a word (`x_1`, `x1`,
`H2O`), what stands under a root or after a lone `/`, a multiple of pi or of a root, a time, ratio, date or version
(`12:30`, `3:4`, `10/12/2024`, `1.2.3`), a decimal comma after grouping dots (`1.234,50`), anything divided by zero,
digits other than ASCII's, words, and more than `MAX_DIGITS` digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from cattune.evaluation.notation import OPAQUE

MAX_DIGITS = 10_000
"""Python reads digits in time that grows with the square of their number: a million would take half a minute."""

MAX_EXPONENT_DIGITS = 3

_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]{1,3}(?:['\u2019][0-9]{3})+"
_SPACED = r"(?<![0-9][ ])[0-9]{1,3}(?:[ ][0-9]{3})+(?![ ]?[0-9]|/)"
_WHOLE = rf"(?>(?:{_GROUPED}|{_SPACED})(?![0-9])|[0-9]++)"
_DECIMAL = rf"(?:{_WHOLE}(?:\.[0-9]++)?|(?<![0-9A-Za-z.])\.[0-9]++)"
_CURRENCY = (
    r"(?:US)?[$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20ba\u20ab\u20b1\u20aa][ ]?"
    r"|\b(?:USD|EUR|GBP|JPY|CNY|INR|Rs)\.?[ ]?"
)

_LETTERS = r"A-Za-z\u0391-\u03c9"

_NO_NUMBER = r"""
    [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?![0-9])                 # a date
  | [0-9]++(?:/[0-9]++){2,}+ | [0-9]++(?::[0-9]++)++        # a date, a time, a ratio
  | [0-9]++(?:\.[0-9]++){2,}+(?:,[0-9]++)?                  # a version, or thousands set off by dots
  | [0-9]{1,3}\.[0-9]{3},[0-9]++(?!,)                       # a decimal comma
"""
_TOKEN = re.compile(
    rf"""
    (?P<other>
        {_NO_NUMBER}
      | (?<=[0-9A-Za-z)\]}}])_[ ]?[0-9]++                       # an index
      | \^[ ]?\(?[-+\u2212]?(?:[0-9.]++|[^\s])                  # an exponent
      | [\u221a\u00b1/][ ]?\(?[0-9.]++                          # under a root, a tolerance, a divisor of something else
      | (?<![0-9{_LETTERS}])(?!{_CURRENCY})[{_LETTERS}]++[0-9][0-9{_LETTERS}]*+     # x1, H2O
    )
    | (?P<minus>(?<![\w)%.\]}}])[-\u2212\u2013])?
    (?:(?:{_CURRENCY})(?P<after>[-\u2212\u2013])?)?             # $5, $-5
    (?!{_NO_NUMBER})
    (?:
        (?P<whole>{_WHOLE})(?:[ ]|[ ]and[ ])
        (?P<part>[0-9]{{1,9}})/(?P<parts>(?!0+(?![0-9]))[0-9]{{1,9}})(?![0-9]|[.,:/][0-9])
      | (?:(?P<mantissa>{_DECIMAL})[ ]?[x\u00d7*\u00b7][ ]?)?10\^(?P<power>[-+]?[0-9]++)
      | (?P<top>{_DECIMAL})
        (?:[eE](?P<exponent>[-+\u2212]?[0-9]++)(?![A-Za-z]) | [ ]?/[ ]?(?P<bottom>{_DECIMAL}))?
    )
    (?=(?P<factor>[ ]?\.?[\^\u03c0\u221a{OPAQUE}]|_[ ]?[0-9{{])|)   # only looked at: what follows is read by itself
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Number:
    """Something in a text that is written as a number.

    Args:
        start: where it begins, sign and currency included.
        end: where it ends.
        match: its parts.
    """

    start: int
    end: int
    match: re.Match[str]

    def value(self) -> Fraction | None:
        """The number; None where the digits state none (a power, a multiple of pi, a division by zero, too many)."""
        parts = self.match.groupdict()
        power = parts["power"] or parts["exponent"] or "0"
        if parts["factor"] or self.end - self.start > MAX_DIGITS or len(power.lstrip("-+\u2212")) > MAX_EXPONENT_DIGITS:
            return None
        size: Fraction | None
        if parts["whole"]:
            size = _mixed(parts["whole"], int(parts["part"]), int(parts["parts"]))
        else:
            top, bottom = _exact(parts["top"] or parts["mantissa"] or "1"), _exact(parts["bottom"] or "1")
            size = top / bottom if bottom else None
        if size is None:
            return None
        size *= Fraction(10) ** int(power.replace("\u2212", "-"))
        return -size if bool(parts["minus"]) != bool(parts["after"]) else size


def numbers(text: str) -> Iterator[Number]:
    """What is written as a number in a plain text, in reading order; takes time linear in the text."""
    for match in _TOKEN.finditer(text):
        if match["other"] is None:
            yield Number(match.start(), match.end(), match)


def _mixed(whole: str, part: int, parts: int) -> Fraction:
    """`1 1/2` is 3/2; `1 5/2` is no mixed number but two numbers, of which the last counts."""
    return Fraction(part, parts) + (_exact(whole) if part < parts else 0)


def _exact(digits: str) -> Fraction:
    # Through Decimal, because int() refuses more than 4300 digits.
    return Fraction(Decimal(re.sub("[, '\u2019]", "", digits)))
