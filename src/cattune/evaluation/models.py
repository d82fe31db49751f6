"""Load a saved model and its tokenizer, and say what is wrong where that fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cattune.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_model(folder: str | Path, device: str = "auto") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer from a folder, in the precision that it was saved in.

    Args:
        folder: what `save_pretrained` wrote, a model's folder or (with peft installed) an adapter's.
        device: `auto` for the accelerator if there is one, else a torch device such as `cpu` or `cuda:1`.

    Raises:
        ConfigError: the folder or the device does not exist, or does not hold what is expected.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not Path(folder).is_dir():
        raise ConfigError(
            f"the model folder {str(folder)!r} does not exist; expected a folder with a saved model and its tokenizer"
        )
    place = pick_device(device)
    model: PreTrainedModel = _load(AutoModelForCausalLM, "causal language model", folder, dtype="auto")
    tokenizer: PreTrainedTokenizerBase = _load(AutoTokenizer, "tokenizer", folder)
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


def _load(auto_class: Any, what: str, folder: str | Path, **settings: Any) -> Any:
    try:
        return auto_class.from_pretrained(str(folder), local_files_only=True, **settings)
    except Exception as error:  # a damaged folder raises what its reader raises: JSON, safetensors, key errors, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"no {what} can be loaded from {str(folder)!r} ({reason[:300]}); expected what save_pretrained writes"
        ) from error
