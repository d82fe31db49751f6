from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.data.examples import RefusedLink, Span
from cattune.data.jsonl import read_jsonl
from cattune.errors import DataError
from cattune.formats import published
from cattune.formats.loading import load_examples
from cattune.formats.published import published_example
from cattune.grounding import links as grounding

GAME = {"input": "Weight: 4, Smoking: 8 Answer: ", "target": "High Risk"}


def test_the_game() -> None:
    example = published_example({**GAME, "important": [{"High Risk": ["Weight: 4", "Smoking: 8"]}]}, "f", "line-1")
    assert (example.id, example.prompt, example.completion) == ("line-1", GAME["input"], "High Risk")
    (link,) = example.links
    assert link.causes == (Span("prompt", 0, 9), Span("prompt", 11, 21))
    assert link.source == "published"
    assert example.metadata == {} and example.refused == ()


def test_a_mapping_instead_of_a_list() -> None:
    links = {"High Risk": ["Weight: 4"], "Smoking": ["Weight"]}
    example = published_example({**GAME, "important": links}, "f", "line-1")
    assert example.links == published_example({**GAME, "important": [links]}, "f", "line-1").links
    assert len(example.links) == 2


@pytest.mark.parametrize("absent", [{}, {"important": None}, {"important": []}, {"important": {}}, {"important": [{}]}])
def test_without_links(absent: dict[str, Any]) -> None:
    example = published_example({**GAME, **absent}, "f", "line-1")
    assert example.links == () and example.refused == ()


@pytest.mark.parametrize(
    ("written", "text"), [("8", "8"), ("5.0", "5.0"), ("8.50", "8.50"), ("-3", "-3"), ('"8"', "8")]
)
def test_a_number_is_the_text_that_the_file_has(tmp_path: Path, written: str, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"input": "Rate 4 Answer: ", "target": {written}, "important": {{"Answer: {text}": [4]}}}}')
    (example,) = load_examples(path)
    assert example.completion == text
    assert example.links[0].effect == Span("completion", 0, len(text))
    assert example.links[0].causes == (Span("prompt", 5, 6),)


def test_one_malformed_link_is_refused_and_the_others_stay() -> None:
    important = [
        {"High Risk": "Weight: 4"},  # a string in place of the list
        {"Smoking": {"a": ["b"]}},
        {"Answer": None},
        "High Risk",
        None,
        {"High Risk": ["Smoking: 8", None, True, ["Weight: 4"]]},
    ]
    example = published_example({**GAME, "important": important}, "f", "line-1")
    assert [len(link.causes) for link in example.links] == [1, 1]
    assert example.refused == (
        RefusedLink("Smoking", None, published.CAUSES_NOT_A_LIST),
        RefusedLink("Answer", None, published.CAUSES_NOT_A_LIST),
        RefusedLink("High Risk", None, published.NOT_A_MAPPING),
        RefusedLink("null", None, published.NOT_A_MAPPING),
        RefusedLink("High Risk", "null", published.CAUSE_NOT_TEXT),
        RefusedLink("High Risk", "true", published.CAUSE_NOT_TEXT),
        RefusedLink("High Risk", '["Weight: 4"]', published.CAUSE_NOT_TEXT),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": None}, r"'input' is missing; expected a string \(keys found: input, target\)"),
        ({"input": 5}, "'input' must be a string and is 5"),
        ({"target": None}, "'target' is missing; expected a string or a number"),
        ({"target": True}, "'target' must be a string or a number and is true"),
        ({"target": ["a"]}, "'target' must be"),
        ({"important": 5}, "'important' must be a mapping or a list"),
        ({"important": "High Risk"}, "'important' must be"),
        ({"target": "\ud800"}, "surrogate"),
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        published_example({**GAME, **change}, "f.jsonl, line 3", "line-3")
    assert str(caught.value).startswith("f.jsonl, line 3") and "line-3" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "name"),
    [({"id": "a", "idx": 5}, "a"), ({"idx": 5}, "5"), ({"id": None, "idx": "b"}, "b"), ({"ID": "c"}, "line-1")],
)
def test_ids(keys: dict[str, Any], name: str) -> None:
    example = published_example({**GAME, **keys}, "f", "line-1")
    assert example.id == name
    assert example.metadata == {key: value for key, value in keys.items() if key != "id"}


@pytest.mark.parametrize("name", [True, "", [1], {}])
def test_bad_ids(name: Any) -> None:
    with pytest.raises(DataError, match="'id' must be a string"):
        published_example({**GAME, "id": name}, "f", "line-1")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 99)
    | st.floats(-9, 9)
    | st.sampled_from(["", " ", "Weight: 4", "8", "Risk"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Weight", "8", "Risk", ""]), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input": st.just(GAME["input"]) | JSON,
            "target": st.just(GAME["target"]) | JSON,
            "important": JSON,
            "id": JSON,
            "idx": JSON,
            "other": JSON,
        },
    ),
    st.sampled_from(grounding.OCCURRENCES),
)
@settings(max_examples=200, deadline=None)
def test_fuzz(record: dict[str, Any], rule: str) -> None:
    try:
        published_example(record, "f.jsonl, line 3", "line-3", rule)
    except DataError as error:
        assert str(error).startswith("f.jsonl, line 3")


# --- the published files. Counts: links given, grounded, causes grounded, whole links refused, causes refused.

_LATE, _MISSING, _ITSELF = grounding.CAUSE_LATE, grounding.CAUSE_MISSING, grounding.CAUSE_IS_EFFECT
_NO_EFFECT, _NONE_LEFT, _NO_LIST = grounding.EFFECT_MISSING, grounding.NO_CAUSE_LEFT, published.CAUSES_NOT_A_LIST
PUBLISHED: dict[str, tuple[int, int, int, dict[str, int], dict[str, int]]] = {
    "stg_s_train": (400, 400, 1200, {}, {}),
    "stg_m_train": (800, 800, 2400, {}, {}),
    "stg_l_train": (1600, 1600, 4800, {}, {}),
    "stg_iid_test": (0, 0, 0, {}, {}),
    "stg_h_train": (3000, 3000, 18000, {}, {}),
    "stg_h_iid_test": (1000, 1000, 6000, {}, {}),
    "mawps_train": (7585, 7132, 11463, {_NO_EFFECT: 45, _NONE_LEFT: 408}, {_LATE: 939, _MISSING: 80, _ITSELF: 7}),
    "mawps_val": (2529, 2369, 3787, {_NO_EFFECT: 17, _NONE_LEFT: 143}, {_LATE: 306, _MISSING: 23, _ITSELF: 3}),
    "svamp_train": (4005, 3743, 7607, {_NO_EFFECT: 3, _NONE_LEFT: 259}, {_LATE: 480, _MISSING: 43}),
    "svamp_val": (1383, 1287, 2565, {_NO_EFFECT: 2, _NONE_LEFT: 94}, {_LATE: 182, _MISSING: 18}),
    "gsm8k_val": (
        9322,
        8068,
        16031,
        {_NO_EFFECT: 518, _NONE_LEFT: 735, _NO_LIST: 1},
        {_LATE: 1523, _MISSING: 616, _ITSELF: 13},
    ),
}


def links_given(path: Path) -> int:
    return sum(len(item) for _, record in read_jsonl(path) for item in record.get("important", []))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_link_is_grounded_or_refused(published_data: Path, name: str) -> None:
    path = published_data / f"{name}.jsonl"
    examples = load_examples(path)
    given_links, grounded, causes, whole, single = PUBLISHED[name]
    refused = [link for example in examples for link in example.refused]
    counted = (
        links_given(path),
        sum(len(example.links) for example in examples),
        sum(len(link.causes) for example in examples for link in example.links),
        dict(Counter(link.reason for link in refused if link.cause is None)),
        dict(Counter(link.reason for link in refused if link.cause is not None)),
    )
    print(name, json.dumps(counted))
    assert counted == (given_links, grounded, causes, whole, single)
    assert grounded + sum(whole.values()) == given_links


@pytest.mark.parametrize("name", ["stg_h_train", "stg_h_iid_test"])
def test_context_is_exact_on_the_harder_game(published_data: Path, name: str) -> None:
    """There the causes are the values of the first six attributes, and others may repeat a value, or a part of one."""
    for example in load_examples(published_data / f"{name}.jsonl"):
        (link,) = example.links
        assert example.text_of(link.effect) == example.completion
        values = [match.start(1) for match in re.finditer(r": (-?\d)", example.fields["prompt"])]
        assert sorted(cause.start for cause in link.causes) == values[:6]


def test_what_is_there_word_for_word_is_found(published_data: Path) -> None:
    """A phrase that stands in one of the fields, between spaces or at an end, is not refused as missing."""
    for name in PUBLISHED:
        for example in load_examples(published_data / f"{name}.jsonl"):
            padded = [f" {text} " for text in example.fields.values()]
            for link in example.refused:
                phrase = {_NO_EFFECT: link.effect, _MISSING: link.cause}.get(link.reason)
                assert phrase is None or not any(f" {phrase} " in text for text in padded)
