"""Spans of the rendered text to token spans, by the fast tokenizer's offsets: one way for every tokenizer.

A token belongs to a span when their characters overlap. Byte-level tokens that share one character all belong to it;
tokens without characters belong to none: the special tokens that the tokenizer adds at the ends, and the lone space
mark that it puts before a word that has no space there, to which the offsets lend the word's first character.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cattune.data.examples import Span
from cattune.errors import AlignmentError

_NONE: frozenset[int] = frozenset()


class Tokens:
    """The tokens of one text, and which of its characters each one covers.

    Attributes:
        ids: the token ids, with the special tokens that the tokenizer adds at the ends.
        offsets: for each token the text positions [start, end) that it covers.
        first, last: the tokens [first, last) come from the text, the ones around them are the tokenizer's own.
        inserted: tokens without a character of their own, whatever their offsets say.
        starts, ends: the offsets of the tokens before `last`, column by column; start = end for an inserted one.
        ordered: both columns ascend, so that bisection finds what a loop would find.
    """

    __slots__ = ("ends", "first", "ids", "inserted", "last", "offsets", "ordered", "starts")

    def __init__(
        self,
        ids: list[int],
        offsets: list[tuple[int, int]],
        first: int,
        last: int,
        inserted: frozenset[int] = _NONE,
    ) -> None:
        self.ids = ids
        self.offsets = offsets
        self.first = first
        self.last = last
        self.inserted = inserted
        starts, ends = zip(*offsets[:last], strict=True) if last else ((), ())
        if inserted:
            ends = tuple([starts[t] if t in inserted else end for t, end in enumerate(ends)])
        self.starts: tuple[int, ...] = starts
        self.ends: tuple[int, ...] = ends
        # Bisection needs both in order; sorting an ordered list costs less than a loop over it.
        self.ordered = tuple(sorted(starts)) == starts and tuple(sorted(ends)) == ends

    def span(self, start: int, end: int) -> Sequence[int]:
        """The tokens that touch the characters [start, end), ascending; none when the span is empty."""
        if start >= end:
            return ()
        touched: Sequence[int]
        if self.ordered:
            low = bisect_right(self.ends, start)
            touched = range(low, bisect_left(self.starts, end, low))
        else:
            places = enumerate(zip(self.starts, self.ends, strict=True))
            touched = [t for t, (low, high) in places if low < end and high > start]
        if self.inserted and not self.inserted.isdisjoint(touched):
            return [t for t in touched if t not in self.inserted]
        return touched

    def boundary(self, position: int) -> int:
        """The first token that reaches past a text position: the tokens before it lie wholly before the position.

        An inserted token goes with the word that it is there for.
        """
        if not self.ordered:
            return next((t for t in range(self.first, self.last) if self.offsets[t][1] > position), self.last)
        boundary = bisect_right(self.ends, position)
        while boundary - 1 in self.inserted and self.offsets[boundary - 1][1] > position:
            boundary -= 1
        return boundary

    def finder(self, shifts: Mapping[str, int]) -> Callable[[Span], Sequence[int]]:
        """`span` for fields whose whole text stands shifted in this one, with everything at hand for many calls."""
        starts, ends = self.starts, self.ends
        # At the very start of the text an inserted token stands outside every span, elsewhere it may stand within one.
        if not self.ordered or any(starts[t] > 0 for t in self.inserted):
            return lambda span: self.span(span.start + shifts[span.field], span.end + shifts[span.field])

        def find(span: Span) -> Sequence[int]:
            shift = shifts[span.field]
            low = bisect_right(ends, span.start + shift)
            return range(low, bisect_left(starts, span.end + shift, low))

        return find


def encode_texts(texts: list[str], tokenizer: Any, add_special_tokens: bool) -> Iterator[Tokens]:
    """Tokenize texts with their offsets, as `tokenizer(texts, return_offsets_mapping=True)` does, without truncation.

    Args:
        texts: what to tokenize.
        tokenizer: a fast tokenizer of transformers.
        add_special_tokens: whether the tokenizer puts its own special tokens around each text.

    Raises:
        AlignmentError: the tokenizer gives no offsets.
    """
    backend = fast_backend(tokenizer)
    first, trailing = _affixes(backend, tokenizer) if add_special_tokens else (0, 0)
    marks = _SpaceMarks(backend)
    encodings = backend.encode_batch(texts, add_special_tokens=add_special_tokens)
    for text, encoding in zip(texts, encodings, strict=True):
        ids, offsets = encoding.ids, encoding.offsets
        last = len(ids) - trailing
        yield Tokens(ids, offsets, first, last, marks.inserted(text, ids[first:last], offsets, first))


class _SpaceMarks:
    """Finds the lone space marks that stand for no space of the text, for one tokenizer."""

    def __init__(self, backend: Any) -> None:
        probe = backend.normalizer.normalize_str("a a") if backend.normalizer else "a a"
        words = backend.pre_tokenizer.pre_tokenize_str(probe) if backend.pre_tokenizer else [(probe, (0, 0))]
        marks = [mark for mark in ("\u2581", "\u0120") if words[0][0].startswith(mark)]
        self._marks = {token for token in map(backend.token_to_id, marks) if token is not None}
        # Most write a mark at the start of the text and after an added token; some put one before every word.
        self._before_words = any(word.startswith(tuple(marks)) and probe[at] == "a" for word, (at, _) in words[1:])
        self._added = frozenset(backend.get_added_tokens_decoder()) if self._marks else frozenset()
        self._normalizer = backend.normalizer

    def inserted(self, text: str, ids: list[int], offsets: list[tuple[int, int]], first: int) -> frozenset[int]:
        """Which of the text's tokens, the first of them at `offsets[first]`, are such marks."""
        marks = self._marks
        if not marks:
            return _NONE
        if self._before_words:
            found = [t for t, token in enumerate(ids) if token in marks]
        elif self._added.isdisjoint(ids):
            found = [0] if ids and ids[0] in marks else []
        else:
            found = [t for t, token in enumerate(ids) if token in marks and (t == 0 or ids[t - 1] in self._added)]
        places = ((t + first, *offsets[t + first]) for t in found)
        return frozenset([t for t, low, high in places if low < high and not self._holds_space(text[low])])

    def _holds_space(self, character: str) -> bool:
        """Whether the tokenizer sees a space in a character, as in NFKC's reading of an acute accent by itself."""
        if character.isspace() or character in "\u2581\u0120":  # the text may hold a mark of its own
            return True
        if character.isascii() or self._normalizer is None:
            return False
        inside = self._normalizer.normalize_str(f"a{character}a").lstrip("\u2581\u0120 ")
        return any(c.isspace() or c in "\u2581\u0120" for c in inside)


def fast_backend(tokenizer: Any) -> Any:
    """The `tokenizers.Tokenizer` under a fast tokenizer, with truncation and padding off as transformers sets them.

    Raises:
        AlignmentError: the tokenizer gives no offsets.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None) if getattr(tokenizer, "is_fast", False) else None
    if backend is None:
        raise AlignmentError(
            f"the tokenizer {type(tokenizer).__name__} gives no character offsets, so spans cannot be aligned with its "
            "tokens; load a fast one, AutoTokenizer.from_pretrained(..., use_fast=True), or convert it to a "
            "PreTrainedTokenizerFast"
        )
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def _affixes(backend: Any, tokenizer: Any) -> tuple[int, int]:
    """How many special tokens the tokenizer puts before and after a text."""
    mask = backend.encode("a").special_tokens_mask
    if 0 in mask:
        return mask.index(0), mask[::-1].index(0)
    # Nothing of the probe came through as a token: all are the tokenizer's own, and only an end of text stands behind.
    ids = backend.encode("a").ids
    trailing = int(bool(ids) and ids[-1] == tokenizer.eos_token_id)
    return len(ids) - trailing, trailing
