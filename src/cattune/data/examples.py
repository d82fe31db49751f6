"""The data model: an example is a prompt and a completion, or a conversation, with its causal links.

Positions are Unicode code points of one *field* of the example, so that no chat template, tokenizer or browser moves
them. The fields, in reading order, are `prompt` and `completion`, or `messages[0].content`, `messages[1].content`, ...
where the last message is the completion.

Everything here is immutable and checked when it is made: a value of these types is well-formed, and the code that uses
it checks nothing again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cattune.errors import DataError
from cattune.wording import listed, shown

SCHEMA = "cattune/1"
"""Name and version of the JSONL schema, written into every record and checked when one is read."""

METHODS = ("exact", "loose", "fuzzy")
"""How a link's phrases were found in the text, from the strictest way to the laxest (see `grounding.search`)."""

STATUSES = ("proposed", "accepted")
"""Whether a person has agreed to a link. Both train; a link that a person rejects is a `RefusedLink`."""

REJECTED = "rejected in review"
OUTVOTED = "outvoted"
"""`RefusedLink.reason` of a link that fits the text: a person, or the majority of several annotators, is against it."""

MESSAGE_KEYS = ("role", "content", "name", "weight", "reasoning_content")
"""What a message may have; the first two are needed."""

_RENDERING = frozenset(
    {"conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message", "tokenizer_kwargs"}
    | {"return_dict", "return_tensors", "return_assistant_tokens_mask", "padding", "truncation", "max_length"}
    | {"sanitize_control_tokens"}
)
"""Arguments of `apply_chat_template` that are no variables of a template."""

FAILED = "no annotation: "
"""Begins `RefusedLink.reason` of the one refusal of an example about which an annotator could say nothing."""


def check_template_kwargs(given: Any, where: str) -> None:
    """Refuse what is no mapping of variables for a chat template.

    Raises:
        DataError: it is none, or sets what is this library's to say.
    """
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise DataError(f"{where}: chat_template_kwargs must be a mapping of names to values, got {shown(given)}")
    if ours := sorted(_RENDERING & given.keys()):
        raise DataError(
            f"{where}: chat_template_kwargs has {', '.join(ours)}, which rendering sets by itself; leave it out"
        )


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The characters [start, end) of one field, counted in Unicode code points."""

    field: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise DataError(
                f"a span needs 0 <= start < end, got [{shown(self.start)}, {shown(self.end)}) in {shown(self.field)}"
            )


@dataclass(frozen=True, slots=True)
class CausalLink:
    """An effect and the causes that it depends on.

    Args:
        effect: what is to be predicted.
        causes: what it depends on, one span or more; every cause starts before the effect ends.
        weight: relative importance, > 0; a key that several links name takes the largest of their weights.
        source: where the link came from: a person, a rule, an assistant model.
        method: how its phrases were found, one of `METHODS`: the laxest of them; "exact" for a link given as spans.
        score: 0 < score <= 1, how well the text agrees with the phrases: the lowest of them.
        status: one of `STATUSES`.
    """

    effect: Span
    causes: tuple[Span, ...]
    weight: float = 1.0
    source: str = "unknown"
    method: str = "exact"
    score: float = 1.0
    status: str = "proposed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "causes", tuple(self.causes))  # a list would not compare equal after a round trip
        if not self.causes:
            raise DataError("a causal link needs at least one cause, got none")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise DataError(f"a causal link's weight must be a finite number > 0, got {self.weight}")
        if not 0 < self.score <= 1:
            raise DataError(f"a causal link's score must be > 0 and at most 1, got {self.score}")
        for name, value, known in (("method", self.method, METHODS), ("status", self.status, STATUSES)):
            if value not in known:
                raise DataError(f"a causal link's {name} must be one of {', '.join(known)}, got {shown(value)}")


@dataclass(frozen=True, slots=True)
class RefusedLink:
    """A link, or one cause of it, that could not be used, with the phrases as they were given and the reason.

    Args:
        effect: the effect phrase.
        cause: the cause phrase; None when the link as a whole is refused.
        reason: why; the readers use the reasons of `cattune.grounding.links`, so that they can be counted.
        link: the link itself, where it fits the text and was rejected or outvoted. Training does not see it; a reviewer
            can bring it back.
    """

    effect: str
    cause: str | None
    reason: str
    link: CausalLink | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Args:
        role: who speaks: "system", "user", "assistant", "tool", ... as the chat template knows them.
        content: what is said; the text that spans count in.
        name: the speaker's, for templates that write it.
        weight: 1, or 0 for an answer that is not to be learned, as in OpenAI's format; None is not given.
        reasoning_content: the thought before the content, for templates that write it.
    """

    role: str
    content: str
    name: str | None = None
    weight: int | None = None
    reasoning_content: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The message as chat templates and records have it, without what is not given."""
        optional = {key: getattr(self, key) for key in MESSAGE_KEYS[2:]}
        given = {key: value for key, value in optional.items() if value is not None}
        return {"role": self.role, "content": self.content, **given}


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and a completion, or a conversation whose last message is the completion, with its causal links.

    Args:
        id: names the example in every message.
        prompt: what the model is given; with `completion`, or neither.
        completion: what it learns to write.
        messages: a conversation, instead of prompt and completion; the last message is the assistant's.
        links: the causal links; none is legal, the example then trains on cross-entropy alone.
        refused: links that were given and could not be used, kept so that they are counted and reported.
        metadata: carried along, never read by training.
        chat_template_kwargs: variables for the chat template, such as `enable_thinking` or `tools`, as JSON has them.
    """

    id: str
    prompt: str | None = None
    completion: str | None = None
    messages: tuple[Message, ...] = ()
    links: tuple[CausalLink, ...] = ()
    refused: tuple[RefusedLink, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("messages", "links", "refused"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.id, str) or not self.id:
            raise DataError(f"an example's id must be a string that is not empty, got {shown(self.id)}")
        has_pair = self.prompt is not None and self.completion is not None
        if has_pair == bool(self.messages) or (self.prompt is None) != (self.completion is None):
            raise DataError(f"example {shown(self.id)} needs either both prompt and completion, or messages")
        if self.messages and self.messages[-1].role != "assistant":
            raise DataError(
                f"example {shown(self.id)}: the last message is what the model learns to write, so its role must be "
                f"'assistant', got {shown(self.messages[-1].role)}"
            )
        if self.chat_template_kwargs != {}:
            check_template_kwargs(self.chat_template_kwargs, f"example {shown(self.id)}")
        fields = self.fields
        for name, text in fields.items():
            self._check_text(name, text)
        for index, message in enumerate(self.messages):
            self._check_message(message, f"messages[{index}]")
        order = {name: index for index, name in enumerate(fields)}
        for link in (*self.links, *(refusal.link for refusal in self.refused if refusal.link is not None)):
            for span in (link.effect, *link.causes):
                self._check_span(span, fields)
            effect_end = (order[link.effect.field], link.effect.end)
            for cause in link.causes:
                if (order[cause.field], cause.start) >= effect_end:
                    raise DataError(
                        f"example {shown(self.id)}: the cause {shown(self.text_of(cause))} at {cause.field}"
                        f"[{cause.start}:{cause.end}] comes after its effect {shown(self.text_of(link.effect))}; a "
                        "causal model reads from left to right, so a cause must start before its effect ends"
                    )

    @property
    def fields(self) -> dict[str, str]:
        """Each field's name and text, in reading order; the last one is the completion."""
        if self.messages:
            return {f"messages[{i}].content": message.content for i, message in enumerate(self.messages)}
        assert self.prompt is not None and self.completion is not None  # __post_init__ saw to it
        return {"prompt": self.prompt, "completion": self.completion}

    @property
    def completion_field(self) -> str:
        """The name of the field that the model learns to write."""
        return f"messages[{len(self.messages) - 1}].content" if self.messages else "completion"

    @property
    def target(self) -> str:
        """The text that the model learns to write."""
        return self.fields[self.completion_field]

    def text_of(self, span: Span) -> str:
        """The characters that a span of this example covers."""
        return self.fields[span.field][span.start : span.end]

    def _check_text(self, name: str, text: str) -> None:
        if not isinstance(text, str):
            raise DataError(f"example {shown(self.id)}: {name} must be a string, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"example {shown(self.id)}: {name} holds half of a surrogate pair at position {error.start}, which is "
                "no character and which no tokenizer reads; repair the text where it was cut or decoded"
            ) from None

    def _check_message(self, message: Message, name: str) -> None:
        for key in ("role", "name", "reasoning_content"):
            if (text := getattr(message, key)) is not None:
                self._check_text(f"{name}.{key}", text)
        if message.weight not in (None, 0, 1):
            raise DataError(
                f"example {shown(self.id)}: {name}.weight is {shown(message.weight)}; expected 1, or 0 for "
                "an answer that is not to be learned"
            )

    def _check_span(self, span: Span, fields: Mapping[str, str]) -> None:
        text = fields.get(span.field)
        if text is None:
            raise DataError(
                f"example {shown(self.id)}: a link names the field {shown(span.field)}; it has {listed(fields)}"
            )
        if span.end > len(text):
            raise DataError(
                f"example {shown(self.id)}: the span [{shown(span.start)}, {shown(span.end)}) runs past the end of "
                f"{span.field} ({len(text)} code points; positions count code points, not UTF-16 units or bytes)"
            )
