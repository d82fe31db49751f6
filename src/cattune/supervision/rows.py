"""Query rows and, for each, its causal keys with weights; the only module that knows that row t-1 predicts token t.

Nothing is dropped in silence: an `AlignmentReport` counts every link, cause, row and key that is lost, and why.
"""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from typing import Any, TypeAlias

from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import AlignmentError, ConfigError
from cattune.supervision.rendering import Renderer, Rendering, TemplateError
from cattune.supervision.rendering.tokenized import Encoded, End, LeftOut, tokenize_examples
from cattune.supervision.report import AlignmentReport
from cattune.supervision.tokens import Tokens, fast_backend
from cattune.wording import shown

__all__ = ["IGNORED", "AlignmentReport", "encode_examples", "generation_prefix"]

IGNORED = -100
"""The label that cross-entropy passes over."""

_BATCH = 1000

_Keys: TypeAlias = tuple[list[int], list[float]]
"""Causal keys, ascending and unique, and the weight of each."""


def encode_examples(
    examples: Iterable[Example],
    tokenizer: Any,
    max_length: int | None = None,
    content: bool = False,
    max_named: int | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[list[dict[str, Any]], AlignmentReport]:
    """Turn examples into token ids, labels and supervision, as plain lists.

    Each feature holds `input_ids`; `labels`, -100 before the completion; `query_rows`, ascending and unique;
    `causal_keys`, for each row ascending, unique, each <= row, and 0 < their number < row + 1; `causal_weights`, as
    `causal_keys`, > 0, where a key that several links name has the largest of their weights (rows of the same links
    share one list of each: do not write into them); with `content`, also `content`, 1 where a token before the
    completion touches a letter or a digit of a field, else 0.

    Args:
        examples: what to encode.
        tokenizer: a fast tokenizer of transformers.
        max_length: keep at most this many tokens, the first ones; None keeps all.
        content: whether to mark content tokens.
        max_named: the report names the first so many losses of each reason and counts the others; None names all.
        chat_template_kwargs: variables for the chat template; an example's own come first.

    Returns:
        A feature for each example that its template renders and that keeps a completion token, in order, and the
        report on all of them.

    Raises:
        AlignmentError: the tokenizer gives no offsets, or has no chat template for a conversation.
        ConfigError: max_length is less than 2, so that no row could predict a token.
    """
    if max_length is not None and max_length < 2:
        raise ConfigError(f"max_length is {max_length}; expected 2 or more, or None, since token 0 is never predicted")
    features = []
    fast_backend(tokenizer)  # refuses a slow tokenizer before it is asked for anything else
    supervisor = _Supervisor(tokenizer, max_length, max_named, content)
    render = Renderer(tokenizer, chat_template_kwargs)
    iterator = iter(examples)
    while batch := list(islice(iterator, _BATCH)):
        with _collection_paused():
            for encoded in tokenize_examples(batch, tokenizer, render):
                feature = supervisor.feature(encoded)
                if feature is not None:
                    features.append(feature)
    return features, supervisor.report


def generation_prefix(
    example: Example, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """The token ids that generation starts from: the very same that training sees before its first label.

    They come from tokenizing prompt and completion as one text, so a token that straddles the boundary is not in them.

    Raises:
        TemplateError: the chat template cannot render the example.
        AlignmentError: nothing comes before the completion; or as `encode_examples`.
    """
    fast_backend(tokenizer)  # refuses a slow tokenizer before it is asked for a template
    (encoded,) = tokenize_examples([example], tokenizer, Renderer(tokenizer, chat_template_kwargs))
    if isinstance(encoded, LeftOut):
        raise encoded.error
    boundary = encoded.tokens.boundary(encoded.rendering.completion_start)
    if boundary == 0:
        raise AlignmentError(
            f"example {shown(example.id)}: no token comes before the completion, so there is nothing to generate from; "
            "give a prompt, or a tokenizer that begins texts with a special token"
        )
    return encoded.tokens.ids[:boundary]


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Keep the garbage collector from looking, again and again, through features that hold no cycles."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Supervisor:
    """Builds the features, one example after the other, and the report on all of them."""

    def __init__(self, tokenizer: Any, max_length: int | None, max_named: int | None, content: bool) -> None:
        self.token_name = cache(tokenizer.convert_ids_to_tokens)
        self.eos = tokenizer.eos_token_id
        self.max_length = max_length
        self.content = content
        self.report = AlignmentReport(max_named=max_named)

    def feature(self, encoded: Encoded | LeftOut) -> dict[str, Any] | None:
        """The example's feature, or None when it has none, or truncation leaves no completion token to learn."""
        if isinstance(encoded, LeftOut):
            self._leave_out(*encoded)
            return None
        example, rendering, tokens, end = encoded
        report, full = self.report, len(tokens.ids)
        boundary = tokens.boundary(rendering.completion_start)
        length = full if self.max_length is None else min(self.max_length, full)
        self.example, self.tokens, self.length = example, tokens, length
        self.lost_rows: dict[int, str] = {}

        report.examples += 1
        report.altered += bool(rendering.altered)
        report.truncated += length < full
        report.truncated_tokens += full - length
        if boundary < tokens.last and tokens.offsets[boundary][0] < rendering.completion_start:
            report.straddled += 1
        kept = length > boundary and length > 1
        if not kept:
            cut = length < full
            reason = "example: its completion is truncated away" if cut else "example: it has no completion token"
            report.left_out += 1
            report.lose(example, reason, f"{boundary} tokens come before the completion")
            self.length = 0
        rows, keys, weights = self._rows(self._links(_finder(rendering, tokens)))
        if not kept:
            return None
        labels = [IGNORED] * boundary + tokens.ids[boundary:length]
        if length == full:
            self._note_end(example, end)
        if boundary == 0:
            labels[0] = IGNORED
            report.lose(example, "label: nothing comes before the first token", "the prompt has no token")
        return {
            "input_ids": tokens.ids[:length],
            "labels": labels,
            "query_rows": rows,
            "causal_keys": keys,
            "causal_weights": weights,
            **({"content": _content(encoded, length)} if self.content else {}),
        }

    def _leave_out(self, example: Example, error: TemplateError) -> None:
        """Count an example that has no text, with all of its links."""
        self.report.examples += 1
        self.report.left_out += 1
        self.report.lose(example, f"example: {error.reason}", error.detail)
        self.example, self.length, self.lost_rows = example, 0, {}
        self._links(lambda span: ())

    def _note_end(self, example: Example, end: End) -> None:
        """Count what the labels end with, and say where the chat template leaves that open."""
        for token in end.ids:
            self.report.ends[self.token_name(token)] += 1
        if end.by_eos:
            reason = "label: the chat template writes no end of turn, EOS was put there"
            self.report.lose(example, reason, "in plain transformers too, the model stops at EOS")
        elif not end.ids:
            reason = "label: no token ends the completion, so the model does not learn to stop"
            self.report.lose(example, reason, "the tokenizer has no EOS; set tokenizer.eos_token")

    def _links(self, find: Callable[[Span], Sequence[int]]) -> dict[int, _Keys]:
        """Each token that a row of a link's effect predicts, with the keys of all links that name it.

        This loop and the next are what supervision costs: they stay free of calls that they can do without.
        """
        report, links = self.report, self.example.links
        for refused in self.example.refused:
            report.refuse(self.example, refused)
        if not links:
            report.examples_without_links += 1
            return {}
        whole = 0 < self.length == len(self.tokens.ids) and self.eos not in self.tokens.ids[: self.tokens.last]
        targets: dict[int, _Keys] = {}
        causes = aligned = aligned_links = 0
        for link in links:
            causes += len(link.causes)
            effect = find(link.effect)
            if not (whole and effect and effect[0]):
                effect = self._predictable(link, effect)
                if not effect:
                    continue
            last = effect[-1]
            found = []
            for cause in link.causes:
                touched = find(cause)
                if touched and touched[0] < last:
                    found.append(touched)
                else:
                    self._lose_cause(cause, touched)
            if found:
                aligned += len(found)
                aligned_links += 1
                keys = list(found[0]) if len(found) == 1 else sorted(set().union(*found))
            else:
                keys = []
                report.lose(self.example, "link: none of its causes aligns", link.effect)
            shared = keys, [link.weight] * len(keys)
            for token in effect:
                targets[token] = _merge(targets[token], shared) if token in targets else shared
        report.links += len(links)
        report.aligned_links += aligned_links
        report.causes += causes
        report.aligned_causes += aligned
        return targets

    def _predictable(self, link: CausalLink, effect: Sequence[int]) -> Sequence[int]:
        """The effect's tokens that a row predicts; the others, and a link without any, are counted as lost."""
        targets = []
        reason = "no token touches its effect" if self.length else "its effect has no row, its example is left out"
        for token in effect:
            if token >= self.length:
                reason = "truncated away" if self.length else "its example is left out"
            elif token == 0:
                reason = "nothing comes before the first token"
            elif self.tokens.ids[token] == self.eos:
                reason = "it would predict the end of the text"
            else:
                targets.append(token)
                continue
            self.lost_rows[token] = reason
            reason = f"its effect has no row, {reason}"
        if not targets:
            self.report.lose(self.example, f"link: {reason}", link.effect)
            for cause in link.causes:
                self.report.lose(self.example, "cause: its effect has no row", cause)
        return targets

    def _lose_cause(self, cause: Span, touched: Sequence[int]) -> None:
        if not touched:
            reason = "cause: no token touches it"
        elif touched[0] >= self.length:
            reason = "cause: truncated away"
        else:
            reason = "cause: not before its effect"
        self.report.lose(self.example, reason, cause)

    def _rows(self, targets: dict[int, _Keys]) -> tuple[list[int], list[list[int]], list[list[float]]]:
        """The rows that count, with keys in order and their weights; the others are reported."""
        rows, all_keys, all_weights = [], [], []
        hidden = 0
        for token in sorted(targets):
            keys, weights = targets[token]
            if keys and keys[-1] >= token:
                visible = bisect_left(keys, token)
                hidden += len(keys) - visible
                keys, weights = keys[:visible], weights[:visible]
            if 0 < len(keys) < token:
                rows.append(token - 1)
                all_keys.append(keys)
                all_weights.append(weights)
            else:
                self.lost_rows[token] = "every visible token is causal" if keys else "no causal key is visible"
        self.report.rows += len(rows)
        if hidden:
            self.report.lose(self.example, "key: not before its row", "causes that run into their effects", hidden)
        for token in sorted(self.lost_rows):
            self.report.lose(self.example, f"row: {self.lost_rows[token]}", f"the row that predicts token {token}")
        return rows, all_keys, all_weights


def _finder(rendering: Rendering, tokens: Tokens) -> Callable[[Span], Sequence[int]]:
    """The tokens that touch a span of a field."""
    if not rendering.templated:
        return tokens.finder({piece.field: piece.text_start for piece in rendering.pieces})
    return lambda span: tokens.span(*rendering.locate(span))


def _merge(one: _Keys, other: _Keys) -> _Keys:
    """The keys of both, ascending, each with the larger of its weights."""
    largest = dict(zip(*one, strict=True))
    for key, weight in zip(*other, strict=True):
        largest[key] = max(weight, largest.get(key, weight))
    keys = sorted(largest)
    return keys, [largest[key] for key in keys]


def _content(encoded: Encoded, length: int) -> list[int]:
    """1 where a token before the completion touches a letter or a digit of a field, else 0."""
    marks = [0] * length
    _, rendering, tokens, _ = encoded
    text, boundary = rendering.text, min(tokens.boundary(rendering.completion_start), length)
    for _, start, end, text_start in rendering.pieces[:-1]:
        text_end = text_start + end - start
        for token in tokens.span(text_start, text_end):
            if token < boundary:
                low, high = tokens.offsets[token]
                marks[token] |= any(map(str.isalnum, text[max(low, text_start) : min(high, text_end)]))
    return marks
