"""What the pages have in common: one self-contained file, no script, no network, light and dark."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from cattune.reports.terminal import percent


def render_page(
    template: str, made_by: Mapping[str, Any], filters: Mapping[str, Callable[..., str]] | None = None, **data: Any
) -> str:
    """A page, as text for a UTF-8 file; every text of the data is escaped.

    Args:
        template: its name; it is given the style sheet and all of `made_by` as `style` and `provenance_json`.
        made_by: the provenance.
        filters: those that this page has beside `percent` and `visible`.
        data: what the template shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cattune.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, visible=visible, **filters or {})
    style, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    provenance = json.dumps(made_by, ensure_ascii=False, indent=2, default=str)
    page = environment.get_template(template).render(style=style, provenance_json=provenance, **data)
    return page.encode("utf-8", "backslashreplace").decode()  # half of a surrogate pair has no UTF-8


def visible(text: str) -> str:
    r"""A token's text without the space at either end, and with a sign for each character that cannot be seen.

    Example:
        >>> visible(" hats"), visible(" "), visible("\n"), visible("")
        ('hats', '␣', '⏎', '∅')
    """
    inner = text.removeprefix(" ").removesuffix(" ")
    return "".join(map(_visible, inner)) if inner.strip(" ") else "␣" * len(text) or "∅"


def _visible(character: str) -> str:
    if character in "\n\t":
        return "⏎" if character == "\n" else "⇥"
    if ord(character) < 32:
        return chr(0x2400 + ord(character))  # its picture
    # Joiners belong to the spelling of words and emoji; what turns the direction of a text would turn the page's.
    hidden = unicodedata.category(character) in ("Cc", "Cf") and character not in "\u200c\u200d"
    return "�" if hidden else character
