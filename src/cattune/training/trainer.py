"""A `transformers.Trainer` with one more term in its loss.

The loss of an optimizer step is the sum of the completion's cross-entropies over the number of completion tokens, plus
gamma(t) times the sum of row losses over the number of counted rows, both numbers over all accumulation steps and
devices: splitting a batch differently does not change it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from cattune.attention import RowSelection, is_checkpointing, is_compiled, sees_padding, self_check
from cattune.errors import ConfigError, DataError
from cattune.supervision.collator import CausalCollator, example_numbers, without_tokens
from cattune.supervision.rendering.stopping import add_stop_tokens, save_generation_settings
from cattune.supervision.report import AlignmentReport
from cattune.supervision.rows import IGNORED
from cattune.training import inputs
from cattune.training.best_metric import settle_best_metric
from cattune.training.config import CATConfig
from cattune.training.logits import for_loss_alone
from cattune.training.loss import completion_cross_entropy
from cattune.training.meter import Meter
from cattune.training.penalties.re_attention import ReAttention
from cattune.training.penalties.schedules import gamma_at

if TYPE_CHECKING:
    from peft import PeftConfig

    from cattune.training.inputs import ExampleData

logger = logging.getLogger(__name__)

_SUPERVISION = ("query_rows", "causal_keys", "causal_weights", "content", "label_rows")


class CATTrainer(Trainer):
    """Fine-tunes a causal language model with cross-entropy on the completion and the Re-Attention loss.

    Args:
        model: a decoder whose attention can be captured (docs/capture.md).
        args: the settings.
        train_dataset: a list of examples, or of rows in any format that a file may have, or a `datasets.Dataset` of
            such rows.
        eval_dataset: the same, or a dict of named splits.
        processing_class: a fast tokenizer.
        peft_config: a PEFT configuration to wrap the model with.
        **kwargs: what `transformers.Trainer` takes (`callbacks`, `optimizers`, ...).

    Attributes:
        alignment: what became of the training set's links.
        eval_alignment: the same for each evaluation set, by its split's name, or "eval" where it has none.

    Logs beside the Trainer's own values, for evaluations under their prefix: `cross_entropy`, `re_attention_loss`,
    `gamma`, `causal_mass`, `attention_ratio` (attention to a causal key over that to another visible key, each the mean
    over rows) and `supervised_rows`. Where gamma is 0 the attention is looked at on logging steps only.

    Raises:
        ConfigError: the configuration would train nothing, the attention cannot be captured, or one of the arguments is
            of another kind.
        DataError: a data set is of another kind, or is wrong.
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
        processing_class: PreTrainedTokenizerBase | None = None,
        peft_config: PeftConfig | None = None,
        **kwargs: Any,
    ) -> None:
        tokenizer = inputs.check(model, args, processing_class, kwargs)
        self._re_attention = _re_attention(model, args)
        if sees_padding(model) and args.per_device_train_batch_size > 1 and not args.padding_free:
            logger.warning(
                "%s picks keys by their content, padding among them: a loss depends on the batch that its example is "
                "in; per_device_train_batch_size 1, with more accumulation, avoids it",
                type(model).__name__,
            )
        train_features, self.alignment = None, AlignmentReport()
        self.eval_alignment: dict[str, AlignmentReport] = {}
        if train_dataset is not None:
            train_features, self.alignment = inputs.training_features(train_dataset, model, tokenizer, args)
            add_stop_tokens(model, tokenizer, self.alignment.ends)
        eval_features = inputs.evaluation_features(eval_dataset, "eval", model, tokenizer, args, self.eval_alignment)
        if kwargs.get("compute_metrics") is None:
            settle_best_metric(args, eval_features, captures=self._re_attention is not None)
        if peft_config is not None:
            model = inputs.with_adapter(model, peft_config, args)
        super().__init__(
            model=model,
            args=args,
            # Always on the right, whatever the tokenizer's side is: absolute positions and recurrent states are then
            # those of the example alone, in every model.
            data_collator=CausalCollator(inputs.padding_id(tokenizer), padding_free=args.padding_free),
            train_dataset=train_features,
            eval_dataset=eval_features,
            processing_class=tokenizer,
            **kwargs,
        )
        if args.n_gpu > 1:
            raise ConfigError("torch.nn.DataParallel would split a batch's rows unevenly; use `accelerate launch`")
        if kwargs.get("compute_loss_func") is None and not self.model_accepts_loss_kwargs:
            self.compute_loss_func = completion_cross_entropy
        self._capture_scope = ExitStack()
        self._self_checked = not args.self_check
        self._rows_in_step = torch.ones(())
        self._meter = Meter()

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
        if self._re_attention is not None:
            rows = torch.zeros((), device=device)
            for batch in batches:
                rows += self._re_attention.count_rows(_selection(batch)).to(device)
            rows = self.accelerator.gather(rows).sum()
            self._rows_in_step = rows.masked_fill(rows == 0, 1)  # below 1 where only some layers' windows hold a row
        self._meter.weight += 1
        return batches, num_items

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Nothing where no step is left: resumed from its last step, the Trainer would take one more."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

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
        batch, inputs = inputs, inputs if return_outputs else for_loss_alone(self, inputs)
        inputs = {name: value for name, value in inputs.items() if name not in _SUPERVISION}
        if "position_ids" in inputs:
            inputs["use_cache"] = False  # with a cache, transformers would let packed sequences see each other
        if not model.training:
            num_items_in_batch = None  # the batch's own mean, which is then weighted with its tokens
        gamma = self.gamma if model.training else 0.0
        sums = None
        if self._re_attention is not None and (gamma > 0 or not model.training or self._logs_this_step()):
            selection = _selection(batch)
            if gamma > 0 and not self._self_checked:
                self._check_capture(inputs, selection)
            at_once = self._at_once(model, inputs["input_ids"].numel(), gamma > 0)
            capture = self._re_attention.start(selection, grad=gamma > 0, at_once=at_once)
            with ExitStack() as forward_only:
                scope = self._capture_scope if gamma > 0 else forward_only
                scope.enter_context(capture.observe(self.model))
                loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
            try:
                sums = self._re_attention.sums(capture, batch["causal_weights"])
            except ConfigError as error:
                if self.args.gamma > 0:
                    raise
                logger.warning("attention is not logged: %s", error)
                self._re_attention = None
        else:
            loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        tokens = None if model.training else (batch["labels"][:, 1:] != IGNORED).sum()
        self._meter.add(loss.detach(), sums, gamma, tokens)
        if sums is not None and gamma > 0:
            # Gradients are averaged over processes, hence the factor.
            loss = loss + gamma * sums.loss / self._rows_in_step * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model: Any, inputs: Any, prediction_loss_only: bool, *args: Any, **kwargs: Any) -> Any:
        """Takes out the examples that only fill up the last batch of several processes: they came before."""
        state = self.accelerator.gradient_state
        if self.accelerator.num_processes > 1 and state.end_of_dataloader and state.remainder > 0:
            numbers = example_numbers(inputs)
            first = self.accelerator.process_index * (numbers.max() + 1)
            inputs = without_tokens(inputs, numbers + first >= state.remainder)
        inputs = for_loss_alone(self, inputs) if prediction_loss_only else inputs
        return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the two losses and the attention's figures since the last log."""
        if "loss" in logs:
            logs = {**logs, **self._meter.read(self.accelerator.gather)}
        super().log(logs, start_time)

    def evaluate(
        self,
        eval_dataset: str | ExampleData | Mapping[str, ExampleData] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluates on what the constructor takes, or on a split of its `eval_dataset`: all of it, or one by its name.

        Raises:
            DataError: this is no data set, no split of that name, or it is wrong.
            AlignmentError: `strict`, and a link cannot be used.
        """
        features = self._evaluation_features(eval_dataset, metric_key_prefix)
        return super().evaluate(features, ignore_keys, metric_key_prefix)

    def predict(
        self, test_dataset: ExampleData, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Predicts on what the constructor takes as a training set.

        Raises:
            DataError: this is no data set, or it is wrong.
            AlignmentError: `strict`, and a link cannot be used.
        """
        if test_dataset is None or isinstance(test_dataset, Mapping | str):
            got = "None" if test_dataset is None else f"a {type(test_dataset).__name__}"
            raise DataError(f"predict takes one data set, got {got}; give it the examples, one call for each split")
        return super().predict(
            self._evaluation_features(test_dataset, metric_key_prefix), ignore_keys, metric_key_prefix
        )

    def _evaluation_features(self, data: Any, name: str) -> Any:
        if isinstance(data, str) and isinstance(self.eval_dataset, Mapping):
            if data not in self.eval_dataset:
                raise DataError(
                    f"there is no split {data!r}; eval_dataset has {', '.join(map(repr, self.eval_dataset))}"
                )
            return data
        return inputs.evaluation_features(
            data, name, self.accelerator.unwrap_model(self.model), self.processing_class, self.args, self.eval_alignment
        )

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        """Adds the attention's figures to the evaluation's metrics; its loss is the cross-entropy of a token alone."""
        training_meter, self._meter = self._meter, Meter()
        try:
            output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
            figures = self._meter.read(self.accelerator.gather)
        finally:
            self._meter = training_meter
        if "cross_entropy" in figures:  # the Trainer's own is a mean of means, and depends on how the batches are split
            output.metrics[f"{metric_key_prefix}_loss"] = figures["cross_entropy"]
        for name in ("cross_entropy", "re_attention_loss", "causal_mass", "attention_ratio", "supervised_rows"):
            if name in figures:
                output.metrics[f"{metric_key_prefix}_{name}"] = figures[name]
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Saves the tokens to stop at with an adapter too."""
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            save_generation_settings(self.accelerator.unwrap_model(self.model), output_dir or self.args.output_dir)

    def _at_once(self, model: nn.Module, num_tokens: int, grad: bool) -> bool:
        """Whether each layer's rows are computed in its own forward, which takes least memory, or all at the end.

        Where a batch is short, launching many small operations takes longer than computing them; and with fewer tokens
        than half the width of the model, the gradients of all layers' queries and keys, which are then there at once,
        are about a twentieth of those of the weights.
        """
        if is_compiled(model):
            return False  # compiled code captures queries and keys alone: computing rows would break its graph
        is_short = num_tokens <= self.model.config.get_text_config().hidden_size // 2
        return not (grad and is_short) or is_checkpointing(self.model)

    def _check_capture(self, inputs: dict[str, Any], selection: RowSelection) -> None:
        assert self._re_attention is not None
        without_labels = {name: value for name, value in inputs.items() if name != "labels"}
        with self.compute_loss_context_manager():
            differences = self_check(self.model, without_labels, selection, self._re_attention.masks)
        for layer, difference in differences.items():
            logger.info("self-check: layer %d (%s) agrees to %.1e", layer, self._re_attention.masks[layer], difference)
        self._self_checked = True

    def _logs_this_step(self) -> bool:
        return (self.state.global_step + 1) % max(self.state.logging_steps, 1) == 0


def _selection(batch: Mapping[str, Tensor]) -> RowSelection:
    names = ("query_rows", "causal_keys", "attention_mask", "position_ids", "content")
    return RowSelection.from_batch(**{name: batch[name] for name in names if name in batch})


def _re_attention(model: PreTrainedModel, args: CATConfig) -> ReAttention | None:
    try:
        return ReAttention(model, args.objective, args.alpha, args.aggregation, args.layers, args.heads)
    except ConfigError as error:
        if args.gamma > 0:
            raise
        logger.warning("attention is not logged: %s", error)
        return None
