"""Captured rows against the maps of the eager model, and the forward pass left untouched."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from cattune.attention import RowCapture, RowSelection, check_backend, inspect_rows, layer_masks
from cattune.attention.rows import row_mass
from cattune.attention.selection import LAST_TOKENS, LayerMask
from cattune.errors import ConfigError

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, vocab_size=60)
CONFIGS = {
    "llama": LlamaConfig(**SMALL, num_key_value_heads=2),
    "gemma": GemmaConfig(**SMALL, num_key_value_heads=1, head_dim=16),
    "mistral": MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4),
}
ROWS = torch.tensor([[0, 4, 10], [7, 10, -1]])
KEYS = torch.tensor([[[-1, -1], [1, 3], [0, -1]], [[4, 5], [9, -1], [-1, -1]]])
MASKS = {
    "none": torch.ones(2, 11, dtype=torch.long),
    "right": torch.tensor([[1] * 11, [1] * 11]),
    "left": torch.tensor([[1] * 11, [0] * 3 + [1] * 8]),
}


def model_of(config: PretrainedConfig, implementation: str) -> PreTrainedModel:
    torch.manual_seed(0)
    # The configuration remembers the implementation, so each model needs its own.
    return AutoModelForCausalLM.from_config(deepcopy(config), attn_implementation=implementation)


def input_ids() -> Tensor:
    return torch.randint(0, 60, (2, 11), generator=torch.Generator().manual_seed(1))


def eager_rows(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """(L, B, H, R, S) from the full maps."""
    maps = torch.stack(model(ids, attention_mask=mask, output_attentions=True, use_cache=False).attentions)
    picked = torch.stack([maps[:, b][:, :, ROWS[b].clamp_min(0)] for b in range(2)], 1)
    return picked * (ROWS >= 0)[None, :, None, :, None]


@pytest.mark.parametrize("padding", MASKS)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", CONFIGS)
def test_rows_are_the_eager_model_s(family: str, implementation: str, padding: str) -> None:
    ids, mask = input_ids(), MASKS[padding]
    expected = eager_rows(model_of(CONFIGS[family], "eager").eval(), ids, mask)
    rows = inspect_rows(model_of(CONFIGS[family], implementation).eval(), ids, ROWS, mask)
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-6)


def capture_of(model: PreTrainedModel, mask: Tensor, **options: bool) -> RowCapture:
    selection = RowSelection.from_batch(ROWS, KEYS, attention_mask=mask)
    return RowCapture(selection, layer_masks(model), **({"grad": True, "at_once": False} | options))


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_forward_pass_is_untouched_bit_for_bit(implementation: str) -> None:
    model = model_of(CONFIGS["llama"], implementation).eval()
    ids, mask = input_ids(), MASKS["left"]
    plain = model(ids, attention_mask=mask).logits
    capture = capture_of(model, mask)
    with capture.observe(model):
        captured = model(ids, attention_mask=mask, use_cache=False).logits
    assert torch.equal(plain, captured)
    assert torch.equal(model(ids, attention_mask=mask).logits, plain)
    assert model.config._attn_implementation == implementation


@pytest.mark.parametrize("config", CONFIGS)
def test_captured_at_once_or_at_the_end(config: str) -> None:
    """When the layers are computed changes neither values nor gradients."""
    results = []
    for at_once in (True, False):
        model = model_of(CONFIGS[config], "sdpa")
        capture = capture_of(model, MASKS["left"], at_once=at_once)
        with capture.observe(model):
            model(input_ids(), attention_mask=MASKS["left"], use_cache=False)
            (group,) = capture.groups()
            (group.mass.causal.square().sum() + group.mass.rest.square().sum()).backward()
        results.append([*group.mass, *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_packed_rows_are_those_of_the_padded_batch() -> None:
    for config in (*CONFIGS.values(), MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=None)):
        model = model_of(config, "sdpa").eval()
        padded = inspect_rows(model, input_ids(), ROWS, MASKS["left"])
        ids = input_ids()
        packed_ids = torch.cat([ids[0], ids[1, 3:]]).unsqueeze(0)
        positions = torch.cat([torch.arange(11), torch.arange(8)]).unsqueeze(0)
        packed = inspect_rows(model, packed_ids, torch.tensor([[0, 4, 10, 15, 18]]), position_ids=positions)
        torch.testing.assert_close(packed[:, 0, :, :3, :11], padded[:, 0], rtol=0, atol=1e-6)
        torch.testing.assert_close(packed[:, 0, :, 3:, 11:], padded[:, 1, :, :2, 3:], rtol=0, atol=1e-6)
        assert packed[:, 0, :, 3:, :11].abs().max() == 0


def test_dropout_is_not_in_the_rows() -> None:
    config = LlamaConfig(**SMALL, attention_dropout=0.5)
    rows = inspect_rows(model_of(config, "eager").train(), input_ids(), ROWS)
    sums = rows.sum(-1)
    torch.testing.assert_close(sums, (ROWS >= 0)[None, :, None, :].expand_as(sums).to(sums.dtype))


@pytest.mark.parametrize("rest_of_model", [torch.bfloat16, torch.float16])
def test_low_precision_models_give_float32_rows(rest_of_model: torch.dtype) -> None:
    model = model_of(CONFIGS["llama"], "sdpa").to(rest_of_model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = inspect_rows(model, input_ids(), ROWS)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.sum(-1)[:, 0], torch.ones(3, 4, 3), rtol=0, atol=1e-5)


def test_masses_against_plain_loops() -> None:
    generator = torch.Generator().manual_seed(3)
    content = torch.rand(2, 11, generator=generator) < 0.5
    everything = RowSelection.from_batch(ROWS, KEYS, attention_mask=MASKS["left"], content=content)
    for mask, sees in (
        (LayerMask(), lambda row, j, start: j >= start),
        (LayerMask(window=6), lambda row, j, start: j >= start and j > row - 6),
        (LayerMask(chunk=4), lambda row, j, start: j >= start and (j - start) // 4 == (row - start) // 4),
    ):
        selection = everything.within(mask)
        probabilities = torch.rand(2, 4, 3, 11, generator=generator) * selection.visible()[:, None]
        mass = row_mass(probabilities, selection)
        for b, start in enumerate((0, 3)):
            for r, row in enumerate(ROWS[b].tolist()):
                seen = [j for j in range(row + 1) if sees(row, j, start)]
                causal = [key for key in KEYS[b, r].tolist() if key in seen]
                others = [j for j in seen if j not in causal]
                competing = [j for j in others if content[b, j] and j <= row - LAST_TOKENS]
                assert selection.num_visible[b, r] == len(seen)
                assert selection.num_causal[b, r] == len(causal)
                assert selection.counted[b, r] == (0 < len(causal) < len(seen))
                for h in range(4):
                    p = probabilities[b, h, r].tolist()
                    assert mass.causal[0, b, h, r].sum().item() == pytest.approx(sum(p[j] for j in causal))
                    assert mass.rest[0, b, h, r].item() == pytest.approx(sum(p[j] for j in others))
                    assert mass.competing[0, b, h, r].item() == pytest.approx(sum(p[j] for j in competing))


def test_layers_are_resolved_and_checked() -> None:
    model = model_of(CONFIGS["llama"], "sdpa")
    assert list(layer_masks(model)) == [0, 1, 2]
    assert list(layer_masks(model, [-1, 0])) == [0, 2]
    for unknown in (3, -4):
        with pytest.raises(ConfigError, match="layers 0 to 2"):
            layer_masks(model, [unknown])


def test_a_backend_that_cannot_be_captured_is_refused_by_name() -> None:
    model = model_of(CONFIGS["llama"], "sdpa")
    for name in ("xformers", "paged|sdpa"):
        model.config._attn_implementation = name
        with pytest.raises(ConfigError, match=rf"{name.replace('|', '.')}.*eager.*flash_attention_2.*flex.*sdpa"):
            check_backend(model)


def test_a_backend_that_somebody_else_registered_is_captured() -> None:
    """Hub kernels come under names of their own, after the import."""
    calls = []

    def kernel(*args: object, **options: object) -> object:
        calls.append(options)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](*args, **options)

    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register("somebody/kernel", kernel)
    AttentionMaskInterface.register("somebody/kernel", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    try:
        model = model_of(CONFIGS["llama"], "sdpa").eval()
        expected = inspect_rows(model, input_ids(), ROWS, MASKS["left"])
        model.config._attn_implementation = "somebody/kernel"
        assert check_backend(model) == "somebody/kernel"
        rows = inspect_rows(model, input_ids(), ROWS, MASKS["left"])
        assert len(calls) == 3
        assert torch.equal(rows, expected)
    finally:
        del ALL_ATTENTION_FUNCTIONS._global_mapping["somebody/kernel"]
        del ALL_MASK_ATTENTION_FUNCTIONS._global_mapping["somebody/kernel"]


def test_a_window_that_the_configuration_does_not_know_is_refused() -> None:
    model = model_of(MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4), "sdpa")
    masks = layer_masks(model)
    model.config.sliding_window = 5
    selection = RowSelection.from_batch(ROWS, KEYS, attention_mask=MASKS["none"])
    capture = RowCapture(selection, masks, grad=False, at_once=True)
    with capture.observe(model):
        model(input_ids(), use_cache=False)
    with pytest.raises(ConfigError, match="a sliding window of 5, where its configuration says a sliding window of 4"):
        list(capture.groups())


def test_padding_inside_a_sequence_is_refused() -> None:
    mask = MASKS["none"].clone()
    mask[0, 4] = 0
    with pytest.raises(ConfigError, match="sequence 0.*inside"):
        inspect_rows(model_of(CONFIGS["llama"], "sdpa"), input_ids(), ROWS, mask)


def test_a_cache_is_refused() -> None:
    model = model_of(CONFIGS["llama"], "sdpa")
    cache = model(input_ids(), use_cache=True).past_key_values
    capture = capture_of(model, MASKS["none"])
    with capture.observe(model):
        model(input_ids()[:, -1:], past_key_values=cache)
    with pytest.raises(ConfigError, match=r"1 queries and 12 keys for 11 positions \(a cache"):
        list(capture.groups())


def test_reentrant_checkpointing_is_refused_where_it_happens() -> None:
    """It would give captured attention no gradient, without a word."""
    model = model_of(CONFIGS["llama"], "sdpa").train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    capture = capture_of(model, MASKS["none"])
    with capture.observe(model):
        model(input_ids(), use_cache=False)
    with pytest.raises(ConfigError, match="reentrant gradient checkpointing"):
        list(capture.groups())


def test_bidirectional_attention_is_refused() -> None:
    config = deepcopy(CONFIGS["llama"])
    model = model_of(config, "sdpa")
    for module in model.modules():
        if hasattr(module, "is_causal"):
            module.is_causal = False
    with pytest.raises(ConfigError, match="not causal"):
        inspect_rows(model, input_ids(), ROWS)


@pytest.mark.slow
def test_flex_attention_forward() -> None:
    """Forward alone: on a CPU flex attention has no backward. It compiles for half a minute."""
    expected = inspect_rows(model_of(CONFIGS["mistral"], "sdpa").eval(), input_ids(), ROWS, MASKS["left"])
    rows = inspect_rows(model_of(CONFIGS["mistral"], "flex_attention").eval(), input_ids(), ROWS, MASKS["left"])
    torch.testing.assert_close(rows, expected, rtol=0, atol=1e-5)
