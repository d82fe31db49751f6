"""The course of one example: what is asked, in which order, and what comes of the replies. Pure: nothing is sent here.

One request; then, where its reply could not be read or has no link for the answer, one that shows the assistant why.
A reply that was cut off is not asked for again: under the same limit it would be cut off again. The requests depend on
the replies alone, so that a run which was killed comes to the same ones again and finds their replies in the store.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from cattune.annotation.assistant.endpoint.chat_protocol import LENGTH, REFUSED
from cattune.annotation.assistant.judgement import Judgement, judge
from cattune.annotation.assistant.prior import Prior
from cattune.annotation.assistant.prompt import (
    PROMPT_VERSION,
    ChatMessage,
    build_messages,
    example_tag,
    repair_messages,
)
from cattune.annotation.assistant.reading.thoughts import ThoughtTags
from cattune.annotation.assistant.reply import MOST_CHARACTERS, REFUSAL, TRUNCATED, ReplyError, read_reply, spoken
from cattune.annotation.store.store import Failure, StoredReply, request_key
from cattune.data.examples import FAILED, Example, RefusedLink
from cattune.errors import ConfigError
from cattune.wording import shown


@dataclass(frozen=True)
class Question:
    """What is asked about every example.

    Args:
        prior: what the assistant is told.
        model: which assistant.
        parameters: sent with every request.
        repair: whether a reply without a link for the answer is asked for once more; None for what the prior says.
        thought_tags: what opens and closes the model's thoughts, beside the tags that are known. It is no part of what
            is asked, so that stored replies can be read anew.

    Raises:
        ConfigError: a thought tag is blank.
    """

    prior: Prior
    model: str
    parameters: Mapping[str, Any]
    repair: bool | None = None
    thought_tags: ThoughtTags | None = None

    def __post_init__(self) -> None:
        if self.thought_tags is not None and not all(tag.strip() for tag in self.thought_tags):
            raise ConfigError("thought tags are what opens a thought and what closes it; neither can be blank")

    @property
    def repairs(self) -> bool:
        """Whether a reply without a link for the answer is asked for once more."""
        return self.prior.options.repair if self.repair is None else self.repair

    @property
    def source(self) -> str:
        """For `CausalLink.source`."""
        return f"assistant:{self.model}"

    def request(self, messages: list[ChatMessage], is_repair: bool = False) -> Request:
        """A request with its key."""
        return Request(request_key(messages, self.model, self.parameters, PROMPT_VERSION), messages, is_repair)


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, and the key under which the store keeps the reply."""

    key: bytes
    messages: list[ChatMessage]
    is_repair: bool


@dataclass(frozen=True, slots=True)
class ExampleResult:
    """What came of an example.

    Args:
        example: with its links and refusals.
        failed: why it has no annotation, for counting; None where a reply could be used.
        detail: the same in a sentence.
        failures: what the store is to keep of replies that could not be used.
        unanswered: whether a request got no reply; to ask it again may make the example better.
        repaired: whether the second reply was used.
    """

    example: Example
    failed: str | None = None
    detail: str = ""
    failures: tuple[Failure, ...] = ()
    unanswered: bool = False
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A reply as it was judged, or why it could not be."""

    judgement: Judgement | None
    reason: str = ""
    problems: tuple[str, ...] = ()
    failure: Failure | None = None
    """What the store is to keep, where the reply came and could not be used."""

    @property
    def has_links(self) -> bool:
        """Whether links are kept: the answer's is then among them, since the others have to lead to it."""
        return self.judgement is not None and bool(self.judgement.links)


Course: TypeAlias = Generator[Request, "StoredReply | Failure", ExampleResult]


def course(question: Question, example: Example) -> Course:
    """Yields requests, is sent the reply to each or the failure to get one, and returns the outcome."""
    request = question.request(build_messages(question.prior, example))
    got = yield request
    unanswered = isinstance(got, Failure)
    first = final = _verdict(question, example, request, got)
    if question.repairs and isinstance(got, StoredReply) and got.finish_reason != LENGTH and not first.has_links:
        said = (
            spoken(got.text[:MOST_CHARACTERS], example_tag(example), question.thought_tags) or ""
        )  # thoughts cost tokens
        request = question.request(repair_messages(request.messages, said, first.problems), is_repair=True)
        got = yield request
        unanswered = isinstance(got, Failure)
        second = _verdict(question, example, request, got)
        final = max((second, first), key=_worth)  # of equals the second
        if final.judgement is None:
            return _failed(example, unanswered, second, first)
    if final.judgement is None:
        return _failed(example, unanswered, final)
    made = replace(example, links=final.judgement.links, refused=final.judgement.refused)
    return ExampleResult(made, unanswered=unanswered, repaired=final is not first)


def answered(steps: Course, got: StoredReply | Failure) -> Request | ExampleResult:
    """What follows on a reply, as a value: the next request, or the outcome. No thread hands on a `StopIteration`."""
    try:
        return steps.send(got)
    except StopIteration as end:
        outcome: ExampleResult = end.value
        return outcome


def _verdict(question: Question, example: Example, request: Request, got: StoredReply | Failure) -> _Verdict:
    if isinstance(got, Failure):
        return _Verdict(None, got.reason, (got.detail,))
    try:
        if got.finish_reason == LENGTH:
            raise ReplyError(TRUNCATED, _cut_off(got))
        if got.finish_reason == REFUSED:
            raise ReplyError(REFUSAL, f"The request was declined: {shown(got.text, 200)}")
        links = read_reply(got.text, example_tag(example), question.thought_tags)
    except ReplyError as error:
        failure = Failure(request.key, error.reason, error.detail, got.text, example.id)
        return _Verdict(None, error.reason, (error.detail,), failure)
    judgement = judge(example, links, question.source, question.prior.options)
    return _Verdict(judgement, problems=judgement.problems)


def _cut_off(reply: StoredReply) -> str:
    tokens = f" after {reply.completion_tokens:,} tokens" if reply.completion_tokens else ""
    return f"The reply was cut off{tokens}: at the limit on output tokens, or where the model's context is full."


def _worth(verdict: _Verdict) -> tuple[bool, int, int]:
    """More links are better, then fewer problems: a second reply may be short of what the first one had right."""
    if verdict.judgement is None:
        return False, 0, 0
    return True, len(verdict.judgement.links), -len(verdict.problems)


def _failed(example: Example, unanswered: bool, last: _Verdict, *earlier: _Verdict) -> ExampleResult:
    """An example that trains on cross-entropy alone, and says why."""
    failures = tuple(verdict.failure for verdict in (*earlier, last) if verdict.failure is not None)
    refusal = RefusedLink("", None, f"{FAILED}{last.reason}")
    made = replace(example, links=(), refused=(refusal,))
    return ExampleResult(made, last.reason, last.problems[0] if last.problems else "", failures, unanswered)
