"""What a run would ask and cost, found out without asking anything."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from cattune.annotation.assistant.costs import FIRST_GUESS
from cattune.annotation.assistant.course import Question
from cattune.annotation.assistant.endpoint.limits import estimate_tokens
from cattune.annotation.assistant.prompt import ChatMessage, build_messages
from cattune.annotation.store.store import Store
from cattune.data.examples import Example
from cattune.data.on_disk import SeenKeys


@dataclass(slots=True)
class Forecast:
    """What a run would do. Second requests, where a reply has problems, are not in it.

    Args:
        messages: the first example's prompt.
        examples: how many there are.
        requests: to be sent.
        stored: replies that are there already.
        duplicates: examples whose text is that of an earlier one.
        prompt_tokens: of the requests to be sent, about.
        completion_tokens: of their replies, if these are as long as the prior's.
    """

    messages: list[ChatMessage] = field(default_factory=list)
    examples: int = 0
    requests: int = 0
    stored: int = 0
    duplicates: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def forecast(question: Question, examples: Iterable[Example], store: Store | None = None) -> Forecast:
    """See what a run over the examples would do; `store` has the replies that it could reuse."""
    found = Forecast()
    reply_tokens = FIRST_GUESS
    with closing(SeenKeys()) as seen:
        for example in examples:
            messages = build_messages(question.prior, example)
            if not found.examples:
                found.messages = messages
                reply_tokens = _tokens_of_replies(messages)
            found.examples += 1
            key = question.request(messages).key
            if seen.add(key) is not None:
                found.duplicates += 1
            elif store is not None and store.get(key):
                found.stored += 1
            else:
                found.requests += 1
                found.prompt_tokens += estimate_tokens(messages)
                found.completion_tokens += reply_tokens
    return found


def _tokens_of_replies(messages: list[ChatMessage]) -> int:
    """The mean of the replies that the prompt shows."""
    shown = [estimate_tokens([turn]) for turn in messages if turn["role"] == "assistant"]
    return round(sum(shown) / len(shown)) if shown else FIRST_GUESS
