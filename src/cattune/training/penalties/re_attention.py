"""From the captured attention of a batch to its Re-Attention loss: layers and heads joined, rows counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cattune.attention import MaskGroup, RowCapture, RowSelection, check_backend, layer_masks
from cattune.errors import ConfigError
from cattune.training.penalties.objectives import Objective, RowAttention, get_objective

AGGREGATIONS = ("mean", "layer", "head")
"""One loss a row from the mean attention over layers and heads; from each layer's mean over heads; from each head."""


class RowSums(NamedTuple):
    """Sums over the counted rows of a batch: scalars, of which only `loss` carries a gradient.

    Each mask group (the layers that see the same keys) has its own counted rows and weighs in with its share of the
    layers, in every sum.

    Attributes:
        loss: row losses. mass: causal masses. mean_causal, mean_rest: mean attention to a causal and to another visible
            key. rows: how many rows counted, a whole number where there is one mask group.
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

    Attributes:
        masks: the chosen layers, and how far back each sees.

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
        check_backend(model)
        self.masks = layer_masks(model, layers)
        self.heads = heads
        num_heads = model.config.get_text_config().num_attention_heads
        if unknown := [head for head in heads or () if not -num_heads <= head < num_heads]:
            raise ConfigError(f"heads {unknown}: the model has heads 0 to {num_heads - 1} in each layer")

    def start(self, selection: RowSelection, *, grad: bool, at_once: bool = True) -> RowCapture:
        """A capture of the selected rows in the chosen layers and heads; see `RowCapture`."""
        return RowCapture(
            selection,
            self.masks,
            heads=self.heads,
            average_heads=self.aggregation != "head",
            grad=grad,
            at_once=at_once,
        )

    def count_rows(self, selection: RowSelection) -> Tensor:
        """How many rows of a batch count: a scalar in float32, the mean over layers."""
        counts = Counter(self.masks.values())
        rows = [selection.within(mask).counted.sum() * (count / len(self.masks)) for mask, count in counts.items()]
        return torch.stack(rows).sum().to(torch.float32)

    def sums(self, capture: RowCapture, causal_weights: Tensor) -> RowSums:
        """Sums the row losses of the batch that was captured, and what is logged beside them.

        Args:
            causal_weights: (B, R, K) weights of the causal keys, 0 at padding.

        Raises:
            ConfigError: a chosen layer could not be captured.
        """
        join = self.aggregation == "mean"
        totals: list[Tensor] | None = None
        for group in capture.groups():
            share = len(group.layers) / len(self.masks)
            sums = [share * part for part in group_sums(group, causal_weights, self.objective, self.alpha, join)]
            totals = sums if totals is None else [a + b for a, b in zip(totals, sums, strict=True)]
        assert totals is not None  # there is at least one layer
        return RowSums(*totals)


def group_sums(group: MaskGroup, causal_weights: Tensor, objective: Objective, alpha: float, join: bool) -> RowSums:
    """Applies the objective to each layer of a mask group (to their mean if `join`) and sums over counted rows."""
    selection = group.selection
    causal, rest, competing = (part.movedim(1, 2) for part in group.mass)  # (L, H, B, R, K) and (L, H, B, R)
    if join:
        causal, rest, competing = (part.mean((0, 1), keepdim=True) for part in (causal, rest, competing))
    counted = selection.counted  # (B, R)
    num_causal = selection.num_causal.clamp_min(1)
    num_visible = torch.maximum(selection.num_visible, num_causal + 1)  # the bounds matter in rows that do not count
    weights = causal_weights.masked_fill(selection.causal_keys < 0, 0.0)
    prior = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
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
