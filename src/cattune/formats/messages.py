"""Conversations: `{"messages": [{"role": .., "content": ..}, ..]}`, in this library's schema and as TRL reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.formats.prompt_completion import PromptCompletion


class Messages(PromptCompletion):
    """Read as prompt and completion are, so that one file may hold both."""

    name = "messages"
    keys = ("messages",)

    def recognises(self, record: Mapping[str, Any]) -> bool:
        """With a schema or without."""
        return "messages" in record


FORMAT = Messages()
