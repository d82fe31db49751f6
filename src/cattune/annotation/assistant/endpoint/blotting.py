"""Keeps the key out of all that is stored and shown, however a server writes it."""

from __future__ import annotations

import re
from functools import lru_cache

SHORTEST = 8
"""A shorter key is none: servers of one's own take words such as `none`, which texts have too."""


def without_secret(text: str, secret: str) -> str:
    """The text with the key blotted out: as it is, in JSON's escapes (also of JSON in JSON), or in a URL's."""
    if len(secret) < SHORTEST:
        return text
    text = text.replace(secret, "***")
    return _escaped(secret).sub("***", text) if "\\" in text or "%" in text else text


def without_masked(text: str, secret: str) -> str:
    """The text without the parts of the key that a server shows: `sk-ab***yz`, `sk-ab...yz`, `****wxyz`."""
    return text if len(secret) < SHORTEST else _masked(secret).sub("***", text)


@lru_cache(maxsize=4)
def _masked(secret: str) -> re.Pattern[str]:
    first, last = re.escape(secret[:2]), re.escape(secret[-3:])
    hidden = r"(?:\*{2,}|\.{3,}|…|x{4,}|X{4,})"
    return re.compile(rf"(?<![\w-]){first}[\w-]*?{hidden}[\w-]*|{hidden}[\w-]{{0,8}}{last}(?![\w-])")


@lru_cache(maxsize=4)
def _escaped(secret: str) -> re.Pattern[str]:
    def character(c: str) -> str:
        code = f"(?i:{ord(c):02x})"
        return rf"(?:\\{{0,8}}{re.escape(c)}|\\{{1,8}}(?:u00|x){code}|%{code})"

    return re.compile("".join(map(character, secret)))


def whole(text: str) -> str:
    """The text with '?' for each half of a surrogate pair: that is no character, and no store or terminal takes it."""
    return text.encode(errors="replace").decode()
