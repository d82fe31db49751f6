"""Attention probabilities of selected query rows, from queries and keys: pure tensor functions.

Shapes: B sequences, H query heads, G key heads (H is a multiple of G), S positions, D head size, R selected rows,
K causal keys a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LAST_TOKENS = 4
"""`contrast` leaves alone the row itself and the tokens just before it, this many in all: local heads read them."""


def visible_keys(query_rows: Tensor, attention_mask: Tensor) -> Tensor:
    """The keys that a causal model lets each row see, built from positions.

    The mask that a backend gets is not enough: on `sdpa` it is None without padding.

    Args:
        query_rows: (B, R) positions; -1 is padding and sees nothing.
        attention_mask: (B, S), 0 at padding.

    Returns:
        (B, R, S) bool.
    """
    positions = torch.arange(attention_mask.shape[1], device=query_rows.device)
    not_after = positions <= query_rows.unsqueeze(-1)  # (B, R, S)
    return not_after & attention_mask.bool().unsqueeze(1)


def row_probabilities(query: Tensor, key: Tensor, query_rows: Tensor, visible: Tensor, scaling: float) -> Tensor:
    """The softmax of the selected rows, before dropout, in float32 (float64 stays float64).

    Args:
        query: (B, H, S, D). key: (B, G, S, D). query_rows: (B, R), -1 = padding. visible: (B, R, S) bool.
        scaling: factor on the dot products.

    Returns:
        (B, H, R, S), each row's probabilities over its visible keys; all 0 in a padding row.
    """
    batch, heads, _, size = query.shape
    groups, rows = key.shape[1], query_rows.shape[1]
    index = query_rows.clamp_min(0)[:, None, :, None].expand(batch, heads, rows, size)
    selected = query.gather(2, index)  # (B, H, R, D)
    dtype = torch.promote_types(query.dtype, torch.float32)
    # Query heads that share a key head are stacked, so that a grouped key is never repeated in memory.
    stacked = selected.reshape(batch, groups, heads // groups * rows, size).to(dtype)
    logits = (stacked @ key.to(dtype).transpose(-1, -2)).view(batch, heads, rows, -1) * scaling
    # A row of padding sees nothing; its softmax would be NaN. The large finite value keeps it finite, then 0.
    logits = logits.masked_fill(~visible.unsqueeze(1), torch.finfo(dtype).min)
    return logits.softmax(-1) * visible.unsqueeze(1)


class RowSelection(NamedTuple):
    """Which rows are supervised, by which keys, for one batch.

    Attributes:
        query_rows: (B, R) positions, -1 = padding.
        causal_keys: (B, R, K) positions, -1 = padding.
        visible: (B, R, S) bool.
        causal: (B, R, S) bool, the causal keys as a mask; a subset of `visible`.
        competing: (B, R, S) bool, content that competes with the causes; a subset of `visible`, disjoint from `causal`.
    """

    query_rows: Tensor
    causal_keys: Tensor
    visible: Tensor
    causal: Tensor
    competing: Tensor

    @classmethod
    def from_batch(
        cls, query_rows: Tensor, causal_keys: Tensor, attention_mask: Tensor, content: Tensor | None = None
    ) -> RowSelection:
        """Builds the masks from what the collator gives.

        Args:
            query_rows: (B, R). causal_keys: (B, R, K). attention_mask: (B, S).
            content: (B, S) bool, tokens with content of the prompt; None where no objective asks for it.
        """
        visible = visible_keys(query_rows, attention_mask)
        batch, rows, length = visible.shape
        # Padding keys go to one column too many, which is then cut off.
        columns = torch.where(causal_keys < 0, length, causal_keys)
        causal = visible.new_zeros(batch, rows, length + 1).scatter_(2, columns, True)[..., :length] & visible
        competing = torch.zeros_like(visible)
        if content is not None:
            positions = torch.arange(length, device=visible.device)
            local = positions > (query_rows - LAST_TOKENS).unsqueeze(-1)  # (B, R, S)
            competing = visible & content.unsqueeze(1) & ~causal & ~local
        return cls(query_rows, causal_keys, visible, causal, competing)


class LayerRows(NamedTuple):
    """What one layer's selected rows pay to their keys.

    Attributes:
        causal: (B, H, R, K) attention to each causal key, 0 at padding.
        rest: (B, H, R) attention to the visible keys that are not causal, summed.
        competing: (B, H, R) the part of `rest` on competing content.
    """

    causal: Tensor
    rest: Tensor
    competing: Tensor


def summarize(probabilities: Tensor, selection: RowSelection) -> LayerRows:
    """Reduces (B, H, R, S) probabilities to what the objectives need."""
    heads = probabilities.shape[1]
    keys = selection.causal_keys.unsqueeze(1)  # (B, 1, R, K)
    causal = probabilities.gather(3, keys.clamp_min(0).expand(-1, heads, -1, -1)) * (keys >= 0)
    others = selection.visible & ~selection.causal
    rest = (probabilities * others.unsqueeze(1)).sum(-1)
    competing = (probabilities * selection.competing.unsqueeze(1)).sum(-1)
    return LayerRows(causal, rest, competing)
