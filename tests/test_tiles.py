"""The tiled computation against the slow one, over drawn shapes, masks, tile sizes and gradients, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cattune.attention import tiles, tiling
from cattune.attention.rows import LayerInput, RowMass, row_mass, row_probabilities
from cattune.attention.selection import LayerMask, RowSelection


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[LayerInput], RowSelection, bool, int]:
    """Layers, rows, whether heads are averaged, and how many logits a tile may hold."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    count, batch, groups, shared, size = (draw(st.integers(1, top)) for top in (3, 3, 2, 3, 5))
    length, rows, num_keys = draw(st.integers(1, 12)), draw(st.integers(1, 7)), draw(st.integers(1, 4))
    padding = draw(st.integers(0, length - 1))
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[0, :padding] = 0
    query_rows = torch.full((batch, rows), -1)
    for b in range(batch):
        real = torch.arange(padding if b == 0 else 0, length)
        chosen = real[torch.randperm(len(real), generator=generator)[: draw(st.integers(0, rows))]].sort().values
        query_rows[b, : len(chosen)] = chosen
    keys = torch.stack(
        [torch.randperm(max(length, num_keys), generator=generator)[:num_keys] for _ in range(batch * rows)]
    )
    keys = torch.where(keys < length, keys, -1).view(batch, rows, num_keys)
    content = torch.rand(batch, length, generator=generator) < 0.5 if draw(st.booleans()) else None
    selection = RowSelection.from_batch(query_rows, keys, attention_mask=mask, content=content)
    view = draw(st.sampled_from([LayerMask(), LayerMask(window=3), LayerMask(chunk=4)]))
    softcap, sinks = draw(st.sampled_from([None, 1.5])), draw(st.booleans())

    def random(*shape: int) -> Tensor:
        # As a model lays it out: heads beside each other for each position.
        return torch.randn(shape[0], shape[2], shape[1], shape[3], generator=generator, dtype=torch.float64).transpose(
            1, 2
        )

    heads = groups * shared
    layers = [
        LayerInput(
            random(batch, heads, length, size).requires_grad_(),
            random(batch, groups, length, size).requires_grad_(),
            0.6,
            softcap,
            torch.randn(heads, generator=generator, dtype=torch.float64).requires_grad_() if sinks else None,
        )
        for _ in range(count)
    ]
    return layers, selection.within(view), draw(st.booleans()), draw(st.sampled_from([1, 100, 10**6]))


def slow(layers: list[LayerInput], selection: RowSelection, average: bool) -> RowMass:
    masses = [row_mass(row_probabilities(layer, selection), selection) for layer in layers]
    joined = (torch.cat(parts) for parts in zip(*masses, strict=True))
    return RowMass(*(part.mean(2, keepdim=True) if average else part for part in joined))


@given(problems())
@settings(max_examples=150)
def test_values_and_gradients_are_the_slow_way_s(problem: Any) -> None:
    layers, selection, average, tile = problem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "CPU_TILE", tile)
        patch.setattr(tiling, "MIN_ROWS", 2)
        masses = slow(layers, selection, average), tiles.attend_rows(layers, selection, average)
        leaves = [tensor for layer in layers for tensor in layer if isinstance(tensor, Tensor)]
        found = []
        for mass in masses:
            weights = torch.Generator().manual_seed(0)
            total = sum((part * torch.rand(part.shape, generator=weights, dtype=part.dtype)).sum() for part in mass)
            found.append(torch.autograd.grad(total, leaves))
    for one, other in zip(*masses, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-12)


def layer_and_rows(dtype: torch.dtype, rows: int = 4, scale: float = 1.0) -> tuple[LayerInput, RowSelection]:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, heads, 16, 8, generator=generator) * scale for heads in (4, 2))
    query_rows = torch.arange(16 - rows, 16).unsqueeze(0)
    keys = torch.tensor([0, 3, -1]).expand(1, rows, 3)
    selection = RowSelection.from_batch(query_rows, keys, attention_mask=torch.ones(1, 16))
    return LayerInput(query.to(dtype).requires_grad_(), key.to(dtype).requires_grad_(), 0.35), selection


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_multiplied_in_float32(dtype: torch.dtype) -> None:
    layer, selection = layer_and_rows(dtype)
    exact = layer._replace(query=layer.query.double(), key=layer.key.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mass = tiles.attend_rows([layer], selection, average_heads=False)
    assert mass.causal.dtype == torch.float32
    torch.testing.assert_close(mass.causal.double(), slow([exact], selection, False).causal, rtol=0, atol=1e-6)
    mass.causal.sum().backward()
    assert layer.query.grad.dtype == dtype


def test_attention_outside_the_causes_is_summed_and_not_a_difference() -> None:
    """1 - m is rounding noise where nearly all attention is on the causes."""
    layer, selection = layer_and_rows(torch.float32, rows=1)
    query, key = layer.query.detach().clone(), layer.key.detach().clone()
    query[..., 15, :] = 12.0
    key[...] = 0.0
    key[..., 3, :] = 1.0
    mass = tiles.attend_rows([LayerInput(query, key, 0.35)], selection, average_heads=True)
    exact = slow([LayerInput(query.double(), key.double(), 0.35)], selection, True)
    assert 0 < exact.rest.item() < 1e-12
    assert mass.rest.item() == pytest.approx(exact.rest.item(), rel=1e-4)


def test_what_is_kept_does_not_grow_with_rows_times_keys() -> None:
    layer, selection = layer_and_rows(torch.float32, rows=15)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        tiles.attend_rows([layer], selection, average_heads=True)
    rows, heads = 15, 4
    assert sum(kept) == layer.query.numel() + layer.key.numel() + 3 * rows * heads


def test_only_the_gradients_that_are_wanted() -> None:
    layer, selection = layer_and_rows(torch.float32)
    frozen = layer._replace(key=layer.key.detach())
    tiles.attend_rows([frozen], selection, average_heads=True).causal.sum().backward()
    assert layer.query.grad.abs().sum() > 0
