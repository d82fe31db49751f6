"""Settings of Causal Attention Tuning, on top of `transformers.TrainingArguments`."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from transformers import TrainingArguments

from cattune.data.examples import check_template_kwargs
from cattune.errors import ConfigError, DataError
from cattune.training.best_metric import is_better_greater
from cattune.training.penalties.objectives import get_objective
from cattune.training.penalties.re_attention import AGGREGATIONS
from cattune.training.penalties.schedules import SCHEDULES


@dataclass
class CATConfig(TrainingArguments):
    """`TrainingArguments` with the Re-Attention loss; every setting is checked when the object is made.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    objective: str = field(
        default="uniform",
        metadata={"help": "Re-Attention objective: uniform, mass, contrast, or published: hinge, div, div2, nll."},
    )
    gamma: float = field(
        default=1.0, metadata={"help": "Weight of the Re-Attention loss at its highest; 0 is plain fine-tuning."}
    )
    gamma_schedule: str = field(
        default="linear", metadata={"help": "How gamma changes over training: linear, cosine, constant, exponential."}
    )
    gamma_rate: float = field(default=1.0, metadata={"help": "Decay per epoch of the exponential schedule."})
    gamma_warmup: float = field(
        default=0.0, metadata={"help": "Share of training, in [0, 1), over which gamma rises from 0 first."}
    )
    alpha: float = field(
        default=2.0, metadata={"help": "Attention ratio that hinge, div, div2 and nll ask for (published: 2)."}
    )
    aggregation: str = field(
        default="mean",
        metadata={"help": "Join layers and heads before the objective (mean), or apply it per layer or per head."},
    )
    layers: list[int] | None = field(
        default=None, metadata={"help": "Layers to supervise, negative from the end; all by default."}
    )
    heads: list[int] | None = field(
        default=None, metadata={"help": "Heads to supervise in each layer; all by default."}
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Keep the first so many tokens of an example; what is lost is counted."}
    )
    chat_template_kwargs: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "Variables for the chat template, such as enable_thinking or tools; an example's own win."},
    )
    dataset_num_proc: int | None = field(
        default=None, metadata={"help": "Processes that encode a `datasets.Dataset`; by default this one alone."}
    )
    padding_free: bool = field(
        default=False,
        metadata={"help": "Join the examples of a batch into one row, told apart by their positions, without padding."},
    )
    self_check: bool = field(
        default=True,
        metadata={"help": "Compare captured attention with the model's own on the first batch; refuse if they differ."},
    )
    strict: bool = field(
        default=False,
        metadata={"help": "Refuse to train when any causal link cannot be used, instead of reporting it."},
    )
    logging_steps: float = field(default=10, metadata={"help": "Log every so many steps (a share of them if below 1)."})
    greater_is_better: bool | None = field(
        default=None,
        metadata={"help": "Whether `metric_for_best_model` should grow; by default as its name says: losses shrink."},
    )
    # The collator's supervision columns are no arguments of the model, so the Trainer must not remove them.
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay False: supervision columns are ours."}
    )

    @classmethod
    def own_fields(cls) -> list[Field[Any]]:
        """The settings that are not the Trainer's, or not as it has them."""
        return [f for f in fields(cls) if f.name in CATConfig.__annotations__ and f.name != "remove_unused_columns"]

    def __post_init__(self) -> None:
        get_objective(self.objective)
        _require(
            self.gamma_schedule in SCHEDULES, "gamma_schedule", self.gamma_schedule, f"one of {', '.join(SCHEDULES)}"
        )
        _require(self.aggregation in AGGREGATIONS, "aggregation", self.aggregation, f"one of {', '.join(AGGREGATIONS)}")
        _require(_finite(self.gamma) and self.gamma >= 0, "gamma", self.gamma, "a finite number >= 0")
        _require(_finite(self.alpha) and self.alpha > 0, "alpha", self.alpha, "a finite number > 0")
        _require(
            _finite(self.gamma_rate) and self.gamma_rate >= 0, "gamma_rate", self.gamma_rate, "a finite number >= 0"
        )
        _require(
            _finite(self.gamma_warmup) and 0 <= self.gamma_warmup < 1, "gamma_warmup", self.gamma_warmup, "in [0, 1)"
        )
        _require(self.max_length is None or self.max_length > 1, "max_length", self.max_length, "at least 2")
        _check_template_kwargs(self.chat_template_kwargs)
        _require(
            self.dataset_num_proc is None or _counts(self.dataset_num_proc),
            "dataset_num_proc",
            self.dataset_num_proc,
            "a whole number of processes, at least 1, or none given",
        )
        _require(
            self.layers is None or bool(self.layers), "layers", self.layers, "at least one layer, or none given for all"
        )
        _require(
            self.heads is None or bool(self.heads), "heads", self.heads, "at least one head, or none given for all"
        )
        _require(not self.remove_unused_columns, "remove_unused_columns", True, "False, or the supervision is removed")
        _require(self.max_steps != 0, "max_steps", self.max_steps, "at least 1, or -1 to count epochs")
        _require(self.max_steps > 0 or self.num_train_epochs > 0, "num_train_epochs", self.num_train_epochs, "above 0")
        _require(_finite(self.learning_rate), "learning_rate", self.learning_rate, "a finite number")
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        steps = self.eval_accumulation_steps
        _require(steps is None or steps >= 1, "eval_accumulation_steps", steps, "at least 1, or none given")
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = is_better_greater(self.metric_for_best_model)
        super().__post_init__()
        # transformers keeps this name in step with its newer one, `activation_checkpointing_kwargs`.
        checkpointing = self.gradient_checkpointing_kwargs
        _require(
            not (isinstance(checkpointing, dict) and checkpointing.get("use_reentrant")),
            "gradient_checkpointing_kwargs",
            checkpointing,
            "without use_reentrant: reentrant checkpointing gives captured attention no gradient",
        )


def _check_template_kwargs(given: object) -> None:
    try:
        check_template_kwargs({} if given is None else given, "the settings")
    except DataError as error:
        raise ConfigError(str(error)) from None


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"{name} is {value!r}; it must be {expected}")
