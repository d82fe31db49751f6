"""Load an adapter that peft saved, on top of its base model.

The base may have fewer embeddings than the adapter was trained with, where tokens were added to it: peft then saves all
rows with the adapter, and the base gets as many before they are put into place.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cattune.errors import ConfigError
from cattune.models.source import NotThereError, Source, locate
from cattune.models.weights import load_weights

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import Tensor
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

_PREFIX = "base_model.model."
"""Stands before the base model's own names in the weights of an adapter."""


def is_adapter(source: Source) -> bool:
    """Whether it holds an adapter and no whole model."""
    from transformers.utils.peft_utils import find_adapter_config_file

    if source.has("config.json"):
        return False
    with source.reading("model"):
        return find_adapter_config_file(source.path, local_files_only=source.is_folder) is not None


def read_config(source: Source) -> PeftConfig:
    """The adapter's configuration.

    Raises:
        ConfigError: peft is not installed, or the configuration is no causal language model's.
    """
    try:
        from peft import PeftConfig
    except ImportError as error:
        raise ConfigError(
            f"{source.name!r} holds an adapter, which needs the extra: pip install 'causal-attention-tuning[peft]'"
        ) from error
    config: PeftConfig = source.load(PeftConfig, "adapter")
    if config.task_type not in (None, "CAUSAL_LM"):
        raise ConfigError(f"the adapter {source.name!r} is for {config.task_type}; expected one for CAUSAL_LM")
    return config


def base_of(source: Source, config: PeftConfig) -> Source:
    """The adapter's base model: its path as it was given, or as seen from the adapter's folder, or its hub name.

    Raises:
        ConfigError: there is no such folder or name, or the base model is itself an adapter.
    """
    name = config.base_model_name_or_path
    if not name:
        raise ConfigError(
            f"the adapter {source.name!r} does not say which base model it is for; write the base model's folder or "
            "name into its adapter_config.json, as base_model_name_or_path"
        )
    beside = os.path.join(source.path, name)
    try:
        if source.is_folder and os.path.isdir(beside) and not os.path.isdir(name):
            name = beside
        base = locate(name, "model", source.trust_remote_code)
    except ConfigError as error:
        raise _missing(source, name, error) from error
    if is_adapter(base):
        raise ConfigError(
            f"the adapter {source.name!r} is for {name!r}, which is itself an adapter; merge that one into its base "
            "model and save the result there"
        )
    return base


def load_adapter(source: Source, trainable: bool, **options: Any) -> PreTrainedModel:
    """The base model with the adapter in it, as a `PeftModel`.

    Args:
        source: of the adapter.
        trainable: whether it is to be trained further.
        **options: for the base model's `from_pretrained`.

    Raises:
        ConfigError: the base model or the adapter is not there, cannot be read, or the two do not fit.
    """
    from transformers import GenerationConfig

    config = read_config(source)
    base_source = base_of(source, config)
    if config.revision is not None and not base_source.is_folder:
        options["revision"] = config.revision
    try:
        base = load_weights(base_source, "base model", **options)
    except NotThereError as error:
        raise _missing(source, base_source.name, error) from error
    from peft import PeftModel
    from peft.utils import load_peft_weights

    if source.has("generation_config.json"):  # the tokens to stop at, which the base's own need not name
        base.generation_config = source.load(GenerationConfig, "generation settings")
    with source.reading("adapter"):
        rows = _embedding_rows(load_peft_weights(source.path, device="cpu"), base)
        if rows is not None and rows != base.get_input_embeddings().weight.shape[0]:
            base.resize_token_embeddings(rows, mean_resizing=False)
        model: PreTrainedModel = PeftModel.from_pretrained(base, source.path, is_trainable=trainable)
    return model


def with_base(model: PreTrainedModel) -> PreTrainedModel:
    """The model as it can be saved: an adapter whose base is stored nowhere is merged into it.

    The adapter alone would be of no use, and a path to a base beside it would break where the folder is moved.
    """
    from peft import PeftModel

    if not isinstance(model, PeftModel) or model.get_base_model().name_or_path:
        return model
    logger.warning("the base model is stored nowhere: the adapter is merged into it, and the whole model is saved")
    merged: PreTrainedModel = model.merge_and_unload()
    return merged


def _embedding_rows(weights: Mapping[str, Tensor], base: PreTrainedModel) -> int | None:
    """The number of tokens that the adapter was trained with, if its weights tell."""
    layers = [layer for layer in (base.get_input_embeddings(), base.get_output_embeddings()) if layer is not None]
    names = [_PREFIX + name for name, module in base.named_modules() if any(module is layer for layer in layers)]
    for key, tensor in weights.items():
        for name in names:
            part = key.removeprefix(f"{name}.")
            if part in ("weight", "lora_B.weight") or (part != key and part.endswith("base_layer.weight")):
                return int(tensor.shape[0])
            if part == "lora_embedding_A":
                return int(tensor.shape[1])
    return None


def _missing(source: Source, base: str, error: ConfigError) -> ConfigError:
    return ConfigError(
        f"the base model {base!r} of the adapter {source.name!r} is not there: {error}; where it has moved, write its "
        "place into adapter_config.json, as base_model_name_or_path"
    )
