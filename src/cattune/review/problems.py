"""What can go wrong while a file is under review, beyond the errors of `cattune.errors`."""

from __future__ import annotations

from cattune.errors import CattuneError, OutputError


class Stale(CattuneError):
    """An edit was made on a version of an example that is not the newest one."""


class FileChanged(OutputError):
    """The file on disk is not the one that was read, so it is neither shown as such nor overwritten."""
