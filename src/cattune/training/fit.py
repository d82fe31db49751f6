"""Whether a model has an embedding for every token and every position that it is given.

One that has not fails in the middle of an epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
from datasets import Dataset
from torch import nn

from cattune.errors import ConfigError
from cattune.models.embeddings import check_token_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from cattune.supervision.dataset import FeatureData

_OFFSET = 2
"""Some tables of positions have so many rows more than positions (OPT, BioGPT)."""


def check_fit(features: FeatureData, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse examples that the model has no embeddings for.

    Args:
        features: of a data set, at least one.
        name: the data set's, for errors.
        model: what is to be trained or evaluated.
        tokenizer: what the ids come from.

    Raises:
        ConfigError: a token id or a position has no embedding.
    """
    largest, longest = _extremes(features)
    check_token_id(largest, name, model, tokenizer)
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest > room and _has_table_of_positions(model, room):
        raise ConfigError(
            f"{name} has an example of {longest} tokens, and {type(model).__name__} has {room} positions; set "
            f"max_length to {room}, or leave the long examples out"
        )


def _extremes(features: FeatureData) -> tuple[int, int]:
    """The largest token id and the largest number of tokens."""
    if isinstance(features, Dataset):  # read along, as it may lie on the disk
        chunks = [chunk for chunk in features.data.column("input_ids").chunks if len(chunk.flatten())]
        return (
            max(pc.max(chunk.flatten()).as_py() for chunk in chunks),
            max(pc.max(pc.list_value_length(chunk)).as_py() for chunk in chunks),
        )
    ids: list[Any] = [feature["input_ids"] for feature in features]
    return max(map(max, ids)), max(map(len, ids))


def _has_table_of_positions(model: PreTrainedModel, room: int) -> bool:
    words = model.get_input_embeddings()
    tables = (module for module in model.modules() if isinstance(module, nn.Embedding) and module is not words)
    return any(0 <= table.num_embeddings - room <= _OFFSET for table in tables)
