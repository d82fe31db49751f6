"""Does the captured attention agree with what the model's own kernel computes? Asked of a batch, before training on it.

The kernel keeps its attention to itself, but it will multiply it with any values. Given random ones, its output at the
supervised rows, and the gradient of that output, are compared with those of the captured attention. A wrong mask,
scaling, cap or sink shows whatever the backend, since it moves attention between random numbers of size 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cattune.attention.architecture import attention_modules
from cattune.attention.backends import AttentionCall, observing
from cattune.attention.capture import read_layer, unsupported
from cattune.attention.rows import row_probabilities
from cattune.attention.selection import LayerMask, RowSelection
from cattune.errors import ConfigError

MAX_ROWS = 8
"""Rows of each sequence that are compared: their probabilities are computed in full."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Largest difference, as a share of the largest number compared, by the precision that the kernel answers in. Rounding
stays well below (float32 may be multiplied as TF32); a mask that is wrong by one key lies well above."""


@torch.no_grad()
def self_check(
    model: PreTrainedModel, inputs: Mapping[str, Any], selection: RowSelection, masks: Mapping[int, LayerMask]
) -> dict[int, float]:
    """Runs a batch through both ways on one layer of each mask group: values, and gradients of queries and keys.

    Dropout is off and no random number is drawn from the global generators.

    Args:
        inputs: what the model is called with, without labels.
        masks: the layers that will be captured.

    Returns:
        The largest difference of each layer checked, as a share of the largest number compared.

    Raises:
        ConfigError: the two disagree, in which layer and by how much, or a layer cannot be captured.
    """
    first: dict[LayerMask, int] = {}
    for layer, mask in masks.items():
        first.setdefault(mask, layer)
    checked = {layer: mask for mask, layer in first.items()}
    few = _few_rows(selection)
    differences: dict[int, float] = {}

    def observer(call: AttentionCall) -> None:
        if call.layer not in differences:
            differences[call.layer] = _check(call, few.within(checked[call.layer]), checked[call.layer])

    modules = attention_modules(model)
    was_training = model.training
    model.eval()
    try:
        with torch.compiler.set_stance("force_eager"), observing([modules[layer] for layer in checked], observer):
            model(**inputs)
    finally:
        model.train(was_training)
    if missing := sorted(checked.keys() - differences.keys()):
        raise ConfigError(f"layers {missing} cannot be captured: their attention is outside transformers' interface")
    return differences


def _few_rows(selection: RowSelection) -> RowSelection:
    """Up to `MAX_ROWS` of each sequence's rows, evenly spread."""
    rows = selection.query_rows.shape[1]
    chosen = torch.linspace(0, rows - 1, min(rows, MAX_ROWS), device=selection.query_rows.device).round().long()
    query_rows, first_keys, causal_keys = (x[:, chosen] for x in selection[:3])
    return selection._replace(query_rows=query_rows, first_keys=first_keys, causal_keys=causal_keys)


def _check(call: AttentionCall, selection: RowSelection, mask: LayerMask) -> float:
    if reasons := unsupported(call, selection.length, mask):
        raise ConfigError(f"layer {call.layer} cannot be captured: it uses {' and '.join(reasons)}")
    value, weights = _random(call, selection)
    theirs = _leaves(call)
    try:
        with torch.enable_grad():
            options = {**theirs.options, "dropout": 0.0}
            output = call.backend(call.module, *theirs[2:4], value, call.attention_mask, **options)[0]  # (B, S, H, E)
            there = _rows_of(output.transpose(1, 2), selection)
            kernel = there, *torch.autograd.grad((there * weights).sum(), theirs[2:4])
    except NotImplementedError as error:
        raise ConfigError(f"layer {call.layer}: this attention backend cannot be trained here: {error}") from error
    ours = _leaves(call)
    with torch.enable_grad(), torch.autocast(call.query.device.type, enabled=False):
        probabilities = row_probabilities(read_layer(ours), selection)
        shared = probabilities.shape[1] // value.shape[1]
        here = probabilities @ value.to(probabilities.dtype).repeat_interleave(shared, 1)  # (B, H, r, E)
        captured = here, *torch.autograd.grad((here * weights).sum(), ours[2:4])
    tolerance = TOLERANCE.get(output.dtype, TOLERANCE[torch.bfloat16])
    worst = 0.0
    for name, one, other in zip(("values", "gradient of queries", "gradient of keys"), captured, kernel, strict=True):
        if not other.isfinite().all():
            raise ConfigError(
                f"self-check: in layer {call.layer} the model's own attention is not finite ({name}): its weights hold "
                f"NaN or infinity, or {output.dtype} cannot hold its values; take other weights, or bfloat16 or float32"
            )
        difference = ((one - other).abs().max() / other.abs().max().clamp_min(1e-6)).item()
        if not difference <= tolerance:
            raise ConfigError(
                f"self-check: in layer {call.layer} ({mask}) the captured attention is not what the model computes: "
                f"{name} differ by {difference:.1e} of the largest, where {tolerance:.0e} would be rounding "
                f"({type(call.module).__name__}, {output.dtype}); choose other layers with `layers`, another "
                "attn_implementation, or `self_check=False` (--no-self-check) if you know that it does not matter"
            )
        worst = max(worst, difference)
    return worst


def _leaves(call: AttentionCall) -> AttentionCall:
    return call._replace(
        query=call.query.detach().clone().requires_grad_(), key=call.key.detach().clone().requires_grad_()
    )


def _random(call: AttentionCall, selection: RowSelection) -> tuple[Tensor, Tensor]:
    """Values like the call's, and (B, H, r, E) weights of the output, 0 in rows of padding."""
    generator = torch.Generator().manual_seed(0)
    batch, heads = call.query.shape[:2]
    rows, size = selection.query_rows.shape[1], call.value.shape[-1]
    value = torch.randn(call.value.shape, generator=generator).to(call.value)
    weights = torch.randn(batch, heads, rows, size, generator=generator).to(call.query.device)
    return value, weights * (selection.query_rows >= 0)[:, None, :, None]


def _rows_of(output: Tensor, selection: RowSelection) -> Tensor:
    """The rows of (B, H, S, E), as float32 or better, 0 in rows of padding."""
    index = selection.query_rows.clamp_min(0)[:, None, :, None].expand(*output.shape[:2], -1, output.shape[3])
    rows = output.gather(2, index).to(torch.promote_types(output.dtype, torch.float32))
    return rows * (selection.query_rows >= 0)[:, None, :, None]
