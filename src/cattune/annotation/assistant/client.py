"""One request to an OpenAI-compatible chat endpoint, sent until it is answered or it is clear that it will not be.

The `openai` SDK says where to, and with which client and headers. Its own retries are left out: it gives up where a
server asks for a wait of more than two minutes, and one request's wait does not hold the others back. Here Retry-After
makes all of them wait.

Tried again are 408, 409, 429, 5xx, time-outs, broken connections, and bodies that are not what the protocol says. A
refusal that may be about the form of the reply or a parameter is tried in another way (`forms`). What holds for every
request ends the run at once, as a `ConfigError`: a key that is not accepted, no credit, an unknown model, a parameter
of the user's that is refused, a redirect to somebody else; and so does a server that has refused all requests from the
start. What concerns one text fails this one alone. A server that does not answer from the start, or has stopped
answering, ends the run as a `NoAnswer`.
"""

from __future__ import annotations

import errno
import json
import random
import re
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn, TypeAlias

from cattune.annotation.assistant.blotting import without_secret
from cattune.annotation.assistant.chat_protocol import Answer, BadPayload, read_answer, retry_after
from cattune.annotation.assistant.endings import (
    CHANGE,
    REFUSED_AT_THE_START,
    REFUSED_LATER,
    ending,
    ending_at_the_start,
)
from cattune.annotation.assistant.endpoint import (
    KEY_VARIABLE,
    NO_KEY,
    check_parameters,
    find_address,
    find_proxy,
    open_client,
    read_key,
    shown_address,
    without_logins,
)
from cattune.annotation.assistant.error_body import Refusal, parsed, read_refusal
from cattune.annotation.assistant.forms import FORMS, Walk, Way, keeps_form, other_way, told
from cattune.annotation.assistant.limits import Limits
from cattune.annotation.assistant.outage import Outage
from cattune.annotation.assistant.patience import Patience
from cattune.annotation.assistant.refusals import Meaning, meaning, names_form, refuses_format
from cattune.annotation.assistant.transport import Redirected, TooLarge, TooSlow, is_there, post
from cattune.errors import CattuneError, ConfigError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Waits between tries double from the first to the longest, each shortened at random by up to half."""

TRIES_AT_THE_START = 4
"""So often is a server tried that has not yet answered anything."""

_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN})

WALKS_AT_THE_START = 3
"""So many requests, refused in every way, are taken through all ways where the server does not say what is to blame."""

REPLY_TIMEOUTS = 4
"""A reply may take so many times as long to come as a server may be silent."""

TRIES_IN_ONE_WAY = 2
"""So often is a request tried in one way that a server breaks over, before it has answered anything."""

TOO_LARGE, TOO_SLOW = "reply too large", "too slow"
"""`Unanswered.reason` where a reply was not read to its end."""

_QUERY = re.compile(r"(?<=\w)\?[\w.-]+=[^\s'\")]*")

GIVEN_UP_IN_A_ROW = 3
"""So many requests given up, with no answer between them, make a run look whether the server is there."""

NO_CONNECTION = "no connection"
"""`Unanswered.reason` where nothing could be sent: refused, no such host, no TLS, no route. No text is to blame."""


class NoAnswer(CattuneError):
    """The assistant does not answer at all, or has stopped answering; what was answered is good."""


class Unanswered(Exception):
    """One request has no answer; the others may.

    Args:
        reason: for counting, such as "status 400" or "time-out".
        detail: what the server said, without secrets.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    @property
    def is_silence(self) -> bool:
        """Whether the server, and not the text, may be to blame: it may be gone."""
        return self.reason in _SILENCE or self.reason.startswith("status 5")


BUSY = frozenset({"status 429", "status 503", "status 529"})
"""Reasons that no text is to blame for: the server has too much to do."""

_OVERLOAD = BUSY | {"time-out"}
_SILENCE = BUSY | {"time-out", "status 408", "connection failed", NO_CONNECTION}

MALFORMED = "malformed response"
"""`Unanswered.reason` where what came is no chat completion."""

_Outcome: TypeAlias = Answer | Refusal | Unanswered


def _reason(outcome: _Outcome) -> str:
    return outcome.reason if isinstance(outcome, Unanswered) else f"status {getattr(outcome, 'status', 200)}"


def _what_to_do(reason: str) -> str:
    """About a server that answers nobody: what the user can look after."""
    if reason in BUSY:
        return "it has too much to do, or limits how much may be asked: --requests-per-minute, or later"
    if reason == MALFORMED:
        return "is this the address of a chat endpoint?"
    if reason.startswith("status 5"):
        return "its log may say why"
    return "is it running, and is the address right?"


class Assistant:
    """An assistant model behind a chat endpoint.

    Args:
        model: its name there.
        response_format: the schema that replies are held to, where the server can.
        form: the strictest form to ask for, one of `forms.FORMS`.
        base_url: the endpoint, such as `http://localhost:8000/v1`; None for OPENAI_BASE_URL, or else OpenAI's.
        key_variable: the environment variable that holds the key. It may be unset where `base_url` is given.
        parameters: sent with every request, such as {"temperature": 0}.
        own: names of parameters that the user did not set: they are left out where the model refuses them.
        limits: how fast; shared by all who ask.
        timeout_s: how long a server may be silent about a request that waits for no other one (`patience`).
        reply_timeout_s: how long a reply may take from its first byte on, however steadily it comes; None for
            `REPLY_TIMEOUTS` times `timeout_s`.
        connect_timeout_s: how long a connection may take.
        max_retries: how often a request is tried again.
        answered_before: whether an earlier run got answers from it: what is left may be just what it refuses.
        tell: is told what the user should know, in a sentence.

    Raises:
        ConfigError: There is no key, a parameter is one that is set here, or the SDK is not installed.
    """

    def __init__(
        self,
        model: str,
        response_format: Mapping[str, Any],
        *,
        form: str = FORMS[0],
        base_url: str | None = None,
        key_variable: str = KEY_VARIABLE,
        parameters: Mapping[str, Any] | None = None,
        own: Collection[str] = (),
        limits: Limits | None = None,
        timeout_s: float = 120.0,
        reply_timeout_s: float | None = None,
        connect_timeout_s: float = 10.0,
        max_retries: int = 8,
        answered_before: bool = False,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model = model
        self.parameters = check_parameters(parameters or {})
        self.limits = limits or Limits()
        self.sent: Counter[str] = Counter()
        """Requests sent ("requests"), and why some were sent again ("status 429", "time-out", ...)."""
        self._response_format = response_format
        self._own = frozenset(own)
        self._key_variable = key_variable
        address = find_address(base_url)
        key = read_key(key_variable, address)
        self._secret = "" if key == NO_KEY else key
        self._max_retries = max_retries
        self._tell = tell
        self._way = Way(form)
        self._way_works = self._answered = False
        self._refused = self._given_up = self._walks = 0
        self._most_refused = REFUSED_LATER if answered_before else REFUSED_AT_THE_START
        self._outage = Outage(tell)
        self._keeps_form = True
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._patience = Patience(timeout_s, lambda: self.limits.pace.usual_s)
        self._within_s = REPLY_TIMEOUTS * timeout_s if reply_timeout_s is None else reply_timeout_s
        self._http, self._url = open_client(address, key, connect_timeout_s)
        self._where = self._shown(shown_address(self._url))
        if address and "#" in address:
            tell(f"what follows on '#' in the address is not sent: requests go to {self._where}")

    async def ask(self, messages: Sequence[Mapping[str, str]], tokens: float = 0.0) -> Answer:
        """The answer to a conversation.

        Args:
            messages: {"role", "content"}, the last one the user's.
            tokens: about how many the request and its reply have, for the limit on tokens.

        Raises:
            Unanswered: this request has no answer.
            Halted: nothing is to be sent any more.
            NoAnswer: the server answers nobody.
            ConfigError: no request will be answered.
        """
        wait, tries = 0.0, 0
        walk = Walk.at(self._way)
        failure: Unanswered | None = None
        while failure is None or tries <= self._max_retries:
            await self.limits.sleep(wait)
            outcome = await self._in_turn(messages, walk, tokens, failure.reason if failure else "")
            if isinstance(outcome, Answer):
                self._outage.answered()
                self._take_up(walk)
                self._see_form(walk.way, outcome)
                self._correct(outcome, tokens)
                return outcome
            asked_to_wait = None
            if isinstance(outcome, Refusal):
                refusal = outcome
                if self._goes_on(walk, refusal, tries):
                    outcome = Unanswered(f"status {refusal.status}", refusal.message)
                    if meaning(refusal) is not Meaning.WAIT:
                        failure, wait = outcome, 0.0
                        continue
                else:
                    asked_to_wait = refusal.wait_s
                    outcome = self._refusal(refusal)
            failure = outcome
            tries += 1
            if failure.reason != "status 429":
                self._outage.failed(str(failure))
            if failure.reason in (TOO_LARGE, TOO_SLOW):
                break  # it would be so again
            if not self._answered and tries >= TRIES_AT_THE_START and failure.reason != "status 429":
                raise self._no_answer(f"does not answer ({failure}), after {tries} tries", failure.reason)
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)) * random.uniform(0.5, 1)
            if asked_to_wait:
                wait = 0.0
                self._pause(asked_to_wait, failure.reason)
        self._given_up += 1
        if await self._is_gone(failure):
            what = "has stopped answering" if self._answered else "does not answer"
            given_up = f"{self._given_up} requests in a row were given up, each tried {tries} x"
            raise self._no_answer(f"{what} ({failure}): {given_up}", failure.reason)
        raise failure

    async def _is_gone(self, failure: Unanswered) -> bool:
        """Whether the server failed those that were given up, with no answer between them, and not their texts."""
        if self._given_up < GIVEN_UP_IN_A_ROW:
            return False
        is_for_all = failure.reason in _OVERLOAD or self._given_up >= self.limits.concurrency
        return is_for_all or not await self.is_there()

    async def is_there(self) -> bool:
        """Whether anybody answers at this address at all."""
        return await is_there(self._http, self._url, self._connect_timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _in_turn(self, messages: Sequence[Mapping[str, str]], walk: Walk, tokens: float, again: str) -> _Outcome:
        """As `_try`, when it may be sent, and as long as the server is not silent for too long; `again` is why."""
        try:
            async with self.limits.turn(tokens, again) as turn, self._patience.watched() as waiting:
                if again:
                    self.sent[again] += 1
                self.sent["requests"] += 1
                if not walk.refusals:  # others may have found another way since
                    walk.way = walk.first = walk.base = self._way
                outcome = await self._try(messages, walk.way, waiting.heard)
                turn.is_answered = isinstance(outcome, Answer)
                turn.is_overload = _reason(outcome) in _OVERLOAD
                return outcome
        except TimeoutError:
            return self._timed_out()

    async def _try(self, messages: Sequence[Mapping[str, str]], way: Way, heard: Callable[[], None]) -> _Outcome:
        """What one request came to; `heard` is told of each sign of life."""
        import httpx2

        form = way.response_format(self._response_format)
        body = {"model": self.model, "messages": messages, **way.sent(self.parameters), **form}
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            status, headers, text = await post(self._http, self._url, content, self._within_s, heard)
            if 200 <= status < 300:
                return read_answer(text, self._secret)
        except TooLarge:
            return Unanswered(TOO_LARGE, "the reply has more bytes than are read; a limit on output tokens would help")
        except TooSlow:
            return Unanswered(
                TOO_SLOW, f"the reply was not complete {self._within_s:g} s after it began (--reply-timeout)"
            )
        except Redirected as error:
            source, target = (self._shown(address) for address in (error.source, error.target))
            if not error.leads_away:
                self._end(f"redirects without end, at last to {target}")
            self._end(f"redirects from {source} to {target}; if that is right, name its address with --base-url")
        except httpx2.TransportError as error:
            return self._broken(error)
        except BadPayload as error:
            return Unanswered(MALFORMED, str(error))
        except Exception as error:  # what a server sends that is no HTTP raises whatever the library has for it
            return Unanswered(MALFORMED, self._shown(f"{type(error).__name__}: {error}"))
        sent = messages[-1]["content"]
        return read_refusal(status, parsed(text), self._secret, retry_after(headers), sent)

    def _broken(self, error: BaseException) -> Unanswered:
        """A connection that failed, by its first cause: the layers in between take one kind for another."""
        while error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            return self._timed_out()
        detail = self._shown(error) or type(error).__name__
        if (proxy := find_proxy(self._url)) is not None:
            detail += f" (through the proxy {proxy})"
        never_sent = isinstance(error, ConnectionRefusedError | socket.gaierror | ssl.SSLError) or (
            isinstance(error, OSError) and error.errno in _UNREACHABLE
        )
        return Unanswered(NO_CONNECTION if never_sent else "connection failed", detail)

    def _timed_out(self) -> Unanswered:
        return Unanswered("time-out", f"no sign of life for {self._timeout_s:g} s; --timeout gives a slow server more")

    def _goes_on(self, walk: Walk, refusal: Refusal, tries: int) -> bool:
        """Whether a request that was refused is to be tried in another way; the walk is there then."""
        if self._way_works and self._way not in (walk.first, walk.way) and refuses_format(refusal):
            walk.first = self._way  # others have found it in the meantime
            walk.go(self._way, self._way, refusal)
            return True
        other = self._other_way(walk, refusal, tries)
        if other is None:
            self._walks += bool(walk.refusals) and meaning(refusal) is Meaning.OTHER
            return False
        walk.go(*other, refusal)
        return True

    def _other_way(self, walk: Walk, refusal: Refusal, tries: int) -> tuple[Way, Way] | None:
        """The way to try next, and its base, if the one that was tried may be to blame for a refusal."""
        if meaning(refusal) is Meaning.WAIT and not names_form(refusal):
            # A server that breaks over the form does not say so; one that is busy says 429 or 503.
            if self._answered or refusal.status != 500 or tries < TRIES_IN_ONE_WAY:
                return None
            refusal = replace(refusal, status=501)
        by_trying = not self._way_works and self._walks < WALKS_AT_THE_START
        return other_way(walk, refusal, self.parameters, self._own, by_trying)

    def _take_up(self, walk: Walk) -> None:
        """A request was answered: whether the others are to be sent in its way."""
        theirs = sorted(walk.way.left_out - self._own)
        if theirs:  # it was sent without them to find out
            which = "the parameter" if len(theirs) == 1 else "one of the parameters"
            said = walk.refusals[-1].message
            self._end(f"refuses {which} {', '.join(map(repr, theirs))} ({said}); {CHANGE}")
        self._answered, self._given_up = True, 0
        is_about_this_text = any(meaning(refusal) is Meaning.TOO_LONG for refusal in walk.refusals)
        if walk.way == self._way:
            self._way_works = True
        elif walk.first == self._way and not self._way_works and not is_about_this_text:
            self._way, self._way_works = walk.way, True
            self._tell(told(walk, self.parameters))

    def _see_form(self, way: Way, answer: Answer) -> None:
        """Say once that a server takes the form and does not hold replies to it."""
        if self._keeps_form and not keeps_form(way, answer):
            self._keeps_form = False
            self._tell(
                f"the server takes response_format {way.form} and does not hold replies to it: one is no JSON object. "
                "They are read as they come; a server that holds to the form would make more of them usable"
            )

    def _refusal(self, refusal: Refusal) -> Unanswered:
        """The failure of one request; what concerns this request alone, or all of them, is raised."""
        status, said = refusal.status, refusal.message
        about = meaning(refusal, self._answered)
        if about is Meaning.WAIT:
            return Unanswered(f"status {status}", said)
        if end := ending(refusal, self._answered, self.model, self._key_variable, bool(self._secret)):
            self._end(end)
        if about in (Meaning.DECLINED, Meaning.TOO_LONG):
            raise Unanswered(about.value, f"status {status}: {said}")
        if not self._answered:
            self._refused += 1
            theirs = [name for name in self.parameters if name not in self._own]
            if end := ending_at_the_start(
                refusal, self._refused, self._most_refused, theirs, self.model, self._key_variable
            ):
                self._end(end)
        raise Unanswered(f"status {status}", said)

    def _shown(self, text: object) -> str:
        """A text without the key, and without the names, passwords and queries of addresses."""
        return without_secret(_QUERY.sub("?...", without_logins(text)), self._secret)

    def _no_answer(self, what: str, reason: str) -> NoAnswer:
        return NoAnswer(f"the assistant at {self._where} {what}; {_what_to_do(reason)}")

    def _end(self, what: str) -> NoReturn:
        raise ConfigError(f"the assistant at {self._where} {what}")

    def _pause(self, seconds: float, reason: str) -> None:
        if self.limits.pause(seconds) and seconds >= 5:
            self._tell(f"the server asks to wait {seconds:.0f} s ({reason})")

    def _correct(self, answer: Answer, expected: float) -> None:
        if answer.prompt_tokens is not None and answer.completion_tokens is not None:
            self.limits.correct_tokens(answer.prompt_tokens + answer.completion_tokens - expected)
