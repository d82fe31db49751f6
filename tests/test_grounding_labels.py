"""The hand-made labels of ambiguous phrases, and the arithmetic of the benchmark that reads them."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="the benchmarks are not here")


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("grounding")


def decided(labels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [label for label in labels if "undecidable" not in label]


def test_the_labels_are_well_formed(benchmark_module: ModuleType) -> None:
    labels = benchmark_module.read_labels()
    assert len({(label["file"], label["record"]) for label in labels}) == len(labels)
    assert [label["split"] for label in labels] == ["test" if index % 4 else "dev" for index in range(len(labels))]
    for label in labels:
        assert label["file"] in benchmark_module.FILES
        assert re.fullmatch("[0-9a-f]{16}", label["digest"])
    for label in decided(labels):
        assert 0 < len(label["effect"]["accept"]) <= label["effect"]["places"]
        for cause in label["causes"]:
            assert cause.get("take", 1) <= max(1, len(cause["accept"])) and len(cause["accept"]) <= cause["places"]
            assert cause["accept"] == sorted(cause["accept"])
    counted = [
        label
        for label in decided(labels)
        if any(len(phrase["accept"]) < phrase["places"] for phrase in (label["effect"], *label["causes"]))
    ]
    assert sum(label["split"] == "dev" for label in counted) >= 40
    assert sum(label["split"] == "test" for label in counted) >= 100


def test_the_labels_are_places_of_their_phrases(benchmark_module: ModuleType, published_data: Path) -> None:
    sample = importlib.import_module("grounding_sample")
    labels = benchmark_module.read_labels()
    drawn = list(sample.draw(published_data))
    for label, (record, link) in zip(labels, drawn, strict=True):
        assert (label["file"], label["record"], label["link"]) == (link.file, link.record, link.number)
        assert label["digest"] == record.digest
    for label, (record, link) in zip(labels, drawn, strict=True):
        if "undecidable" in label:
            continue
        effects, causes = sample.candidates(record, link)
        last = max(end for _, end in label["effect"]["accept"])
        named = [(link.effect, label["effect"], effects)]
        for cause in label["causes"]:
            phrase = link.causes[cause["cause"]]
            named.append((phrase, cause, causes[phrase]))
            assert all(start < last for start, _ in cause["accept"])
        for phrase, places, found in named:
            assert places["places"] == len(found)
            assert {tuple(place) for place in places["accept"]} <= set(found)
            assert all(record.joined[start:end] == phrase for start, end in places["accept"])


def test_an_interval_and_a_test_of_paired_choices(benchmark_module: ModuleType) -> None:
    low, high = benchmark_module.share([True] * 8 + [False] * 2)["interval"]
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    paired = benchmark_module.mcnemar([True] * 10 + [False] * 2, [True] + [False] * 9 + [True, False])
    assert (paired["wins"], paired["losses"]) == (9, 1)
    assert paired["p"] == pytest.approx(22 / 1024)


@pytest.mark.parametrize(
    ("prompt", "effects", "causes", "expected"),
    [
        ("a is 5. But a is 5.", [[17, 18]], [[12, 13]], {"effects": True, "causes": True, "links": True}),
        ("a is 5. But a is 5.", [[17, 18]], [[0, 1]], {"effects": True, "causes": False, "links": False}),
        ("a is 5. But a is 5.", [[5, 6], [17, 18]], [[0, 1], [12, 13]], {}),  # no choice is wrong
        ("b 5. a 5", [[2, 3]], [], {"effects": False, "causes": False, "links": False}),  # refused is right
        ("5 5. a", [[0, 1]], [], {"effects": True, "causes": True, "links": True}),  # and is refused
    ],
)
def test_a_choice_is_judged(
    benchmark_module: ModuleType,
    prompt: str,
    effects: list[list[int]],
    causes: list[list[int]],
    expected: dict[str, bool],
) -> None:
    sample = importlib.import_module("grounding_sample")
    link = sample.Link("f", 0, 0, "5", ("a",))
    label = {
        "effect": {"places": 2, "accept": effects},
        "causes": [{"cause": 0, "places": 2, "accept": causes}],
    }
    record = sample.Record(prompt, " .", (link,))
    assert dict(benchmark_module.judge(record, link, label, "nearest", inside=False)) == expected


@pytest.mark.parametrize("inside", [False, True])
def test_a_cause_inside_its_effect(benchmark_module: ModuleType, inside: bool) -> None:
    sample = importlib.import_module("grounding_sample")
    link = sample.Link("f", 0, 0, "a ends", ("a",))
    label = {"effect": {"places": 1, "accept": [[5, 11]]}, "causes": [{"cause": 0, "places": 2, "accept": [[0, 1]]}]}
    record = sample.Record("a b. a ends", " .", (link,))
    judged = dict(benchmark_module.judge(record, link, label, "nearest", inside))
    assert judged == {"causes": inside, "links": inside}
