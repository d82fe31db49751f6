from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.data.examples import METHODS, REJECTED, STATUSES, CausalLink, Example, Message, RefusedLink, Span
from cattune.data.records import example_from_dict, example_to_dict
from cattune.errors import ConfigError, DataError
from cattune.formats.loading import load_examples, save_examples
from cattune.formats.rows import examples_of

EXAMPLE = Example(
    id="a",
    prompt="\U0001f600 Weight: 4 ",
    completion="Low",
    links=(CausalLink(Span("completion", 0, 3), (Span("prompt", 2, 11),), weight=2.0, source="rule"),),
    refused=(RefusedLink("Low", None, "why"), RefusedLink("Low", "x", "why")),
    metadata={"seed": 1},
)
RECORD: dict[str, Any] = {
    "schema": "cattune/1",
    "id": "a",
    "prompt": "\U0001f600 Weight: 4 ",
    "completion": "Low",
    "links": [
        {
            "effect": {"field": "completion", "start": 0, "end": 3, "text": "Low"},
            "causes": [{"field": "prompt", "start": 2, "end": 11, "text": "Weight: 4"}],
            "weight": 2.0,
            "source": "rule",
        }
    ],
    "refused": [{"effect": "Low", "cause": None, "reason": "why"}, {"effect": "Low", "cause": "x", "reason": "why"}],
    "metadata": {"seed": 1},
}
TURNS = [{"role": "user", "content": "in"}, {"role": "assistant", "content": "out"}]


def write_lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def changed(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(RECORD)), **changes}


def with_span(**changes: Any) -> dict[str, Any]:
    record = changed()
    record["links"][0]["causes"][0] |= changes
    return record


def with_link(**changes: Any) -> dict[str, Any]:
    record = changed()
    record["links"][0] |= changes
    return record


# --- the schema


def test_the_record_of_an_example() -> None:
    assert example_to_dict(EXAMPLE) == RECORD
    assert example_from_dict(RECORD) == EXAMPLE


def test_the_record_of_a_conversation() -> None:
    example = Example(id="a", messages=tuple(Message(**turn) for turn in TURNS))
    assert example_to_dict(example) == {"schema": "cattune/1", "id": "a", "messages": TURNS, "links": []}


def test_the_record_of_a_link_that_was_found_loosely_and_of_one_that_was_rejected() -> None:
    link = replace(EXAMPLE.links[0], method="fuzzy", score=0.9, status="accepted")
    example = replace(EXAMPLE, links=(link,), refused=(RefusedLink("Low", None, REJECTED, link),))
    record = example_to_dict(example)
    written = RECORD["links"][0] | {"method": "fuzzy", "score": 0.9, "status": "accepted"}
    assert record["links"] == [written]
    assert record["refused"] == [{"effect": "Low", "cause": None, "reason": REJECTED, "link": written}]
    assert example_from_dict(record) == example


def test_text_weight_and_source_may_be_left_out() -> None:
    record = with_span(text=None)
    del record["links"][0]["weight"], record["links"][0]["source"], record["links"][0]["effect"]["text"]
    (link,) = example_from_dict(record).links
    assert (link.weight, link.source) == (1.0, "unknown")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (changed(schema="cattune/2"), r'the schema is "cattune/2"; this release of cattune reads cattune/1'),
        (changed(schema=1), "the schema is 1"),
        (changed(schema=["cattune/1"]), "the schema is"),
        (changed(id=[]), "'id' must be a string"),
        (changed(prompt=None), "'prompt' is missing"),
        (changed(completion=None), "'completion' is missing"),
        (changed(messages=TURNS), "keep one of the two forms"),
        (changed(prompt=TURNS), "both be lists of messages"),
        (changed(prompt=5, completion=5), "field 'prompt': expected text, or a list of messages"),
        ({"id": "a", "messages": []}, "a list of messages that is not empty"),
        ({"id": "a", "messages": [5]}, "message 0: expected a mapping with role, content"),
        ({"id": "a", "messages": [{"role": "assistant"}]}, "message 0: the field 'content' is missing"),
        ({"id": "a", "messages": [{"role": "assistant", "content": [1]}]}, "a part of 'content' is 1; expected"),
        ({"id": "a", "messages": TURNS[:1]}, "its role must be 'assistant', got .user"),
        (
            {"id": "a", "messages": [{**TURNS[1], "tool_calls": [1]}]},
            "'tool_calls' is not supported",
        ),
        (changed(links={}), "'links' must be a list"),
        (changed(links=[5]), r"links\[0\]: expected a mapping"),
        (changed(links=[{}]), r"links\[0\], effect: expected a mapping"),
        (with_link(causes=[]), "at least one cause"),
        (with_link(weight="2"), "'weight' must be a number"),
        (with_link(weight=True), "'weight' must be a number, got true"),
        (with_link(weight=0), "weight must be a finite number > 0"),
        (with_link(weight=10**400), "too large"),
        (with_link(source=5), "'source' must be a string"),
        (with_link(wieght=2.0), 'unknown key "wieght"; the keys are effect, causes, weight, source, method, '),
        (with_link(score=10**400), "'score': int too large"),
        (with_link(score=2), "score must be > 0 and at most 1, got 2.0"),
        (with_link(score="1"), "'score' must be a number"),
        (with_link(method="guess"), "links.0.: a causal link's method must be one of exact, loose, fuzzy"),
        (with_link(status=1), "'status' must be a string"),
        (with_span(start=None), r"causes\[0\].start: expected a whole number of code points, got null"),
        (with_span(start=2.0), "expected a whole number"),
        (with_span(start=True), "expected a whole number"),
        (with_span(start=11), "0 <= start < end"),
        (with_span(end=99, text=None), "past the end of prompt"),
        (with_span(field="input", text=None), "it has prompt, completion"),
        (with_span(field=None), "the field 'field' is missing"),
        (with_span(start=3, end=12), 'covers "eight: 4 ", but its \'text\' is "Weight: 4"; positions count Unicode'),
        (changed(refused=[{"effect": "a"}]), r"refused\[0\]: the field 'reason' is missing"),
        (changed(refused=[{"effect": "a", "reason": "b", "link": 5}]), r"refused\[0\], link: expected a mapping"),
        (
            changed(refused=[{"effect": "a", "reason": "b", "link": with_span(text="x")["links"][0]}]),
            'covers "Weight: 4", but its',
        ),
        (changed(refused="a"), "'refused' must be a list"),
        (changed(metadata=[]), "'metadata' must be a mapping"),
        (changed(metadata="no"), "'metadata' is a string, but not JSON"),
        (changed(metadata="[]"), "'metadata' must be a mapping"),
        (changed(link=[]), "cattune/1 has no key link"),
        ({"prompt": "a", "completion": "b", "metadata": {"x": 1}, "x": 2}, "x stand both beside 'metadata' and in it"),
        ([], "expected a mapping"),
    ],
)
def test_a_bad_record_is_refused_with_its_place(record: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        example_from_dict(record, "f.jsonl, line 3", "line-3")
    assert str(caught.value).startswith("f.jsonl, line 3")
    assert str(caught.value).count("f.jsonl") == 1


@pytest.mark.parametrize("metadata", [{"a": {1: 2}}, {"a": object()}, {1: 2}, {"a": {1, 2}}])
def test_metadata_that_json_would_change_are_refused(metadata: Any) -> None:
    with pytest.raises(DataError, match="example .a.: the metadata cannot be written as JSON"):
        example_to_dict(Example(id="a", prompt="", completion="", metadata=metadata))


# --- files


def test_the_format_is_sniffed(tmp_path: Path) -> None:
    ours = load_examples(write_lines(tmp_path / "ours", RECORD))
    plain = load_examples(write_lines(tmp_path / "plain", {"prompt": "a", "completion": "b", "input": 5}))
    published = load_examples(write_lines(tmp_path / "published", {"input": "a", "target": "b", "prompt": "c"}))
    assert ours == [EXAMPLE]
    assert plain == [Example(id="line-1", prompt="a", completion="b", metadata={"input": 5})]
    assert published == [Example(id="line-1", prompt="a", completion="b", metadata={"prompt": "c"})]


def test_conversational_prompt_and_completion_become_messages(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x", {"prompt": TURNS[:1], "completion": TURNS[1:]}, {"messages": TURNS, "idx": 3})
    messages = tuple(Message(**turn) for turn in TURNS)
    assert load_examples(path) == [
        Example(id="line-1", messages=messages),
        Example(id="line-2", messages=messages, metadata={"idx": 3}),
    ]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"text": "a"}], "line 1: this is no format that cattune reads; .*keys found: text"),
        ([{}], "keys found: none"),
        ([{"input": "a"}], "line 1.*'target' is missing"),
        ([{"instruction": "a", "input": "b", "output": "c"}], "'target' is missing"),
        ([{"prompt": "a"}], "'completion' is missing"),
        ([{"input": "a", "target": "b"}, {"prompt": "a", "completion": "b"}], "line 2.*'input' is missing"),
        ([RECORD, RECORD], 'lines 1 and 2: both have the id "a"; give each its own'),
        ([RECORD, changed(id="line-3"), changed(id=None)], 'lines 2 and 3: both have the id "line-3"'),
    ],
)
def test_files_that_are_refused(tmp_path: Path, records: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_examples(write_lines(tmp_path / "x.jsonl", *records))
    assert "x.jsonl" in str(caught.value)


def test_a_repeated_published_id_is_marked_with_its_line(tmp_path: Path) -> None:
    record = {"input": "a", "target": "b", "idx": 604}
    examples = load_examples(write_lines(tmp_path / "x", record, record, record))
    assert [example.id for example in examples] == ["604", "604 (line 2)", "604 (line 3)"]


def test_the_rule_is_passed_on_and_checked_before_the_file_is_read(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x", {"input": "a a ", "target": "b", "important": {"b": ["a"]}})
    assert [load_examples(path, rule)[0].links[0].causes[0].start for rule in ("nearest", "first")] == [2, 0]
    assert load_examples(path) == load_examples(path, "context")
    with pytest.raises(ConfigError, match="occurrences must be one of"):
        load_examples(tmp_path / "missing", "last")


# --- there and back


def spans(fields: dict[str, str]) -> st.SearchStrategy[Span]:
    def cut(name: str) -> st.SearchStrategy[Span]:
        size = len(fields[name])
        return st.tuples(st.integers(0, size), st.integers(0, size)).map(
            lambda pair: Span(name, *sorted(pair)) if pair[0] != pair[1] else Span(name, 0, size)
        )

    return st.one_of([cut(name) for name, text in fields.items() if text])


@st.composite
def examples(draw: st.DrawFn) -> Example:
    letters = st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("e\u0301\u05d0\u202e\u200d\U0001f469\U0001f3fd\u2028\0"),
    )
    text = st.text(letters, max_size=8)
    if draw(st.booleans()):
        content: dict[str, Any] = {"prompt": draw(text), "completion": draw(text)}
    else:
        turns = draw(st.lists(st.builds(Message, st.sampled_from(["system", "user"]), text), max_size=3))
        content = {"messages": (*turns, Message("assistant", draw(text)))}
    plain = Example(id=draw(st.text(letters, min_size=1)), **content)
    order = list(plain.fields)
    links = []
    if any(plain.fields.values()):
        for _ in range(draw(st.integers(0, 2))):
            effect, *causes = draw(st.lists(spans(plain.fields), min_size=2, max_size=4))
            fits = [c for c in causes if (order.index(c.field), c.start) < (order.index(effect.field), effect.end)]
            if fits:
                weight = draw(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
                score = draw(st.floats(min_value=0, max_value=1, exclude_min=True))
                ways = draw(st.sampled_from(METHODS)), score, draw(st.sampled_from(STATUSES))
                links.append(CausalLink(effect, tuple(fits), weight, draw(text), *ways))
    rejected = st.sampled_from([None, *links])
    refused = draw(st.lists(st.builds(RefusedLink, text, st.none() | text, text, rejected), max_size=2))
    values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    metadata = draw(st.dictionaries(text, values | st.lists(values) | st.dictionaries(text, values), max_size=3))
    return Example(id=plain.id, **content, links=tuple(links), refused=tuple(refused), metadata=metadata)


@given(st.lists(examples(), min_size=1, max_size=4, unique_by=lambda example: example.id))
@settings(max_examples=50, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, written: list[Example]) -> None:
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    assert save_examples(path, written) == len(written)
    assert load_examples(path) == written


def test_what_cannot_be_read_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for bad, message in [
        ([EXAMPLE, EXAMPLE], "lines 1 and 2: both have the id"),
        ([], "no examples to write"),
        ([Example(id="\ud800", prompt="", completion="")], "cannot be written as JSON"),
        ([Example(id="a", prompt="", completion="", metadata={"x": "\udfff"})], "cannot be written as JSON"),
        ([Example(id="a", prompt="", completion="", metadata={"x": float("nan")})], "cannot be written as JSON"),
    ]:
        with pytest.raises(DataError, match=message):
            save_examples(path, bad)
    assert list(tmp_path.iterdir()) == []


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.floats()
    | st.sampled_from(["", "a", "prompt", "assistant", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "effect", "causes", "field", "start", "end", "text", "weight"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def pierced(value: Any, draw: st.DrawFn) -> Any:
    """The value with one place, somewhere in it, replaced by something else."""
    if draw(st.integers(0, 3)) == 0 or not isinstance(value, dict | list) or not value:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    copy = value.copy()
    copy[key] = pierced(value[key], draw)
    return copy


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_fuzz_records(data: st.DataObject) -> None:
    seed = data.draw(
        st.sampled_from([RECORD, {"id": "a", "messages": TURNS}, {"prompt": TURNS[:1], "completion": TURNS[1:]}])
    )
    record = pierced(seed, data.draw)
    try:
        example_from_dict(record, "f.jsonl, line 3", "line-3")
    except DataError as error:
        assert str(error).startswith("f.jsonl, line 3")


@given(st.lists(st.data(), max_size=2), st.data())
@settings(max_examples=100, deadline=None)
def test_fuzz_files(tmp_path_factory: pytest.TempPathFactory, _: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz-records.jsonl"
    seeds = [RECORD, {"input": "a", "target": 5, "important": {"5": ["a"]}}, {"messages": TURNS}]
    records = [pierced(data.draw(st.sampled_from(seeds)), data.draw) for _ in range(data.draw(st.integers(0, 3)))]
    write_lines(path, *records)
    try:
        load_examples(path)
    except DataError as error:
        assert str(path) in str(error)


# --- data sets


def test_rows_of_a_dataset_are_full_of_nulls() -> None:
    rows = [
        {**RECORD, "messages": None, "metadata": {"seed": 1, "other": None}},
        {"id": None, "prompt": None, "messages": [{**turn, "name": None} for turn in TURNS], "links": None},
        {"id": 7, "prompt": "a", "completion": "b", "metadata": '{"x": [1]}', "refused": []},
    ]
    assert examples_of(rows) == [
        EXAMPLE,
        Example(id="row-1", messages=tuple(Message(**turn) for turn in TURNS)),
        Example(id="7", prompt="a", completion="b", metadata={"x": [1]}),
    ]


def test_a_real_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    other = Example(id="b", prompt="a", completion="b", metadata={"x": {"y": 1}})
    rows = [example_to_dict(example) for example in (EXAMPLE, other)]
    assert examples_of(list(datasets.Dataset.from_list(rows))) == [EXAMPLE, other]
    save_examples(tmp_path / "x.jsonl", [EXAMPLE, other])
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "x.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert examples_of(list(loaded)) == [EXAMPLE, other]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"train": [RECORD]}, 'got dict; choose one of "train"'),
        ("data.jsonl", "read a file with load_examples"),
        (None, "got NoneType"),
        ([RECORD, RECORD], "rows 0 and 1: both have the id"),
        ([5], "row 0: expected a list of examples or of rows"),
        ([changed(completion=None)], "row 0, example \"a\": the field 'completion' is missing"),
    ],
)
def test_data_sets_that_are_refused(dataset: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        examples_of(dataset)
