"""What the body of a response that is no answer says, in whatever form. Pure.

Providers put it in an `error`, in a list of them, in `detail`, in a message that is JSON itself, or behind the words of
a proxy; here it becomes one flat `Refusal`.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from cattune.annotation.assistant.endpoint.blotting import whole, without_masked, without_secret

MOST_SHOWN = 500
"""Characters of a server's message that are kept."""


_INSIDE = ("error", "errors", "message", "detail", "details", "innererror", "metadata", "raw", "response")
_CODES = ("code", "type", "status", "reason", "error_type", "error_code", "__type")
_TEXTS = ("message", "msg", "Message", "detail", "error", "error_message", "title", "raw")
_CODE_IN_WORDS = re.compile(r"(?:['\"](?:code|type|status|reason)\\?['\"]\s*:\s*\\?['\"]|litellm\.)([\w.-]+)")
"""Where a proxy quotes the error that it got, or names its own class for it."""
_QUOTED = re.compile(r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|`[^`]*`|“[^”]*”|«[^»]*»")
_WORD = re.compile(r"\w+")
_RUN = 4
"""So many words in a row are no chance."""
_MOST_QUOTED = 100_000
"""Characters of a quoted error that are read: it is in another one, which has a few thousand."""
WEB_PAGE = "a web page:"
_MOST_OF_A_PAGE = 4_000
_TITLE = re.compile(r"<title[^>]*>([^<]+)", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>?")
_PHRASES: dict[int, str] = {status.value: status.phrase for status in HTTPStatus}
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that is no answer, with what the server says about it, without secrets.

    Args:
        status: HTTP's, or the one that the body has in its place.
        code: of the error, for counting; "" where there is none.
        parameter: which is to blame, as the server says; "" where it does not.
        message: in words, at most `MOST_SHOWN` characters.
        codes: all codes, types and reasons of the body, without case and punctuation.
        wait_s: seconds to wait, where the body or the headers say so.
        words: the message without what it repeats of the request: those words are the text's, and not the server's.
    """

    status: int
    code: str
    parameter: str
    message: str
    codes: frozenset[str] = frozenset()
    wait_s: float | None = None
    words: str = ""


def read_refusal(status: int, body: object, secret: str, wait_s: float | None = None, sent: str = "") -> Refusal:
    """What the body of a response that is no answer says.

    Args:
        status: HTTP's.
        body: its JSON, or its text.
        secret: the key, to be blotted out.
        wait_s: what the headers ask to wait.
        sent: the text that the request was about.
    """
    levels = list(_levels(body))
    said = "; ".join(dict.fromkeys(filter(None, map(_said, levels))))
    if not said:
        said = in_words(body) if isinstance(body, str) else as_words(body)
    said = " ".join(without_secret(whole(said), secret).split()) or _PHRASES.get(status, "")
    shown = without_masked(said[: 2 * MOST_SHOWN], secret)[:MOST_SHOWN]
    codes = [name for level in levels for name in _codes(level)] + _CODE_IN_WORDS.findall(said)
    code = next((as_words(level["code"]) for level in levels if level.get("code")), "")
    parameter = next(filter(None, map(_parameter, levels)), "")
    if wait_s is None:
        wait_s = next((float(found[1]) for level in levels if (found := _DELAY.fullmatch(_delay(level)))), None)
    return Refusal(
        status,
        without_secret(code, secret)[:100],
        without_secret(parameter, secret)[:100],
        shown,
        frozenset(map(plain, codes)),
        wait_s,
        _own_words(shown, sent),
    )


def _own_words(message: str, sent: str) -> str:
    """A message without what is in quotes, and without runs of words that were sent."""
    message = _QUOTED.sub("''", message)
    text = f" {' '.join(_WORD.findall(sent.lower()))} "
    found = list(_WORD.finditer(message))
    for i in range(len(found) - _RUN + 1):
        run = found[i : i + _RUN]
        if f" {' '.join(word[0].lower() for word in run)} " in text:
            start, end = run[0].start(), run[-1].end()
            message = message[:start] + " " * (end - start) + message[end:]
    return message


def _levels(value: object, depth: int = 6) -> Iterator[Mapping[str, object]]:
    """The objects of an error, from the outermost: out of lists, and out of strings that hold JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = _quoted(value)
    if depth and isinstance(value, list):
        for item in value[:5]:
            yield from _levels(item, depth - 1)
    elif depth and isinstance(value, Mapping):
        yield value
        for name in _INSIDE:
            yield from _levels(value.get(name), depth - 1)


def _said(level: Mapping[str, object]) -> str:
    """What one object says in words."""
    for name in _TEXTS:
        text = level.get(name)
        if isinstance(text, str) and text.strip() and isinstance(_quoted(text), str):
            place = _parameter(level) if "loc" in level else ""
            return f"{place}: {text}" if place else text
    return ""


def _codes(level: Mapping[str, object]) -> Iterator[str]:
    for name in _CODES:
        if isinstance(code := level.get(name), str):
            yield code[:200]
    if "flagged_input" in level or "content_filter_result" in level:
        yield "flagged"


def _parameter(level: Mapping[str, object]) -> str:
    parameter, place = level.get("param"), level.get("loc")
    if isinstance(place, list | tuple):
        return ".".join(whole(str(part)) for part in place[:8] if part != "body")
    return as_words(parameter) if parameter else ""


def _delay(level: Mapping[str, object]) -> str:
    delay = level.get("retryDelay")
    return delay if isinstance(delay, str) else ""


def plain(name: str) -> str:
    """A name without case and punctuation: providers write `rate_limit_exceeded` and `RateLimitExceeded`."""
    return "".join(filter(str.isalnum, name.lower()))


def parsed(body: str) -> object:
    """The JSON of a body, or the body itself where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _quoted(text: str) -> object:
    """What a server quotes, as JSON or as Python writes it; the text itself where that is neither."""
    if text.lstrip()[:1] not in ("{", "[") or len(text) > _MOST_QUOTED:
        return text
    if not isinstance(value := parsed(text), str):
        return value
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in it
            return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return text


def in_words(body: str) -> str:
    """A body that is no JSON: of a web page its title, or what it says."""
    if body.lstrip()[:1] != "<":
        return body
    start = body[:_MOST_OF_A_PAGE]
    title = _TITLE.search(start)
    return f"{WEB_PAGE} {' '.join((title[1] if title else _TAG.sub(' ', start)).split())}"


def as_words(said: object) -> str:
    """What a server says, as text: as it is, or as JSON where it is something else."""
    if isinstance(said, str):
        return whole(said)
    try:
        return whole(json.dumps(said, ensure_ascii=False, default=str))
    except RecursionError:
        return "JSON that is nested too deeply"
