"""The command line: `main` finds the command, and each command has a module of its own."""

import sys  # no `from __future__ import annotations`: it would stand where the module `annotations` does


def printable(text: str) -> str:
    """The text with its control characters, which an example's id may hold, made visible; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def say(message: str) -> None:
    """Tell the user something on standard error, after what standard output has so far."""
    sys.stdout.flush()
    print(printable(message), file=sys.stderr, flush=True)
