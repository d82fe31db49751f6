"""The client against a server with faults: what is tried again, what ends a run, how long is waited."""

from __future__ import annotations

import asyncio
import json
import socketserver
import threading
import time
from collections import Counter
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from assistant_server import completion, read_log, running, write_replies
from hypothesis import given
from hypothesis import strategies as st

from cattune.annotation.assistant.endpoint import address as endpoint
from cattune.annotation.assistant.endpoint import chat_protocol, client
from cattune.annotation.assistant.endpoint.chat_protocol import (
    BadPayload,
    ChatReply,
    Refusal,
    parsed,
    read_chat_reply,
    read_refusal,
    retry_after,
)
from cattune.annotation.assistant.endpoint.client import Assistant
from cattune.annotation.assistant.endpoint.endings import REFUSED_AT_THE_START
from cattune.annotation.assistant.endpoint.forms import Walk, Way, other_way
from cattune.annotation.assistant.endpoint.limits import Halted, Limits, Rate, estimate_tokens
from cattune.annotation.assistant.endpoint.refusals import Meaning, meaning
from cattune.annotation.assistant.endpoint.unanswered import NoAnswer, Unanswered
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.prompt import build_messages, example_tag
from cattune.annotation.assistant.reply import read_reply
from cattune.annotation.assistant.reply_form import response_format
from cattune.errors import ConfigError
from cattune.tasks.stg import load_game, make_split

EXAMPLES = make_split(load_game("cancer_risk"), "train", 30, seed=0)
MESSAGES = [build_messages(load_prior("tabular_risk"), example) for example in EXAMPLES]
RESPONSE_FORMAT = response_format(load_prior("tabular_risk"))
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv(endpoint.KEY_VARIABLE, KEY)


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replies(tmp_path_factory.mktemp("replies") / "replies.jsonl", EXAMPLES)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def ask_all(url: str, told: list[str] | None = None, **settings: Any) -> tuple[list[Any], Counter[str]]:
    """Each example's answer, or the error in its place, and what was sent."""

    async def run() -> tuple[list[Any], Counter[str]]:
        tell = (told if told is not None else []).append
        assistant = Assistant("m", RESPONSE_FORMAT, base_url=url, tell=tell, **settings)
        try:
            asked = (assistant.ask(messages) for messages in MESSAGES)
            return await asyncio.gather(*asked, return_exceptions=True), assistant.sent
        finally:
            await assistant.close()

    return asyncio.run(run())


def ask_one(url: str, tokens: float = 0.0, **settings: Any) -> ChatReply:
    async def run() -> ChatReply:
        assistant = Assistant("m", RESPONSE_FORMAT, base_url=url, **settings)
        try:
            return await assistant.ask(MESSAGES[0], tokens)
        finally:
            await assistant.close()

    return asyncio.run(run())


def test_answers_are_those_of_the_server(replies: Path) -> None:
    with running(replies) as url:
        answers, sent = ask_all(url)
    for example, answer in zip(EXAMPLES, answers, strict=True):
        assert read_reply(answer.text, example_tag(example))
        assert answer.finish_reason == "stop"
        assert answer.prompt_tokens > answer.completion_tokens > 10
    assert sent == {"requests": len(EXAMPLES)}


@pytest.mark.parametrize(
    "fault", ["429", "429_silent", "500", "503", "408", "drop_before", "drop_after", "drop_half", "no_json"]
)
def test_every_fault_of_the_wire_is_got_over(replies: Path, log: Path, fault: str) -> None:
    with running(replies, "--faults", 0.5, "--only", fault, log=log) as url:
        answers, sent = ask_all(url, max_retries=10)
    for example, answer in zip(EXAMPLES, answers, strict=True):
        assert read_reply(answer.text, example_tag(example))
    events = Counter((event["event"], event["fault"]) for event in read_log(log))
    assert events["request", fault] == sent["requests"] - len(EXAMPLES) > 5
    assert events["answer", None] == len(EXAMPLES)


def test_a_stalled_connection_is_given_up_after_the_timeout(replies: Path) -> None:
    started = time.monotonic()
    with running(replies, "--faults", 0.25, "--only", "stall") as url:
        answers, sent = ask_all(url, timeout_s=0.2, max_retries=10)
    assert all(isinstance(answer, ChatReply) for answer in answers)
    assert sent["time-out"] > 3
    assert time.monotonic() - started < 20


def test_all_wait_when_the_server_asks_one_to(replies: Path, log: Path) -> None:
    with running(replies, "--faults", 0.1, "--only", "429", "--retry-after", 1, log=log) as url:
        ask_all(url, limits=Limits(concurrency=2))
    events = read_log(log)
    asked_to_wait = [event["at"] for event in events if event["fault"] == "429"]
    assert asked_to_wait
    first = asked_to_wait[0]
    # Requests that were under way at that moment may still come in; after that nobody sends for a second.
    assert not [e for e in events if e["event"] == "request" and first + 0.4 < e["at"] < first + 0.9]
    assert [e for e in events if e["event"] == "request" and e["at"] >= first + 0.9]


def test_requests_that_are_never_answered_are_given_up(replies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TRIES_AT_THE_START", 100)
    with running(replies, "--refuse", 503) as url, pytest.raises(Unanswered) as caught:
        ask_one(url, max_retries=2)
    assert caught.value.reason == "status 503"


@pytest.mark.parametrize("answered", [False, True])
def test_a_server_that_gives_up_ends_the_run(replies: Path, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    monkeypatch.setattr(client, "TRIES_AT_THE_START", 100)
    made = Assistant.__init__

    def after_an_answer(self: Assistant, *args: Any, **settings: Any) -> None:
        made(self, *args, **settings)
        self._answered = answered

    monkeypatch.setattr(Assistant, "__init__", after_an_answer)
    with running(replies, "--refuse", 503) as url:
        answers, _ = ask_all(url, max_retries=1, limits=Limits(concurrency=5))
    assert sum(isinstance(answer, Unanswered) for answer in answers) == 2
    assert sum(isinstance(answer, NoAnswer) for answer in answers) == len(EXAMPLES) - 2
    said = "has stopped answering" if answered else "does not answer"
    assert any(said in str(answer) and "3 requests in a row" in str(answer) for answer in answers)


@pytest.mark.parametrize("is_there", [False, True])
def test_texts_in_a_row_that_break_their_connections(
    replies: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """Where the server says that it is there, only as many as may be under way at once end the run."""

    async def asked(self: Assistant) -> bool:
        return is_there

    monkeypatch.setattr(client, "TRIES_AT_THE_START", 100)
    monkeypatch.setattr(Assistant, "is_there", asked)
    with running(replies, "--faults", 1, "--only", "drop_before") as url:
        answers, _ = ask_all(url, max_retries=0, limits=Limits(concurrency=5))
    ends = [type(answer) for answer in answers]
    assert ends.index(NoAnswer) == (4 if is_there else 2)


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (["--refuse", 500], "its log may say why"),
        (["--refuse", 503], "--requests-per-minute"),
        (["--faults", 1, "--only", "no_json"], "the address of a chat endpoint"),
    ],
)
def test_what_to_do_about_a_server_that_answers_nobody(
    replies: Path, monkeypatch: pytest.MonkeyPatch, fault: list[Any], asked: str
) -> None:
    monkeypatch.setattr(client, "TRIES_AT_THE_START", 2)
    with running(replies, *fault) as url, pytest.raises(NoAnswer, match=asked) as caught:
        ask_one(url)
    assert "is it running" not in str(caught.value)


def test_a_server_that_is_not_there_ends_the_run(log: Path) -> None:
    with pytest.raises(NoAnswer, match="does not answer .*no connection.*after 4 tries; is it running"):
        ask_one("http://127.0.0.1:9/v1")


class Impolite(socketserver.BaseRequestHandler):
    """A server that speaks no TLS, and hangs up on HTTP."""

    def handle(self) -> None:
        asked = self.request.recv(1000)
        if not asked.startswith(b"POST"):
            self.request.sendall(b"HTTP/1.0 400 -\r\n\r\n")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9/v1", "no connection"),
        ("http://no-such-host.invalid/v1", "no connection"),
        ("https://127.0.0.1:PORT/v1", "no connection"),
        ("http://127.0.0.1:PORT/v1", "connection failed"),
    ],
)
def test_no_connection_is_told_from_one_that_broke(address: str, reason: str) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Impolite) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with pytest.raises(Unanswered) as caught:
            ask_one(address.replace("PORT", str(server.server_address[1])), max_retries=0)
        server.shutdown()
    assert caught.value.reason == reason


def test_a_key_that_is_wanted_and_not_set(replies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with running(replies, "--key", "another") as url, pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        ask_one(url)


@pytest.mark.parametrize("address", ["localhost:8000/v1", "8000", "ftp://host/v1", "http:///v1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match="http:// or https://"):
        Assistant("m", RESPONSE_FORMAT, base_url=address)


def test_a_limit_on_tokens_that_lets_nothing_through(replies: Path) -> None:
    with running(replies) as url, pytest.raises(ConfigError, match="100 that may be sent in a minute"):
        ask_one(url, limits=Limits(tokens_per_minute=100), tokens=101)


def test_a_wrong_key_ends_the_run_and_is_not_told(replies: Path, log: Path) -> None:
    with running(replies, "--key", "another", log=log) as url, pytest.raises(ConfigError) as caught:
        ask_one(url)
    assert "OPENAI_API_KEY (status 401: Incorrect" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(read_log(log)) == 1


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "model_not_found", "has no model 'm'"),
        (402, "", "no credit or quota left"),
        (429, "insufficient_quota", "no credit or quota left"),
    ],
)
def test_what_does_not_get_better_ends_the_run(replies: Path, log: Path, status: int, code: str, message: str) -> None:
    server = running(replies, "--refuse", status, "--refuse-code", code, log=log)
    with server as url, pytest.raises(ConfigError, match=message):
        ask_one(url)
    assert len(read_log(log)) == 1


def test_one_request_that_is_refused_is_not_tried_again(replies: Path, log: Path) -> None:
    with running(replies, "--refuse", 403, log=log) as url, pytest.raises(Unanswered) as caught:
        ask_one(url)
    assert caught.value.reason == "status 403"
    assert not caught.value.is_silence
    assert len(read_log(log)) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_server_that_refuses_everything_ends_the_run(replies: Path, status: int) -> None:
    with running(replies, "--refuse", status, "--refuse-code", "unheard_of") as url:
        answers, _ = ask_all(url)
    assert sum(isinstance(answer, Unanswered) for answer in answers) == REFUSED_AT_THE_START - 1
    ends = [str(answer) for answer in answers if isinstance(answer, ConfigError)]
    assert len(ends) == len(EXAMPLES) - REFUSED_AT_THE_START + 1
    assert any(f"has refused each of the first 10 requests (status {status}: no)" in end for end in ends)


@pytest.mark.parametrize(("form", "name"), [("json_object", "json_object"), ("none", "text")])
def test_structured_output_is_given_up_once_for_all(replies: Path, form: str, name: str) -> None:
    told: list[str] = []
    with running(replies, "--formats", form) as url:
        answers, _ = ask_all(url, told)
    assert all(isinstance(answer, ChatReply) for answer in answers)
    assert [f"json_schema; going on with {name}" in said for said in told] == [True]


def test_there_must_be_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(endpoint.KEY_VARIABLE)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        Assistant("m", RESPONSE_FORMAT)
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        Assistant("m", RESPONSE_FORMAT, key_variable="MY_KEY")
    Assistant("m", RESPONSE_FORMAT, base_url="http://localhost:1/v1")


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", "two words"])
def test_what_is_no_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(endpoint.KEY_VARIABLE, key)
    with pytest.raises(ConfigError, match="characters that no key has") as caught:
        Assistant("m", RESPONSE_FORMAT)
    assert key not in str(caught.value)


def test_a_login_in_the_address_is_refused_and_not_told() -> None:
    with pytest.raises(ConfigError, match=r'"http://127\.0\.0\.1:9/v1" was given with a name') as caught:
        ask_one("http://me:hush@127.0.0.1:9/v1")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(endpoint.RESERVED_PARAMETERS))
def test_parameters_that_are_set_here_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Assistant("m", RESPONSE_FORMAT, parameters={name: 1})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3600"}, 3600),
        ({"retry-after": "9e99"}, chat_protocol.LONGEST_WAIT_S),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(1_000_030, usegmt=True)}, 30),
        ({"retry-after": formatdate(999_000, usegmt=True)}, 0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1_000_000) == seconds


def test_answers_in_the_forms_that_servers_give() -> None:
    payload: dict[str, Any] = completion("m", "hello", "stop", 3, 4)
    assert read_chat_reply(json.dumps(payload)) == ChatReply("hello", "stop", 3, 4)
    message = payload["choices"][0]["message"]
    message["content"] = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    assert read_chat_reply(json.dumps(payload)).text == "hello"
    message |= {"content": None, "refusal": "no"}
    assert read_chat_reply(json.dumps(payload)) == ChatReply("no", "refusal", 3, 4)
    message |= {"content": "\ud800", "refusal": None}
    payload |= {"usage": {"prompt_tokens": True, "completion_tokens": -1}}
    payload["choices"][0]["finish_reason"] = "length"
    assert read_chat_reply(json.dumps(payload)) == ChatReply("?", "length", None, None)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("content_filter: PROHIBITED_CONTENT", "refusal"),
        ("SAFETY", "refusal"),
        ("stop", "stop"),
        ("eos_token", "stop"),
        (None, "stop"),
        (["length"], "stop"),
    ],
)
def test_finish_reasons(named: Any, reason: str) -> None:
    answer = read_chat_reply(json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": named}]}))
    assert isinstance(answer, ChatReply)
    assert answer.finish_reason == reason


def test_a_filtered_answer_without_a_message() -> None:
    answer = read_chat_reply('{"choices": [{"finish_reason": "content_filter"}]}')
    assert isinstance(answer, ChatReply)
    assert answer.finish_reason == "refusal"


@pytest.mark.parametrize("named", ["error", "abort", "insufficient_system_resource"])
def test_an_answer_that_was_broken_off_is_none(named: str) -> None:
    with pytest.raises(BadPayload, match=named):
        read_chat_reply(json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": named}]}))


def events(*pieces: Any, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(piece, ensure_ascii=False)}\r\n\r\n" for piece in pieces) + end


def piece(content: str | None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": content}, "finish_reason": reason}], **more}


def test_an_answer_that_is_streamed_though_it_was_not_asked_for() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    body = events(piece(None), piece("a\u2028"), piece("b"), piece(None, "stop"), {"choices": [], "usage": usage})
    for stream in (body, f": keep-alive\n\n{body}", f"event: message\n{body}", body.replace("data: ", "data:")):
        assert read_chat_reply(stream) == ChatReply("a\u2028b", "stop", 9, 2)
    assert read_chat_reply(events(piece("a", "length"), end="")).finish_reason == "length"


@pytest.mark.parametrize(
    "body", [events(piece("a"), end=""), events(piece("a"))[:30], "data: []", "event: ping\n", ":"]
)
def test_a_stream_that_is_cut_off_is_no_answer(body: str) -> None:
    with pytest.raises(BadPayload, match="stream of events"):
        read_chat_reply(body)


def test_an_error_in_a_stream_is_a_refusal() -> None:
    refusal = read_chat_reply(events(piece("a"), {"error": {"code": 429, "message": "slow down"}}))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.message) == (429, "slow down")


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        ("it broke", 500, Meaning.WAIT),
        ("Invalid API key", 400, Meaning.KEY),
        ({"message": "no", "code": "content_filter"}, 400, Meaning.DECLINED),
        ({"message": "no", "code": "rate_limit_exceeded"}, 429, Meaning.WAIT),
        ({"message": "no", "code": "insufficient_quota"}, 400, Meaning.MONEY),
        ({"message": "no", "code": 402}, 402, Meaning.MONEY),
        ({"message": "no", "code": "502"}, 502, Meaning.WAIT),
        ({"message": "no", "code": 1008}, 500, Meaning.WAIT),
    ],
)
def test_an_error_with_a_status_of_success(error: Any, status: int, expected: Meaning) -> None:
    for body in ({"error": error}, {"choices": [{"error": error}]}, [{"error": error}]):
        refusal = read_chat_reply(json.dumps(body))
        assert isinstance(refusal, Refusal)
        assert (refusal.status, meaning(refusal)) == (status, expected)


def test_what_else_says_why_there_is_no_answer() -> None:
    for name in ("detail", "message", "msg"):
        refusal = read_chat_reply(json.dumps({"code": 1001, name: "Not authenticated"}))
        assert isinstance(refusal, Refusal)
        assert refusal.message == "Not authenticated"
    for body, said in (
        ("", "is empty"),
        ("<title>Sign in</title>", "is a web page: Sign in"),
        ("[]", "no chat"),
        ('{"message": {}}', "no chat"),
    ):
        with pytest.raises(BadPayload, match=said):
            read_chat_reply(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.sampled_from(["choices", "message", "usage", "code"]), values),
)


@given(JSON)
def test_no_body_breaks_the_reader(value: Any) -> None:
    body = json.dumps(value)
    for text in (body, body[:-1], json.dumps({"choices": [{"message": value}], "usage": value}), events(value)):
        with suppress(BadPayload):
            assert isinstance(read_chat_reply(text), ChatReply | Refusal)
    refusal = read_refusal(400, value, KEY)
    assert isinstance(refusal.message, str)
    assert isinstance(meaning(refusal), Meaning)
    walk, parameters = Walk.at(Way()), {"temperature": 0, "max_tokens": 9}
    while (other := other_way(walk, refusal, parameters, ("temperature",), by_trying=True)) is not None:
        walk.go(*other, refusal)
        assert len(walk.refusals) < 12


def test_the_key_is_blotted_out_of_what_a_server_says() -> None:
    refusal = read_refusal(400, {"error": {"message": f"bad key {KEY}!", "code": 3}}, KEY)
    assert refusal.message == "bad key ***!"
    assert refusal.code == "3"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_held_from_the_first_minute_on() -> None:
    clock = Clock()
    rate = Rate(60, clock)
    turns = [rate.reserve(1) for _ in range(62)]
    assert turns[0] == 0
    assert turns[61] == pytest.approx(60)
    assert sum(turn < 60 for turn in turns) <= 61


def test_a_rate_saves_nothing_up_for_longer_than_its_burst() -> None:
    clock = Clock()
    rate = Rate(60, clock)
    clock.now = 1000.0
    assert [rate.reserve(1) for _ in range(3)] == pytest.approx([0, 0, 1])


def test_a_rate_makes_wrong_estimates_good() -> None:
    clock = Clock()
    rate = Rate(600, clock)
    rate.reserve(10)
    rate.correct(90)
    assert rate.reserve(1) == pytest.approx(9)
    rate.correct(-50)
    assert rate.reserve(1) == pytest.approx(4.1)


def test_no_rate_lets_everything_through() -> None:
    rate = Rate(None)
    rate.correct(1e9)
    assert rate.reserve(1e9) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [("concurrency", 0), ("concurrency", 5000), ("requests_per_minute", 0), ("tokens_per_minute", float("nan"))],
)
def test_limits_out_of_range(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=str(value)):
        Limits(**{name: value})


def test_halt_ends_a_long_wait() -> None:
    async def run() -> float:
        limits = Limits()
        limits.pause(100)
        waiting = asyncio.create_task(limits.wait(1))
        await asyncio.sleep(0.05)
        limits.halt()
        started = time.monotonic()
        with pytest.raises(Halted):
            await waiting
        return time.monotonic() - started

    assert asyncio.run(run()) < 1


def test_limits_are_kept_on_the_wire(replies: Path, log: Path) -> None:
    with running(replies, log=log) as url:
        ask_all(url, limits=Limits(requests_per_minute=600))
    times = [event["at"] for event in read_log(log) if event["event"] == "request"]
    assert times[-1] - times[0] > (len(EXAMPLES) - 11) / 10 - 0.2


def test_estimate_of_tokens() -> None:
    assert estimate_tokens([{"role": "user", "content": "a" * 400}]) == pytest.approx(100, rel=0.1)
    assert estimate_tokens([{"role": "user", "content": "字" * 400}]) == pytest.approx(300, rel=0.1)


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ConfigError, match=r"causal-attention-tuning\[annotate\]"):
        Assistant("m", RESPONSE_FORMAT)


@pytest.mark.parametrize(
    "error",
    [
        '{"message": "a\\ud800b", "code": "\\udfff", "param": ["\\ud800"]}',
        '"\\ud800"',
        "[" * 900 + "]" * 900,
        '{"message": ' + "[" * 900 + "]" * 900 + "}",
        '{"message": "' + "x" * 10_000 + '", "code": "' + "y" * 10_000 + '"}',
    ],
)
def test_what_a_server_says_of_a_refusal_can_be_stored_and_is_short(error: str) -> None:
    for body in (f'{{"error": {error}}}', error):
        refusal = read_refusal(400, parsed(body), "")
        for text in (refusal.code, refusal.parameter, refusal.message):
            text.encode()
            assert len(text) <= 500


def test_an_answer_with_half_of_a_surrogate_pair_can_be_stored() -> None:
    for message in ('{"content": "a\\ud800"}', '{"content": [{"text": "a\\ud800"}]}', '{"refusal": ["a\\ud800"]}'):
        body = f'{{"choices": [{{"message": {message}, "finish_reason": ["\\udfff"]}}]}}'
        assert "a?" in read_chat_reply(body).text
