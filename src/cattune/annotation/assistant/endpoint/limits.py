"""How fast an assistant model may be asked: requests under way, requests and tokens a minute, pauses that it asks for.

A rate spaces what it lets through evenly and saves nothing up, so that no minute of the clock has more than it should;
only the first `BURST_S` seconds' worth may go at once. Tokens are not known before a reply is there: what is let
through is an estimate, and what it was wrong by is made good for those that follow.

How many requests may be under way at once is found out (`concurrency`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cattune.annotation.assistant.endpoint.concurrency import Concurrency
from cattune.errors import ConfigError

BURST_S = 1.0
"""So many seconds' worth may go at once."""

_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_SLICE_S = 0.25


def estimate_tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens messages have: one for four bytes of UTF-8, and a few for each message."""
    return sum(_TOKENS_PER_MESSAGE + len(turn["content"].encode()) // _BYTES_PER_TOKEN for turn in messages)


class Halted(Exception):
    """Nothing more is to be sent."""


class Rate:
    """So much a minute, evenly.

    Args:
        per_minute: > 0; None lets everything through.
        clock: seconds.
    """

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._per_second = None if per_minute is None else per_minute / 60
        self._clock = clock
        self._free_at = clock() - BURST_S

    def reserve(self, amount: float) -> float:
        """Take a place in the queue; return the seconds until it is one's turn."""
        if self._per_second is None:
            return 0.0
        now = self._clock()
        turn = max(self._free_at, now - BURST_S)
        self._free_at = turn + amount / self._per_second
        return max(0.0, turn - now)

    def correct(self, difference: float) -> None:
        """What has been let through was more than reserved by this much; less, where negative."""
        if self._per_second is not None:
            self._free_at += difference / self._per_second


@dataclass(slots=True)
class Turn:
    """One request that is sent; whoever sends it says what comes of it.

    Args:
        is_answered: how long it takes says how much the server bears.
        is_overload: the server has too much to do.
    """

    is_answered: bool = False
    is_overload: bool = False


class Limits:
    """The limits of one run, shared by all of its workers.

    Args:
        concurrency: the most requests under way at once, >= 1; how many there are is found out.
        requests_per_minute: > 0, or None.
        tokens_per_minute: of prompts and replies, > 0, or None.

    Raises:
        ConfigError: one is out of range.
    """

    def __init__(
        self,
        concurrency: int = 16,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= concurrency <= 1000:
            raise ConfigError(f"the concurrency must be from 1 to 1000, got {concurrency}")
        for name, value in (("requests", requests_per_minute), ("tokens", tokens_per_minute)):
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"the {name} a minute must be a number > 0, got {value}")
        self.concurrency = concurrency
        self._requests = Rate(requests_per_minute, clock)
        self._tokens = Rate(tokens_per_minute, clock)
        self._clock = clock
        self.pace = Concurrency(concurrency)
        self.sent_again: Counter[str] = Counter()
        """How many requests were sent again, by what became of them before ("status 429", "time-out", ...)."""
        self._resume_at = clock()
        self._halted = False
        self._turns = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self, tokens: float, again: str = "") -> AsyncIterator[Turn]:
        """A block that sends one request of about so many tokens, when it may be sent, and waits for its answer.

        Args:
            tokens: the reply's included.
            again: why it is sent again, if it is; such ones are first.

        Raises:
            Halted, ConfigError: as in `wait`.
        """
        await self._take_turn(bool(again))
        try:
            await self.wait(tokens)
            if again:
                self.sent_again[again] += 1
            turn, sent = Turn(), self.pace.sent(self._clock())
            try:
                yield turn
            except TimeoutError:
                turn.is_overload = True
                raise
            finally:
                if turn.is_answered:
                    self.pace.answered(sent, self._clock())
                else:
                    self.pace.failed(sent, turn.is_overload)
        finally:
            self._turns -= 1
            self._give_turns()

    async def _take_turn(self, again: bool) -> None:
        """Wait until fewer requests are under way than the server bears, in order."""
        if self._turns < self.pace.limit and not self._queue:
            self._turns += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if again else self._queue.append)(place)
        try:
            while not place.done():
                if self._halted:
                    raise Halted
                await asyncio.wait((place,), timeout=_SLICE_S)
        except BaseException:
            if place.done():
                self._turns -= 1
            else:
                self._queue.remove(place)
            self._give_turns()
            raise

    def _give_turns(self) -> None:
        while self._queue and self._turns < self.pace.limit:
            self._turns += 1
            self._queue.popleft().set_result(None)

    async def wait(self, tokens: float) -> None:
        """Return when a request of about so many tokens, the reply's included, may be sent.

        Raises:
            Halted: none may be any more.
            ConfigError: one has more tokens than may be sent in a minute.
        """
        if self._tokens.per_minute is not None and tokens > self._tokens.per_minute:
            raise ConfigError(
                f"one request and its reply have about {tokens:.0f} tokens, more than the {self._tokens.per_minute:g} "
                "that may be sent in a minute (--tokens-per-minute)"
            )
        await self.sleep(max(self._requests.reserve(1), self._tokens.reserve(tokens)))
        while (pause := self._resume_at - self._clock()) > 0:
            # Not all at the same moment: those that waited would run into the limit together once more.
            await self.sleep(pause + random.uniform(0, min(1.0, pause / 2)))

    async def sleep(self, seconds: float) -> None:
        """Wait, but not after `halt`.

        Raises:
            Halted: at once where nothing may be sent any more, and in the middle of a wait.
        """
        end = self._clock() + seconds
        while not self._halted:
            left = end - self._clock()
            if left <= 0:
                return
            await asyncio.sleep(min(left, _SLICE_S))
        raise Halted

    def halt(self) -> None:
        """Let nothing more be sent; what is under way goes on. A signal handler may call this."""
        self._halted = True

    def correct_tokens(self, difference: float) -> None:
        """A request had so many tokens more than was said before it; fewer, where negative."""
        self._tokens.correct(difference)

    def pause(self, seconds: float) -> bool:
        """Send nothing more for so long, whoever asks; return whether that is longer than was known."""
        resume_at = self._clock() + seconds
        is_news = resume_at > self._resume_at + 1
        self._resume_at = max(self._resume_at, resume_at)
        return is_news
