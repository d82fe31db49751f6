"""How long something took or will take, in words."""

from __future__ import annotations

import math


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
