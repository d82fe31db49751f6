"""Forms and parameters that endpoints refuse: a run goes on without them, whatever the words, and loses no request."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from behaving_server import FINE, Answer, Server, behaving, good, refused

from cattune.annotation.assistant.endpoint import client
from cattune.annotation.assistant.endpoint.chat_protocol import ChatReply
from cattune.annotation.assistant.endpoint.client import Assistant
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.assistant.endpoint.unanswered import Unanswered
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.reply_form import response_format
from cattune.errors import ConfigError

RESPONSE_FORMAT = response_format(load_prior("arithmetic"))

MESSAGES = [{"role": "user", "content": "Annotate."}]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")


class Run:
    """So many requests, one after the other: what came of each, what the user was told, and what was sent."""

    def __init__(self, answer: Callable[[int, dict[str, Any]], Answer], count: int = 3, **settings: Any) -> None:
        self.told: list[str] = []
        self.server = Server()
        with behaving(answer) as self.server:
            self.answers: list[Any] = asyncio.run(self._ask(count, settings))

    async def _ask(self, count: int, settings: dict[str, Any]) -> list[Any]:
        assistant = Assistant("m", RESPONSE_FORMAT, base_url=self.server.url, tell=self.told.append, **settings)
        came = []
        for _ in range(count):
            try:
                came.append((await assistant.ask(MESSAGES)).text)
            except (Unanswered, ConfigError) as error:
                came.append(error)
        await assistant.close()
        return came

    @property
    def forms(self) -> list[str | None]:
        return [(request.get("response_format") or {}).get("type") for request in self.server.requests]

    def sent(self, name: str) -> list[Any]:
        return [request.get(name) for request in self.server.requests]


def form_of(request: dict[str, Any]) -> str | None:
    form: str | None = (request.get("response_format") or {}).get("type")
    return form


SCHEMA, OBJECT = "json_schema", "json_object"


@pytest.mark.parametrize("status", [400, 404, 415, 422, 501])
@pytest.mark.parametrize("message", ["no", "JSON mode is not enabled", ""])
def test_a_form_that_is_refused_is_left_out_for_all(status: int, message: str) -> None:
    run = Run(lambda n, request: refused(status, message) if form_of(request) == SCHEMA else good())
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA, OBJECT, OBJECT, OBJECT]
    assert len(run.told) == 1
    assert "going on with json_object" in run.told[0]


@pytest.mark.parametrize(
    "message",
    [
        "output_format.schema: For 'array' type, property 'maxItems' is not supported",
        "Invalid schema for response_format 'causal_links': In context=(), 'maxItems' is not permitted.",
        "Invalid JSON payload received. Unknown name \"minItems\" at 'generation_config.response_schema'",
    ],
)
def test_a_schema_that_bounds_its_lists_may_be_refused(message: str) -> None:
    run = Run(lambda n, request: refused(400, message) if "maxItems" in json.dumps(request) else good())
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA] * 4
    assert "maxItems" in json.dumps(run.server.requests[0])
    assert "additionalProperties" in json.dumps(run.server.requests[1])
    assert len(run.told) == 1
    assert "a schema that bounds its lists; going on with one that does not (it said:" in run.told[0]


def test_a_schema_that_is_refused_without_bounds_too() -> None:
    run = Run(lambda n, request: refused(400, "maxItems: no") if form_of(request) == SCHEMA else good())
    assert run.forms == [SCHEMA, SCHEMA, OBJECT, OBJECT, OBJECT]


def test_no_form_at_all() -> None:
    run = Run(lambda n, request: refused(400) if form_of(request) else good())
    assert run.forms == [SCHEMA, OBJECT, None, None, None]
    assert len(run.told) == 1
    assert "json_schema; going on with text" in run.told[0]


def test_a_server_that_breaks_over_the_form() -> None:
    run = Run(lambda n, request: refused(500, "Internal Server Error") if form_of(request) == SCHEMA else good())
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA, SCHEMA, OBJECT, OBJECT, OBJECT]


def test_a_server_that_breaks_over_any_form() -> None:
    run = Run(lambda n, request: refused(500, "Internal Server Error") if form_of(request) else good())
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA, SCHEMA, OBJECT, None, None, None]


def test_a_server_that_says_that_it_breaks_over_the_form() -> None:
    run = Run(lambda n, request: refused(500, "Failed to parse grammar") if form_of(request) == SCHEMA else good())
    assert run.forms == [SCHEMA, OBJECT, OBJECT, OBJECT]


def test_a_text_that_is_refused_does_not_cost_the_form() -> None:
    run = Run(lambda n, request: refused(400, f"no {n}") if n < 4 else good())
    assert isinstance(run.answers[0], Unanswered)
    assert run.answers[1:] == [FINE, FINE]
    assert run.forms == [SCHEMA, OBJECT, None, SCHEMA, SCHEMA]
    assert run.told == []


def test_a_form_that_has_worked_is_kept() -> None:
    run = Run(lambda n, request: refused(400) if n == 2 else good())
    assert [str(answer) for answer in run.answers] == [FINE, "status 400: no", FINE]
    assert run.forms == [SCHEMA] * 3


def test_one_reply_that_does_not_come_out_in_the_form() -> None:
    """Groq writes the reply first and refuses it afterwards; another provider of a router may have no form."""
    run = Run(lambda n, request: refused(400, "x", code="json_validate_failed") if n == 2 else good())
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA, SCHEMA, OBJECT, SCHEMA]
    assert run.told == []


def test_a_busy_server_in_the_middle_of_trying() -> None:
    def answer(n: int, request: dict[str, Any]) -> Answer:
        return refused(503) if n == 2 else refused(400) if form_of(request) == SCHEMA else good()

    run = Run(answer)
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA, OBJECT, OBJECT, OBJECT, OBJECT]


@pytest.mark.parametrize(("form", "forms"), [(OBJECT, [OBJECT, None, None]), ("text", [None, None])])
def test_the_user_says_which_form_to_begin_with(form: str, forms: list[str | None]) -> None:
    run = Run(lambda n, request: refused(400) if form_of(request) else good(), 2, form=form)
    assert run.forms == forms


OURS: dict[str, Any] = {"parameters": {"temperature": 0, "max_tokens": 100}, "own": ("temperature", "max_tokens")}


@pytest.mark.parametrize(
    ("message", "more"),
    [
        ("'temperature' does not support 0 with this model.", {"code": "unsupported_value"}),
        ("x", {"param": "temperature"}),
        ("temperature is deprecated for this model", {}),
        ("O-series models don't support temperature=0.0", {"code": "400"}),
        ("no", {}),
    ],
)
def test_a_parameter_of_ours_that_is_refused_is_left_out(message: str, more: dict[str, Any]) -> None:
    run = Run(lambda n, request: refused(400, message, **more) if "temperature" in request else good(), **OURS)
    assert run.answers == [FINE] * 3
    assert run.sent("temperature")[-2:] == [None, None]
    assert run.forms[-1] == SCHEMA
    assert len(run.told) == 1
    assert "does not take" in run.told[0] and "temperature" in run.told[0]
    assert ("probably" in run.told[0]) == (message == "no")


def test_a_form_and_a_parameter_that_are_refused() -> None:
    def answer(n: int, request: dict[str, Any]) -> Answer:
        if "temperature" in request:
            return refused(400, "'temperature' is not supported")
        return refused(400, "no") if form_of(request) else good()

    run = Run(answer, **OURS)
    assert run.answers == [FINE] * 3
    assert run.forms == [SCHEMA, SCHEMA, OBJECT, None, None, None]
    assert run.sent("max_tokens") == [100] * 6
    assert len(run.told) == 1


@pytest.mark.parametrize("own", [(), ("max_tokens",)])
def test_the_limit_on_output_tokens_has_two_names(own: tuple[str, ...]) -> None:
    message = "'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    run = Run(
        lambda n, request: refused(400, message) if "max_tokens" in request else good(),
        parameters={"max_tokens": 100},
        own=own,
    )
    assert run.answers == [FINE] * 3
    assert run.sent("max_completion_tokens") == [None, 100, 100, 100]
    assert "max_tokens; it is sent as max_completion_tokens" in run.told[0]


def test_a_limit_of_ours_that_the_model_takes_under_no_name() -> None:
    def answer(n: int, request: dict[str, Any]) -> Answer:
        names = [name for name in ("max_tokens", "max_completion_tokens") if name in request]
        return refused(400, f"Extra inputs are not permitted: {names[0]!r}") if names else good()

    run = Run(answer, **OURS)
    assert run.answers == [FINE] * 3
    assert run.sent("temperature") == [0] * 5


@pytest.mark.parametrize("more", [{"param": "top_k"}, {}])
def test_a_parameter_of_the_users_ends_the_run_with_its_name(more: dict[str, str]) -> None:
    message = "no" if more else "Unsupported parameter: 'top_k'"
    parameters = {"temperature": 0, "top_k": 5}
    run = Run(lambda n, request: refused(400, message, **more), 1, parameters=parameters)
    assert isinstance(run.answers[0], ConfigError)
    assert "refuses the parameter 'top_k'" in str(run.answers[0])
    assert len(run.server.requests) == 1


def test_a_parameter_of_the_users_whose_name_is_dropped_is_guessed() -> None:
    parameters = {"seed": 1, "top_k": 5}
    run = Run(lambda n, request: refused(400) if "top_k" in request else good(), 1, parameters=parameters)
    assert isinstance(run.answers[0], ConfigError)
    assert "refuses one of the parameters 'seed', 'top_k' (no)" in str(run.answers[0])


def test_a_prompt_that_fits_without_our_limit() -> None:
    def answer(n: int, request: dict[str, Any]) -> Answer:
        message = "This model's maximum context length is 40 tokens. However, you requested 50"
        return refused(400, message) if n == 1 else good()

    run = Run(answer, **OURS)
    assert run.answers == [FINE] * 3
    assert run.sent("max_tokens") == [100, None, 100, 100]
    assert run.told == []


@pytest.mark.parametrize(
    ("status", "message", "code", "reason"),
    [
        (403, "your input was flagged", None, "flagged"),
        (400, "x", "content_filter", "flagged"),
        (400, "x", "context_length_exceeded", "prompt too long"),
        (413, "Request too large, see /billing", "rate_limit_exceeded", "prompt too long"),
    ],
)
def test_what_concerns_one_text_fails_it_alone(status: int, message: str, code: str | None, reason: str) -> None:
    run = Run(lambda n, request: refused(status, message, code=code) if n <= 12 else good(), 13)
    assert [answer.reason for answer in run.answers[:12]] == [reason] * 12
    assert run.answers[12] == FINE
    assert all(not answer.is_silence and f"status {status}" in answer.detail for answer in run.answers[:12])


def test_an_error_with_a_status_of_success() -> None:
    def answer(n: int, request: dict[str, Any]) -> Answer:
        errors = [{"code": 429, "message": "x"}, "x", {"code": 502, "message": "x"}]
        return (200, {"error": errors[n - 1]}, {}) if n < 4 else good()

    assert Run(answer, 1).answers == [FINE]
    run = Run(lambda n, request: (200, {"error": {"code": 402, "message": "Insufficient credits"}}, {}), 1)
    assert "no credit" in str(run.answers[0])


def test_many_at_once_find_the_way_together() -> None:
    """Requests that waited for their turn are sent in the way that was found; those under way follow it."""

    async def run(url: str) -> list[Any]:
        assistant = Assistant("m", RESPONSE_FORMAT, base_url=url, limits=Limits(16), **OURS)
        try:
            return await asyncio.gather(*(assistant.ask(MESSAGES) for _ in range(20)), return_exceptions=True)
        finally:
            await assistant.close()

    with behaving(lambda n, request: refused(400) if "temperature" in request else good()) as server:
        answers = asyncio.run(run(server.url))
    assert all(isinstance(answer, ChatReply) for answer in answers)
    assert len(server.requests) < 20 + 10
    assert {request["max_tokens"] for request in server.requests} == {100}


@pytest.mark.parametrize(
    ("message", "allowed", "is_hopeless", "forms"),
    [("no", (None,), False, [SCHEMA, None]), ("no response_format", (OBJECT,), True, [SCHEMA, OBJECT, None])],
)
def test_those_under_way_follow_the_way_that_others_found(
    message: str, allowed: tuple[str | None], is_hopeless: bool, forms: list[str | None]
) -> None:
    """One is sent before the other finds out that there is no form, and refused after that."""
    late_has_come, other_is_done = threading.Event(), threading.Event()

    def answer(n: int, request: dict[str, Any]) -> Answer:
        is_late = request["messages"][0]["content"] == "late"
        if is_late:
            late_has_come.set()
            other_is_done.wait(10)
        late_has_come.wait(10)
        return good() if form_of(request) in allowed and not (is_late and is_hopeless) else refused(400, message)

    async def run(url: str) -> list[Any]:
        assistant = Assistant("m", RESPONSE_FORMAT, base_url=url, limits=Limits(16))
        assistant.limits.pace.limit = 2  # as after some answers
        late, other = (asyncio.create_task(assistant.ask([{"role": "user", "content": c}])) for c in ("late", "other"))
        other.add_done_callback(lambda _: other_is_done.set())
        try:
            return await asyncio.gather(other, late, return_exceptions=True)
        finally:
            await assistant.close()

    with behaving(answer) as server:
        answers = asyncio.run(run(server.url))
    assert [isinstance(answer, Unanswered) for answer in answers] == [False, is_hopeless]
    asked = [(request["messages"][0]["content"], form_of(request)) for request in server.requests]
    assert [form for who, form in asked if who == "late"] == forms


def test_an_address_without_a_chat_endpoint() -> None:
    run = Run(lambda n, request: (404, {"detail": "Not Found"}, {}), 1)
    assert "is no chat endpoint: there is nothing at this address" in str(run.answers[0])
    assert str(run.answers[0]).endswith("most addresses end in /v1")
    assert isinstance(run.answers[0], ConfigError)


def test_a_wait_that_a_body_asks_for() -> None:
    details = [{"retryDelay": "0.2s"}]
    error = [{"error": {"status": "RESOURCE_EXHAUSTED", "message": "quota, billing", "details": details}}]
    assert Run(lambda n, request: (429, error, {}) if n == 1 else good(), 2).answers == [FINE, FINE]
