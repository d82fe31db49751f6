"""Whether a checkpoint's weights are those of the model that is to go on training; transformers passes over others."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from cattune.errors import ConfigError
from cattune.experiments.checkpoints import weight_files

Shapes = dict[str, tuple[int, ...]]


def check_fits(checkpoint: Path, model: torch.nn.Module) -> None:
    """Compare names and shapes; the weights themselves are not read. Formats other than safetensors are not looked at.

    Args:
        checkpoint: the folder of a whole one.
        model: as it is trained, a `PeftModel` for an adapter.

    Raises:
        ConfigError: they differ.
    """
    files = weight_files(checkpoint)
    if not files or any(file.suffix != ".safetensors" for file in files):
        return
    saved = _shapes(files)
    is_adapter, wants_adapter = files[0].name.startswith("adapter_model"), not isinstance(model, PreTrainedModel)
    if is_adapter != wants_adapter:
        kinds = ("a whole model", "an adapter")
        raise ConfigError(
            f"{checkpoint} holds {kinds[is_adapter]}, and this run trains {kinds[wants_adapter]}; resume with the "
            "settings of `peft` that it was trained with"
        )
    expected, tied = _expected(model, wants_adapter)
    wrong = {name for name in expected.keys() & saved.keys() if expected[name] != saved[name]}
    wrong |= (expected.keys() - saved.keys() - tied) | (saved.keys() - expected.keys())
    if wrong:
        name = min(wrong)
        there, here = (str(shapes.get(name, "absent")) for shapes in (saved, expected))
        raise ConfigError(
            f"{checkpoint} is of another model: {len(wrong)} of its weights differ, for instance {name}, {there} there "
            f"and {here} in the model to be trained; resume with the model and the data that it was trained with"
        )


def _shapes(files: list[Path]) -> Shapes:
    shapes: Shapes = {}
    for file in files:
        with safe_open(file, framework="pt") as weights:
            shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    return shapes


def _expected(model: torch.nn.Module, is_adapter: bool) -> tuple[Shapes, set[str]]:
    """What the model would save, and which of it another name stands for as well."""
    if is_adapter:
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(model)
    else:
        state = model.state_dict()
    places = [tensor.data_ptr() for tensor in state.values()]
    tied = {name for name, tensor in state.items() if places.count(tensor.data_ptr()) > 1}
    return {name: tuple(tensor.shape) for name, tensor in state.items()}, tied
