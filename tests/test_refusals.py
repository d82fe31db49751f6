"""What refusals mean: bodies in the forms that providers, gateways and local servers give, in words of our own."""

from __future__ import annotations

from typing import Any

import pytest

from cattune.annotation.assistant.endpoint.blotting import without_secret
from cattune.annotation.assistant.endpoint.endings import ending
from cattune.annotation.assistant.endpoint.error_body import parsed, read_refusal
from cattune.annotation.assistant.endpoint.refusals import (
    Meaning,
    is_no_endpoint,
    is_out_of_money,
    meaning,
    named,
    refuses_format,
)

KEY = "sk-test-0123456789abcdef"

WAIT, KEY_, MONEY, MODEL = Meaning.WAIT, Meaning.KEY, Meaning.MONEY, Meaning.MODEL
DECLINED, TOO_LONG, OTHER = Meaning.DECLINED, Meaning.TOO_LONG, Meaning.OTHER


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


CASES: list[tuple[str, int, Any, Meaning]] = [
    # later
    ("OpenAI, a minute", 429, error("Rate limit reached", type="requests", code="rate_limit_exceeded"), WAIT),
    ("a link to billing", 429, error("Limit reached, see /settings/billing", code="rate_limit_exceeded"), WAIT),
    ("tokens a minute", 429, error("Limit 6000, used 5000. Upgrade at /billing", type="tokens"), WAIT),
    (
        "Gemini, in a list",
        429,
        [error("You exceeded your current quota, check your plan and billing details", status="RESOURCE_EXHAUSTED")],
        WAIT,
    ),
    ("Gemini through a proxy", 429, error("Quota exceeded, billing. Please retry in 2s.", code=429), WAIT),
    ("Gemini, JSON in the message", 429, error('{"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}'), WAIT),
    ("Azure", 429, error("Requests have exceeded the call rate limit; retry after 6 seconds", code="429"), WAIT),
    ("Mistral", 429, {"message": "Requests rate limit exceeded"}, WAIT),
    (
        "Anthropic, overloaded",
        529,
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        WAIT,
    ),
    ("Bedrock, with 400", 400, {"__type": "ThrottlingException", "message": "Too many requests"}, WAIT),
    ("503 that speaks of billing", 503, error("Overloaded. You will not be billed; see the billing FAQ"), WAIT),
    ("502 in HTML", 502, "<html><body>Bad Gateway</body></html>", WAIT),
    ("a flex tier", 498, error("Capacity exceeded"), WAIT),
    ("nothing at all", 429, None, WAIT),
    # no money
    ("Anthropic, a limit of one's own", 400, error("You have reached your specified API usage limits."), MONEY),
    ("a minute's usage limit", 429, error("You have reached the usage limits of this tier"), WAIT),
    ("Fireworks", 412, error("Account x is suspended, possibly due to the monthly spending limit"), MONEY),
    ("Gemini, a leak", 403, [error("Your API key was reported as leaked. Please use another API key.")], KEY_),
    ("Gemini, no key", 400, [error("Please pass a valid API key", status="INVALID_ARGUMENT")], KEY_),
    ("Groq, an account", 400, error("Organization has been restricted.", code="organization_restricted"), KEY_),
    ("LiteLLM, a key", 400, error("Invalid proxy server token passed", type="token_not_found_in_db"), KEY_),
    ("LiteLLM, a model", 400, error("{'error': '/chat/completions: Invalid model name passed in model=m.'}"), MODEL),
    (
        "OpenAI",
        429,
        error("You exceeded your current quota", type="insufficient_quota", code="insufficient_quota"),
        MONEY,
    ),
    ("OpenAI, a hard limit", 429, error("The limit is reached", code="billing_hard_limit_reached"), MONEY),
    ("OpenAI, not active", 429, error("Your account is not active", code="billing_not_active"), MONEY),
    ("DeepSeek", 402, error("Insufficient Balance"), MONEY),
    ("OpenRouter", 402, error("This request requires more credits, or fewer max_tokens", code=402), MONEY),
    (
        "Anthropic",
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"},
        },
        MONEY,
    ),
    ("Anthropic, now", 403, {"error": {"type": "billing_error", "message": "x"}}, MONEY),
    ("Moonshot", 429, error("Your account is suspended", type="exceeded_current_quota_error"), MONEY),
    (
        "xAI",
        429,
        {"code": "Some resource has been exhausted", "error": "Your team has used all available credits"},
        MONEY,
    ),
    ("xAI, a new team", 403, {"code": "no permission", "error": "Your team doesn't have any credits yet"}, MONEY),
    ("SiliconFlow", 403, {"code": 30001, "message": "Sorry, your account balance is insufficient"}, MONEY),
    ("Perplexity, with 401", 401, error("x", type="insufficient_quota", code=401), MONEY),
    ("DashScope", 400, {"code": "Arrearage", "message": "Access denied"}, MONEY),
    ("Volcano Ark", 403, error("x", code="AccountOverdueError"), MONEY),
    ("one-api", 403, error("x", type="new_api_error", code="insufficient_user_quota"), MONEY),
    ("LiteLLM's budget", 400, error("Budget has been exceeded", type="budget_exceeded", code="400"), MONEY),
    ("LiteLLM quotes OpenAI", 429, error("litellm.RateLimitError: {'error': {'code': 'insufficient_quota'}}"), MONEY),
    ("LiteLLM quotes JSON", 429, error('litellm.RateLimitError: {"error": {"code": "insufficient_quota"}}'), MONEY),
    ("Gemini, prepaid", 429, [error("Your prepayment credits are depleted.", status="RESOURCE_EXHAUSTED")], MONEY),
    # the key
    ("OpenAI", 401, error("Incorrect API key provided", code="invalid_api_key"), KEY_),
    ("nothing but the status", 401, "", KEY_),
    (
        "Gemini, with 400",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"reason": "API_KEY_INVALID"}],
                }
            }
        ],
        KEY_,
    ),
    ("an account that is closed", 403, error("x", code="account_deactivated"), KEY_),
    # the model
    (
        "OpenAI",
        404,
        error("The model `m` does not exist or you do not have access to it", code="model_not_found"),
        MODEL,
    ),
    ("Azure", 404, error("The API deployment does not exist", code="DeploymentNotFound"), MODEL),
    (
        "vLLM",
        404,
        {"object": "error", "message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404},
        MODEL,
    ),
    ("Mistral", 400, {"message": "Invalid model: m", "type": "invalid_model", "code": "1500"}, MODEL),
    ("DeepSeek", 400, error("Model Not Exist", code="invalid_request_error"), MODEL),
    ("OpenRouter", 400, error("m is not a valid model ID", code=400), MODEL),
    ("Ollama", 404, error('model "m" not found, try pulling it first', type="api_error"), MODEL),
    ("Gemini", 404, [error("models/m-1.5 is not found for API version v1", status="NOT_FOUND")], MODEL),
    ("Anthropic", 404, {"error": {"type": "not_found_error", "message": "model: m"}}, MODEL),
    ("Together", 404, error("Unable to access model m", code="model_not_available"), MODEL),
    ("Fireworks", 404, error("Model not found, inaccessible, and/or not deployed", code="NOT_FOUND"), MODEL),
    # this text
    (
        "OpenRouter's moderation",
        403,
        error("m requires moderation. Your input was flagged", code=403, metadata={"flagged_input": "Mia"}),
        DECLINED,
    ),
    (
        "Azure",
        400,
        error("x", code="content_filter", param="prompt", innererror={"code": "ResponsibleAIPolicyViolation"}),
        DECLINED,
    ),
    ("Azure through LiteLLM", 400, error("litellm.ContentPolicyViolationError: the prompt was filtered"), DECLINED),
    (
        "OpenAI, reasoning",
        400,
        error("Your prompt was flagged as against the usage policy", code="invalid_prompt"),
        DECLINED,
    ),
    ("xAI", 403, {"code": "no permission", "error": "Content violates usage guidelines"}, DECLINED),
    ("DeepSeek", 400, error("Content Exists Risk", code="content_policy_violation"), DECLINED),
    ("DashScope", 400, error("Input data may be unsafe", code="data_inspection_failed"), DECLINED),
    ("a gateway's guardrail", 400, error("Request blocked by a guardrail"), DECLINED),
    ("for legal reasons", 451, "", DECLINED),
    ("OpenAI", 400, error("Reduce the length", param="messages", code="context_length_exceeded"), TOO_LONG),
    ("llama.cpp", 400, error("x", code=400, type="exceed_context_size_error", n_ctx=4096), TOO_LONG),
    ("llama.cpp, with 500", 500, error("Context size has been exceeded.", code=500, type="server_error"), TOO_LONG),
    ("vLLM", 400, error("This model's maximum context length is 4096 tokens. However, you requested 5000"), TOO_LONG),
    (
        "vLLM, the decoder",
        400,
        error("The decoder prompt (length 5) is longer than the maximum model length of 4"),
        TOO_LONG,
    ),
    (
        "SGLang",
        400,
        {"message": "Requested token count exceeds the model's maximum context length of 40 tokens"},
        TOO_LONG,
    ),
    ("TGI", 422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000"}, TOO_LONG),
    (
        "TGI, both",
        422,
        {"error": "`inputs` tokens + `max_new_tokens` must be <= 4097", "error_type": "validation"},
        TOO_LONG,
    ),
    ("Mistral", 400, {"message": "Prompt contains 40000 tokens, too large for model with 32768"}, TOO_LONG),
    (
        "Anthropic",
        400,
        error("prompt is too long: 210000 tokens > 200000 maximum", type="invalid_request_error"),
        TOO_LONG,
    ),
    ("Gemini", 400, [error("The input token count (9) exceeds the maximum number of tokens allowed (8)")], TOO_LONG),
    ("LM Studio", 400, {"error": "Trying to keep the first 5000 tokens when context the overflows"}, TOO_LONG),
    (
        "xAI",
        400,
        {"error": "This model's maximum prompt length is 131072 but the request contains 200000 tokens."},
        TOO_LONG,
    ),
    (
        "Groq, too large for the tier",
        413,
        error("Request too large. See /settings/billing", code="rate_limit_exceeded"),
        TOO_LONG,
    ),
    (
        "OpenAI, too large for the tier",
        429,
        error("Request too large for m: Limit 10, Requested 20", type="tokens"),
        TOO_LONG,
    ),
    ("nginx", 413, "<html>413 Request Entity Too Large</html>", TOO_LONG),
    (
        "LM Studio",
        400,
        {"error": "The number of tokens to keep from the initial prompt is greater than the context length."},
        TOO_LONG,
    ),
    # not clear
    ("a text that is quoted", 400, error("Invalid prompt: 'The billing office has insufficient funds'"), OTHER),
    ("another", 400, error('Cannot parse "Our model does not exist; no API key, no credits"'), OTHER),
    ("forbidden", 403, error("Forbidden"), OTHER),
    ("no permission", 403, [error("The caller does not have permission", status="PERMISSION_DENIED")], OTHER),
    (
        "OpenRouter's routing",
        404,
        error("No endpoints found that can handle the requested parameters.", code=404),
        OTHER,
    ),
    ("a form", 400, error("This model does not support response format `json_schema`"), OTHER),
    ("a form, with a model's code", 400, error("m does not support json_schema", code="model_not_supported"), OTHER),
    ("a form, of a length", 400, error("Invalid schema for response_format: too many tokens in enum"), OTHER),
    ("FastAPI", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}, OTHER),
]


@pytest.mark.parametrize(
    ("status", "body", "expected"), [pytest.param(*rest, id=f"{rest[2].name}: {n}") for n, *rest in CASES]
)
def test_what_a_refusal_means(status: int, body: Any, expected: Meaning) -> None:
    refusal = read_refusal(status, body, KEY)
    assert meaning(refusal) is expected
    assert is_out_of_money(refusal) == (expected is MONEY)


def test_words_alone_end_no_run_that_has_answers() -> None:
    for message in ("The model m does not exist", "API key not valid"):
        refusal = read_refusal(400, error(message), KEY)
        assert meaning(refusal) in (MODEL, KEY_)
        assert meaning(refusal, answered=True) is OTHER


ECHOED = (
    'Annotate this example:\n\n{"prompt": "Our model does not exist; no API key, insufficient credits, no moderation."}'
)


@pytest.mark.parametrize(
    "said",
    [
        "Our model does not exist",
        "no API key, insufficient credits",
        "Cannot read insufficient credits, no moderation here",
    ],
)
def test_words_that_were_sent_are_not_the_servers(said: str) -> None:
    assert meaning(read_refusal(400, error(f"Cannot process: {said}."), KEY)) is not OTHER
    assert meaning(read_refusal(400, error(f"Cannot process: {said}."), KEY, sent=ECHOED)) is OTHER
    assert meaning(read_refusal(404, error("The model m-2 does not exist"), KEY, sent=ECHOED)) is MODEL


def test_no_credit_for_a_while() -> None:
    assert meaning(read_refusal(402, error("x"), KEY, wait_s=30.0)) is WAIT


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (error("bad"), "bad"),
        ([error("bad")], "bad"),
        ({"error": "bad"}, "bad"),
        ({"message": "bad", "type": "x"}, "bad"),
        ({"errors": [{"code": 5, "message": "bad"}], "success": False}, "bad"),
        ({"detail": "bad"}, "bad"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "bad"}]}, "seed: bad"),
        (
            {"message": {"detail": [{"loc": ["body", "response_format", "type"], "msg": "bad"}]}},
            "response_format.type: bad",
        ),
        (
            error("Provider returned error", metadata={"raw": '{"error": {"message": "bad"}}'}),
            "Provider returned error; bad",
        ),
        (error("Provider returned error", metadata={"raw": "bad"}), "Provider returned error; bad"),
        (error('{"error": {"message": "bad"}}'), "bad"),
        (error("{'error': 'it\\'s \\d bad'}"), "it's \\d bad"),
        (error("[1, bad"), "[1, bad"),
        (error("{{}: []}"), "{{}: []}"),
        ("bad", "bad"),
        ("<html><head><title>403 Forbidden</title></head><body>nginx</body></html>", "a web page: 403 Forbidden"),
        ("<!doctype html><style>a</style><p>Sign <b>in</b>", "a web page: a Sign in"),
        ({"foo": 1}, '{"foo": 1}'),
    ],
)
def test_where_the_message_is(body: Any, message: str) -> None:
    assert read_refusal(400, body, KEY).message == message


def test_an_empty_body_is_told_by_its_status() -> None:
    assert read_refusal(407, "", KEY).message == "Proxy Authentication Required"
    assert read_refusal(418, {}, KEY).message == "{}"
    assert read_refusal(555, "", KEY).message == ""


def test_a_proxy_that_wants_a_password() -> None:
    said = ending(read_refusal(407, "", KEY), False, "m", "KEY", True)
    assert said is not None and "a proxy that wants a name and a password" in said


def test_the_wait_that_a_body_asks_for() -> None:
    details = [{"@type": "x/QuotaFailure"}, {"@type": "x/RetryInfo", "retryDelay": "21.5s"}]
    body = [error("x", status="RESOURCE_EXHAUSTED", details=details)]
    assert read_refusal(429, body, KEY).wait_s == 21.5
    assert read_refusal(429, body, KEY, wait_s=3.0).wait_s == 3.0


@pytest.mark.parametrize("status", [400, 404, 415, 422, 501])
def test_any_words_may_be_about_the_form(status: int) -> None:
    assert refuses_format(read_refusal(status, error("no"), KEY))


def test_what_is_not_about_the_form() -> None:
    for status, message in [
        (500, "out of memory"),
        (403, "no"),
        (429, "json_schema"),
        (400, "your prompt was flagged"),
    ]:
        assert not refuses_format(read_refusal(status, error(message), KEY))
    for status in (403, 500, 503):
        assert refuses_format(read_refusal(status, error("Failed to parse grammar"), KEY))


@pytest.mark.parametrize(
    ("message", "more", "expected"),
    [
        ("'temperature' does not support 0 with this model", {}, ["temperature"]),
        ("x", {"param": "temperature"}, ["temperature"]),
        ("gpt-5 models don't support temperature=0.0", {}, ["temperature"]),
        ("m does not support parameter presencePenalty", {}, ["presence_penalty"]),
        ("does not support parameters: ['seed']", {}, ["seed"]),
        ("does not support parameters: {'temperature': 0}", {}, ["temperature"]),
        ("property 'seed' is unsupported", {}, ["seed"]),
        ("Use 'max_completion_tokens' instead", {}, ["max_tokens"]),
        ("maxOutputTokens: out of range", {}, ["max_tokens"]),
        ("the temperature of seeds that stop is not a number", {}, []),
        ("min_max_tokens_x", {}, []),
    ],
)
def test_parameters_that_are_named(message: str, more: dict[str, Any], expected: list[str]) -> None:
    names = ("temperature", "presence_penalty", "seed", "stop", "max_tokens")
    assert named(read_refusal(400, error(message, **more), KEY), names) == expected


@pytest.mark.parametrize("body", ["{}", "", "404 page not found", '{"detail": "Not Found"}', "<html>nginx</html>"])
def test_an_address_where_there_is_nothing(body: str) -> None:
    assert is_no_endpoint(read_refusal(404, parsed(body), KEY))


def test_an_endpoint_that_says_why() -> None:
    assert not is_no_endpoint(read_refusal(404, error("No endpoints found for your policy"), KEY))
    assert not is_no_endpoint(read_refusal(400, "", KEY))


ESCAPES = [
    KEY,
    "".join(f"\\u{ord(c):04x}" for c in KEY),
    "".join(f"\\u{ord(c):04X}" for c in KEY),
    "".join(f"\\\\u{ord(c):04x}" for c in KEY),
    "sk\\u002dtest" + KEY[7:],
    "".join(f"\\x{ord(c):02x}" for c in KEY),
    "sk%2dtest%2D" + KEY[8:],
]


@pytest.mark.parametrize("written", ESCAPES)
def test_the_key_is_blotted_out_however_it_is_written(written: str) -> None:
    assert without_secret(f"<{written}>", KEY) == "<***>"


def test_the_key_is_blotted_out_before_a_message_is_cut() -> None:
    for before in range(470, 500):
        said = read_refusal(400, error("x" * before + " " + KEY), KEY).message
        assert not any(KEY[:length] in said for length in range(4, len(KEY)))


@pytest.mark.parametrize(
    "shown", ["sk-te*****cdef", "sk-test...cdef", "***********cdef", "sk-test-01…", "…bcdef", "sk-xxxxxxxcdef"]
)
def test_a_part_of_the_key_is_blotted_out(shown: str) -> None:
    said = read_refusal(401, error(f"Incorrect API key provided: {shown}."), KEY).message
    assert said == "Incorrect API key provided: ***."
    for said in ("Wait... the abcdef", "Ask... again"):
        assert read_refusal(401, error(said), KEY).message == said


@pytest.mark.parametrize("key", ["", "none", "test", "EMPTY"])
def test_a_word_that_texts_have_is_no_key(key: str) -> None:
    assert without_secret(f"a {key} b", key) == f"a {key} b"


def test_a_body_of_backslashes_is_searched_quickly() -> None:
    assert len(without_secret("\\" * 2_000_000, KEY)) == 2_000_000
