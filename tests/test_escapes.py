r"""Single backslashes in a reply's JSON: a command such as `\frac` is found whole, or refused whole."""

from __future__ import annotations

import json

import pytest

from cattune.annotation.assistant.judgement import judge
from cattune.annotation.assistant.prompt import example_tag
from cattune.annotation.assistant.reading.escapes import Escapes
from cattune.annotation.assistant.reply import MALFORMED, ReplyError, read_reply
from cattune.data.examples import Example
from cattune.grounding.links import CAUSE_MISSING
from cattune.grounding.search import Phrase

COMMANDS = [
    r"\frac{3}{4}", r"\times 12", r"\beta = 3", r"\rho = 3", r"\nu = 3", r"\neq 3", r"\nabla f", r"\text{kg} 12",
    r"\sqrt{81}", r"\alpha = 3", r"\left(3\right)", r"\right)", r"\underline{3}", r"\uparrow", r"\$3", r"12\%",
    r"3 \cdot 4", r"\bar{x}", r"\(x\)", r"x\ y", r"\{3\}", r"3\,4", r"\tan 30", r"\to 3", r"\f{3}", r"\b{x}",
    r"\begin{array} 3 \\ 4 \\\hline \end{array}", r"C:\new\temp\file_3", r"C:\users\bob\readme", r"\d+\s\bpens\b",
]  # fmt: skip


def causes(text: str, written: str) -> list[str]:
    """The cause that a reply names, as it is found in a text, or why it is refused; `written` is raw."""
    example = Example("x", text, "9")
    raw = f'{{"example": "{example_tag(example)}", "links": [{{"effect": "9", "causes": ["{written}"]}}]}}'
    result = judge(example, read_reply(raw, example_tag(example)))
    refused = [f"{refusal.cause}: {refusal.reason}" for refusal in result.refused if refusal.cause is not None]
    return [example.text_of(cause) for link in result.links for cause in link.causes] + refused


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_found_whole_however_its_backslashes_are_written(command: str) -> None:
    text = f"A tank of ${command}$ litres, than an apple.\nHow\tmuch\n\nfits\fin 3 tanks? "
    assert causes(text, command) == [command]
    assert causes(text, json.dumps(command)[1:-1]) == [command]
    assert causes(text, json.dumps(json.dumps(command)[1:-1])[1:-1]) == [command], "escaped twice"
    assert causes(text, f"tank of ${command}$ litres") == [f"tank of ${command}$ litres"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command[0] == "\\" and command[1].isalpha()])
def test_a_command_that_the_text_does_not_have_is_refused_whole(command: str) -> None:
    rest = command[2:]
    alone = rest if command[1] != "n" else ""  # a line break may stand for the blank before a word
    (refused,) = causes(f"It has {alone} and x{rest}, rather than an {command[1:]}.\n\tHow\f? ", command)
    assert refused == f"{command.replace(2 * chr(92), chr(92))}: {CAUSE_MISSING}"


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Ann has 4 pens.\nHow many? ", "4 pens.\nHow many"),
        ("Ann has 4 pens.\r\nHow many? ", "4 pens.\r\nHow"),
        ("Ann has 4 pens.\n\n  How many? ", "pens.\nHow many"),
        ("a\tb\nc\td ", "a\tb\nc"),
        ("Let $\\nu = 3$.\nNow, u is 4. ", "$.\nNow"),
        ("Ann has\n4 pens. ", "has\n4 pens"),
        ("one\fAnn has two\b. ", "\fAnn"),
        ("我\n们的 ", "我\n们的"),
        ("Ann has 4 pens. How many? ", "4 pens.\nHow many"),
        ("Ann has 4 pens.\nHow many? ", "4 pens.\nhow many"),
    ],
)
def test_real_white_space_stays_what_it_is(text: str, phrase: str) -> None:
    (found,) = causes(text, json.dumps(phrase)[1:-1])
    assert found.casefold().split() == phrase.casefold().split()


def test_a_line_break_and_a_command_in_one_phrase() -> None:
    text = "Find this:\n$\\nabla f$ where\nthe $\\theta$ is 3. "
    whole = "this:\n$\\nabla f$ where\nthe $\\theta$"
    assert causes(text, "this:\\n$\\nabla f$ where\\nthe $\\theta$") == [whole]


def test_a_backslash_that_the_text_does_not_have_before_a_sign_is_no_word() -> None:
    assert causes("It costs $5, 12% off. ", r"\$5") == ["$5"]
    assert causes("It costs $5, 12% off. ", r"12\%") == ["12%"]
    assert causes("It is Ann's_pen. ", r"Ann\'s\_pen") == ["Ann's_pen"]


def test_a_short_word_after_a_line_break_that_the_text_does_not_have_is_a_command() -> None:
    assert causes("Let u be 3. ", r"\nu be 3") == [rf"\nu be 3: {CAUSE_MISSING}"]
    assert causes("Let u be 3,\nu be 4. ", r"3,\nu be 4") == ["3,\nu be 4"]


def test_a_command_of_the_text_comes_before_its_white_space() -> None:
    assert causes("Let $\\nu be 3$,\nu is 4. ", r"\nu be 3") == [r"\nu be 3"]


def test_a_phrase_far_longer_than_the_text_stays_as_it_is() -> None:
    long = Phrase("\times" * 9)
    assert Escapes(r"3 \times 4").meant(long) == long


def test_the_quote_of_a_phrase_is_read_alike() -> None:
    escapes = Escapes(r"$\frac{3}{4}$ and 3")
    assert escapes.meant(Phrase("3", "\frac{3}")) == Phrase("3", r"\frac{3}")


def test_u_without_four_digits_is_no_escape() -> None:
    assert causes(r"It has \u12 pens. ", r"\u12") == [r"\u12"]


@pytest.mark.parametrize("written", [r"\ud800", "C:\\"])
def test_what_stays_unreadable(written: str) -> None:
    with pytest.raises(ReplyError) as caught:
        causes("It has 4 pens. ", written)
    assert caught.value.reason == MALFORMED
