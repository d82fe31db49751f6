"""Ask an assistant model about every example: nothing asked twice, results in the order of the input, memory flat.

A fixed number of workers take examples from the input as they become free, and at most `WINDOW` results wait for one
that comes before them. An example counts as done when its replies are on the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol

from cattune.annotation.assistant.costs import Costs, Estimate
from cattune.annotation.assistant.course import ExampleResult, Question, Request, answered, course
from cattune.annotation.assistant.endpoint.chat_protocol import ChatReply
from cattune.annotation.assistant.endpoint.limits import Halted, Limits
from cattune.annotation.assistant.endpoint.unanswered import BUSY, NoAnswer, Unanswered
from cattune.annotation.assistant.prompt import ChatMessage
from cattune.annotation.store.store import OURS, STORED, Failure, Store, StoredReply
from cattune.annotation.store.writer import Wakeups
from cattune.annotation.summary import Stopped, Summary
from cattune.data.examples import Example
from cattune.errors import ConfigError

WINDOW = 2048
"""So many examples may be under way, or done and waiting for an earlier one."""

TAKEN_WAIT_S = 0.2
"""How often to look whether another process has the reply that it is asking for."""

BUDGET_WAIT_S = 0.05

MOST_READ_HERE = 10_000
"""A reply that has more characters than this, with the text that it is about, is read in a thread. Reading this many
takes some milliseconds; a thread for each reply would take longer than reading most of them."""

GRACE_S = 60.0
"""How long a run that ends early waits for the requests under way."""

BUDGET, INTERRUPTED, NO_ANSWER = "budget", "interrupted", "no answer"
"""Why a run was stopped."""


class Asker(Protocol):
    """Whatever answers a conversation: `client.Assistant`, `local.LocalModel`, a stand-in of a test."""

    limits: Limits

    async def ask(self, messages: list[ChatMessage], tokens: float = 0.0) -> ChatReply:
        """See `client.Assistant.ask`."""
        ...

    async def is_there(self) -> bool:
        """Whether it could answer now."""
        ...

    async def close(self) -> None:
        """Give back what it holds."""
        ...


class Annotator:
    """One run over one input.

    Args:
        question: what is asked.
        asker: who is asked; closed at the end of the run.
        store: keeps the replies.
        costs: the budget.
        retry_failed: whether to ask again for the replies of earlier runs that could not be used.
        progress: is told of every example that is done, with the summary so far.
    """

    def __init__(
        self,
        question: Question,
        asker: Asker,
        store: Store,
        *,
        costs: Costs | None = None,
        retry_failed: bool = False,
        progress: Callable[[Summary], None] = lambda _: None,
    ) -> None:
        self.summary = Summary(sent_again=asker.limits.sent_again)
        self._question = question
        self._asker = asker
        self._store = store
        self._costs = costs or Costs()
        self._retry_failed = retry_failed
        self._progress = progress
        self._busy: dict[bytes, asyncio.Event] = {}  # by an example's first request: equal ones wait for each other
        self._retried: set[bytes] = set()
        self._unanswered: dict[bytes, Failure] = {}  # in this run: no answer is no reply, and is not stored as one
        self._gone: Unanswered | None = None  # the server was silent, and has shown no sign of life since
        self._done: dict[int, ExampleResult] = {}
        self._error: BaseException | None = None
        self._over = False
        self._grace = GRACE_S

    def run(self, examples: Iterable[Example]) -> Generator[Example]:
        """The annotated examples, in order, as they become available.

        Raises:
            Stopped: the budget is reached, the assistant does not answer, or `stop` was called; after the requests
                under way have been stored. Examples that the run has given by then without an answer do not count.
            CattuneError: the assistant or the store cannot be used at all, or an example cannot be read.
        """
        with asyncio.Runner() as runner:
            runner.run(self._start(examples))
            try:
                while results := runner.run(self._next()):
                    for outcome in results:
                        self.summary.in_order += 1
                        yield outcome.example
                runner.run(self._see_whether_it_answered())
            except KeyboardInterrupt:
                self._grace = 0.0
                raise
            finally:
                runner.run(self._finish())
        if self.summary.stopped:
            raise Stopped(self.summary.why or self.summary.stopped)

    def stop(self, reason: str, why: str = "") -> None:
        """Send nothing more; let what is under way be answered and stored. A signal handler may call this."""
        if self.summary.stopped is None:
            self.summary.stopped, self.summary.why = reason, why
        self._asker.limits.halt()

    async def _see_whether_it_answered(self) -> None:
        """End as stopped where the assistant is not there: what it was not asked is no result of its."""
        gone = self._gone
        if gone is not None and (gone.reason in BUSY or not await self._asker.is_there()):
            self.stop(NO_ANSWER, f"the assistant does not answer ({gone})")
        elif self._unanswered and not self.summary.asked and not self.summary.reused:
            last = list(self._unanswered.values())[-1]
            self.stop(NO_ANSWER, f"none of the requests was answered (the last one: {last.reason}: {last.detail})")

    async def _start(self, examples: Iterable[Example]) -> None:
        self._wakeups = Wakeups(asyncio.get_running_loop())
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(WINDOW)
        numbered = enumerate(examples)
        workers = self._asker.limits.concurrency
        self._workers = [asyncio.create_task(self._work(numbered)) for _ in range(workers)]

    async def _next(self) -> list[ExampleResult]:
        """What follows on what has been returned, at least one result; none at the end."""
        results: list[ExampleResult] = []
        while True:
            while (outcome := self._done.pop(self.summary.in_order + len(results), None)) is not None:
                results.append(outcome)
                self._room.release()
            if self._error is not None:
                raise self._error
            if results or all(worker.done() for worker in self._workers) and not self._done:
                return results
            if self.summary.stopped:
                if all(worker.done() for worker in self._workers):
                    return results  # what is done comes after a gap
                for _ in self._workers:  # none is to wait for room that nobody will make
                    self._room.release()
            self._changed.clear()
            await self._changed.wait()

    async def _finish(self) -> None:
        """Let what is under way be answered and stored, within limits: it is paid for, whatever ended the run."""
        self._over = True
        self._asker.limits.halt()
        for _ in self._workers:
            self._room.release()
        await asyncio.wait(self._workers, timeout=self._grace)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._asker.close()

    async def _work(self, numbered: Iterator[tuple[int, Example]]) -> None:
        try:
            while True:
                await self._room.acquire()
                if self._over or self.summary.stopped:
                    return
                index, example = next(numbered, (-1, None))
                if example is None:
                    return
                self._done[index] = outcome = await self._annotate(example)
                self.summary.add(outcome)
                self._progress(self.summary)
                self._changed.set()
                await asyncio.sleep(0)  # where all is stored nothing else lets the others run
        except NoAnswer as error:
            self.stop(NO_ANSWER, str(error))
        except Halted:
            if not (self._over or self.summary.stopped):
                self._error = ConfigError("this assistant has served a run and is closed; make a new one for each run")
        except BaseException as error:
            self._error, self._over = self._error or error, True
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            asyncio.get_running_loop().call_soon(self._changed.set)  # after this worker is seen as done

    async def _annotate(self, example: Example) -> ExampleResult:
        """Take an example through its course."""
        steps = course(self._question, example)
        step: Request | ExampleResult = next(steps)
        assert isinstance(step, Request)
        first = step.key
        while (busy := self._busy.get(first)) is not None:
            await busy.wait()
        self._busy[first] = asyncio.Event()
        was_there = True
        try:
            while isinstance(step, Request):
                reply, is_known = await self._reply(step)
                was_there &= is_known
                if _is_long(example, reply):  # the other requests are not to wait while it is read
                    step = await asyncio.to_thread(answered, steps, reply)
                else:
                    step = answered(steps, reply)
        finally:
            self._busy.pop(first).set()
        if any(self._store.failure(failure.key) is None for failure in step.failures):
            await self._wakeups.written(self._store.fail(step.failures))
        self.summary.from_store += was_there
        return step

    async def _reply(self, request: Request) -> tuple[StoredReply | Failure, bool]:
        """What came of a request, and whether that was known before it was sent."""
        key = request.key
        if self._retry_failed and key not in self._retried and self._store.failure(key):
            self._retried.add(key)
            await self._wakeups.written(self._store.reopen([key]))
        while True:
            found = self._store.get(key) or self._unanswered.get(key)
            if found is not None:
                self.summary.reused += isinstance(found, StoredReply)
                return found, True
            claim = await self._wakeups.written(self._store.claim(key))
            if claim == OURS:
                if self._retry_failed:
                    self._retried.add(key)  # if it fails now, an equal example is not to ask again
                return await self._ask(request), False
            if claim != STORED:
                await self._asker.limits.sleep(TAKEN_WAIT_S)

    async def _ask(self, request: Request) -> StoredReply | Failure:
        """Send a request that is ours to send, and return when what came of it is stored."""
        costs, stored = self._costs, False
        try:
            estimate = await self._afford(request)
            costs.begin(estimate)
            try:
                answer = await self._asker.ask(request.messages, estimate.prompt + estimate.completion)
                self._gone = None
                reply = self._metered(request, answer, round(estimate.prompt))
                await self._wakeups.written(self._store.save(request.key, self._question.model, reply))
                stored = True
            finally:
                costs.end(estimate)
        except Unanswered as error:
            self._gone = error if error.is_silence else None
            self._unanswered[request.key] = Failure(request.key, error.reason, error.detail, "")
            return self._unanswered[request.key]
        finally:
            if not stored:
                self._store.release(request.key)
        return reply

    async def _afford(self, request: Request) -> Estimate:
        """What a request is expected to have; or stop the run, where that is more than the budget has left."""
        costs = self._costs
        while True:
            estimate = costs.estimate(request.messages)
            if costs.budget is None or costs.allows(estimate, self._store.spent(self._question.model)):
                return estimate
            if not costs.under_way:
                self.stop(BUDGET)
            await self._asker.limits.sleep(BUDGET_WAIT_S)  # those under way may come to less than was expected

    def _metered(self, request: Request, answer: ChatReply, prompt_tokens: int) -> StoredReply:
        """The reply, with the server's count of tokens, or an estimate where it has none."""
        prompt, completion = answer.prompt_tokens, answer.completion_tokens
        if prompt is None or completion is None:
            self.summary.unmetered += 1
            prompt, completion = prompt_tokens, len(answer.text.encode()) // 4 + 1
        else:
            self._costs.learn(request.messages, prompt, completion)
        self.summary.asked += 1
        self.summary.prompt_tokens += prompt
        self.summary.completion_tokens += completion
        return StoredReply(answer.text, answer.finish_reason, prompt, completion)


def _is_long(example: Example, got: StoredReply | Failure) -> bool:
    return isinstance(got, StoredReply) and len(got.text) + sum(map(len, example.fields.values())) > MOST_READ_HERE
