"""What the user is told of a server that stops answering, or that does not keep to the form it was asked for."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from behaving_server import Answer as Answered
from behaving_server import behaving, good, refused

from cattune.annotation.assistant.endpoint import client
from cattune.annotation.assistant.endpoint.chat_protocol import LENGTH, STOPPED, ChatReply
from cattune.annotation.assistant.endpoint.client import Assistant
from cattune.annotation.assistant.endpoint.forms import Way, keeps_form
from cattune.annotation.assistant.endpoint.outage import Outage
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.reply_form import response_format

MESSAGES = [{"role": "user", "content": "?"}]


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    told: list[str] = []
    outage = Outage(told.append)
    for _ in range(5):
        outage.failed("no connection: refused")  # it has not answered yet: the client ends such a run
    outage.answered()
    for failures in (2, 7):
        for _ in range(failures):
            outage.failed("no connection: refused")
        outage.answered()
        outage.answered()
    assert told == [
        "the assistant has stopped answering (no connection: refused); trying again",
        "the assistant answers again",
    ]


def ask(answer: Any, times: int = 1, **settings: Any) -> list[str]:
    """What the user is told while a server is asked so often."""
    told: list[str] = []

    async def run(url: str) -> None:
        assistant = Assistant(
            "m", response_format(load_prior("tabular_risk")), base_url=url, tell=told.append, **settings
        )
        for _ in range(times):
            await assistant.ask(MESSAGES)
        await assistant.close()

    with behaving(answer) as server:
        asyncio.run(run(server.url))
    return told


def test_a_restart_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)

    def restarts(number: int, request: dict[str, Any]) -> Answered:
        return refused(503, "loading the model") if 2 <= number <= 5 else good("{}")

    assert ask(restarts, 2) == [
        "the assistant has stopped answering (status 503: loading the model); trying again",
        "the assistant answers again",
    ]


@pytest.mark.parametrize("text", ["Sure! The weight.", "```json\n{}\n```", "[]", "{", "<think>{}</think> so"])
def test_an_endpoint_that_ignores_the_form_is_noticed_from_its_first_reply(text: str) -> None:
    told = ask(lambda number, request: good(text), 3)
    assert len(told) == 1
    assert "takes response_format json_schema and does not hold replies to it" in told[0]
    assert ask(lambda number, request: good(text), form="text") == []


@pytest.mark.parametrize(
    ("text", "finish"),
    [
        (' {"links": []}\n', STOPPED),
        ("<think>draft: {</think>{}", STOPPED),
        ("so I</think>\n{}", STOPPED),
        ('{"a": "</think>"}', STOPPED),
        ('{"a": [', LENGTH),
        ("", STOPPED),
        (json.dumps({"a": 1}, indent=2), STOPPED),
    ],
)
def test_what_says_nothing_against_the_form(text: str, finish: str) -> None:
    assert keeps_form(Way("json_schema"), ChatReply(text, finish, None, None))
