"""The JSON between the page and the server. Positions are code points on both sides of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import DataError
from cattune.review import edits
from cattune.review.document import Document
from cattune.review.index import ORDERS, Filter
from cattune.wording import listed, shown

_PREVIEW = 160


def document_state(document: Document) -> dict[str, Any]:
    """What the head of the page shows."""
    carried = document.carried_over
    return {
        "file": document.target.name,
        "path": str(document.target),
        "examples": len(document),
        "reviewed": document.index.reviewed,
        "unsaved": len(document.unsaved),
        "changed_on_disk": not document.source.looks_unchanged(),
        "sources": document.index.sources,
        "reading": document.reading,
        "set_aside": sum(document.aside.values()),
        "carried_over": {
            "applied": carried.applied,
            "set_aside": len(carried.set_aside),
            "names": listed(carried.set_aside),
            "path": None if carried.path is None else str(carried.path),
            "torn": carried.torn,
        },
    }


def example_state(document: Document, index: int) -> dict[str, Any]:
    """What the page shows of one example."""
    example = document.example(index)
    return {
        "index": index,
        "id": example.id,
        "version": document.version(index),
        "fields": [
            {"name": name, "label": _label(example, place, name), "text": text}
            for place, (name, text) in enumerate(example.fields.items())
        ],
        "links": [_link(example, link) for link in example.links],
        "refused": [
            {
                "effect": refusal.effect,
                "cause": refusal.cause,
                "reason": refusal.reason,
                "link": None if refusal.link is None else _link(example, refusal.link),
            }
            for refusal in example.refused
        ],
        "metadata": {key: value for key, value in example.metadata.items() if key != edits.REVIEWED_KEY},
        "done": example.metadata.get(edits.REVIEWED_KEY) is True,
        "reviewed": edits.is_reviewed(example),
        "unsaved": index in document.unsaved,
        "can_undo": document.can_undo(index),
        "can_redo": document.can_redo(index),
    }


def row_state(document: Document, index: int) -> dict[str, Any]:
    """What the list shows of one example."""
    example = document.example(index)
    *_, before, completion = ("", *example.fields.values())
    return {
        "index": index,
        "id": example.id,
        "text": " ".join(before[: 2 * _PREVIEW].split())[:_PREVIEW],
        "completion": " ".join(completion[: 2 * _PREVIEW].split())[:_PREVIEW],
        "proposed": sum(link.status == "proposed" for link in example.links),
        "accepted": sum(link.status == "accepted" for link in example.links),
        "refused": len(example.refused),
        "score": min((link.score for link in example.links), default=None),
        "reviewed": edits.is_reviewed(example),
        "unsaved": index in document.unsaved,
    }


def read_filter(query: Mapping[str, str]) -> Filter:
    """A filter from the parameters of a URL; lists are parted by line ends, which no name here holds.

    Raises:
        DataError: A parameter is not what it should be.
    """

    def names(key: str) -> tuple[str, ...]:
        return tuple(name for name in query.get(key, "").split("\n") if name)

    order = query.get("order", "file")
    if order not in ORDERS:
        raise DataError(f"order must be one of {', '.join(ORDERS)}, got {order!r}")
    reviewed = {"": None, "yes": True, "no": False}.get(query.get("reviewed", ""))
    return Filter(
        statuses=names("statuses"),
        methods=names("methods"),
        sources=names("sources"),
        reviewed=reviewed,
        disagreement=query.get("disagreement") == "yes",
        scores=_scores(query),
        text=query.get("text", "").strip(),
        order=order,
    )


def read_edit(value: Any) -> Callable[[Example], Example]:
    """The change that a request asks for.

    Raises:
        DataError: It asks for none; the change itself raises one where its result would be no valid link.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"expected an edit, got {shown(value)}")
    kind = value.get("kind")
    if kind == "accept":
        return lambda example: edits.accept(example, _number(value, "link"))
    if kind == "accept_all":
        return edits.accept_all
    if kind == "reject":
        return lambda example: edits.reject(example, _number(value, "link"))
    if kind == "restore":
        return lambda example: edits.restore(example, _number(value, "refused"), _truth(value, "accepted"))
    if kind == "done":
        return lambda example: edits.set_done(example, _truth(value, "done"))
    if kind == "add":
        return lambda example: edits.add(example, *_spans(value, example))
    if kind == "change":
        return lambda example: edits.change(example, _number(value, "link"), *_spans(value, example))
    raise DataError(f"there is no edit {shown(kind)}")


def _label(example: Example, place: int, name: str) -> str:
    return example.messages[place].role if example.messages else name


def _link(example: Example, link: CausalLink) -> dict[str, Any]:
    return {
        "effect": _span(example, link.effect),
        "causes": [_span(example, cause) for cause in link.causes],
        "weight": link.weight,
        "source": link.source,
        "method": link.method,
        "score": link.score,
        "status": link.status,
    }


def _span(example: Example, span: Span) -> dict[str, Any]:
    return {"field": span.field, "start": span.start, "end": span.end, "text": example.text_of(span)}


def _spans(value: Mapping[str, Any], example: Example) -> tuple[Span, list[Span]]:
    causes = value.get("causes")
    if not isinstance(causes, list) or not causes:
        raise DataError("a link needs a cause: select one, then Cause (c)")
    if value.get("effect") is None:
        raise DataError("a link needs an effect: select it, then Effect (e)")
    return _read_span(value["effect"], example), [_read_span(cause, example) for cause in causes]


def _read_span(value: Any, example: Example) -> Span:
    if not isinstance(value, Mapping) or not isinstance(value.get("field"), str):
        raise DataError(f"expected a span with field, start, end and text, got {shown(value)}")
    start, end = _number(value, "start"), _number(value, "end")
    if start >= end:
        raise DataError("the selection is empty; select words")
    span = Span(value["field"], start, end)
    text = example.fields.get(span.field)
    if text is None or text[start:end] != value.get("text"):  # a page that counts UTF-16 units is found out here
        raise DataError(f"the selection {shown(value.get('text'))} is not at {span.field}[{start}:{end}]")
    return span


def _number(value: Mapping[str, Any], key: str) -> int:
    number = value.get(key)
    if type(number) is not int or number < 0:
        raise DataError(f"{key!r} must be a whole number that is not negative, got {shown(number)}")
    return number


def _truth(value: Mapping[str, Any], key: str) -> bool:
    if not isinstance(value.get(key), bool):
        raise DataError(f"{key!r} must be true or false, got {shown(value.get(key))}")
    return bool(value[key])


def _scores(query: Mapping[str, str]) -> tuple[float, float] | None:
    given = [query.get(key, "") for key in ("low", "high")]
    if given == ["", ""]:
        return None
    try:
        low, high = float(given[0] or 0), float(given[1] or 1)
    except ValueError:
        raise DataError(f"scores are numbers from 0 to 1, got {given}") from None
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError(f"scores are numbers from 0 to 1, got {given}")
    return low, high
