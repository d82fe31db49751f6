"""One request to an OpenAI-compatible chat endpoint, sent until it is answered or it is clear that it will not be.

The `openai` SDK says where to, and with which client and headers. Its own retries are left out: it gives up where a
server asks for a wait of more than two minutes, and one request's wait does not hold the others back. Here Retry-After
makes all of them wait.

Tried again are 408, 409, 429, 5xx, time-outs, broken connections, and bodies that are not what the protocol says. What
does not get better ends the run at once, as a `ConfigError`: a key that is not accepted, no credit, a model that does
not exist, a parameter that is refused. A server that does not answer from the start, or has stopped answering, ends it
as a `NoAnswer`.
"""

from __future__ import annotations

import errno
import json
import random
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from cattune.annotation.assistant.chat_protocol import (
    FORMATS,
    Answer,
    Refusal,
    is_out_of_money,
    is_retried,
    parsed,
    read_answer,
    read_refusal,
    refuses_format,
    retry_after,
    without_secret,
)
from cattune.annotation.assistant.endpoint import (
    KEY_VARIABLE,
    NO_KEY,
    check_address,
    check_parameters,
    open_client,
    read_key,
    without_login,
)
from cattune.annotation.assistant.limits import Limits
from cattune.annotation.assistant.patience import Patience
from cattune.errors import CattuneError, ConfigError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Waits between tries double from the first to the longest, each shortened at random by up to half."""

TRIES_AT_THE_START = 4
"""So often is a server tried that has not yet answered anything."""

_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN})

REFUSED_AT_THE_START = 10
"""So many requests refused, and none answered, end the run."""


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


_Outcome: TypeAlias = "Answer | tuple[Unanswered, float | None] | None"

_OVERLOAD = frozenset({"time-out", "status 429", "status 503", "status 529"})
"""What a server that has too much to do answers."""


class Assistant:
    """An assistant model behind a chat endpoint.

    Args:
        model: its name there.
        response_format: the form that replies are held to, where the server can.
        base_url: the endpoint, such as `http://localhost:8000/v1`; None for the SDK's own.
        key_variable: the environment variable that holds the key. It may be unset where `base_url` is given.
        parameters: sent with every request, such as {"temperature": 0}.
        limits: how fast; shared by all who ask.
        timeout_s: how long a server may be silent about a request that waits for no other one (`patience`).
        connect_timeout_s: how long a connection may take.
        max_retries: how often a request is tried again.
        tell: is told what the user should know, in a sentence.

    Raises:
        ConfigError: There is no key, a parameter is one that is set here, or the SDK is not installed.
    """

    def __init__(
        self,
        model: str,
        response_format: Mapping[str, Any],
        *,
        base_url: str | None = None,
        key_variable: str = KEY_VARIABLE,
        parameters: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        timeout_s: float = 120.0,
        connect_timeout_s: float = 10.0,
        max_retries: int = 8,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model = model
        self.parameters = check_parameters(parameters or {})
        self.limits = limits or Limits()
        self.sent: Counter[str] = Counter()
        """Requests sent ("requests"), and why some were sent again ("status 429", "time-out", ...)."""
        self._response_format = response_format
        self._key_variable = key_variable
        self._secret = read_key(key_variable, base_url)
        self._max_retries = max_retries
        self._tell = tell
        self._format = 0
        self._patience = Patience(timeout_s, lambda: self.limits.pace.usual_s)
        self._answered = False
        self._refused = self._given_up = 0
        check_address(base_url)
        self._http, self._url = open_client(base_url, self._secret, connect_timeout_s)
        self._where = without_login(self._url.removesuffix("chat/completions"))

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
        failure = Unanswered("not tried", "")
        wait, tries = 0.0, 0
        while tries <= self._max_retries:
            await self.limits.sleep(wait)
            outcome = await self._in_turn(messages, tokens, failure.reason if tries else "")
            if isinstance(outcome, Answer):
                self._answered, self._given_up = True, 0
                self._correct(outcome, tokens)
                return outcome
            if outcome is None:  # the way to ask for JSON was changed
                continue
            failure, asked_to_wait = outcome
            tries += 1
            if not self._answered and tries >= TRIES_AT_THE_START and failure.reason != "status 429":
                raise self._no_answer(f"does not answer ({failure}), after {tries} tries")
            wait = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (tries - 1)) * random.uniform(0.5, 1)
            if asked_to_wait:
                wait = 0.0
                self._pause(asked_to_wait, failure.reason)
        self._given_up += 1
        if self._given_up >= max(3, self.limits.pace.limit):
            given_up = f"({failure}): {self._given_up} requests in a row were given up, each tried {tries} x"
            raise self._no_answer(f"{'has stopped answering' if self._answered else 'does not answer'} {given_up}")
        raise failure

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _in_turn(self, messages: Sequence[Mapping[str, str]], tokens: float, again: str) -> _Outcome:
        """As `_try`, when it may be sent, and as long as the server is not silent for too long; `again` is why."""
        try:
            async with self.limits.turn(tokens, bool(again)) as turn, self._patience.watched():
                if again:
                    self.sent[again] += 1
                self.sent["requests"] += 1
                outcome = await self._try(messages)
                turn.is_answered = isinstance(outcome, Answer)
                turn.is_overload = isinstance(outcome, tuple) and outcome[0].reason in _OVERLOAD
                return outcome
        except TimeoutError:
            return Unanswered("time-out", "the server was silent for too long"), None

    async def _try(self, messages: Sequence[Mapping[str, str]]) -> _Outcome:
        """An answer; or what went wrong and the wait that was asked for; or None, to be asked again in another way."""
        import httpx2

        way = self._format
        body = {"model": self.model, "messages": messages, **self.parameters, **self._form(way)}
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        try:
            response = await self._http.post(self._url, content=content)
            if response.is_success:
                return read_answer(without_secret(response.text, self._secret))
        except httpx2.TransportError as error:
            return self._broken(error), None
        except Exception as error:  # what a server sends that is no HTTP raises whatever the library has for it
            detail = without_secret(f"{type(error).__name__}: {error}", self._secret)
            return Unanswered("malformed response", detail), None
        refusal = read_refusal(response.status_code, parsed(response.text), self._secret)
        if not self._answered and refuses_format(refusal) and way + 1 < len(FORMATS):
            self._weaken(way, refusal)
            return None
        return self._refusal(refusal), retry_after(response.headers)

    def _broken(self, error: BaseException) -> Unanswered:
        """A connection that failed, by its first cause: the layers in between take one kind for another."""
        while error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
            return Unanswered("time-out", "the server was silent for too long")
        detail = without_secret(str(error), self._secret) or type(error).__name__
        never_sent = isinstance(error, ConnectionRefusedError | socket.gaierror | ssl.SSLError) or (
            isinstance(error, OSError) and error.errno in _UNREACHABLE
        )
        return Unanswered(NO_CONNECTION if never_sent else "connection failed", detail)

    def _form(self, way: int) -> dict[str, Any]:
        forms: dict[str, Any] = {"json_schema": self._response_format, "json_object": {"type": "json_object"}}
        form = forms.get(FORMATS[way])
        return {} if form is None else {"response_format": form}

    def _weaken(self, way: int, refusal: Refusal) -> None:
        if self._format == way:  # others may have found out at the same time
            self._format = way + 1
            self._tell(
                f"the server does not take response_format {FORMATS[way]} ({refusal.message[:200]}); going on with "
                f"{FORMATS[way + 1]}"
            )

    def _refusal(self, refusal: Refusal) -> Unanswered:
        """The failure of one request, where it is not the end for all; one that is for good is raised."""
        status, said = refusal.status, refusal.message
        if is_out_of_money(refusal):
            self._end(f"says that the account has no credit or quota left ({said}); what was answered is stored")
        if is_retried(status):
            return Unanswered(f"status {status}", said)
        if status == 401 and self._secret == NO_KEY:
            self._end(f"wants a key, and the environment variable {self._key_variable} is not set (status 401)")
        if status == 401:
            self._end(f"does not accept the key in the environment variable {self._key_variable} (status 401)")
        if status == 403:
            self._end(f"does not let the key in {self._key_variable} use the model {self.model!r} (status 403: {said})")
        if status == 404:
            self._end(f"has no model {self.model!r}, or is not a chat endpoint (status 404: {said})")
        if not self._answered and refusal.parameter in self.parameters:
            self._end(f"refuses the parameter {refusal.parameter!r} ({said}); change --parameters")
        self._refused += not self._answered
        if self._refused >= REFUSED_AT_THE_START:
            self._end(f"has refused each of the first {self._refused} requests (status {status}: {said})")
        raise Unanswered(f"status {status}", said)

    def _no_answer(self, what: str) -> NoAnswer:
        return NoAnswer(f"the assistant at {self._where} {what}; is it running, and is the address right?")

    def _end(self, what: str) -> NoReturn:
        raise ConfigError(f"the assistant at {self._where} {what}")

    def _pause(self, seconds: float, reason: str) -> None:
        if self.limits.pause(seconds) and seconds >= 5:
            self._tell(f"the server asks to wait {seconds:.0f} s ({reason})")

    def _correct(self, answer: Answer, expected: float) -> None:
        if answer.prompt_tokens is not None and answer.completion_tokens is not None:
            self.limits.correct_tokens(answer.prompt_tokens + answer.completion_tokens - expected)
