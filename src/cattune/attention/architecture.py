"""What a model says of its attention layers: which there are, how far back each sees, and which cannot be captured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import nn
from torch._dynamo import OptimizedModule
from transformers import PreTrainedModel

from cattune.attention.selection import LayerMask
from cattune.errors import ConfigError

_MASKS = {
    "full_attention": "full",
    "hybrid": "full",  # softmax attention beside or after a linear one
    "sliding_attention": "sliding",
    "hybrid_sliding": "sliding",
    "chunked_attention": "chunked",
}
"""The kinds of layer, by their names in `config.layer_types`, whose rows see an interval of keys."""

_WINDOWS = ("sliding_window", "sliding_window_size", "attention_window_size")
"""What configurations call the window of a sliding layer."""

_SPARSE = "its layers pick the keys of each row by their content"
_BIASED = "it adds a bias that depends on the content to its attention mask"
REFUSED = {
    "axk2": _SPARSE,
    "deepseek_v32": _SPARSE,
    "deepseek_v4": _SPARSE,
    "diffllama": "its attention is the difference of two softmaxes, which is no distribution over keys",
    "doge": _BIASED,
    "dots3_note": _SPARSE,
    "glm_moe_dsa": _SPARSE,
    "hrm_text": "it runs each layer several times in a forward pass",
    "hy_v4": _SPARSE,
    "minimax_m3_vl": _SPARSE,
    "qwen4_exp": _SPARSE,
}
"""Model types that go through transformers' attention interface and cannot be captured all the same, and why."""


def attention_modules(model: nn.Module) -> dict[int, nn.Module]:
    """The decoder's self-attention modules by layer index (adapters and wrappers are looked through).

    Raises:
        ConfigError: two of them claim the same layer.
    """
    found: dict[int, nn.Module] = {}
    for name, module in model.named_modules():
        layer = getattr(module, "layer_idx", None)
        if not isinstance(layer, int) or layer < 0 or not type(module).__name__.endswith(("Attention", "MLA")):
            continue
        if not hasattr(module, "config") or "vision" in name or "audio" in name:
            continue
        if layer in found:
            raise ConfigError(f"{name} and another module are both attention of layer {layer}: not a plain decoder")
        found[layer] = module
    return found


def is_checkpointing(model: nn.Module) -> bool:
    """Whether gradient checkpointing is on (under the one name that all supported transformers versions know)."""
    return any(getattr(module, "gradient_checkpointing", False) for module in model.modules())


def is_compiled(model: nn.Module) -> bool:
    """Whether the model, or a part of it, runs through `torch.compile`."""
    return any(isinstance(module, OptimizedModule) or module._compiled_call_impl for module in model.modules())


def sees_padding(model: PreTrainedModel) -> bool:
    """Whether what the model computes for a text depends on the padding behind it: where content picks the keys."""
    return REFUSED.get(model.config.get_text_config().model_type) in (_SPARSE, _BIASED)


def layer_masks(model: PreTrainedModel, layers: Sequence[int] | None = None) -> dict[int, LayerMask]:
    """How far back each chosen layer sees, by ascending layer.

    Args:
        layers: layer indices, negative ones from the end; None for every layer with softmax attention.

    Raises:
        ConfigError: the model's attention cannot be captured, or a chosen layer has none.
    """
    config = model.config.get_text_config()
    name = type(model).__name__
    if reason := REFUSED.get(config.model_type):
        raise ConfigError(f"{name} cannot be captured: {reason}; set gamma to 0 for plain fine-tuning")
    modules = {} if model.config.is_encoder_decoder else attention_modules(model)
    if not modules:
        raise ConfigError(
            f"{name} has no attention that goes through transformers' attention interface, or is no decoder; it cannot "
            "be captured (docs/capture.md lists the models that can)"
        )
    for module in modules.values():
        if not hasattr(_source(module), "ALL_ATTENTION_FUNCTIONS"):
            raise ConfigError(
                f"{type(module).__name__} computes its attention by itself, outside transformers' attention interface, "
                "and cannot be captured; docs/capture.md lists the models that can"
            )
    count = max(config.num_hidden_layers, *(layer + 1 for layer in modules))
    kinds = {layer: _layer_type(config, module, layer) for layer, module in modules.items()}
    usable = sorted(layer for layer, kind in kinds.items() if kind in _MASKS)
    chosen = usable if layers is None else sorted({layer + count if layer < 0 else layer for layer in layers})
    if unknown := [layer for layer in chosen if not 0 <= layer < count]:
        raise ConfigError(f"layers {unknown}: the model has layers 0 to {count - 1} (negative counts from the end)")
    if wrong := [layer for layer in chosen if layer not in usable]:
        kind = kinds.get(wrong[0], "no attention")
        raise ConfigError(f"layers {wrong} cannot be captured ({kind}); choose among {usable} with `layers`")
    if not chosen:
        raise ConfigError(f"no layer of {name} can be captured: they are {', '.join(sorted(set(kinds.values())))}")
    return {layer: _mask(config, kinds[layer]) for layer in chosen}


def _source(module: nn.Module) -> ModuleType:
    """The file that a module's forward is written in (`fully_shard` puts its own class before the model's)."""
    kind = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
    return sys.modules[kind.__module__]


def _layer_type(config: Any, module: nn.Module, layer: int) -> str:
    types = getattr(config, "layer_types", None)
    slides = bool(getattr(config, "sliding_window", None))
    if config.model_type == "minimax" and slides and types and types[layer] == "full_attention":
        return "sliding_attention"  # its softmax layers all slide
    if types and layer < len(types):
        return str(types[layer])
    # Without layer types all layers slide or none does: some configurations have a window that no mask is made from.
    makes_windows = hasattr(_source(module), "create_sliding_window_causal_mask")
    return "sliding_attention" if slides and makes_windows else "full_attention"


def _mask(config: Any, kind: str) -> LayerMask:
    if _MASKS[kind] == "sliding":
        window = next(w for n in _WINDOWS if (w := getattr(config, n, None)) is not None)
        return LayerMask(window=int(window))
    return LayerMask(chunk=int(config.attention_chunk_size)) if _MASKS[kind] == "chunked" else LayerMask()
