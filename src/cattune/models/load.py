"""Load a causal language model, whole or base and adapter, and its tokenizer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cattune.models import adapters
from cattune.models.source import locate
from cattune.models.weights import load_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(name: str | os.PathLike[str], trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load a tokenizer; of an adapter's folder that has none, its base model's.

    Args:
        name: a folder, or a name on the hub.
        trust_remote_code: whether code that comes with it may run.

    Raises:
        ConfigError: there is none, it cannot be read, or it brings code that may not run.
    """
    from transformers import AutoTokenizer

    source = locate(name, "tokenizer", trust_remote_code)
    if adapters.is_adapter(source) and not source.has("tokenizer_config.json", "tokenizer.json"):
        source = adapters.base_of(source, adapters.read_config(source))
    tokenizer: PreTrainedTokenizerBase = source.load(AutoTokenizer, "tokenizer")
    return tokenizer


def load_model(
    name: str | os.PathLike[str],
    *,
    trust_remote_code: bool = False,
    attn_implementation: str | None = None,
    dtype: str | None = None,
    trainable: bool = False,
) -> PreTrainedModel:
    """Load a causal language model, or an adapter on its base model.

    Args:
        name: a folder, or a name on the hub.
        trust_remote_code: whether code that comes with it, or with its base model, may run.
        attn_implementation: the attention backend; None as its configuration says.
        dtype: the precision of the weights ("bfloat16", ...); None as they were saved.
        trainable: whether an adapter is to be trained further.

    Raises:
        ConfigError: there is none, it cannot be read, lacks weights, or brings code that may not run.
    """
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    options["dtype"] = dtype or "auto"
    source = locate(name, "model", trust_remote_code)
    if adapters.is_adapter(source):
        return adapters.load_adapter(source, trainable, **options)
    return load_weights(source, "causal language model", **options)
