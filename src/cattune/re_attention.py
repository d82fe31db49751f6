"""From the captured attention of a batch to its Re-Attention loss: layers and heads joined, rows counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cattune.attention.capture import RowCapture, check_capturable
from cattune.attention.rows import LayerRows, RowSelection, summarize
from cattune.errors import ConfigError
from cattune.objectives import Objective, RowAttention, get_objective

AGGREGATIONS = ("mean", "layer", "head")
"""One loss a row from the mean attention over layers and heads; from each layer's mean over heads; from each head."""


class RowSums(NamedTuple):
    """Sums over the counted rows of a batch: scalars, of which only `loss` carries a gradient.

    Attributes:
        loss: row losses. mass: causal masses. mean_causal, mean_rest: mean attention to a causal and to another visible
            key. rows: how many rows counted.
    """

    loss: Tensor
    mass: Tensor
    mean_causal: Tensor
    mean_rest: Tensor
    rows: Tensor


class ReAttention:
    """The Re-Attention loss of a model: which layers and heads, joined how, under which objective.

    Args:
        model: a decoder whose attention can be captured.
        objective: a name in `objectives.OBJECTIVES`.
        alpha: the attention ratio that the published objectives ask for.
        aggregation: one of `AGGREGATIONS`.
        layers, heads: indices, negative ones from the end; None for all.

    Raises:
        ConfigError: a name is unknown, a layer or head does not exist, or the attention cannot be captured.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        objective: str = "uniform",
        alpha: float = 2.0,
        aggregation: str = "mean",
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> None:
        self.objective = get_objective(objective)
        self.alpha = alpha
        self.aggregation = aggregation
        self.layers = check_capturable(model, layers)
        self.heads = heads
        num_heads = model.config.get_text_config().num_attention_heads
        if unknown := [head for head in heads or () if not -num_heads <= head < num_heads]:
            raise ConfigError(f"heads {unknown}: the model has heads 0 to {num_heads - 1} in each layer")

    def start(self, selection: RowSelection, *, grad: bool) -> RowCapture:
        """A capture of the selected rows in the chosen layers and heads, to be opened with `capturing`."""
        return RowCapture(
            selection.query_rows, selection.visible, lambda rows: self._reduce(rows, selection), self.layers, grad
        )

    def sums(self, capture: RowCapture, selection: RowSelection, causal_weights: Tensor) -> RowSums:
        """Sums the row losses of the batch that was captured, and what is logged beside them.

        Args:
            causal_weights: (B, R, K) weights of the causal keys, 0 at padding.

        Raises:
            ConfigError: a chosen layer could not be captured.
        """
        return row_sums(
            capture.in_order(), selection, causal_weights, self.objective, self.alpha, join=self.aggregation == "mean"
        )

    def _reduce(self, probabilities: Tensor, selection: RowSelection) -> LayerRows:
        if self.heads is not None:
            probabilities = probabilities[:, list(self.heads)]
        if self.aggregation != "head":
            probabilities = probabilities.mean(1, keepdim=True)
        return summarize(probabilities, selection)


def row_sums(
    layers: Sequence[LayerRows],
    selection: RowSelection,
    causal_weights: Tensor,
    objective: Objective,
    alpha: float,
    join: bool,
) -> RowSums:
    """Applies the objective to each captured layer (to their mean if `join`) and sums over counted rows."""
    # (L, H, B, R, K) and (L, H, B, R); H is 1 where a layer's heads were averaged.
    causal = torch.stack([layer.causal for layer in layers]).movedim(2, 1)
    rest = torch.stack([layer.rest for layer in layers]).movedim(2, 1)
    competing = torch.stack([layer.competing for layer in layers]).movedim(2, 1)
    if join:
        causal, rest, competing = (x.mean((0, 1), keepdim=True) for x in (causal, rest, competing))

    counted = selection.query_rows >= 0  # (B, R)
    num_causal = selection.causal.sum(-1).clamp_min(1)
    num_visible = torch.maximum(selection.visible.sum(-1), num_causal + 1)  # the bound matters in padding rows only
    prior = causal_weights / causal_weights.sum(-1, keepdim=True).clamp_min(torch.finfo(causal_weights.dtype).tiny)
    rows = RowAttention(causal, prior.to(causal.dtype), rest, competing, num_causal, num_visible)

    def total(values: Tensor) -> Tensor:  # (L, H, B, R) -> scalar
        per_row = values.mean((0, 1))
        return torch.where(counted, per_row, torch.zeros_like(per_row)).sum()

    return RowSums(
        loss=total(objective(rows, alpha)),
        mass=total(rows.mass.detach()),
        mean_causal=total(rows.mean_causal.detach()),
        mean_rest=total(rows.mean_rest.detach()),
        rows=counted.sum(),
    )
