"""An answer in a stream of events, which some gateways send although none was asked for. Pure."""

from __future__ import annotations

import json
from typing import Any

_BEGINS = ("data:", "event:", "id:", "retry:", ":")
_DONE = "[DONE]"


def is_stream(body: str) -> bool:
    """Whether a body is a stream of events."""
    return body.lstrip()[:10].startswith(_BEGINS)


def joined(body: str) -> dict[str, Any]:
    """The chat completion whose pieces a stream has; or its event that says that something went wrong.

    Raises:
        ValueError: an event is no JSON, or the stream ends before the answer does.
        KeyError, TypeError, AttributeError: an event is no piece of a chat completion.
    """
    content: list[str] = []
    reason = usage = None
    is_done = False
    for line in body.split("\n"):
        name, _, data = line.partition(":")
        if name.strip() != "data" or not data.strip():
            continue
        if data.strip() == _DONE:
            is_done = True
            break
        event = json.loads(data)
        if event.get("error"):
            return {"error": event["error"]}
        usage = event.get("usage") or usage
        for choice in (event.get("choices") or ())[:1]:
            piece = choice.get("delta") or choice.get("message") or {}
            content.append(piece.get("content") or "")
            reason = choice.get("finish_reason") or reason
    if not content or (reason is None and not is_done):
        raise ValueError("the stream ends before the answer does")
    message = {"role": "assistant", "content": "".join(content)}
    return {"choices": [{"message": message, "finish_reason": reason}], "usage": usage}
