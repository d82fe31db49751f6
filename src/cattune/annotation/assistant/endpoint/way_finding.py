"""In which way the requests of a run are sent: found out by what the server refuses, and shared by all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from cattune.annotation.assistant.endpoint.chat_protocol import ChatReply
from cattune.annotation.assistant.endpoint.endings import CHANGE
from cattune.annotation.assistant.endpoint.error_body import Refusal
from cattune.annotation.assistant.endpoint.forms import Walk, Way, keeps_form, other_way, told
from cattune.annotation.assistant.endpoint.refusals import Meaning, meaning, names_form, refuses_format

WALKS_AT_THE_START = 3
"""So many requests, refused in every way, are taken through all ways where the server does not say what is to blame."""

TRIES_IN_ONE_WAY = 2
"""So often is a request tried in one way that a server breaks over, before it has answered anything."""


class WayFinder:
    """The way that works, as far as it is known.

    Args:
        form: the strictest form to ask for, one of `forms.FORMS`.
        parameters: sent with every request.
        own: names of those that the user did not set.
        tell: is told once which way was found.
    """

    def __init__(
        self, form: str, parameters: Mapping[str, Any], own: Collection[str], tell: Callable[[str], None]
    ) -> None:
        self._parameters = parameters
        self._own = frozenset(own)
        self._tell = tell
        self._way = Way(form)
        self._works = False
        self._walks = 0
        self._keeps_form = True

    def walk(self) -> Walk:
        """The ways of one request, from the one that is known."""
        return Walk.at(self._way)

    def catch_up(self, walk: Walk) -> None:
        """A request that was in no way refused yet takes the one that others have found since."""
        if not walk.refusals:
            walk.way = walk.first = walk.base = self._way

    def goes_on(self, walk: Walk, refusal: Refusal, tries: int, is_answered: bool) -> bool:
        """Whether a request that was refused is to be tried in another way; the walk is there then.

        Args:
            walk: the request's.
            refusal: what it got.
            tries: how often it was tried before.
            is_answered: whether the server has answered any request.
        """
        if self._works and self._way not in (walk.first, walk.way) and refuses_format(refusal):
            walk.first = self._way  # others have found it in the meantime
            walk.go(self._way, self._way, refusal)
            return True
        other = self._other_way(walk, refusal, tries, is_answered)
        if other is None:
            self._walks += bool(walk.refusals) and meaning(refusal) is Meaning.OTHER
            return False
        walk.go(*other, refusal)
        return True

    def _other_way(self, walk: Walk, refusal: Refusal, tries: int, is_answered: bool) -> tuple[Way, Way] | None:
        """The way to try next, and its base, if the one that was tried may be to blame for a refusal."""
        if meaning(refusal) is Meaning.WAIT and not names_form(refusal):
            # A server that breaks over the form does not say so; one that is busy says 429 or 503.
            if is_answered or refusal.status != 500 or tries + 1 < TRIES_IN_ONE_WAY:
                return None
            refusal = replace(refusal, status=501)
        by_trying = not self._works and self._walks < WALKS_AT_THE_START
        return other_way(walk, refusal, self._parameters, self._own, by_trying)

    def refused_parameters(self, walk: Walk) -> str | None:
        """What to say where a request was answered without parameters of the user's: they are to blame."""
        theirs = sorted(walk.way.left_out - self._own)
        if not theirs:
            return None
        which = "the parameter" if len(theirs) == 1 else "one of the parameters"
        return f"refuses {which} {', '.join(map(repr, theirs))} ({walk.refusals[-1].message}); {CHANGE}"

    def take_up(self, walk: Walk, answer: ChatReply) -> None:
        """A request was answered: see whether the others are to be sent in its way, and whether the form was kept."""
        is_about_this_text = any(meaning(refusal) is Meaning.TOO_LONG for refusal in walk.refusals)
        if walk.way == self._way:
            self._works = True
        elif walk.first == self._way and not self._works and not is_about_this_text:
            self._way, self._works = walk.way, True
            self._tell(told(walk, self._parameters))
        if self._keeps_form and not keeps_form(walk.way, answer):
            self._keeps_form = False
            self._tell(
                f"the server takes response_format {walk.way.form} and does not hold replies to it: one is no JSON "
                "object. They are read as they come; a server that holds to the form would make more of them usable"
            )
