"""An example as a record of this library's JSONL schema, and back.

A record is `{"schema": "cattune/1", "id": .., "prompt": .., "completion": .., "links": [..], "refused": [..],
"metadata": {..}}`, or has `"messages": [{"role": .., "content": ..}, ..]` instead of prompt and completion, and then
perhaps `"chat_template_kwargs": {..}`. A message may also have `name`, `weight` and `reasoning_content`. A link is
`{"effect": SPAN, "causes": [SPAN, ..], "weight": 1.0, "source": ".."}`, and a SPAN is `{"field": .., "start": ..,
"end": .., "text": ..}`. A link may also have `method`, `score` and `status`, written where they are not the defaults of
`CausalLink`, and an entry of `refused` the `link` that was rejected. The text of a span is there for people; where it
is given it must be what the span covers, which catches positions that count bytes or UTF-16 units.

Records without `schema` are plain prompt-completion or conversational data, such as TRL reads; there, prompt and
completion may be lists of messages, and keys that the schema does not know become metadata.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from cattune.data.examples import SCHEMA, CausalLink, Example, Message, RefusedLink, Span
from cattune.data.fields import Place, at_place, from_json, list_of, mapping, text_of
from cattune.data.jsonl import number_text
from cattune.data.messages import TEMPLATE_KEYS, read_messages, read_template_kwargs
from cattune.errors import DataError
from cattune.wording import listed, shown

READABLE_SCHEMAS = (SCHEMA,)
"""The schema versions that this release reads."""

_LINK_KEYS = ("effect", "causes", "weight", "source", "method", "score", "status")
_USUAL = {"method": "exact", "score": 1.0, "status": "proposed"}  # the defaults of `CausalLink`
_SPAN_KEYS = ("field", "start", "end", "text")
_KEYS = frozenset({"schema", "id", "prompt", "completion", "messages", "links", "refused", "metadata"})


def example_to_dict(example: Example) -> dict[str, Any]:
    """The record of an example; `example_from_dict` gives an equal example back.

    Raises:
        DataError: The metadata hold what JSON cannot.
    """
    record: dict[str, Any] = {"schema": SCHEMA, "id": example.id}
    if example.messages:
        record["messages"] = [turn.to_dict() for turn in example.messages]
    else:
        record |= {"prompt": example.prompt, "completion": example.completion}
    record["links"] = [_link_to_dict(example, link) for link in example.links]
    if example.refused:
        record["refused"] = [_refused_to_dict(example, refusal) for refusal in example.refused]
    for key in ("chat_template_kwargs", "metadata"):
        if value := getattr(example, key):
            try:
                record[key] = _json_value(value)
            except (TypeError, RecursionError) as error:
                name = shown(example.id)
                raise DataError(f"example {name}: the {key} cannot be written as JSON: {error}") from None
    return record


def example_from_dict(record: Mapping[str, Any], where: str = "record", default_id: str | None = None) -> Example:
    """Make an example of a record.

    Args:
        record: as described above; a key with the value None counts as absent, as `datasets` fills records up so.
        where: the place of the record, for error messages ("data.jsonl, line 3").
        default_id: the id of a record that has none.

    Raises:
        DataError: The record is of another schema version, lacks a field or has one of a wrong type, or a link does
            not fit the text.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: expected a mapping, got {shown(record)}")
    given = {key: value for key, value in record.items() if value is not None}
    schema = given.get("schema")
    if schema is not None and schema not in READABLE_SCHEMAS:
        raise DataError(
            f"{where}: the schema is {shown(schema)}; this release of cattune reads {', '.join(READABLE_SCHEMAS)}"
        )
    name = record_id(given, ("id",), where, default_id)
    inside = f"{where}, example {shown(name)}"
    prompt, completion, messages = _content(given, inside)
    texts: list[tuple[Span, str]] = []
    links = [_link(link, (inside, "links", i), texts) for i, link in enumerate(list_of(given, "links", inside))]
    refused = [
        _refused(item, (inside, "refused", i), texts) for i, item in enumerate(list_of(given, "refused", inside))
    ]
    metadata = _metadata(given, bool(messages), inside)
    kwargs = read_template_kwargs(given, inside) if messages else {}
    try:
        example = Example(name, prompt, completion, messages, tuple(links), tuple(refused), metadata, kwargs)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    _check_texts(example, texts, inside)
    return example


def record_id(record: Mapping[str, Any], keys: Sequence[str], where: str, default: str | None) -> str:
    """The first of `keys` that the record has, as text, or else the default."""
    for key in keys:
        value = record.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            raise DataError(f"{where}: {key!r} must be a string that is not empty, or a number, got {shown(value)}")
        return value if isinstance(value, str) else number_text(value)
    if default is None:
        raise DataError(f"{where}: the record has no 'id'")
    return default


def _content(record: Mapping[str, Any], where: str) -> tuple[str | None, str | None, tuple[Message, ...]]:
    pair = [record.get(key) for key in ("prompt", "completion")]
    if "messages" in record:
        if pair != [None, None]:
            raise DataError(f"{where}: has both 'messages' and a prompt or completion; keep one of the two forms")
        return None, None, read_messages(record["messages"], f"{where}, field 'messages'")
    for key, value in zip(("prompt", "completion"), pair, strict=True):
        if value is None:
            found = listed(record)
            raise DataError(
                f"{where}: the field {key!r} is missing; expected 'prompt' and 'completion', or 'messages' (keys "
                f"found: {found})"
            )
    prompt, completion = pair
    if isinstance(prompt, str) and isinstance(completion, str):
        return prompt, completion, ()
    if isinstance(prompt, str) or isinstance(completion, str):
        raise DataError(f"{where}: 'prompt' and 'completion' must both be strings or both be lists of messages")
    turns = [
        read_messages(value, f"{where}, field {key!r}")
        for key, value in (("prompt", prompt), ("completion", completion))
    ]
    return None, None, turns[0] + turns[1]


def _link(value: Any, where: Place, texts: list[tuple[Span, str]]) -> CausalLink:
    """A link; those of its spans that say their text are added to `texts`, with that text."""
    link = mapping(value, where, _LINK_KEYS)
    effect = _span(link.get("effect"), (where, "effect"), texts)
    causes = [_span(cause, (where, "causes", i), texts) for i, cause in enumerate(list_of(link, "causes", where))]
    words = {key: text_of(link, key, where) for key in ("source", "method", "status") if key in link}
    numbers = {key: _number(link, key, where) for key in ("weight", "score") if key in link}
    try:
        return CausalLink(effect, tuple(causes), **words, **numbers)  # type: ignore[arg-type]
    except DataError as error:
        raise DataError(f"{at_place(where)}: {error}") from None


def _span(value: Any, where: Place, texts: list[tuple[Span, str]]) -> Span:
    given = mapping(value, where, _SPAN_KEYS)
    field = text_of(given, "field", where)
    start, end = _position(given, "start", where), _position(given, "end", where)
    try:
        span = Span(field, start, end)
    except DataError as error:
        raise DataError(f"{at_place(where)}: {error}") from None
    if "text" in given:
        texts.append((span, text_of(given, "text", where)))
    return span


def _position(span: Mapping[str, Any], key: str, where: Place) -> int:
    value = span.get(key)
    if type(value) is int:
        return value
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(
            f"{at_place(where)}.{key}: expected a whole number of code points, got {shown(value)}"
        ) from None


def _number(record: Mapping[str, Any], key: str, where: Place) -> float:
    value = record[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{at_place(where)}: {key!r} must be a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise DataError(f"{at_place(where)}: {key!r}: {error}") from None


def _refused(value: Any, where: Place, texts: list[tuple[Span, str]]) -> RefusedLink:
    refusal = mapping(value, where, ("effect", "cause", "reason", "link"))
    cause = text_of(refusal, "cause", where) if "cause" in refusal else None
    link = _link(refusal["link"], (where, "link"), texts) if "link" in refusal else None
    return RefusedLink(text_of(refusal, "effect", where), cause, text_of(refusal, "reason", where), link)


def _metadata(record: Mapping[str, Any], is_conversation: bool, where: str) -> dict[str, Any]:
    metadata = from_json(record.get("metadata", {}), "metadata", where)
    if not isinstance(metadata, Mapping):
        raise DataError(f"{where}: 'metadata' must be a mapping, or a string with one in JSON, got {shown(metadata)}")
    known = _KEYS.union(TEMPLATE_KEYS if is_conversation else ())
    others = {key: value for key, value in record.items() if key not in known}
    if others and "schema" in record:
        names = listed(others)
        raise DataError(f"{where}: {SCHEMA} has no key {names}; move what is yours into 'metadata'")
    twice = sorted(map(str, others.keys() & metadata.keys()))
    if twice:
        raise DataError(f"{where}: {listed(twice)} stand both beside 'metadata' and in it; keep one")
    return {**metadata, **others}


def _check_texts(example: Example, spans: list[tuple[Span, str]], where: str) -> None:
    fields = example.fields
    for span, text in spans:
        found = fields[span.field][span.start : span.end]
        if found != text:
            raise DataError(
                f"{where}: the span {span.field}[{span.start}:{span.end}] covers {shown(found)}, but its 'text' is "
                f"{shown(text)}; positions count Unicode code points, not UTF-16 units or bytes"
            )


def _link_to_dict(example: Example, link: CausalLink) -> dict[str, Any]:
    record = {
        "effect": _span_to_dict(example, link.effect),
        "causes": [_span_to_dict(example, cause) for cause in link.causes],
        "weight": link.weight,
        "source": link.source,
    }
    return record | {key: getattr(link, key) for key, usual in _USUAL.items() if getattr(link, key) != usual}


def _refused_to_dict(example: Example, refusal: RefusedLink) -> dict[str, Any]:
    record = {"effect": refusal.effect, "cause": refusal.cause, "reason": refusal.reason}
    return record if refusal.link is None else record | {"link": _link_to_dict(example, refusal.link)}


def _span_to_dict(example: Example, span: Span) -> dict[str, Any]:
    return {"field": span.field, "start": span.start, "end": span.end, "text": example.text_of(span)}


def _json_value(value: Any) -> Any:
    """The value with mappings as dicts and tuples as lists; a TypeError where reading would not give it back."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no string")
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{type(value).__name__} is no JSON type")
