"""A model in this process is held to a JSON schema: of each next token, those that would leave it are ruled out.

`llguidance` knows which these are; it is an extra, and without it a model writes what it likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EXTRA = "pip install 'causal-attention-tuning[local]'"

MOST_TRIED = 32
"""So many of the tokens that may come first are tried, before the tokenizer is believed to be understood."""


class NotHeld(Exception):
    """Replies cannot be held to the schema: why, in a phrase."""


class Schema:
    """A JSON schema for one model's tokens.

    Args:
        schema: what a reply must be.
        tokenizer: the model's, a fast one.
        tokens: how many tokens the model gives scores to.
        ends: ids of the tokens that end a reply.

    Raises:
        NotHeld: llguidance is not installed, or does not know such a tokenizer or schema.
    """

    def __init__(
        self, schema: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, tokens: int, ends: Iterable[int]
    ) -> None:
        try:
            from llguidance import LLMatcher
            from llguidance.hf import from_tokenizer
        except ImportError:
            raise NotHeld(f"llguidance is not installed: {EXTRA}") from None
        try:
            known = from_tokenizer(tokenizer, n_vocab=tokens, eos_token=sorted(ends) or None)
        except Exception as error:  # its Rust code raises what it likes
            raise NotHeld(f"llguidance does not know this tokenizer ({str(error)[:200]})") from None
        # White space as in the replies that the prompt shows: a small model would write it without end.
        grammar = LLMatcher.grammar_from_json_schema(
            dict(schema), overrides={"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        )
        self._matcher = LLMatcher(known, grammar, log_level=0)
        if self._matcher.is_error():
            raise NotHeld(f"llguidance cannot use the schema ({self._matcher.get_error()[:200]})")
        for token in np.flatnonzero(_allowed(self._matcher, tokens))[:MOST_TRIED].tolist():
            if not self._matcher.deep_copy().consume_token(token):
                raise NotHeld("llguidance misreads this tokenizer: it refuses a token that it allowed")

    def processor(self, rows: int) -> Held:
        """For one call of `generate` with so many prompts."""
        return Held([self._matcher.deep_copy() for _ in range(rows)])


class Held:
    """A logits processor of transformers; each row has a matcher of its own."""

    def __init__(self, matchers: list[Any]) -> None:
        self._matchers = matchers
        self._begun = False

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """The scores (B, V) with those of tokens that would leave the schema at minus infinity; a new tensor."""
        held = scores.clone()
        for row, (matcher, last) in enumerate(zip(self._matchers, input_ids[:, -1].tolist(), strict=True)):
            if self._begun and not matcher.is_stopped():
                matcher.consume_token(last)
            if not matcher.is_stopped():  # a row that has ended is padded by `generate`
                ruled_out = torch.from_numpy(~_allowed(matcher, scores.shape[1]))
                held[row, ruled_out.to(held.device)] = -torch.inf
        self._begun = True
        return held  # type: ignore[return-value]


def _allowed(matcher: Any, tokens: int) -> NDArray[np.bool_]:
    """For each token, whether it may come next."""
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    return np.unpackbits(bits, count=tokens, bitorder="little").astype(bool)
