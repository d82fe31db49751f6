"""Renders an example as the text that the tokenizer is to see.

A conversation is rendered as it is given, by its own branches of the template; `Places` then says where each content
went. A template may trim a content's outer white space and write what it likes around it. One that rewrites or drops
part of an earlier message, such as a thought, takes the links into it with it; one that does so with the answer, which
the model would then learn in other words than were given, makes the example one that is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cattune.data.examples import Example, Message
from cattune.errors import AlignmentError
from cattune.supervision.rendering.bounds import Bounds, Exceeded
from cattune.supervision.rendering.places import Places
from cattune.supervision.rendering.result import Piece, Rendering, TemplateError
from cattune.wording import listed, shown

_SHOWN = 60
_TAKES_TOO_MUCH = "the chat template takes too much"


class Renderer:
    """Renders examples for one tokenizer.

    Args:
        tokenizer: whose chat template renders conversations.
        chat_template_kwargs: variables for the template (`enable_thinking`, `tools`, ...); an example's own come first.
    """

    def __init__(self, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
        self._tokenizer = tokenizer
        self._kwargs = dict(chat_template_kwargs or {})
        self._stopped = self._done = 0

    def __call__(self, example: Example) -> Rendering:
        """Render one example.

        Raises:
            TemplateError: the chat template cannot render this example, or alters what it says.
            AlignmentError: there is no chat template, or the conversation is none.
        """
        (result,) = self.each([example])
        if isinstance(result, TemplateError):
            raise result
        return result

    def each(self, examples: Iterable[Example]) -> list[Rendering | TemplateError]:
        """Render many: what `__call__` gives or, where it raises a `TemplateError`, that."""
        results: list[Rendering | TemplateError] = []
        with Bounds() as bounds:
            for example in examples:
                try:
                    results.append(self._conversation(example, bounds) if example.messages else _joined(example))
                except TemplateError as error:
                    results.append(error)
        return results

    def _conversation(self, example: Example, bounds: Bounds) -> Rendering:
        bounds.next_example(sum(len(message.content) for message in example.messages))
        try:
            rendering = self._rendered(example, bounds)
        except Exceeded as stop:
            why = str(stop)
        else:
            self._done += 1
            return rendering
        self._stopped += 1
        if self._stopped > max(1, self._done):  # not this example's fault: do not spend that much on each of thousands
            raise AlignmentError(
                f"example {shown(example.id)}, and {self._stopped - 1} before it: {_TAKES_TOO_MUCH}: {why}; use a "
                "tokenizer with another chat template"
            )
        raise TemplateError(example.id, _TAKES_TOO_MUCH, f"{why}; shorten the example, or use another template")

    def _rendered(self, example: Example, bounds: Bounds) -> Rendering:
        if getattr(self._tokenizer, "chat_template", None) is None:
            raise AlignmentError(
                f"example {shown(example.id)} is a conversation, and the tokenizer has no chat template; set "
                "tokenizer.chat_template, or give prompt and completion instead of messages"
            )
        if len(example.messages) < 2:
            raise TemplateError(
                example.id,
                "nothing comes before the assistant's message",
                "a conversation needs at least one message for the model to answer",
            )
        if example.messages[-1].weight == 0:
            raise TemplateError(
                example.id, "its answer has weight 0", "there is nothing to learn; give it weight 1 or leave it out"
            )
        text = self._apply(example, example.messages, bounds)
        before = self._apply(example, example.messages[:-1], bounds, generate=True)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise TemplateError(
                example.id,
                "the chat template writes half of a surrogate pair",
                "which is no character and which no tokenizer reads; it stands in the template, or in its variables",
            ) from None
        if not text.startswith(before):
            raise TemplateError(
                example.id,
                "the chat template's generation prompt is not how it begins the assistant's turn",
                f"it prompts with {before[-_SHOWN:]!r} and writes "
                f"{text[max(0, len(before) - _SHOWN) : len(before)]!r}, so that the model would be trained to continue "
                "another text than it is given; fix the template, or give chat_template_kwargs that fit the answer",
            )
        return self._located(example, text, len(before), bounds)

    def _located(self, example: Example, text: str, completion_start: int, bounds: Bounds) -> Rendering:
        messages = example.messages
        places = Places(text, [m.content for m in messages], lambda contents: self._again(example, contents, bounds))
        whole = places.whole()
        if messages[-1].content.strip() and (whole[-1] is None or _end(whole[-1]) <= completion_start):
            given = messages[-1].content
            raise TemplateError(
                example.id,
                "the chat template does not write its answer unchanged, once",
                f"of {given[:_SHOWN]!r} it makes {text[completion_start:][: 2 * _SHOWN]!r}; give the answer as the "
                "template writes it, or use another template",
            )
        names = list(example.fields)
        empty = (0, 0, completion_start)
        pieces = tuple(Piece(name, *(place or empty)) for name, place in zip(names, whole, strict=True))
        # Blank contents hold no span that has a token.
        altered = {names[i]: i for i, m in enumerate(messages) if whole[i] is None and m.content.strip()}
        spans = {s for link in example.links for s in (link.effect, *link.causes) if s.field in altered}
        found = {span: places.span(altered[span.field], span.start, span.end) for span in spans}
        return Rendering(text, completion_start, pieces, True, found, tuple(altered))

    def _again(self, example: Example, contents: Sequence[str], bounds: Bounds) -> str | None:
        turns = [replace(m, content=content) for m, content in zip(example.messages, contents, strict=True)]
        try:
            return self._apply(example, turns, bounds)
        except TemplateError:
            return None

    def _apply(self, example: Example, messages: Sequence[Message], bounds: Bounds, generate: bool = False) -> str:
        conversation = [message.to_dict() for message in messages]
        kwargs = self._kwargs | dict(example.chat_template_kwargs)

        def apply() -> str:
            return str(
                self._tokenizer.apply_chat_template(
                    conversation, tokenize=False, add_generation_prompt=generate, **kwargs
                )
            )

        try:
            return bounds.run(apply, lambda: len(json.dumps([conversation, kwargs], default=str)))
        except Exceeded:
            raise
        except Exception as error:  # a template is a program of its author's: it may raise anything
            roles, reason = listed([message.role for message in messages]), " ".join(str(error).split())[:300]
            raise TemplateError(
                example.id, "the chat template cannot render it", f"a conversation of {roles}: {reason}"
            ) from error


def render(example: Example, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> Rendering:
    """Render one example as the text that the tokenizer is to see; see `Renderer` for many.

    Raises:
        TemplateError: the chat template cannot render this example, or alters what it says.
        AlignmentError: there is no chat template.
    """
    return Renderer(tokenizer, chat_template_kwargs)(example)


def _joined(example: Example) -> Rendering:
    prompt, completion = example.prompt or "", example.completion or ""
    cut, end = len(prompt), len(completion)
    pieces = (Piece("prompt", 0, cut, 0), Piece("completion", 0, end, cut))
    return Rendering(prompt + completion, cut, pieces, False)


def _end(place: tuple[int, int, int]) -> int:
    start, end, text_start = place
    return text_start + end - start
