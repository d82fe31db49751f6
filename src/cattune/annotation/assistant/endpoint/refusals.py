"""What it means when a chat endpoint refuses. Pure: nothing is sent here.

Providers agree on little more than the status. What it says is taken in this order: a code or type in the body (the
most exact), the status, and words of the message only where a provider has nothing else. Words in quotes, and words
that were sent, do not count: they may be those of the text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import Enum

from cattune.annotation.assistant.endpoint.error_body import WEB_PAGE, Refusal, plain

RETRIED = frozenset({408, 409, 425, 429, 498})
"""Statuses, beside 5xx, after which the same request may succeed."""

_FOR_ALL = frozenset({400, 403, 407, 412})
"""Statuses with which a server says in words that a key or an account is not let through."""

OTHER_WAY = frozenset({400, 404, 415, 422, 501})
"""Statuses with which a form or a parameter is refused."""

OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens")
"""Parameters that limit a reply's tokens: OpenAI's newer models take the first alone, many servers the second alone."""


class Meaning(Enum):
    """What a refusal is about."""

    WAIT = "later"
    """The same request may succeed later."""
    KEY = "key"
    """No request with this key is answered."""
    MONEY = "money"
    """The account has no credit or quota left."""
    MODEL = "model"
    """There is no such model."""
    DECLINED = "flagged"
    """A filter or a moderation does not let this text through."""
    TOO_LONG = "prompt too long"
    """This text does not fit into the model's context, or into what may be sent at once."""
    OTHER = "other"
    """This request is refused; it is not clear whether others are."""


_MONEY = re.compile(
    r"insufficient\w*?(quota|balance|credit|fund)|billing|budgetexceeded|exceededbudget|exceededcurrentquota"
    r"|accountoverdue|arrearage|paymentrequired|creditlimit|creditsexhausted|outofcredits|nocredit"
)
_KEY = re.compile(
    r"(invalid|incorrect|expired|revoked|missing|no)apikey|apikey(invalid|expired|serviceblocked)"
    r"|authentication|invalidauth|unauthenticated|unauthorized|accountdeactivated|accountsuspended|accountdisabled"
    r"|unsupportedcountry|servicedisabled|organizationrestricted|autherror|(key|token)notfound|expiredkey"
)
_MODEL = re.compile(r"modelnot|nosuchmodel|invalidmodel|unknownmodel|modeldecommissioned|deploymentnotfound")
_DECLINED = re.compile(
    r"contentfilter|contentpolicy|responsibleai|moderation|flagged|safety|prohibitedcontent|guardrail|datainspection"
    r"|sensitivecontent|censor|contentviolation|policyviolation|invalidprompt|cyberpolicy"
)
_TOO_LONG = re.compile(
    r"context(length|window|size)|exceedcontext|(request|payload|entity|prompt|input|string)(is)?too(large|long)"
    r"|tokenlimitexceeded|stringabovemaxlength|maxlengthexceeded"
)
_RATE = re.compile(r"ratelimit|throttl|toomanyrequests|overloaded|^requests$|^tokens$")
_EXHAUSTED = re.compile(r"resourceexhausted")
"""Google's, for a minute, a day, and for good."""

_MONEY_WORDS = re.compile(
    r"credit balance is too low|insufficient[ _](\w+[ _])?(balance|credits?|funds|quota)"
    r"|balance (is )?(insufficient|too low)"
    r"|\b(no|out of|any|purchase more|all available) credits\b|credits? (are |is |limit )?(depleted|exhausted|exceeded)"
    r"|hard limit has been reached|余额不足|额度不足|欠费",
    re.IGNORECASE,
)
_KEY_WORDS = re.compile(
    r"\b(invalid|incorrect|missing|no|valid|another) api[ -]?key"
    r"|api[ -]?key[^.]{0,30} (not valid|invalid|incorrect|expired|missing|leaked|revoked|disabled|blocked)"
    r"|(authentication|authorization) (error|failed)|invalid (access|auth|bearer|proxy server) token"
    r"|(account|organization|project|team)( \S+)? (is|has been|was) "
    r"(suspended|restricted|deactivated|disabled|blocked)",
    re.IGNORECASE,
)
_LIMIT_WORDS = re.compile(r"\b(usage|spend(ing)?) limits?\b", re.IGNORECASE)
_MODEL_WORDS = re.compile(
    r"\bmodels?\b.{0,80}?\b(not (exist|found|available)|doesn't exist|not a valid|is invalid)|^model: "
    r"|\b(invalid|unknown|no such|unable to access) model\b|not a valid model",
    re.IGNORECASE,
)
_DECLINED_WORDS = re.compile(
    r"\bflagged\b|moderation|content[ _](management |usage )?(policy|policies|filter)"
    r"|usage (policy|policies|guidelines)|safety (system|filter|check|polic)|responsible ai|guardrail"
    r"|considered high risk|inappropriate content",
    re.IGNORECASE,
)
_TOO_LONG_WORDS = re.compile(
    r"(context|prompt|model|sequence|input)[ _-](length|size|window)[^.]{0,60}(exceed|only|but|however|is \d|of \d|<)"
    r"|exceed\w*[^.]{0,60}\b(context|tokens?\b|token limit)"
    r"|maximum (context|prompt|model|input|sequence)[ _](length|size)"
    r"|(prompt|input|request|message|text)s?( is| are)? too (long|large)"
    r"|too many (input )?tokens|token count[^.]*exceed|reduce (the|your) (length|number of tokens)"
    r"|tokens?, too large for|(longer|larger|greater|bigger|more) than [^.]{0,20}(model|max|context)"
    r"|must have less than \d+ tokens|context the overflows|requested tokens[^.]*exceed|tokens \+ \S+ must be"
    r"|(context size|context window)[^.]{0,40}exceeded",
    re.IGNORECASE,
)
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
"""With 429: more than may be sent in a minute at all."""
_FORM_WORDS = re.compile(
    r"response[_ .-]?(format|schema|mime)|json[_ -]?(schema|object|mode|validat)|structured[_ -]?output|guided"
    r"|grammar|output_config|validate json|xgrammar|outlines|additionalproperties|invalid format|\bschema\b",
    re.IGNORECASE,
)
_NOT_HERE = frozenset(
    ("404", "405", "detail", "error", "not", "found", "method", "allowed")
    + ("page", "path", "the", "requested", "url", "resource", "was", "no", "route")
)
"""Words in which web servers say that there is nothing; a chat endpoint says more."""
_SOON = re.compile(r"(try again|retry|wait)[^.]{0,20}\b(in|after|for)\b[^.]{0,12}\d|per (minute|day|hour|second)", re.I)


ADVICE: dict[str, str] = {
    Meaning.DECLINED.value: "ask a model without that filter, or leave these examples out",
    Meaning.TOO_LONG.value: "give the model a longer context, or the prior fewer examples; leave longer texts out",
}
"""For each reason why a text gets no answer, what a person can do about it."""


def meaning(refusal: Refusal, answered: bool = False) -> Meaning:
    """What a refusal is about.

    Args:
        refusal: what the server said.
        answered: whether it has answered other requests; its words alone then end nothing.
    """
    status, codes, said = refusal.status, refusal.codes, refusal.words

    def has(pattern: re.Pattern[str]) -> bool:
        return any(pattern.search(code) for code in codes)

    if status >= 500 and status != 501 and not has(_MONEY):
        return Meaning.TOO_LONG if has(_TOO_LONG) or _TOO_LONG_WORDS.search(said) else Meaning.WAIT
    if status == 402:
        return Meaning.MONEY if refusal.wait_s is None else Meaning.WAIT
    if has(_MONEY):
        return Meaning.MONEY
    if status == 401:
        return Meaning.KEY
    if status == 429 and _TOO_LARGE.search(said):
        return Meaning.TOO_LONG
    if status in RETRIED:
        words = status == 429 and refusal.wait_s is None and not has(_RATE) and not _SOON.search(said)
        return Meaning.MONEY if words and _MONEY_WORDS.search(said) else Meaning.WAIT
    if status == 413 or has(_TOO_LONG):
        return Meaning.TOO_LONG
    if status == 451 or has(_DECLINED):
        return Meaning.DECLINED
    if has(_KEY):
        return Meaning.KEY
    if has(_MODEL) and not names_form(refusal):
        return Meaning.MODEL
    if has(_RATE) or has(_EXHAUSTED):
        return Meaning.WAIT
    if _DECLINED_WORDS.search(said):
        return Meaning.DECLINED
    if _TOO_LONG_WORDS.search(said) and not names_form(refusal):
        return Meaning.TOO_LONG
    if status in _FOR_ALL and _MONEY_WORDS.search(said):
        return Meaning.MONEY
    if not answered and status in _FOR_ALL and _LIMIT_WORDS.search(said):
        return Meaning.MONEY
    if not answered and status in _FOR_ALL and _KEY_WORDS.search(said):
        return Meaning.KEY
    if not answered and status in (400, 404, 422) and _MODEL_WORDS.search(said) and not _FORM_WORDS.search(said):
        return Meaning.MODEL
    return Meaning.OTHER


def is_out_of_money(refusal: Refusal) -> bool:
    """Whether waiting does not help: the account has no credit or quota left."""
    return meaning(refusal) is Meaning.MONEY


def is_retried(refusal: Refusal) -> bool:
    """Whether the same request may succeed later."""
    return meaning(refusal) is Meaning.WAIT


def names_form(refusal: Refusal) -> bool:
    """Whether the server says that it is the form of the reply which it does not take."""
    return bool(_FORM_WORDS.search(f"{refusal.parameter} {' '.join(refusal.codes)} {refusal.message}"))


def refuses_format(refusal: Refusal) -> bool:
    """Whether the form of the reply may be to blame, so that the request is worth a try without it."""
    if meaning(refusal) not in (Meaning.OTHER, Meaning.WAIT):
        return False
    return refusal.status in OTHER_WAY or (refusal.status not in RETRIED and names_form(refusal))


def is_no_endpoint(refusal: Refusal) -> bool:
    """Whether nothing but a web server has answered: there is no chat endpoint at this address."""
    said = refusal.message.lower()
    if refusal.status not in (404, 405) or refusal.codes:
        return False
    return said.startswith(WEB_PAGE) or _NOT_HERE.issuperset(re.findall(r"\w+", said))


def named(refusal: Refusal, names: Collection[str], loosely: bool = False) -> list[str]:
    """Which of these parameters the server says are to blame.

    Args:
        refusal: what it said.
        names: of the parameters that were sent.
        loosely: whether a name counts that stands in the message as an ordinary word.
    """
    parts = {plain(part) for part in re.split(r"[.\[\]/ ]", refusal.parameter)}
    return [name for name in names if plain(name) in parts or _is_named(name, refusal.message, loosely)]


def _is_named(name: str, message: str, loosely: bool) -> bool:
    kinds = (*OUTPUT_LIMITS, "max_output_tokens") if name in OUTPUT_LIMITS else (name,)
    for kind in kinds:
        word = r"(?<![a-z0-9_])" + "_?".join(map(re.escape, kind.split("_"))) + r"(?![a-z0-9_])"
        exact = rf"['\"`\[{{(, ]{word}['\"`\]}})]|{word}\s*[=:]|(parameter|argument|field|property)s?:? +{word}"
        plain = loosely or "_" in kind
        if re.search(word if plain else exact, f" {message}", re.IGNORECASE):
            return True
    return False
