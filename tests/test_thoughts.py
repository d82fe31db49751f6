"""Thoughts around a reply: what counts is what follows the last end of them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.annotation.assistant.endpoint.chat_protocol import ChatReply, read_chat_reply
from cattune.annotation.assistant.reading.thoughts import ThoughtTags
from cattune.annotation.assistant.reply import (
    CONTRADICTORY,
    EMPTY,
    MOST_CHARACTERS,
    NO_JSON,
    REFUSAL,
    TRUNCATED,
    WRONG_SHAPE,
    ReplyError,
    read_reply,
)

TAG = "0a1b2c3d"


def reply(*causes: str) -> str:
    return json.dumps({"example": TAG, "links": [{"effect": "2", "causes": causes}]}, ensure_ascii=False)


DRAFT, FINAL = reply("plums"), reply("3 plums")


def outcome(text: str, tags: ThoughtTags | None = None) -> list[str] | str:
    """The causes that a reply names, or why it cannot be read."""
    try:
        return [cause.text for _, causes in read_reply(text, TAG, tags) for cause in causes]
    except ReplyError as error:
        return error.reason


TAGS = [
    ("<think>", "</think>"),
    ("<THINK>", "</Think>"),
    ("<think type='x'>", "</think >"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<seed:think>", "</seed:think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<deepThinking>", "</deepThinking>"),
    ("<|think|>", "<|/think|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<｜begin▁of▁thinking｜>", "<｜end▁of▁thinking｜>"),
    ("&lt;think&gt;", "&lt;/think&gt;"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought\n", "<channel|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("Here is my thought process:\n", "\nHere is my response:\n"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
]


@pytest.mark.parametrize(("opens", "closes"), TAGS)
def test_what_counts_follows_the_last_end_of_thought(opens: str, closes: str) -> None:
    assert outcome(f"{opens}{DRAFT}{closes}{FINAL}") == ["3 plums"]
    assert outcome(f"{DRAFT}{closes}\n\n{FINAL}") == ["3 plums"], "the opening tag is part of the prompt"
    assert outcome(f"Okay.\n{opens}\n{DRAFT} is a try.\n{closes}\nLet me look. {opens}{DRAFT}{closes}\n{FINAL}\n") == [
        "3 plums"
    ]
    assert outcome(f'{opens}The form is {{"example": "...", "links": [{{"effect": {closes}{FINAL}') == ["3 plums"]
    assert outcome(f"{opens}{closes}\n{FINAL}") == ["3 plums"]
    assert outcome(f"{opens}{DRAFT} is wrong.{closes}There is no cause here.") == NO_JSON
    assert outcome(f"{opens}{DRAFT}{closes}") == EMPTY
    assert outcome(f"Well,\n{opens}{DRAFT}") == TRUNCATED
    assert outcome(f"{FINAL}{opens}") == TRUNCATED, "who thinks again may come to something else"


def test_channels_whose_special_tokens_are_left_out() -> None:
    assert outcome(f"analysis{DRAFT}assistantfinal{FINAL}") == ["3 plums"]
    assert outcome(f"analysisWe need JSON: {DRAFT}assistantfinaljson{FINAL}") == ["3 plums"]
    assert outcome(f"analysisWe need JSON: {DRAFT}") == TRUNCATED
    assert outcome(f"analysis: easy. {FINAL}") == ["3 plums"]


def test_thoughts_that_nothing_marks_are_not_told_from_the_answer() -> None:
    assert outcome(f"{DRAFT}\n\nWait, the first is wrong. Corrected:\n\n{FINAL}") == CONTRADICTORY
    assert outcome(f"Maybe {DRAFT}, no, that is wrong.\n</think>\n\nI cannot find any cause.") == REFUSAL


@pytest.mark.parametrize("before", ["", f"<think>{DRAFT}</think>", 'So {"example": "...", "links": [ </think>'])
@pytest.mark.parametrize("mark", [mark for pair in TAGS for mark in pair])
def test_a_tag_inside_a_string_of_the_answer_is_a_phrase(before: str, mark: str) -> None:
    assert outcome(before + reply(f"the tag {mark}", mark, "3 plums")) == [f"the tag {mark}", mark, "3 plums"]


def test_a_tag_inside_the_answer_whatever_its_form() -> None:
    links = [{"effect": "2", "causes": ["</think>", {"text": "<think>", "quote": "x </think>"}]}]
    for answer in (
        {"links": links, "example": TAG},
        {"name": "links", "arguments": {"example": TAG, "links": links}},
        {"name": "links", "arguments": json.dumps({"example": TAG, "links": links})},
    ):
        assert outcome(f"{DRAFT}</think>\n```json\n{json.dumps(answer)}\n```") == ["</think>", "<think>"]
    assert outcome(f"{reply('</think>')} is wrong</think>{FINAL}") == ["3 plums"], "an answer inside a thought is none"


def test_a_tool_call_whose_arguments_are_a_thought_names_nothing() -> None:
    call = {"name": "links", "arguments": f"<think>{DRAFT}</think>There is none."}
    assert outcome(json.dumps(call)) == NO_JSON
    assert outcome(json.dumps({**call, "arguments": f"{DRAFT} no, {FINAL}"})) == WRONG_SHAPE


CALL = {"id": "1", "type": "function", "function": {"name": "links", "arguments": FINAL}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": None, "tool_calls": [CALL]}, ["3 plums"]),
        ({"content": "I call the tool.", "tool_calls": [CALL, CALL]}, ["3 plums"]),
        ({"content": "", "function_call": {"name": "links", "arguments": json.loads(FINAL)}}, ["3 plums"]),
        ({"content": FINAL, "tool_calls": [{**CALL, "function": {"name": "links", "arguments": DRAFT}}]}, ["3 plums"]),
        ({"content": None, "reasoning_content": FINAL}, ["3 plums"]),
        ({"content": " ", "reasoning": f"It is a sum.\n\n```json\n{FINAL}\n```\n"}, ["3 plums"]),
        ({"content": None, "reasoning_content": f"<think>{DRAFT} is wrong</think>{FINAL}"}, ["3 plums"]),
        ({"content": None, "reasoning_content": f"Maybe {DRAFT}, no, that is wrong."}, EMPTY),
        ({"content": None, "reasoning_content": f"Maybe {DRAFT}, or rather {FINAL}"}, CONTRADICTORY),
        ({"content": "There is no cause.", "reasoning_content": DRAFT}, NO_JSON),
        ({"content": FINAL, "reasoning_content": DRAFT}, ["3 plums"]),
        ({"content": [{"type": "reasoning", "text": DRAFT}, {"type": "text", "text": FINAL}]}, ["3 plums"]),
        (
            {"content": [{"type": "thinking", "thinking": [{"text": DRAFT}]}, {"text": FINAL}]},
            ["3 plums"],
        ),
    ],
)
def test_where_servers_put_the_thought_and_the_answer(message: dict[str, Any], expected: list[str] | str) -> None:
    answer = read_chat_reply(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert isinstance(answer, ChatReply)
    assert outcome(answer.text) == expected


def test_tags_of_the_users_own() -> None:
    tags = ("## Thinking", "## Final Response")
    text = f"## Thinking\n{DRAFT}\n## Final response\n{FINAL}"
    assert outcome(text) == CONTRADICTORY
    assert outcome(text, tags) == ["3 plums"]
    assert outcome(f"## Thinking\n{DRAFT}", tags) == TRUNCATED
    assert outcome(f"<think>{DRAFT}</think>{FINAL}", tags) == ["3 plums"], "beside those that are known"
    assert outcome(f"(.*{DRAFT}[{FINAL}", ("(.*", "[")) == ["3 plums"], "as they are written"


@given(st.text() | st.lists(st.sampled_from([*sum(TAGS, ()), '{"', "}", '"', "[", DRAFT, " no "])).map("".join))
def test_whatever_is_thought_the_answer_is_read(thought: str) -> None:
    assert outcome(f"<think>{thought}\n\n</think>{FINAL}") == ["3 plums"]


@pytest.mark.parametrize("unit", ["</think>", "<think>", '{"</think>', '{"a":1}<think>', '{"a":</think>"', "< ", "<|"])
def test_hostile_thoughts_cost_little_time(unit: str) -> None:
    start = time.process_time()
    assert isinstance(outcome(unit * (MOST_CHARACTERS // len(unit))), str)
    in_arguments = json.dumps({"name": "links", "arguments": reply(unit * (MOST_CHARACTERS // 2 // len(unit)))})
    assert outcome(in_arguments) == [unit * (MOST_CHARACTERS // 2 // len(unit))]
    assert time.process_time() - start < 10
