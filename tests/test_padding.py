"""Neither a loss nor an answer depends on what else is in the batch, whatever side the tokenizer pads on."""

from __future__ import annotations

import copy
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import CAPTURED, build
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cattune.data.examples import CausalLink, Example, Span
from cattune.evaluation import padding
from cattune.evaluation.generation import Prompts, generate_greedily
from cattune.supervision.collator import CausalCollator
from cattune.training.config import CATConfig
from cattune.training.trainer import CATTrainer

ABSOLUTE = ["gpt2", "gpt_bigcode", "biogpt", "ctrl", "bert_decoder", "gpt_neo", "openai_gpt", "opt", "xglm"]
RECURRENT = ["recurrent_gemma", "minimax", "falcon_h1", "mamba"]
OTHERS = ["llama", "bloom"]
SPARSE = ["deepseek_v32", "deepseek_v4", "doge", "glm_moe_dsa"]
"""Their layers pick keys by content, and padding shows on whichever side it is."""


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(60)}
    inner = Tokenizer(models.WordLevel(words, unk_token="w3"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="w0", bos_token="w1", eos_token="w2")


def texts(count: int = 4) -> list[Example]:
    """Prompts of 4, 7, 10, ... words, each with a link from its answer to a word."""
    rng = random.Random(0)
    made = []
    for index in range(count):
        prompt = " ".join(f"w{rng.randint(10, 59)}" for _ in range(4 + 3 * index)) + " "
        link = CausalLink(Span("completion", 0, 3), (Span("prompt", 4, 7),))
        made.append(Example(f"e{index}", prompt, f"w{20 + index}", links=(link,)))
    return made


def make_trainer(model: Any, tokenizer: Any, folder: Path, batch_size: int, gamma: float) -> CATTrainer:
    args = CATConfig(
        output_dir=str(folder), per_device_train_batch_size=batch_size, gradient_accumulation_steps=4 // batch_size,
        per_device_eval_batch_size=batch_size, max_steps=1, logging_steps=1, gamma=gamma,
        report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    left = copy.deepcopy(tokenizer)
    left.padding_side = "left"
    return CATTrainer(model, args, train_dataset=texts(), eval_dataset=texts(), processing_class=left)


@pytest.mark.parametrize("name", [*ABSOLUTE, *RECURRENT, *OTHERS])
def test_losses_do_not_depend_on_the_batch(name: str, tokenizer: Any, tmp_path: Path) -> None:
    captured = name in CAPTURED
    model, figures = build(name, "eager"), []
    for size in (1, 4):
        metrics = make_trainer(model, tokenizer, tmp_path, size, 0.5 if captured else 0.0).evaluate()
        names = ("eval_loss", "eval_re_attention_loss", "eval_causal_mass")
        figures.append({name: metrics[name] for name in names if name in metrics})
    assert figures[0] == pytest.approx(figures[1], rel=1e-4, abs=1e-5) and len(figures[0]) == (3 if captured else 1)


def test_training_does_not_depend_on_the_batch(tokenizer: Any, tmp_path: Path) -> None:
    logs = []
    for size in (1, 4):
        model = build("gpt2", "eager")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer = make_trainer(model, tokenizer, tmp_path, size, 0.5)
        trainer.train()
        log = trainer.state.log_history[0]
        logs.append({name: log[name] for name in ("cross_entropy", "re_attention_loss", "causal_mass", "grad_norm")})
    assert logs[0] == pytest.approx(logs[1], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", ["deepseek_v32", "doge"])
def test_where_nothing_helps_a_warning_says_so(
    name: str, tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for size in (1, 2):
        args = CATConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=size, gamma=0.0, report_to="none", use_cpu=True
        )
        with caplog.at_level(logging.WARNING, logger="cattune"):
            CATTrainer(build(name, "eager"), args, train_dataset=texts(), processing_class=tokenizer)
        assert ("a loss depends on the batch that its example is in" in caplog.text) == (size > 1)


@pytest.mark.parametrize("name", ["gpt2", "gpt_bigcode", "biogpt", "ctrl", "bert_decoder", "llama"])
def test_a_collator_that_pads_on_the_left_tells_positions(name: str, tokenizer: Any) -> None:
    rng = random.Random(1)
    features = []
    for size in (4, 9, 6):
        ids = [rng.randint(10, 59) for _ in range(size)]
        features.append({"input_ids": ids, "labels": ids, "query_rows": [], "causal_keys": [], "causal_weights": []})
    model, batch = build(name, "eager"), CausalCollator(0, "left")(features)
    given = {name: batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    with torch.no_grad():
        logits = model(**given, use_cache=False).logits
        for row, feature in enumerate(features):
            alone = model(torch.tensor([feature["input_ids"]]), use_cache=False).logits[0]
            torch.testing.assert_close(logits[row, -len(alone) :], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*ABSOLUTE, *RECURRENT, *OTHERS, *SPARSE])
def test_answers_do_not_depend_on_the_batch(name: str, tokenizer: Any) -> None:
    model, rng = build(name, "eager"), random.Random(2)
    ids = tuple([rng.randint(10, 59) for _ in range(size)] for size in (9, 4, 15, 4, 12))
    prompts = Prompts(ids, 4, frozenset())
    one, all_at_once = (
        generate_greedily(model, tokenizer, prompts, max_new_tokens=6, batch_size=size) for size in (1, 8)
    )
    assert one == all_at_once


@pytest.mark.parametrize("name", ["llama", "gpt2", "recurrent_gemma", "minimax", "doge"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_prompts_of_one_length_share_a_batch_where_padding_shows(name: str, dtype: torch.dtype) -> None:
    prompts = [[10] * 5, [11, 12, 13], [20 + i for i in range(15)], [14, 15, 16], [17, 18, 19]]
    model = build(name, "eager").to(dtype)
    found = list(padding.in_batches(model, prompts, 2, 0))
    by_length = [[1, 3], [4], [0], [2]]
    assert found == ([[1, 3], [4, 0], [2]] if name in ("llama", "gpt2") else by_length)
    assert list(padding.in_batches(model, prompts, 1, 0)) == [[1], [3], [4], [0], [2]]
