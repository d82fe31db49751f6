"""Examples to tokens, with what ends each completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cattune.data.examples import Example, Message
from cattune.supervision.rendering.renderer import Renderer
from cattune.supervision.rendering.result import Rendering, TemplateError
from cattune.supervision.tokens import Tokens, encode_texts


class End(NamedTuple):
    """What ends a completion.

    Attributes:
        ids: the tokens that do, any of which ends generation: those that the template or the tokenizer writes after
            the completion and that are not made of ordinary text, or EOS. None where there is no such token.
        text: the plain text that the template writes between the completion and these tokens, if any.
        by_eos: whether EOS is there because the template ends the turn with nothing but white space.
    """

    ids: tuple[int, ...]
    text: str = ""
    by_eos: bool = False


class Encoded(NamedTuple):
    """An example with its text, its tokens, and what ends its completion."""

    example: Example
    rendering: Rendering
    tokens: Tokens
    end: End


class LeftOut(NamedTuple):
    """An example that the chat template cannot render, and why."""

    example: Example
    error: TemplateError


def tokenize_examples(batch: Sequence[Example], tokenizer: Any, render: Renderer) -> Iterator[Encoded | LeftOut]:
    """Render and tokenize a batch, in order; every completion ends with a token that says so, if there is one.

    Plain text ends with one EOS. A chat template's turn ends as the template ends it; where that is plain text, or
    nothing, EOS comes after it, since a model could not be stopped by it otherwise.

    Raises:
        AlignmentError: the tokenizer gives no offsets, or has no chat template for a conversation.
    """
    rendered = render.each(batch)
    renderings = [r for r in rendered if isinstance(r, Rendering)]
    plain = encode_texts([r.text for r in renderings if not r.templated], tokenizer, add_special_tokens=True)
    templated = encode_texts([r.text for r in renderings if r.templated], tokenizer, add_special_tokens=False)
    added = {i: str(token).strip() for i, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}
    eos = tokenizer.eos_token_id
    for example, rendering in zip(batch, rendered, strict=True):
        if isinstance(rendering, TemplateError):
            yield LeftOut(example, rendering)
        elif rendering.templated:
            tokens = next(templated)
            yield Encoded(example, rendering, tokens, _end_turn(rendering, tokens, eos, added))
        else:
            tokens = next(plain)
            yield Encoded(example, rendering, tokens, _end_text(tokens, eos))


def end_of_turn(tokenizer: Any) -> End:
    """What ends an answer by the chat template, without an example at hand; nothing if that is not known."""
    if not getattr(tokenizer, "chat_template", None) or not getattr(tokenizer, "is_fast", False):
        return End(())
    one = Example("end of turn", messages=(Message("user", "a"), Message("assistant", "b")))
    (encoded,) = tokenize_examples([one], tokenizer, Renderer(tokenizer))
    return End(()) if isinstance(encoded, LeftOut) else encoded.end


def _end_text(tokens: Tokens, eos: int | None) -> End:
    """End the ids with EOS, unless the text or the tokenizer already did; if both did, the tokenizer's own goes."""
    ids = tokens.ids
    if eos is None:
        return End(tuple(ids[tokens.last :][-1:]))
    if len(ids) > tokens.last > tokens.first and ids[-1] == ids[-2] == eos:
        ids.pop()
    elif len(ids) <= tokens.first or ids[-1] != eos:
        ids.append(eos)
    return End((eos,))


def _end_turn(rendering: Rendering, tokens: Tokens, eos: int | None, added: Mapping[int, str]) -> End:
    """What the template writes after the answer, with EOS after it where no token of its own ends the turn.

    A token that the tokenizer was given, and did not learn from text, ends a turn whether or not it is flagged as
    special: the flag says how it is decoded. It stands in the text as it is, unlike one for what is unknown.
    """
    start, answer_end = rendering.answer
    first = tokens.boundary(answer_end)
    own = [t for t in range(first, len(tokens.ids)) if _written(rendering.text, tokens, t) == added.get(tokens.ids[t])]
    if start == answer_end:
        own = own[-1:]  # of a blank answer it is not known what the template writes before it and what after it
    text = rendering.text[answer_end : tokens.offsets[own[0]][0] if own else None].rstrip()
    if own:
        return End(tuple(dict.fromkeys(tokens.ids[t] for t in own)), text)
    if eos is None:
        return End((), text)
    tokens.ids.append(eos)
    return End((eos,), text, by_eos=not text)


def _written(text: str, tokens: Tokens, token: int) -> str:
    start, end = tokens.offsets[token]
    return text[start:end].strip()
