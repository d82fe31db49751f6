"""What an assistant is asked: a prior and an example become the messages of a chat.

The system turn holds the prior's words and the form of the reply; the prior's examples follow as turns of user and
assistant; the example to annotate comes last. All that stands before it is the same for every example of a data set, to
the byte, so that servers can keep it in their prompt caches.

Texts of examples are data from elsewhere, and go into the prompt as JSON strings: no character of theirs can end the
string, and the phrases that come back are JSON strings as well, so that quotation marks and line breaks look the same
in both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from cattune.annotation.assistant.judgement import LinkInWords
from cattune.annotation.assistant.prior import Prior
from cattune.data.examples import Example
from cattune.grounding.search import Phrase

if TYPE_CHECKING:
    from jinja2 import Template

PROMPT_VERSION = "1"
"""Goes up with every change of the messages of a prior that has not changed; replies to different versions are kept
apart."""

ChatMessage: TypeAlias = "dict[str, str]"
"""A turn, `{"role": .., "content": ..}`, as chat endpoints take it."""

MOST_OF_A_REPLY = 20_000
"""The most characters of a reply that its repair turn shows again."""

# Servers that tokenize a rendered chat as one text read these as its control tokens. Written as a JSON escape, their
# first character means the same to a JSON reader and nothing to the tokenizer.
_CONTROL = re.compile(r"<(?=[|｜]|/?s>|/?think(?:ing)?>|(?:start|end)_of_turn>)|\[(?=/?(?:INST|SYSTEM_PROMPT)\])")


def build_messages(prior: Prior, example: Example) -> list[ChatMessage]:
    """The chat that asks for an example's links; its own links are not looked at."""
    return [*map(dict, _beginning(prior)), _user_turn(example)]


def repair_messages(messages: Sequence[ChatMessage], reply_text: str, problems: Iterable[str]) -> list[ChatMessage]:
    """The chat that says what is wrong with a reply, and asks for it again.

    Args:
        messages: the chat that the reply answers.
        reply_text: the reply, as it came; one that is empty is shown as "{}", since servers refuse empty turns.
        problems: `Judgement.problems`, or the detail of a `ReplyError`; they are shown in this order.
    """
    shown = reply_text.encode(errors="replace").decode()[:MOST_OF_A_REPLY].strip() or "{}"
    complaint = _template("repair.txt.j2").render(problems=list(problems))
    return [*messages, {"role": "assistant", "content": shown}, {"role": "user", "content": complaint}]


def example_tag(example: Example) -> str:
    """What a reply has to cite: 8 hex digits of a hash of the example's fields; equal texts have equal tags."""
    return hashlib.sha256(_json(example.fields).encode()).hexdigest()[:8]


def reply_text(example: Example, links: Iterable[LinkInWords], answer_first: bool = False) -> str:
    """The reply that an assistant should give for an example whose links are these.

    Args:
        example: about which.
        links: of it.
        answer_first: whether the answer's link is to stand before the others.
    """
    rest = list(links)
    reply: dict[str, Any] = {"example": example_tag(example)}
    if answer_first and rest:
        reply["answer"] = _link(rest.pop(_answer(example, rest)))
    return _escaped(_json({**reply, "links": list(map(_link, rest))}))


def _answer(example: Example, links: Sequence[LinkInWords]) -> int:
    """Which link is the answer's: the one whose effect ends last in the completion, as whole words."""
    completion = example.fields[example.completion_field]

    def end(index: int) -> int:
        effect = links[index][0]
        whole = rf"(?<!\w){re.escape((effect.quote or effect.text).strip())}(?!\w)"
        return max((found.end() for found in re.finditer(whole, completion)), default=-1)

    return max(range(len(links)), key=end)


def _link(link: LinkInWords) -> dict[str, Any]:
    effect, causes = link
    return {"effect": _words(effect), "causes": [_words(cause) for cause in causes]}


@lru_cache(maxsize=8)
def _beginning(prior: Prior) -> tuple[ChatMessage, ...]:
    turns = [{"role": "system", "content": _template("system.txt.j2").render(prior=prior)}]
    for entry in prior.examples:
        shown = reply_text(entry.example, entry.links, prior.options.answer_first)
        turns += [_user_turn(entry.example), {"role": "assistant", "content": shown}]
    return tuple(turns)


def _user_turn(example: Example) -> ChatMessage:
    text: dict[str, Any] = dict(example.fields)
    if example.messages:
        text = {"messages": [{"role": turn.role, "content": turn.content} for turn in example.messages]}
    record = _escaped(_json({"example": example_tag(example), **text}))
    return {"role": "user", "content": f"Annotate this example:\n\n{record}"}


def _words(phrase: Phrase) -> str | dict[str, str]:
    return phrase.text if phrase.quote is None else {"text": phrase.text, "quote": phrase.quote}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("cattune.annotation.assistant"),
        autoescape=False,  # what is written is a prompt, not a page
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
