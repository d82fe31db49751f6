"""The option that gives variables to a chat template."""

from __future__ import annotations

import argparse
from typing import Any

from cattune.errors import DataError
from cattune.examples import check_template_kwargs


def add_template_option(parser: argparse.ArgumentParser) -> None:
    """Add `--chat-template-kwargs` to a command's parser."""
    parser.add_argument(
        "--chat-template-kwargs",
        type=_mapping,
        metavar="YAML",
        help="variables for the chat template, as in training: '{enable_thinking: false}'",
    )


def _mapping(text: str) -> dict[str, Any]:
    import yaml

    try:
        value = yaml.safe_load(text)
        check_template_kwargs(value, text)
    except (yaml.YAMLError, ValueError, RecursionError, DataError) as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())[:300]) from None
    return dict(value)
