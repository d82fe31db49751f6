"""Errors that are the user's to fix.

Every message says what was got, what was expected, where (file, line, example id, field) and what to do. The command
line prints the message without a traceback and exits with the error's `exit_status`.
"""

LONGEST = 1000
"""Characters of the longest message; what a message quotes is cut where it is quoted, see `cattune.wording.shown`."""

_KEPT_BEFORE, _KEPT_BEHIND = 640, 300


def bounded(message: str) -> str:
    """The message, without its middle where it is longer than `LONGEST`: what is wrong comes first, the advice last."""
    if len(message) <= LONGEST:
        return message
    left_out = len(message) - _KEPT_BEFORE - _KEPT_BEHIND
    return f"{message[:_KEPT_BEFORE]} [... {left_out} characters ...] {message[-_KEPT_BEHIND:]}"


class CattuneError(ValueError):
    """Something in the user's input, configuration or surroundings is wrong; the message says how to fix it."""

    exit_status = 2

    def __init__(self, message: str = "") -> None:
        super().__init__(bounded(message))


class DataError(CattuneError):
    """An input file, a record or an example is not what the format asks for."""


class AlignmentError(CattuneError):
    """Text, tokens and causal links do not fit together (no offsets, no aligned link, a template that hides text)."""


class ConfigError(CattuneError):
    """A setting is unknown, out of range, or would train nothing."""


class OutputError(CattuneError):
    """An output path already holds results, or cannot be written."""


class RunError(CattuneError):
    """The call was right, but the work failed under way (a full disk); the message says how to go on."""

    exit_status = 1
