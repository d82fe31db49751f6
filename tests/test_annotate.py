"""Annotating with a stand-in for the assistant: order, duplicates, repair, failures, budget, stopping, memory."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cattune import CausalLink, Example, load_examples, save_examples
from cattune.annotation.assistant import annotator as annotate_module
from cattune.annotation.assistant import course as course_module
from cattune.annotation.assistant.annotator import BUDGET, NO_ANSWER, Annotator
from cattune.annotation.assistant.costs import Costs, Price
from cattune.annotation.assistant.course import Course, ExampleResult, Question, Request, course
from cattune.annotation.assistant.endpoint.chat_protocol import ChatReply
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.assistant.endpoint.unanswered import NoAnswer, Unanswered
from cattune.annotation.assistant.forecast import forecast
from cattune.annotation.assistant.inputs import check_input, check_unchanged, iter_examples
from cattune.annotation.assistant.output import command_key
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.prompt import ChatMessage, example_tag, reply_text
from cattune.annotation.store import writer
from cattune.annotation.store.store import Failure, Store, StoredReply
from cattune.annotation.summary import Stopped, Summary
from cattune.data.examples import FAILED
from cattune.errors import ConfigError, DataError
from cattune.grounding.search import Phrase
from cattune.tasks.stg import load_game, make_split

QUESTION = Question(load_prior("tabular_risk"), "m", {"temperature": 0})
EXAMPLES = make_split(load_game("cancer_risk"), "train", 40, seed=0)

Behaviour = Callable[[str, int, str], "str | ChatReply | Exception"]


def good_reply(example: Example) -> str:
    links = [
        (Phrase(example.text_of(link.effect)), tuple(Phrase(example.text_of(cause)) for cause in link.causes))
        for link in example.links
    ]
    return reply_text(example, links)


class StandIn:
    """Answers from the examples' own links, unless `behaviour(tag, attempt, good reply)` says otherwise."""

    def __init__(
        self,
        examples: Iterable[Example] = EXAMPLES,
        behaviour: Behaviour = lambda tag, attempt, good: good,
        concurrency: int = 8,
        delay: Callable[[int], float] = lambda number: 0.0,
    ) -> None:
        self.limits = Limits(concurrency)
        self.replies = {example_tag(example): good_reply(example) for example in examples}
        self.behaviour = behaviour
        self.delay = delay
        self.asked: Counter[str] = Counter()
        self.requests: list[list[ChatMessage]] = []
        self.under_way = self.most_under_way = 0
        self.closed = False
        self.answers_at_all = False

    async def ask(self, messages: list[ChatMessage], tokens: float = 0.0) -> ChatReply:
        await self.limits.wait(tokens)
        self.requests.append(messages)
        texts = [turn["content"] for turn in messages if turn["role"] == "user"]
        tag = next(t for text in reversed(texts) for t in re.findall(r"\b[0-9a-f]{8}\b", text) if t in self.replies)
        self.asked[tag] += 1
        number = len(self.requests)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await asyncio.sleep(self.delay(number))
        self.under_way -= 1
        said = self.behaviour(tag, self.asked[tag], self.replies[tag])
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, ChatReply) else ChatReply(said, "stop", 100, 10)

    async def is_there(self) -> bool:
        return self.answers_at_all

    async def close(self) -> None:
        self.closed = True


def annotate(
    folder: Path, asker: StandIn, examples: Iterable[Example] = EXAMPLES, question: Question = QUESTION, **settings: Any
) -> tuple[list[Example], Annotator]:
    with Store(folder / "store") as store:
        annotator = Annotator(question, asker, store, **settings)
        results: list[Example] = []
        with suppress(Stopped):
            for example in annotator.run(examples):
                results.append(example)
    assert asker.closed
    return results, annotator


def spans(examples: Iterable[Example]) -> list[Any]:
    return [(example.id, [(link.effect, link.causes) for link in example.links]) for example in examples]


def test_stored_replies_are_read_anew_with_other_thought_tags(tmp_path: Path) -> None:
    def thinks(tag: str, attempt: int, good: str) -> str:
        return f"((so)) {good.replace('[', '[], [', 1)} or {json.dumps({'example': tag, 'links': []})} ((done)) {good}"

    question = replace(QUESTION, repair=False)
    annotated, _ = annotate(tmp_path, StandIn(behaviour=thinks), question=question)
    assert not any(example.links for example in annotated)
    asker = StandIn()
    annotated, annotator = annotate(tmp_path, asker, question=replace(question, thought_tags=("((so))", "((done))")))
    assert spans(annotated) == spans(EXAMPLES)
    assert not asker.requests and not annotator.summary.failed
    keys = {
        command_key(replace(question, thought_tags=tags), "in.jsonl", None) for tags in (None, ("((so))", "((done))"))
    }
    assert len(keys) == 2, "an output that was read otherwise is another"
    with pytest.raises(ConfigError, match="blank"):
        replace(QUESTION, thought_tags=("<so>", " "))


def test_repair_does_not_show_what_the_model_thought(tmp_path: Path) -> None:
    def thinks(tag: str, attempt: int, good: str) -> str:
        return f"<think>{'So. ' * 9999}</think>{good if attempt > 1 else 'No idea.'}"

    asker = StandIn(behaviour=thinks)
    annotated, _ = annotate(tmp_path, asker)
    assert spans(annotated) == spans(EXAMPLES)
    shown = [messages[-2]["content"] for messages in asker.requests if len(messages) > len(asker.requests[0])]
    assert shown == ["No idea."] * len(EXAMPLES)


def test_only_a_long_reply_is_read_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = example_tag(EXAMPLES[7])
    padding = "so " * annotate_module.MOST_READ_HERE
    read: dict[bool, set[bool]] = {True: set(), False: set()}

    def answered(steps: Course, got: StoredReply | Failure) -> Request | ExampleResult:
        assert isinstance(got, StoredReply)
        read[padding in got.text].add(threading.current_thread() is threading.main_thread())
        return course_module.answered(steps, got)

    monkeypatch.setattr(annotate_module, "answered", answered)
    asker = StandIn(behaviour=lambda tag, attempt, good: padding + good if tag == long else good)
    annotated, _ = annotate(tmp_path, asker)
    assert spans(annotated) == spans(EXAMPLES)
    assert read == {True: {False}, False: {True}}


def test_links_are_the_assistants_in_the_order_of_the_input(tmp_path: Path) -> None:
    asker = StandIn(delay=lambda number: 0.02 if number % 5 == 0 else 0.0)
    results, annotator = annotate(tmp_path, asker)
    assert spans(results) == spans(EXAMPLES)
    assert {link.source for example in results for link in example.links} == {"assistant:m"}
    assert [example.metadata for example in results] == [example.metadata for example in EXAMPLES]
    summary = annotator.summary
    assert (summary.done, summary.in_order, summary.annotated, summary.asked) == (40, 40, 40, 40)
    assert (summary.prompt_tokens, summary.completion_tokens) == (4000, 400)
    assert 2 <= asker.most_under_way <= 8


def test_the_second_run_asks_nothing(tmp_path: Path) -> None:
    first, _ = annotate(tmp_path, StandIn())
    asker = StandIn()
    second, annotator = annotate(tmp_path, asker)
    assert second == first
    assert not asker.asked
    assert annotator.summary.reused == 40


@pytest.mark.parametrize("change", [{"model": "n"}, {"parameters": {}}, {"prior": load_prior("arithmetic")}])
def test_another_task_is_another_request(tmp_path: Path, change: dict[str, Any]) -> None:
    annotate(tmp_path, StandIn())
    asker = StandIn()
    annotate(tmp_path, asker, question=replace(QUESTION, **change))
    assert asker.asked.total() == 40


def test_equal_texts_are_asked_once_even_at_the_same_time(tmp_path: Path) -> None:
    repeated = [replace(example, id=f"{example.id}-{i}") for example in EXAMPLES[:5] for i in range(8)]
    asker = StandIn(delay=lambda number: 0.01, behaviour=lambda tag, attempt, good: good if attempt > 1 else "What?")
    results, _ = annotate(tmp_path, asker, repeated)
    assert [len(example.links) for example in results] == [1] * 40
    assert set(asker.asked.values()) == {2}  # each with its repair


def without_the_answer(reply: str) -> str:
    """The reply with an effect that is not in the text: no link is left, and it is asked for again."""
    return reply.replace('"effect": "', '"effect": "Shoe size ')


def test_repair_shows_the_reply_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    def first_invents_an_effect(tag: str, attempt: int, good: str) -> str:
        return good if attempt > 1 else without_the_answer(good)

    asker = StandIn(behaviour=first_invents_an_effect)
    results, annotator = annotate(tmp_path, asker)
    assert spans(results) == spans(EXAMPLES)
    assert not any(example.refused for example in results)
    assert annotator.summary.repaired == 40
    repair = next(messages for messages in asker.requests if "Shoe size" in messages[-2]["content"])
    assert "Shoe size" in repair[-1]["content"]
    assert "not in the text" in repair[-1]["content"]


def test_what_the_answers_link_lacks_is_not_asked_for_again(tmp_path: Path) -> None:
    asker = StandIn(behaviour=lambda tag, attempt, good: good.replace("Weight: ", "Shoe size: "))
    results, annotator = annotate(tmp_path, asker)
    assert asker.asked.total() == 40
    assert all(len(example.links[0].causes) == 2 for example in results)
    assert annotator.summary.refused == {"cause is not in the text": 40}


@pytest.mark.parametrize("by_prior", [True, False])
def test_without_repair_the_first_reply_counts(tmp_path: Path, by_prior: bool) -> None:
    prior = replace(QUESTION.prior, options=replace(QUESTION.prior.options, repair=False))
    question = replace(QUESTION, prior=prior) if by_prior else replace(QUESTION, repair=False)
    asker = StandIn(behaviour=lambda tag, attempt, good: without_the_answer(good))
    results, annotator = annotate(tmp_path, asker, question=question)
    assert asker.asked.total() == 40
    assert not any(example.links for example in results)
    assert annotator.summary.refused == {"effect is not in the text": 40}


def test_the_run_has_the_last_word_on_repair(tmp_path: Path) -> None:
    prior = replace(QUESTION.prior, options=replace(QUESTION.prior.options, repair=False))
    asker = StandIn(behaviour=lambda tag, attempt, good: good if attempt > 1 else without_the_answer(good))
    annotate(tmp_path, asker, question=replace(QUESTION, prior=prior, repair=True))
    assert set(asker.asked.values()) == {2}


def test_a_repair_that_is_worse_is_not_taken(tmp_path: Path) -> None:
    def worse(tag: str, attempt: int, good: str) -> str:
        return without_the_answer(good) if attempt == 1 else "What?"

    _, annotator = annotate(tmp_path, StandIn(behaviour=worse))
    assert (annotator.summary.without_links, annotator.summary.failed) == (40, {})
    assert annotator.summary.repaired == 0


def test_a_reply_that_is_cut_off_is_not_asked_for_again(tmp_path: Path) -> None:
    asker = StandIn(behaviour=lambda tag, attempt, good: ChatReply(good[:40], "length", 100, 1234))
    results, annotator = annotate(tmp_path, asker)
    assert asker.asked.total() == 40
    assert annotator.summary.failed == {"truncated": 40}
    assert "cut off after 1,234 tokens" in annotator.summary.failures[0][2]
    with Store(tmp_path / "store") as store:
        assert {failure.raw for failure, *_ in store.failures()} == {good_reply(example)[:40] for example in EXAMPLES}


CONTENT = {
    "refusal": "I'm sorry, but I can't help with that.",
    "no_json": "Die Antwort hängt vom Gewicht, vom Sport und vom Rauchen ab.",
    "empty": "  ",
    "truncated": '{"example": "0',
    "wrong_example": '{"example": "00000000", "links": []}',
    "wrong_shape": '{"links": "Weight"}',
}


@pytest.mark.parametrize("reason", CONTENT)
def test_a_reply_that_cannot_be_used_is_a_failure_with_its_raw_text(tmp_path: Path, reason: str) -> None:
    bad = example_tag(EXAMPLES[3])
    asker = StandIn(behaviour=lambda tag, attempt, good: CONTENT[reason] if tag == bad else good)
    results, annotator = annotate(tmp_path, asker)
    assert spans(results[:3] + results[4:]) == spans(EXAMPLES[:3] + EXAMPLES[4:])
    assert results[3].links == ()
    assert [refusal.reason for refusal in results[3].refused] == [FAILED + reason]
    assert annotator.summary.failed == {reason: 1}
    assert [(name, why) for name, why, _ in annotator.summary.failures] == [(EXAMPLES[3].id, reason)]
    raw = CONTENT[reason] if isinstance(CONTENT[reason], str) else CONTENT[reason].text
    with Store(tmp_path / "store") as store:
        assert [(failure.reason, failure.raw) for failure, _, _ in store.failures()] == [(reason, raw)] * 2
    save_examples(tmp_path / "out.jsonl", results)
    assert load_examples(tmp_path / "out.jsonl") == results


def test_replies_that_could_not_be_used_are_asked_for_again_on_request_only(tmp_path: Path) -> None:
    bad = example_tag(EXAMPLES[3])
    fails = StandIn(behaviour=lambda tag, attempt, good: "no idea" if tag == bad else good)
    _, annotator = annotate(tmp_path, fails)
    assert (annotator.summary.failed, annotator.summary.unusable) == ({"no_json": 1}, 1)
    again = StandIn()
    _, annotator = annotate(tmp_path, again)
    assert not again.asked
    assert annotator.summary.failed == {"no_json": 1}
    retried = StandIn()
    results, annotator = annotate(tmp_path, retried, retry_failed=True)
    assert retried.asked == {bad: 1}
    assert spans(results) == spans(EXAMPLES)


@pytest.mark.parametrize("reason", ["status 400", "time-out", "no connection", "malformed response"])
def test_a_request_without_a_reply_is_asked_again(tmp_path: Path, reason: str) -> None:
    """What is no reply of the model is no answer, and never stored as one."""
    bad = example_tag(EXAMPLES[3])
    equal = [*EXAMPLES, replace(EXAMPLES[3], id="the same")]
    fails = StandIn(behaviour=lambda tag, attempt, good: Unanswered(reason, "") if tag == bad else good, concurrency=1)
    results, annotator = annotate(tmp_path, fails, equal[:30] + equal[-1:] + equal[30:-1])
    summary = annotator.summary
    assert (summary.failed, summary.unanswered, summary.unusable) == ({reason: 2}, 2, 0)
    assert fails.asked[bad] == 1  # and once a run is enough
    assert [example.id for example in results if not example.links] == [EXAMPLES[3].id, "the same"]
    again = StandIn()
    results, annotator = annotate(tmp_path, again)
    assert again.asked == {bad: 1}
    assert spans(results) == spans(EXAMPLES)
    with Store(tmp_path / "store") as store:
        assert not list(store.failures())


def test_a_repair_without_a_reply_is_asked_again(tmp_path: Path) -> None:
    bad = example_tag(EXAMPLES[3])

    def no_repair(tag: str, attempt: int, good: str) -> Any:
        if tag != bad:
            return good
        return Unanswered("time-out", "silent") if attempt > 1 else without_the_answer(good)

    results, annotator = annotate(tmp_path, StandIn(behaviour=no_repair))
    assert (annotator.summary.failed, annotator.summary.unanswered) == ({}, 1)
    assert not results[3].links
    again = StandIn()
    results, _ = annotate(tmp_path, again)
    assert again.asked == {bad: 1}
    assert spans(results) == spans(EXAMPLES)


def test_errors_that_an_earlier_release_stored_are_asked_again(tmp_path: Path) -> None:
    annotate(tmp_path, StandIn(EXAMPLES[:5]), EXAMPLES[:5])
    with Store(tmp_path / "store") as store:
        key = next(course(QUESTION, EXAMPLES[5])).key
        store.fail([Failure(key, "connection failed", "refused", "")]).result()
    results, annotator = annotate(tmp_path, StandIn())
    assert spans(results) == spans(EXAMPLES)
    assert not annotator.summary.failed


@pytest.mark.parametrize("count", [1, 5, 40])
def test_nobody_answers(tmp_path: Path, count: int) -> None:
    asker = StandIn(behaviour=lambda tag, attempt, good: Unanswered("time-out", "silent"))
    _, annotator = annotate(tmp_path, asker, EXAMPLES[:count])
    assert annotator.summary.stopped == NO_ANSWER
    assert "time-out: silent" in annotator.summary.why
    assert not (tmp_path / "store").exists()


def test_a_server_that_is_gone_at_the_end_stops_the_run_and_one_that_comes_back_does_not(tmp_path: Path) -> None:
    """One text that is never answered is that text's failure; no connection at the end is the server's."""

    def gone(first: int, last: int) -> Behaviour:
        def behaviour(tag: str, attempt: int, good: str) -> Any:
            return Unanswered("no connection", "refused") if first <= asker.asked.total() <= last else good

        return behaviour

    asker = StandIn(behaviour=gone(20, 22), concurrency=1)
    _, annotator = annotate(tmp_path, asker)
    assert (annotator.summary.stopped, annotator.summary.unanswered) == (None, 3)
    asker = StandIn(behaviour=gone(2, 3), concurrency=1)
    _, annotator = annotate(tmp_path, asker)
    assert annotator.summary.stopped == NO_ANSWER
    assert "no connection: refused" in annotator.summary.why


@pytest.mark.parametrize("reason", ["time-out", "connection failed", "status 502", "status 500"])
def test_a_text_that_is_never_answered_is_told_from_a_server_that_is_gone(tmp_path: Path, reason: str) -> None:
    """The last of the file: nobody is asked after it, so the server is asked whether it is there."""
    last = example_tag(EXAMPLES[-1])
    for is_there in (False, True):
        asker = StandIn(behaviour=lambda tag, attempt, good: Unanswered(reason, "") if tag == last else good)
        asker.answers_at_all = is_there
        results, annotator = annotate(tmp_path, asker)
        assert annotator.summary.stopped == (None if is_there else NO_ANSWER)
    assert (len(results), annotator.summary.unanswered) == (40, 1)


def test_a_server_that_is_busy_to_the_end_stops_the_run(tmp_path: Path) -> None:
    asker = StandIn(
        behaviour=lambda tag, attempt, good: good if asker.asked.total() < 40 else Unanswered("status 503", "")
    )
    asker.answers_at_all = True
    assert annotate(tmp_path, asker)[1].summary.stopped == NO_ANSWER


def test_a_server_that_is_given_up_stops_the_run_and_what_was_answered_is_stored(tmp_path: Path) -> None:
    def dies(tag: str, attempt: int, good: str) -> Any:
        return good if asker.asked.total() <= 20 else NoAnswer("the assistant has stopped answering")

    asker = StandIn(behaviour=dies, concurrency=2)
    results, annotator = annotate(tmp_path, asker)
    assert len(results) == 20
    assert (annotator.summary.stopped, annotator.summary.why) == (NO_ANSWER, "the assistant has stopped answering")
    again = StandIn()
    assert spans(annotate(tmp_path, again)[0]) == spans(EXAMPLES)
    assert again.asked.total() == 20


def test_what_was_stored_is_told_from_what_was_asked(tmp_path: Path) -> None:
    annotate(tmp_path, StandIn(), EXAMPLES[:25])
    _, annotator = annotate(tmp_path, StandIn())
    assert (annotator.summary.done, annotator.summary.from_store) == (40, 25)


def test_an_assistant_serves_one_run(tmp_path: Path) -> None:
    asker = StandIn()
    annotate(tmp_path, asker, EXAMPLES[:5])
    with pytest.raises(ConfigError, match="make a new one"):
        annotate(tmp_path, asker)


def test_retrying_keeps_the_first_failure_and_asks_once_a_run(tmp_path: Path) -> None:
    bad = example_tag(EXAMPLES[3])
    examples = [*EXAMPLES, replace(EXAMPLES[3], id="the same")]
    fails = StandIn(behaviour=lambda tag, attempt, good: "no idea" if tag == bad else good)
    annotate(tmp_path, fails, examples)
    for _ in range(2):
        asker = StandIn(behaviour=lambda tag, attempt, good: "still no idea" if tag == bad else good)
        _, annotator = annotate(tmp_path, asker, examples, retry_failed=True)
        assert asker.asked == {bad: 2}  # the request and its repair, for both examples
        assert annotator.summary.failed == {"no_json": 2}
    with Store(tmp_path / "store") as store:
        raw = [failure.raw for failure, _, _ in store.failures()]
        assert Counter(raw) == {"no idea": 2, "still no idea": 4}
    results, _ = annotate(tmp_path, StandIn(), examples, retry_failed=True)
    assert all(example.links for example in results)


def test_requests_left_open_by_a_dead_server_are_no_failures(tmp_path: Path) -> None:
    def dies(tag: str, attempt: int, good: str) -> Any:
        if asker.asked.total() <= 20:
            return good
        return ConfigError("gone") if asker.asked.total() > 25 else Unanswered("time-out", "silent")

    asker = StandIn(behaviour=dies, concurrency=2)
    with pytest.raises(ConfigError, match="gone"):
        annotate(tmp_path, asker)
    results, annotator = annotate(tmp_path, StandIn())
    assert spans(results) == spans(EXAMPLES)
    assert not annotator.summary.failed


def test_a_budget_is_kept_and_the_run_goes_on_with_a_higher_one(tmp_path: Path) -> None:
    price = Price(1000, 1000)  # 0.11 USD a reply, and at first expected to be more than ten times that
    asker = StandIn(delay=lambda number: 0.01)
    results, annotator = annotate(tmp_path, asker, costs=Costs(price, 3.0, {"max_tokens": 10}))
    assert annotator.summary.stopped == BUDGET
    with Store(tmp_path / "store") as store:
        spent = store.spent("m")
    assert 2.7 < price.of(spent.prompt_tokens, spent.completion_tokens) <= 3.0
    assert spent.requests == asker.asked.total()
    more = StandIn()
    results, annotator = annotate(tmp_path, more, costs=Costs(price, 100.0))
    assert spans(results) == spans(EXAMPLES)
    assert more.asked.total() + asker.asked.total() == 40


def test_a_budget_counts_what_earlier_runs_have_cost(tmp_path: Path) -> None:
    annotate(tmp_path, StandIn(EXAMPLES[:9]), EXAMPLES[:9])
    asker = StandIn()
    _, annotator = annotate(tmp_path, asker, costs=Costs(Price(1000, 1000), 1.0))
    assert annotator.summary.stopped == BUDGET
    assert not asker.asked


@pytest.mark.parametrize("arguments", [(None, 1.0), (Price(1, 1), 0.0), (Price(1, 1), float("nan"))])
def test_budgets_that_make_no_sense(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError):
        Costs(*arguments)


def test_stopping_stores_what_is_under_way_and_sends_no_more(tmp_path: Path) -> None:
    asker = StandIn(delay=lambda number: 0.05, concurrency=4)
    with Store(tmp_path / "store") as store:
        annotator = Annotator(QUESTION, asker, store)
        annotator._progress = lambda summary: annotator.stop("interrupted") if summary.done == 10 else None
        with pytest.raises(Stopped):
            list(annotator.run(EXAMPLES))
        assert store.spent("m").requests == asker.asked.total() <= 14
    rest = StandIn()
    results, _ = annotate(tmp_path, rest)
    assert spans(results) == spans(EXAMPLES)
    assert asker.asked.total() + rest.asked.total() == 40


def test_stopping_while_workers_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first example needs a second request, which is not sent any more, so that no room is ever made."""
    monkeypatch.setattr(annotate_module, "WINDOW", 5)
    first = example_tag(EXAMPLES[0])
    asker = StandIn(
        behaviour=lambda tag, attempt, good: "No." if tag == first else good,
        delay=lambda number: 0.3 if number == 1 else 0.0,
        concurrency=4,
    )
    with Store(tmp_path / "store") as store:
        annotator = Annotator(QUESTION, asker, store)
        annotator._progress = lambda summary: annotator.stop("interrupted") if summary.done == 4 else None
        with pytest.raises(Stopped):
            list(annotator.run(EXAMPLES))
        assert asker.asked[first] == 1


def test_an_example_counts_when_its_reply_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = writer._transaction

    def slow(database: Any, run: Any) -> Any:
        time.sleep(0.02)
        return transaction(database, run)

    monkeypatch.setattr(writer, "_transaction", slow)
    seen = []

    def look(summary: Summary) -> None:
        with sqlite3.connect(tmp_path / "store") as database:
            seen.append(database.execute("SELECT count(*) FROM replies").fetchone()[0] - summary.done)

    annotate(tmp_path, StandIn(), progress=look)
    assert len(seen) == 40
    assert min(seen) >= 0


def test_one_slow_reply_does_not_hold_more_than_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate_module, "WINDOW", 6)
    taken = 0

    def counted() -> Iterator[Example]:
        nonlocal taken
        for example in EXAMPLES:
            taken += 1
            yield example

    asker = StandIn(delay=lambda number: 0.3 if number == 1 else 0.0, concurrency=4)
    with Store(tmp_path / "store") as store:
        results = Annotator(QUESTION, asker, store).run(counted())
        next(results)
        assert taken <= 6 + 4 + 1
        assert len(list(results)) == 39


def test_an_abandoned_run_leaves_the_store_in_order(tmp_path: Path) -> None:
    asker = StandIn(delay=lambda number: 0.02)
    with Store(tmp_path / "store") as store:
        results = Annotator(QUESTION, asker, store).run(EXAMPLES)
        next(results)
        results.close()
        assert store.spent("m").requests == asker.asked.total() < 40  # what was under way is stored
    assert asker.closed
    rest = StandIn()
    assert spans(annotate(tmp_path, rest)[0]) == spans(EXAMPLES)
    assert asker.asked.total() + rest.asked.total() == 40


def test_a_mistake_in_the_input_ends_the_run(tmp_path: Path) -> None:
    def broken() -> Iterator[Example]:
        yield from EXAMPLES[:5]
        raise DataError("line 6: no")

    with pytest.raises(DataError, match="line 6"):
        annotate(tmp_path, StandIn(), broken())


def test_replies_without_usage_are_estimated(tmp_path: Path) -> None:
    asker = StandIn(behaviour=lambda tag, attempt, good: ChatReply(good, "stop", None, None))
    _, annotator = annotate(tmp_path, asker)
    assert annotator.summary.unmetered == 40
    assert annotator.summary.prompt_tokens > 40 * 500


def test_two_runs_on_one_store_share_the_work(tmp_path: Path) -> None:
    """In one process, each with its own connection and claims, as two processes would."""
    one, other = StandIn(delay=lambda number: 0.01), StandIn(delay=lambda number: 0.01)
    with Store(tmp_path / "store") as first, Store(tmp_path / "store") as second:
        runs = [Annotator(QUESTION, one, first), Annotator(QUESTION, other, second)]

        async def both() -> list[list[Example]]:
            return await asyncio.gather(*(asyncio.to_thread(list, run.run(EXAMPLES)) for run in runs))

        # Readers belong to the thread that opened them, which is another one here.
        for store in (first, second):
            store._reader = connect_anywhere(store.path)
        results = asyncio.run(both())
    assert spans(results[0]) == spans(results[1]) == spans(EXAMPLES)
    assert one.asked.total() + other.asked.total() == 40


def connect_anywhere(path: Path) -> Any:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def make_many(count: int) -> Iterator[Example]:
    for i in range(count):
        example = EXAMPLES[i % len(EXAMPLES)]
        yield replace(example, id=str(i), prompt=f"Record {i}. {example.prompt}", links=())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate_module, "WINDOW", 64)

    class Endless(StandIn):
        async def ask(self, messages: list[ChatMessage], tokens: float = 0.0) -> ChatReply:
            await asyncio.sleep(0)
            return ChatReply("I'm sorry, I can't.", "stop", 1, 1)

    def peak(count: int) -> int:
        asker = Endless()
        with Store(tmp_path / f"store{count}") as store:
            annotator = Annotator(replace(QUESTION, repair=False), asker, store)
            tracemalloc.start()
            assert sum(1 for _ in annotator.run(make_many(count))) == count
            size = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return size

    peak(50)
    assert peak(800) < peak(200) + 200_000


def test_forecast_counts_what_is_new_stored_and_repeated(tmp_path: Path) -> None:
    annotate(tmp_path, StandIn(), EXAMPLES[:10])
    examples = [*EXAMPLES, replace(EXAMPLES[0], id="same")]
    with Store(tmp_path / "store") as store:
        found = forecast(QUESTION, examples, store)
    assert (found.examples, found.requests, found.stored, found.duplicates) == (41, 30, 10, 1)
    assert found.completion_tokens > 30 * 10
    assert found.prompt_tokens > found.completion_tokens


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_inputs_are_read_as_load_examples_does_without_links(tmp_path: Path) -> None:
    link = CausalLink(EXAMPLES[0].links[0].effect, EXAMPLES[0].links[0].causes)
    save_examples(tmp_path / "own.jsonl", [replace(EXAMPLES[0], links=(link,)), replace(EXAMPLES[1], links=())])
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    write(tmp_path / "trl.jsonl", {"prompt": "a", "completion": "b"}, {"messages": turns})
    record = {"idx": 7, "input": "a 5 b", "target": 5.0}
    write(tmp_path / "published.jsonl", {**record, "important": [{"5.0": ["a"]}]}, record)
    for name, with_links in (("own", 1), ("trl", 0), ("published", 1)):
        path = tmp_path / f"{name}.jsonl"
        expected = [replace(example, links=(), refused=()) for example in load_examples(path)]
        assert list(iter_examples(path)) == expected
        found = check_input(path)
        assert (found.examples, found.with_links) == (2, with_links)


def test_inputs_with_an_id_twice_are_refused(tmp_path: Path) -> None:
    record = {"id": "a", "prompt": "p", "completion": "c"}
    with pytest.raises(DataError, match='lines 1 and 3: both have the id "a"'):
        check_input(write(tmp_path / "in.jsonl", record, {**record, "id": "b"}, record))


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}\n', '{"prompt": "p"}\n'])
def test_inputs_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "in.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"in\.jsonl"):
        check_input(tmp_path / "in.jsonl")


def test_an_input_must_be_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing", "/dev/null"):
        with pytest.raises(DataError, match="file|folder|exist"):
            check_input(path)


@pytest.mark.parametrize("change", ["append", "replace", "remove"])
def test_an_input_that_changes_is_noticed(tmp_path: Path, change: str) -> None:
    path = write(tmp_path / "in.jsonl", {"prompt": "p", "completion": "c"})
    found = check_input(path)
    check_unchanged(found)
    if change == "append":
        path.write_text(path.read_text() * 2)
    elif change == "remove":
        path.unlink()
    else:
        write(tmp_path / "new.jsonl", {"prompt": "q", "completion": "c"}).replace(path)
    with pytest.raises(DataError, match="was changed while it was annotated"):
        check_unchanged(found)
