"""Whether a model has an embedding for each token that its tokenizer writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from cattune.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_token_id(largest: int, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse token ids that the model has no embedding for; on a GPU it would fail without a word of what was wrong.

    Args:
        largest: the largest token id.
        name: what has it, for the error.
        model: what is to read it.
        tokenizer: what it comes from.

    Raises:
        ConfigError: the model does not know it.
    """
    # Adapters wrap the table. Its weight may be spread over devices, and its rows are then none here.
    tables = (module for module in model.get_input_embeddings().modules() if isinstance(module, nn.Embedding))
    known = next((table.num_embeddings for table in tables), None)
    if known is not None and largest >= known:
        raise ConfigError(
            f"{name} has token id {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}), and {type(model).__name__} "
            f"knows ids below {known}: they do not belong together; give the tokenizer that the model was trained "
            "with, or, where tokens were added to it, call model.resize_token_embeddings(len(tokenizer)) and save both"
        )
