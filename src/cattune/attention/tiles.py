"""What selected rows pay to their keys, tile by tile: the fast way, whose memory does not grow with rows x keys.

Only a tile of rows x keys exists at a time. For backward nothing is kept but the queries and keys, which the model's
own attention keeps anyway, and for each row and head its log-sum-exp and the attention outside the causal keys.
Backward computes the tiles again, as FlashAttention does (Dao et al., 2022, algorithm 4).

For a row with probabilities p, causal keys C, the other visible keys O, and gradients c_j of p_j (j in C), r of the sum
of p over O, d of the competing part of that sum, the gradient of logit j is p_j (g_j - delta), with g_j = c_j in C and
r (+ d) in O, and delta = sum_C c_j p_j + r rest + d competing: the dense part needs no sum over the tile.

Shapes: l layers, B sequences, H query heads, G key heads, r rows and s keys in a tile, K causal keys, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cattune.attention.rows import LayerInput, RowMass
from cattune.attention.selection import RowSelection
from cattune.attention.tiling import Tile, plan

_LOG2_E = 1 / math.log(2)


def attend_rows(layers: Sequence[LayerInput], selection: RowSelection, average_heads: bool) -> RowMass:
    """What the selected rows of some layers pay to their keys; differentiable in queries, keys and sinks.

    Computed in float32 (float64 stays float64), before dropout. The numbers are those of `rows.row_probabilities` and
    `rows.row_mass`.

    Args:
        layers: layers of one mask group.
        selection: the rows as this mask group sees them.
        average_heads: give the mean over heads (H = 1) and not each head.

    Example:
        One layer with one head, three positions and all logits equal: row 2 pays a third to each key that it sees.

        >>> layer = LayerInput(query=torch.zeros(1, 1, 3, 4), key=torch.ones(1, 1, 3, 4), scaling=0.5)
        >>> selection = RowSelection.from_batch(
        ...     query_rows=torch.tensor([[2]]), causal_keys=torch.tensor([[[0]]]), attention_mask=torch.ones(1, 3)
        ... )
        >>> mass = attend_rows([layer], selection, average_heads=False)
        >>> mass.causal.shape, mass.causal.item()  # (L, B, H, R, K): to the causal key
        (torch.Size([1, 1, 1, 1, 1]), 0.333...)
        >>> mass.rest.shape, mass.rest.item()  # (L, B, H, R): to the two other keys together
        (torch.Size([1, 1, 1, 1]), 0.666...)
    """
    parts: list[tuple[Tensor, ...]] = []
    for (device, *_), alike in groupby(layers, _signature):
        same = list(alike)
        shared = _Shared(selection.to(device), same[0].scaling, same[0].softcap, average_heads, len(same))
        sinks = [layer.sinks for layer in same if layer.sinks is not None]
        tensors = *(layer.query for layer in same), *(layer.key for layer in same), *sinks
        parts.append(_AttendRows.apply(shared, *tensors))
    if len(parts) == 1:
        return RowMass(*parts[0])
    home = selection.query_rows.device
    return RowMass(*(torch.cat([part.to(home) for part in kind]) for kind in zip(*parts, strict=True)))


def _signature(layer: LayerInput) -> tuple[Any, ...]:
    """Layers with equal signatures can be stacked."""
    query, key = layer.query, layer.key
    return query.device, query.dtype, query.shape, key.shape, layer.scaling, layer.softcap, layer.sinks is None


class _Shared(NamedTuple):
    """What all layers of a call have in common."""

    selection: RowSelection
    scaling: float
    softcap: float | None
    average_heads: bool
    num_layers: int


class _Saved(NamedTuple):
    """Per row and head, (l, B, H, r): what backward needs beside queries and keys."""

    lse: Tensor
    rest: Tensor
    competing: Tensor


class _AttendRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shared: _Shared, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count, average = shared.num_layers, shared.average_heads
        queries, keys, sinks = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        batch, heads = queries[0].shape[:2]
        rows, num_keys = shared.selection.causal_keys.shape[1:]
        dtype = torch.promote_types(queries[0].dtype, torch.float32)
        saved = _Saved(*(queries[0].new_empty(count, batch, heads, rows, dtype=dtype) for _ in range(3)))
        causal = saved.lse.new_zeros(count, batch, 1 if average else heads, rows, num_keys)
        with _no_autocast(queries[0]):
            for block, tiles in plan(shared.selection, count, queries[0], keys[0]):
                query, key = block.queries(queries), _multiplicable(_stacked(block.keys(keys)))
                for tile in tiles:
                    at = block.layers, slice(None), block.heads, tile.rows
                    part, paid = _Logits(shared, tile, query, key).forward(block.sinks(sinks))
                    for whole, piece in zip(saved, part, strict=True):
                        whole[at] = piece
                    if average:
                        causal[block.layers, :, :, tile.rows] += paid.sum(2, keepdim=True) / heads
                    else:
                        causal[at] = paid
        ctx.shared = shared
        ctx.save_for_backward(*saved, *tensors)
        # What is returned must not be what is saved: its owner may write into it.
        rest, competing = (x.mean(2, keepdim=True) if average else x.clone() for x in saved[1:])
        return causal, rest, competing

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        shared: _Shared = ctx.shared
        count = shared.num_layers
        lse, rest, competing, *tensors = ctx.saved_tensors  # read once: gradient checkpointing allows no more
        saved = _Saved(lse, rest, competing)
        queries, keys, sinks = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        heads = queries[0].shape[1]
        if shared.average_heads:
            gradients = tuple((x / heads).expand(-1, -1, heads, *x.shape[3:]) for x in gradients)
        d_queries = [torch.zeros_like(x) for x in queries]
        d_keys = saved.lse.new_zeros(count, *keys[0].shape)
        d_sinks = saved.lse.new_zeros(count, heads)
        with _no_autocast(queries[0]):
            for block, tiles in plan(shared.selection, count, queries[0], keys[0]):
                query, key = block.queries(queries), _multiplicable(_stacked(block.keys(keys)))
                d_key = d_keys[block.layers, :, block.key_heads]
                for tile in tiles:
                    at = block.layers, slice(None), block.heads, tile.rows
                    part = _Saved(*(x[at] for x in saved))
                    logits = _Logits(shared, tile, query, key)
                    delta = logits.backward(part, *(x[at] for x in gradients))
                    logits.add_gradients(block.queries(d_queries), d_key)
                    if (sink := block.sinks(sinks)) is not None:
                        pays = (sink.to(part.lse.dtype) - part.lse).exp_()
                        d_sinks[block.layers, block.heads] -= (pays * delta).sum((1, 3))
        return (
            None,
            *d_queries,
            *d_keys.mul_(shared.scaling).to(keys[0].dtype).unbind(),
            *(d.to(s.dtype) for d, s in zip(d_sinks, sinks, strict=False)),
        )


class _Logits:
    """A tile's (l, B, H, r, s) logits, and what forward and backward make of them, in place."""

    def __init__(self, shared: _Shared, tile: Tile, queries: Sequence[Tensor], key: Tensor) -> None:
        """Multiplies queries, each (B, H, S, D), with the key, (l, B, G, S, D)."""
        self.shared, self.tile = shared, tile
        self.selection = tile.within(shared.selection)
        stacked = _stacked(queries)
        self.query_index = self.selection.query_rows.clamp_min(0)[None, :, None, :, None]  # (1, B, 1, r, 1)
        query = stacked.gather(3, self.query_index.expand(*stacked.shape[:3], -1, stacked.shape[4]))
        self.shape = query.shape  # (l, B, H, r, D)
        # Query heads that share a key head are stacked, so that a grouped key is never repeated in memory.
        self.products = key.shape[0] * key.shape[1] * key.shape[2]  # l B G
        self.query = _multiplicable(query).reshape(self.products, -1, self.shape[4])
        self.key = key[:, :, :, tile.start : tile.stop].reshape(self.products, -1, self.shape[4])
        self.values = _product(self.query, self.key.transpose(1, 2)).view(*self.shape[:4], -1)
        self.scaling = shared.scaling
        if shared.softcap is not None:
            self.values.mul_(self.scaling / shared.softcap).tanh_().mul_(shared.softcap)
            self.scaling = 1.0  # done
        keys = self.selection.causal_keys
        # A padding key stands for one of the row's own keys, so that it may be hidden with them, if it has any.
        index = torch.where(keys < 0, keys.amax(-1, keepdim=True), keys).sub_(tile.start).clamp_min_(0)
        self.key_index = index[None, :, None].expand(self.shape[0], -1, self.shape[2], -1, -1)  # (l, B, H, r, K)
        self.no_key = (keys < 0)[:, None]  # (B, 1, r, K)

    def forward(self, sinks: Tensor | None) -> tuple[_Saved, Tensor]:
        """What is saved, and (l, B, H, r, K) attention to each causal key; `sinks`: (l, 1, H, 1)."""
        causal = self._causal_logits()
        self._hide()
        top = self.values.amax(-1, keepdim=True).mul_(self.scaling)
        top.masked_fill_(top.isneginf(), 0)  # a row without other keys
        powers = self._powers(top)
        lse_others = powers.sum(-1).log_().add_(top.squeeze(-1))
        lse = torch.logaddexp(lse_others, causal.logsumexp(-1))
        if sinks is not None:
            lse = torch.logaddexp(lse, sinks.to(lse.dtype))
        lse = lse.masked_fill_(lse.isneginf(), 0)  # a row of padding pays 0, not NaN
        competing = torch.zeros_like(lse)
        if (compete := self._competing()) is not None:
            competing = powers.mul_(compete).sum(-1).mul_((top.squeeze(-1) - lse).exp_())
        return _Saved(lse, (lse_others - lse).exp_(), competing), (causal - lse.unsqueeze(-1)).exp_()

    def backward(self, saved: _Saved, d_causal: Tensor, d_rest: Tensor, d_competing: Tensor) -> Tensor:
        """Turns the tile into the gradient of its dot products over `scaling`; gives delta, (l, B, H, r)."""
        lse, softcap = saved.lse.unsqueeze(-1), self.shared.softcap
        slope = None if softcap is None else 1 - (self.values / softcap) ** 2
        causal = (self._causal_logits() - lse).exp_()
        delta = (d_causal * causal).sum(-1) + d_rest * saved.rest + d_competing * saved.competing
        factor = (d_rest - delta).unsqueeze(-1)
        if (compete := self._competing()) is not None:
            factor = factor + d_competing.unsqueeze(-1) * compete
        self._hide()
        self._powers(lse).mul_(factor)
        self.values.scatter_add_(-1, self.key_index, causal * (d_causal - delta.unsqueeze(-1)))
        if slope is not None:
            self.values.mul_(slope)
        return delta

    def add_gradients(self, d_queries: Sequence[Tensor], d_key: Tensor) -> None:
        """Adds the gradient of the queries, and that of the key over `scaling`, (l, B, G, S, D)."""
        gradient = self.values.view(self.products, -1, self.values.shape[-1]).to(self.key.dtype)
        d_query = _product(gradient, self.key).mul_(self.shared.scaling).view(self.shape).to(d_queries[0].dtype)
        for d_layer, piece in zip(d_queries, d_query, strict=True):
            d_layer.scatter_add_(2, self.query_index[0].expand_as(piece), piece)  # rows are unique, padding adds 0
        part = d_key[:, :, :, self.tile.start : self.tile.stop]
        part += _product(gradient.transpose(1, 2), self.query).view(part.shape)

    def _causal_logits(self) -> Tensor:
        """(l, B, H, r, K), -inf at padding."""
        return self.values.gather(-1, self.key_index).mul_(self.scaling).masked_fill_(self.no_key, -torch.inf)

    def _powers(self, shift: Tensor) -> Tensor:
        """The tile itself, as the exponentials of its logits less `shift`, (l, B, H, r, 1)."""
        # As powers of 2, like FlashAttention: on a CPU three times as fast as `exp`, and the factor is for nothing.
        return torch.add(shift * -_LOG2_E, self.values, alpha=self.scaling * _LOG2_E, out=self.values).exp2_()

    def _hide(self) -> None:
        """Sets the tile to -inf where the row does not see the key or the key is causal."""
        tile, (query_rows, first_keys, *_) = self.tile, self.selection
        for start, stop in (tile.start, tile.seen), (tile.unseen, tile.stop):
            positions = torch.arange(start, stop, device=query_rows.device)
            hidden = (positions < first_keys.unsqueeze(-1)) | (positions > query_rows.unsqueeze(-1))  # (B, r, s)
            part = self.values[..., start - tile.start : stop - tile.start]
            bias = torch.zeros(hidden.shape, dtype=part.dtype, device=part.device)
            part += bias.masked_fill_(hidden, -torch.inf)[:, None]
        some = ~self.no_key.all(-1, keepdim=True)
        self.values.scatter_(-1, self.key_index, self.values.gather(-1, self.key_index).masked_fill_(some, -torch.inf))

    def _competing(self) -> Tensor | None:
        """(B, 1, r, s) bool, where an objective asks for it."""
        if self.selection.content is None:
            return None
        return self.selection.competing()[:, None, :, self.tile.start : self.tile.stop]


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """(l, ...): a view where there is one tensor."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tuple(tensors))


def _multiplicable(x: Tensor) -> Tensor:
    """As `_product` takes it: half precision only where products are summed in float32; dense if in a batch."""
    if x.dtype in (torch.bfloat16, torch.float16) and x.device.type != "cuda":
        x = x.to(torch.float32)
    return x if x.shape[1] == 1 else x.contiguous()  # else each product would make its own copy


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product, summed and given in float32 (float64 stays float64)."""
    if a.dtype in (torch.bfloat16, torch.float16):
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a, b)


def _no_autocast(x: Tensor) -> AbstractContextManager[Any]:
    return torch.autocast(x.device.type, enabled=False)
