"""Captures what selected rows of a batch pay to their keys, beside a model's forward pass, which runs as usual."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import nn
from torch._dynamo import config as dynamo

from cattune.attention.architecture import attention_modules
from cattune.attention.backends import AttentionCall, observing
from cattune.attention.rows import LayerInput, RowMass
from cattune.attention.selection import LayerMask, RowSelection
from cattune.attention.tiles import attend_rows
from cattune.errors import ConfigError

_UNSUPPORTED = {
    "position_bias": "a position bias",
    "sinks": "sinks that depend on the content",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}
"""Options of a call that change its softmax in a way that is not computed here."""


class MaskGroup(NamedTuple):
    """The captured layers that see the same keys.

    Attributes:
        layers: their indices.
        selection: the supervised rows as these layers see them.
        mass: what the rows pay in each of them.
    """

    layers: tuple[int, ...]
    selection: RowSelection
    mass: RowMass


class RowCapture:
    """Collects, layer by layer, what the selected rows' attention is computed from.

    Args:
        selection: the rows.
        masks: the layers to capture, and how far back each sees.
        heads: head indices, negative ones from the end; None for all.
        average_heads: give each layer's mean over heads and not each head.
        grad: whether gradients flow through what is captured.
        at_once: compute in the layer's own forward. Backward then has the gradients of one layer's queries and keys at
            a time, and nothing is kept that would not be kept otherwise. Else all layers are computed together at the
            end, with fewer and larger operations.
    """

    def __init__(
        self,
        selection: RowSelection,
        masks: Mapping[int, LayerMask],
        *,
        heads: Sequence[int] | None = None,
        average_heads: bool = False,
        grad: bool,
        at_once: bool,
    ) -> None:
        self.masks = masks
        self.heads = None if heads is None else list(heads)
        self.average_heads = average_heads
        self.grad = grad
        self.at_once = at_once
        self._selections = {mask: selection.within(mask) for mask in dict.fromkeys(masks.values())}
        self._layers = {layer: _Layer(self, layer) for layer in masks}

    @contextmanager
    def observe(self, model: nn.Module) -> Iterator[None]:
        """Captures while the context is open; where gradients are wanted, it stays open until after backward."""
        modules = attention_modules(model)
        with ExitStack() as observers:
            # Of checkpointed layers that are compiled, only the first pass is captured: the loss is built on that one.
            observers.enter_context(dynamo.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=True))
            for index, layer in self._layers.items():
                observers.enter_context(observing([modules[index]], layer))
            yield

    def groups(self) -> Iterator[MaskGroup]:
        """The mask groups with what was captured.

        Raises:
            ConfigError: a layer was not captured; says which, and why.
        """
        missing = [index for index, layer in self._layers.items() if not layer.is_captured()]
        if missing:
            raise ConfigError(
                f"layers {missing} cannot be captured: layer {missing[0]} uses {self._layers[missing[0]].refused}; "
                "choose other layers with `layers`, or set gamma to 0 for plain fine-tuning"
            )
        for mask, selection in self._selections.items():
            group = [layer for index, layer in self._layers.items() if self.masks[index] == mask]
            if self.at_once:
                home = selection.query_rows.device
                masses = zip(*(layer.mass for layer in group if layer.mass is not None), strict=True)
                mass = RowMass(*(torch.cat([part.to(home) for part in kind]) for kind in masses))
            else:
                inputs = [layer.inputs for layer in group if layer.inputs is not None]
                for layer in group:
                    layer.inputs = None
                mass = self.attend(inputs, selection)
            yield MaskGroup(tuple(index for index in self.masks if self.masks[index] == mask), selection, mass)

    @torch.compiler.disable
    def attend(self, layers: Sequence[LayerInput], selection: RowSelection) -> RowMass:
        """What the rows pay in layers of one mask group."""
        with torch.set_grad_enabled(self.grad and torch.is_grad_enabled()):
            return attend_rows(layers, selection, self.average_heads)

    def selection_of(self, layer: int) -> RowSelection:
        """The rows as a layer sees them."""
        return self._selections[self.masks[layer]]


class _Layer:
    """Observes one layer. What its compiled code reads is the same in all layers, so that they can share the code.

    Attributes:
        inputs, window: what the layer's attention is computed from, and the window that its kernel is told.
        mass: what the rows pay, where that is computed at once.
        refused: why the layer cannot be captured.
    """

    def __init__(self, capture: RowCapture, index: int) -> None:
        self.capture = capture
        self.index = index
        self.inputs: LayerInput | None = None
        self.window: int | None = None
        self.mass: RowMass | None = None
        self.refused = "attention outside transformers' attention interface"

    def __call__(self, call: AttentionCall) -> None:
        """Takes a layer's queries and keys, or notes why that cannot be done."""
        reasons = _unsupported_options(call)
        if self.capture.grad and not torch.is_grad_enabled():
            reasons.append("reentrant gradient checkpointing, which gives captured attention no gradient")
        if reasons:
            self.refused = " and ".join(reasons)
            return
        taken = read_layer(call)
        if self.capture.heads is not None:
            taken = taken.pick(self.capture.heads)
        # Gradient checkpointing runs the forward again in backward. It must do the same work there, so that the saved
        # tensors match, but the loss was built on what came first.
        if self.capture.at_once:
            self._attend(taken, call.options.get("sliding_window"))
        elif self.inputs is None:
            self.inputs, self.window = taken, call.options.get("sliding_window")

    @torch.compiler.disable
    def _attend(self, taken: LayerInput, window: int | None) -> None:
        if self._fits(taken, window):
            mass = self.capture.attend([taken], self.capture.selection_of(self.index))
            self.mass = mass if self.mass is None else self.mass

    def is_captured(self) -> bool:
        """Asked after the forward pass; says in `refused` why not."""
        return self.mass is not None or (self.inputs is not None and self._fits(self.inputs, self.window))

    def _fits(self, taken: LayerInput, window: int | None) -> bool:
        """Whether the lengths are the batch's. Not asked in compiled code, which would be compiled for each length."""
        lengths = taken.query.shape[2], taken.key.shape[2], self.capture.selection_of(self.index).length
        if reasons := _unsupported_lengths(*lengths, window, self.capture.masks[self.index]):
            self.refused = " and ".join(reasons)
        return not reasons


def read_layer(call: AttentionCall) -> LayerInput:
    """What the captured rows are computed from."""
    scaling, sinks = call.options.get("scaling"), call.options.get("s_aux")
    return LayerInput(
        call.query,
        call.key,
        call.query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        call.options.get("softcap"),
        # A copy: the sinks are a parameter, which `fully_shard` frees between a layer's forward and its backward.
        None if sinks is None else sinks.clone(),
    )


def unsupported(call: AttentionCall, length: int, mask: LayerMask) -> list[str]:
    """What this call does that the captured softmax over an interval of keys would not."""
    lengths = call.query.shape[2], call.key.shape[2], length
    return _unsupported_options(call) + _unsupported_lengths(*lengths, call.options.get("sliding_window"), mask)


def _unsupported_options(call: AttentionCall) -> list[str]:
    reasons = [what for name, what in _UNSUPPORTED.items() if call.options.get(name) is not None]
    is_causal = call.options.get("is_causal")
    if not (getattr(call.module, "is_causal", True) if is_causal is None else is_causal):
        reasons.append("attention that is not causal")
    return reasons


def _unsupported_lengths(queries: int, keys: int, length: int, window: int | None, mask: LayerMask) -> list[str]:
    reasons = []
    if window is not None and window < length and window != mask.window:
        reasons.append(f"a sliding window of {window}, where its configuration says {mask}")
    if not queries == keys == length:
        reasons.append(
            f"{queries} queries and {keys} keys for {length} positions (a cache, or virtual tokens of an adapter?)"
        )
    return reasons
