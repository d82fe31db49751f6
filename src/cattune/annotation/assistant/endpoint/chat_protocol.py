"""What an OpenAI-compatible chat endpoint says: answers, and how long to wait. Pure: nothing is sent here.

What it means when one refuses is in `refusals`.
"""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cattune.annotation.assistant.endpoint.blotting import whole, without_secret
from cattune.annotation.assistant.endpoint.error_body import Refusal, as_words, in_words, parsed, read_refusal
from cattune.annotation.assistant.endpoint.event_stream import is_stream, joined
from cattune.annotation.assistant.endpoint.refusals import Meaning, is_out_of_money, is_retried, meaning, refuses_format

__all__ = [
    "LENGTH",
    "REFUSED",
    "STOPPED",
    "ChatReply",
    "BadPayload",
    "Refusal",
    "is_out_of_money",
    "is_retried",
    "parsed",
    "read_chat_reply",
    "read_refusal",
    "refuses_format",
    "retry_after",
    "without_secret",
]

STOPPED, LENGTH, REFUSED = "stop", "length", "refusal"
"""Finish reasons that are told apart; servers have others, which count as `STOPPED`."""

_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_DECLINED = frozenset(
    {"content_filter", "refusal", "safety", "prohibited_content", "recitation", "blocklist", "spii", "sensitive"}
    | {"guardrail_intervened", "content_filtered"}
)
_BROKEN = frozenset({"error", "abort", "network_error", "insufficient_system_resource"})
"""Finish reasons as servers name them; after the last ones the same request may succeed."""
_NAME = re.compile(r"\w+")

_THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning", "thought"})
"""Types of a message's parts that are no part of the reply."""

LONGEST_WAIT_S = 24 * 3600.0


class BadPayload(ValueError):
    """A body that is not what the protocol says."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A model's answer to one request.

    Args:
        text: what it wrote, "" where nothing.
        finish_reason: `LENGTH` where it was cut off, `REFUSED` where it or a filter declined, else `STOPPED`.
        prompt_tokens: billed, or None where the server does not say.
        completion_tokens: likewise.
    """

    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


def read_chat_reply(body: str, secret: str = "") -> ChatReply | Refusal:
    """The answer in the body of a successful response; or the refusal that some servers send with a status of success.

    The text is the message's content; where that is empty, the arguments of its tool call, which some servers make of
    a form; where there is none either, what the model thought, which some take for all that it wrote.

    Args:
        body: as it came.
        secret: the key, to be blotted out.

    Raises:
        BadPayload: it is not JSON, or holds no choice.
    """
    try:
        payload = joined(body) if is_stream(body) else json.loads(body)
        if isinstance(payload, dict | list) and (refusal := _refusal(payload, secret)) is not None:
            return refusal
        choice = payload["choices"][0]
        named = choice.get("finish_reason")
        reasons = frozenset(_NAME.findall(named.lower()) if isinstance(named, str) else ())
        message = choice["message"] if reasons.isdisjoint(_CUT | _DECLINED) else choice.get("message") or {}
        text, declined = _text(message.get("content")), message.get("refusal")
        if "{" not in text and not declined:
            text = _arguments(message) or text.strip() or _end_of_thought(message)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise BadPayload(_what_else(without_secret(body, secret))) from None
    if broken := reasons & _BROKEN:
        raise BadPayload(f"the reply was broken off ({', '.join(broken)})")
    if declined and not text.strip():
        text, reasons = as_words(declined), _DECLINED
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ChatReply(
        without_secret(whole(text), secret),
        LENGTH if reasons & _CUT else REFUSED if reasons & _DECLINED else STOPPED,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
    )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The seconds that a server asks to wait, from its `retry-after-ms` or `Retry-After`, as seconds or as a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(value).timestamp() - (time.time() if now is None else now)
            except (TypeError, ValueError, OverflowError):
                continue
        if not math.isnan(seconds):
            return min(max(0.0, seconds), LONGEST_WAIT_S)
    return None


def _what_else(body: str) -> str:
    """What a body is that is no chat completion."""
    start = body.lstrip()[:200]
    if not start:
        return "the body is empty"
    if is_stream(start):
        return f"the body is a stream of events that is none of an answer, or is cut off: {start!r}"
    if start.startswith("<"):
        return f"the body is {in_words(body)[:200]}"
    return f"the body is no chat completion: {start!r}"


def _refusal(payload: Any, secret: str) -> Refusal | None:
    """An error in the place of choices, or of the first choice."""
    if isinstance(payload, list):
        payload = payload[0] if payload and isinstance(payload[0], dict) else {}
    choices = payload.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    error = choice.get("error") if choice else payload.get("error")
    if not error and "choices" not in payload:
        texts = (payload.get(name) for name in ("detail", "message", "msg"))
        error = next((text for text in texts if isinstance(text, str)), None)
    if not error:
        return None
    code = str(error.get("code") if isinstance(error, dict) else None)
    if code.isdecimal() and 400 <= int(code[:4]) < 600:
        return read_refusal(int(code), {"error": error}, secret)
    refusal = read_refusal(400, {"error": error}, secret)
    status = {Meaning.OTHER: 500, Meaning.WAIT: 429}.get(meaning(refusal), 400)
    return replace(refusal, status=status)


def _arguments(message: Any) -> str:
    """What a message hands to tools: models that are trained on these may answer so, beside some words or none."""
    calls = message.get("tool_calls")
    calls = calls if isinstance(calls, list) and calls else [{"function": message.get("function_call")}]
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    given = (function.get("arguments") for function in functions if isinstance(function, dict))
    return "\n".join(as_words(arguments) for arguments in given if arguments)


def _end_of_thought(message: Any) -> str:
    """A thought that ends with JSON: the server took the reply for a part of it. What goes on may have rejected it."""
    thoughts = (message.get("reasoning_content"), message.get("reasoning"))
    text = next((text for text in thoughts if isinstance(text, str) and text.strip()), "")
    return text if text.rstrip("` \t\r\n").endswith("}") else ""


def _text(content: Any) -> str:
    """The text of a message, which some servers give in parts; a part that is a thought is none."""
    if isinstance(content, list):
        said = [part for part in content if isinstance(part, str) or part.get("type") not in _THOUGHTS]
        texts = (part if isinstance(part, str) else part.get("text") for part in said)
        return "".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        raise TypeError
    return content or ""


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_count else None
