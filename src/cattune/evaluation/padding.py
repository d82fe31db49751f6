"""Whether prompts of different lengths can be answered in one batch.

transformers hides the padding from most models, by the attention mask and by positions that are counted from it. In
some it shows all the same: recurrent states run through it, or sparse layers choose it. Such a model answers prompts of
one length at a time, so that no answer depends on what else is in its batch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_PADDING, _STEPS = 8, 3
"""How much padding is tried, and for how many new tokens: some models show it only when they read from their cache."""

_TOLERANCE = 0.02
"""How far logits may lie apart, in deviations over the vocabulary. In the families of the tests rounding moves them by
up to 1e-5 in float32 and 0.005 in bfloat16, and padding that shows by 0.08 and more."""


def in_batches(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], batch_size: int, pad_id: int
) -> Iterator[list[int]]:
    """The numbers of the prompts that are answered at once, from the shortest prompts to the longest.

    Args:
        model: the model, as it will answer.
        prompts: their token ids.
        batch_size: the most prompts of a batch, >= 1.
        pad_id: the token that fills up the shorter ones.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    needs_padding = batch_size > 1 and len({len(ids) for ids in prompts}) > 1
    if needs_padding and not _hides_padding(model, prompts[order[-1]], pad_id):
        logger.info("padding changes what %s computes: prompts are answered by length", type(model).__name__)
        groups = [list(same) for _, same in groupby(order, key=lambda i: len(prompts[i]))]
    else:
        groups = [order]
    for group in groups:
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def _hides_padding(model: PreTrainedModel, ids: Sequence[int], pad_id: int) -> bool:
    """Whether the model continues a prompt in the same way where padding stands before it."""
    room = getattr(model.config, "max_position_embeddings", None) or len(ids) + _PADDING + _STEPS
    ids = ids[-max(1, room - _PADDING - _STEPS) :]
    try:
        (alone, logits), (padded, others) = (_continued(model, ids, size, pad_id) for size in (0, _PADDING))
    except torch.OutOfMemoryError:
        return True  # then the answers do not fit either, and that is said with what to do
    for step in range(_STEPS):
        difference = (logits[step] - others[step]).float().square().mean().sqrt()
        if not difference <= _TOLERANCE * logits[step].float().std():
            return False
        if alone[step] != padded[step]:  # a tie, and from here on they continue different texts
            break
    return True


def _continued(
    model: PreTrainedModel, ids: Sequence[int], padding: int, pad_id: int
) -> tuple[list[int], list[torch.Tensor]]:
    """The new tokens and the logits, (V) each, of a prompt after so many tokens of padding."""
    device = next(model.parameters()).device
    given = torch.tensor([[*[pad_id] * padding, *ids]], device=device)  # (1, S)
    mask = torch.ones_like(given)
    mask[:, :padding] = 0
    settings = GenerationConfig(
        do_sample=False,
        use_cache=True,
        max_new_tokens=_STEPS,
        pad_token_id=pad_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    with torch.inference_mode():
        output = model.generate(input_ids=given, attention_mask=mask, generation_config=settings)
    return output.sequences[0, given.shape[1] :].tolist(), [step[0] for step in output.logits]
