"""Values, numbers and times in words, for messages."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

_NAME = re.compile(r"[\w.\[\]-]{1,60}")


def shown(value: Any, limit: int = 60) -> str:
    """A value for an error message: its JSON, or else its type, cut to `limit` characters."""
    try:
        text = json.dumps(value[:limit] if isinstance(value, str) else value, ensure_ascii=False)
        text = text.encode(errors="backslashreplace").decode()
    except (TypeError, ValueError, RecursionError):
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(values: Iterable[Any], most: int = 8) -> str:
    """Values for an error message: the first so many, and how many more there are; names stand without quotes."""
    every = list(values)
    named = [value if isinstance(value, str) and _NAME.fullmatch(value) else shown(value) for value in every[:most]]
    return (", ".join(named) or "none") + (f" and {len(every) - most} more" if len(every) > most else "")


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun, and a verb where there is one: "1 example", "1,200 examples", "1 reply is"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def time_left(seconds: float) -> str:
    """A time to come, no more exact than it is known: "about 3 min left"."""
    if seconds < 55:
        return f"about {max(10, 10 * math.ceil(seconds / 10))} s left"
    if seconds < 5400:
        return f"about {math.ceil(seconds / 60 - 0.25)} min left"
    hours = seconds / 3600
    return f"about {hours:.0f} h left" if hours < 48 else f"about {hours / 24:.0f} days left"


def time_taken(seconds: float) -> str:
    """A time that has passed: "9.1 s", "4 min 5 s", "3 h 20 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
