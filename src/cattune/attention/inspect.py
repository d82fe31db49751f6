"""The attention that chosen rows pay to every key, without gradient: for pictures and audits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cattune.attention.architecture import attention_modules, layer_masks
from cattune.attention.backends import AttentionCall, check_backend, observing
from cattune.attention.capture import read_layer, unsupported
from cattune.attention.rows import row_probabilities
from cattune.attention.selection import RowSelection
from cattune.errors import ConfigError


@torch.no_grad()
def inspect_rows(
    model: PreTrainedModel,
    input_ids: Tensor,
    query_rows: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """One forward pass; the probabilities of the chosen rows in the chosen layers.

    Args:
        input_ids: (B, S). query_rows: (B, R) positions, -1 = padding.
        attention_mask: (B, S), 0 at padding at either end; None for no padding.
        position_ids: (B, S), for packed sequences: positions inside each, from 0. Not together with `attention_mask`.
        layers: layer indices, negative ones from the end; None for every layer.

    Returns:
        (L, B, H, R, S) float32 probabilities, before dropout; all 0 in a padding row.

    Raises:
        ConfigError: the attention cannot be captured, or there is padding inside a sequence.

    Example:
        What the row that predicts the answer pays to each token of a prompt, in all layers and heads of `tiny`.

        >>> from cattune.models import tiny
        >>> model, tokenizer = tiny.build(["two red hats"], seed=0)
        >>> input_ids = tokenizer("two red hats", return_tensors="pt").input_ids
        >>> paid = inspect_rows(model, input_ids, query_rows=torch.tensor([[input_ids.shape[1] - 1]]))
        >>> paid.shape  # (L, B, H, R, S): 3 layers, 1 text, 8 heads, 1 row, 4 tokens (<bos> is the first)
        torch.Size([3, 1, 8, 1, 4])
        >>> torch.allclose(paid.sum(-1), torch.ones(3, 1, 8, 1))
        True
    """
    check_backend(model)
    masks = layer_masks(model, layers)
    inputs = {"position_ids": position_ids}
    if position_ids is None:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        _check_padding(mask)
        inputs = {"attention_mask": mask}
    no_keys = query_rows.new_full((*query_rows.shape, 1), -1)
    selection = RowSelection.from_batch(query_rows, no_keys, **inputs)
    probabilities: dict[int, Tensor] = {}

    def observer(call: AttentionCall) -> None:
        mask = masks[call.layer]
        if reasons := unsupported(call, selection.length, mask):
            raise ConfigError(f"layer {call.layer} cannot be captured: it uses {' and '.join(reasons)}")
        with torch.autocast(call.query.device.type, enabled=False):
            probabilities[call.layer] = row_probabilities(read_layer(call), selection.within(mask))

    modules = attention_modules(model)
    with torch.compiler.set_stance("force_eager"), observing([modules[layer] for layer in masks], observer):
        model(input_ids=input_ids, **inputs, use_cache=False)
    if missing := sorted(masks.keys() - probabilities.keys()):
        raise ConfigError(f"layers {missing} cannot be captured: their attention is outside transformers' interface")
    return torch.stack([probabilities[layer] for layer in masks])


def _check_padding(attention_mask: Tensor) -> None:
    real = attention_mask.ne(0).int()
    blocks = real[:, 0] + (real.diff(dim=1) == 1).sum(1)  # runs of real tokens
    for index in blocks.gt(1).nonzero().flatten().tolist():
        raise ConfigError(f"sequence {index} has padding inside; rows can be captured with padding at the ends only")
