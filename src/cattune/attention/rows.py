"""What selected rows pay to their keys, from a layer's queries and keys: the slow, obviously right way.

It keeps a probability for every row, key and head, which is what pictures, audits and the self-check want. Training
takes `tiles.attend_rows`, which gives the same numbers and keeps none of them.

Shapes: B sequences, H query heads, G key heads (H is a multiple of G), S positions, D head size, R selected rows,
K causal keys a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cattune.attention.selection import RowSelection


class LayerInput(NamedTuple):
    """What a layer's attention is computed from.

    Attributes:
        query: (B, H, S, D). key: (B, G, S, D).
        scaling: factor on the dot products.
        softcap: c of c tanh(logit / c), or None.
        sinks: (H,) a logit in each row's softmax that no key has, or None.
    """

    query: Tensor
    key: Tensor
    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None

    def pick(self, heads: list[int]) -> LayerInput:
        """The layer with those query heads alone, each beside its own copy of its key head."""
        num_heads = self.query.shape[1]
        chosen = [head % num_heads for head in heads]
        shared = num_heads // self.key.shape[1]
        return self._replace(
            query=self.query[:, chosen],
            key=self.key[:, [head // shared for head in chosen]],
            sinks=None if self.sinks is None else self.sinks[chosen],
        )


class RowMass(NamedTuple):
    """What the selected rows of L layers pay to their keys; H is 1 where a layer's heads were averaged.

    Attributes:
        causal: (L, B, H, R, K) attention to each causal key, 0 at padding.
        rest: (L, B, H, R) attention to the visible keys that are not causal, summed.
        competing: (L, B, H, R) the part of `rest` on competing content.
    """

    causal: Tensor
    rest: Tensor
    competing: Tensor


def row_probabilities(layer: LayerInput, selection: RowSelection) -> Tensor:
    """The softmax of the selected rows, before dropout, in float32 (float64 stays float64).

    Returns:
        (B, H, R, S), each row's probabilities over the keys that it sees; all 0 in a padding row.
    """
    dtype = torch.promote_types(layer.query.dtype, torch.float32)
    batch, heads, _, size = layer.query.shape
    index = selection.query_rows.clamp_min(0)[:, None, :, None].expand(batch, heads, -1, size)
    query = layer.query.gather(2, index).to(dtype)  # (B, H, R, D)
    key = layer.key.to(dtype).repeat_interleave(heads // layer.key.shape[1], 1)  # (B, H, S, D)
    logits = query @ key.transpose(-1, -2) * layer.scaling  # (B, H, R, S)
    if layer.softcap is not None:
        logits = layer.softcap * torch.tanh(logits / layer.softcap)
    visible = selection.visible().unsqueeze(1)
    # A row of padding sees nothing; its softmax would be NaN. The large finite value keeps it finite, then 0.
    logits = logits.masked_fill(~visible, torch.finfo(dtype).min)
    if layer.sinks is not None:
        sinks = layer.sinks.to(dtype).view(1, heads, 1, 1).expand(batch, heads, logits.shape[2], 1)
        return torch.cat([logits, sinks], -1).softmax(-1)[..., :-1] * visible
    return logits.softmax(-1) * visible


def row_mass(probabilities: Tensor, selection: RowSelection) -> RowMass:
    """Reduces the (B, H, R, S) probabilities of one layer to what the objectives need."""
    keys = selection.causal_keys.unsqueeze(1)  # (B, 1, R, K)
    causal = probabilities.gather(3, keys.clamp_min(0).expand(-1, probabilities.shape[1], -1, -1)) * (keys >= 0)
    others = (selection.visible() & ~selection.causal()).unsqueeze(1)
    competing = selection.competing().unsqueeze(1)
    parts = causal, (probabilities * others).sum(-1), (probabilities * competing).sum(-1)
    return RowMass(*(part.unsqueeze(0) for part in parts))
