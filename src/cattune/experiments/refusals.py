"""What other libraries find wrong with the settings is the user's to fix, wherever they find it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch

from cattune.errors import CattuneError, ConfigError

_LONGEST = 400


@contextmanager
def refused_settings() -> Iterator[None]:
    """Turn what other libraries raise while training is set up into a `ConfigError`.

    Raises:
        ConfigError: the settings are refused; the message says by what.
    """
    try:
        yield
    except Exception as error:
        words = refusal(error, has_begun=False)
        if words is None:
            raise
        raise ConfigError(f"the settings are refused: {words}") from error


def refusal(error: Exception, has_begun: bool) -> str | None:
    """What transformers, accelerate, peft or torch finds wrong with the settings; None where the error is another.

    Settings are looked at when they are made, but also by the trainer, the trackers, the optimizer and the data
    loaders, and some (checkpointing, compilation) in the first step, in exceptions of every kind. After that step an
    error is a failure.

    Args:
        error: what was raised.
        has_begun: whether the first step is done.
    """
    where = _innermost(error.__traceback__)
    ours = isinstance(error, CattuneError) or where.startswith("cattune.")
    if ours or has_begun or isinstance(error, MemoryError | torch.OutOfMemoryError):
        return None
    return f"{_in_words(error)} (says {where})"


def _innermost(traceback: TracebackType | None) -> str:
    """Module and function in which an exception was raised."""
    name = ""
    while traceback is not None:
        frame = traceback.tb_frame
        name = f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}"
        traceback = traceback.tb_next
    return name


def _in_words(error: Exception) -> str:
    """What an exception says, in one line; its kind too where that says more."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    says_enough = isinstance(error, ImportError | OSError | RuntimeError | ValueError) and text
    return text if says_enough else f"{type(error).__name__}: {text}".rstrip(": ")
