"""Looks on at the calls of a model's attention, whatever backend runs them.

Every attention layer of transformers asks one registry for the function that its configuration names. What the registry
gives is wrapped: it runs unchanged, and where the layer's module carries an observer, that is shown the call first. The
observer travels on the module, because the recomputation of gradient checkpointing may run in another thread, where a
context variable would not be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from cattune.errors import ConfigError

_ATTRIBUTE = "_cattune_observer"


class AttentionCall(NamedTuple):
    """One call of an attention function.

    Attributes:
        backend: the function, as transformers registered it.
        module: the attention module, with its `layer_idx`.
        query, key, value: (B, H, S, D), (B, G, S, D), (B, G, S, E).
        attention_mask: what the backend gets, in its own format; None where it needs none.
        options: all keyword arguments.
    """

    backend: Callable[..., Any]
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    attention_mask: Any
    options: dict[str, Any]

    @property
    def layer(self) -> int:
        """The layer's index."""
        return int(self.module.layer_idx)  # type: ignore[arg-type]


Observer: TypeAlias = Callable[[AttentionCall], None]


def check_backend(model: PreTrainedModel) -> str:
    """The name of the attention implementation that the model runs on.

    Raises:
        ConfigError: its calls cannot be observed.
    """
    name = model.config.get_text_config()._attn_implementation
    known = {"eager", *ALL_ATTENTION_FUNCTIONS.valid_keys()}
    usable = sorted(backend for backend in known if not backend.startswith("paged|"))
    if name not in usable:
        raise ConfigError(
            f"attention implementation {name!r} cannot be captured; load the model with attn_implementation set to one "
            f"of {', '.join(usable)}, or to the name of an attention kernel on the hub"
        )
    return str(name)


@contextmanager
def observing(modules: Iterable[nn.Module], observer: Observer) -> Iterator[None]:
    """Shows the observer each attention call of the modules, while the context is open."""
    _wrap_registry()
    observed = list(modules)
    for module in observed:
        setattr(module, _ATTRIBUTE, observer)
    try:
        yield
    finally:
        for module in observed:
            delattr(module, _ATTRIBUTE)


def _wrap_registry() -> None:
    """Once a process; a module without an observer passes straight through."""
    original = AttentionInterface.get_interface
    if hasattr(original, "is_observable"):
        return

    def get_interface(self: AttentionInterface, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        return partial(_call, original(self, *args, **kwargs))

    get_interface.is_observable = True  # type: ignore[attr-defined]
    AttentionInterface.get_interface = get_interface


def _call(
    backend: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any = None,
    **options: Any,
) -> Any:
    observer = getattr(module, _ATTRIBUTE, None)
    if observer is not None:
        observer(AttentionCall(backend, module, query, key, value, attention_mask, options))
    return backend(module, query, key, value, attention_mask, **options)
