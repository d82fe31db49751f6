"""The self-check passes what is right, on every family, and refuses each way of being wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import model_families
import pytest
import torch
from transformers import PreTrainedModel

from cattune.attention import RowSelection, layer_masks, self_check
from cattune.attention.rows import LayerInput
from cattune.attention.selection import LayerMask
from cattune.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")

MODULE = sys.modules[self_check.__module__]

IDS = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(1))
PADDED = torch.tensor([[1] * 12, [0] * 3 + [1] * 9])
ROWS = torch.tensor([[3, 8, 11], [5, 10, -1]])
KEYS = torch.tensor([[[0, 2], [1, 7], [6, 10]], [[3, -1], [4, 9], [-1, -1]]])


def check(model: PreTrainedModel, masks: dict[int, LayerMask] | None = None) -> dict[int, float]:
    selection = RowSelection.from_batch(ROWS, KEYS, attention_mask=PADDED)
    inputs = {"input_ids": IDS, "attention_mask": PADDED, "use_cache": False}
    return self_check(model, inputs, selection, masks or layer_masks(model))


@pytest.mark.parametrize(("family", "implementation"), model_families.CAPTURED_ON)
def test_every_family_passes(family: str, implementation: str) -> None:
    model = model_families.build(family, implementation)
    differences = check(model)
    assert len(differences) == len(set(layer_masks(model).values()))
    assert max(differences.values()) < 1e-4


def test_one_layer_of_each_mask_group_is_checked() -> None:
    assert list(check(model_families.build("gemma3_text", "sdpa"))) == [0, 1]


def test_training_mode_and_random_state_are_left_as_they_were() -> None:
    model = model_families.build("llama", "sdpa").train()
    before = torch.get_rng_state()
    check(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("window", [None, 4, 6])
def test_a_wrong_window_is_refused(window: int | None) -> None:
    """By one key already. (As no window is given to sdpa, only the mask tells.)"""
    model = model_families.build("qwen2_moe_swa", "sdpa")
    wrong = {layer: LayerMask(window=window) for layer, mask in layer_masks(model).items() if mask.window == 5}
    with pytest.raises(ConfigError, match=r"self-check: in layer 0 \(.*values differ by"):
        check(model, wrong)


def test_a_wrong_chunk_is_refused() -> None:
    model = model_families.build("llama4_text", "sdpa")
    with pytest.raises(ConfigError, match=r"self-check: in layer 0 \(chunks of 5\)"):
        check(model, {0: LayerMask(chunk=5)})


def changed(**change: Any) -> Callable[..., LayerInput]:
    original = MODULE.read_layer
    return lambda call: original(call)._replace(**change)


@pytest.mark.parametrize(
    ("family", "change"),
    [("llama", {"scaling": 0.3}), ("gemma2", {"softcap": None}), ("gpt_oss", {"sinks": None})],
)
def test_what_the_architecture_adds_is_refused_when_it_is_left_out(
    family: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "read_layer", changed(**change))
    with pytest.raises(ConfigError, match="self-check: in layer 0"):
        check(model_families.build(family, "eager"))


def test_a_gradient_that_is_wrong_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = MODULE.row_probabilities

    def no_gradient(*args: Any) -> Any:
        layer, selection = args
        return original(layer._replace(key=layer.key.detach() + 0 * layer.key), selection)

    monkeypatch.setattr(MODULE, "row_probabilities", no_gradient)
    with pytest.raises(ConfigError, match="gradient of keys differ"):
        check(model_families.build("llama", "sdpa"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_called_that(value: float) -> None:
    model = model_families.build("llama", "sdpa")
    model.model.layers[0].self_attn.q_proj.weight.data[0, 0] = value
    with pytest.raises(ConfigError, match="layer 0 the model's own attention is not finite .*weights hold NaN"):
        check(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_within_its_rounding(dtype: torch.dtype) -> None:
    model = model_families.build("llama", "sdpa").to(dtype)
    assert 1e-6 < check(model)[0] < 4e-2


def test_a_backend_that_has_no_backward_is_refused() -> None:
    model = model_families.build("llama", "sdpa")

    def forward_only(*args: Any, **options: Any) -> Any:
        raise NotImplementedError("torch.compile on CPU only supports inference")

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS["sdpa"] = forward_only
    try:
        with pytest.raises(ConfigError, match="cannot be trained here: torch.compile on CPU"):
            check(model)
    finally:
        del ALL_ATTENTION_FUNCTIONS["sdpa"]
