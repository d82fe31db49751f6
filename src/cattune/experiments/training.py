"""Training a model by name on examples: what `cattune train`, the demo and the benchmarks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)

from cattune import tiny
from cattune.config import CATConfig
from cattune.errors import CattuneError, ConfigError
from cattune.examples import Example
from cattune.models.load import load_model, load_tokenizer
from cattune.trainer import CATTrainer

if TYPE_CHECKING:
    from peft import PeftConfig


def load_or_build(
    name: str,
    examples: Sequence[Example],
    seed: int,
    attn_implementation: str | None = None,
    dtype: str | None = None,
    trust_remote_code: bool = False,
    new_adapter: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """`tiny`, with the vocabulary of the examples, or any model of a folder or the hub.

    Args:
        name: `tiny`, a folder, or a name on the hub; an adapter's goes on being trained.
        examples: what `tiny` takes its vocabulary from.
        seed: of `tiny`'s weights.
        attn_implementation, dtype: how to load the model; None as its configuration says.
        trust_remote_code: whether code that comes with the model may run.
        new_adapter: whether an adapter is to be put on it.

    Raises:
        ConfigError: the model or its tokenizer cannot be loaded, or it would get an adapter upon an adapter.
    """
    if name == tiny.NAME:
        model, tokenizer = tiny.build(tiny.texts_of(examples), seed)
        try:
            if attn_implementation is not None:
                model.set_attn_implementation(attn_implementation)
            return model if dtype is None else model.to(getattr(torch, dtype)), tokenizer
        except (AttributeError, ImportError, TypeError, ValueError) as error:
            raise ConfigError(f"model {name!r} cannot be loaded ({' '.join(str(error).split())[:300]})") from error
    model = load_model(
        name,
        trust_remote_code=trust_remote_code,
        attn_implementation=attn_implementation,
        dtype=dtype,
        trainable=True,
    )
    if new_adapter and hasattr(model, "peft_config"):
        raise ConfigError(
            f"model {name!r} is an adapter, and `peft` would put another one upon it; leave `peft` out to go on "
            "training this one, or merge it into its base model first"
        )
    return model, load_tokenizer(name, trust_remote_code)


def make_config(model: str, settings: Mapping[str, Any]) -> CATConfig:
    """The settings, on top of the recipe of `tiny` where that is the model; no checkpoints and no trackers by default.

    Raises:
        ConfigError: a setting is refused.
    """
    recipe = dict(tiny.RECIPE) if model == tiny.NAME else {}
    if "num_train_epochs" in settings:
        recipe.pop("max_steps", None)
    try:
        return CATConfig(**{"save_strategy": "no", "report_to": "none", **recipe, **settings})
    except CattuneError:
        raise
    except (TypeError, ValueError, ImportError) as error:  # what TrainingArguments finds wrong
        raise ConfigError(f"the settings are refused: {' '.join(str(error).split())}") from error


def peft_config(settings: Mapping[str, Any]) -> PeftConfig:
    """A LoRA configuration from its settings.

    Raises:
        ConfigError: peft is not installed, or refuses the settings.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ConfigError("`peft` needs the extra: pip install 'causal-attention-tuning[peft]'") from error
    try:
        return LoraConfig(**{"task_type": "CAUSAL_LM", **settings})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"peft: {' '.join(str(error).split())}") from error


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Example],
    args: CATConfig,
    report: Callable[[int, int], None],
    **options: Any,
) -> CATTrainer:
    """A trainer that prints nothing and tells `report` of its progress (steps done, steps in all)."""
    if not torch.accelerator.is_available():
        args.dataloader_pin_memory = False  # there is no device to copy to, and torch would say so at every epoch
    trainer = CATTrainer(
        model, args, train_dataset=train, processing_class=tokenizer, callbacks=[_StepReport(report)], **options
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


class _StepReport(TrainerCallback):
    """Tells a function (steps done, steps in all) after each step."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._report(state.global_step, state.max_steps)
