"""What a model's answer reads: the attention of the row that predicts the first token of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from cattune.attention import inspect_rows
from cattune.data.examples import Example
from cattune.evaluation.evaluate import SplitResult
from cattune.tasks.stg import Game, find_record


def attention_strips(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    game: Game,
    result: SplitResult,
) -> list[dict[str, Any]]:
    """One heat-strip a example: the prompt's tokens, which of them are causal or spurious, and the attention to each.

    Args:
        examples: of a game, each with a prompt.
        result: the evaluation that holds a sample for each of them.

    Returns:
        Dicts with `id`, `target`, `prediction`, `correct`, `tokens`, `kinds` ("cause", "spurious" or ""), and
        `attention`, the mean over layers and heads.
    """
    samples = {sample.id: sample for sample in result.samples}
    device = next(model.parameters()).device
    strips = []
    for example in examples:
        prompt = example.prompt or ""
        encoding = tokenizer(prompt.rstrip(), return_offsets_mapping=True)
        ids, offsets = encoding["input_ids"], encoding["offset_mapping"]
        rows = torch.tensor([[len(ids) - 1]], device=device)
        attention = inspect_rows(model, torch.tensor([ids], device=device), rows).mean((0, 2))[0, 0]  # (S,)
        roles = {
            position: found.attribute.role
            for found in find_record(prompt, game, f"example {example.id!r}")
            for position in range(found.start, found.end)
        }
        kinds = [next((roles[i] for i in range(start, end) if i in roles), "") for start, end in offsets]
        sample = samples[example.id]
        strips.append(
            {
                "id": example.id,
                "target": example.target,
                "prediction": sample.prediction,
                "correct": sample.exact,
                "tokens": [
                    prompt[start:end] or tokenizer.decode([i]) for i, (start, end) in zip(ids, offsets, strict=True)
                ],
                "kinds": [kind if kind in ("cause", "spurious") else "" for kind in kinds],
                "attention": attention.tolist(),
            }
        )
    return strips
