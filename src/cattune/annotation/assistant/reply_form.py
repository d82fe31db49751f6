"""The form of a reply: its JSON schema, with bounded lists, and the most tokens that it may have.

Small models can write a list that never ends; the bounds end it. They are no part of a request's key in the store: a
reply within them is good under any others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.annotation.assistant.endpoint.refusals import OUTPUT_LIMITS
from cattune.annotation.assistant.prior import Prior

TOKENS_OF_A_PHRASE = 24
"""A generous mean: with its quote, where it has one, and the JSON around it."""

TOKENS_OF_THOUGHTS = 2048
"""Servers count what a model thinks before it replies."""

MOST_TOKENS = 16_384
"""Some hosted models write no more, and refuse to be asked for more."""


def response_format(prior: Prior) -> dict[str, Any]:
    """The parameter `response_format` of a chat request."""
    return {"type": "json_schema", "json_schema": {"name": "causal_links", "strict": True, "schema": schema(prior)}}


def schema(prior: Prior) -> dict[str, Any]:
    """The JSON schema of a reply.

    Its keywords are those that the strict mode of OpenAI, and the grammars of vLLM, llama.cpp and llguidance share. A
    phrase is a string wherever that will do: objects for all would cost many more output tokens.
    """
    options = prior.options
    links = {"type": "array", "items": _link(prior)}
    if not options.answer_first:
        return _object(example={"type": "string"}, links={**links, "maxItems": options.max_links})
    answer = _link(prior, minItems=1)
    return _object(example={"type": "string"}, answer=answer, links={**links, "maxItems": options.max_links - 1})


def output_limit(prior: Prior) -> int:
    """The most tokens of a reply, if nobody says otherwise: as many links and causes as the schema allows."""
    links = prior.options.max_links * (1 + most_causes(prior)) * TOKENS_OF_A_PHRASE
    return min(links + TOKENS_OF_THOUGHTS, MOST_TOKENS)


def limited(parameters: Mapping[str, Any], most: int, own_server: bool) -> dict[str, int]:
    """The parameter that limits a reply's tokens, where the user's parameters have none."""
    return {} if any(name in parameters for name in OUTPUT_LIMITS) else {OUTPUT_LIMITS[own_server]: most}


def most_causes(prior: Prior) -> int:
    """The most causes of a link: what the prior says, or what it shows, where an example of it has more."""
    return max([prior.options.max_causes, *(len(causes) for entry in prior.examples for _, causes in entry.links)])


def _link(prior: Prior, **bounds: int) -> dict[str, Any]:
    phrase = {"anyOf": [{"type": "string"}, _object(text={"type": "string"}, quote={"type": "string"})]}
    causes = {"type": "array", "items": phrase, **bounds, "maxItems": most_causes(prior)}
    return _object(effect=phrase, causes=causes)


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
