"""Logits where there is a label alone: the same loss and the same gradients as from all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import FAMILIES, build
from torch import Tensor, nn
from training import EXAMPLES, assert_same_weights, make_model, make_tokenizer, settings
from transformers import PreTrainedTokenizerFast

from cattune.supervision.collator import CausalCollator
from cattune.training import logits
from cattune.training.logits import at_labels, dimensions_to_keep
from cattune.training.trainer import CATTrainer

LENGTHS, LABELS = (9, 6, 12), ((7, 8), (2, 3, 5), (11,))
"""Of examples: their tokens, and which of these are labels."""


def features() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for length, labelled in zip(LENGTHS, LABELS, strict=True):
        ids = torch.randint(3, 55, (length,), generator=generator).tolist()
        labels = [token if t in labelled else -100 for t, token in enumerate(ids)]
        found.append({"input_ids": ids, "labels": labels, "query_rows": [], "causal_keys": [], "causal_weights": []})
    return found


def loss_and_gradients(model: nn.Module, batch: dict[str, Tensor], **options: Any) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    loss = model(**batch, use_cache=False, **options).loss
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_gradients_of_every_family(name: str):
    model = build(name, "eager")
    dimensions = dimensions_to_keep(model)
    if not dimensions:
        pytest.skip("computes all logits")
    batch = CausalCollator(0)(features())
    rows = batch.pop("label_rows")
    batch = {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}
    items = {"num_items_in_batch": torch.tensor(11)}
    for options in ({}, items):
        loss, gradients = loss_and_gradients(model, batch, **options)
        for each in range(1, dimensions + 1):
            few, few_gradients = loss_and_gradients(model, at_labels(batch, rows, each), **options)
            torch.testing.assert_close(few, loss, atol=1e-6, rtol=1e-6)
            for got, expected in zip(few_gradients, gradients, strict=True):
                torch.testing.assert_close(got, expected, atol=1e-6 * float(expected.abs().max()) + 1e-7, rtol=1e-5)


def test_label_rows_predict_the_labels():
    """Also where they are padded on the left, joined, or missing; a first label is never predicted."""
    right, left, joined = CausalCollator(0), CausalCollator(0, "left"), CausalCollator(0, padding_free=True)
    given = features()
    assert right(given)["label_rows"].tolist() == [[6, 7, -1], [1, 2, 4], [10, -1, -1]]
    assert left(given)["label_rows"].tolist() == [[9, 10, -1], [7, 8, 10], [10, -1, -1]]
    assert joined(given)["label_rows"].tolist() == [[6, 7, 10, 11, 13, 25]]
    given[0]["labels"][0] = 5
    assert joined(given)["label_rows"].tolist() == [[6, 7, 10, 11, 13, 25]]
    none = [dict(given[0], labels=[-100] * 9)]
    assert right(none)["label_rows"].tolist() == [[-1]]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


class Run:
    """A run's trainer, how many positions each forward pass computed logits of, and how many tokens it read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, worthwhile: int, tokenizer: Any, output: Path, **options: Any):
        monkeypatch.setattr(logits, "WORTHWHILE", worthwhile)
        given = {
            name: options.pop(name)
            for name in ("compute_loss_func", "compute_metrics", "peft_config")
            if name in options
        }
        model, self.seen = make_model(tokenizer), list[tuple[int, int]]()
        model.register_forward_hook(
            lambda _, args, kwargs, out: self.seen.append((out.logits.shape[1], kwargs["input_ids"].shape[1])),
            with_kwargs=True,
        )
        self.trainer = CATTrainer(
            model,
            settings(output, **({"eval_strategy": "steps", "eval_steps": 2, "self_check": False} | options)),
            train_dataset=EXAMPLES,
            eval_dataset=EXAMPLES[:6],
            processing_class=tokenizer,
            **given,
        )
        self.trainer.train()

    def in_full(self) -> list[bool]:
        return [kept == tokens for kept, tokens in self.seen]


FEW, ALL = 0, 2**60


@pytest.mark.parametrize(
    "options",
    [{}, {"gradient_accumulation_steps": 3}, {"padding_free": True}, {"gamma": 0.0}, {"self_check": True}],
    ids=str,
)
def test_a_run_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, options: dict[str, Any]
):
    few, full = (Run(monkeypatch, least, tokenizer, tmp_path, **options) for least in (FEW, ALL))
    assert not any(few.in_full()[-1:]) and all(full.in_full())
    assert "self_check" in options or not any(few.in_full())
    assert_same_weights(few.trainer.model, full.trainer.model)
    for one, other in zip(few.trainer.state.log_history, full.trainer.state.log_history, strict=True):
        for name in ("loss", "cross_entropy", "eval_loss", "re_attention_loss", "eval_causal_mass"):
            assert one.get(name) == pytest.approx(other.get(name), abs=2e-6), name


def own_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    assert outputs.logits.shape[:2] == labels.shape
    return nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())


@pytest.mark.parametrize(
    "options", [{"label_smoothing_factor": 0.1}, {"compute_loss_func": own_loss}], ids=lambda given: next(iter(given))
)
def test_who_computes_the_loss_sees_all_logits(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, options: dict[str, Any]
):
    assert all(Run(monkeypatch, FEW, tokenizer, tmp_path, **options).in_full())


def test_who_looks_at_logits_sees_all(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
):
    shapes = []

    def metrics(prediction: Any) -> dict[str, float]:
        shapes.append((prediction.predictions.shape[:2], prediction.label_ids.shape))
        return {"share": 1.0}

    run = Run(monkeypatch, FEW, tokenizer, tmp_path, compute_metrics=metrics)
    assert shapes and all(seen == labels for seen, labels in shapes)
    predicted = run.trainer.predict(EXAMPLES[:3])
    assert predicted.predictions.shape[:2] == predicted.label_ids.shape
    batch = run.trainer.data_collator([run.trainer.train_dataset[0]])
    run.trainer.model.train()
    _, outputs = run.trainer.compute_loss(run.trainer.model, dict(batch), return_outputs=True)
    assert outputs.logits.shape[1] == batch["input_ids"].shape[1]


def test_the_head_of_a_small_model_is_not_worth_it(
    monkeypatch: pytest.MonkeyPatch, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
):
    assert all(Run(monkeypatch, logits.WORTHWHILE, tokenizer, tmp_path).in_full())


class TestModels:
    def test_adapters(self, tokenizer: PreTrainedTokenizerFast):
        from peft import LoraConfig, PromptTuningConfig, get_peft_model

        plain = dimensions_to_keep(make_model(tokenizer))
        assert plain
        assert dimensions_to_keep(get_peft_model(make_model(tokenizer), LoraConfig(task_type="CAUSAL_LM"))) == plain
        virtual = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
        assert dimensions_to_keep(get_peft_model(make_model(tokenizer), virtual)) == 0

    def test_a_loss_of_its_own(self, tokenizer: PreTrainedTokenizerFast):
        model = make_model(tokenizer)
        model.loss_function = own_loss
        assert dimensions_to_keep(model) == 0

    def test_others_compute_all(self):
        class Whole(nn.Module):
            loss_function = staticmethod(logits.ForCausalLMLoss)

            def forward(self, input_ids: Any, labels: Any = None, **kwargs: Any) -> Any:
                return self.loss_function(input_ids, labels, 1)

        class Last(Whole):
            def forward(self, input_ids: Any, labels: Any = None, logits_to_keep: int = 0, **kwargs: Any) -> Any:
                return self.loss_function(input_ids, labels, 1)

        class Inline(Whole):
            def forward(self, input_ids: Any, labels: Any = None, logits_to_keep: int | Tensor = 0) -> Any:
                return nn.functional.cross_entropy(input_ids, labels)

        class Shared(Whole):
            def forward(self, input_ids: Any, labels: Any = None, logits_to_keep: int | Tensor = 0) -> Any:
                return self.loss_function(input_ids[:, logits_to_keep], labels, 1)

        assert [dimensions_to_keep(kind()) for kind in (Whole, Last, Inline, Shared)] == [0, 0, 0, 1]
