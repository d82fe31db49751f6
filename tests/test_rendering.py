from __future__ import annotations

from dataclasses import replace

import pytest
from chat_templates import (
    CHATML,
    ESCAPED,
    LOWERED,
    QWEN3,
    R1,
    TEMPLATES,
    THINKING_PROMPT,
    TRIMMING,
    Templated,
    contents,
    conversation,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizer_families import family

from cattune.data.examples import CausalLink, Example, Message, Span
from cattune.errors import AlignmentError
from cattune.supervision.rendering import Renderer, Rendering, TemplateError, render

SYSTEM_INTO_USER = (
    "{% if messages[0].role == 'system' %}{% set system = '<<' + messages[0].content + '>>\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}[INST] {{ (system if loop.first else '') + m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)


def shown(rendering: Rendering, example: Example, index: int) -> str:
    """The rendered text that the whole of one message's content is mapped to."""
    name = f"messages[{index}].content"
    start, end = rendering.locate(Span(name, 0, len(example.fields[name])))
    return rendering.text[start:end]


def test_prompt_and_completion_are_put_together_unchanged():
    rendering = render(Example("e", " Ask: ", " High\n"), family("byte-level"))
    assert rendering.text == " Ask:  High\n"
    assert rendering.completion_start == 6
    assert not rendering.templated
    assert rendering.locate(Span("prompt", 1, 4)) == (1, 4)
    assert rendering.locate(Span("completion", 1, 5)) == (7, 11)
    with pytest.raises(AlignmentError, match='names the field "title"; it has prompt, completion'):
        rendering.locate(Span("title", 0, 1))


@pytest.mark.parametrize("template", [CHATML, TRIMMING, SYSTEM_INTO_USER])
def test_each_content_is_found_where_the_template_puts_it(template: str):
    example = conversation("user\n", "assistant", " user \n", "a\n\nb", system="user")
    rendering = render(example, Templated(template))
    for index, message in enumerate(example.messages):
        assert shown(rendering, example, index).strip() == message.content.strip()
    starts = [piece.text_start for piece in rendering.pieces]
    assert starts == sorted(starts) and len(set(starts)) == len(starts)
    assert starts[-1] >= rendering.completion_start > starts[-2]


def test_the_completion_starts_at_the_end_of_the_generation_prompt_and_holds_the_end_of_the_turn():
    rendering = render(conversation("Question?", "Answer."), Templated(CHATML))
    assert rendering.text[: rendering.completion_start].endswith("<|im_start|>assistant\n")
    assert rendering.text[rendering.completion_start :] == "Answer.<|im_end|>\n"


def test_characters_that_the_template_trims_are_nowhere():
    rendering = render(conversation("  2 + 2 \n", "4"), Templated(TRIMMING))
    start, end = rendering.locate(Span("messages[0].content", 0, 9))
    assert rendering.text[start:end] == "2 + 2"
    start, end = rendering.locate(Span("messages[0].content", 1, 3))
    assert rendering.text[start:end] == "2"
    for trimmed in (Span("messages[0].content", 0, 2), Span("messages[0].content", 8, 9)):
        start, end = rendering.locate(trimmed)
        assert start == end


def test_blank_contents_hold_nothing():
    example = conversation(" ", "yes", "", "no")
    rendering = render(example, Templated(TRIMMING))
    assert [shown(rendering, example, i) for i in (1, 3)] == ["yes", "no"]
    start, end = rendering.locate(Span("messages[0].content", 0, 1))
    assert start == end


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=2, max_size=6),
    st.sampled_from([CHATML, TRIMMING]),
)
def test_any_content_is_found_unchanged_or_trimmed(contents: list[str], template: str):
    assume(len(contents) % 2 == 0)
    example = conversation(*contents)
    try:
        rendering = render(example, Templated(template))
    except AlignmentError as error:
        assert "more than one place" in str(error)
        return
    for index, content in enumerate(contents):
        assert shown(rendering, example, index) in ({content} if template is CHATML and content.strip() else
                                                    {content, content.strip(), ""})  # fmt: skip


def test_contents_that_look_like_the_sentinels_are_only_contents():
    example = conversation("\ue0001\ue001 and \ue0000\ue001", "\ue0001\ue001")
    rendering = render(example, Templated(CHATML))
    assert [shown(rendering, example, i) for i in (0, 1)] == [m.content for m in example.messages]


def test_a_conversation_that_the_template_writes_as_it_is_takes_three_renderings():
    tokenizer = Templated(CHATML)
    Renderer(tokenizer)(conversation("a question", "an answer", "another", "one more"))
    assert tokenizer.calls == 3


def test_white_space_at_a_seam_goes_to_the_content_that_kept_it():
    template = "{% for m in messages %}{{ m.content if loop.first else m.content | trim }}{% endfor %}"
    example = conversation("a ", " b", "c", "d")
    rendering = render(example, Templated(template))
    assert rendering.text == "a bcd"
    assert [shown(rendering, example, i) for i in range(4)] == ["a ", "b", "c", "d"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, ["no chat template", "set tokenizer.chat_template", "prompt and completion"]),
        ("{{ raise_exception('roles must alternate') }}", ["cannot render", "roles must alternate"]),
        ("{% for m in messages %}{{ m.content | upper }}|{% endfor %}", ["its answer unchanged", "'SOME ANSWER|'"]),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", ["its answer unchanged, once"]),
        ("start {{ messages[-1].content }}", ['"chat"']),
        ("{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>>>{% endif %}",
         ["is not how it begins the assistant's turn", "fix the template"]),
        ("{{ messages[1].content ", ["cannot render"]),
    ],
)  # fmt: skip
def test_a_template_that_does_not_fit_is_named_with_its_example(template: str | None, words: list[str]):
    with pytest.raises(AlignmentError) as error:
        render(conversation("Some question", "Some answer"), Templated(template))
    for word in [*words, '"chat"']:
        assert word in str(error.value)


def test_a_conversation_needs_something_to_answer():
    with pytest.raises(AlignmentError, match="nothing comes before the assistant's message"):
        render(Example("e", messages=(Message("assistant", "hello"),)), Templated(CHATML))


def test_a_turn_that_the_template_drops_is_named_and_holds_nothing():
    template = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}|{% endif %}{% endfor %}"
    example = conversation("Q", "A", system="be brief")
    rendering = render(example, Templated(template))
    assert rendering.altered == ("messages[0].content",)
    assert shown(rendering, example, 0) == "" and shown(rendering, example, 2) == "A"


def text_of(example: Example, span: Span, template: str, **kwargs: object) -> str | None:
    """The rendered text that a span is mapped to; None where the example is left out."""
    try:
        rendering = render(example, Templated(template), kwargs)
    except TemplateError:
        return None
    start, end = rendering.locate(span)
    return rendering.text[start:end]


@settings(deadline=None, max_examples=150)
@given(data=st.data(), name=st.sampled_from(list(TEMPLATES)))
def test_a_span_is_where_its_characters_went_or_nowhere(data: st.DataObject, name: str):
    texts = data.draw(st.lists(contents(), min_size=2, max_size=4).filter(lambda found: len(found) % 2 == 0))
    system = data.draw(st.none() | contents())
    bare = conversation(*texts, system=system)
    places = [(i, at) for i, m in enumerate(bare.messages) for at in range(len(m.content))]
    assume(places)
    i, start = data.draw(st.sampled_from(places))
    content = bare.messages[i].content
    span = Span(f"messages[{i}].content", start, data.draw(st.integers(start + 1, len(content))))
    letter = Span(span.field, start, start + 1)
    example = replace(bare, links=(CausalLink(span, (letter,)),))
    tokenizer = Templated(TEMPLATES[name])
    try:
        rendering = render(example, tokenizer)
    except TemplateError:
        return
    found = rendering.text[slice(*rendering.locate(span))]
    assert found in bare.text_of(span) and found.strip() in (bare.text_of(span).strip(), "")
    # Another letter in its place changes the text there, and nowhere else, unless it was part of a tag.
    low, high = rendering.locate(letter)
    if high > low and content[start].isalpha():
        changed = content[:start] + "ж" + content[start + 1 :]
        turns = [replace(m, content=changed) if j == i else m for j, m in enumerate(bare.messages)]
        other = tokenizer.apply_chat_template([m.to_dict() for m in turns], tokenize=False)
        if other.replace("ж", content[start]) == rendering.text.replace("ж", content[start]):
            assert [k for k, pair in enumerate(zip(other, rendering.text, strict=True)) if len({*pair}) > 1] == [low]


THOUGHT = "<think>\n4 and 2.\n</think>\n\n6"


@pytest.mark.parametrize(
    ("template", "kwargs", "answer", "learnt"),
    [
        (QWEN3, {}, "6", "<think>\n\n</think>\n\n6"),
        (QWEN3, {}, THOUGHT, THOUGHT),
        (QWEN3, {}, "<think>\n\n</think>\n\n6", "<think>\n\n</think>\n\n6"),
        (QWEN3, {}, "<think>4 and 2.</think>6", None),
        (QWEN3, {}, "The tag </think> does.", None),
        (QWEN3, {"enable_thinking": False}, "6", "6"),
        (QWEN3, {"enable_thinking": False}, "<think>\n\n</think>\n\n6", "6"),
        (QWEN3, {"enable_thinking": False}, THOUGHT, None),
        (QWEN3, {"enable_thinking": True}, THOUGHT, THOUGHT),
        (THINKING_PROMPT, {}, THOUGHT, "4 and 2.\n</think>\n\n6"),
        (R1, {}, "6", "6"),
        (R1, {}, THOUGHT, None),
    ],
)
def test_thoughts_are_learnt_as_the_template_writes_them_or_left_out(
    template: str, kwargs: dict[str, object], answer: str, learnt: str | None
):
    example = conversation("How many are 4 and 2?", answer)
    tokenizer = Templated(template)
    if learnt is None:
        with pytest.raises(TemplateError):
            render(example, tokenizer, kwargs)
        return
    rendering = render(example, tokenizer, kwargs)
    assert rendering.text[rendering.completion_start :].removesuffix("\n") == learnt + "<|im_end|>"
    prompt = [m.to_dict() for m in example.messages[:-1]]
    generation = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True, **kwargs)
    assert rendering.text[: rendering.completion_start] == generation
    start, end = rendering.answer
    assert rendering.text[start:end] == (learnt if "</think>" in answer and learnt != "6" else "6")
    assert shown(rendering, example, 1) == answer


def test_links_into_a_thought_that_the_template_drops_are_nowhere():
    example = conversation("How many are 4 and 2, or 6?", THOUGHT, "And less 1?", "5")
    name = "messages[1].content"
    spans = {part: Span(name, THOUGHT.index(part), THOUGHT.index(part) + len(part)) for part in ("4 and 2", "6", "\n6")}
    spans["2.\n</think>\n\n6"] = Span(name, THOUGHT.index("2."), len(THOUGHT))
    link = CausalLink(Span("messages[3].content", 0, 1), tuple(spans.values()))
    example = replace(example, links=(link,))
    rendering = render(example, Templated(QWEN3))
    found = {part: rendering.text[slice(*rendering.locate(span))] for part, span in spans.items()}
    assert found == {"4 and 2": "", "6": "6", "\n6": "6", "2.\n</think>\n\n6": ""}
    assert rendering.altered == (name,) and rendering.locate(spans["6"])[0] > rendering.text.index("or 6?") + 3


def test_characters_that_a_template_escapes_or_changes_are_nowhere_and_the_others_are_found():
    example = conversation('Say "A" or B', "A")
    question = example.messages[0].content
    starts = {part: question.index(part) for part in ("Say", '"A"', "or", "B")}
    places = {part: Span("messages[0].content", at, at + len(part)) for part, at in starts.items()}
    linked = replace(example, links=(CausalLink(Span("messages[1].content", 0, 1), tuple(places.values())),))
    for template, missing in ((ESCAPED, {'"A"'}), (LOWERED, {"Say", '"A"', "B"})):
        for part, span in places.items():
            assert text_of(linked, span, template) == ("" if part in missing else part), (template, part)


def test_what_is_given_to_the_template_reaches_it():
    tools = [{"type": "function", "function": {"name": "add"}}]
    example = conversation("4 + 2?", "6", chat_template_kwargs={"tools": tools})
    assert '"add"' in render(example, Templated(QWEN3)).text
    example = replace(example, chat_template_kwargs={"enable_thinking": True})
    assert "<think>" in render(example, Templated(QWEN3), {"enable_thinking": False}).text.partition("assistant")[2]
    named = Example("e", messages=(Message("user", "Hi", name="Ann"), Message("assistant", "Hello")))
    assert "name=Ann" in render(named, Templated(TEMPLATES["speakers"])).text
    thought = Example(
        "e", messages=(Message("user", "4 + 2?"), Message("assistant", "6", reasoning_content="Add them."))
    )
    rendering = render(thought, Templated(QWEN3))
    assert rendering.text[rendering.completion_start :] == "<think>\nAdd them.\n</think>\n\n6<|im_end|>\n"
    assert shown(rendering, thought, 1) == "6"


def test_an_answer_of_weight_0_is_left_out():
    example = Example("e", messages=(Message("user", "Hi"), Message("assistant", "Hello", weight=0)))
    with pytest.raises(TemplateError, match="its answer has weight 0"):
        render(example, Templated(CHATML))


@pytest.mark.parametrize("template", ["{{ '\\ud800' }}" + CHATML, "{{ x }}" + CHATML])
def test_a_template_that_writes_half_of_a_surrogate_pair_leaves_the_example_out(template: str) -> None:
    with pytest.raises(TemplateError, match="half of a surrogate pair"):
        Renderer(Templated(template), {"x": "\udfff"})(conversation("4?", "9"))
