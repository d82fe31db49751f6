"""Which rows, heads and layers are computed together: tiles that caches hold, and that products are efficient on.

Shapes: l layers, B sequences, H query heads, G key heads, r rows of a tile, S positions, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cattune.attention.selection import RowSelection

CPU_TILE, DEVICE_TILE = 2**20, 2**26
"""Logits in a tile: on a CPU what its caches hold, on an accelerator enough for a launch to be worth its while."""

MIN_ROWS = 128
"""A tile has at least this many rows, if need be of fewer heads: with few, a product reads more than it multiplies."""


class Block(NamedTuple):
    """Some layers, some of their key heads, and the query heads that share these."""

    layers: slice
    heads: slice
    key_heads: slice

    def queries(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of (B, H, S, D) of all layers."""
        return [x[:, self.heads] for x in tensors[self.layers]]

    def keys(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of (B, G, S, D) of all layers."""
        return [x[:, self.key_heads] for x in tensors[self.layers]]

    def sinks(self, tensors: Sequence[Tensor]) -> Tensor | None:
        """(l, B, H, r) to broadcast, of (H) of all layers."""
        return torch.stack(tuple(tensors[self.layers]))[:, None, self.heads, None] if tensors else None


class Tile(NamedTuple):
    """Some rows against the keys from `start` to `stop`; those from `seen` to `unseen` are seen by each of them."""

    rows: slice
    start: int
    stop: int
    seen: int
    unseen: int

    def within(self, selection: RowSelection) -> RowSelection:
        """The tile's rows, with positions as they are."""
        query_rows, first_keys, causal_keys = (x[:, self.rows] for x in selection[:3])
        return selection._replace(query_rows=query_rows, first_keys=first_keys, causal_keys=causal_keys)


def plan(selection: RowSelection, num_layers: int, query: Tensor, key: Tensor) -> Iterator[tuple[Block, list[Tile]]]:
    """Layers and heads and, for each, tiles of rows: what is small is done for many layers at once."""
    on_cpu = query.device.type == "cpu"
    (batch, heads), key_heads = query.shape[:2], key.shape[1]
    budget = CPU_TILE if on_cpu else DEVICE_TILE
    num_rows, sharing = selection.query_rows.shape[1], heads // key_heads
    row = batch * sharing * selection.length  # logits of a row in the heads of one key head
    key_heads_at_once = min(key_heads, max(1, budget // (row * min(num_rows, MIN_ROWS))))
    rows_at_once = max(MIN_ROWS, budget // (row * key_heads_at_once))
    layers_at_once = max(1, budget // (row * key_heads * num_rows))
    if on_cpu or rows_at_once < num_rows:
        tiles = list(_row_tiles(selection, rows_at_once))
    else:
        tiles = [Tile(slice(0, num_rows), 0, selection.length, 0, 0)]
    for layer in range(0, num_layers, layers_at_once):
        for first in range(0, key_heads, key_heads_at_once):
            last = min(first + key_heads_at_once, key_heads)
            heads_ = slice(first * sharing, last * sharing)
            yield Block(slice(layer, layer + layers_at_once), heads_, slice(first, last)), tiles


def _row_tiles(selection: RowSelection, rows_at_once: int) -> Iterator[Tile]:
    """Tiles with no more keys than any of their rows sees. Waits for the device once."""
    real = selection.query_rows >= 0
    first_keys = torch.where(real, selection.first_keys, selection.length)
    lows, highs = first_keys.amin(0).tolist(), selection.query_rows.amax(0).tolist()
    # Padding, which sees no key, has a first key after its last one.
    seen_from, seen_to = first_keys.amax(0).tolist(), selection.query_rows.amin(0).tolist()
    for row in range(0, len(lows), rows_at_once):
        rows = slice(row, row + rows_at_once)
        start, stop = min(lows[rows]), max(highs[rows]) + 1
        if start >= stop:
            start, stop = 0, 1  # padding alone
        seen, unseen = max(seen_from[rows]), min(seen_to[rows]) + 1
        yield Tile(rows, start, stop, *((seen, unseen) if seen < unseen else (stop, stop)))
