"""The option that gives variables to a chat template."""

from __future__ import annotations

import argparse
from typing import Any

from cattune.data.examples import check_template_kwargs
from cattune.errors import CattuneError
from cattune.wording import shown


def add_template_option(parser: argparse.ArgumentParser) -> None:
    """Add `--chat-template-kwargs` to a command's parser."""
    parser.add_argument(
        "--chat-template-kwargs",
        type=_mapping,
        metavar="YAML",
        help="variables for the chat template, as in training: '{enable_thinking: false}'",
    )


def _mapping(text: str) -> dict[str, Any]:
    from cattune.data.yaml_text import load_yaml

    where = shown(text)
    try:
        value = load_yaml(text, where)
        check_template_kwargs(value, where)
    except CattuneError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return dict(value)
