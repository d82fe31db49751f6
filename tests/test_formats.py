"""Which format a record has, a format of a package outside, and the rationale format."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cattune import Example, Span
from cattune.errors import ConfigError, DataError
from cattune.formats.columns import format_of
from cattune.formats.known import formats
from cattune.formats.loading import load_examples, unlinked_examples
from cattune.formats.published import CAUSE_NOT_TEXT
from cattune.formats.rows import examples_of
from cattune.grounding.links import CAUSE_MISSING

PENS = {"prompt": "Ann has 4 pens and buys 2. Is it 6? ", "completion": "6", "rationale": ["4 pens", "buys 2"]}

OUTSIDE = """
from cattune import Example
from cattune.data.fields import text_of
from cattune.formats.base import Format


class QuestionAnswer(Format):
    name = "question-answer"
    keys = ("question", "answer")

    def example(self, record, where, name, occurrences):
        question, answer = (text_of(record, key, where) for key in self.keys)
        return Example(name, question, answer, metadata=self.metadata(record))


FORMAT = QuestionAnswer()
"""


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with a format in one file; its contents may be written anew."""
    (tmp_path / "a_format_outside.py").write_text(OUTSIDE)
    (tmp_path / "a-1.dist-info").mkdir()
    (tmp_path / "a-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: a\nVersion: 1\n")
    entry = "[cattune.formats]\nquestion-answer = a_format_outside:FORMAT\n"
    (tmp_path / "a-1.dist-info" / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(str(tmp_path))
    formats.cache_clear()
    yield tmp_path
    formats.cache_clear()
    sys.modules.pop("a_format_outside", None)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("prompt completion", "prompt-completion"),
        ("prompt completion input target important", "prompt-completion"),
        ("schema", "prompt-completion"),
        ("schema input target", "prompt-completion"),
        ("messages", "messages"),
        ("messages schema", "prompt-completion"),
        ("messages input target", "messages"),
        ("messages important", "messages"),
        ("input target", "published"),
        ("input target prompt", "published"),
        ("important", "published"),
        ("important input", "published"),
        ("prompt completion rationale", "rationale"),
        ("prompt completion rationale input target", "rationale"),
        ("prompt completion rationale links", "prompt-completion"),
        ("prompt completion rationale refused", "prompt-completion"),
        ("prompt completion rationale schema", "prompt-completion"),
    ],
)
def test_which_format_a_record_has(keys: str, name: str) -> None:
    record = {key: ["x"] for key in keys.split()}
    assert format_of(record, "f, line 1").name == name
    assert format_of({**record, **dict.fromkeys(("links", "messages"), None), **record}, "f, line 1").name == name


@pytest.mark.parametrize("key", ["prompt", "input", "rationale", "target", "x"])
def test_a_part_of_a_format_is_told_with_what_is_missing(key: str) -> None:
    with pytest.raises(DataError, match=r"^f, line 1: .*expected 'messages', or 'prompt' and 'completion', or the pub"):
        format_of({key: ["x"]}, "f, line 1")


def test_a_format_outside_is_one_file(outside: Path) -> None:
    given = {"question": "4+2? ", "answer": "6", "level": 1}, {"question": "a", "answer": "b"}
    path = write(outside / "x.jsonl", *given)
    assert load_examples(path) == [
        Example("line-1", "4+2? ", "6", metadata={"level": 1}),
        Example("line-2", "a", "b"),
    ]
    assert examples_of([{"question": "a", "answer": "b", "id": 5, "level": None}]) == [Example("5", "a", "b")]


def test_a_format_outside_is_read_out_of_data_sets(outside: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from cattune.models.tiny import build_tokenizer
    from cattune.supervision.dataset import encode

    rows = [{"id": str(i), "question": f"a b {i}", "answer": "c", "level": 1} for i in range(3)]
    tokenizer = build_tokenizer(["a b c 0 1 2"])
    features, report = encode(datasets.Dataset.from_list(rows), tokenizer)
    assert report.examples == 3
    assert [row["input_ids"] for row in features] == [row["input_ids"] for row in encode(rows, tokenizer)[0]]
    with pytest.raises(DataError, match='rows 0 and 3: both have the id "0"'):
        encode(datasets.Dataset.from_list([*rows, rows[0]]), tokenizer)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"question": "a"}], "line 1: the field 'answer' is missing; expected .*or 'question' and 'answer'"),
        ([{"question": "a", "answer": "b"}, {"question": "a"}], "line 2: the field 'answer' is missing"),
        ([{"question": "a", "answer": 5}], "line 1: 'answer' must be a string"),
        ([{"question": "a", "answer": "\ud800"}], "surrogate"),
        ([{"question": "a", "answer": "b", "id": ""}], "line 1: 'id' must be a string"),
        ([{"question": "a", "answer": "b", "id": "e"}] * 2, 'lines 1 and 2: both have the id "e"'),
    ],
)
def test_what_is_wrong_in_a_format_outside_is_told_with_its_place(
    outside: Path, records: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_examples(write(outside / "x.jsonl", *records))


def test_formats_of_this_library_read_what_they_did_beside_one_outside(outside: Path) -> None:
    (outside / "a_format_outside.py").write_text(OUTSIDE.replace('"question", "answer"', '"prompt", "completion"'))
    assert format_of({"prompt": "a", "completion": "b"}, "f").name == "prompt-completion"


def test_what_an_example_finds_wrong_is_told_with_its_place(outside: Path) -> None:
    (outside / "a_format_outside.py").write_text(OUTSIDE.replace("answer, metadata", "None, metadata"))
    with pytest.raises(DataError, match='x.jsonl, line 1: example "line-1" needs either both'):
        load_examples(write(outside / "x.jsonl", {"question": "a", "answer": "b"}))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("FORMAT = 5", "is a int, which is no format"),
        ("import nothing_of_this_name", "cannot be loaded .*nothing_of_this_name"),
    ],
)
def test_a_format_outside_that_cannot_be_used_is_told(outside: Path, code: str, message: str) -> None:
    (outside / "a_format_outside.py").write_text(code)
    with pytest.raises(ConfigError, match=message):
        load_examples(write(outside / "x.jsonl", {"prompt": "a", "completion": "b"}))


# --- rationale


def test_a_rationale_is_one_link_from_the_whole_completion(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {**PENS, "level": 2}, {**PENS, "rationale": None}, {**PENS, "rationale": []})
    example, *others = load_examples(path)
    (link,) = example.links
    assert example.text_of(link.effect) == example.completion == "6" and link.effect.field == "completion"
    assert [example.text_of(cause) for cause in link.causes] == ["4 pens", "buys 2"]
    assert (link.source, example.metadata) == ("rationale", {"level": 2})
    assert [(other.links, other.refused, other.metadata) for other in others] == [((), (), {})] * 2
    assert [other.links for other in unlinked_examples(path)] == [()] * 3


@pytest.mark.parametrize("rule", ["context", "nearest", "first", "error"])
@pytest.mark.parametrize("completion", ["6", " 6", "6 pens", "Is it 6? ", "4 pens", "a", "…"])
def test_the_effect_of_a_rationale_is_the_completion_whatever_the_prompt_has(completion: str, rule: str) -> None:
    record = {"prompt": "6 6 pens, a … Is it 6? Ann has 4 pens ", "completion": completion, "rationale": ["Ann"]}
    example = examples_of([record])[0]
    if rule != "context":
        example = formats()[0].example(record, "row 0", "e", rule)
    assert [link.effect for link in example.links] == [Span("completion", 0, len(completion))]


def test_phrases_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (example,) = load_examples(write(tmp_path / "x.jsonl", {**PENS, "rationale": ["4 pens", "hats", 5, None]}))
    assert [len(link.causes) for link in example.links] == [1]
    assert [(one.effect, one.cause, one.reason) for one in example.refused] == [
        ("6", "5", CAUSE_NOT_TEXT),
        ("6", "null", CAUSE_NOT_TEXT),
        ("6", "hats", CAUSE_MISSING),
    ]


def test_a_rationale_in_one_text_is_metadata(tmp_path: Path) -> None:
    (example,) = load_examples(write(tmp_path / "x.jsonl", {**PENS, "rationale": "4 and 2 are 6"}))
    assert (example.links, example.metadata) == ((), {"rationale": "4 and 2 are 6"})
    with pytest.raises(DataError, match="line 2, example \"line-2\": 'rationale' must be a list of phrases"):
        load_examples(write(tmp_path / "x.jsonl", PENS, {**PENS, "rationale": "4 and 2 are 6"}))


def test_a_rationale_beside_spans_is_refused_where_the_file_has_rationales(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="both 'rationale' and 'links'"):
        load_examples(write(tmp_path / "x.jsonl", PENS, {**PENS, "links": []}))


def test_rationales_in_a_data_set() -> None:
    datasets = pytest.importorskip("datasets")
    from cattune.models.tiny import build_tokenizer
    from cattune.supervision.dataset import encode

    rows = [{**PENS, "level": 1}, {**PENS, "rationale": None, "level": 2}]
    features, report = encode(datasets.Dataset.from_list(rows), build_tokenizer([PENS["prompt"], "6"]))
    assert (report.links, report.aligned_links, report.examples_without_links) == (1, 1, 1)
    assert [len(row["query_rows"]) for row in features] == [1, 0]
