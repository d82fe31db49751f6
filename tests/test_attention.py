"""Captured rows against the maps of the eager model, values and gradients, and the forward pass left untouched."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
)

from cattune.attention import RowCapture, RowSelection, capturing, check_capturable, inspect_rows, visible_keys
from cattune.attention.rows import LAST_TOKENS, summarize
from cattune.errors import ConfigError

SMALL = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, vocab_size=60)
CONFIGS = {
    "llama": LlamaConfig(**SMALL, num_key_value_heads=2),
    "gemma": GemmaConfig(**SMALL, num_key_value_heads=1, head_dim=16),
    "qwen3": Qwen3Config(**SMALL, num_key_value_heads=2, head_dim=16),
    "mistral": MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=None),
    "gpt2": GPT2Config(n_embd=32, n_layer=3, n_head=4, vocab_size=60, attn_pdrop=0.0),
}
ROWS = torch.tensor([[0, 4, 10], [7, 10, -1]])
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


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_gradients_are_the_eager_model_s(implementation: str) -> None:
    ids, mask = input_ids(), MASKS["left"]
    wanted = torch.rand(3, 2, 4, 3, 11, generator=torch.Generator().manual_seed(2))
    reference, model = model_of(CONFIGS["llama"], "eager"), model_of(CONFIGS["llama"], implementation)
    (eager_rows(reference, ids, mask) * wanted).sum().backward()
    capture = RowCapture(ROWS, visible_keys(ROWS, mask), lambda rows: rows, range(3), True)
    with capturing(model, capture):
        model(ids, attention_mask=mask, use_cache=False)
        (torch.stack(capture.in_order()) * wanted).sum().backward()
    for (name, parameter), other in zip(model.named_parameters(), reference.parameters(), strict=True):
        if other.grad is None or parameter.grad is None:
            assert other.grad is parameter.grad, name
        else:
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_the_forward_pass_is_untouched_bit_for_bit(implementation: str) -> None:
    model = model_of(CONFIGS["llama"], implementation).eval()
    ids, mask = input_ids(), MASKS["left"]
    plain = model(ids, attention_mask=mask).logits
    capture = RowCapture(ROWS, visible_keys(ROWS, mask), lambda rows: rows, range(3), True)
    with capturing(model, capture):
        captured = model(ids, attention_mask=mask, use_cache=False).logits
    assert torch.equal(plain, captured)
    assert torch.equal(model(ids, attention_mask=mask).logits, plain)
    assert model.config._attn_implementation == implementation


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


def test_summary_of_rows_against_plain_loops() -> None:
    generator = torch.Generator().manual_seed(3)
    keys = torch.tensor([[[-1, -1], [1, 3], [0, -1]], [[4, 5], [9, -1], [-1, -1]]])
    content = torch.rand(2, 11, generator=generator) < 0.5
    selection = RowSelection.from_batch(ROWS, keys, MASKS["left"], content)
    probabilities = torch.rand(2, 4, 3, 11, generator=generator) * selection.visible[:, None]
    summary = summarize(probabilities, selection)
    for b in range(2):
        for r, row in enumerate(ROWS[b].tolist()):
            causal = [key for key in keys[b, r].tolist() if key >= 0]
            seen = [j for j in range(row + 1) if MASKS["left"][b, j]]
            others = [j for j in seen if j not in causal]
            competing = [j for j in others if content[b, j] and j <= row - LAST_TOKENS]
            for h in range(4):
                p = probabilities[b, h, r].tolist()
                assert summary.causal[b, h, r].tolist()[: len(causal)] == pytest.approx([p[j] for j in causal])
                assert summary.rest[b, h, r].item() == pytest.approx(sum(p[j] for j in others))
                assert summary.competing[b, h, r].item() == pytest.approx(sum(p[j] for j in competing))


def test_layers_are_resolved_and_checked() -> None:
    model = model_of(CONFIGS["llama"], "sdpa")
    assert check_capturable(model, None) == (0, 1, 2)
    assert check_capturable(model, [-1, 0]) == (0, 2)
    with pytest.raises(ConfigError, match="layers 0 to 2"):
        check_capturable(model, [3])
    with pytest.raises(ConfigError, match="layers 0 to 2"):
        check_capturable(model, [-4])


def test_a_backend_that_cannot_be_captured_is_refused_by_name() -> None:
    model = model_of(CONFIGS["llama"], "sdpa")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ConfigError, match=r"flex_attention.*sdpa, eager"):
        check_capturable(model, None)


def test_a_window_shorter_than_the_sequence_is_refused() -> None:
    config = MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=4)
    with pytest.raises(ConfigError, match=r"sliding window of 4.*11 tokens"):
        inspect_rows(model_of(config, "sdpa"), input_ids(), ROWS)


def test_a_cache_is_refused() -> None:
    model = model_of(CONFIGS["llama"], "sdpa")
    cache = model(input_ids(), use_cache=True).past_key_values
    capture = RowCapture(ROWS, visible_keys(ROWS, MASKS["none"]), lambda rows: rows, [0], True)
    with capturing(model, capture):
        model(input_ids()[:, -1:], past_key_values=cache)
    with pytest.raises(ConfigError, match="a cache in use"):
        capture.in_order()
