"""How many requests are under way, beside simulated servers, and which of them are given up."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.annotation.assistant.endpoint.concurrency import Concurrency, Sent
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.assistant.endpoint.patience import Patience


@dataclass
class Run:
    seconds: float
    limits: list[int]
    """The limit at each answer."""
    longest: float
    """The longest time from a request to its answer."""


def simulate(pace: Concurrency | int, slots: int, requests: int, spread: float = 0.0, seed: int = 0) -> Run:
    """A server that answers so many requests at once, in the order in which they come; each takes 1 s on average.

    Args:
        pace: says how many are under way; a number is always under way.
        spread: the standard deviation of what they take.
    """
    rng = random.Random(seed)
    width = math.sqrt(math.log(1 + spread**2))
    free = [0.0] * slots  # when each slot is free
    under_way: list[tuple[float, int, float, Sent | None]] = []
    now, sent, limits, longest = 0.0, 0, [], 0.0
    for _ in range(requests):
        limit = pace if isinstance(pace, int) else pace.limit
        while sent < requests and len(under_way) < limit:
            begins = max(now, heapq.heappop(free))
            ends = begins + rng.lognormvariate(-(width**2) / 2, width)
            heapq.heappush(free, ends)
            heapq.heappush(under_way, (ends, sent, now, None if isinstance(pace, int) else pace.sent(now)))
            sent += 1
        now, _, since, ticket = heapq.heappop(under_way)
        longest = max(longest, now - since)
        if isinstance(pace, Concurrency) and ticket is not None:
            limits.append(pace.limit)
            pace.answered(ticket, now)
    return Run(now, limits, longest)


def test_the_first_request_is_alone_and_then_they_double_where_the_server_bears_it() -> None:
    run = simulate(Concurrency(64), 1000, 400)
    assert [limit for limit, _ in itertools.groupby(run.limits)][:7] == [1, 2, 4, 8, 16, 32, 64]
    ramp = run.limits.index(64)
    assert ramp < 130  # two rounds a level at most


@pytest.mark.parametrize("spread", [0.0, 0.4])
@pytest.mark.parametrize("most", [16, 64])
def test_a_server_with_one_slot_has_few_in_its_queue(most: int, spread: float) -> None:
    for seed in range(10):
        run = simulate(Concurrency(most), 1, 300, spread, seed)
        assert sorted(run.limits)[len(run.limits) // 2] <= (2 if spread == 0 else 4)
        assert max(run.limits) <= (4 if spread == 0 else 16)
        assert run.seconds == pytest.approx(simulate(most, 1, 300, spread, seed).seconds)  # and nothing is lost


@settings(max_examples=40)
@given(
    slots=st.integers(1, 200), most=st.integers(1, 100), spread=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 1000)
)
def test_the_limit_that_is_found_keeps_the_server_busy(slots: int, most: int, spread: float, seed: int) -> None:
    """Against the best of all limits, which is found by trying each power of two, and `most`, over the whole run."""
    requests = 25 * most
    run = simulate(Concurrency(most), slots, requests, spread, seed)
    powers = [2**i for i in range(8) if 2**i < most]
    best = min(simulate(limit, slots, requests, spread, seed).seconds for limit in [*powers, most])
    assert all(1 <= limit <= most for limit in run.limits)
    assert run.seconds <= 1.2 * best + 60  # what the start and the trials cost: 9 s on average
    settled = run.limits[len(run.limits) // 2 :]
    assert sorted(settled)[len(settled) // 2] <= max(2, 4 * slots)


@given(most=st.integers(1, 40), fates=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=300))
def test_no_course_of_a_run_breaks_the_bounds(most: int, fates: list[tuple[int, int]]) -> None:
    """Any of the requests under way ends: answered, failed, or failed by overload; then others are sent."""
    pace, under_way, now = Concurrency(most), [], 0.0
    for which, fate in fates:
        now += which / 10
        under_way += [pace.sent(now) for _ in range(pace.limit - len(under_way))]
        ends = under_way.pop(which % len(under_way))
        if fate < 8:
            pace.answered(ends, now)
        else:
            pace.failed(ends, is_overloaded=fate == 9)
        assert 1 <= pace.limit <= most
        assert pace.under_way == len(under_way)


def test_a_server_that_gets_slower_or_faster_is_followed() -> None:
    pace = Concurrency(32)
    assert simulate(pace, 32, 1000).limits[-1] == 32
    assert simulate(pace, 1, 3000).limits[-1] <= 4
    assert simulate(pace, 32, 3000).limits[-1] >= 16


def test_overload_halves_the_limit_once_a_round() -> None:
    pace = Concurrency(32)
    pace._go_to(32)
    sent = [pace.sent(0.0) for _ in range(32)]
    for request in sent[:10]:
        pace.failed(request, is_overloaded=True)
    assert pace.limit == 16
    pace.failed(pace.sent(0.0), is_overloaded=True)
    assert pace.limit == 8
    for request in sent[10:]:
        pace.failed(request)
    assert (pace.limit, pace.under_way) == (8, 0)


def test_what_is_not_put_to_the_test_is_not_raised() -> None:
    """Where requests come one by one, because of a limit a minute, one that is alone says nothing about many."""
    pace = Concurrency(16)
    for second in range(100):
        pace.answered(pace.sent(second), second + 0.5)
    assert pace.limit == 2


def in_turns(limits: Limits, take: Callable[[int], float], count: int) -> list[int]:
    """How many were under way as each of `count` requests was sent, the answer to the nth after `take(n)` seconds."""
    under_way = 0
    seen = []

    async def one(number: int) -> None:
        nonlocal under_way
        async with limits.turn(1) as turn:
            under_way += 1
            seen.append(under_way)
            await asyncio.sleep(take(number))
            under_way -= 1
            turn.is_answered = True

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(count)))

    asyncio.run(all_of_them())
    assert limits.pace.under_way == 0
    return seen


def test_turns_are_taken_in_order_and_never_more_than_the_limit() -> None:
    seen = in_turns(Limits(8, clock=lambda: 0.0), lambda number: 0.0, 200)
    assert seen[:3] == [1, 1, 2]
    assert max(seen) == 8
    assert max(in_turns(Limits(1, clock=lambda: 0.0), lambda number: 0.0, 20)) == 1


def test_a_turn_that_is_cancelled_is_given_to_the_next() -> None:
    async def run() -> list[str]:
        limits, done = Limits(1), []

        async def one(name: str, again: bool = False) -> None:
            async with limits.turn(1, again):
                await asyncio.sleep(0.01)
                done.append(name)

        tasks = [asyncio.create_task(one(name, name == "again")) for name in ("a", "b", "c", "d", "again")]
        await asyncio.sleep(0.005)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done

    assert asyncio.run(run()) == ["a", "again", "b", "d"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def given_up(events: list[tuple[float, str, int]], until: float, usual: float = 0.0) -> dict[int, float]:
    """When each request is given up, after 10 s of silence.

    Args:
        events: (when, "send" | "answer", which request), in order.
        until: when to stop looking.
        usual: what answers have taken lately.
    """
    ends: dict[int, float] = {}

    async def run() -> None:
        clock = Clock()
        patience = Patience(10.0, lambda: usual, clock)
        answers: dict[int, asyncio.Event] = {}
        tasks = []

        async def one(number: int) -> None:
            try:
                async with patience.watched():
                    await answers[number].wait()
            except TimeoutError:
                ends[number] = clock.now

        waiting = list(events)
        for second in range(int(until) + 1):
            clock.now = float(second)
            while waiting and waiting[0][0] <= second:
                _, what, number = waiting.pop(0)
                if what == "send":
                    answers[number] = asyncio.Event()
                    tasks.append(asyncio.create_task(one(number)))
                else:
                    answers[number].set()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            patience.look()
            for _ in range(5):
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    return ends


def test_a_request_that_waits_in_the_servers_queue_is_not_given_up() -> None:
    """One slot, nine seconds an answer, six sent at once: the last one is silent for 54 s."""
    sent = [(0.0, "send", number) for number in range(6)]
    answers = [(9.0 * (number + 1), "answer", number) for number in range(6)]
    assert given_up(sent + answers, 60) == {}


def test_a_request_that_hangs_is_given_up_while_others_are_answered() -> None:
    """The second one hangs. What is answered after the first two is no sign any more that it is in a queue."""
    events = [(0.0, "send", 0), (0.0, "send", 1), (3.0, "answer", 0)]
    for second in range(3, 20):
        events += [(float(second), "send", second), (second + 1.0, "answer", second)]
    events.sort(key=lambda event: event[0])
    assert given_up(events, 25) == {1: 14.0}


def test_a_server_that_does_not_keep_the_order_is_given_longer() -> None:
    """Nine seconds an answer, the last one first: the second is silent for 27 s."""
    events = [*((0.0, "send", number) for number in range(3)), (9.0, "answer", 0), (18.0, "answer", 2)]
    assert given_up([*events, (27.0, "answer", 1)], 60) == {}


def test_a_server_that_hangs_is_noticed_after_two_silences_however_many_wait() -> None:
    ends = given_up([(0.0, "send", number) for number in range(16)], 60)
    assert ends == {0: 10.0, **dict.fromkeys(range(1, 16), 20.0)}


def test_one_long_answer_does_not_end_those_that_wait_for_it() -> None:
    """The first is given up at 10 s; the server turns to the next ones then, and each takes 6 s."""
    events = [*((0.0, "send", number) for number in range(4)), (16.0, "answer", 1), (22.0, "answer", 2)]
    assert given_up([*events, (28.0, "answer", 3)], 60) == {0: 10.0}


def test_a_slow_server_is_given_longer() -> None:
    assert given_up([(0.0, "send", 0)], 60, usual=9.0) == {0: 36.0}
