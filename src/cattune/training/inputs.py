"""What a trainer is given: checked for its kind, and its examples made into features and a report on their links."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainingArguments

from cattune.errors import AlignmentError, ConfigError, DataError
from cattune.supervision.dataset import FeatureData, encode
from cattune.supervision.report import AlignmentReport
from cattune.training.config import CATConfig
from cattune.training.fit import check_fit
from cattune.wording import shown

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from cattune.data.examples import Example

    ExampleData: TypeAlias = Sequence[Example] | Sequence[Mapping[str, Any]] | Dataset

logger = logging.getLogger(__name__)

_FEATURES = {"input_ids", "labels", "query_rows", "causal_keys", "causal_weights"}

_REFUSED = {
    "data_collator": "the rows and causal keys of a batch move with its padding, which the trainer's own collator does",
    "tokenizer": "the tokenizer is called processing_class",
}
"""Arguments of `transformers.Trainer`, now or once, that are not taken; and why."""


def check(model: Any, args: Any, tokenizer: Any, options: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Refuse what is not of the kind that the trainer takes; returns the tokenizer.

    Raises:
        ConfigError: one of them is not.
    """
    for name, reason in _REFUSED.items():
        if options.get(name) is not None:
            raise ConfigError(f"CATTrainer takes no {name}: {reason}")
    if isinstance(model, str):
        raise ConfigError(
            f"model is the name {model!r}; expected the model itself: AutoModelForCausalLM.from_pretrained({model!r})"
        )
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ConfigError(f"model is {_kind(model)}; expected a causal language model of transformers, or a PeftModel")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"{type(model).__name__} is an encoder-decoder; expected a causal (decoder-only) model")
    if not isinstance(args, CATConfig):
        same = "it takes the same settings, and gamma, alpha, ...: " if isinstance(args, TrainingArguments) else ""
        raise ConfigError(f"args is {_kind(args)}; expected a CATConfig: {same}CATConfig(output_dir=..., ...)")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        inner = "; give its tokenizer: processing_class=processor.tokenizer" if hasattr(tokenizer, "tokenizer") else ""
        raise ConfigError(f"processing_class is {_kind(tokenizer)}; expected the model's fast tokenizer{inner}")
    return tokenizer


def with_adapter(model: PreTrainedModel, config: PeftConfig, args: CATConfig) -> PeftModel:
    """The model with a new adapter in it.

    Raises:
        ConfigError: the model has one, or attention cannot be captured with this kind.
    """
    from peft import PeftConfig, PeftModel, get_peft_model

    if not isinstance(config, PeftConfig):
        raise ConfigError(f"peft_config is {_kind(config)}; expected a PEFT configuration, such as peft.LoraConfig")
    if isinstance(model, PeftModel):
        raise ConfigError("the model has an adapter already; leave peft_config out to train that one")
    if args.gamma > 0 and config.is_prompt_learning:
        raise ConfigError(
            f"{type(config).__name__} adds virtual tokens, keys that are at no position of a batch, so that attention "
            "cannot be captured; take an adapter of the weights, such as LoRA, or set gamma to 0"
        )
    return get_peft_model(model, config)


def training_features(
    data: ExampleData, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: CATConfig
) -> tuple[FeatureData, AlignmentReport]:
    """The features of a training set.

    Raises:
        ConfigError: they would train nothing, or the model has no embedding for one of their tokens.
        DataError: it is no data set, or is wrong.
        AlignmentError: `strict`, and a link cannot be used.
    """
    features, report = _features(data, "the training set", model, tokenizer, args)
    if not len(features):
        raise ConfigError(f"the training set has no example to train on\n{report.summary()}")
    if args.gamma > 0 and not report.rows:
        raise ConfigError(
            "no causal link of the training set could be aligned, so the Re-Attention loss would train nothing; "
            f"fix the links, or set gamma to 0 for plain fine-tuning\n{report.summary()}"
        )
    return features, report


def evaluation_features(
    data: Any,
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    args: CATConfig,
    reports: MutableMapping[str, AlignmentReport],
) -> Any:
    """The features of an evaluation set, or of each split of a dict; features are returned as they are.

    Args:
        data: the examples; None gives None.
        name: of a set that is no dict.
        model, tokenizer, args: the trainer's.
        reports: gets the report on each split's links, under its name.

    Raises:
        DataError: it is no data set, or is wrong, or holds no example to evaluate on.
        AlignmentError: `strict`, and a link cannot be used.
    """
    if isinstance(data, Mapping):
        if not data:
            raise DataError("the dict of evaluation sets is empty; expected a name and a data set at least once")
        for key in data:
            if not isinstance(key, str):  # transformers would take it for the data set itself
                raise DataError(f"the name of an evaluation set is {shown(key)}; expected text, such as {str(key)!r}")
        return {key: evaluation_features(split, key, model, tokenizer, args, reports) for key, split in data.items()}
    if data is None or _is_features(data):
        return data
    features, reports[name] = _features(data, f"the evaluation set {name!r}", model, tokenizer, args)
    if not len(features):
        raise DataError(f"the evaluation set {name!r} has no example to evaluate on\n{reports[name].summary()}")
    return features


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Padding is masked and never a label, so where the tokenizer has no token for it any id will do."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def _features(
    data: Any, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, args: CATConfig
) -> tuple[FeatureData, AlignmentReport]:
    try:
        with args.main_process_first(desc="alignment"):  # the other processes of this machine find it in the cache
            features, report = encode(
                data,
                tokenizer,
                max_length=args.max_length,
                content=args.objective == "contrast",
                num_proc=args.dataset_num_proc,
                chat_template_kwargs=args.chat_template_kwargs,
            )
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    if report.problems:
        if args.strict:
            raise AlignmentError(f"strict: not every causal link of {name} can be used\n{report.summary()}")
        logger.warning("not all of %s is used as it is given\n%s", name, report.summary())
    if len(features):
        check_fit(features, name, model, tokenizer)
    return features, report


def _is_features(data: Any) -> bool:
    """Whether these are features that `encode` made before."""
    if isinstance(data, Dataset):
        return set(data.column_names) >= _FEATURES
    return isinstance(data, Sequence) and bool(data) and isinstance(data[0], Mapping) and data[0].keys() >= _FEATURES


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
