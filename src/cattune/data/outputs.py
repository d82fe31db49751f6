"""Which files may be written, looked at before any work is done for them."""

from __future__ import annotations

import os
from collections.abc import Iterable

from cattune.errors import OutputError


def check_outputs(outputs: Iterable[str | None], inputs: Iterable[str | None], overwrite: bool) -> None:
    """See that the outputs can be written; None stands for one that was not named.

    Raises:
        OutputError: one is an input as well, exists and may not be replaced, is a folder, or is named twice.
    """
    read = {os.path.realpath(path) for path in inputs if path is not None}
    written: set[str] = set()
    for path in outputs:
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in read:
            raise OutputError(f"{path} is an input file, and would be overwritten; name another output")
        if place in written:
            raise OutputError(f"{path} is named for two outputs; give each a file of its own")
        if os.path.isdir(path):
            raise OutputError(f"{path} is a folder; name a file")
        if os.path.exists(path) and not overwrite:
            raise OutputError(f"{path} already exists; pass --overwrite, or choose another file")
        written.add(place)
