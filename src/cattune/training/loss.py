"""The cross-entropy of a batch's completions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cattune.supervision.rows import IGNORED


def completion_cross_entropy(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy of the labelled tokens, summed and divided by `num_items_in_batch`, or their mean without it.

    For models whose own loss does not know `num_items_in_batch`.

    Args:
        outputs: the model's, with logits (B, S, V).
        labels: (B, S), -100 where there is none; the logits at t - 1 predict the label at t.
    """
    logits = outputs["logits"][:, :-1].flatten(0, 1).float()
    total = nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
    return total / ((labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
