"""Which refusals end a run, and what the user is told then. Pure."""

from __future__ import annotations

from collections.abc import Collection

from cattune.annotation.assistant.endpoint.error_body import Refusal
from cattune.annotation.assistant.endpoint.refusals import Meaning, is_no_endpoint, meaning, named

REFUSED_AT_THE_START, REFUSED_LATER = 10, 100
"""So many requests refused, and none answered, end the run; the second where earlier runs got answers, so that what is
left to ask may be just the texts that are refused."""

CHANGE = "change --parameters (or --max-output-tokens, where that is the limit)"


def ending(refusal: Refusal, answered: bool, model: str, key_variable: str, has_key: bool) -> str | None:
    """What a refusal that holds for every request says about the assistant; None where it may hold for one alone."""
    status, said = refusal.status, refusal.message
    about = meaning(refusal, answered)
    if status == 407:
        return f"is behind a proxy that wants a name and a password in its address (status {status}: {said})"
    if about is Meaning.MONEY:
        return f"says that the account has no credit or quota left ({said}); what was answered is stored"
    if about is Meaning.KEY and not has_key:
        return f"wants a key, and the environment variable {key_variable} is not set (status {status}: {said})"
    if about is Meaning.KEY:
        return f"does not accept the key in the environment variable {key_variable} (status {status}: {said})"
    if about is Meaning.MODEL:
        return f"has no model {model!r} (status {status}: {said})"
    return None


def ending_at_the_start(
    refusal: Refusal, count: int, most: int, parameters: Collection[str], model: str, key_variable: str
) -> str | None:
    """The same for a refusal that is not clear, before anything was answered.

    Args:
        refusal: of a request, in every way in which it was sent.
        count: how many requests were refused so far, with this one.
        most: so many end the run.
        parameters: those that the user set.
        model: its name.
        key_variable: where the key is.
    """
    status, said = refusal.status, refusal.message
    if is_no_endpoint(refusal):
        nothing = f"is no chat endpoint: there is nothing at this address (status {status}: {said})"
        return f"{nothing}; most addresses end in /v1"
    if status in (400, 422) and (blamed := named(refusal, parameters)):
        return f"refuses the parameter {blamed[0]!r} ({said}); {CHANGE}"
    if count < most:
        return None
    questions = {
        403: f"; may the key in {key_variable} use the model {model!r}?",
        404: f"; is there a model {model!r}, and a chat endpoint at this address?",
    }
    for_all = f"has refused each of the first {count} requests (status {status}: {said})"
    return for_all + questions.get(status, "")
