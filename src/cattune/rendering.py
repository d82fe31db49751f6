"""Fields to one text: by concatenation, or through the tokenizer's chat template, with a map of positions.

A conversation is rendered twice: as it is, and with every content replaced by a sentinel. The second rendering, cut at
the sentinels, gives the template's own pieces, and these with the contents between them must reassemble the first one
exactly. So no template is known by name, and one that hides or rewrites a content is an error and not a shifted span.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cattune.errors import AlignmentError
from cattune.examples import Example, Message, Span

_SENTINEL = re.compile("\ue000([0-9]+)\ue001")


class Piece(NamedTuple):
    """Where the characters [start, end) of a field stand in the rendered text: from `text_start` on, unchanged."""

    field: str
    start: int
    end: int
    text_start: int


class Rendering(NamedTuple):
    """One example as one text.

    Attributes:
        text: what is tokenized.
        completion_start: the first position of the text that the model learns to write.
        pieces: each field's place in the text, in reading order; the last one is the completion.
        templated: whether a chat template wrote the text, special tokens and end of turn included.
    """

    text: str
    completion_start: int
    pieces: tuple[Piece, ...]
    templated: bool

    def locate(self, span: Span) -> tuple[int, int]:
        """The text positions [start, end) of a field's span.

        Characters that the template trimmed are in no text; a span of nothing else comes back empty (start = end).
        """
        name, low, high = span.field, span.start, span.end
        for field, start, end, text_start in self.pieces:
            if field == name:
                shift = text_start - start
                if start <= low and high <= end:
                    return low + shift, high + shift
                return min(max(low, start), end) + shift, max(min(high, end), start) + shift
        raise AlignmentError(f"a span names the field {name!r}; it has {', '.join(p.field for p in self.pieces)}")


class Renderer:
    """Renders examples for one tokenizer; remembers what its chat template writes around the contents."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._literals: dict[tuple[tuple[str, str | None], ...], tuple[list[str], list[int]]] = {}

    def __call__(self, example: Example) -> Rendering:
        """Render one example.

        Raises:
            AlignmentError: no chat template, or one that cannot render the example or alters what it says.
        """
        if example.messages:
            return self._conversation(example)
        prompt, completion = example.prompt or "", example.completion or ""
        cut, end = len(prompt), len(completion)
        pieces = (Piece("prompt", 0, cut, 0), Piece("completion", 0, end, cut))
        return Rendering(prompt + completion, cut, pieces, False)

    def _conversation(self, example: Example) -> Rendering:
        if getattr(self._tokenizer, "chat_template", None) is None:
            raise AlignmentError(
                f"example {example.id!r} is a conversation, and the tokenizer has no chat template; set "
                "tokenizer.chat_template, or give prompt and completion instead of messages"
            )
        if len(example.messages) < 2:
            raise AlignmentError(
                f"example {example.id!r} has nothing before the assistant's message; a conversation needs at least one "
                "message for the model to answer"
            )
        text = self._apply(example, example.messages)
        before = self._apply(example, example.messages[:-1], generate=True)
        if not text.startswith(before):
            raise AlignmentError(
                f"example {example.id!r}: the chat template's generation prompt {before[-60:]!r} is not how it begins "
                f"the assistant's turn ({text[max(0, len(before) - 60) : len(before)]!r}), so the model would be "
                "trained to continue another text than it is given; mend the template"
            )
        pieces = self._pieces(example, text)
        if pieces[-1].text_start < len(before):
            raise AlignmentError(
                f"example {example.id!r}: the chat template puts {pieces[-1].field} before the end of its generation "
                "prompt; mend the template"
            )
        return Rendering(text, len(before), pieces, True)

    def _apply(self, example: Example, messages: Sequence[Message], generate: bool = False) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self._tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=generate)
        except Exception as error:  # a template is a program of its author's: it may raise anything
            roles = ", ".join(message.role for message in messages)
            raise AlignmentError(
                f"example {example.id!r}: the chat template cannot render a conversation of {roles}: {error}"
            ) from error
        return str(text)

    def _pieces(self, example: Example, text: str) -> tuple[Piece, ...]:
        literals, order = self._template_literals(example)
        found = list(_reassemble(text, literals, [example.messages[i].content for i in order]))
        if len(found) != 1:
            what = "does not write it unchanged" if not found else "leaves more than one place for it"
            raise AlignmentError(
                f"example {example.id!r}: {self._suspect(example, text)} cannot be found in the rendered conversation: "
                f"the chat template {what}; give the content as the template writes it, or another template"
            )
        placed = dict(zip(order, found[0], strict=True))
        names = list(example.fields)
        return tuple(
            Piece(name, *placed[i]) if i in placed else Piece(name, 0, 0, len(text)) for i, name in enumerate(names)
        )

    def _suspect(self, example: Example, text: str) -> str:
        missing = [name for name, content in example.fields.items() if content.strip() not in text]
        return missing[0] if missing else "one of " + ", ".join(example.fields)

    def _template_literals(self, example: Example) -> tuple[list[str], list[int]]:
        """What the template writes before, between and after the contents, and the order that it puts these in.

        Blank contents stay as they are: templates test for them, and no span of theirs has a token.
        """
        messages = example.messages
        key = tuple((m.role, None if m.content.strip() else m.content) for m in messages)
        if key not in self._literals:
            marked = [
                m if not m.content.strip() else Message(m.role, f"\ue000{i}\ue001") for i, m in enumerate(messages)
            ]
            parts = _SENTINEL.split(self._apply(example, marked))
            order = [int(index) for index in parts[1::2]]
            expected = [i for i, m in enumerate(messages) if m.content.strip()]
            if sorted(order) != expected:
                wrong = next(i for i in [*expected, *order] if order.count(i) != 1 or i not in expected)
                raise AlignmentError(
                    f"example {example.id!r}: the chat template writes messages[{wrong}].content {order.count(wrong)} "
                    "times, expected once; leave that message out, or use another template"
                )
            self._literals[key] = (parts[0::2], order)
        return self._literals[key]


def render(example: Example, tokenizer: Any) -> Rendering:
    """Render one example as the text that the tokenizer is to see; see `Renderer` for many.

    Raises:
        AlignmentError: no chat template, or one that cannot render the example or alters what it says.
    """
    return Renderer(tokenizer)(example)


def _reassemble(text: str, literals: Sequence[str], contents: Sequence[str]) -> Iterator[list[tuple[int, int, int]]]:
    """Each way in which literals and contents, trimmed or not, make up the text: (start, end, text_start) each."""
    ways: list[tuple[int, list[tuple[int, int, int]]]] = (
        [(len(literals[0]), [])] if text.startswith(literals[0]) else []
    )
    for content, literal in zip(contents, literals[1:], strict=True):
        ways = [
            (at + end - start + len(literal), [*placed, (start, end, at)])
            for at, placed in ways
            for start, end in _trimmings(content)
            if text.startswith(content[start:end] + literal, at)
        ]
    return (placed for at, placed in ways if at == len(text))


def _trimmings(content: str) -> list[tuple[int, int]]:
    """The parts of a content that templates keep: all of it, or without its outer whitespace on one side or both."""
    start, end = len(content) - len(content.lstrip()), len(content.rstrip())
    return list(dict.fromkeys([(0, len(content)), (start, end), (0, end), (start, len(content))]))
