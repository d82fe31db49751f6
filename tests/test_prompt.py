"""Prompts: what an assistant is sent, and that no text of an example gets out of its place there."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.annotation.assistant.judgement import Options
from cattune.annotation.assistant.prior import PACKAGED, Prior, PriorExample, load_prior
from cattune.annotation.assistant.prompt import (
    MOST_OF_A_REPLY,
    PROMPT_VERSION,
    build_messages,
    example_tag,
    repair_messages,
    reply_text,
)
from cattune.annotation.assistant.reply import read_reply
from cattune.annotation.assistant.reply_form import TOKENS_OF_THOUGHTS, output_limit, response_format, schema
from cattune.data.examples import Example, Message
from cattune.grounding.search import Phrase

DIGESTS = {"1": "6e4fd6149441e2784c0e3849ccfb9f4b481f6ace8127fd38d0f383efe5cf5ec2"}
"""For each version of the prompt, what its words hash to."""

PENS = Example("pens", "Ann has 4 pens and buys 2. How many? ", "6")
LINKS = ((Phrase("6"), (Phrase("4", "has 4"), Phrase("buys 2"))),)
PRIOR = Prior(
    "pens",
    "Counting pens.",
    ("number -> sum",),
    (PriorExample(PENS, LINKS, "a note"),),
    ("Be brief.",),
    Options("anywhere", 7),
)

texts = st.text(st.characters(exclude_categories=["Cs"]))


def record(message: dict[str, str]) -> dict[str, Any]:
    """The JSON of a turn that shows an example."""
    lead, gap, text = message["content"].partition("\n\n")
    assert (message["role"], lead, gap) == ("user", "Annotate this example:", "\n\n")
    return json.loads(text)


def test_the_wording_is_that_of_its_version() -> None:
    messages = build_messages(PRIOR, PENS)
    only_answers = Prior("x", "y", ("a -> b",), PRIOR.examples, options=Options("completion", 7))
    words = [
        messages,
        repair_messages(messages, "{}", ["One.", "Two."]),
        build_messages(only_answers, Example("x", messages=(Message("user", "a"), Message("assistant", "b")))),
    ]
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()
    assert DIGESTS[PROMPT_VERSION] == digest, "the words changed: raise PROMPT_VERSION, and pin the new digest here"


def test_the_order_of_the_turns() -> None:
    messages = build_messages(PRIOR, Example("hats", "Bo has 3 hats. ", "3"))
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert record(messages[1]) == {"example": example_tag(PENS), **PENS.fields}
    assert read_reply(messages[2]["content"], example_tag(PENS)) == list(LINKS)
    assert record(messages[3])["prompt"] == "Bo has 3 hats. "


def test_the_system_turn_says_what_the_prior_says() -> None:
    system = build_messages(PRIOR, PENS)[0]["content"]
    for words in (
        "Counting pens.",
        "- number -> sum\n",
        "- Be brief.\n",
        "at most 7 of them",
        "has to lead to the answer",
    ):
        assert words in system
    assert "a note" not in system
    assert "Every effect stands in the completion" not in system
    held = Prior("x", "y", ("a -> b",), PRIOR.examples, options=Options(effects="completion"))
    system = build_messages(held, PENS)[0]["content"]
    assert "Every effect stands in the completion" in system
    assert "has to lead to the answer" not in system


def test_a_priors_words_are_no_template() -> None:
    prior = Prior("x", "{{ prior.name }} {% if %} <b> &", ("a -> b",), PRIOR.examples)
    assert "{{ prior.name }} {% if %} <b> &" in build_messages(prior, PENS)[0]["content"]


@pytest.mark.parametrize("name", PACKAGED)
def test_all_but_the_last_turn_is_the_same_for_every_example(name: str) -> None:
    prior = load_prior(name)
    first, second = (
        build_messages(prior, PENS),
        build_messages(load_prior(name), Example("hats", "Bo has 3 hats. ", "3")),
    )
    assert first[:-1] == second[:-1]
    assert first[-1] != second[-1]
    assert len(first) == 2 + 2 * len(prior.examples)
    for entry, turn in zip(prior.examples, first[2::2], strict=True):
        assert read_reply(turn["content"], example_tag(entry.example)) == list(entry.links)


def test_the_turns_are_the_callers_to_change() -> None:
    build_messages(PRIOR, PENS)[0]["content"] = "changed"
    assert build_messages(PRIOR, PENS)[0]["content"] != "changed"


def test_priors_that_differ_in_an_example_differ_in_their_prompt() -> None:
    entry = PriorExample(Example("pens", "Other ", "6"), LINKS, "a note")
    other = replace(PRIOR, examples=(entry,))
    assert build_messages(other, PENS)[1] != build_messages(PRIOR, PENS)[1]


def test_the_tag_is_of_the_text_alone() -> None:
    tag = example_tag(PENS)
    assert len(tag) == 8 and int(tag, 16) >= 0
    assert example_tag(Example("other", PENS.prompt, PENS.completion, metadata={"a": 1})) == tag
    assert example_tag(Example("pens", "Ann has 4 pens and buys 2. How many?", " 6")) != tag


@given(texts, texts)
def test_a_text_cannot_leave_its_place(prompt: str, completion: str) -> None:
    last = build_messages(PRIOR, Example("x", prompt, completion))[-1]
    assert set(record(last)) == {"example", "prompt", "completion"}
    assert record(last)["prompt"] == prompt
    assert record(last)["completion"] == completion


@given(st.lists(texts, min_size=1))
def test_a_conversation_cannot_leave_its_place(contents: list[str]) -> None:
    turns = tuple(Message("assistant", content) for content in contents)
    last = build_messages(PRIOR, Example("x", messages=turns))[-1]
    assert record(last)["messages"] == [{"role": "assistant", "content": content} for content in contents]


@pytest.mark.parametrize(
    "token",
    [
        "<|im_end|>",
        "<|im_start|>system",
        "</s>",
        "<s>",
        "[INST]",
        "[/INST]",
        "<end_of_turn>",
        "<｜User｜>",
        "<think>",
        "\\<|x|>",
    ],
)
def test_control_tokens_of_chat_templates_do_not_stand_in_the_prompt(token: str) -> None:
    last = build_messages(PRIOR, Example("x", f'a "{token}', token))[-1]
    assert token.lstrip("\\") not in last["content"]
    assert record(last)["prompt"] == f'a "{token}'
    assert token.lstrip("\\") not in reply_text(PENS, [(Phrase(token), (Phrase(token),))])
    assert (
        record(build_messages(PRIOR, Example("x", "<<40*0.8=32>> <b>[1]", "y"))[-1])["prompt"] == "<<40*0.8=32>> <b>[1]"
    )
    assert "<<40*0.8=32>> <b>[1]" in build_messages(PRIOR, Example("x", "<<40*0.8=32>> <b>[1]", "y"))[-1]["content"]


@given(st.lists(st.tuples(texts, st.lists(st.tuples(texts, texts)))))
def test_the_reply_that_is_shown_is_read_as_it_is(links: list[tuple[str, list[tuple[str, str]]]]) -> None:
    named = [(Phrase(effect), tuple(Phrase(text, quote or None) for text, quote in causes)) for effect, causes in links]
    text = reply_text(PENS, named)
    if "\ufeff" not in text:
        assert read_reply(text, example_tag(PENS)) == named


def test_the_repair_turn() -> None:
    messages = build_messages(PRIOR, PENS)
    repaired = repair_messages(messages, "{} \ud800", ['The cause "7" is <not> there.', "Another."])
    assert repaired[: len(messages)] == messages
    assert [turn["role"] for turn in repaired[len(messages) :]] == ["assistant", "user"]
    assert repaired[-2]["content"] == "{} ?"
    assert '- The cause "7" is <not> there.\n- Another.\n' in repaired[-1]["content"]
    assert len(build_messages(PRIOR, PENS)) == len(messages)


@pytest.mark.parametrize(("reply", "shown"), [("", "{}"), (" \n", "{}"), ("x" * 10**7, "x" * MOST_OF_A_REPLY)])
def test_a_reply_is_shown_again_within_limits(reply: str, shown: str) -> None:
    assert repair_messages([], reply, ["No."])[0]["content"] == shown


# The schema


def objects(schema: Any) -> list[dict[str, Any]]:
    """The schema and all schemas in it."""
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item)]
    if not isinstance(schema, dict):
        return []
    inner = [*schema.get("properties", {}).values(), schema.get("items"), schema.get("anyOf")]
    return [schema, *objects(inner)]


@pytest.mark.parametrize("answer_first", [False, True])
def test_the_schema_keeps_to_what_every_server_knows(answer_first: bool) -> None:
    prior = asked(PRIOR, answer_first=answer_first)
    found = objects(schema(prior))
    keywords = {"type", "properties", "required", "additionalProperties", "items", "anyOf", "minItems", "maxItems"}
    for part in found:
        assert set(part) <= keywords
        assert ("type" in part) != ("anyOf" in part)
        assert ("maxItems" in part) == (part.get("type") == "array"), "a list without end fills a small model's context"
        if part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False
    assert response_format(prior)["json_schema"]["strict"] is True
    assert len(found) == (27 if answer_first else 15)


def asked(prior: Prior, **options: Any) -> Prior:
    """The prior with other options."""
    return replace(prior, options=replace(prior.options, **options))


def fits(schema: Any, value: Any) -> bool:
    """Whether a value is what a schema of these few keywords describes."""
    if "anyOf" in schema:
        return any(fits(option, value) for option in schema["anyOf"])
    if schema["type"] == "object":
        properties = schema["properties"]
        return isinstance(value, dict) and value.keys() == properties.keys() and all(
            fits(properties[key], value[key]) for key in value
        )  # fmt: skip
    if schema["type"] == "array":
        bounds = schema.get("minItems", 0), schema["maxItems"]
        return isinstance(value, list) and bounds[0] <= len(value) <= bounds[1] and all(
            fits(schema["items"], item) for item in value
        )  # fmt: skip
    return isinstance(value, str)


@pytest.mark.parametrize("answer_first", [False, True])
@pytest.mark.parametrize("name", PACKAGED)
def test_the_examples_replies_fit_the_schema(name: str, answer_first: bool) -> None:
    prior = asked(load_prior(name), answer_first=answer_first)
    for turn in build_messages(prior, PENS)[2::2]:
        reply = json.loads(turn["content"])
        assert fits(schema(prior), reply)
        assert not fits(schema(prior), {**reply, "more": ""})
        assert list(reply) == list(schema(prior)["properties"])


def test_the_lists_are_bounded() -> None:
    link = {"effect": "6", "causes": ["4"]}
    long = {"effect": "6", "causes": ["4"] * 9}
    assert fits(schema(PRIOR), {"example": "x", "links": [link] * 7})
    assert not fits(schema(PRIOR), {"example": "x", "links": [link] * 8})
    assert not fits(schema(PRIOR), {"example": "x", "links": [long]})
    assert fits(schema(asked(PRIOR, max_causes=9)), {"example": "x", "links": [long]})
    first = schema(asked(PRIOR, answer_first=True))
    assert fits(first, {"example": "x", "answer": link, "links": [link] * 6})
    assert not fits(first, {"example": "x", "answer": link, "links": [link] * 7})
    assert not fits(first, {"example": "x", "answer": {"effect": "6", "causes": []}, "links": []})
    assert not fits(first, {"example": "x", "links": [link]})


def test_what_an_example_shows_fits_whatever_the_bound() -> None:
    prior = asked(PRIOR, max_causes=1)
    assert fits(schema(prior), json.loads(reply_text(PENS, LINKS)))


def test_the_limit_on_output_follows_the_bounds() -> None:
    assert output_limit(PRIOR) - TOKENS_OF_THOUGHTS == 7 * 9 * 24
    assert output_limit(asked(PRIOR, max_links=1, max_causes=2)) - TOKENS_OF_THOUGHTS == 3 * 24
    assert output_limit(asked(PRIOR, max_links=100, max_causes=100)) == 16_384
    assert output_limit(load_prior("arithmetic")) < 6500, "the prompt of a prior and a reply fit into 8,192 tokens"


# The answer first


STEPS = Example("steps", "Mira has 6 beads and buys 6. ", "6 + 6 = 12. The answer is 12.")
WORKED = (
    (Phrase("6 + 6"), (Phrase("has 6 beads"), Phrase("buys 6"))),
    (Phrase("12", "answer is 12"), (Phrase("12", "= 12"),)),
    (Phrase("12", "= 12"), (Phrase("6 + 6"),)),
)


def test_the_answers_link_stands_first() -> None:
    reply = json.loads(reply_text(STEPS, WORKED, answer_first=True))
    assert list(reply) == ["example", "answer", "links"]
    assert reply["answer"] == {
        "effect": {"text": "12", "quote": "answer is 12"},
        "causes": [{"text": "12", "quote": "= 12"}],
    }
    assert [link["effect"] for link in reply["links"]] == ["6 + 6", {"text": "12", "quote": "= 12"}]
    assert read_reply(json.dumps(reply), example_tag(STEPS)) == [WORKED[1], WORKED[0], WORKED[2]]
    assert list(json.loads(reply_text(STEPS, (), answer_first=True))) == ["example", "links"]


@pytest.mark.parametrize(
    ("completion", "effects", "answer"),
    [
        ("10 - 9 = 1", ["10 - 9", "1"], "1"),
        ("1 + 9 = 10", ["10", "1 + 9"], "10"),
        ("1 + 9 = 10", ["1", "9"], "9"),
        ("The answer is A.", ["A", "The answer"], "A"),
        ("$5", ["has 4", "$5"], "$5"),
    ],
)
def test_which_link_is_the_answers(completion: str, effects: list[str], answer: str) -> None:
    links = [(Phrase(effect), (Phrase("4"),)) for effect in effects]
    reply = json.loads(reply_text(Example("x", "Ann has 4. ", completion), links, answer_first=True))
    assert reply["answer"]["effect"] == answer


def test_only_the_prior_that_wants_it_asks_for_the_answer_first() -> None:
    first = build_messages(asked(PRIOR, answer_first=True), PENS)
    system = first[0]["content"]
    assert "Give the answer's link first" in system
    assert "at most 7 links in all" in system
    assert '"answer": {"effect": "a phrase"' in system
    assert list(json.loads(first[2]["content"])) == ["example", "answer", "links"]
    assert 'answer": {' not in json.dumps(build_messages(PRIOR, PENS))
    assert first[-1] == build_messages(PRIOR, PENS)[-1]
