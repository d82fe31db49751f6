"""What the trainer takes, for training, evaluating and predicting alike, and what it says of anything else."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from training import EXAMPLES, make_examples, make_model, make_tokenizer, settings
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
)

from cattune.data.examples import CausalLink, Span
from cattune.data.records import example_to_dict
from cattune.errors import AlignmentError, CattuneError, ConfigError, DataError
from cattune.supervision.rows import encode_examples
from cattune.training.trainer import CATTrainer

TEST = make_examples(6, seed=3)
ROWS = [example_to_dict(example) for example in TEST]
PUBLISHED = [
    {"input": example.prompt, "target": example.target, "important": {example.target: [example.prompt[:4]]}}
    for example in TEST
]
PLACE = Span("prompt", 0, 1)
LOSING = [replace(TEST[0], id="lost", links=(*TEST[0].links, CausalLink(PLACE, (PLACE,))))]
"""The first token is predicted by nothing, so that one of its links is lost."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


@pytest.fixture(scope="module")
def trainer(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> CATTrainer:
    splits = {"iid": EXAMPLES[:4], "ood": TEST}
    folder = tmp_path_factory.mktemp("run")
    return CATTrainer(make_model(tokenizer), settings(folder), eval_dataset=splits, processing_class=tokenizer)


def figures(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    names = ("loss", "re_attention_loss", "causal_mass", "attention_ratio", "supervised_rows")
    return {name: pytest.approx(metrics[f"{prefix}_{name}"], rel=1e-5) for name in names}


@pytest.mark.parametrize(
    "data",
    [TEST, tuple(TEST), ROWS, Dataset.from_list(ROWS), Dataset.from_list(ROWS).with_format("torch")],
    ids=["examples", "tuple", "rows", "Dataset", "formatted"],
)
def test_evaluate_and_predict_take_what_the_constructor_takes(data: Any, trainer: CATTrainer) -> None:
    expected = trainer.evaluate("ood", metric_key_prefix="x")
    assert figures(trainer.evaluate(data, metric_key_prefix="x"), "x") == figures(expected, "x")
    assert figures(trainer.evaluate({"a": data, "b": EXAMPLES[:4]}), "eval_a") == figures(expected, "x")
    predicted = trainer.predict(data)
    assert figures(predicted.metrics, "test") == figures(expected, "x") and len(predicted.predictions) == len(TEST)
    assert trainer.eval_alignment["a"].examples == len(TEST)


def test_evaluate_without_data_takes_all_splits_of_the_constructor(trainer: CATTrainer) -> None:
    metrics = trainer.evaluate(ignore_keys=["past_key_values"])
    assert {name.split("_")[1] for name in metrics if name.endswith("_loss")} == {"iid", "ood"}
    assert figures(metrics, "eval_ood") == figures(trainer.evaluate("ood"), "eval")


def test_features_are_taken_as_they_are(trainer: CATTrainer, tokenizer: PreTrainedTokenizerFast) -> None:
    features, _ = encode_examples(TEST, tokenizer)
    expected = trainer.evaluate(TEST)
    for data in (features, Dataset.from_list(features)):
        assert figures(trainer.evaluate(data), "eval") == figures(expected, "eval")


def test_published_rows_and_splits_of_a_data_set(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = CATTrainer(
        make_model(tokenizer),
        settings(tmp_path, max_steps=1),
        train_dataset=Dataset.from_list(PUBLISHED),
        eval_dataset=DatasetDict({"rows": Dataset.from_list(ROWS), "published": Dataset.from_list(PUBLISHED)}),
        processing_class=tokenizer,
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_published_supervised_rows"] == trainer.alignment.rows > 0
    assert {name: report.examples for name, report in trainer.eval_alignment.items()} == {"rows": 6, "published": 6}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ood.jsonl", "there is no split 'ood.jsonl'; eval_dataset has 'iid', 'ood'"),
        (Path("ood.jsonl"), "evaluation set 'eval': expected a list of examples.*got PosixPath; read a file"),
        ((example for example in TEST), "got generator; it can be read only once"),
        (Dataset.from_list(ROWS).to_iterable_dataset(), "got IterableDataset; .*stored first"),
        (5, "got int"),
        ({}, "the dict of evaluation sets is empty"),
        ({"a": "x.jsonl"}, "evaluation set 'a': .*got str; read a file with load_examples"),
        ({1: TEST, "b": TEST}, "the name of an evaluation set is 1; expected text, such as '1'"),
        ([], "evaluation set 'eval' has no example"),
        ([5], "row 0: expected a list of examples"),
        ([{"question": "a", "answer": "b"}], "evaluation set 'eval': row 0: this is no format that cattune reads"),
        (Dataset.from_list([{"text": "a"}]), "evaluation set 'eval': the columns: this is no format"),
        (TEST + TEST, "rows 0 and 6: both have the id"),
    ],
)
def test_evaluate_says_what_it_expects(data: Any, message: str, trainer: CATTrainer) -> None:
    with pytest.raises(DataError, match=message):
        trainer.evaluate(data)


def test_predict_says_what_it_expects(trainer: CATTrainer) -> None:
    for data, got in (({"a": TEST}, "a dict"), ("ood", "a str"), (None, "None")):
        with pytest.raises(DataError, match=f"predict takes one data set, got {got}; .*one call for each split"):
            trainer.predict(data)
    with pytest.raises(DataError, match="the evaluation set 'test': expected a list of examples"):
        trainer.predict(5)


class TestLossesOfLinks:
    def make(self, tokenizer: Any, folder: Path, data: Any, **changes: Any) -> CATTrainer:
        return CATTrainer(
            make_model(tokenizer), settings(folder, **changes), eval_dataset=data, processing_class=tokenizer
        )

    def test_are_reported_by_split(self, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, logger="cattune"):
            trainer = self.make(tokenizer, tmp_path, {"good": TEST, "bad": LOSING})
        (record,) = [r for r in caplog.records if "not all of" in r.message]
        assert "evaluation set 'bad'" in record.message and "1 x link" in record.message
        assert trainer.eval_alignment["bad"].lost and not trainer.eval_alignment["good"].lost
        with caplog.at_level(logging.WARNING, logger="cattune"):
            trainer.evaluate(LOSING)
        assert "evaluation set 'eval'" in caplog.records[-1].message and trainer.eval_alignment["eval"].lost

    def test_are_refused_where_strict(self, tokenizer: Any, tmp_path: Path) -> None:
        with pytest.raises(AlignmentError, match="strict: not every causal link of the evaluation set 'bad'"):
            self.make(tokenizer, tmp_path, {"bad": LOSING}, strict=True)
        trainer = self.make(tokenizer, tmp_path, TEST, strict=True)
        with pytest.raises(AlignmentError, match="strict: not every causal link of the evaluation set 'eval'"):
            trainer.evaluate(LOSING)


class Processor:
    tokenizer = None


T5 = T5Config(vocab_size=10, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "gpt2"}, "model is the name 'gpt2'; expected .*AutoModelForCausalLM.from_pretrained"),
        ({"model": None}, "model is None; expected a causal language model"),
        ({"model": torch.nn.Linear(1, 1)}, "model is a Linear; expected a causal language model"),
        ({"model": T5ForConditionalGeneration(T5)}, "T5ForConditionalGeneration is an encoder-decoder"),
        ({"args": None}, "args is None; expected a CATConfig"),
        ({"args": {"output_dir": "x"}}, "args is a dict; expected a CATConfig"),
        ({"args": TrainingArguments("x", use_cpu=True)}, "args is a TrainingArguments; .*takes the same settings"),
        ({"processing_class": None}, "processing_class is None; expected the model's fast tokenizer"),
        ({"processing_class": "gpt2"}, "processing_class is a str; expected the model's fast tokenizer"),
        ({"processing_class": Processor()}, "processing_class=processor.tokenizer"),
        ({"tokenizer": object()}, "takes no tokenizer: the tokenizer is called processing_class"),
        ({"data_collator": list}, "takes no data_collator: the rows and causal keys of a batch move"),
        ({"peft_config": {"r": 4}}, "peft_config is a dict; expected a PEFT configuration"),
        ({"train_dataset": "train.jsonl"}, "the training set: expected .*got str; read a file with load_examples"),
        ({"train_dataset": EXAMPLES + EXAMPLES}, "the training set: rows 0 and 16: both have the id"),
        ({"train_dataset": []}, "the training set has no example"),
    ],
)  # fmt: skip
def test_other_arguments_get_one_sentence(
    changes: dict[str, Any], message: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    given = {
        "model": make_model(tokenizer),
        "args": settings(tmp_path),
        "train_dataset": EXAMPLES,
        "processing_class": tokenizer,
    }
    with pytest.raises(CattuneError, match=message):
        CATTrainer(**(given | changes))


def test_no_adapter_upon_an_adapter(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    model = get_peft_model(make_model(tokenizer), lora)
    with pytest.raises(ConfigError, match="the model has an adapter already"):
        CATTrainer(model, settings(tmp_path), train_dataset=EXAMPLES, processing_class=tokenizer, peft_config=lora)
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ConfigError, match="PromptTuningConfig adds virtual tokens"):
        CATTrainer(
            make_model(tokenizer), settings(tmp_path), train_dataset=EXAMPLES, processing_class=tokenizer,
            peft_config=prompts,
        )  # fmt: skip


def test_a_loss_of_the_callers_own_is_kept(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        return outputs["logits"].sum() * 0 + 5

    model = make_model(tokenizer)
    model.accepts_loss_kwargs = False
    data = Dataset.from_list(ROWS)
    args = settings(tmp_path, max_steps=1, gamma=0.0)
    trainer = CATTrainer(model, args, train_dataset=data, processing_class=tokenizer, compute_loss_func=loss)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == 5


@pytest.mark.parametrize("as_given", [list, lambda examples: Dataset.from_list([*map(example_to_dict, examples)])])
class TestFit:
    """A token or a position that the model has no embedding for is found before training."""

    def refused(self, model: Any, tokenizer: Any, folder: Path, data: Any, message: str) -> None:
        for name, where in (("train_dataset", "the training set"), ("eval_dataset", "the evaluation set 'eval'")):
            with pytest.raises(ConfigError, match=f"{where} has {message}"):
                CATTrainer(model, settings(folder), processing_class=tokenizer, **{name: data})

    def test_tokens(self, as_given: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        wide = copy.deepcopy(tokenizer)
        wide.add_tokens(["zebra"])
        data = as_given([*TEST, replace(TEST[0], id="new", prompt="zebra ", links=())])
        known = len(tokenizer)
        self.refused(make_model(tokenizer), wide, tmp_path, data, f"token id {known} .'zebra'.*knows ids below {known}")
        CATTrainer(make_model(wide), settings(tmp_path), train_dataset=data, processing_class=wide)

    def test_positions(self, as_given: Any, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=1, n_head=2))
        data = as_given([*TEST, replace(TEST[0], id="long", prompt="red " * 80, links=())])
        self.refused(model, tokenizer, tmp_path, data, "an example of 8. tokens, and GPT2LMHeadModel has 64 positions")
        for other, examples in ((model, as_given(TEST)), (make_model(tokenizer), data)):  # rotary positions go on
            other.config.max_position_embeddings = 64
            CATTrainer(other, settings(tmp_path), train_dataset=examples, processing_class=tokenizer)
