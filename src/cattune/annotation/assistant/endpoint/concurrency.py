"""How many requests to have under way: as many as make the server answer more of them in the same time. Pure.

A server answers some requests at once, and the others wait in its queue. How many, nobody says: one for llama.cpp on a
laptop, hundreds behind a provider. The answers tell, by Little's law: where n requests under way take r seconds each,
n / r are answered a second. Twice as many are worth it where that rises; where it does not, more requests only wait
longer.

Doubling from one, and halving where the server says that it is overloaded, are TCP's slow start and multiplicative
decrease (RFC 5681). What bounds the growth is the rate of answers, as in BBR (draft-cardwell-iccrg-bbr), and not their
delay, as in TCP Vegas or in the gradient of Netflix's concurrency-limits: a model that answers in batches takes longer
for each of more requests, and still answers more of them a second.

The first request is alone: it fills the server's cache with the instructions that all requests begin with.
"""

from __future__ import annotations

from dataclasses import dataclass

GAIN_AT_THE_START, GAIN_LATER = 0.05, 0.15
"""Twice as many requests under way are worth it where so much more is answered a second. The start is soon over and
sees little: to stop too early costs a fast server's time, to stop too late costs nothing, and is found out later."""

SEEN_AT_THE_START, SEEN_LATER = 3, 8
"""A level is judged by the answers to half as many requests as it has under way, or to so many where that is more."""

SHORTEST_REST, LONGEST_REST = 1, 32
"""Rounds between one trial of another level and the next: four times as many after each that changed nothing."""

REST_AT_THE_TOP = 16
"""The first of them where the limit can rise no more."""

CLEARLY = 1.25
"""A level whose answers take less than this many times as long as those of the level below is worth it for sure."""


@dataclass(slots=True, eq=False)
class Sent:
    """A request under way: when it was sent, in which round, and as which of it, from 1."""

    at: float
    round: int
    number: int


@dataclass(frozen=True, slots=True)
class Taken:
    """How long answers took, together."""

    seconds: float
    answers: float


class Concurrency:
    """Finds out how many requests to have under way, from 1 to `most`; is told of each that is sent and that ends.

    A *round* is the requests that are sent under one limit. It is judged by its second half: the first ones still meet
    the queue of the limit before. At the start each level is a trial beside the one below, without a rest between
    them; later there is a trial now and then, up and down in turn, because a server may get faster or slower. One that
    was worth it is followed by the next, upwards.

    Args:
        most: the upper bound.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = 1
        self.under_way = 0
        self.usual_s = 0.0
        """What an answer takes, a mean of the last ones."""
        self._taken: dict[int, Taken] = {}  # by limit
        self._beside: int | None = None  # the limit beside which the present one is tried
        self._is_start = True
        self._goes_up = False
        self._rest, self._rested = SHORTEST_REST, 0
        self._round = 0
        self._go_to(1)

    def sent(self, now: float) -> Sent:
        """A request goes out; its end is to be told with what this returns."""
        self.under_way += 1
        self._was_full |= self.under_way >= self.limit
        self._sent += 1
        return Sent(now, self._round, self._sent)

    def answered(self, sent: Sent, now: float) -> None:
        """A request was answered."""
        self.under_way -= 1
        took = now - sent.at
        self.usual_s += (took - self.usual_s) / (8 if self.usual_s else 1)
        if sent.round == self._round and sent.number > self.limit // 2:
            self._seen += 1
            self._seconds += took
            if self._has_seen_enough():
                self._judge()

    def failed(self, sent: Sent, is_overloaded: bool = False) -> None:
        """A request ended without an answer. Where the server has too much to do, halve the limit, once a round."""
        self.under_way -= 1
        if is_overloaded and sent.round == self._round:
            self._settle(max(1, self.limit // 2), SHORTEST_REST)

    def _has_seen_enough(self) -> bool:
        """At the start a level that is clearly as quick as the one below needs no more than half as many answers."""
        if not self._is_start:
            return self._seen >= max(SEEN_LATER, self.limit // 2)
        before = self._taken.get(self._beside or 0)
        if before is None or self._seconds / self._seen < CLEARLY * before.seconds / before.answers:
            return self._seen >= max(1, self.limit // 4)
        return self._seen >= max(SEEN_AT_THE_START, self.limit // 2)

    def _judge(self) -> None:
        """End a round: keep what its answers took, and go to the limit that this says."""
        if not self._was_full:  # there was too little to ask: the limit was not put to the test
            return self._go_to(self.limit)
        known = self._taken.get(self.limit, Taken(0.0, 0.0))
        share = 0.5 if self._beside is None else 0.0  # a trial counts alone, as what it is beside was just measured
        self._taken[self.limit] = Taken(share * known.seconds + self._seconds, share * known.answers + self._seen)
        if self._beside is None and not self._is_start:
            return self._rest_or_try()
        best = self.limit if self._beside is None else self._better_of(self._beside, self.limit)
        if best == self._beside:
            self._settle(best, SHORTEST_REST if self._is_start else min(LONGEST_REST, 4 * self._rest))
        elif best == self.most:
            self._settle(best, REST_AT_THE_TOP)
        elif (self._beside or 0) > best:
            self._settle(best, SHORTEST_REST)
        else:  # it was worth it to go up: go on
            self._try(min(2 * best, self.most))

    def _rest_or_try(self) -> None:
        self._rested += 1
        if self._rested < self._rest or self.most == 1:
            return self._go_to(self.limit)
        self._goes_up = self.limit == 1 or (self.limit < self.most and not self._goes_up)
        self._try(min(2 * self.limit, self.most) if self._goes_up else self.limit // 2)

    def _better_of(self, one: int, other: int) -> int:
        low, high = sorted((one, other))
        if low == 1 and self._is_start:
            return high  # the first request filled a cache: what it took says nothing
        gain = GAIN_AT_THE_START if self._is_start else GAIN_LATER
        least = 1 + gain * (high / low - 1)
        return high if self._rate(high) >= least * self._rate(low) else low

    def _rate(self, limit: int) -> float:
        """Answers a second."""
        taken = self._taken[limit]
        return limit * taken.answers / max(taken.seconds, 1e-9)

    def _try(self, limit: int) -> None:
        self._beside = self.limit
        self._go_to(limit)

    def _settle(self, limit: int, rest: int) -> None:
        self._is_start, self._beside = False, None
        self._rest, self._rested = rest, 0
        self._go_to(limit)

    def _go_to(self, limit: int) -> None:
        """Begin a round."""
        self.limit = limit
        self._round += 1
        self._sent = self._seen = 0
        self._seconds = 0.0
        self._was_full = self.under_way >= limit
