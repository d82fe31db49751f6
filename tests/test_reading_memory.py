"""Reports on a file keep nothing of its examples; sets, shelves and lists on disk do what those in memory do."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.annotation.consensus.ballots import side_by_side
from cattune.annotation.report import MOST_VALUES, Distribution, annotation_report
from cattune.cli.align import _align
from cattune.cli.main import main
from cattune.data.examples import CausalLink, Example, RefusedLink, Span
from cattune.data.on_disk import Grouped, SeenKeys, Shelf
from cattune.errors import DataError
from cattune.formats.loading import iter_examples, load_examples, save_examples, unlinked_examples
from cattune.models.tiny import build_tokenizer

PROMPT = "Ann has 4 pens and buys 2 and then she has"
LINK = CausalLink(Span("completion", 1, 2), (Span("prompt", 8, 9), Span("prompt", 24, 25)))
BASE = Example("e", PROMPT, " 6", links=(LINK,), refused=(RefusedLink("6", "none", "not in the text"),))


def many(count: int) -> Iterator[Example]:
    for index in range(count):
        yield replace(BASE, id=f"an example {index}", prompt=PROMPT + " " + "x" * (500 + index % 7))


def align(count: int) -> None:
    with Grouped() as problems:
        _align(many(count), build_tokenizer([PROMPT]), problems)


READERS: dict[str, Callable[[int], object]] = {
    "align": align,
    "report": lambda count: annotation_report(many(count)),
    "report with a reference": lambda count: annotation_report(many(count), many(count)),
}


def peak(act: Callable[[int], object], count: int) -> int:
    gc.collect()
    tracemalloc.start()
    act(count)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("name", READERS)
def test_a_report_takes_no_memory_for_the_examples_that_it_has_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cattune.cli.align._BATCH", 50)
    READERS[name](200)  # what is made once
    growth = peak(READERS[name], 2000) - peak(READERS[name], 1000)
    assert growth < 1000 * 100  # an example of this size takes 3 kB; tokenizers 0.23.1 keeps 64 bytes of each text


def test_the_report_of_align_is_the_one_of_all_examples_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = CausalLink(Span("completion", 0, 1), (Span("completion", 0, 1),))
    examples = [
        replace(e, id=f"{e.id} \u2028 é😀", links=(LINK, odd) if i % 3 else (odd,)) for i, e in enumerate(many(40))
    ]
    save_examples(tmp_path / "x.jsonl", examples)
    reports = []
    for batch in (1000, 7, 1):
        monkeypatch.setattr("cattune.cli.align._BATCH", batch)
        out = tmp_path / f"{batch}.json"
        assert main(["align", str(tmp_path / "x.jsonl"), "--tokenizer", "tiny", "--json", "--out", str(out)]) == 0
        stdout, stderr = capsys.readouterr()
        record = json.loads(out.read_bytes())
        del record["provenance"]["created"]
        assert json.loads(stdout)["problems"] == record["problems"] and stdout.isascii()
        assert out.read_text() == json.dumps(json.loads(out.read_text()), indent=2, ensure_ascii=False) + "\n"
        reasons = [problem["reason"] for problem in record["problems"]]
        assert len(reasons) > 80 and reasons == sorted(reasons, key=reasons.index)  # reason by reason
        reports.append((record, stderr.replace(f"{batch}.json", "")))
    assert reports[0] == reports[1] == reports[2]


def test_a_report_without_problems_has_an_empty_list(tmp_path: Path) -> None:
    save_examples(tmp_path / "x.jsonl", [replace(BASE, refused=())])
    assert main(["align", str(tmp_path / "x.jsonl"), "--tokenizer", "tiny", "--out", str(tmp_path / "o")]) == 0
    assert json.loads((tmp_path / "o").read_bytes())["problems"] == []


def test_align_reads_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_examples(tmp_path / "x.jsonl", many(3))
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cp", str(tmp_path / "x.jsonl"), str(tmp_path / "pipe")]):
        assert main(["align", str(tmp_path / "pipe"), "--tokenizer", "tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examples"] == 3


def test_examples_one_at_a_time_are_those_of_the_list(tmp_path: Path) -> None:
    save_examples(tmp_path / "x.jsonl", many(5))
    assert list(iter_examples(tmp_path / "x.jsonl")) == load_examples(tmp_path / "x.jsonl") == list(many(5))
    assert list(unlinked_examples(tmp_path / "x.jsonl")) == [replace(e, links=(), refused=()) for e in many(5)]


# --- side by side: the order and the errors of a dict that holds everything

IDS = st.lists(st.sampled_from("abcdef"), max_size=6)


@given(st.lists(IDS, min_size=1, max_size=3), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_annotations_side_by_side(ids: list[list[str]], odd: int) -> None:
    annotations = {f"annotator {i}": [Example(name, "x" if i != odd else name, "y") for name in names]
                   for i, names in enumerate(ids)}  # fmt: skip
    expected: dict[str, dict[str, Example]] = {}
    wrong = any(len(set(names)) < len(names) for names in ids)
    for annotator, examples in annotations.items():
        for example in examples:
            entry = expected.setdefault(example.id, {})
            wrong = wrong or any(other.prompt != example.prompt for other in entry.values())
            entry[annotator] = example
    if wrong:
        with pytest.raises(DataError, match="stands there twice|is not the same"):
            list(side_by_side(annotations))
    else:
        found = list(side_by_side({name: iter(examples) for name, examples in annotations.items()}))
        assert [list(entry.items()) for entry in found] == [list(entry.items()) for entry in expected.values()]


# --- on disk


@given(st.lists(st.tuples(st.text(max_size=2), st.integers(0, 9)), max_size=20))
@settings(max_examples=60, deadline=None)
def test_what_is_on_disk_is_what_would_be_in_memory(entries: list[tuple[str, int]]) -> None:
    with SeenKeys() as seen, Shelf() as shelf, Grouped() as grouped:
        first: dict[str, int] = {}
        kept: dict[str, dict[int, bytes]] = {}
        groups: dict[str, list[str]] = {}
        for key, note in entries:
            assert seen.add(key, note) == first.get(key)
            first.setdefault(key, note)
            value = f"{key}{note}".encode()
            assert shelf.put(key, note, value) == (note not in kept.setdefault(key, {}))
            kept[key].setdefault(note, value)
            grouped.add(key, str(note))
            groups.setdefault(key, []).append(str(note))
        assert list(grouped) == [value for values in groups.values() for value in values]
        assert len(grouped) == len(entries)
        for key in [key for key in kept if len(key) == 1]:
            assert shelf.take(key) == sorted(kept.pop(key).items())
            assert shelf.take(key) == []
        assert list(shelf.take_all()) == [sorted(values.items()) for values in kept.values()]


def test_a_key_may_hold_half_of_a_surrogate_pair() -> None:
    with SeenKeys() as seen, Shelf() as shelf:
        assert (seen.add("\ud800", 3), seen.add("\ud800", 4), seen.add("?", 5)) == (None, 3, None)
        assert shelf.put("\ud800", 0, b"x") and shelf.take("\ud800") == [(0, b"x")]


def test_a_distribution_of_very_many_values_keeps_four_digits() -> None:
    exact, rounded = Distribution(), Distribution()
    for index in range(MOST_VALUES * 3):
        exact.count(index)
        rounded.count((index + 0.5) / (MOST_VALUES * 3))
    assert len(exact) == MOST_VALUES * 3 and len(rounded) < MOST_VALUES * 2
    summary = rounded.summary()
    assert summary and summary["n"] == MOST_VALUES * 3 and summary["mean"] == pytest.approx(0.5, abs=1e-4)
    assert summary["quantiles"]["0.25"] == pytest.approx(0.25, abs=1e-4)
