"""An assistant's reply becomes links in words, or an error that says what to do about it.

The server holds a reply to `reply_form.schema` where it can. Where it cannot, this reads what models write instead:
thoughts, prose or a code fence around the object, a tool call, one link where a list was meant, a number for a phrase.
It never guesses at what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from cattune.annotation.assistant.judgement import LinkInWords
from cattune.annotation.assistant.reading.loose_json import Found, find_objects
from cattune.annotation.assistant.reading.thoughts import ThoughtTags, after_thoughts
from cattune.errors import DataError
from cattune.grounding.search import Phrase
from cattune.wording import shown

EMPTY = "empty"
REFUSAL = "refusal"
NO_JSON = "no_json"
MALFORMED = "malformed"
TRUNCATED = "truncated"
TOO_LONG = "too_long"
WRONG_SHAPE = "wrong_shape"
WRONG_EXAMPLE = "wrong_example"
CONTRADICTORY = "contradictory"

ADVICE: Mapping[str, str] = {
    EMPTY: "ask again; if it stays so, raise the limit on output tokens (a thinking model may use them up)",
    REFUSAL: "ask another model, or say in the prior's task what the texts are for",
    NO_JSON: "turn structured output on if the server has it, or choose a larger model",
    MALFORMED: "turn structured output on if the server has it, or ask again",
    TRUNCATED: "raise --max-output-tokens, or the server's context, and pass --retry-failed; or lower max_links",
    TOO_LONG: "lower the limit on output tokens: the model does not stop",
    WRONG_SHAPE: "turn structured output on if the server has it, or choose a larger model",
    WRONG_EXAMPLE: "ask again; if it happens often, see whether the server or a proxy mixes up replies",
    CONTRADICTORY: "ask again; of a model that drafts first, say with --thought-tags what ends its drafts",
}
"""For each reason why a reply cannot be read, what a person can do about it."""

MOST_CHARACTERS = 500_000
"""A longer reply is not read: the annotation of a text of 10,000 characters has a twentieth of that."""

MOST_LISTED = 2_000
"""A reply that lists more links and causes is of a model that does not stop: priors ask for 100 links at most."""

# The openings of refusals that models are trained to give; anything else without JSON is NO_JSON.
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am|we['’]?re)\s+(?:\w+\s+)?(?:sorry|unable|not able)|sorry\b|i\s+apologi[sz]e"
    r"|(?:i|we)\s+(?:can(?:['’]?t|not)|won['’]?t|(?:must|have to)\s+(?:decline|refuse))|as an ai\b)",
    re.IGNORECASE,
)


class ReplyError(DataError):
    """A reply that cannot be read.

    Args:
        reason: one of the reasons of this module, a key of `ADVICE`.
        detail: a sentence for a person, and for the assistant's repair turn.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as_object(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_remarks(cls, value: Any) -> Any:
        """Unknown keys with plain values, such as an explanation, go; a list or object might hold links, and stays."""
        if not isinstance(value, dict):
            return value
        return {key: item for key, item in value.items() if key in cls.model_fields or isinstance(item, list | dict)}


class PhraseReply(_Model):
    """A phrase and, where it stands in the text more than once, a longer stretch around it."""

    text: str
    quote: str | None = None


AnyPhrase: TypeAlias = Annotated[PhraseReply, BeforeValidator(_as_object)]


class LinkReply(_Model):
    """An effect and its causes."""

    effect: AnyPhrase
    causes: Annotated[list[AnyPhrase], BeforeValidator(_as_list)]


class ParsedReply(_Model):
    """All links of one example, which is cited by its tag; the answer's may stand before the others."""

    example: str
    answer: LinkReply | None = None
    links: Annotated[list[LinkReply], BeforeValidator(_as_list)]

    @field_validator("answer", mode="wrap")
    @classmethod
    def _leave_out_a_remark(cls, value: Any, read: ValidatorFunctionWrapHandler) -> LinkReply | None:
        """An answer in plain words is a remark, and goes as others do; a list or object might hold links, and stays."""
        link: LinkReply | None = read(value) if isinstance(value, dict | list) else None
        return link

    @property
    def all_links(self) -> list[LinkReply]:
        """With the answer's, which some models repeat among the others."""
        others = [link for link in self.links if link != self.answer]
        return others if self.answer is None else [self.answer, *others]


def read_reply(text: str, tag: str, thought_tags: ThoughtTags | None = None) -> list[LinkInWords]:
    """The links that a reply names.

    Args:
        text: the reply, as it came.
        tag: the tag of the example that was asked about (`prompt.example_tag`).
        thought_tags: what opens and closes the model's thoughts, beside the tags that are known.

    Raises:
        ReplyError: It is empty, cut off, no JSON, of another shape, about another example, or says two things.
    """
    if len(text) > MOST_CHARACTERS:
        raise ReplyError(TOO_LONG, f"The reply has {len(text)} characters, more than {MOST_CHARACTERS}.")
    said = spoken(text, tag, thought_tags)
    if said is None:
        raise ReplyError(TRUNCATED, "The reply ends before the model has done thinking.")
    if not said:
        blank = not text.strip("\ufeff \t\r\n")
        raise ReplyError(EMPTY, "The reply is empty." if blank else "Nothing follows the model's thought.")
    found = list(find_objects(said))
    if not found:
        if said.endswith("{"):
            raise ReplyError(TRUNCATED, "The reply is cut off where its JSON begins.")
        if _REFUSAL.match(said):
            raise ReplyError(REFUSAL, f"The reply declines: {shown(said, 200)}")
        raise ReplyError(NO_JSON, f"The reply holds no JSON object: {shown(said, 200)}")
    replies = [_shape(value) for value in _objects(found)]
    return _one_of([reply for reply in replies if isinstance(reply, ParsedReply)], replies, tag)


def spoken(text: str, tag: str, thought_tags: ThoughtTags | None = None) -> str | None:
    """A reply of at most `MOST_CHARACTERS` without its thoughts, or None where one has no end; see `read_reply`."""
    text = text.replace("\ufeff", "").strip()
    said = after_thoughts(text, lambda value: _cites(value, tag), thought_tags)
    return None if said is None else said.strip()


def _cites(value: dict[str, Any], tag: str) -> bool:
    """Whether an object is a reply for this tag, as far as it says so itself."""
    return str(_arguments(value).get("example")).strip().lower() == tag


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    """What a tool call hands over, where the object is one that was written out."""
    given = value.get("arguments", value.get("parameters"))
    if isinstance(given, str):
        found = next(find_objects(given), None)
        given = found.value if found and found.text == given.strip() else None
    return given if isinstance(given, dict) and "links" not in value else value


def _objects(found: Iterable[Found]) -> Iterable[dict[str, Any]]:
    """The objects; what begins as one and is none is an error, unless it is clearly no reply."""
    problems = []
    values = []
    for entry in found:
        if entry.is_cut:
            raise ReplyError(TRUNCATED, f"The reply is cut off: it ends with {shown(entry.text[-60:])}")
        if entry.value is not None:
            values.append(entry.value)
        elif '"links"' in entry.text or '"effect"' in entry.text:
            raise ReplyError(MALFORMED, f"The reply cannot be read: {entry.problem}.")
        else:
            problems.append(entry.problem)
    if not values:
        raise ReplyError(MALFORMED, f"The reply cannot be read: {problems[0]}.")
    return values


def _shape(value: dict[str, Any]) -> ParsedReply | str:
    """The reply that an object is, or why it is none."""
    value = _arguments(value)
    listed = _listed(value)
    if listed > MOST_LISTED:
        raise ReplyError(TOO_LONG, f"The reply lists {listed} links and causes, more than {MOST_LISTED}.")
    try:
        return ParsedReply.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
        return f"at {place or 'the top'}: {first['msg']}, got {shown(first['input'])}"


def _listed(value: Any) -> int:
    """How many items the lists in a value have."""
    if isinstance(value, dict):
        return sum(map(_listed, value.values()))
    return len(value) + sum(map(_listed, value)) if isinstance(value, list) else 0


def _one_of(replies: list[ParsedReply], all_of: list[ParsedReply | str], tag: str) -> list[LinkInWords]:
    """The links of the reply for this tag, if there is one, and no other that says something else."""
    ours = [reply for reply in replies if _tag(reply) == tag]
    if not ours and replies:
        named = ", ".join(shown(reply.example) for reply in replies[:3])
        raise ReplyError(WRONG_EXAMPLE, f"The reply is about the example {named}; the example asked about is {tag!r}.")
    wrong = [problem for problem in all_of if isinstance(problem, str)]
    if not ours:
        raise ReplyError(WRONG_SHAPE, f"The reply is not of the form that was asked for: {wrong[0]}.")
    if any(reply.all_links != ours[0].all_links for reply in ours):
        raise ReplyError(CONTRADICTORY, f"The reply annotates the example {len(ours)} times, not alike; give one.")
    return [(_phrase(link.effect), tuple(map(_phrase, link.causes))) for link in ours[0].all_links]


def _tag(reply: ParsedReply) -> str:
    return reply.example.strip().lower()


def _phrase(phrase: PhraseReply) -> Phrase:
    return Phrase(phrase.text, phrase.quote or None)
