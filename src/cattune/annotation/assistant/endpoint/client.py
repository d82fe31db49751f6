"""One request to an OpenAI-compatible chat endpoint, sent until it is answered or it is clear that it will not be.

The `openai` SDK says where to, and with which client and headers. Its own retries are left out: it gives up where a
server asks for more than two minutes, and one request's wait does not hold the others back. Here all of them wait.

Tried again are 408, 409, 429, 5xx, time-outs, broken connections, and bodies that are not what the protocol says. A
refusal that may be about the form of the reply or a parameter is tried in another way (`forms`). What holds for every
request ends the run at once, as a `ConfigError`: a key that is not accepted, no credit, an unknown model, a parameter
of the user's that is refused, a redirect to somebody else; and so does a server that has refused all requests from the
start. What concerns one text fails this one alone. A server that does not answer from the start, or has stopped
answering, ends the run as a `NoAnswer`.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from cattune.annotation.assistant.endpoint.address import (
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
from cattune.annotation.assistant.endpoint.blotting import without_secret
from cattune.annotation.assistant.endpoint.chat_protocol import BadPayload, ChatReply, read_chat_reply, retry_after
from cattune.annotation.assistant.endpoint.endings import (
    REFUSED_AT_THE_START,
    REFUSED_LATER,
    ending,
    ending_at_the_start,
)
from cattune.annotation.assistant.endpoint.error_body import Refusal, parsed, read_refusal
from cattune.annotation.assistant.endpoint.forms import FORMS, Walk, Way
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.assistant.endpoint.outage import Outage
from cattune.annotation.assistant.endpoint.patience import Patience
from cattune.annotation.assistant.endpoint.refusals import Meaning, meaning
from cattune.annotation.assistant.endpoint.transport import Redirected, TooLarge, TooSlow, is_there, post
from cattune.annotation.assistant.endpoint.unanswered import (
    MALFORMED,
    OVERLOAD,
    TIME_OUT,
    TOO_LARGE,
    TOO_SLOW,
    NoAnswer,
    Unanswered,
    connection_failure,
    first_cause,
)
from cattune.annotation.assistant.endpoint.way_finding import WayFinder
from cattune.errors import ConfigError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Waits between tries double from the first to the longest, each shortened at random by up to half."""

TRIES_AT_THE_START = 4
"""So often is a server tried that has not yet answered anything."""

REPLY_TIMEOUTS = 4
"""A reply may take so many times as long to come as a server may be silent."""

_QUERY = re.compile(r"(?<=\w)\?[\w.-]+=[^\s'\")]*")

GIVEN_UP_IN_A_ROW = 3
"""So many requests given up, with no answer between them, make a run look whether the server is there."""

_Response: TypeAlias = ChatReply | Refusal | Unanswered


def _reason(outcome: _Response) -> str:
    return outcome.reason if isinstance(outcome, Unanswered) else f"status {getattr(outcome, 'status', 200)}"


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
        self._ways = WayFinder(form, self.parameters, own, tell)
        self._answered = False
        self._refused = self._given_up = 0
        self._most_refused = REFUSED_LATER if answered_before else REFUSED_AT_THE_START
        self._outage = Outage(tell)
        self._connect_timeout_s = connect_timeout_s
        self._timeout_s = timeout_s
        self._patience = Patience(timeout_s, lambda: self.limits.pace.usual_s)
        self._within_s = REPLY_TIMEOUTS * timeout_s if reply_timeout_s is None else reply_timeout_s
        self._http, self._url = open_client(address, key, connect_timeout_s)
        self._where = self._shown(shown_address(self._url))
        if address and "#" in address:
            tell(f"what follows on '#' in the address is not sent: requests go to {self._where}")

    async def ask(self, messages: Sequence[Mapping[str, str]], tokens: float = 0.0) -> ChatReply:
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
        walk = self._ways.walk()
        failure: Unanswered | None = None
        while failure is None or tries <= self._max_retries:
            await self.limits.sleep(wait)
            outcome = await self._in_turn(messages, walk, tokens, failure.reason if failure else "")
            if isinstance(outcome, ChatReply):
                self._outage.answered()
                if said := self._ways.refused_parameters(walk):
                    self._end(said)
                self._answered, self._given_up = True, 0
                self._ways.take_up(walk, outcome)
                self._correct(outcome, tokens)
                return outcome
            asked_to_wait = None
            if isinstance(outcome, Refusal):
                refusal = outcome
                if self._ways.goes_on(walk, refusal, tries, self._answered):
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
                raise self._no_answer(f"does not answer ({failure}), after {tries} tries", failure)
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)) * random.uniform(0.5, 1)
            if asked_to_wait:
                wait = 0.0
                self._pause(asked_to_wait, failure.reason)
        self._given_up += 1
        if await self._is_gone(failure):
            what = "has stopped answering" if self._answered else "does not answer"
            given_up = f"{self._given_up} requests in a row were given up, each tried {tries} x"
            raise self._no_answer(f"{what} ({failure}): {given_up}", failure)
        raise failure

    async def _is_gone(self, failure: Unanswered) -> bool:
        """Whether the server failed those that were given up, with no answer between them, and not their texts."""
        if self._given_up < GIVEN_UP_IN_A_ROW:
            return False
        is_for_all = failure.reason in OVERLOAD or self._given_up >= self.limits.concurrency
        return is_for_all or not await self.is_there()

    async def is_there(self) -> bool:
        """Whether anybody answers at this address at all."""
        return await is_there(self._http, self._url, self._connect_timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _in_turn(self, messages: Sequence[Mapping[str, str]], walk: Walk, tokens: float, again: str) -> _Response:
        """As `_try`, when it may be sent, and as long as the server is not silent for too long; `again` is why."""
        try:
            async with self.limits.turn(tokens, again) as turn, self._patience.watched() as waiting:
                if again:
                    self.sent[again] += 1
                self.sent["requests"] += 1
                self._ways.catch_up(walk)
                outcome = await self._try(messages, walk.way, waiting.heard)
                turn.is_answered = isinstance(outcome, ChatReply)
                turn.is_overload = _reason(outcome) in OVERLOAD
                return outcome
        except TimeoutError:
            return self._timed_out()

    async def _try(self, messages: Sequence[Mapping[str, str]], way: Way, heard: Callable[[], None]) -> _Response:
        """What one request came to; `heard` is told of each sign of life."""
        import httpx2

        form = way.response_format(self._response_format)
        body = {"model": self.model, "messages": messages, **way.sent(self.parameters), **form}
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            status, headers, text = await post(self._http, self._url, content, self._within_s, heard)
            if 200 <= status < 300:
                return read_chat_reply(text, self._secret)
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
        """A connection that failed."""
        cause = first_cause(error)
        reason = connection_failure(cause)
        if reason == TIME_OUT:
            return self._timed_out()
        detail = self._shown(cause) or type(cause).__name__
        if (proxy := find_proxy(self._url)) is not None:
            detail += f" (through the proxy {proxy})"
        return Unanswered(reason, detail)

    def _timed_out(self) -> Unanswered:
        return Unanswered(TIME_OUT, f"no sign of life for {self._timeout_s:g} s; --timeout gives a slow server more")

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

    def _no_answer(self, what: str, failure: Unanswered) -> NoAnswer:
        return NoAnswer(f"the assistant at {self._where} {what}; {failure.advice}")

    def _end(self, what: str) -> NoReturn:
        raise ConfigError(f"the assistant at {self._where} {what}")

    def _pause(self, seconds: float, reason: str) -> None:
        if self.limits.pause(seconds) and seconds >= 5:
            self._tell(f"the server asks to wait {seconds:.0f} s ({reason})")

    def _correct(self, answer: ChatReply, expected: float) -> None:
        if answer.prompt_tokens is not None and answer.completion_tokens is not None:
            self.limits.correct_tokens(answer.prompt_tokens + answer.completion_tokens - expected)
