"""Replies: what is read, what is refused and why, and what is made of the links that they name."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.annotation.assistant import reply as module
from cattune.annotation.assistant.judgement import (
    EFFECT_OUTSIDE,
    LEADS_NOWHERE,
    MOST_PROBLEMS,
    NO_ANSWER,
    OVER_LIMIT,
    LinkInWords,
    Options,
    anchored,
    judge,
)
from cattune.annotation.assistant.reading.loose_json import MOST_DEPTH, find_objects
from cattune.annotation.assistant.reply import (
    ADVICE,
    CONTRADICTORY,
    EMPTY,
    MALFORMED,
    MOST_CHARACTERS,
    MOST_LISTED,
    NO_JSON,
    REFUSAL,
    TOO_LONG,
    TRUNCATED,
    WRONG_EXAMPLE,
    WRONG_SHAPE,
    ReplyError,
    read_reply,
)
from cattune.data.examples import Example, Message
from cattune.grounding import links as grounding
from cattune.grounding.search import Phrase

TAG = "1f2e3d4c"


def link(effect: str, *causes: str) -> LinkInWords:
    return Phrase(effect), tuple(map(Phrase, causes))


TWO = [link("6", "4 pens", "buys 2"), (Phrase("4", "has 4"), (Phrase("Ann"),))]
RECORD: dict[str, Any] = {
    "example": TAG,
    "links": [
        {"effect": "6", "causes": ["4 pens", "buys 2"]},
        {"effect": {"text": "4", "quote": "has 4"}, "causes": ["Ann"]},
    ],
}
REPLY = json.dumps(RECORD)


def reason(text: str) -> str:
    with pytest.raises(ReplyError) as caught:
        read_reply(text, TAG)
    assert caught.value.reason in ADVICE
    assert caught.value.detail.endswith((".", '"', "..."))
    assert len(caught.value.detail) < 400
    caught.value.detail.encode()
    return caught.value.reason


# What is read


@pytest.mark.parametrize(
    "text",
    [
        REPLY,
        json.dumps(RECORD, indent=2),
        f"\ufeff  {REPLY}\n",
        f"```json\n{REPLY}\n```",
        f'Sure! Here are the links {{as JSON}}:\n\n{REPLY}\n\nLet me know {{if}} you need "more".',
        f'<think>First {{"example": a draft}} then {{"links": [</think>\n{REPLY}',
        f"{REPLY}\n{REPLY}",
        f'{{"example": "00000000", "links": []}} {REPLY}',
        REPLY.replace("]", ",]").replace("}", ", }"),
        REPLY.replace('"links"', '"explanation": "because", "confidence": 0.9, "links"'),
        REPLY.replace(TAG, f" {TAG.upper()} "),
        REPLY.replace('["Ann"]', '"Ann"'),
        REPLY.replace('["Ann"]', '{"text": "Ann", "quote": ""}'),
        REPLY.replace('["Ann"]', '[{"text": "Ann", "quote": null}]'),
        REPLY.replace('"effect": "6"', '"effect": 6'),
        f'{{"thought": "easy, {{"}} {REPLY}',
        f"[{REPLY}]",
        f'<tool_call>{{"name": "links", "arguments": {REPLY}}}</tool_call>',
        json.dumps({"name": "links", "parameters": REPLY}),
    ],
)
def test_tolerated(text: str) -> None:
    assert read_reply(text, TAG) == TWO


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"example": TAG, "answer": RECORD["links"][0], "links": RECORD["links"][1:]}),
        json.dumps({"example": TAG, "answer": RECORD["links"][0], "links": RECORD["links"]}),
        json.dumps({"example": TAG, "answer": {"effect": "6", "causes": "4 pens", "why": ""}, "links": []}),
        REPLY.replace('"links"', '"answer": "6", "links"'),
        REPLY.replace('"links"', '"answer": 6, "links"'),
        REPLY.replace('"links"', '"answer": null, "links"'),
    ],
)
def test_the_answers_link_may_stand_before_the_others(text: str) -> None:
    links = read_reply(text, TAG)
    assert links == ([link("6", "4 pens")] if '"why"' in text else TWO)


@pytest.mark.parametrize("answer", [{"effect": "6"}, {"text": "6"}, [{"effect": "6", "causes": ["4 pens"]}]])
def test_an_answer_that_might_be_a_link_is_no_remark(answer: Any) -> None:
    assert reason(json.dumps({"example": TAG, "answer": answer, "links": []})) == WRONG_SHAPE


def test_two_replies_that_differ_in_the_answers_link_are_contradictory() -> None:
    one, other = (json.dumps({"example": TAG, "answer": entry, "links": []}) for entry in RECORD["links"])
    assert reason(one + other) == CONTRADICTORY


def test_one_link_for_a_list() -> None:
    text = json.dumps({"example": TAG, "links": {"effect": "6", "causes": "4 pens"}})
    assert read_reply(text, TAG) == [link("6", "4 pens")]


def test_numbers_are_phrases_as_they_are_written() -> None:
    text = f'{{"example": "{TAG}", "links": [{{"effect": 5.00, "causes": [-3, 1e3, 12345678901234567890123]}}]}}'
    assert read_reply(text, TAG) == [link("5.00", "-3", "1e3", "12345678901234567890123")]


def test_a_tag_of_digits_may_stand_without_quotation_marks() -> None:
    assert read_reply('{"example": 12345678, "links": []}', "12345678") == []
    assert read_reply('{"example": 1234e678, "links": []}', "1234e678") == []


def test_commas_inside_strings_are_kept_when_others_are_mended() -> None:
    text = f'{{"example": "{TAG}", "links": [{{"effect": "a,]", "causes": ["b, }} \\", ,]",],}},]}}'
    assert read_reply(text, TAG) == [link("a,]", 'b, } ", ,]')]


def test_no_links_is_a_reply() -> None:
    assert read_reply(f'{{"example": "{TAG}", "links": []}}', TAG) == []


def test_line_breaks_and_commas_in_phrases_are_kept() -> None:
    text = f'{{"example": "{TAG}", "links": [{{"effect": "a,]\n,}}", "causes": ["\\",]\\\\", "<think>"]}}]}}'
    assert read_reply(text, TAG) == [link("a,]\n,}", '",]\\', "<think>")]


phrases = st.text(st.characters(exclude_categories=["Cs"]))
links_in_words = st.lists(st.tuples(phrases, st.lists(phrases)))


@given(links_in_words, phrases, st.booleans())
def test_whatever_the_phrases_are_they_come_back(links: list[tuple[str, list[str]]], prose: str, ascii: bool) -> None:
    record = {"example": TAG, "links": [{"effect": effect, "causes": causes} for effect, causes in links]}
    text = json.dumps(record, ensure_ascii=ascii)
    expected = [link(effect, *causes) for effect, causes in links]
    if "\ufeff" not in text:
        assert read_reply(text, TAG) == expected
        assert read_reply(f"```\n{text}\n```" + prose.replace("{", ""), TAG) == expected


# What is refused


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", EMPTY),
        (" \n\ufeff", EMPTY),
        ("<think>It has 4 pens.</think>", EMPTY),
        ("I'm sorry, but I can't help with that.", REFUSAL),
        ("I cannot assist with this request.", REFUSAL),
        ("Sorry, I won't annotate this.", REFUSAL),
        ("I’m unable to do that", REFUSAL),
        ("I apologize, but no.", REFUSAL),
        ("Die Antwort 6 hängt von 4 Stiften ab.", NO_JSON),
        ("答案取决于四支笔。", NO_JSON),
        ("null", NO_JSON),
        ("[]", NO_JSON),
        ("{}", NO_JSON),
        ("{'example': 'x', 'links': []}", NO_JSON),
        ("{", TRUNCATED),
        ("```json\n{\n", TRUNCATED),
        ("<think>Let me see", TRUNCATED),
        (REPLY + REPLY[:40], TRUNCATED),
        (REPLY.replace('"buys 2"', '"buys "2""'), MALFORMED),
        (REPLY.replace('"buys 2"', '"buys 2'), MALFORMED),
        (REPLY.replace("}]}", "}}"), TRUNCATED),
        (REPLY.replace('"Ann"', "NaN"), MALFORMED),
        (REPLY.replace('"Ann"', '"\\ud800"'), MALFORMED),
        (REPLY.replace('"Ann"', '"\ud800"'), MALFORMED),
        (REPLY.replace('"Ann"', "[" * 50 + "]" * 50), MALFORMED),
        (REPLY.replace('"effect": "6"', '"effect": "6", "effect": "7"'), MALFORMED),
        (REPLY.replace('"links"', '"links": [], "links"'), MALFORMED),
        (REPLY + REPLY.replace('"Ann"', "Ann"), MALFORMED),
        ('{"a": b}', MALFORMED),
        (REPLY.replace("links", "edges"), WRONG_SHAPE),
        (REPLY.replace("causes", "cause"), WRONG_SHAPE),
        (REPLY.replace('"Ann"', "null"), WRONG_SHAPE),
        (REPLY.replace('"Ann"', "true"), WRONG_SHAPE),
        (REPLY.replace('"Ann"', '["Ann"]'), WRONG_SHAPE),
        (REPLY.replace('"effect": "6"', '"effect": ["6"]'), WRONG_SHAPE),
        (REPLY.replace('"links"', '"more_links": [{"effect": "6", "causes": ["Ann"]}], "links"'), WRONG_SHAPE),
        ('[{"effect": "6", "causes": ["Ann"]}]', WRONG_SHAPE),
        ('{"links": []}', WRONG_SHAPE),
        (json.dumps({"name": "links", "arguments": "none"}), WRONG_SHAPE),
        (json.dumps({**RECORD, "arguments": {"example": TAG, "links": []}}), WRONG_SHAPE),
        ('{"error": "I cannot do this"}', WRONG_SHAPE),
        (REPLY.replace(TAG, "00000000"), WRONG_EXAMPLE),
        (REPLY.replace(TAG, ""), WRONG_EXAMPLE),
        (REPLY + REPLY.replace("buys 2", "4 pens"), CONTRADICTORY),
        (REPLY + f'{{"example": "{TAG}", "links": []}}', CONTRADICTORY),
        ("x" * (MOST_CHARACTERS + 1), TOO_LONG),
    ],
)
def test_refused(text: str, expected: str) -> None:
    assert reason(text) == expected


def test_a_list_without_end_is_refused_before_it_is_searched() -> None:
    causes = [f"no cause {number}" for number in range(20_000)]
    assert reason(json.dumps({"example": TAG, "links": [{"effect": "6", "causes": causes}]})) == TOO_LONG
    links = [{"effect": "6", "causes": []}] * (MOST_LISTED + 1)
    assert reason(json.dumps({"example": TAG, "links": links})) == TOO_LONG
    assert len(read_reply(json.dumps({"example": TAG, "links": links[:MOST_LISTED]}), TAG)) == MOST_LISTED
    assert reason(json.dumps({"example": TAG, "links": [0] * (MOST_LISTED + 1)})) == TOO_LONG, "before it is looked at"


def test_every_reason_has_advice() -> None:
    reasons = {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}
    assert reasons == set(ADVICE)


@pytest.mark.parametrize("text", [REPLY, json.dumps(RECORD, indent=2), f"Here it is:\n```json\n{REPLY}\n```"])
def test_no_beginning_of_a_reply_is_a_reply(text: str) -> None:
    end = text.rindex("}")
    assert [reason(text[:cut]) for cut in range(text.index("{") + 1, end)] == [TRUNCATED] * (end - text.index("{") - 1)


@given(links_in_words, st.data())
def test_a_reply_that_is_cut_anywhere_is_never_a_shorter_one(
    links: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    record = {"example": TAG, "links": [{"effect": effect, "causes": causes} for effect, causes in links]}
    text = json.dumps(record, ensure_ascii=False)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ReplyError):
        read_reply(text[:cut], TAG)


@given(st.data())
def test_a_reply_without_one_character_never_loses_a_link(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(REPLY) - 1))
    try:
        links = read_reply(REPLY[:at] + REPLY[at + 1 :], TAG)
    except ReplyError:
        return
    assert [len(causes) for _, causes in links] == [2, 1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(TAG),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["example", "links", "effect", "causes", "text", "quote"]) | st.text(), inner
    ),
    max_leaves=30,
)  # fmt: skip
pieces = st.sampled_from(
    [
        *'{}[]",:\\',
        '{"',
        '"links"',
        '"effect"',
        "<think>",
        "</think>",
        TAG,
        "NaN",
        "\ud800",
        "\\ud800",
        "\0",
        "\ufeff",
        REPLY,
    ]
)


@settings(max_examples=400)
@given(st.text() | st.lists(pieces | st.text(max_size=3)).map("".join) | json_values.map(json.dumps))
def test_nothing_but_a_reply_error_is_raised(text: str) -> None:
    try:
        links = read_reply(text, TAG)
    except ReplyError as error:
        assert error.reason in ADVICE
        str(error).encode()
    else:
        for effect, causes in links:
            for phrase in (effect, *causes):
                assert isinstance(phrase, Phrase)
                phrase.text.encode()


@pytest.mark.parametrize(
    "unit",
    [
        "{",
        '{"',
        '{"a":',
        '{"a":[',
        "[",
        '"',
        '\\"',
        ",",
        ", ",
        "{ ",
        "<think>",
        "}",
        '{"a":1}',
        '{"links":,}',
        "\ufeff",
        "[,",
    ],
)
def test_a_hostile_reply_costs_little_time(unit: str) -> None:
    start = time.process_time()
    for text in (unit * (MOST_CHARACTERS // len(unit)), '{"' + unit * (MOST_CHARACTERS // len(unit) - 2), unit * 10**7):
        with pytest.raises(ReplyError):
            read_reply(text, TAG)
    assert time.process_time() - start < 10


def test_objects_are_found_in_order_and_whole() -> None:
    found = list(find_objects('a {"x": {"y": "}"}} b {"z": [1.50]} c {not} {"u": "'))
    assert [entry.value for entry in found] == [{"x": {"y": "}"}}, {"z": ["1.50"]}, None]
    assert [entry.is_cut for entry in found] == [False, False, True]
    deep = '{"a": ' * MOST_DEPTH + "1" + "}" * MOST_DEPTH
    assert next(find_objects(deep)).value is not None
    assert "deep" in next(find_objects('{"a": ' + deep + "}")).problem


# What is made of the links


PENS = Example(
    "pens", "Ann has 4 pens and 9 hats. She buys 2 pens. How many pens has she? ", "4 + 2 = 6. The answer is 6."
)


def judged(
    links: Sequence[LinkInWords], options: Options | None = None
) -> tuple[list[str], list[tuple[str, str]], list[str]]:
    """The effects of the links that are kept, what is refused and why, and the problems."""
    result = judge(PENS, links, "model:x", options)
    assert all(kept.source == "model:x" for kept in result.links)
    return (
        [PENS.text_of(kept.effect) for kept in result.links],
        [(refused.cause or refused.effect, refused.reason) for refused in result.refused],
        list(result.problems),
    )


def test_a_chain_that_leads_to_the_answer_is_kept() -> None:
    chain = [link("4 pens", "Ann"), link("How many pens", "4 pens"), link("4 + 2", "has 4", "buys 2", "many pens")]
    assert judged(chain) == (["4 pens", "How many pens", "4 + 2"], [], [])


def test_a_link_that_leads_nowhere_is_refused_and_can_be_brought_back() -> None:
    links = [link("9 hats", "Ann"), link("and 9", "has 4"), link("4 + 2", "4 pens", "buys 2")]
    kept, refused, problems = judged(links)
    assert kept == ["4 + 2"]
    assert refused == [("9 hats", LEADS_NOWHERE), ("and 9", LEADS_NOWHERE)]
    assert problems[0].startswith(f'The effect "9 hats": {LEADS_NOWHERE}; ')
    strayed = judge(PENS, links).refused[0].link
    assert strayed is not None and PENS.text_of(strayed.effect) == "9 hats"


def test_links_that_lead_to_each_other_alone_lead_nowhere() -> None:
    kept, refused, problems = judged([link("9 hats", "4 pens"), link("buys 2", "9 hats")])
    assert kept == []
    assert [why for _, why in refused] == [LEADS_NOWHERE] * 2
    assert any(problem.startswith(NO_ANSWER) for problem in problems)


def test_a_link_that_led_to_a_refused_one_is_refused() -> None:
    kept, refused, _ = judged([link("4 pens", "Ann"), link("60", "4 pens"), link("answer is", "buys 2")])
    assert kept == ["answer is"]
    assert ("4 pens", LEADS_NOWHERE) in refused


def test_steps_of_the_completion_are_kept() -> None:
    assert judged([link("4 + 2", "4 pens", "buys 2"), link("= 6", "4 + 2")])[0] == ["4 + 2", "= 6"]


def test_equal_positions_of_different_fields_do_not_meet() -> None:
    example = Example("x", "abcd efgh ", "1234 5678 end")
    kept = judge(example, [link("efgh", "abcd"), link("end", "5678")]).links
    assert [example.text_of(one.effect) for one in kept] == ["end"]


def test_the_answer_must_be_an_effect() -> None:
    for links in ([], [link("buys 2", "Ann")]):
        kept, _, problems = judged(links)
        assert kept == []
        assert problems[-1].startswith(NO_ANSWER)


def test_effects_may_be_held_to_the_completion() -> None:
    links = [link("4 pens", "Ann"), link("4 + 2", "4 pens", "buys 2")]
    kept, refused, problems = judged(links, Options(effects="completion"))
    assert kept == ["4 + 2"]
    assert refused == [("4 pens", EFFECT_OUTSIDE)]
    assert len(problems) == 1


def test_links_over_the_limit_are_refused_and_named() -> None:
    links = [link("4 + 2", "4 pens"), link("= 6", "buys 2"), link("answer is 6", "= 6")]
    kept, refused, problems = judged(links, Options(max_links=2))
    assert kept == ["4 + 2", "= 6"]
    assert refused == [("answer is 6", OVER_LIMIT)]
    assert f'"answer is 6": {OVER_LIMIT}' in problems[0]


def test_problems_say_which_phrase_and_why() -> None:
    _, refused, problems = judged(
        [link("4 + 2", "4 pens", "sells 7", "answer is"), link("zwölf", "4 pens"), link("= 6", "")]
    )
    assert [why for _, why in refused] == [
        grounding.CAUSE_MISSING,
        grounding.CAUSE_LATE,
        grounding.EFFECT_MISSING,
        grounding.CAUSE_EMPTY,
        grounding.NO_CAUSE_LEFT,
    ]
    assert problems == [
        'The cause "sells 7" of "4 + 2": cause is not in the text; copy it from the text character for character.',
        'The cause "answer is" of "4 + 2": cause comes after its effect; a cause stands before its effect.',
        'The effect "zwölf": effect is not in the text; copy it from the text character for character.',
        'The cause "" of "= 6": cause is empty.',
    ]


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    problems = judged([link(f"none{i}", "4 pens") for i in range(90)], Options(max_links=100))[2]
    assert len(problems) == MOST_PROBLEMS
    assert problems[-1] == "There are 91 problems in all."


def test_conversations_are_judged_by_their_last_message() -> None:
    turns = (
        Message("user", "2 and 3?"),
        Message("assistant", "5"),
        Message("user", "and 4 more?"),
        Message("assistant", "9"),
    )
    example = Example("sum", messages=turns)
    assert judge(example, [link("5", "2", "3")]).links == ()
    kept = judge(example, [link("5", "2", "3"), link("9", "5", "4 more")]).links
    assert [span.effect.field for span in kept] == ["messages[1].content", "messages[3].content"]


def test_an_option_letter_is_the_completions() -> None:
    example = Example("ice", "Which is cold?\nA. fire\nB. ice\nC. soup\nAnswer: ", "B")
    for causes in (["cold", "ice"], ["cold", "B. ice"], ["B. ice"], ["cold"]):
        for effect in ("B", "**B**", "_B_"):
            (kept,) = judge(example, [link(effect, *causes)]).links
            assert kept.effect.field == "completion", causes
            assert len(kept.causes) == len(causes)


def test_only_what_is_surely_in_the_completion_is_tied_to_it() -> None:
    example = Example("x", "A or B? ", "B, not A. B!")
    held = Options(effects="completion")
    assert anchored(example, Phrase("A"), held) == Phrase("A", " or B? B, not A")
    for effect, options in (
        (Phrase("A"), Options()),
        (Phrase("A", "A or"), held),
        (Phrase("B"), held),
        (Phrase("not"), held),
        (Phrase("or"), held),
        (Phrase(""), held),
    ):
        assert anchored(example, effect, options) == effect, effect
    assert anchored(Example("x", "A or B? ", " B."), Phrase("B"), Options()) == Phrase("B", "?  B")


def test_an_effect_is_in_the_completion_where_effects_have_to_be() -> None:
    example = Example("dry", "Number: 7. Grass: high. Wind: low. Risk? ", "The risk is high.")
    for options in (Options(effects="completion"), None):
        (kept,) = judge(example, [(Phrase("high", "is high"), (Phrase("Wind: low"),))], options=options).links
        assert example.text_of(kept.effect) == "high" and kept.effect.field == "completion"
    (kept,) = judge(example, [link("high", "Number: 7")], options=Options(effects="completion")).links
    assert kept.effect.field == "completion"
    assert judge(example, [link("high", "Number: 7")]).links == (), "the word beside the cause is meant"


@given(links_in_words)
def test_every_link_is_kept_or_refused(links: list[tuple[str, list[str]]]) -> None:
    options = Options(max_links=3)
    result = judge(PENS, [link(effect, *causes) for effect, causes in links], options=options)
    whole = [refused for refused in result.refused if refused.cause is None]
    assert len(result.links) + len(whole) == len(links)
    assert result.problems or result.links
