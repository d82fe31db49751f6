"""The trainer against a slow reference; how a batch is split, padded or interrupted changes nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from training import EXAMPLES, assert_same_weights, make_examples, make_model, make_tokenizer, settings, train
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer

from cattune.attention import LayerMask
from cattune.data.records import example_to_dict
from cattune.errors import AlignmentError, ConfigError
from cattune.supervision.rows import encode_examples
from cattune.training.trainer import CATTrainer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def reference_loss(
    model: LlamaForCausalLM, features: list[dict[str, Any]], gamma: float, layers: list[int], heads: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """One example at a time, from the eager model's full maps, one row and one key at a time (objective `uniform`)."""
    cross_entropy, tokens, loss, rows, mass = torch.zeros(()), 0, torch.zeros(()), 0, torch.zeros(())
    for example in features:
        out = model(torch.tensor([example["input_ids"]]), output_attentions=True)
        log_p = out.logits[0].log_softmax(-1)
        for t, label in enumerate(example["labels"]):
            if label != -100:
                cross_entropy, tokens = cross_entropy - log_p[t - 1, label], tokens + 1
        attention = torch.stack([out.attentions[layer][0, heads] for layer in layers]).mean((0, 1))  # (S, S)
        for i, keys, weights in zip(
            example["query_rows"], example["causal_keys"], example["causal_weights"], strict=True
        ):
            for j, weight in zip(keys, weights, strict=True):
                p = weight / sum(weights)
                loss = loss + p * (math.log(p) - attention[i, j].log())
                mass = mass + attention[i, j].detach()
            rows += 1
    return cross_entropy / tokens + gamma * loss / rows, loss / rows, mass / rows


@pytest.mark.parametrize(("layers", "heads"), [(None, None), ([-1], [0, 2])])
def test_loss_and_gradients_are_the_reference_s(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, layers: list[int] | None, heads: list[int] | None
) -> None:
    args = settings(
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=16,
        gamma_schedule="constant",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        layers=layers,
        heads=heads,
    )
    model, reference = make_model(tokenizer), make_model(tokenizer, "eager")
    trainer = CATTrainer(model, args, train_dataset=EXAMPLES, processing_class=tokenizer)
    trainer.train()
    features, _ = encode_examples(EXAMPLES, tokenizer)
    loss, re_attention, mass = reference_loss(reference, features, 0.7, layers or [0, 1], heads or [0, 1, 2, 3])
    logged = trainer.state.log_history[0]
    assert logged["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert logged["re_attention_loss"] == pytest.approx(re_attention.item(), abs=1e-5)
    assert logged["causal_mass"] == pytest.approx(mass.item(), abs=1e-5)
    assert logged["supervised_rows"] == sum(len(f["query_rows"]) for f in features)
    loss.backward()
    with torch.no_grad():  # one step of plain gradient descent at rate 1
        for parameter in reference.parameters():
            parameter -= parameter.grad
    assert_same_weights(model, reference, 2e-5)


class TestInvariants:
    def test_accumulation(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        """Micro-batches with unequal numbers of tokens and rows, some with none, give the whole batch's step."""
        whole = train(tokenizer, tmp_path, per_device_train_batch_size=8)
        split = train(tokenizer, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8)
        assert_same_weights(whole.model, split.model)
        for one, other in zip(whole.state.log_history, split.state.log_history, strict=True):
            for name in (
                "loss",
                "cross_entropy",
                "re_attention_loss",
                "causal_mass",
                "attention_ratio",
                "supervised_rows",
            ):
                if name in one:
                    assert other[name] == pytest.approx(one[name], rel=1e-4, abs=1e-5), name

    def test_padding_side(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        right = train(tokenizer, tmp_path)
        try:
            tokenizer.padding_side = "left"
            left = train(tokenizer, tmp_path)
        finally:
            tokenizer.padding_side = "right"
        assert_same_weights(left.model, right.model, 1e-5)

    def test_packing(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        padded = train(tokenizer, tmp_path, objective="contrast")
        packed = train(tokenizer, tmp_path, objective="contrast", padding_free=True)
        assert_same_weights(packed.model, padded.model, 1e-5)
        for one, other in zip(padded.state.log_history, packed.state.log_history, strict=True):
            if "loss" in one:
                assert other["re_attention_loss"] == pytest.approx(one["re_attention_loss"], rel=1e-4)

    def test_backend(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        trainers = []
        for implementation in ("sdpa", "eager"):
            model = make_model(tokenizer, implementation)
            trainers.append(CATTrainer(model, settings(tmp_path), train_dataset=EXAMPLES, processing_class=tokenizer))
            trainers[-1].train()
        assert_same_weights(trainers[0].model, trainers[1].model, 1e-5)

    def test_gradient_checkpointing(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        plain = train(tokenizer, tmp_path, gamma=5.0)
        checkpointed = train(tokenizer, tmp_path, gamma=5.0, gradient_checkpointing=True)
        assert_same_weights(plain.model, checkpointed.model)

    def test_batch_order_within_a_step(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        models = []
        for examples in (EXAMPLES, EXAMPLES[::-1]):
            model = make_model(tokenizer)
            args = settings(tmp_path, per_device_train_batch_size=16, max_steps=2)
            CATTrainer(model, args, train_dataset=examples, processing_class=tokenizer).train()
            models.append(model)
        assert_same_weights(*models, 1e-5)

    def test_resumed_run_is_the_uninterrupted_one(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        options: dict[str, Any] = dict(
            max_steps=8,
            optim="adamw_torch",
            save_strategy="steps",
            save_steps=4,
            gamma_schedule="exponential",
            logging_steps=2,
        )
        whole = train(tokenizer, tmp_path / "whole", **options)
        resumed = CATTrainer(
            make_model(tokenizer),
            settings(tmp_path / "resumed", **options),
            train_dataset=EXAMPLES,
            processing_class=tokenizer,
        )
        resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
        assert_same_weights(whole.model, resumed.model, 0.0)
        assert [x["cross_entropy"] for x in whole.state.log_history if "loss" in x] == pytest.approx(
            [x["cross_entropy"] for x in resumed.state.log_history if "loss" in x], abs=1e-6
        )

    def test_gamma_zero_is_the_plain_trainer(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        ours = train(tokenizer, tmp_path, gamma=0.0)
        features, _ = encode_examples(EXAMPLES, tokenizer)
        plain = Trainer(
            make_model(tokenizer),
            settings(tmp_path),
            train_dataset=features,  # type: ignore[arg-type]
            data_collator=lambda batch: {
                name: value
                for name, value in ours.data_collator(batch).items()
                if name in ("input_ids", "labels", "attention_mask")
            },
        )
        plain.train()
        assert_same_weights(ours.model, plain.model, 0.0)

    def test_data_set_of_records_is_the_list_of_examples(
        self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        model = make_model(tokenizer)
        records = Dataset.from_list([example_to_dict(example) for example in EXAMPLES])
        CATTrainer(model, settings(tmp_path), train_dataset=records, processing_class=tokenizer).train()
        assert_same_weights(model, train(tokenizer, tmp_path).model, 0.0)

    def test_a_model_whose_loss_ignores_the_number_of_items(
        self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = train(tokenizer, tmp_path, per_device_train_batch_size=8)
        monkeypatch.setattr(LlamaForCausalLM, "accepts_loss_kwargs", False, raising=False)
        split = train(tokenizer, tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8)
        assert_same_weights(whole.model, split.model)


@pytest.mark.parametrize("aggregation", ["mean", "layer", "head"])
@pytest.mark.parametrize("objective", ["uniform", "mass", "contrast", "hinge"])
def test_training_raises_the_causal_mass(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, objective: str, aggregation: str
) -> None:
    history = train(
        tokenizer,
        tmp_path,
        objective=objective,
        aggregation=aggregation,
        max_steps=12,
        optim="adamw_torch",
        alpha=50.0,
        per_device_train_batch_size=16,
    ).state.log_history
    mass = [entry["causal_mass"] for entry in history if "causal_mass" in entry]
    assert mass[-1] > 1.2 * mass[0]


def test_evaluation_of_named_splits_reports_cross_entropy_and_attention(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = make_model(tokenizer, "eager")
    splits = {"first": EXAMPLES[:6], "second": EXAMPLES[6:]}
    # Batches of four and of two: the mean is over tokens, not over batches.
    trainer = CATTrainer(
        model, settings(tmp_path, per_device_eval_batch_size=4), eval_dataset=splits, processing_class=tokenizer
    )
    metrics = trainer.evaluate()
    features, _ = encode_examples(splits["first"], tokenizer)
    loss, _, mass = reference_loss(model, features, 0.0, [0, 1], [0, 1, 2, 3])
    assert metrics["eval_first_loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert metrics["eval_first_causal_mass"] == pytest.approx(mass.item(), abs=1e-5)
    assert metrics["eval_second_supervised_rows"] == sum(
        len(f["query_rows"]) for f in encode_examples(splits["second"], tokenizer)[0]
    )


def test_an_evaluation_leaves_the_training_figures_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    def rows(**changes: Any) -> list[float]:
        trainer = CATTrainer(
            make_model(tokenizer),
            settings(tmp_path, logging_steps=2, **changes),
            train_dataset=EXAMPLES,
            eval_dataset=EXAMPLES,
            processing_class=tokenizer,
        )
        trainer.train()
        return [entry["supervised_rows"] for entry in trainer.state.log_history if "loss" in entry]

    assert rows(eval_strategy="steps", eval_steps=1) == rows()


def test_peft_trains_the_adapter_alone(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, before = make_model(tokenizer), make_model(tokenizer)
    trainer = CATTrainer(
        model,
        settings(tmp_path, optim="adamw_torch", max_steps=8, gradient_checkpointing=True),
        train_dataset=EXAMPLES,
        processing_class=tokenizer,
        peft_config=peft.LoraConfig(r=4, target_modules=["q_proj", "k_proj"]),
    )
    trainer.train()
    mass = [entry["causal_mass"] for entry in trainer.state.log_history if "causal_mass" in entry]
    assert mass[-1] > mass[0]
    trained = {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    assert trained and all("lora" in name for name in trained)
    for name, value in before.state_dict().items():
        base = dict(trainer.model.get_base_model().state_dict())
        assert torch.equal(value, base.get(name, base.get(name.replace("_proj.", "_proj.base_layer.")))), name


def test_a_saved_model_loads_without_cattune(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    trainer = train(tokenizer, tmp_path)
    trainer.save_model(str(tmp_path / "model"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert_same_weights(model, trainer.model, 0.0)
    assert model.config._attn_implementation == "sdpa"
    assert "cattune" not in (tmp_path / "model" / "config.json").read_text()
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model")) == len(tokenizer)


class TestRefusals:
    def refuse(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, match: str, **changes: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            CATTrainer(
                make_model(tokenizer), settings(tmp_path, **changes), train_dataset=EXAMPLES, processing_class=tokenizer
            )

    @pytest.mark.parametrize(
        ("setting", "value", "match"),
        [
            ("gamma", -0.1, "gamma is -0.1.*>= 0"),
            ("gamma", math.nan, "gamma is nan"),
            ("learning_rate", math.inf, "learning_rate is inf; it must be a finite number"),
            ("alpha", 0.0, "alpha is 0.0.*> 0"),
            ("objective", "kl", "unknown objective 'kl'"),
            ("gamma_schedule", "step", "gamma_schedule is 'step'"),
            ("aggregation", "sum", "aggregation is 'sum'"),
            ("gamma_warmup", 1.0, "gamma_warmup is 1.0"),
            ("layers", [], "layers is"),
            ("layers", [2], "layers 0 to 1"),
            ("heads", [4], r"heads \[4\].*heads 0 to 3"),
            ("max_length", 1, "max_length is 1"),
            ("remove_unused_columns", True, "remove_unused_columns"),
        ],
    )
    def test_settings(
        self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, setting: str, value: Any, match: str
    ) -> None:
        self.refuse(tokenizer, tmp_path, match, **{setting: value})

    def test_reentrant_checkpointing(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        options = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}
        self.refuse(tokenizer, tmp_path, "use_reentrant", **options)

    def test_no_link_at_all(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        examples = make_examples(4, linked=0.0)
        with pytest.raises(ConfigError, match="no causal link of the training set could be aligned"):
            CATTrainer(make_model(tokenizer), settings(tmp_path), train_dataset=examples, processing_class=tokenizer)
        trainer = CATTrainer(
            make_model(tokenizer), settings(tmp_path, gamma=0.0), train_dataset=examples, processing_class=tokenizer
        )
        assert trainer.alignment.examples_without_links == 4

    def test_strict_refuses_a_lost_cause(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        with pytest.raises(AlignmentError, match="strict"):
            CATTrainer(
                make_model(tokenizer),
                settings(tmp_path, strict=True, max_length=12),
                train_dataset=EXAMPLES,
                processing_class=tokenizer,
            )

    def test_a_backend_that_cannot_be_captured(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        model = make_model(tokenizer)
        model.config._attn_implementation = "xformers"
        with pytest.raises(ConfigError, match="xformers"):
            CATTrainer(model, settings(tmp_path), train_dataset=EXAMPLES, processing_class=tokenizer)

    def test_attention_that_the_self_check_finds_wrong(
        self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
    ) -> None:
        """Before the first step, unless it is told not to."""

        def trainer(**changes: Any) -> CATTrainer:
            built = CATTrainer(
                make_model(tokenizer), settings(tmp_path, **changes), train_dataset=EXAMPLES, processing_class=tokenizer
            )
            built._re_attention.masks = {0: LayerMask(window=3), 1: LayerMask()}
            return built

        refused = trainer()
        with pytest.raises(ConfigError, match=r"self-check: in layer 0 \(a sliding window of 3\)"):
            refused.train()
        assert refused.state.global_step == 0
        assert_same_weights(refused.model, make_model(tokenizer), 0.0)
        trainer(self_check=False).train()
