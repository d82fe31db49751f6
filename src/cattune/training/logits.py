"""Logits at the positions that predict a label, and at no others.

An answer is two or three tokens of sixty, and a pretrained model's head, hidden size x vocabulary, is a fifth to three
fifths of a step. What is left out here changes no loss: positions without a label have no part in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.loss.loss_utils import ForCausalLMLoss

from cattune.supervision.rows import IGNORED
from cattune.training.loss import completion_cross_entropy

WORTHWHILE = 2**20
"""So many logits must be saved: choosing fewer takes longer than computing them, as where the model is `tiny`."""


def for_loss_alone(trainer: Trainer, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch as `at_labels` gives it, where that is worth it and nobody but the trainer's own loss sees the logits.

    Args:
        trainer: its model is asked; what its user gave it to compute the loss with gets all logits.
        batch: the collator's.
    """
    is_ours = trainer.label_smoother is None and trainer.compute_loss_func in (None, completion_cross_entropy)
    if not is_ours or "label_rows" not in batch or "shift_labels" in batch:  # the latter if a sequence is split up
        return batch
    rows = batch["label_rows"]
    count, length = batch["labels"].shape
    vocabulary = getattr(trainer.model.config.get_text_config(), "vocab_size", 0)
    spared = count * (length - rows.shape[1] - 1)  # positions, at most
    if spared * vocabulary < WORTHWHILE:
        return batch
    dimensions = dimensions_to_keep(trainer.accelerator.unwrap_model(trainer.model))
    if dimensions == 1:
        spared = count * (length - rows.numel() - 1)
    return at_labels(batch, rows, dimensions) if dimensions and spared * vocabulary >= WORTHWHILE else batch


def dimensions_to_keep(model: Any) -> int:
    """How many dimensions the `logits_to_keep` of a model may have: how finely it can be told what to compute.

    Only of models that leave their loss to transformers' own causal loss function, since others may look at more than
    logits and labels (some of transformers 5.16 take the attention mask of the *last* positions).

    Args:
        model: a model of transformers, or a PEFT model around one.

    Returns:
        2: positions for each sequence of a batch; 1: the same for all; 0: no positions, it computes all logits.
    """
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return 0  # its virtual tokens move all positions
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    if getattr(model, "loss_function", None) is not ForCausalLMLoss:
        return 0
    code = getattr(inspect.unwrap(model.forward), "__code__", None)
    parameter = inspect.signature(model.forward).parameters.get("logits_to_keep")
    if (
        code is None
        or "loss_function" not in code.co_names
        or "Tensor" not in str(getattr(parameter, "annotation", ""))
    ):
        return 0
    return 2 if "slice_logits_to_keep" in code.co_names else 1


def at_labels(batch: Mapping[str, Tensor], label_rows: Tensor, dimensions: int) -> dict[str, Any]:
    """A batch that asks the model for the logits of its label rows alone, with the labels that these predict.

    Labels are one to the right of the logits that predict them, as a causal loss expects. So there is one position
    more, whose logits predict nothing.

    Args:
        batch: with `labels` (B, S), -100 where there is none.
        label_rows: (B, N) positions whose next token is a label, -1 where padded.
        dimensions: what `dimensions_to_keep` says, 1 or 2.

    Returns:
        The batch with `labels` (B, N + 1) and `logits_to_keep` (B, N + 1); with one dimension, where every sequence
        gets the others' rows too, (B, B N + 1) and (B N + 1).

    >>> batch = {"labels": torch.tensor([[-100, 7, 8, -100], [-100, -100, -100, 9]])}
    >>> rows = torch.tensor([[0, 1], [2, -1]])
    >>> {name: value.tolist() for name, value in at_labels(batch, rows, 2).items()}
    {'labels': [[-100, 7, 8], [-100, 9, -100]], 'logits_to_keep': [[0, 1, 0], [2, 0, 0]]}
    >>> {name: value.tolist() for name, value in at_labels(batch, rows, 1).items()}
    {'labels': [[-100, 7, 8, -100, -100], [-100, -100, -100, 9, -100]], 'logits_to_keep': [0, 1, 2, 0, 0]}
    """
    count, width = label_rows.shape
    labels = batch["labels"].gather(1, label_rows + 1).masked_fill(label_rows < 0, IGNORED)
    rows = label_rows.clamp_min(0)
    if dimensions == 1:
        own = torch.eye(count, dtype=torch.bool, device=rows.device).repeat_interleave(width, 1)  # (B, B N)
        labels = labels.repeat(1, count).masked_fill(~own, IGNORED)
        rows = rows.flatten()
    return {
        **batch,
        "labels": nn.functional.pad(labels, (1, 0), value=IGNORED),
        "logits_to_keep": nn.functional.pad(rows, (0, 1)),
    }
