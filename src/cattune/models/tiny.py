"""`tiny`: a word-level tokenizer and a small Llama made from scratch, so that every path runs without a model hub.

Both are saved and loaded by the ordinary `save_pretrained` and `from_pretrained`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cattune.data.examples import Example

NAME = "tiny"
"""The name that stands for this model wherever a model's name is asked for."""

MAX_VOCABULARY = 16_384
INTEGERS = range(101)
"""Integers that are in every vocabulary, so that a value first seen in a test is at least told apart."""

BOS, EOS, PAD, UNKNOWN = "<bos>", "<eos>", "<pad>", "<unk>"

# A word, an integer or one other character, each with the space before it, so that decoding restores the text.
_PIECES = r" ?[^\W\d_]+| ?\d+| ?[^\w\s]| ?_|\s"

RECIPE: dict[str, Any] = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 16,
    "max_steps": 800,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "weight_decay": 1.0,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
}
"""How this model is trained from scratch, for plain fine-tuning and Causal Attention Tuning alike."""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer with one token for each word, integer and punctuation mark of the texts, with and without a space.

    It puts `<bos>` in front. A word not in the texts, or beyond the `MAX_VOCABULARY` most frequent, is `<unk>`.

    Example:
        >>> tokenizer = build_tokenizer(["Age: 47."])
        >>> tokenizer.tokenize("Age: 48, young", add_special_tokens=True)
        ['<bos>', 'Age', ':', ' 48', '<unk>', '<unk>']
    """
    split = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece.strip(" ") or " " for piece, _ in split.pre_tokenize_str(text))
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    words = list(dict.fromkeys([*(str(i) for i in INTEGERS), *words]))[: MAX_VOCABULARY // 2]
    pieces = [
        BOS,
        EOS,
        PAD,
        UNKNOWN,
        *(piece for word in words for piece in ((word, f" {word}") if word.strip() else (word,))),
    ]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, pad_token=PAD, unk_token=UNKNOWN
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of about 1M parameters with random weights.

    The weights are not drawn as transformers draws them, with one small deviation for all: at this width that starts
    training on a long plateau at the majority class (docs/tiny.md shows both). Each matrix keeps the scale of what
    goes through it, and what is added to the residual stream shrinks with depth.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=432,
        num_hidden_layers=3,
        num_attention_heads=8,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        _initialise(model)
    return model


def build(texts: Iterable[str], seed: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model and its tokenizer, with the vocabulary of the texts."""
    tokenizer = build_tokenizer(texts)
    return build_model(tokenizer, seed), tokenizer


def texts_of(examples: Iterable[Example]) -> Iterable[str]:
    """The texts that `build` wants, of examples with a prompt and a completion, or with messages."""
    return ("".join(example.fields.values()) for example in examples)


def _initialise(model: LlamaForCausalLM) -> None:
    residual = math.sqrt(2 * model.config.num_hidden_layers)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            added = name.endswith(("o_proj", "down_proj"))
            nn.init.normal_(module.weight, std=module.in_features**-0.5 / (residual if added else 1.0))
    nn.init.normal_(model.lm_head.weight, std=0.02)  # training starts from an even bet on every token
