from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from cattune.data.examples import REJECTED, CausalLink, Example, Message, RefusedLink, Span
from cattune.errors import CattuneError, DataError

PROMPT = Span("prompt", 0, 2)
ANSWER = Span("completion", 0, 1)


def test_fields_of_prompt_and_completion() -> None:
    example = Example(id="a", prompt="in", completion="out")
    assert list(example.fields.items()) == [("prompt", "in"), ("completion", "out")]
    assert (example.completion_field, example.target) == ("completion", "out")


def test_fields_of_a_conversation() -> None:
    example = Example(id="a", messages=(Message("user", "in"), Message("assistant", "out")))
    assert list(example.fields.items()) == [("messages[0].content", "in"), ("messages[1].content", "out")]
    assert (example.completion_field, example.target) == ("messages[1].content", "out")


def test_positions_count_code_points() -> None:
    example = Example(
        id="a", prompt="\U0001f600e\u0301 5", completion="x", links=(CausalLink(ANSWER, (Span("prompt", 4, 5),)),)
    )
    assert example.text_of(example.links[0].causes[0]) == "5"


@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 1), (-1, 2)])
def test_an_empty_or_negative_span_is_refused(start: int, end: int) -> None:
    with pytest.raises(DataError, match="0 <= start < end"):
        Span("prompt", start, end)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_weights_are_finite_and_positive(weight: float) -> None:
    with pytest.raises(DataError, match="weight"):
        CausalLink(ANSWER, (PROMPT,), weight=weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": 0.0}, "score must be > 0 and at most 1, got 0.0"),
        ({"score": 1.01}, "score"),
        ({"score": float("nan")}, "score"),
        ({"method": "guessed"}, "method must be one of exact, loose, fuzzy, got .guessed"),
        ({"status": "rejected"}, "status must be one of proposed, accepted, got .rejected"),
    ],
)
def test_method_score_and_status_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CausalLink(ANSWER, (PROMPT,), **changes)


def test_a_link_that_was_rejected_must_fit_the_text_too() -> None:
    link = CausalLink(ANSWER, (Span("prompt", 0, 99),))
    with pytest.raises(DataError, match="past the end of prompt"):
        Example(id="a", prompt="prompt", completion="x", refused=(RefusedLink("x", None, REJECTED, link),))


def test_a_link_needs_a_cause() -> None:
    with pytest.raises(DataError, match="at least one cause"):
        CausalLink(ANSWER, ())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a"}, "both prompt and completion"),
        ({"completion": "a"}, "both prompt and completion"),
        ({}, "or messages"),
        ({"prompt": "a", "completion": "b", "messages": (Message("assistant", "c"),)}, "either"),
        ({"prompt": "a", "messages": (Message("assistant", "c"),)}, "needs either"),
        ({"messages": (Message("assistant", "a"), Message("user", "b"))}, "'assistant', got .user"),
        ({"prompt": 5, "completion": "b"}, "prompt must be a string, got int"),
        ({"messages": (Message("assistant", None),)}, "must be a string, got NoneType"),
        ({"prompt": "a\ud800", "completion": "b"}, "surrogate pair at position 1"),
    ],
)
def test_what_is_no_example_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Example(id="ex-7", **arguments)
    assert "ex-7" in str(caught.value)


@pytest.mark.parametrize("name", ["", 5, None])
def test_an_id_is_text(name: object) -> None:
    with pytest.raises(DataError, match="id must be a string"):
        Example(id=name, prompt="a", completion="b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("effect", "cause", "message"),
    [
        (ANSWER, Span("prompt", 0, 99), r"past the end of prompt \(6 code points"),
        (ANSWER, Span("messages[0].content", 0, 1), "it has prompt, completion"),
        (Span("prompt", 0, 2), Span("completion", 0, 1), "comes after its effect"),
        (Span("prompt", 0, 2), Span("prompt", 2, 3), "comes after its effect"),
    ],
)
def test_a_link_that_does_not_fit_is_refused(effect: Span, cause: Span, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Example(id="a", prompt="prompt", completion="done", links=(CausalLink(effect, (cause,)),))


def test_a_cause_may_start_within_its_effect() -> None:
    Example(
        id="a", prompt="", completion="done", links=(CausalLink(Span("completion", 0, 2), (Span("completion", 1, 2),)),)
    )


def test_lists_become_tuples() -> None:
    link = CausalLink(ANSWER, [PROMPT])  # type: ignore[arg-type]
    as_list = Example(id="a", prompt="prompt", completion="done", links=[link], refused=[])  # type: ignore[arg-type]
    assert as_list == Example(id="a", prompt="prompt", completion="done", links=(CausalLink(ANSWER, (PROMPT,)),))


def test_examples_are_immutable() -> None:
    example = Example(id="a", prompt="in", completion="out")
    with pytest.raises(dataclasses.FrozenInstanceError):
        example.prompt = "other"  # type: ignore[misc]


def test_errors_are_value_errors() -> None:
    assert issubclass(DataError, CattuneError) and issubclass(CattuneError, ValueError)


def test_reading_data_imports_no_torch() -> None:
    code = (
        "import sys, cattune.formats.loading\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
