"""Pads ids, labels and supervision of a batch together, and keeps rows and keys pointing at their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from cattune.errors import ConfigError
from cattune.supervision.rows import IGNORED


class CausalCollator:
    """Turns features of `encode_examples` into one batch of tensors.

    Args:
        pad_token_id: what fills `input_ids`; the attention mask hides it.
        padding_side: "right" or "left"; left padding moves rows and keys along with their tokens, and adds the
            `position_ids` of each example by itself, for the many models that do not count them from the mask.
        pad_to_multiple_of: round the sequence length up to a multiple of this, None leaves it.
        padding_free: join the batch's examples into one row and tell them apart by `position_ids`, which start again
            from 0, in place of an `attention_mask`; nothing is padded but the rows' keys.

    Raises:
        ConfigError: a setting is out of range.
    """

    def __init__(
        self,
        pad_token_id: int,
        padding_side: Literal["right", "left"] = "right",
        pad_to_multiple_of: int | None = None,
        padding_free: bool = False,
    ) -> None:
        if padding_side not in ("right", "left"):
            raise ConfigError(f"padding_side is {padding_side!r}; expected 'right' or 'left'")
        if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
            raise ConfigError(f"pad_to_multiple_of is {pad_to_multiple_of}; expected 1 or more, or None")
        if pad_token_id is None or pad_token_id < 0:
            raise ConfigError(f"pad_token_id is {pad_token_id}; expected a token id; set tokenizer.pad_token")
        if padding_free and pad_to_multiple_of is not None:
            raise ConfigError("padding_free leaves nothing to pad to a multiple; give one of the two")
        self.pad_token_id = pad_token_id
        self.padding_free = padding_free
        self.padding_side = padding_side
        self.pad_to_multiple_of = pad_to_multiple_of

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad a batch of B features to S tokens, R rows and K keys (R, K at least 1).

        Returns:
            `input_ids`, `attention_mask`, `labels` (B, S) long; `query_rows` (B, R) long and `causal_keys` (B, R, K)
            long, -1 where padded; `causal_weights` (B, R, K) float32, 0 where padded; `label_rows` (B, N) long, the
            positions whose next token is a label, -1 where padded; `content` (B, S) bool, if the features have it, and
            `position_ids` (B, S) long, from 0 at each example's first token, with padding on the left. With
            `padding_free` B is 1 and `position_ids` (1, S) stands for `attention_mask`.
        """
        if self.padding_free:
            return self._pad([_joined(features)], np.concatenate([np.arange(len(f["input_ids"])) for f in features]))
        return self._pad(features)

    def _pad(
        self, features: Sequence[Mapping[str, Any]], position_ids: np.ndarray | None = None
    ) -> dict[str, torch.Tensor]:
        lengths = np.array([len(feature["input_ids"]) for feature in features])
        step = self.pad_to_multiple_of or 1
        width = -(-int(lengths.max()) // step) * step
        shifts = width - lengths if self.padding_side == "left" else np.zeros_like(lengths)
        columns = np.arange(width)
        real = (columns >= shifts[:, None]) & (columns < (shifts + lengths)[:, None])  # (B, S)

        def tokens(name: str, fill: int, dtype: Any = np.int64) -> torch.Tensor:
            padded = np.full(real.shape, fill, dtype)
            padded[real] = np.concatenate([np.asarray(feature[name], dtype) for feature in features])
            return torch.from_numpy(padded)

        batch = {
            "input_ids": tokens("input_ids", self.pad_token_id),
            "labels": tokens("labels", IGNORED),
            **_supervision(features, shifts),
        }
        batch["label_rows"] = _label_rows(batch["labels"].numpy())
        if position_ids is None:
            batch["attention_mask"] = torch.from_numpy(real.astype(np.int64))
            if self.padding_side == "left":
                batch["position_ids"] = torch.from_numpy((columns - shifts[:, None]).clip(0))
        else:
            batch["position_ids"] = torch.from_numpy(position_ids).unsqueeze(0)
        if all("content" in feature for feature in features):
            batch["content"] = tokens("content", 0, np.bool_)
        return batch


def example_numbers(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(B, S): which example of the batch each token belongs to, from 0."""
    if "attention_mask" not in batch:
        return batch["position_ids"].eq(0).cumsum(1) - 1
    ids = batch["input_ids"]
    return torch.arange(len(ids), device=ids.device).unsqueeze(1).expand_as(ids)


def without_tokens(batch: dict[str, Any], tokens: torch.Tensor) -> dict[str, Any]:
    """The batch without the labels and the supervised rows of some tokens, (B, S) bool."""
    rows = batch["query_rows"]
    return batch | {
        "query_rows": rows.masked_fill(tokens.gather(1, rows.clamp_min(0)), -1),
        "labels": batch["labels"].masked_fill(tokens, IGNORED),
    }


def _joined(features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One feature with the tokens of all, one after the other, and rows and keys that point at theirs."""
    joined: dict[str, Any] = {name: [] for name in features[0]}
    for feature in features:
        start = len(joined["input_ids"])
        joined["input_ids"] += feature["input_ids"]
        # The first label is never predicted, least of all from the example before.
        joined["labels"] += [IGNORED, *feature["labels"][1:]]
        joined["query_rows"] += [row + start for row in feature["query_rows"]]
        joined["causal_keys"] += [[key + start for key in keys] for keys in feature["causal_keys"]]
        joined["causal_weights"] += feature["causal_weights"]
        if "content" in joined:
            joined["content"] += feature["content"]
    return joined


def _label_rows(labels: np.ndarray) -> torch.Tensor:
    """Found here and not where they are used, since a GPU would have to be waited for to know how many there are."""
    predicts = labels[:, 1:] != IGNORED  # (B, S - 1)
    counts = predicts.sum(1)
    rows = np.full((len(labels), max(1, int(counts.max()))), -1, np.int64)
    rows[np.arange(rows.shape[1]) < counts[:, None]] = predicts.nonzero()[1]
    return torch.from_numpy(rows)


def _supervision(features: Sequence[Mapping[str, Any]], shifts: np.ndarray) -> dict[str, torch.Tensor]:
    """Rows and keys padded to the batch's largest, moved by each example's left padding."""
    row_counts = np.array([len(feature["query_rows"]) for feature in features])  # (B,)
    keys_by_row = [keys for feature in features for keys in feature["causal_keys"]]
    weights_by_row = [weights for feature in features for weights in feature["causal_weights"]]
    key_counts = np.zeros((len(features), max(1, int(row_counts.max()))), np.int64)  # (B, R)
    has_row = np.arange(key_counts.shape[1]) < row_counts[:, None]
    key_counts[has_row] = [len(keys) for keys in keys_by_row]
    has_key = np.arange(max(1, int(key_counts.max()))) < key_counts[:, :, None]  # (B, R, K)

    query_rows = np.full(has_row.shape, -1, np.int64)
    query_rows[has_row] = [row for feature in features for row in feature["query_rows"]]
    causal_keys = np.full(has_key.shape, -1, np.int64)
    causal_keys[has_key] = [key for keys in keys_by_row for key in keys]
    causal_weights = np.zeros(has_key.shape, np.float32)
    causal_weights[has_key] = [weight for weights in weights_by_row for weight in weights]

    query_rows += np.where(has_row, shifts[:, None], 0)
    causal_keys += np.where(has_key, shifts[:, None, None], 0)
    return {
        "query_rows": torch.from_numpy(query_rows),
        "causal_keys": torch.from_numpy(causal_keys),
        "causal_weights": torch.from_numpy(causal_weights),
    }
