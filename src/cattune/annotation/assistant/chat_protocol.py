"""What an OpenAI-compatible chat endpoint says: replies, refusals, and how long to wait. Pure: nothing is sent here."""

from __future__ import annotations

import email.utils
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STOPPED, LENGTH, REFUSED = "stop", "length", "refusal"
"""Finish reasons that are told apart; servers have others, which count as `STOPPED`."""

FORMATS = ("json_schema", "json_object", "none")
"""Ways to ask for JSON, from the strictest; servers have the first, the second or neither."""

RETRIED = frozenset({408, 409, 429})
"""Statuses, beside 5xx, after which the same request may succeed."""

LONGEST_WAIT_S = 24 * 3600.0


class BadPayload(ValueError):
    """A body that is not what the protocol says."""


@dataclass(frozen=True, slots=True)
class Answer:
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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status that is no success, with what the server says about it, without secrets."""

    status: int
    code: str
    parameter: str
    message: str


def read_answer(body: str) -> Answer:
    """The answer in the body of a successful response.

    Raises:
        BadPayload: it is not JSON, or holds no choice.
    """
    try:
        payload = json.loads(body)
        choice = payload["choices"][0]
        message = choice["message"]
        text, refusal = _text(message.get("content")), message.get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise BadPayload(f"the body is no chat completion ({type(error).__name__}): {body[:200]!r}") from None
    reason = choice.get("finish_reason")
    if refusal and not text:
        text, reason = _words(refusal), "content_filter"
    known = {"length": LENGTH, "content_filter": REFUSED}
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        whole(text),
        known.get(reason, STOPPED) if isinstance(reason, str) else STOPPED,
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
    )


def read_refusal(status: int, body: object, secret: str) -> Refusal:
    """What the body of a response that is no success says."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    fields = error if isinstance(error, Mapping) else {"message": error}
    said = fields.get("message") or fields.get("detail") or fields
    code, parameter = (_words(fields.get(name) or "")[:100] for name in ("code", "param"))
    return Refusal(status, code, parameter, without_secret(" ".join(_words(said).split())[:500], secret))


def parsed(body: str) -> object:
    """The JSON of a body, or the body itself where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def is_retried(status: int) -> bool:
    """Whether a request that got this status may succeed later."""
    return status in RETRIED or status >= 500


def refuses_format(refusal: Refusal) -> bool:
    """Whether the server says that it does not have the way that was chosen to ask for JSON."""
    said = f"{refusal.parameter} {refusal.message}".lower()
    words = ("response_format", "json_schema", "json_object", "structured output", "guided", "grammar")
    return refusal.status in (400, 404, 415, 422, 500, 501) and any(word in said for word in words)


def is_out_of_money(refusal: Refusal) -> bool:
    """Whether waiting does not help: the account has no credit or quota left."""
    said = f"{refusal.code} {refusal.message}".lower()
    return refusal.status == 402 or any(word in said for word in ("insufficient_quota", "billing"))


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


def without_secret(text: str, secret: str) -> str:
    """The text with the key blotted out."""
    return text.replace(secret, "***") if len(secret) > 3 else text


def whole(text: str) -> str:
    """The text with '?' for each half of a surrogate pair: that is no character, and no store or terminal takes it."""
    return text.encode(errors="replace").decode()


def _words(said: object) -> str:
    """What a server says, as text: as it is, or as JSON where it is something else."""
    if isinstance(said, str):
        return whole(said)
    try:
        return whole(json.dumps(said, ensure_ascii=False, default=str))
    except RecursionError:
        return "JSON that is nested too deeply"


def _text(content: Any) -> str:
    """The text of a message, which some servers give in parts."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError
    return content or ""


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53
    return value if is_count else None
