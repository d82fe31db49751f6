from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_families import family

from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import ConfigError
from cattune.supervision.collator import CausalCollator
from cattune.supervision.rows import encode_examples

PAD = 99


@st.composite
def features(draw: st.DrawFn, content: bool) -> dict[str, Any]:
    """One feature as `encode_examples` makes them."""
    length = draw(st.integers(3, 12))
    ids = draw(st.lists(st.integers(0, 50), min_size=length, max_size=length))
    boundary = draw(st.integers(1, length - 1))
    rows = sorted(draw(st.sets(st.integers(1, length - 2), max_size=4)))
    keys = [sorted(draw(st.sets(st.integers(0, row), min_size=1, max_size=row))) for row in rows]
    weight = st.floats(0.125, 4, width=32)
    feature = {
        "input_ids": ids,
        "labels": [-100] * boundary + ids[boundary:],
        "query_rows": rows,
        "causal_keys": keys,
        "causal_weights": [[draw(weight) for _ in row_keys] for row_keys in keys],
    }
    if content:
        feature["content"] = draw(st.lists(st.integers(0, 1), min_size=length, max_size=length))
    return feature


def batches() -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.booleans().flatmap(lambda content: st.lists(features(content), min_size=1, max_size=4))


def unpad(batch: dict[str, torch.Tensor], index: int) -> dict[str, Any]:
    """One example's feature, read back out of a batch by the masks and the -1 alone."""
    real = batch["attention_mask"][index].bool()
    shift = int(real.int().argmax())
    feature: dict[str, Any] = {
        name: batch[name][index][real].int().tolist() for name in ("input_ids", "labels", "content") if name in batch
    }
    rows = batch["query_rows"][index] >= 0
    feature["query_rows"] = (batch["query_rows"][index][rows] - shift).tolist()
    keys, weights = batch["causal_keys"][index][rows], batch["causal_weights"][index][rows]
    feature["causal_keys"] = [(row[row >= 0] - shift).tolist() for row in keys]
    feature["causal_weights"] = [w[row >= 0].tolist() for w, row in zip(weights, keys, strict=True)]
    return feature


@settings(deadline=None)
@given(batches(), st.sampled_from(["left", "right"]), st.sampled_from([None, 1, 8]))
def test_what_goes_in_can_be_read_back_out(batch: list[dict[str, Any]], side: Any, multiple: int | None):
    tensors = CausalCollator(PAD, side, multiple)(batch)
    size = tensors["input_ids"].shape[1]
    longest = max(len(feature["input_ids"]) for feature in batch)
    assert longest <= size < longest + (multiple or 1) and size % (multiple or 1) == 0
    for index, feature in enumerate(batch):
        assert unpad(tensors, index) == feature
    hidden = tensors["attention_mask"] == 0
    assert (tensors["input_ids"][hidden] == PAD).all() and (tensors["labels"][hidden] == -100).all()
    assert (tensors["causal_weights"][tensors["causal_keys"] < 0] == 0).all()
    assert (tensors["causal_keys"][tensors["query_rows"] < 0] == -1).all()
    assert ("content" in tensors) == ("content" in batch[0])
    if "content" in tensors:
        assert not tensors["content"][hidden].any()


@settings(deadline=None)
@given(batches())
def test_left_padding_is_right_padding_moved(batch: list[dict[str, Any]]):
    left, right = CausalCollator(PAD, "left")(batch), CausalCollator(PAD, "right")(batch)
    shifts = (right["attention_mask"] == 0).sum(1)  # (B,)
    for name in ("input_ids", "labels", "attention_mask"):
        for index, shift in enumerate(shifts.tolist()):
            assert torch.equal(left[name][index], right[name][index].roll(shift))
    for name in ("query_rows", "causal_keys"):
        moved = right[name] + shifts.view(-1, *[1] * (right[name].dim() - 1))
        assert torch.equal(left[name], torch.where(right[name] >= 0, moved, -1))
    assert torch.equal(left["causal_weights"], right["causal_weights"])


def test_shapes_types_and_padding():
    first = {"input_ids": [1, 2, 3], "labels": [-100, -100, 3], "query_rows": [1], "causal_keys": [[0]],
             "causal_weights": [[2.0]], "content": [1, 0, 0]}  # fmt: skip
    second = {"input_ids": [4, 5], "labels": [-100, 5], "query_rows": [], "causal_keys": [], "causal_weights": [],
              "content": [0, 1]}  # fmt: skip
    batch = CausalCollator(PAD, "left")([first, second])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [PAD, 4, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 1, 1]]
    assert batch["labels"].tolist() == [[-100, -100, 3], [-100, -100, 5]]
    assert batch["query_rows"].tolist() == [[1], [-1]]
    assert batch["causal_keys"].tolist() == [[[0]], [[-1]]]
    assert batch["causal_weights"].tolist() == [[[2.0]], [[0.0]]]
    assert batch["content"].tolist() == [[True, False, False], [False, False, True]]
    types = {name: tensor.dtype for name, tensor in batch.items()}
    assert types["causal_weights"] is torch.float32 and types.pop("content") is torch.bool
    assert {types[name] for name in types if name != "causal_weights"} == {torch.int64}


def test_a_batch_without_any_row_still_has_one_padded_row_and_key():
    one = {"input_ids": [1, 2], "labels": [-100, 2], "query_rows": [], "causal_keys": [], "causal_weights": []}
    batch = CausalCollator(PAD)([one, one])
    assert batch["query_rows"].shape == (2, 1) and batch["causal_keys"].shape == (2, 1, 1)
    assert (batch["query_rows"] == -1).all() and (batch["causal_keys"] == -1).all()
    assert "content" not in batch


def test_rows_predict_the_same_tokens_after_padding_as_before():
    tokenizer = family("word-level")
    prompts = ["Weight: 10, Smoking: 8. ", "high risk low risk Weight: 10, Smoking: 8. "]
    batch = [
        Example(f"e{n}", prompt, "Answer: High Risk", links=(
            CausalLink(Span("completion", 8, 17), (Span("prompt", prompt.index("10"), prompt.index("10") + 2),)),
        ))
        for n, prompt in enumerate(prompts)
    ]  # fmt: skip
    encoded, _ = encode_examples(batch, tokenizer)
    tensors = CausalCollator(tokenizer.pad_token_id, "left")(encoded)
    ten = tokenizer.convert_tokens_to_ids("10")
    for index in range(2):
        rows, keys = tensors["query_rows"][index], tensors["causal_keys"][index, :, 0]
        assert (tensors["input_ids"][index, keys] == ten).all()
        assert tokenizer.convert_ids_to_tokens(tensors["labels"][index, rows + 1]) == ["▁High", "▁Risk"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((None,), "pad_token_id is None; expected a token id; set tokenizer.pad_token"),
        ((-1,), "pad_token_id is -1"),
        ((0, "middle"), "padding_side is 'middle'; expected 'right' or 'left'"),
        ((0, "left", 0), "pad_to_multiple_of is 0; expected 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: tuple[Any, ...], words: str):
    with pytest.raises(ConfigError, match=words):
        CausalCollator(*settings)


def test_padding_free_joins_the_examples() -> None:
    features = [
        {
            "input_ids": [5, 6, 7],
            "labels": [-100, 6, 7],
            "query_rows": [1],
            "causal_keys": [[0, 1]],
            "causal_weights": [[1.0, 2.0]],
            "content": [1, 0, 0],
        },
        {
            "input_ids": [8, 9],
            "labels": [8, 9],
            "query_rows": [],
            "causal_keys": [],
            "causal_weights": [],
            "content": [0, 1],
        },
        {
            "input_ids": [3, 4],
            "labels": [-100, 4],
            "query_rows": [1],
            "causal_keys": [[0]],
            "causal_weights": [[1.0]],
            "content": [1, 1],
        },
    ]
    batch = CausalCollator(0, padding_free=True)(features)
    assert "attention_mask" not in batch
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 3, 4]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]
    assert batch["labels"].tolist() == [[-100, 6, 7, -100, 9, -100, 4]]  # no label is predicted across examples
    assert batch["query_rows"].tolist() == [[1, 6]]
    assert batch["causal_keys"].tolist() == [[[0, 1], [5, -1]]]
    assert batch["causal_weights"].tolist() == [[[1.0, 2.0], [1.0, 0.0]]]
    assert batch["content"].tolist() == [[True, False, False, False, True, True, True]]


def test_padding_free_has_nothing_to_round_up() -> None:
    with pytest.raises(ConfigError, match="padding_free"):
        CausalCollator(0, pad_to_multiple_of=8, padding_free=True)
