from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizer_families import CHATML, TRIMMING, family

from cattune.errors import AlignmentError
from cattune.examples import Example, Message, Span
from cattune.rendering import Renderer, Rendering, render

SYSTEM_INTO_USER = (
    "{% if messages[0].role == 'system' %}{% set system = '<<' + messages[0].content + '>>\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m.role == 'user' %}[INST] {{ (system if loop.first else '') + m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} </s>{% endif %}{% endfor %}"
)


class Templated:
    """What rendering needs of a tokenizer, with a template of our choice."""

    def __init__(self, template: str | None) -> None:
        self._tokenizer = family("byte-level")
        self.chat_template = template
        self.calls = 0

    def apply_chat_template(self, messages: list[dict[str, str]], **options: object) -> str:
        self.calls += 1
        return self._tokenizer.apply_chat_template(messages, chat_template=self.chat_template, **options)


def conversation(*contents: str, system: str | None = None) -> Example:
    """User and assistant in turn, the assistant last."""
    roles = ["user", "assistant"] * len(contents)
    messages = [Message(role, content) for role, content in zip(roles, contents, strict=False)]
    return Example("chat", messages=(*([Message("system", system)] if system is not None else []), *messages))


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
