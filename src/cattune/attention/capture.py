"""Captures selected attention rows beside a model's forward pass.

transformers calls every layer's attention through a registry of functions. The entries for the backends that can be
captured are wrapped once a process: the wrapper runs the backend's own function unchanged and, where the attention
module carries a capture, also hands over the queries and keys. The capture travels on the module, because the
recomputation of gradient checkpointing may run in another thread, where a context variable would not be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from cattune.attention.rows import row_probabilities
from cattune.errors import ConfigError

CAPTURABLE = ("sdpa", "eager")
"""The attention implementations that can be captured."""

_ATTRIBUTE = "_cattune_capture"
_UNSUPPORTED = {
    "softcap": "soft-capped attention logits",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
    "cu_seq_lens_q": "packed sequences",
}


class RowCapture:
    """Collects, layer by layer, what `reduce` makes of the selected rows' probabilities.

    Args:
        query_rows: (B, R) positions, -1 = padding.
        visible: (B, R, S) bool.
        reduce: maps (B, H, R, S) probabilities to what is kept of them.
        layers: the layers to capture.
        grad: whether gradients flow through what is captured.
    """

    def __init__(
        self, query_rows: Tensor, visible: Tensor, reduce: Callable[[Tensor], Any], layers: Iterable[int], grad: bool
    ) -> None:
        self.query_rows = query_rows
        self.visible = visible
        self.reduce = reduce
        self.layers = frozenset(layers)
        self.grad = grad
        self._captured: dict[int, Any] = {}
        self._refused: dict[int, str] = {}

    def __call__(self, module: nn.Module, query: Tensor, key: Tensor, options: dict[str, Any]) -> None:
        """Captures what a layer's queries attend to, or notes why that cannot be done."""
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        if reasons := self._unsupported(key, options):
            self._refused[layer] = " and ".join(reasons)
            return
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        with (
            torch.set_grad_enabled(self.grad and torch.is_grad_enabled()),
            torch.autocast(query.device.type, enabled=False),
        ):
            reduced = self.reduce(row_probabilities(query, key, self.query_rows, self.visible, scaling))
        # Gradient checkpointing runs the forward again in backward. It must do the same work there, so that the saved
        # tensors match, but the loss was built on what came first.
        self._captured.setdefault(layer, reduced)

    def in_order(self) -> list[Any]:
        """What was captured, by ascending layer.

        Raises:
            ConfigError: a layer was not captured; says which, and why.
        """
        missing = sorted(self.layers - self._captured.keys())
        if missing:
            reason = self._refused.get(missing[0], "attention outside transformers' attention interface")
            raise ConfigError(
                f"layers {missing} cannot be captured: layer {missing[0]} uses {reason}; "
                "choose other layers with `layers`, or set gamma to 0 for plain fine-tuning"
            )
        return [self._captured[layer] for layer in sorted(self.layers)]

    def _unsupported(self, key: Tensor, options: dict[str, Any]) -> list[str]:
        """What this layer's attention does that a plain softmax over the visible keys does not."""
        length = self.visible.shape[-1]
        window = options.get("sliding_window")
        reasons = [what for name, what in _UNSUPPORTED.items() if options.get(name) is not None]
        if window is not None and window < length:
            reasons.append(f"a sliding window of {window}, shorter than the sequence of {length} tokens")
        if key.shape[2] != length:
            reasons.append(f"{key.shape[2]} keys for {length} positions (a cache in use?)")
        return reasons


def attention_modules(model: nn.Module) -> dict[int, nn.Module]:
    """The model's self-attention modules by layer index (adapters and wrappers are looked through)."""
    return {
        int(module.layer_idx): module  # type: ignore[arg-type]
        for module in model.modules()
        if type(module).__name__.endswith("Attention") and getattr(module, "layer_idx", None) is not None
    }


def check_capturable(model: PreTrainedModel, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Checks that the model's attention can be captured and resolves the choice of layers.

    Args:
        layers: layer indices, negative ones from the end; None for every layer.

    Returns:
        The chosen layers, ascending.

    Raises:
        ConfigError: the backend cannot be captured, the model has no attention module, or a layer does not exist.
    """
    implementation = model.config.get_text_config()._attn_implementation
    if implementation not in CAPTURABLE:
        raise ConfigError(
            f"attention implementation {implementation!r} cannot be captured; load the model with "
            f"attn_implementation set to one of {', '.join(CAPTURABLE)}"
        )
    available = attention_modules(model)
    if not available or model.config.is_encoder_decoder:
        raise ConfigError(f"{type(model).__name__} is not a decoder with attention modules that cattune knows")
    count = max(available) + 1
    chosen = range(count) if layers is None else [layer + count if layer < 0 else layer for layer in layers]
    unknown = sorted(set(chosen) - available.keys())
    if unknown and layers is not None:
        raise ConfigError(
            f"layers {list(layers)}: the model has layers 0 to {count - 1} (negative counts from the end)"
        )
    return tuple(sorted(set(chosen) & available.keys()))


@contextmanager
def capturing(model: nn.Module, capture: RowCapture) -> Iterator[RowCapture]:
    """Captures while the context is open; where gradients are wanted, it stays open until after backward."""
    _wrap_backends()
    modules = [module for layer, module in attention_modules(model).items() if layer in capture.layers]
    for module in modules:
        setattr(module, _ATTRIBUTE, capture)
    try:
        yield capture
    finally:
        for module in modules:
            delattr(module, _ATTRIBUTE)


def _wrap_backends() -> None:
    """Wraps the registry's entries, once a process: a module without a capture passes straight through."""
    for name in CAPTURABLE:
        backend = ALL_ATTENTION_FUNCTIONS.get(name)
        if not getattr(backend, "captures_rows", False):
            AttentionInterface.register(name, _wrapped(backend or _eager_of))


def _wrapped(backend: Callable[..., Any]) -> Callable[..., Any]:
    def attention(module: nn.Module, query: Tensor, key: Tensor, *args: Any, **options: Any) -> Any:
        capture = getattr(module, _ATTRIBUTE, None)
        if capture is not None:
            capture(module, query, key, options)
        return backend(module, query, key, *args, **options)

    attention.captures_rows = True  # type: ignore[attr-defined]
    return attention


def _eager_of(module: nn.Module, *args: Any, **options: Any) -> Any:
    """Each modeling file brings its own eager function, which the registry knows as the default only."""
    return sys.modules[type(module).__module__].eager_attention_forward(module, *args, **options)
