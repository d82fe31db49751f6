"""Which rows of a batch are supervised and which keys each of them sees, as intervals of positions.

Every mask that a causal decoder puts on a row (causal, padding at either end, sliding window, chunk, packed sequences)
is an interval of keys that ends at the row itself. Two integers a row therefore say what a mask of rows x keys would.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LAST_TOKENS = 4
"""`contrast` leaves alone the row itself and the tokens just before it, this many in all: local heads read them."""


class LayerMask(NamedTuple):
    """How far back a layer sees, in tokens; layers with equal masks form a mask group.

    Attributes:
        window: a row sees the last so many keys, itself included. None: no window.
        chunk: a row sees its own chunk of so many positions, counted from the start of its sequence. None: no chunks.

    Example:
        >>> print(LayerMask(), "or", LayerMask(window=512), "or", LayerMask(chunk=8192))
        full attention or a sliding window of 512 or chunks of 8192
    """

    window: int | None = None
    chunk: int | None = None

    def __str__(self) -> str:
        if self.window is not None:
            return f"a sliding window of {self.window}"
        return "full attention" if self.chunk is None else f"chunks of {self.chunk}"


class RowSelection(NamedTuple):
    """The supervised rows of one batch: B sequences of S positions, R rows, K causal keys a row.

    Attributes:
        query_rows: (B, R) positions, -1 = padding.
        first_keys: (B, R) the first position that the row sees; it sees every one from there to itself.
        causal_keys: (B, R, K) positions that the row sees, -1 = padding.
        content: (B, S) bool, tokens with content of the prompt; None where no objective asks for it.
        length: S.

    Example:
        A sequence of six tokens, the first of them padding. Row 5 is supervised; tokens 2 and 3 are its causes.

        >>> selection = RowSelection.from_batch(
        ...     query_rows=torch.tensor([[5]]),
        ...     causal_keys=torch.tensor([[[2, 3]]]),
        ...     attention_mask=torch.tensor([[0, 1, 1, 1, 1, 1]]),
        ... )
        >>> selection.first_keys, selection.num_visible, selection.num_causal
        (tensor([[1]]), tensor([[5]]), tensor([[2]]))

        A layer with a window of three sees tokens 3 to 5, so token 2 is no causal key there:

        >>> selection.within(LayerMask(window=3)).causal_keys
        tensor([[[-1,  3]]])
    """

    query_rows: Tensor
    first_keys: Tensor
    causal_keys: Tensor
    content: Tensor | None
    length: int

    @classmethod
    def from_batch(
        cls,
        query_rows: Tensor,
        causal_keys: Tensor,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        content: Tensor | None = None,
    ) -> RowSelection:
        """Builds the selection from what the collator gives.

        Args:
            query_rows: (B, R). causal_keys: (B, R, K). content: (B, S) bool.
            attention_mask: (B, S), 0 at padding, which must be at the ends. Left out for a packed batch.
            position_ids: (B, S) positions inside each packed sequence, from 0. Left out for a padded batch.
        """
        if attention_mask is not None:
            length = attention_mask.shape[1]
            starts = attention_mask.ne(0).to(torch.uint8).argmax(1, keepdim=True)  # (B, 1) left padding
            first_keys = starts.expand_as(query_rows)
        elif position_ids is not None:
            length = position_ids.shape[1]
            first_keys = query_rows - position_ids.gather(1, query_rows.clamp_min(0))
        else:
            raise TypeError("give attention_mask (a padded batch) or position_ids (a packed one)")
        selection = cls(query_rows, first_keys, causal_keys, content, length)
        return selection._replace(causal_keys=selection._seen(causal_keys))

    def to(self, device: torch.device) -> RowSelection:
        """The same rows on another device."""
        query_rows, first_keys, causal_keys = (x.to(device) for x in self[:3])
        content = None if self.content is None else self.content.to(device)
        return RowSelection(query_rows, first_keys, causal_keys, content, self.length)

    def within(self, mask: LayerMask) -> RowSelection:
        """The same rows as a layer with that mask sees them: what it does not see is no causal key there."""
        first = self.first_keys
        if mask.chunk is not None:
            first = self.query_rows - (self.query_rows - first) % mask.chunk
        if mask.window is not None:
            first = torch.maximum(first, self.query_rows - mask.window + 1)
        if first is self.first_keys:
            return self
        limited = self._replace(first_keys=first)
        return limited._replace(causal_keys=limited._seen(self.causal_keys))

    def _seen(self, causal_keys: Tensor) -> Tensor:
        seen = (causal_keys >= self.first_keys.unsqueeze(-1)) & (causal_keys <= self.query_rows.unsqueeze(-1))
        return torch.where(seen, causal_keys, -1)

    @property
    def num_causal(self) -> Tensor:
        """(B, R) `k`, the causal keys that the row sees."""
        return (self.causal_keys >= 0).sum(-1)

    @property
    def num_visible(self) -> Tensor:
        """(B, R) `n`, the keys that the row sees; 0 in a row of padding."""
        return torch.where(self.query_rows >= 0, self.query_rows - self.first_keys + 1, 0)

    @property
    def counted(self) -> Tensor:
        """(B, R) bool: rows with 0 < k < n, the only ones that an objective is applied to."""
        return (self.num_causal > 0) & (self.num_causal < self.num_visible)

    def visible(self) -> Tensor:
        """(B, R, S) bool: the keys that each row sees."""
        positions = torch.arange(self.length, device=self.query_rows.device)
        return (positions >= self.first_keys.unsqueeze(-1)) & (positions <= self.query_rows.unsqueeze(-1))

    def causal(self) -> Tensor:
        """(B, R, S) bool: the causal keys as a mask."""
        batch, rows, _ = self.causal_keys.shape
        # Padding keys go to one column too many, which is then cut off.
        columns = torch.where(self.causal_keys < 0, self.length, self.causal_keys)
        mask = columns.new_zeros(batch, rows, self.length + 1, dtype=torch.bool)
        return mask.scatter_(2, columns, True)[..., : self.length]

    def competing(self) -> Tensor:
        """(B, R, S) bool: content that competes with the causes: neither causal nor among the last few tokens."""
        visible = self.visible()
        if self.content is None:
            return torch.zeros_like(visible)
        positions = torch.arange(self.length, device=self.query_rows.device)
        local = positions > (self.query_rows - LAST_TOKENS).unsqueeze(-1)
        return visible & self.content.unsqueeze(1) & ~self.causal() & ~local
