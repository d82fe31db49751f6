"""What a CPU cannot show: half-precision products on CUDA, flash and flex kernels. Run with `pytest -m gpu`."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from cattune.attention import RowSelection, layer_masks, self_check, tiles, tiling
from cattune.attention.rows import LayerInput, row_mass, row_probabilities
from cattune.training.penalties.re_attention import ReAttention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SMALL = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2)
BACKENDS = [
    "eager",
    "sdpa",
    "flex_attention",
    pytest.param(
        "flash_attention_2",
        marks=pytest.mark.skipif(importlib.util.find_spec("flash_attn") is None, reason="flash-attn is not installed"),
    ),
]


def selection(length: int = 192, rows: int = 40) -> RowSelection:
    generator = torch.Generator().manual_seed(0)
    query_rows = torch.arange(length - rows, length).expand(2, rows)
    keys = torch.randint(0, length // 2, (2, rows, 3), generator=generator)
    keys, _ = keys.sort(-1)
    keys[..., 1:] = torch.where(keys[..., 1:] == keys[..., :-1], -1, keys[..., 1:])
    mask = torch.ones(2, length, dtype=torch.long)
    mask[1, :20] = 0
    return RowSelection.from_batch(query_rows, keys, attention_mask=mask).to(torch.device("cuda"))


def layer(dtype: torch.dtype, length: int = 192) -> LayerInput:
    torch.manual_seed(0)
    query = torch.randn(2, length, 4, 64, device="cuda", dtype=dtype).transpose(1, 2).requires_grad_()
    key = torch.randn(2, length, 2, 64, device="cuda", dtype=dtype).transpose(1, 2).requires_grad_()
    return LayerInput(query, key, 0.125)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)]
)
@pytest.mark.parametrize("tile", [2**10, 2**27])
def test_tiles_on_cuda(dtype: torch.dtype, tolerance: float, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are exact to float32, whatever the inputs: only gradients are rounded to the inputs' precision."""
    monkeypatch.setattr(tiling, "DEVICE_TILE", tile)
    chosen, fast = selection(), layer(dtype)
    slow = LayerInput(*(x.detach().double().requires_grad_() for x in fast[:2]), fast.scaling)
    ours = tiles.attend_rows([fast], chosen, average_heads=True)
    exact = row_mass(row_probabilities(slow, chosen), chosen).causal.mean(2, keepdim=True)
    torch.testing.assert_close(ours.causal.double(), exact, rtol=1e-4, atol=1e-6)
    ours.causal.clamp_min(1e-20).log().sum().backward()
    exact.clamp_min(1e-20).log().sum().backward()
    for one, other in zip(fast[:2], slow[:2], strict=True):
        scale = other.grad.abs().max()
        torch.testing.assert_close(one.grad.double() / scale, other.grad / scale, rtol=0, atol=tolerance)


def models(implementation: str) -> list[PreTrainedModel]:
    torch.manual_seed(0)
    configs = [
        LlamaConfig(**SMALL, vocab_size=100, attn_implementation=implementation),
        MistralConfig(**SMALL, vocab_size=100, sliding_window=64, attn_implementation=implementation),
    ]
    classes = (LlamaForCausalLM, MistralForCausalLM)
    return [c(config).to("cuda", torch.bfloat16) for c, config in zip(classes, configs, strict=True)]


@pytest.mark.parametrize("implementation", BACKENDS)
def test_backends_agree_and_train(implementation: str) -> None:
    chosen = selection()
    ids = torch.randint(100, (2, 192), device="cuda")
    mask = torch.ones_like(ids)
    mask[1, :20] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    for model in models(implementation):
        assert max(self_check(model, inputs, chosen, layer_masks(model)).values()) < 4e-2
        re_attention = ReAttention(model, "mass")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        masses = []
        for _ in range(8):
            capture = re_attention.start(chosen, grad=True)
            with capture.observe(model):
                model(**inputs)
                sums = re_attention.sums(capture, torch.ones(chosen.causal_keys.shape, device="cuda"))
                (sums.loss / sums.rows).backward()
            optimizer.step()
            optimizer.zero_grad()
            masses.append((sums.mass / sums.rows).item())
        assert masses[-1] > 1.2 * masses[0]


def test_memory_does_not_grow_with_rows_times_keys() -> None:
    """Half of 8192 rows: their probabilities alone would be 2 x 4 x 4096 x 8192 x 4 bytes, 1 GiB, a layer."""
    chosen, inputs = selection(8192, 4096), [layer(torch.bfloat16, 8192) for _ in range(4)]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    tiles.attend_rows(inputs, chosen, average_heads=True).causal.sum().backward()
    assert torch.cuda.max_memory_allocated() - before < 3 * 4 * tiling.DEVICE_TILE + 2**28
