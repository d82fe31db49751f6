"""How a reply's form is asked for, and with which parameters; and what is tried where an endpoint refuses that.

Endpoints refuse a form or a parameter in more words than anybody can list. So this goes by trying: a request that is
refused, when nothing has yet been answered in the way it was asked, is sent once more in another way. If that is
answered, what was left out was to blame, and the others are asked so from the start. If it is refused as well, the way
was not to blame, and stays. Pure: nothing is sent here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cattune.annotation.assistant.endpoint.chat_protocol import STOPPED, ChatReply
from cattune.annotation.assistant.endpoint.error_body import Refusal
from cattune.annotation.assistant.endpoint.refusals import (
    OUTPUT_LIMITS,
    Meaning,
    meaning,
    named,
    names_form,
    refuses_format,
)
from cattune.annotation.assistant.reading.thoughts import after_thoughts

FORMS = ("json_schema", "json_object", "text")
"""Ways to ask for JSON, from the strictest; endpoints have all of them, or the last only."""

BOUNDS = ("minItems", "maxItems")
"""Keywords of a schema that bound its lists."""


@dataclass(frozen=True)
class Way:
    """A way to ask.

    Args:
        form: one of `FORMS`.
        left_out: names of parameters that are not sent.
        other_limit: whether the limit on output tokens is sent under its other name.
        bounded: whether the schema says how long its lists may be, which some endpoints refuse.
    """

    form: str = FORMS[0]
    left_out: frozenset[str] = frozenset()
    other_limit: bool = False
    bounded: bool = True

    def sent(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that are sent, under the names that they are sent under."""
        names = dict(zip(OUTPUT_LIMITS, reversed(OUTPUT_LIMITS), strict=True)) if self.other_limit else {}
        return {names.get(name, name): value for name, value in parameters.items() if name not in self.left_out}

    def response_format(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """What asks for the form: nothing where it is plain text, which some endpoints refuse to be asked for."""
        whole = schema if self.bounded else without_bounds(schema)
        forms: dict[str, Mapping[str, Any]] = {"json_schema": whole, "json_object": {"type": "json_object"}}
        return {"response_format": forms[self.form]} if self.form in forms else {}


@dataclass
class Walk:
    """One request's walk through the ways to ask.

    Args:
        way: the one that it is sent in.
        first: the one that it was sent in first.
        base: the one from which on ways are tried because the server did not say what it refuses.
        refusals: what it was refused with so far, in other ways.
    """

    way: Way
    first: Way
    base: Way
    refusals: list[Refusal] = field(default_factory=list)

    @classmethod
    def at(cls, way: Way) -> Walk:
        """A walk that begins there."""
        return cls(way, way, way)

    def go(self, way: Way, base: Way, refusal: Refusal) -> None:
        """Try this way after that refusal."""
        self.way, self.base = way, base
        self.refusals.append(refusal)


def without_bounds(schema: Any) -> Any:
    """The schema with lists of any length."""
    if isinstance(schema, Mapping):
        return {key: without_bounds(value) for key, value in schema.items() if key not in BOUNDS}
    return [without_bounds(value) for value in schema] if isinstance(schema, list) else schema


def keeps_form(way: Way, answer: ChatReply) -> bool:
    """Whether an answer is of the form that was asked for; one that was cut off or declined says nothing about it."""
    if way.form not in FORMS[:2] or answer.finish_reason != STOPPED or not answer.text.strip():
        return True
    said = after_thoughts(answer.text.strip(), lambda value: True)
    try:
        return said is None or isinstance(json.loads(said), dict)
    except (ValueError, RecursionError):
        return False


def other_way(
    walk: Walk, refusal: Refusal, parameters: Mapping[str, Any], own: Collection[str], by_trying: bool
) -> tuple[Way, Way] | None:
    """The way to try next where a request was refused, and its base; None where the way is not to blame, or the last.

    Args:
        walk: of the request.
        refusal: what the server said.
        parameters: of the run.
        own: the names of those that the user did not set.
        by_trying: whether to try where the refusal does not say that the form or a parameter is to blame.
    """
    way = walk.way
    if (better := _named_way(way, refusal, parameters, own)) is not None:
        return better, better
    if not by_trying or not refuses_format(refusal) or names_form(refusal) or named(refusal, way.sent(parameters)):
        return None
    ways = _ways(walk.base, parameters, own)
    other = next(iter(ways[ways.index(way) + 1 :]), None)
    return None if other is None else (other, walk.base)


def _named_way(way: Way, refusal: Refusal, parameters: Mapping[str, Any], own: Collection[str]) -> Way | None:
    """The way without what the server says it refuses."""
    limits = [name for name in OUTPUT_LIMITS if name in parameters]
    ours = [name for name in parameters if name in own and name not in way.left_out]
    if meaning(refusal) is Meaning.TOO_LONG:  # without a limit there may be room for the reply
        room = [name for name in limits if name in ours and refusal.status != 413]
        return replace(way, left_out=way.left_out | set(room)) if room else None
    if not refuses_format(refusal):
        return None
    to_blame = named(refusal, way.sent(parameters), loosely=True)
    is_limit = not set(OUTPUT_LIMITS).isdisjoint(to_blame)
    if is_limit and len(limits) == 1 and not way.other_limit:
        return replace(way, other_limit=True)
    blamed = [name for name in ours if name in to_blame or (is_limit and name in limits)]
    if blamed:
        return replace(way, left_out=way.left_out | set(blamed))
    if way.form == FORMS[0] and way.bounded and any(bound in refusal.message for bound in BOUNDS):
        return replace(way, bounded=False)
    weaker = FORMS[FORMS.index(way.form) + 1 :]
    return replace(way, form=weaker[0]) if weaker and names_form(refusal) else None


def _ways(base: Way, parameters: Collection[str], own: Collection[str]) -> list[Way]:
    """What is tried, one after the other, where the server does not say what it refuses."""
    ours = [name for name in parameters if name in own and name not in base.left_out]
    weaker = [replace(base, form=form) for form in FORMS[FORMS.index(base.form) :]]
    without_one = [replace(base, left_out=base.left_out | {name}) for name in ours]
    without_ours = [replace(way, left_out=way.left_out | set(ours)) for way in (base, weaker[-1])]
    without_any = replace(weaker[-1], left_out=frozenset(parameters))
    return list(dict.fromkeys([*weaker, *without_one, *without_ours, without_any]))


def told(walk: Walk, parameters: Mapping[str, Any]) -> str:
    """What was changed in a walk, in a sentence for the user."""
    before, after = walk.first, walk.way
    changes = []
    if after.form != before.form:
        changes.append(f"the server does not take response_format {before.form}; going on with {after.form}")
    if after.form == before.form and after.bounded != before.bounded:
        changes.append("the server does not take a schema that bounds its lists; going on with one that does not")
    for name in sorted(after.left_out - before.left_out):
        perhaps = "" if any(named(refusal, [name], loosely=True) for refusal in walk.refusals) else "probably "
        changes.append(f"the model {perhaps}does not take {name}, a default of cattune's; it is left out")
    old, new = (next((name for name in way.sent(parameters) if name in OUTPUT_LIMITS), None) for way in (before, after))
    if old != new and new is not None:
        changes.append(f"the model does not take {old}; it is sent as {new}")
    last = walk.refusals[-1]
    said = last.message[:200] or f"status {last.status}"
    return f"{'; '.join(changes)} (it said: {said})"
