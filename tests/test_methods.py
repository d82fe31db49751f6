"""Methods: what each does to the examples of a task, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import ConfigError
from cattune.methods.base import METHODS, Method
from cattune.methods.jtt import JustTrainTwice
from cattune.tasks.base import Splits, Task

EXAMPLE = Example("one", prompt="a: 1, b: 2 so ", completion="1")
LINKED = replace(EXAMPLE, links=(CausalLink(Span("completion", 0, 1), (Span("prompt", 3, 4),)),))


class Digits(Task):
    """Knows whatever a method may need."""

    name = "digits"
    parts = frozenset({"links", "counterfactuals", "causes_only"})

    def splits(self, data_seed: int) -> Splits:
        return {"train": [LINKED], "test": [LINKED]}

    def counterfactuals(self, example: Example) -> list[Example]:
        return [replace(example, prompt="a: 7, b: 2 so ", completion="7")]

    def causes_only(self, example: Example) -> Example:
        return Example(example.id, prompt="a: 1 so ", completion=example.completion)


class Bare(Digits):
    """Knows nothing but its splits."""

    name = "bare"
    parts = frozenset()


@pytest.mark.parametrize("name", METHODS.names())
def test_each_method_says_who_it_is_and_trains_on_something(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name and method.label and method.description and len(method.passes) >= 1
    method.check(Digits())
    assert method.prepare("train", [LINKED], Digits())


def test_causes_alone_are_trained_on_and_tested_on() -> None:
    method = METHODS.get("causal-only")
    for split in ("train", "test"):
        assert [x.prompt for x in method.prepare(split, [LINKED], Digits())] == ["a: 1 so "]


def test_counterfactuals_are_trained_on_under_ids_of_their_own_and_not_tested_on() -> None:
    method = METHODS.get("cda")
    train = method.prepare("train", [LINKED], Digits())
    assert [(x.id, x.completion) for x in train] == [("one", "1"), ("one (counterfactual 1)", "7")]
    assert list(method.prepare("test", [LINKED], Digits())) == [LINKED]


def test_a_second_pass_repeats_what_the_first_got_wrong() -> None:
    method = JustTrainTwice(times=3, first_epochs=0.5)
    other = replace(LINKED, id="two")
    ids = [x.id for x in method.again([LINKED, other], {"two"})]
    assert ids == ["one", "two", "two (again 1)", "two (again 2)"]
    assert [each.get("num_train_epochs") for each in method.passes] == [0.5, None]
    with pytest.raises(ConfigError, match="times is 1; it must be at least 2"):
        JustTrainTwice(times=1)


@pytest.mark.parametrize(
    ("name", "part"),
    [("cat", "links"), ("cat-published", "links"), ("causal-only", "causes_only"), ("cda", "counterfactuals")],
)
def test_a_task_without_what_a_method_needs_is_refused_with_the_part_named(name: str, part: str) -> None:
    with pytest.raises(ConfigError, match=f"method '{name}' needs {part} of a task, and the task 'bare' has none"):
        METHODS.get(name).check(Bare())


def test_no_method_leaves_everything_as_it_is() -> None:
    method = Method()
    method.check(Bare())
    assert method.settings == {} and list(method.passes) == [{}]
    assert method.prepare("train", [LINKED], Bare()) == [LINKED] == method.again([LINKED], {"one"})


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown method 'dpo'.*sft.*causal-only"):
        METHODS.get("dpo")
