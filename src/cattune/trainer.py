"""A `transformers.Trainer` with one more term in its loss.

The loss of an optimizer step is the sum of the completion's cross-entropies over the number of completion tokens, plus
gamma(t) times the sum of row losses over the number of counted rows, both numbers over all accumulation steps and
devices: splitting a batch differently does not change it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import EvalLoopOutput

from cattune.attention import RowSelection, capturing
from cattune.collator import CausalCollator
from cattune.config import CATConfig
from cattune.errors import AlignmentError, ConfigError
from cattune.examples import Example
from cattune.loading import examples_from_dataset
from cattune.re_attention import ReAttention, RowSums
from cattune.schedules import gamma_at
from cattune.supervision import AlignmentReport, encode_examples

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig

    ExampleData: TypeAlias = Sequence[Example] | Dataset

logger = logging.getLogger(__name__)

_SUPERVISION = ("query_rows", "causal_keys", "causal_weights", "content")


class CATTrainer(Trainer):
    """Fine-tunes a causal language model with cross-entropy on the completion and the Re-Attention loss.

    Args:
        model: a decoder whose attention runs on a backend in `attention.CAPTURABLE`.
        args: the settings.
        train_dataset: examples, or a `datasets.Dataset` in the JSONL schema.
        eval_dataset: the same, or a dict of named splits.
        processing_class: a fast tokenizer.
        peft_config: a PEFT configuration to wrap the model with.
        **kwargs: what `transformers.Trainer` takes (`callbacks`, `optimizers`, ...).

    Attributes:
        alignment: what became of the training set's links.

    Logs beside the Trainer's own values, for evaluations under their prefix: `cross_entropy`, `re_attention_loss`,
    `gamma`, `causal_mass`, `attention_ratio` (attention to a causal key over that to another visible key, each the mean
    over rows) and `supervised_rows`. Where gamma is 0 the attention is looked at on logging steps only.

    Raises:
        ConfigError: the configuration would train nothing, or the attention cannot be captured.
        AlignmentError: `strict`, and a link cannot be used.
    """

    args: CATConfig

    def __init__(
        self,
        model: PreTrainedModel,
        args: CATConfig,
        *,
        train_dataset: ExampleData | None = None,
        eval_dataset: ExampleData | Mapping[str, ExampleData] | None = None,
        processing_class: PreTrainedTokenizerBase,
        peft_config: PeftConfig | None = None,
        **kwargs: Any,
    ) -> None:
        self._re_attention = _re_attention(model, args)
        train_features, self.alignment = None, AlignmentReport()
        if train_dataset is not None:
            train_features, self.alignment = _encode(train_dataset, processing_class, args)
            _check_trains_something(train_features, self.alignment, args)
        eval_features: Any = None
        if isinstance(eval_dataset, Mapping):
            eval_features = {name: _encode(data, processing_class, args)[0] for name, data in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_features = _encode(eval_dataset, processing_class, args)[0]
        if peft_config is not None:
            from peft import get_peft_model

            model = get_peft_model(model, peft_config)
        super().__init__(
            model=model,
            args=args,
            data_collator=CausalCollator(_padding_id(processing_class), processing_class.padding_side),
            train_dataset=train_features,
            eval_dataset=eval_features,
            processing_class=processing_class,
            **kwargs,
        )
        if args.n_gpu > 1:
            raise ConfigError("torch.nn.DataParallel would split a batch's rows unevenly; use `accelerate launch`")
        if not self.model_accepts_loss_kwargs:
            self.compute_loss_func = completion_cross_entropy
        self._capture_scope = ExitStack()
        self._rows_in_step = torch.ones(())
        self._meter = _Meter()

    @property
    def gamma(self) -> float:
        """The weight of the Re-Attention loss at the present step."""
        return gamma_at(
            self.args.gamma,
            self.args.gamma_schedule,
            progress=self.state.global_step / max(self.state.max_steps, 1),
            epoch=self.state.epoch or 0.0,
            rate=self.args.gamma_rate,
            warmup=self.args.gamma_warmup,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Also counts the supervised rows of the whole optimizer step, over all devices."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = sum(((batch["query_rows"] >= 0).sum() for batch in batches), torch.zeros((), dtype=torch.long))
        self._rows_in_step = self.accelerator.gather(rows.to(device)).sum().clamp_min(1)
        self._meter.steps += 1
        return batches, num_items

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Keeps the capture open through backward, where gradient checkpointing runs the forward again."""
        with ExitStack() as self._capture_scope:
            return super().training_step(*args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Cross-entropy plus, in training, this micro-batch's share of the Re-Attention loss."""
        supervision = {name: inputs[name] for name in _SUPERVISION if name in inputs}
        inputs = {name: value for name, value in inputs.items() if name not in _SUPERVISION}
        gamma = self.gamma if model.training else 0.0
        sums = None
        if self._re_attention is not None and (gamma > 0 or not model.training or self._logs_this_step()):
            weights = supervision.pop("causal_weights")
            selection = RowSelection.from_batch(attention_mask=inputs["attention_mask"], **supervision)
            capture = self._re_attention.start(selection, grad=gamma > 0)
            with ExitStack() as forward_only:
                scope = self._capture_scope if gamma > 0 else forward_only
                scope.enter_context(capturing(self.model, capture))
                loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            try:
                sums = self._re_attention.sums(capture, selection, weights)
            except ConfigError as error:
                if self.args.gamma > 0:
                    raise
                logger.warning("attention is not logged: %s", error)
                self._re_attention = None
        else:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        self._meter.add(loss.detach(), sums, gamma)
        if sums is not None and gamma > 0:
            # Gradients are averaged over processes, hence the factor.
            loss = loss + gamma * sums.loss / self._rows_in_step * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the two losses and the attention's figures since the last log."""
        if "loss" in logs:
            logs = {**logs, **self._meter.read(self.accelerator.gather)}
        super().log(logs, start_time)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Adds the attention's figures to the evaluation's metrics; its loss is the cross-entropy alone."""
        training_meter, self._meter = self._meter, _Meter()
        try:
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            figures = self._meter.read(self.accelerator.gather)
        finally:
            self._meter = training_meter
        for name in ("re_attention_loss", "causal_mass", "attention_ratio", "supervised_rows"):
            if name in figures:
                output.metrics[f"{metric_key_prefix}_{name}"] = figures[name]
        return output

    def _logs_this_step(self) -> bool:
        return (self.state.global_step + 1) % max(self.state.logging_steps, 1) == 0


class _Meter:
    """Sums what is logged, on the device, until it is read."""

    def __init__(self) -> None:
        self._gamma = 0.0
        self._reset()

    def _reset(self) -> None:
        self.steps = 0
        self._cross_entropy: Tensor | None = None
        self._rows: Tensor | None = None  # (5,): the fields of RowSums

    def add(self, cross_entropy: Tensor, sums: RowSums | None, gamma: float) -> None:
        self._gamma = gamma
        self._cross_entropy = cross_entropy if self._cross_entropy is None else self._cross_entropy + cross_entropy
        if sums is not None:
            rows = torch.stack([x.detach().to(torch.float32) for x in sums])
            self._rows = rows if self._rows is None else self._rows + rows

    def read(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The figures since the last reading; `gather` joins the processes'."""
        figures: dict[str, float] = {}
        if self._cross_entropy is not None:
            mean = gather(self._cross_entropy.reshape(1)).mean().item()
            figures = {"cross_entropy": mean / max(self.steps, 1), "gamma": self._gamma}
        if self._rows is not None:
            loss, mass, causal, rest, rows = gather(self._rows.unsqueeze(0)).sum(0).tolist()
            figures["supervised_rows"] = rows
            if rows:
                figures |= {"re_attention_loss": loss / rows, "causal_mass": mass / rows}
                figures["attention_ratio"] = causal / rest if rest else float("inf")
        self._reset()
        return figures


def completion_cross_entropy(outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """Cross-entropy of the labelled tokens, summed and divided by `num_items_in_batch`, or their mean without it.

    For models whose own loss does not know `num_items_in_batch`.

    Args:
        outputs: the model's, with logits (B, S, V).
        labels: (B, S), -100 where there is none; the logits at t - 1 predict the label at t.
    """
    logits = outputs["logits"][:, :-1].flatten(0, 1).float()
    total = nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
    return total / ((labels[:, 1:] != -100).sum() if num_items_in_batch is None else num_items_in_batch)


def _re_attention(model: PreTrainedModel, args: CATConfig) -> ReAttention | None:
    try:
        return ReAttention(model, args.objective, args.alpha, args.aggregation, args.layers, args.heads)
    except ConfigError as error:
        if args.gamma > 0:
            raise
        logger.warning("attention is not logged: %s", error)
        return None


def _encode(
    data: ExampleData, tokenizer: PreTrainedTokenizerBase, args: CATConfig
) -> tuple[list[dict[str, Any]], AlignmentReport]:
    examples = data if isinstance(data, Sequence) else examples_from_dataset(data)
    features, report = encode_examples(
        examples, tokenizer, max_length=args.max_length, content=args.objective == "contrast"
    )
    if args.strict and report.problems:
        raise AlignmentError(f"strict: not every causal link can be used\n{report.summary()}")
    return features, report


def _check_trains_something(features: list[dict[str, Any]], report: AlignmentReport, args: CATConfig) -> None:
    if not features:
        raise ConfigError(f"the training set has no example to train on\n{report.summary()}")
    if args.gamma > 0 and not any(example["query_rows"] for example in features):
        raise ConfigError(
            "no causal link of the training set could be aligned, so the Re-Attention loss would train nothing; "
            f"mend the links, or set gamma to 0 for plain fine-tuning\n{report.summary()}"
        )
    if report.problems:
        logger.warning("some causal links of the training set are not used\n%s", report.summary())


def _padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Padding is masked and never a label, so where the tokenizer has no token for it any id will do."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
