"""A model and its tokenizer, ready to answer on a device."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

from cattune.errors import ConfigError
from cattune.models import load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(
    name: str | os.PathLike[str], device: str = "auto", trust_remote_code: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in the precision that it was saved in.

    Args:
        name: a folder with a model or (with peft installed) an adapter, or a name on the hub.
        device: `auto` for the accelerator if there is one, else a torch device such as `cpu` or `cuda:1`.
        trust_remote_code: whether code that comes with the model may run.

    Raises:
        ConfigError: the model or the device is not there, or not what is expected.
    """
    if name == "tiny" and not os.path.isdir(name):
        raise ConfigError(
            "tiny is made from scratch by training, and stored nowhere; name the folder that training wrote"
        )
    place = pick_device(device)
    model = load.load_model(name, trust_remote_code=trust_remote_code)
    tokenizer = load.load_tokenizer(name, trust_remote_code)
    model.to(place)
    return model, tokenizer


def pick_device(name: str) -> torch.device:
    """The torch device of a name; `auto` is the accelerator if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # every backend reports a missing device by another type
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used: {reason}; expected auto, cpu, cuda, cuda:1, ...") from error
    return device
