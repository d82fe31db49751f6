"""Lets a trained model stop where training's labels end, also in plain transformers and other programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def add_stop_tokens(model: Any, tokenizer: Any, ends: Iterable[str]) -> None:
    """Let the model's generation settings, which are saved with it, stop at the tokens that end completions too.

    What they hold stays. A model that cannot generate has no such settings, and is left as it is.

    Args:
        model: a model of transformers.
        tokenizer: its tokenizer, whose EOS is one of the tokens.
        ends: the tokens, as the tokenizer writes them.
    """
    settings = getattr(model, "generation_config", None)
    if settings is None:
        return
    known = end_ids(model)
    ids = {*tokenizer.convert_tokens_to_ids(list(ends)), *as_ids(tokenizer.eos_token_id)} - known
    if ids:
        ordered = [*sorted(known), *sorted(ids)]
        settings.eos_token_id = ordered if len(ordered) > 1 else ordered[0]


def save_generation_settings(model: Any, folder: str | Path) -> None:
    """Write `generation_config.json` where saving the model did not, as it does not for an adapter.

    transformers reads it with `GenerationConfig.from_pretrained(folder)`; the base's own lies in another folder.
    """
    settings = getattr(model, "generation_config", None)
    if settings is not None and not (Path(folder) / "generation_config.json").exists():
        settings.save_pretrained(folder)


def end_ids(model: Any) -> frozenset[int]:
    """The tokens that end a text by the model's generation settings."""
    return as_ids(getattr(model.generation_config, "eos_token_id", None))


def as_ids(value: Any) -> frozenset[int]:
    """Token ids that are given as none, as one or as a list."""
    if value is None:
        return frozenset()
    return frozenset(value if isinstance(value, (list, tuple)) else [value])
