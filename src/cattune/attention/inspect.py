"""The attention that chosen rows pay to every key, without gradient: for pictures and audits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cattune.attention.capture import RowCapture, capturing, check_capturable
from cattune.attention.rows import visible_keys


@torch.no_grad()
def inspect_rows(
    model: PreTrainedModel,
    input_ids: Tensor,
    query_rows: Tensor,
    attention_mask: Tensor | None = None,
    layers: Sequence[int] | None = None,
) -> Tensor:
    """One forward pass; the probabilities of the chosen rows in the chosen layers.

    Args:
        input_ids: (B, S). query_rows: (B, R) positions, -1 = padding. attention_mask: (B, S), or None for no padding.
        layers: layer indices, negative ones from the end; None for every layer.

    Returns:
        (L, B, H, R, S) float32 probabilities, before dropout; all 0 in a padding row.
    """
    chosen = check_capturable(model, layers)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    capture = RowCapture(query_rows, visible_keys(query_rows, mask), lambda probabilities: probabilities, chosen, False)
    with capturing(model, capture):
        model(input_ids=input_ids, attention_mask=mask, use_cache=False)
    return torch.stack(capture.in_order())
