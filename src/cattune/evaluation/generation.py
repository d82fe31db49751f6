"""Batched greedy generation, from the very tokens that training sees before its first label.

The model's own `generate` does the work. Prompts are sorted by length, so that a batch holds little or no padding (on
the left), and their order is restored afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from cattune.data.examples import Example
from cattune.errors import ConfigError, DataError
from cattune.evaluation.padding import in_batches
from cattune.models.embeddings import check_token_id
from cattune.supervision.rendering import Renderer
from cattune.supervision.rendering.stopping import as_ids, end_ids
from cattune.supervision.rendering.tokenized import Encoded, End, LeftOut, tokenize_examples
from cattune.supervision.tokens import fast_backend
from cattune.wording import counted, shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPARE_TOKENS = 2
"""By default a model may write this many tokens more than the longest target has."""

Progress = Callable[[int, int], None]
"""Is told (examples done, examples in all)."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Tokenized prompts.

    Args:
        ids: for each example the token ids before its first label.
        longest_target: the largest number of labels that an example has, EOS included.
        stop_ids: token ids that end a completion: what training's labels end with.
        stop_texts: texts that do, where a chat template ends its turns in plain text that no answer holds.
        targets: for each example, the text that is wanted, as the model learns to write it.
        openings: for each example, what the template writes by itself between prompt and answer, an empty thought
            for instance, and the model therefore too.
        left_out: the index of each example that the chat template cannot render, and why; they have no prompt.
    """

    ids: tuple[list[int], ...]
    longest_target: int
    stop_ids: frozenset[int]
    stop_texts: frozenset[str] = frozenset()
    targets: tuple[str, ...] = ()
    openings: tuple[str, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model wrote: its text without special tokens, white space at both ends removed.

    `finished` is false where the limit of new tokens cut it off.
    """

    text: str
    finished: bool


def encode_prompts(
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Prompts:
    """Tokenize each example as training does, and keep what comes before its first label.

    Args:
        examples: at least one.
        tokenizer: a fast one.
        chat_template_kwargs: variables for the chat template; an example's own come first.

    Raises:
        DataError: there is no example, none that its template renders, or one without a prompt or target token.
        AlignmentError: the tokenizer is not a fast one, or has no chat template for a conversation.
    """
    if not examples:
        raise DataError("there is no example to evaluate; expected at least one")
    fast_backend(tokenizer)  # refuses a slow tokenizer before it is asked for anything else
    render = Renderer(tokenizer, chat_template_kwargs)
    bare = [replace(example, links=(), refused=()) for example in examples]
    rows, left_out = [], {}
    for index, encoded in enumerate(tokenize_examples(bare, tokenizer, render)):
        if isinstance(encoded, LeftOut):
            left_out[index] = str(encoded.error)
        else:
            rows.append(_prompt(encoded))
    if not rows:
        raise DataError(f"{counted(len(examples), 'example')}, and the chat template renders none; {left_out[0]}")
    ids, sizes, ends, targets, openings = zip(*rows, strict=True)
    texts = {end.text for end in ends if end.text}
    return Prompts(
        ids,
        max(sizes),
        frozenset(i for end in ends for i in end.ids),
        frozenset(text for text in texts if not any(text in target for target in targets)),
        targets,
        openings,
        left_out,
    )


def _prompt(encoded: Encoded) -> tuple[list[int], int, End, str, str]:
    """An example's prompt, its number of labels, what ends it, what is wanted, and what comes before that by itself."""
    example, rendering, tokens, end = encoded
    start = tokens.boundary(rendering.completion_start)
    labels = len(tokens.ids) - start
    if labels == 0:
        raise DataError(
            f"example {shown(example.id)} has a target without a token, and the tokenizer has no EOS that would end "
            "it; give it a target, or set tokenizer.eos_token"
        )
    if start == 0:
        raise DataError(
            f"example {shown(example.id)}: no token comes before the completion, so there is nothing to generate from; "
            "give a prompt, or a tokenizer that begins texts with a special token"
        )
    first, last = rendering.answer
    return (
        tokens.ids[:start],
        labels,
        end,
        rendering.text[first:last],
        rendering.text[rendering.completion_start : first],
    )


def generate_greedily(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    batch_size: int,
    progress: Progress | None = None,
    processor: Callable[[int], Any] | None = None,
) -> list[Completion]:
    """Let the model continue each prompt with its most probable tokens.

    A completion ends at an end token of the model's generation settings, of the tokenizer or of the training labels,
    or at the text that ends a turn where that is plain text; nothing else of the generation settings (sampling,
    penalties, ...) is used. The model's settings and training mode are what they were afterwards.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: from `encode_prompts`.
        max_new_tokens: how many tokens a completion may have, >= 1.
        batch_size: prompts generated from at once, >= 1.
        progress: told of every batch that is done.
        processor: makes, for a batch of so many prompts, a logits processor of transformers.

    Returns:
        A completion for each prompt, in their order.

    Raises:
        ConfigError: a setting is out of range, or the model cannot generate from these prompts.
    """
    check_prompts(model, tokenizer, prompts, max_new_tokens, batch_size)
    stop_ids = prompts.stop_ids | end_ids(model) | as_ids(tokenizer.eos_token_id)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stop_ids, default=0)
    settings = GenerationConfig(
        do_sample=False,
        use_cache=True,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=sorted(stop_ids) or None,
        stop_strings=sorted(prompts.stop_texts) or None,
    )
    completions: dict[int, Completion] = {}
    with _plain_inference(model):
        for batch in in_batches(model, prompts.ids, batch_size, pad_id):
            rules = [] if processor is None else [processor(len(batch))]
            written = _continue([prompts.ids[i] for i in batch], model, tokenizer, settings, rules)
            for i, ids in zip(batch, written, strict=True):
                end = next((at for at, token in enumerate(ids) if token in stop_ids), None)
                text = str(tokenizer.decode(ids[:end], skip_special_tokens=True))
                cuts = [text.index(stop) for stop in prompts.stop_texts if stop in text]
                completions[i] = Completion(text[: min(cuts, default=None)].strip(), bool(cuts) or end is not None)
            if progress is not None:
                progress(len(completions), len(prompts.ids))
    return [completions[i] for i in range(len(prompts.ids))]


def _continue(
    batch: list[list[int]],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: GenerationConfig,
    rules: list[Any],
) -> list[list[int]]:
    """The new token ids of each prompt of a batch."""
    width = max(map(len, batch))
    input_ids = torch.full((len(batch), width), settings.pad_token_id, dtype=torch.long)  # (B, S)
    mask = torch.zeros_like(input_ids)
    for row, ids in enumerate(batch):
        input_ids[row, width - len(ids) :] = torch.tensor(ids)
        mask[row, width - len(ids) :] = 1
    device = next(model.parameters()).device
    try:
        output = model.generate(  # (B, S + T)
            input_ids=input_ids.to(device),
            attention_mask=mask.to(device),
            generation_config=settings,
            logits_processor=LogitsProcessorList(rules),
            # Looking for texts needs the tokenizer, and time: it is not asked for where there are none.
            **({"tokenizer": tokenizer} if settings.stop_strings else {}),
        )
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"generating from {len(batch)} prompts of up to {width} tokens at once does not fit into the memory of "
            f"{device}; use a batch size below {len(batch)}"
        ) from error
    new: list[list[int]] = output[:, width:].tolist()
    return new


@contextmanager
def _plain_inference(model: PreTrainedModel) -> Iterator[None]:
    """No gradient, no dropout and no generation setting of the model's own; afterwards all is as it was."""
    training = [(module, module.training) for module in model.modules()]
    # `generate` fills what its caller leaves open from the model's settings, a repetition penalty for instance.
    own_settings = model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.generation_config = own_settings
        for module, was_training in training:
            module.training = was_training


def check_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Prompts,
    max_new_tokens: int,
    batch_size: int = 1,
) -> None:
    """Refuse what `generate_greedily` cannot answer, or does not take.

    Raises:
        ConfigError: a setting is out of range, the model cannot generate, or has no embedding for a token or position.
    """
    for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; expected 1 or more")
    kind = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(f"{kind} is an encoder-decoder; expected a causal (decoder-only) language model")
    can_generate = getattr(model, "can_generate", None)
    if can_generate is None or not can_generate():
        raise ConfigError(
            f"{kind} cannot generate text; expected a causal language model, as AutoModelForCausalLM loads"
        )
    check_token_id(max(map(max, prompts.ids)), "a prompt", model, tokenizer)
    longest, room = max(map(len, prompts.ids)), getattr(model.config, "max_position_embeddings", None)
    if room is not None and longest + max_new_tokens > room:
        raise ConfigError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit into {kind}'s {room} positions; "
            "leave out the long examples, or lower max_new_tokens"
        )
