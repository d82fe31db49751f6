"""What a reviewer can do to an example: functions from an example to an example.

A link that is rejected leaves `links`, so that training does not see it, and is kept in `refused`, from where it can be
brought back. A link that a person adds, or changes, is that person's: source "person", accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from cattune.data.examples import REJECTED, CausalLink, Example, RefusedLink, Span
from cattune.errors import DataError
from cattune.wording import shown

PERSON = "person"
"""`CausalLink.source` of links that a reviewer has made."""
REVIEWED_KEY = "reviewed"
"""The key of the metadata that is true for an example that a reviewer has said to be done."""

_Item = TypeVar("_Item")


def is_reviewed(example: Example) -> bool:
    """Whether a reviewer said so, or has decided on every link: none is left as proposed, and there was one."""
    if example.metadata.get(REVIEWED_KEY) is True:
        return True
    if any(link.status == "proposed" for link in example.links):
        return False
    return bool(example.links) or any(refusal.reason == REJECTED for refusal in example.refused)


def accept(example: Example, link: int) -> Example:
    """Agree to a link."""
    chosen = replace(_item(example, example.links, link, "link"), status="accepted")
    return replace(example, links=_with(example.links, link, chosen))


def accept_all(example: Example) -> Example:
    """Agree to every link."""
    if not example.links:
        raise DataError(f"example {example.id!r} has no links to accept")
    return replace(example, links=tuple(replace(link, status="accepted") for link in example.links))


def reject(example: Example, link: int) -> Example:
    """Take a link out of the training data; it is kept with the refused ones."""
    chosen = _item(example, example.links, link, "link")
    refusal = RefusedLink(example.text_of(chosen.effect), None, REJECTED, chosen)
    return replace(example, links=_without(example.links, link), refused=(*example.refused, refusal))


def restore(example: Example, refused: int, accepted: bool) -> Example:
    """Bring a rejected or outvoted link back, as it was or as accepted."""
    refusal = _item(example, example.refused, refused, "refused link")
    if refusal.link is None:
        raise DataError(f"{shown(refusal.effect)}: this was never found in the text, so there is no link to bring back")
    link = replace(refusal.link, status="accepted") if accepted else refusal.link
    _check_new(example, link, example.links)
    return replace(example, links=(*example.links, link), refused=_without(example.refused, refused))


def add(example: Example, effect: Span, causes: Sequence[Span]) -> Example:
    """Add a person's link."""
    link = CausalLink(effect, _each_once(causes), source=PERSON, status="accepted")
    _check_new(example, link, example.links)
    return replace(example, links=(*example.links, link))


def change(example: Example, link: int, effect: Span, causes: Sequence[Span]) -> Example:
    """Give a link other spans; it is then a person's, and keeps its weight alone."""
    old = _item(example, example.links, link, "link")
    new = CausalLink(effect, _each_once(causes), weight=old.weight, source=PERSON, status="accepted")
    _check_new(example, new, _without(example.links, link))
    return replace(example, links=_with(example.links, link, new))


def set_done(example: Example, done: bool) -> Example:
    """Say, or take back, that nothing is left to do, whatever the links' statuses."""
    old = example.metadata.get(REVIEWED_KEY)
    if old is not None and not isinstance(old, bool):
        raise DataError(
            f"example {example.id!r}: its metadata hold {REVIEWED_KEY!r}: {shown(old)}, which is not ours to replace; "
            "rename that key to mark examples as done"
        )
    others = {key: value for key, value in example.metadata.items() if key != REVIEWED_KEY}
    return replace(example, metadata=others | {REVIEWED_KEY: True} if done else others)


def _check_new(example: Example, link: CausalLink, others: Sequence[CausalLink]) -> None:
    """Refuse what the data model allows and a reviewer cannot mean; the model itself refuses the rest."""
    replace(example, links=(link,), refused=())  # spans within their fields, causes before the effect
    for span in (link.effect, *link.causes):
        if not example.text_of(span).strip():
            raise DataError("the selection is white space only; select words")
    if link.effect in link.causes:
        raise DataError(f"{shown(example.text_of(link.effect))} cannot be the cause of itself")
    if any(other.effect == link.effect and set(other.causes) == set(link.causes) for other in others):
        raise DataError("this link is already there")


def _each_once(causes: Sequence[Span]) -> tuple[Span, ...]:
    return tuple(dict.fromkeys(causes))


def _item(example: Example, items: Sequence[_Item], number: int, what: str) -> _Item:
    if not 0 <= number < len(items):
        raise DataError(f"example {example.id!r} has no {what} {number}; it has {len(items)}")
    return items[number]


def _with(items: Sequence[_Item], number: int, item: _Item) -> tuple[_Item, ...]:
    return (*items[:number], item, *items[number + 1 :])


def _without(items: Sequence[_Item], number: int) -> tuple[_Item, ...]:
    return (*items[:number], *items[number + 1 :])
