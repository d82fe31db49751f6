"""Every decoder family against the maps of its eager model, values and gradients; and what is refused, and why."""

from __future__ import annotations

import model_families
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cattune.attention import RowCapture, RowMass, RowSelection, inspect_rows, layer_masks
from cattune.attention.rows import row_mass
from cattune.errors import ConfigError
from cattune.training.penalties.re_attention import ReAttention

pytestmark = pytest.mark.filterwarnings("ignore")

IDS = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(1))
PADDED = torch.tensor([[1] * 12, [0] * 3 + [1] * 9])
ROWS = torch.tensor([[3, 8, 11], [5, 10, -1]])
KEYS = torch.tensor([[[0, 2], [1, 7], [6, 10]], [[3, -1], [4, 9], [-1, -1]]])
OWN_SINKS = {"granite_swa"}
"""Families whose maps leave out the sinks that they apply to the attention's output: ours have them in."""
RECURRENT = {"recurrent_gemma"}
"""Families whose recurrence reads padding, so that backends differ, and amplifies rounding: weights 1e-7 larger move
the gradients of the eager maps themselves by 5e-5."""

COMPARED = [
    (family, implementation)
    for family, implementation in model_families.CAPTURED_ON
    if family not in OWN_SINKS and not (family in RECURRENT and implementation != "eager")
]


def eager_maps(model: PreTrainedModel, masks: dict[int, object]) -> list[Tensor]:
    """The (B, H, S, S) maps of the captured layers: hybrids give maps of some layers only."""
    maps = model(input_ids=IDS, attention_mask=PADDED, output_attentions=True, use_cache=False).attentions
    return list(maps) if len(maps) == len(masks) else [maps[layer] for layer in masks]


def masses_of_maps(maps: list[Tensor], selections: list[RowSelection]) -> RowMass:
    index = ROWS.clamp_min(0)[:, None, :, None]
    masses = []
    for attention, selection in zip(maps, selections, strict=True):
        heads, length = attention.shape[1], attention.shape[3]
        rows = attention.gather(2, index.expand(2, heads, 3, length)) * (ROWS >= 0)[:, None, :, None]
        masses.append(row_mass(rows, selection))
    return RowMass(*(torch.cat(parts) for parts in zip(*masses, strict=True)))


def gradients(masses: list[RowMass], model: PreTrainedModel) -> dict[str, Tensor]:
    """Of a fixed random weighting of everything captured."""
    generator = torch.Generator().manual_seed(2)
    total = torch.zeros(())
    for mass in masses:
        for part in mass:
            total = total + (part * torch.rand(part.shape, generator=generator)).sum()
    total.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("family", "implementation"), COMPARED)
def test_values_and_gradients_are_those_of_the_eager_maps(family: str, implementation: str) -> None:
    reference, model = model_families.build(family, "eager"), model_families.build(family, implementation)
    masks = layer_masks(model)
    everything = RowSelection.from_batch(ROWS, KEYS, attention_mask=PADDED)
    capture = RowCapture(everything, masks, grad=True, at_once=False)
    with capture.observe(model):
        model(input_ids=IDS, attention_mask=PADDED, use_cache=False)
    groups = list(capture.groups())
    maps = dict(zip(masks, eager_maps(reference, masks), strict=True))
    expected = [masses_of_maps([maps[x] for x in g.layers], [g.selection] * len(g.layers)) for g in groups]
    for group, wanted in zip(groups, expected, strict=True):
        for name, ours, theirs in zip(RowMass._fields, group.mass, wanted, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5, msg=f"{name} of layers {group.layers}")
    assert max(g.mass.causal.max() for g in groups) > 0.3  # the attention is far from uniform
    if family in RECURRENT:
        return
    got, wanted_gradients = gradients([g.mass for g in groups], model), gradients(expected, reference)
    assert got.keys() == wanted_gradients.keys()
    assert max(gradient.abs().max() for gradient in got.values()) > 1e-4  # there is something to compare
    for name, gradient in got.items():
        wanted = wanted_gradients[name]
        scale = max(1.0, wanted.abs().max().item())  # normalisation layers make some gradients large
        torch.testing.assert_close(
            gradient / scale, wanted / scale, rtol=0, atol=1e-5, msg=lambda x, n=name: f"{n}: {x}"
        )


@pytest.mark.parametrize("family", model_families.REFUSED)
def test_what_cannot_be_captured_is_refused_with_its_reason(family: str) -> None:
    model = model_families.build(family, "eager")
    with pytest.raises(ConfigError, match=model_families.REFUSED[family]):
        ReAttention(model)


def test_mask_groups_are_read_from_the_configuration() -> None:
    masks = layer_masks(model_families.build("gemma2", "eager"))
    assert [mask.window for mask in masks.values()] == [5, None, 5, None]
    masks = layer_masks(model_families.build("llama4_text", "eager"))
    assert {mask.chunk for mask in masks.values()} == {4, None}
    assert list(layer_masks(model_families.build("jamba", "eager"))) == [1, 3]


def test_a_layer_without_softmax_attention_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"layers \[0\].*choose among \[1, 3\]"):
        layer_masks(model_families.build("jamba", "eager"), [0])


def test_soft_capping_and_sinks_are_not_left_out() -> None:
    """The test above compares like with like only if the families really use them."""
    for family, name in (("gemma2", "softcap"), ("gpt_oss", "sinks")):
        model = model_families.build(family, "eager")
        rows = inspect_rows(model, IDS, ROWS, PADDED)
        for module in model.modules():
            if name == "softcap" and hasattr(module, "attn_logit_softcapping"):
                module.attn_logit_softcapping = None
            if name == "sinks" and hasattr(module, "sinks"):
                module.sinks.data.fill_(5.0)
        assert (inspect_rows(model, IDS, ROWS, PADDED) - rows).abs().max() > 1e-5, family
