"""Precision, checkpointing, compilation, adapters, quantised weights, losses without logits: all train the same way."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import EXAMPLES, assert_same_weights, make_examples, make_model, make_tokenizer, settings, train
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    QuantoConfig,
    TorchAoConfig,
    TrainingArguments,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from two_processes import gpt_oss

from cattune.attention import RowSelection
from cattune.errors import ConfigError
from cattune.supervision.collator import CausalCollator
from cattune.supervision.rows import encode_examples
from cattune.training.penalties.re_attention import ReAttention, RowSums
from cattune.training.trainer import CATTrainer

CHECKPOINTING = ["gradient_checkpointing"]
if "activation_checkpointing" in {field.name for field in dataclasses.fields(TrainingArguments)}:
    CHECKPOINTING.append("activation_checkpointing")  # its name in newer versions of transformers


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def train_model(
    model: nn.Module, tokenizer: PreTrainedTokenizerFast, output: Path, peft_config: Any = None, **changes: Any
) -> CATTrainer:
    trainer = CATTrainer(
        model,  # type: ignore[arg-type]
        settings(output, **changes),
        train_dataset=EXAMPLES,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    trainer.train()
    return trainer


def figures(trainer: CATTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


class TestPrecision:
    def step(self, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype) -> tuple[RowSums, dict[str, Tensor]]:
        """The sums and gradients of one batch under autocast; float32 is no autocast."""
        model = make_model(tokenizer)
        batch = CausalCollator(0)(encode_examples(EXAMPLES, tokenizer)[0])
        selection = RowSelection.from_batch(
            batch["query_rows"], batch["causal_keys"], attention_mask=batch["attention_mask"]
        )
        re_attention = ReAttention(model)
        capture = re_attention.start(selection, grad=True)
        with (
            capture.observe(model),
            torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32),
        ):
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
            sums = re_attention.sums(capture, batch["causal_weights"])
        assert logits.dtype == dtype
        sums.loss.backward()
        return sums, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast_captures_in_float32(self, tokenizer: PreTrainedTokenizerFast, dtype: torch.dtype) -> None:
        """Queries and keys are rounded to `dtype`, by half its precision each; what follows is not."""
        sums, gradients = self.step(tokenizer, dtype)
        expected, expected_gradients = self.step(tokenizer, torch.float32)
        assert {x.dtype for x in sums if x.is_floating_point()} == {torch.float32}
        precision = torch.finfo(dtype).eps
        assert sums.rows == expected.rows
        assert sums.loss.item() == pytest.approx(expected.loss.item(), rel=precision)
        assert sums.mass.item() == pytest.approx(expected.mass.item(), rel=precision)
        assert gradients.keys() == expected_gradients.keys()
        for name, gradient in gradients.items():
            largest = expected_gradients[name].abs().max().item()
            torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=8 * precision * largest)

    def test_bf16_run_follows_the_float32_one(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        """Logits and attention are rounded to 3 digits, and 4 steps add little to that."""
        one, other = (train(tokenizer, tmp_path, bf16=bf16) for bf16 in (False, True))
        for name in ("cross_entropy", "re_attention_loss", "causal_mass"):
            assert figures(other, name) == pytest.approx(figures(one, name), rel=2e-2), name
            assert figures(other, name) != pytest.approx(figures(one, name), rel=1e-6), "this was no autocast"


class TestCheckpointing:
    @pytest.mark.parametrize("setting", CHECKPOINTING)
    def test_changes_nothing(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, setting: str) -> None:
        plain = train(tokenizer, tmp_path, gamma=5.0)
        checkpointed = train(tokenizer, tmp_path, gamma=5.0, **{setting: True})
        assert checkpointed.model.model.layers[0].gradient_checkpointing
        assert_same_weights(plain.model, checkpointed.model)

    @pytest.mark.parametrize("setting", CHECKPOINTING)
    def test_reentrant_is_refused(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, setting: str) -> None:
        with pytest.raises(ConfigError, match="use_reentrant"):
            settings(tmp_path, **{setting: True, f"{setting}_kwargs": {"use_reentrant": True}})

    def test_reentrant_on_the_model_is_refused(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        """It would train, with a Re-Attention loss that has no gradient."""
        model = make_model(tokenizer)
        model.gradient_checkpointing_enable({"use_reentrant": True})
        with pytest.raises(ConfigError, match="reentrant gradient checkpointing"):
            train_model(model, tokenizer, tmp_path)
        assert_same_weights(model, make_model(tokenizer), 0.0)

    def test_on_the_model_is_the_setting(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        model = make_model(tokenizer)
        model.gradient_checkpointing_enable({"use_reentrant": False})
        train_model(model, tokenizer, tmp_path)
        assert_same_weights(model, train(tokenizer, tmp_path).model)


@pytest.mark.slow
class TestCompiled:
    """Prompts of many lengths: one graph for the first, one for all others, as without the capture."""

    STEPS = 6

    @pytest.fixture(autouse=True)
    def fresh(self) -> None:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()

    def assert_compiled_once(self, graphs: int = 2) -> None:
        counters = torch._dynamo.utils.counters
        assert counters["stats"]["unique_graphs"] == graphs
        assert not counters["graph_break"] and not counters["unimplemented"]
        assert counters["frames"]["ok"] == counters["frames"]["total"]

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_whole_model(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, checkpointing: bool) -> None:
        plain = train(tokenizer, tmp_path, max_steps=self.STEPS)
        options: dict[str, Any] = {"torch_compile": True, "torch_compile_backend": "aot_eager"}
        compiled = train(tokenizer, tmp_path, max_steps=self.STEPS, gradient_checkpointing=checkpointing, **options)
        self.assert_compiled_once()
        assert_same_weights(plain.model, compiled.model)

    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_layer_by_layer(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, checkpointing: bool) -> None:
        """More layers than torch compiles a function anew for: they share their code."""
        models = []
        for backend in (None, "aot_eager"):
            models.append(make_model(tokenizer, layers=torch._dynamo.config.recompile_limit + 2))
            for layer in models[-1].model.layers if backend else []:
                layer.compile(backend=backend)
            options: dict[str, Any] = {"gradient_checkpointing": checkpointing, "learning_rate": 1e-3}
            train_model(models[-1], tokenizer, tmp_path, max_steps=3, **options)
        self.assert_compiled_once()
        assert_same_weights(*models)

    def test_inductor(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        """One step, since compiling is slow; it fuses operations, so the last digits differ."""
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            pytest.skip("inductor needs a C++ compiler")
        models = []
        for backend in (None, "inductor"):
            models.append(make_model(tokenizer, layers=1))
            options = {} if backend is None else {"torch_compile": True, "torch_compile_backend": backend}
            train_model(models[-1], tokenizer, tmp_path, max_steps=1, **options)
        self.assert_compiled_once(graphs=1)
        assert_same_weights(*models, 1e-5)


class TestAdapters:
    @pytest.mark.parametrize(
        "options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"target_modules": "all-linear"}]
    )
    def test_lora(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, options: dict[str, Any]) -> None:
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(**({"r": 4, "target_modules": ["q_proj", "k_proj"]} | options))
        model = make_model(tokenizer)
        trainer = train_model(model, tokenizer, tmp_path, config, optim="adamw_torch", max_steps=8)
        mass = figures(trainer, "causal_mass")
        assert mass[-1] > 1.1 * mass[0]
        base = make_model(tokenizer).state_dict()
        for name, value in trainer.model.named_parameters():
            if not value.requires_grad:
                own = name.removeprefix("base_model.model.").replace("base_layer.", "").replace("original_module.", "")
                assert torch.equal(value, base[own]), name

    def test_a_model_with_its_adapter_is_the_setting(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        peft = pytest.importorskip("peft")
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "k_proj"])
        torch.manual_seed(1)
        ours = train_model(make_model(tokenizer), tokenizer, tmp_path, config, learning_rate=1.0)
        given = peft.get_peft_model(make_model(tokenizer), config)
        train_model(given, tokenizer, tmp_path, learning_rate=1.0)
        assert_same_weights(ours.model, given)

    @pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig", "PromptEncoderConfig"])
    @pytest.mark.parametrize("given", [False, True])
    def test_virtual_tokens_are_refused(
        self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, kind: str, given: bool
    ) -> None:
        """They are keys that no position of the batch stands for."""
        peft = pytest.importorskip("peft")
        config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model = make_model(tokenizer)
        with pytest.raises(ConfigError, match="virtual tokens"):
            if given:
                train_model(peft.get_peft_model(model, config), tokenizer, tmp_path, self_check=False)
            else:
                CATTrainer(
                    model,
                    settings(tmp_path),
                    train_dataset=EXAMPLES,
                    processing_class=tokenizer,
                    peft_config=config,
                )
        if not given:
            train_model(model, tokenizer, tmp_path, config, gamma=0.0)  # plain fine-tuning needs no capture


def bitsandbytes_config(**options: Any) -> Any:
    pytest.importorskip("bitsandbytes")
    return BitsAndBytesConfig(**options, bnb_4bit_compute_dtype=torch.float32)


def torchao_config() -> Any:
    quantization = pytest.importorskip("torchao.quantization")
    return TorchAoConfig(quantization.Int8WeightOnlyConfig())


def quanto_config() -> Any:
    pytest.importorskip("optimum.quanto")
    return QuantoConfig(weights="int8")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "quantisation",
    [
        pytest.param(partial(bitsandbytes_config, load_in_4bit=True), id="bitsandbytes 4 bit"),
        pytest.param(partial(bitsandbytes_config, load_in_8bit=True), id="bitsandbytes 8 bit"),
        pytest.param(torchao_config, id="torchao int8"),
        pytest.param(quanto_config, id="quanto int8"),
    ],
)
def test_lora_on_a_quantised_base(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, quantisation: Callable[[], Any], checkpointing: bool
) -> None:
    peft = pytest.importorskip("peft")
    config = make_model(tokenizer).config
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 128, 16  # bitsandbytes takes blocks of 64
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=quantisation(), dtype=torch.float32, device_map="cpu"
    )
    plain = model.model.layers[0].self_attn.q_proj
    assert type(plain) is not nn.Linear or type(plain.weight) is not nn.Parameter, "this was not quantised"
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "k_proj"])
    options: dict[str, Any] = {"optim": "adamw_torch", "max_steps": 8, "gradient_checkpointing": checkpointing}
    mass = figures(train_model(model, tokenizer, tmp_path, lora, **options), "causal_mass")
    assert mass[-1] > 1.1 * mass[0]


def test_a_row_that_only_some_layers_see_weighs_as_much_as_they_do(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Half the layers slide past the cause: half a row counts, and the loss is still the mean over rows."""
    model = gpt_oss()
    example = next(x for x in make_examples(40, seed=3) if len(x.links[0].causes) == 1)
    example = dataclasses.replace(example, prompt=example.prompt + "old: 1, new: 2, big: 3, ")
    trainer = CATTrainer(model, settings(tmp_path, max_steps=1), train_dataset=[example], processing_class=tokenizer)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["supervised_rows"] == 0.5
    expected = logged["cross_entropy"] + logged["gamma"] * logged["re_attention_loss"]
    assert logged["loss"] == pytest.approx(expected, rel=1e-5)


class LogitsFree(LlamaForCausalLM):
    """Computes its loss a few tokens at a time and gives no logits, as fused losses do."""

    def forward(self, labels: Tensor | None = None, num_items_in_batch: Tensor | None = None, **inputs: Any) -> Any:  # type: ignore[override]
        hidden = self.model(**inputs).last_hidden_state
        if labels is None:
            return CausalLMOutputWithPast(logits=self.lm_head(hidden))
        loss = hidden.new_zeros(())
        for states, targets in zip(
            hidden[:, :-1].flatten(0, 1).split(5), labels[:, 1:].flatten().split(5), strict=True
        ):
            loss = loss + nn.functional.cross_entropy(self.lm_head(states), targets, reduction="sum")
        count = (labels[:, 1:] != -100).sum() if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=loss / count)


class TestLossWithoutLogits:
    def test_trains_and_evaluates_like_the_plain_one(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        plain = make_model(tokenizer)
        fused = LogitsFree(plain.config)
        fused.load_state_dict(plain.state_dict())
        trainers = []
        for model in (plain, fused):
            options: dict[str, Any] = {"gradient_accumulation_steps": 2, "per_device_eval_batch_size": 3}
            trainers.append(train_model(model, tokenizer, tmp_path, **options))
        assert_same_weights(plain, fused)
        one, other = (trainer.evaluate(trainers[0].train_dataset) for trainer in trainers)
        for name in ("eval_loss", "eval_causal_mass", "eval_supervised_rows"):
            assert other[name] == pytest.approx(one[name], rel=1e-5), name

    @pytest.mark.gpu
    def test_liger_kernel(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        if not torch.cuda.is_available():
            pytest.skip("Liger kernels need a CUDA device")
        pytest.importorskip("liger_kernel")
        runs = [train(tokenizer, tmp_path, use_cpu=False, use_liger_kernel=liger) for liger in (False, True)]
        for name in ("cross_entropy", "re_attention_loss", "causal_mass"):
            assert figures(runs[1], name) == pytest.approx(figures(runs[0], name), rel=1e-3), name
