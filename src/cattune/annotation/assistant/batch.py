"""Providers' batch queues: requests go out in one file and results come back in another.

The files are those of OpenAI's batch service, which vLLM's `run_batch` and other services read and write as well: JSON
Lines, `custom_id` being the key of the request in the store. Results may come in any order and in several files.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any

from cattune.annotation.assistant.course import ExampleResult, Question, Request, answered, course
from cattune.annotation.assistant.endpoint.chat_protocol import (
    BadPayload,
    ChatReply,
    Refusal,
    read_chat_reply,
    read_refusal,
)
from cattune.annotation.assistant.reply_form import limited, output_limit
from cattune.annotation.store.store import Failure, Store, StoredReply
from cattune.annotation.summary import Stopped, Summary
from cattune.data.examples import Example
from cattune.data.jsonl import read_jsonl, write_jsonl
from cattune.data.on_disk import SeenKeys
from cattune.data.own_kinds import RESULTS, own_kind
from cattune.errors import DataError
from cattune.wording import counted, shown

URL = "/v1/chat/completions"
MOST_REQUESTS = 50_000
"""The most requests that OpenAI takes in one file."""

_KEY = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1000


def advance(
    question: Question, example: Example, known: Callable[[bytes], StoredReply | Failure | None]
) -> ExampleResult | Request:
    """Take an example as far as what is known goes: to its outcome, or to the request that is to be sent next.

    Args:
        question: what is asked.
        example: about which.
        known: what came of the request of that key.
    """
    steps = course(question, example)
    step: Request | ExampleResult = next(steps)
    while isinstance(step, Request) and (found := known(step.key)) is not None:
        step = answered(steps, found)
    return step


def write_requests(
    path: str | os.PathLike[str],
    question: Question,
    examples: Iterable[Example],
    store: Store,
    response_format: Mapping[str, Any] | None,
    *,
    most_tokens: int | None = None,
    retry_failed: bool = False,
) -> int:
    """Write each request that is to be sent next once; return how many there are.

    That is each one without a reply, also where a provider gave an error for it; with `retry_failed` each whose reply
    could not be used, too. A reply has at most so many tokens, by default `output_limit`.

    Raises:
        DataError: there is none; every example has its replies.
        OutputError: the file cannot be written.
    """
    limit = limited(question.parameters, most_tokens or output_limit(question.prior), own_server=False)
    form = {} if response_format is None else {"response_format": response_format}
    body = {"model": question.model, "messages": [], **question.parameters, **limit, **form}

    def known(key: bytes) -> StoredReply | None:
        return None if retry_failed and store.failure(key) else store.get(key)

    def lines() -> Iterator[dict[str, Any]]:
        with closing(SeenKeys()) as seen:
            for example in examples:
                step = advance(question, example, known)
                if isinstance(step, Request) and seen.add(step.key) is None:
                    if store.failure(step.key):
                        store.reopen([step.key]).result()
                    yield _line(step, {**body, "messages": step.messages})

    requests = lines()
    first = next(requests, None)
    if first is None:
        raise DataError(
            "there is nothing to ask: every request has a reply (--retry-failed: those that could not be used)"
        )

    def all_lines() -> Iterator[dict[str, Any]]:
        yield first
        yield from requests

    return write_jsonl(path, all_lines())


def collect(question: Question, examples: Iterable[Example], store: Store, summary: Summary) -> Generator[Example]:
    """The annotated examples, of replies that are stored.

    Raises:
        Stopped: at the end, where a request is still to be answered, or none was.
    """
    is_open = 0
    for example in examples:
        step = advance(question, example, lambda key: store.get(key) or store.failure(key))
        if isinstance(step, Request):
            is_open += 1
            continue
        store.fail(step.failures).result()
        summary.add(step)
        yield step.example
    if is_open:
        summary.stopped = f"{counted(is_open, 'example waits', 'examples wait')} for a reply"
    elif summary.done == summary.unanswered == summary.failed.total():
        summary.stopped = "none of the requests was answered"
    if summary.stopped:
        raise Stopped(summary.stopped)
    summary.in_order = summary.done


def _line(request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": request.key.hex(), "method": "POST", "url": URL, "body": body}


def read_results(path: str | os.PathLike[str], question: Question, store: Store) -> Counter[str]:
    """Put the results of a file into the store.

    Returns:
        How many were new replies ("new"), replies that the store had ("known") or failures ("failed").

    Raises:
        DataError: a line is no result, or its `custom_id` is none that `write_requests` gave.
        OutputError: the store cannot be written.
    """
    counts: Counter[str] = Counter()
    waiting = []
    for number, record in read_jsonl(path):
        key = _key_of(record, f"{path}, line {number}")
        if store.get(key) is not None:
            counts["known"] += 1
            continue
        result = _result(key, record)
        counts["failed" if isinstance(result, Failure) else "new"] += 1
        if isinstance(result, Failure):
            waiting.append(store.fail([result]))
        else:
            waiting.append(store.save(key, question.model, result))
        if len(waiting) >= _CHUNK:
            for written in waiting:
                written.result()
            waiting.clear()
    for written in waiting:
        written.result()
    return counts


def _key_of(record: Mapping[str, Any], where: str) -> bytes:
    name = record.get("custom_id")
    kind = own_kind(record, expected=RESULTS)
    if kind is not None:
        raise DataError(f"{where}: the keys are those of {kind.name}, and not of {RESULTS.name}; {kind.use}")
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        raise DataError(
            f"{where}: expected a line of a batch result file whose 'custom_id' is one that --batch write gave (64 hex "
            f"digits), got {shown(name)}"
        )
    if "response" not in record and "error" not in record:
        raise DataError(f"{where}: neither 'response' nor 'error'; is this the file of requests, and not of results?")
    return bytes.fromhex(name)


def _result(key: bytes, record: Mapping[str, Any]) -> StoredReply | Failure:
    raw = json.dumps(record, ensure_ascii=False)
    response = record.get("response")
    response = response if isinstance(response, Mapping) else {}
    status = response.get("status_code")
    try:
        if record.get("error") or status != 200:
            said = record.get("error") or response.get("body")
            answer: ChatReply | Refusal = read_refusal(status if isinstance(status, int) else 0, said, "")
        else:
            answer = read_chat_reply(json.dumps(response.get("body")))
    except BadPayload as error:
        return Failure(key, "malformed response", str(error), raw)
    if isinstance(answer, Refusal):
        reason = answer.code or (f"status {answer.status}" if answer.status else "batch error")
        return Failure(key, f"batch: {reason}", answer.message, raw)
    return StoredReply(answer.text, answer.finish_reason, answer.prompt_tokens or 0, answer.completion_tokens or 0)
