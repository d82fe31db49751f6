"""The command line: `main` finds the command, and each command has a module of its own."""


def printable(text: str) -> str:
    """The text with its control characters, which an example's id may hold, made visible; line ends and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
