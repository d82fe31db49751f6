"""`cattune annotate`: an assistant model names the causal links of a file's examples."""

from __future__ import annotations

import argparse
from typing import Any

from cattune.cli.annotate_options import add_options


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    add_options(subparsers).set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Annotate; 0 where every example has a usable reply, 1 where some failed or the run was stopped."""
    from cattune.cli.annotate_run import annotate  # imports pydantic and more, which `cattune --help` does not need

    return annotate(args)
