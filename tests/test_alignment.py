from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_families import FAMILIES, WORDS, byte_level, family, inserted, texts

from cattune.data.examples import Span
from cattune.errors import AlignmentError
from cattune.supervision.tokens import Tokens, encode_texts


def encode(text: str, tokenizer: Any, add_special_tokens: bool = True) -> Tokens:
    (tokens,) = encode_texts([text], tokenizer, add_special_tokens)
    return tokens


def touching(text: str, tokenizer: Any, start: int, end: int) -> list[int]:
    """The slow and obvious way: look at every token of what the tokenizer itself returns."""
    encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    names = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    places = zip(names, encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
    return [
        t
        for t, (name, (low, high), special) in enumerate(places)
        if not special and low < end and high > start and not inserted(tokenizer, text, name, low, high)
    ]


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=50)
@given(text=texts(), data=st.data())
def test_a_span_s_tokens_are_those_that_a_loop_over_all_tokens_finds(name: str, text: str, data: st.DataObject):
    tokenizer = family(name)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    expected = touching(text, tokenizer, start, end) if start < end else []
    tokens = encode(text, tokenizer)
    assert list(tokens.span(start, end)) == expected
    if start < end:
        assert list(tokens.finder({"prompt": 0})(Span("prompt", start, end))) == expected


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=50)
@given(batch=st.lists(texts(4), max_size=4), special=st.booleans())
def test_ids_and_offsets_are_the_tokenizer_s_own(name: str, batch: list[str], special: bool):
    tokenizer = family(name)
    result = list(encode_texts(batch, tokenizer, special))
    assert len(result) == len(batch)
    for text, tokens in zip(batch, result, strict=True):
        encoding = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
        assert tokens.ids == encoding["input_ids"]
        assert tokens.offsets == encoding["offset_mapping"]


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=50)
@given(text=texts(), data=st.data())
def test_the_boundary_parts_the_tokens_that_lie_before_a_position_from_the_one_that_reaches_past_it(
    name: str, text: str, data: st.DataObject
):
    tokens = encode(text, family(name))
    position = data.draw(st.integers(0, len(text)))
    boundary = tokens.boundary(position)
    assert tokens.first <= boundary <= tokens.last
    assert all(tokens.offsets[t][1] <= position for t in range(tokens.first, boundary))
    assert boundary == tokens.last or tokens.offsets[boundary][1] > position


def byte_ranges(tokens: Tokens, tokenizer: Any) -> list[tuple[int, int]]:
    """The bytes that each byte-level token stands for, from its spelling alone: no offsets are used."""
    ends, at = [], 0
    for name in tokenizer.convert_ids_to_tokens(tokens.ids):
        start, at = at, at + (len(name) if name not in tokenizer.all_special_tokens else len(name.encode()))
        ends.append((start, at))
    return ends


@pytest.mark.parametrize("name", ["byte-level", "byte-level-trim"])
@settings(deadline=None, max_examples=50)
@given(text=texts(), data=st.data())
def test_byte_level_spans_are_what_the_tokens_bytes_say(name: str, text: str, data: st.DataObject):
    tokenizer = family(name)
    tokens = encode(text, tokenizer, add_special_tokens=False)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    span = text[start:end]
    if not span or (name.endswith("trim") and (span[0].isspace() or span[-1].isspace())):
        return  # trimmed offsets do not say where a span's outer spaces are
    low, high = len(text[:start].encode()), len(text[:end].encode())
    truth = byte_ranges(tokens, tokenizer)
    assert truth[-1][1] == len(text.encode())
    assert list(tokens.span(start, end)) == [t for t, (a, b) in enumerate(truth) if a < high and b > low]


@pytest.mark.parametrize("name", FAMILIES)
@settings(deadline=None, max_examples=50)
@given(words=st.lists(st.sampled_from([w for w in WORDS if w.isascii() and w.isalnum()]), min_size=1, max_size=6))
def test_the_tokens_of_a_word_read_as_that_word_in_every_family(name: str, words: list[str]):
    tokenizer = family(name)
    text = " ".join(words)
    tokens = encode(text, tokenizer)
    start = 0
    for word in words:
        span = tokens.span(start, start + len(word))
        covered = sorted(
            {p for t in span for p in range(*tokens.offsets[t])} - {p for p, c in enumerate(text) if c == " "}
        )
        assert set(range(start, start + len(word))) <= set(covered)
        assert all(set(range(*tokens.offsets[t])) & set(range(start, start + len(word))) for t in span)
        start += len(word) + 1


@pytest.mark.parametrize("name", ["byte-level", "byte-level-trim", "metaspace-bpe"])
def test_all_tokens_that_share_one_character_belong_to_it(name: str):
    tokens = encode("a 🦩 b", family(name))
    span = tokens.span(2, 3)
    assert len(span) >= 2
    assert len([t for t in span if tokens.offsets[t][1] == 3]) >= 2
    for t in range(tokens.first, tokens.last):
        assert (t in span) == (tokens.offsets[t][0] < 3 and tokens.offsets[t][1] > 2)


def test_a_space_mark_that_the_tokenizer_puts_in_front_belongs_to_no_word():
    tokenizer = family("metaspace-bpe")
    tokens = encode("Weight", tokenizer)
    names = tokenizer.convert_ids_to_tokens(tokens.ids)
    assert names[:2] == ["<s>", "▁"] and tokens.offsets[1] == (0, 1)
    assert list(tokens.span(0, 6)) == list(range(2, len(names)))
    assert tokens.boundary(0) == 1, "it is there for the word's sake, so it is not given to the model before the word"


def test_tokens_out_of_order_are_found_all_the_same():
    tokens = Tokens([5, 6, 7, 8], [(0, 5), (1, 2), (6, 7), (5, 6)], 0, 4)
    assert not tokens.ordered
    assert list(tokens.span(1, 2)) == [0, 1]
    assert list(tokens.span(3, 6)) == [0, 3]
    assert list(tokens.span(2, 2)) == []
    assert tokens.boundary(2) == 0
    assert tokens.boundary(5) == 2
    assert tokens.boundary(7) == 4


@pytest.mark.parametrize("name", FAMILIES)
def test_special_tokens_at_the_ends_are_told_from_the_text_s(name: str):
    tokenizer = family(name)
    for text in ("", "High Risk", "</s>"):
        tokens = encode(text, tokenizer)
        mask = tokenizer(text, return_special_tokens_mask=True)["special_tokens_mask"]
        assert [tokens.first <= t < tokens.last for t in range(len(mask))] == [not special for special in mask]


def test_a_tokenizer_without_offsets_is_refused_with_a_way_on():
    class Slow:
        is_fast = False

    for tokenizer in (Slow(), None, object()):
        with pytest.raises(AlignmentError, match=r"gives no character offsets.*use_fast=True"):
            list(encode_texts(["a"], tokenizer, True))


def test_truncation_and_padding_left_in_a_tokenizer_file_do_not_cut_or_fill():
    tokenizer = byte_level(prefix_space=False, trim=False)
    whole = encode("High Risk " * 10, tokenizer).ids
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=300)
    assert encode("High Risk " * 10, tokenizer).ids == whole


def test_special_tokens_in_the_text_are_read_as_the_tokenizer_is_set_to():
    tokenizer = byte_level(prefix_space=False, trim=False)
    assert encode("</s>", tokenizer).ids == [tokenizer.eos_token_id]
    tokenizer.split_special_tokens = True
    assert len(encode("</s>", tokenizer).ids) > 1
    assert encode("</s>", tokenizer).ids == tokenizer("</s>")["input_ids"]


def test_a_tokenizer_whose_probe_is_no_token_still_tells_its_own_special_tokens():
    class Encoding:
        ids: Sequence[int] = [1, 2]
        special_tokens_mask: Sequence[int] = [1, 1]
        offsets: Sequence[tuple[int, int]] = [(0, 0), (0, 0)]

    class Backend:
        truncation = padding = normalizer = pre_tokenizer = None
        encode_special_tokens = False

        def encode(self, text: str) -> Encoding:
            return Encoding()

        def encode_batch(self, texts: list[str], add_special_tokens: bool) -> list[Encoding]:
            return [Encoding() for _ in texts]

        def token_to_id(self, token: str) -> None:
            return None

        def get_added_tokens_decoder(self) -> dict[int, str]:
            return {}

    class Tokenizer:
        is_fast = True
        backend_tokenizer = Backend()
        split_special_tokens = False
        eos_token_id = 2

    tokens = encode("x", Tokenizer())
    assert (tokens.first, tokens.last) == (1, 1)
