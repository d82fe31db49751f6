"""Training a model by name on examples: what `cattune train`, the demo and the benchmarks share."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)

from cattune.data.examples import Example
from cattune.errors import ConfigError
from cattune.experiments.refusals import refused_settings
from cattune.models import tiny
from cattune.models.load import load_model, load_tokenizer
from cattune.training.config import CATConfig
from cattune.training.trainer import CATTrainer
from cattune.wording import shown

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
            return model if dtype in (None, "auto") else model.to(getattr(torch, dtype)), tokenizer
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


def make_config(model: str, settings: Mapping[str, Any], stops_early: bool = False) -> CATConfig:
    """The settings, on top of the recipe of `tiny` where that is the model; no trackers by default.

    No checkpoints either, unless the best model is to be loaded from them: then one for each evaluation.

    Args:
        model: the model's name.
        settings: of `CATConfig`.
        stops_early: whether training ends when evaluations stop getting better.

    Raises:
        ConfigError: a setting is refused.
    """
    recipe = dict(tiny.RECIPE) if model == tiny.NAME else {}
    if "num_train_epochs" in settings:
        recipe.pop("max_steps", None)
    if stops_early:
        recipe["metric_for_best_model"] = "loss"
    evaluations = str(getattr(settings.get("eval_strategy"), "value", settings.get("eval_strategy") or "no"))
    wanting = [name for name in ("load_best_model_at_end", "metric_for_best_model") if settings.get(name)]
    wanting += ["early_stopping_patience"] if stops_early else []
    if evaluations == "no" and wanting:
        raise ConfigError(f"{wanting[0]} is about evaluations during training; set eval_strategy to steps or epoch")
    if settings.get("load_best_model_at_end"):
        recipe["save_strategy"] = evaluations
        recipe["save_steps"] = settings.get("eval_steps") or settings.get("logging_steps") or CATConfig.logging_steps
    with refused_settings():
        return CATConfig(**{"save_strategy": "no", "report_to": "none", **recipe, **settings})


def evaluates(args: CATConfig) -> bool:
    """Whether the settings ask for evaluations during training."""
    return args.eval_strategy != "no" or args.eval_on_start


def early_stopping(patience: int | None, threshold: float) -> list[TrainerCallback]:
    """What stops training when evaluations no longer get better; nothing without `patience`.

    Args:
        patience: so many evaluations in a row that are no better than the best before them.
        threshold: by more than this an evaluation has to be better.

    Raises:
        ConfigError: a number is out of range.
    """
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ConfigError(f"early_stopping_threshold is {threshold}; it must be a finite number >= 0")
    if patience is None:
        if threshold:
            raise ConfigError("early_stopping_threshold has no effect without early_stopping_patience; give both")
        return []
    if patience < 1:
        raise ConfigError(f"early_stopping_patience is {patience}; it must be at least 1")
    return [_EarlyStopping(patience, threshold)]


class _EarlyStopping(EarlyStoppingCallback):
    """Early stopping that goes on after an interruption as if there had been none."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer; goes over the evaluations before the checkpoint."""
        before = SimpleNamespace(best_metric=None)
        for value in (
            log[args.metric_for_best_model] for log in state.log_history if args.metric_for_best_model in log
        ):
            self.check_metric_value(args, before, control, value)
            if before.best_metric is None:
                before.best_metric = -math.inf if args.greater_is_better else math.inf
            if value > before.best_metric if args.greater_is_better else value < before.best_metric:
                before.best_metric = value


def peft_config(settings: Mapping[str, Any]) -> PeftConfig:
    """A LoRA configuration from its settings.

    Raises:
        ConfigError: peft is not installed, refuses the settings, or they are for another kind of adapter or of task.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ConfigError("`peft` needs the extra: pip install 'causal-attention-tuning[peft]'") from error
    given = {"peft_type": "LORA", "task_type": "CAUSAL_LM", **settings}
    for name, only in (("peft_type", "LORA"), ("task_type", "CAUSAL_LM")):
        if given[name] not in (None, only):  # peft takes any: it would train LoRA, or an adapter that cannot be loaded
            raise ConfigError(f"peft: {name} is {shown(given[name])}; only {only} can be trained: leave it out")
    known = {field.name for field in fields(LoraConfig) if field.init} | {"peft_type"}
    for name in given.keys() - known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"peft: a LoraConfig has no setting {shown(name)}{hint}")
    with refused_settings():
        return LoraConfig(**{name: given[name] for name in given if name != "peft_type"})


def make_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Sequence[Example],
    args: CATConfig,
    report: Callable[[str, int, int], None],
    **options: Any,
) -> CATTrainer:
    """A trainer that prints nothing and tells `report` of its progress.

    Args:
        model, tokenizer: what is trained.
        train: the examples.
        args: the settings.
        report: is told (what is going on, steps or batches done, how many in all).
        **options: of `CATTrainer`.

    Raises:
        ConfigError: the settings are refused, or would train nothing.
    """
    if not torch.accelerator.is_available():
        args.dataloader_pin_memory = False  # there is no device to copy to, and torch would say so at every epoch
    callbacks = [_ProgressReport(report), *options.pop("callbacks", ())]
    with refused_settings():
        trainer = CATTrainer(
            model, args, train_dataset=train, processing_class=tokenizer, callbacks=callbacks, **options
        )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


class _ProgressReport(TrainerCallback):
    """Tells a function how far training is, and each evaluation on its way."""

    def __init__(self, report: Callable[[str, int, int], None]) -> None:
        self._report = report
        self._batches = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._report("training", state.global_step, state.max_steps)

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._batches += 1
        self._report("evaluating", self._batches, len(eval_dataloader))

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._batches = 0
