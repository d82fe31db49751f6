"""Examples of a file, while a bar tells how many of them have been taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cattune.cli.progress import Update, followed

if TYPE_CHECKING:
    from cattune.data.examples import Example


def followed_examples(path: str, update: Update, bar: str, occurrences: str = "context") -> Iterator[Example]:
    """As `loading.iter_examples`; errors of the file's first line come at once."""
    from cattune.data.lines import numbered_lines
    from cattune.formats.loading import iter_examples

    # What a pipe gives is there only once, so how much it will be is not known.
    total = sum(1 for _ in numbered_lines(path)) if os.path.isfile(path) else 0
    return followed(iter_examples(path, occurrences), update, bar, "examples", total)
