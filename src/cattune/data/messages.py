"""Messages of a record, and what it gives to the chat template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.data.examples import MESSAGE_KEYS, Message
from cattune.data.fields import from_json, is_list, mapping, rows_of, text_of
from cattune.errors import DataError
from cattune.wording import shown

TEMPLATE_KEYS = ("chat_template_kwargs", "tools")
"""What the record of a conversation may give to the chat template."""

_CALLS = ("tool_calls", "function_call", "tool_call_id")


def read_messages(value: Any, where: str) -> tuple[Message, ...]:
    """The messages of a list, each checked."""
    value = rows_of(value)
    if not is_list(value) or not value:
        raise DataError(f"{where}: expected text, or a list of messages that is not empty, got {shown(value)}")
    return tuple(_message(message, f"{where}, message {i}") for i, message in enumerate(value))


def _message(value: Any, where: str) -> Message:
    given = mapping(value, where, (*MESSAGE_KEYS, *_CALLS))
    for key in _CALLS:
        if given.pop(key, None):
            raise DataError(
                f"{where}: {key!r} is not supported: a call is no text that a link could name, and each chat template "
                "writes it in a form of its own; leave the example out, or write the call into 'content' as the model "
                "is to write it"
            )
    optional = {key: text_of(given, key, where) for key in ("name", "reasoning_content") if key in given}
    weight = _weight(given["weight"], where) if "weight" in given else None
    return Message(text_of(given, "role", where), _said(given, where), weight=weight, **optional)


def _said(message: Mapping[str, Any], where: str) -> str:
    """A message's content; text in parts, as OpenAI's format also has it, is joined."""
    parts = message.get("content")
    if not is_list(parts):
        return text_of(message, "content", where)
    texts = []
    for part in parts or ():
        given = part if isinstance(part, Mapping) else {}
        if given.get("type") != "text" or not isinstance(given.get("text"), str):
            raise DataError(
                f"{where}: a part of 'content' is {shown(part)}; expected {{'type': 'text', 'text': ..}}, since only "
                "text is trained on"
            )
        texts.append(given["text"])
    return "".join(texts)


def _weight(value: Any, where: str) -> int:
    if isinstance(value, bool) or value not in (0, 1):
        raise DataError(
            f"{where}: 'weight' is {shown(value)}; expected 1, or 0 for an answer that is not to be learned"
        )
    return int(value)


def read_template_kwargs(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Variables for the chat template; `tools`, which may stand beside them as in TRL, is one of them."""
    given = {key: from_json(record[key], key, where) for key in TEMPLATE_KEYS if key in record}
    kwargs = given.get("chat_template_kwargs", {})
    if not isinstance(kwargs, Mapping):
        raise DataError(f"{where}: 'chat_template_kwargs' must be a mapping, got {shown(kwargs)}")
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    if given.get("tools"):
        if "tools" in kwargs:
            raise DataError(f"{where}: 'tools' stand both beside 'chat_template_kwargs' and in it; keep one")
        kwargs["tools"] = given["tools"]
    tools = kwargs.get("tools", [])
    if not is_list(tools) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError(f"{where}: 'tools' must be a list of JSON schemas, got {shown(tools)}")
    return kwargs
