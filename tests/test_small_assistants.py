"""The benchmark of small assistants: what it counts as an operand, and that partial results are kept apart."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from cattune.data.examples import CausalLink, Example, Span

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PROMPT = "Ann has 4.5 pens, Bo 12 hats. Ann gets 2 pens. How many? Answer: "


pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not here")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("small_assistants")


def solved(*causes: str, effect: str = "6.5", completion: str = "Answer: 6.5") -> Example:
    spans = tuple(Span("prompt", PROMPT.index(cause), PROMPT.index(cause) + len(cause)) for cause in causes)
    at = completion.index(effect)
    links = (CausalLink(Span("completion", at, at + len(effect)), spans),) if causes else ()
    return Example("x", PROMPT, completion, links=links)


def test_operands_are_numbers_among_the_causes_of_the_last_number(benchmark: Any) -> None:
    where = {text: PROMPT.index(text) for text in ("4.5", "12", "2 pens")}
    assert benchmark.numbers(solved()) == set(where.values())
    assert benchmark.operands(solved("4.5 pens", "gets 2")) == {where["4.5"], where["2 pens"]}
    assert benchmark.operands(solved("Ann", "How many")) == set()
    assert benchmark.operands(solved("12 hats", effect="Answer")) == set(), "the label of the answer is not the answer"
    assert benchmark.operands(solved("12 hats", effect="Answer: 6.5")) == {where["12"]}


def test_the_figures_of_operands(benchmark: Any) -> None:
    right = [solved("4.5", "2 pens")] * 4
    named = [solved("4.5", "2 pens"), solved("4.5"), solved("4.5", "2 pens", "12"), solved()]
    figures = benchmark.operand_figures(named, right, benchmark.operands)
    assert figures["recall"]["value"] == 5 / 8
    assert figures["precision"]["value"] == 5 / 6
    assert (figures["exactly_right"]["value"], figures["exactly_right_n"]) == (1 / 4, 1)


def test_a_model_s_results_take_the_place_of_its_earlier_ones(benchmark: Any, tmp_path: Path) -> None:
    for name, way, examples in (("b", "x", 1), ("a", "x", 2), ("b", "y", 3), ("b", "x", 4)):
        benchmark.write(tmp_path / "out", {"name": name, "way": way, "where": "server", "examples": examples})
    runs = json.loads((tmp_path / "out").read_text())["runs"]
    assert [(run["name"], run["way"], run["examples"]) for run in runs] == [("a", "x", 2), ("b", "x", 4), ("b", "y", 3)]
