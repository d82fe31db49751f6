"""Small data, a small model and runs on them, for the tests that train."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cattune.data.examples import CausalLink, Example, Span
from cattune.models import tiny
from cattune.training.config import CATConfig
from cattune.training.trainer import CATTrainer

NAMES = ["red", "blue", "green", "old", "new", "big"]


def make_examples(count: int, seed: int = 0, linked: float = 1.0) -> list[Example]:
    """Prompts of uneven length whose completion repeats the value of one or two named attributes."""
    rng = random.Random(seed)
    examples = []
    for index in range(count):
        names = rng.sample(NAMES, rng.randint(2, len(NAMES)))
        prompt, spans = "", []
        for name in names:
            prompt += f"{name}: "
            value = str(rng.randint(0, 9))
            spans.append(Span("prompt", len(prompt), len(prompt) + len(value)))
            prompt += f"{value}, "
        causes = tuple(spans[: rng.randint(1, 2)])
        completion = " ".join(prompt[cause.start : cause.end] for cause in causes)
        link = CausalLink(Span("completion", 0, len(completion)), causes)
        prompt += "so: "
        links = (link,) if rng.random() < linked else ()
        examples.append(Example(id=f"e{index}", prompt=prompt, completion=completion, links=links))
    return examples


EXAMPLES = make_examples(16, linked=0.7)


def make_tokenizer() -> PreTrainedTokenizerFast:
    return tiny.build_tokenizer(tiny.texts_of(EXAMPLES))


def make_model(tokenizer: PreTrainedTokenizerFast, implementation: str = "sdpa", layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        attn_implementation=implementation,
    )
    return LlamaForCausalLM(config)


def settings(output: Path, **changes: Any) -> CATConfig:
    defaults: dict[str, Any] = dict(
        output_dir=str(output),
        learning_rate=1e-2,
        per_device_train_batch_size=4,
        max_steps=4,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        optim="sgd",
        max_grad_norm=0.0,
        gamma=0.7,
    )
    return CATConfig(**(defaults | changes))


def train(tokenizer: PreTrainedTokenizerFast, output: Path, **changes: Any) -> CATTrainer:
    trainer = CATTrainer(
        make_model(tokenizer), settings(output, **changes), train_dataset=EXAMPLES, processing_class=tokenizer
    )
    trainer.train()
    return trainer


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module, tolerance: float = 2e-6) -> None:
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")
