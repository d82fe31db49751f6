"""Errors that are the user's to mend.

Every message says what was got, what was expected, where (file, line, example id, field) and what to do. The command
line prints the message without a traceback and exits with status 2.
"""


class CattuneError(ValueError):
    """Something in the user's input, configuration or surroundings is wrong; the message says how to mend it."""


class DataError(CattuneError):
    """An input file, a record or an example is not what the format asks for."""


class AlignmentError(CattuneError):
    """Text, tokens and causal links do not fit together (no offsets, no aligned link, a template that hides text)."""


class ConfigError(CattuneError):
    """A setting is unknown, out of range, or would train nothing."""


class OutputError(CattuneError):
    """An output path already holds results, or cannot be written."""
