"""Endpoints that are broken or hostile: replies without end, packed ones, slow ones, redirects, and the key in them."""

from __future__ import annotations

import asyncio
import gzip
import http.server
import json
import time
import zlib
from typing import Any
from urllib.parse import urlsplit

import pytest
from assistant_server import completion
from behaving_server import FINE, Answer, behaving, good

from cattune.annotation.assistant.endpoint import client, transport
from cattune.annotation.assistant.endpoint.client import Assistant
from cattune.annotation.assistant.endpoint.unanswered import Unanswered
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.reply_form import response_format
from cattune.errors import ConfigError

MESSAGES = [{"role": "user", "content": "Annotate."}]
FORMAT = response_format(load_prior("arithmetic"))
KEY = "sk-test-0123456789abcdef"
Handler = http.server.BaseHTTPRequestHandler


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(transport, "MOST_BYTES", 100_000)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def ask(url: str, **settings: Any) -> str:
    async def run() -> str:
        assistant = Assistant("m", FORMAT, base_url=url, max_retries=2, **settings)
        try:
            return (await assistant.ask(MESSAGES)).text
        finally:
            await assistant.close()

    return asyncio.run(run())


def begin(handler: Handler, **headers: str) -> None:
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def without_end(handler: Handler) -> None:
    begin(handler, transfer_encoding="chunked")
    while True:
        handler.wfile.write(b"10000\r\n" + b"a" * 65536 + b"\r\n")


def long_as_it_says(handler: Handler) -> None:
    begin(handler, content_length="100000000000")
    handler.wfile.write(b"{")


def packed(handler: Handler) -> None:
    body = gzip.compress(b" " * 50_000_000)
    begin(handler, content_encoding="gzip", content_length=str(len(body)))
    handler.wfile.write(body)


def deflated(handler: Handler) -> None:
    body = zlib.compress(b"[" * 50_000_000)
    begin(handler, content_encoding="deflate", content_length=str(len(body)))
    handler.wfile.write(body)


def packed_to_nothing(handler: Handler) -> None:
    begin(handler, content_encoding="gzip", transfer_encoding="chunked")
    member = gzip.compress(b"")
    while True:
        handler.wfile.write(b"%x\r\n" % (1000 * len(member)) + 1000 * member + b"\r\n")


@pytest.mark.parametrize("hostile", [without_end, long_as_it_says, packed, deflated, packed_to_nothing])
def test_a_reply_without_end_is_refused_once(hostile: Any) -> None:
    with behaving(raw=hostile) as server:
        with pytest.raises(Unanswered) as caught:
            ask(server.url)
        assert len(server.requests) == 1
    assert caught.value.reason == "reply too large"


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_no_more_is_unpacked_than_is_read(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    bounds: list[int] = []
    made = zlib.decompressobj

    class Watched:
        eof = False

        def __init__(self, bits: int) -> None:
            self._real = made(bits)

        def decompress(self, data: bytes, most: int = 0) -> bytes:
            bounds.append(most)
            return self._real.decompress(data, most)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    body = pack(b" " * 5_000_000)
    with behaving(lambda n, request: (200, body, {"content-encoding": "gzip"})) as server, pytest.raises(Unanswered):
        ask(server.url)
    assert all(0 < bound <= transport.MOST_BYTES + 1 for bound in bounds)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "identity"])
def test_a_packed_reply_is_unpacked(encoding: str) -> None:
    pack = {"deflate": zlib.compress, "identity": bytes}.get(encoding, gzip.compress)
    body = pack(json.dumps(completion("m", "fine", "stop", 1, 1)).encode())
    with behaving(lambda n, request: (200, body, {"content-encoding": encoding})) as server:
        assert ask(server.url) == "fine"


def test_deflate_without_a_head_is_unpacked() -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = packer.compress(json.dumps(completion("m", "fine", "stop", 1, 1)).encode()) + packer.flush()
    with behaving(lambda n, request: (200, body, {"content-encoding": "deflate"})) as server:
        assert ask(server.url) == "fine"


@pytest.mark.parametrize(
    ("written", "content_type"),
    [
        ("utf-8", "application/json"),
        ("utf-8-sig", "application/json; charset=utf-8"),
        ("utf-16", "application/json"),
        ("utf-16-le", "application/json; charset=utf-16"),
        ("utf-32", "application/json"),
        ("latin-1", "application/json; charset=ISO-8859-1"),
        ("cp1252", 'text/plain;charset="windows-1252"'),
    ],
)
def test_a_reply_in_another_code_is_read(written: str, content_type: str) -> None:
    body = json.dumps(completion("m", "drei Bäume", "stop", 1, 1), ensure_ascii=False).encode(written)
    with behaving(lambda n, request: (200, body, {"content-type": content_type})) as server:
        assert ask(server.url) == "drei Bäume"


@pytest.mark.parametrize("code", ["punycode", "zlib", "utf-7", "iso-8859-99", "x" * 5000])
def test_a_code_that_is_none_of_the_webs_is_not_used(code: str) -> None:
    body = json.dumps(completion("m", "drei Bäume", "stop", 1, 1), ensure_ascii=False).encode()
    with behaving(lambda n, request: (200, body, {"content-type": f"text/plain; charset={code}"})) as server:
        assert ask(server.url) == "drei Bäume"


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
def test_a_reply_that_is_packed_wrongly_is_asked_again(encoding: str) -> None:
    with behaving(lambda n, request: (200, b"{}", {"content-encoding": encoding}) if n == 1 else good()) as server:
        assert ask(server.url) == FINE
    assert len(server.requests) == 2


def drip(handler: Handler) -> None:
    begin(handler, content_length="1000")
    for _ in range(300):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.02)


def test_a_reply_that_drips_is_given_up() -> None:
    started = time.monotonic()
    with behaving(raw=drip) as server, pytest.raises(Unanswered) as caught:
        ask(server.url, timeout_s=0.2, reply_timeout_s=0.4)
    assert caught.value.reason == "too slow"
    assert "0.4 s after it began (--reply-timeout)" in caught.value.detail
    assert len(server.requests) == 1
    assert time.monotonic() - started < 5  # the server would go on for 6 s


def slow(handler: Handler) -> None:
    """Empty lines while the model is at work, as some providers send them."""
    body = json.dumps(completion("m", "fine", "stop", 1, 1)).encode()
    begin(handler, content_length=str(40 + len(body)))
    for _ in range(40):
        handler.wfile.write(b"\n")
        handler.wfile.flush()
        time.sleep(0.02)
    handler.wfile.write(body)


def test_signs_of_life_are_no_silence() -> None:
    with behaving(raw=slow) as server:
        assert ask(server.url, timeout_s=0.4, reply_timeout_s=20) == "fine"
    assert len(server.requests) == 1


def redirecting(status: int, target: str) -> Any:
    """A server that sends on what comes to its usual path."""

    def answer(n: int, request: dict[str, Any]) -> Answer:
        return (status, {}, {"location": target}) if n == 1 else good()

    return behaving(answer)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_origin_keeps_the_request(status: int) -> None:
    with redirecting(status, "/v2/elsewhere?a=b") as server:
        assert ask(server.url) == FINE
    first, second = server.requests
    assert (first.pop("path"), second.pop("path")) == ("/v1/chat/completions", "/v2/elsewhere?a=b")
    assert first == second


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_origin_is_refused(status: int) -> None:
    with behaving(lambda n, request: good()) as other:
        target = other.url.replace("http://", "http://me:hush@") + f"/chat/completions?token={KEY}"
        with redirecting(status, target) as server, pytest.raises(ConfigError) as caught:
            ask(server.url)
    said = str(caught.value)
    assert f"redirects from {server.url}/chat/completions to {other.url}/chat/completions" in said
    assert "hush" not in said and KEY not in said
    assert other.requests == []


@pytest.mark.parametrize(
    "target", ["https://127.0.0.1:PORT/v1", "http://localhost:PORT/v1", "//example.invalid/v1", "ftp://x/"]
)
def test_another_origin(target: str) -> None:
    def answer(n: int, request: dict[str, Any]) -> Answer:
        return 307, {}, {"location": target.replace("PORT", str(urlsplit(server.url).port))}

    with behaving(answer) as server, pytest.raises(ConfigError, match="redirects from"):
        ask(server.url)
    assert len(server.requests) == 1


def test_redirects_without_end_are_refused() -> None:
    with (
        behaving(lambda n, request: (307, {}, {"location": f"/v1/{n}"})) as server,
        pytest.raises(ConfigError, match="redirects without end, at last to .*/v1/"),
    ):
        ask(server.url)
    assert len(server.requests) == transport.MOST_REDIRECTS + 1


@pytest.mark.parametrize("status", [300, 307])
def test_a_redirect_to_nowhere_is_a_refusal(status: int) -> None:
    with behaving(lambda n, request: (status, {}, {})) as server, pytest.raises(Unanswered, match=f"status {status}"):
        ask(server.url)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


@pytest.mark.parametrize("written", [KEY, escaped(KEY), escaped(KEY).replace("\\", "\\\\")])
def test_the_key_in_a_reply_is_blotted_out(written: str) -> None:
    body = json.dumps(completion("m", "WRITTEN", "stop", 1, 1)).replace("WRITTEN", f"Bearer {written}").encode()
    with behaving(lambda n, request: (200, body, {})) as server:
        assert ask(server.url) == "Bearer ***"


@pytest.mark.parametrize("written", [KEY, escaped(KEY)])
def test_the_key_in_what_is_no_reply_is_blotted_out(written: str) -> None:
    for before in (0, 190):
        body = b"x" * before + f'{{"a": "{written}'.encode()
        with behaving(lambda n, request, body=body: (200, body, {})) as server, pytest.raises(Exception) as caught:
            ask(server.url)
        assert "malformed response" in str(caught.value)
        assert not any(part in str(caught.value) for part in (KEY[:6], written[:12]))


def test_a_word_of_a_reply_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with behaving(lambda n, request: good("none of them")) as server:
        assert ask(server.url) == "none of them"


def is_there(handler: Any) -> bool:
    """What the client finds of a server that does with a connection what the handler does."""

    async def run() -> bool:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            assistant = Assistant("m", {}, base_url=f"http://127.0.0.1:{port}/v1?version=2", connect_timeout_s=0.3)
            try:
                return await assistant.is_there()
            finally:
                await assistant.close()

    return asyncio.run(run())


@pytest.mark.parametrize("status", [200, 401, 404, 405, 501, 500, 502, 503])
def test_whether_a_server_is_there(status: int) -> None:
    """It is asked for its models, in the way of the address of completions; the answer is not read."""
    asked = []

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(b"HTTP/1.1 %d -\r\ncontent-length: 99999999\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    assert is_there(answers) is (status < 500 or status == 501)
    assert asked == [b"GET /v1/models?version=2 HTTP/1.1"]


def test_a_server_that_hangs_is_not_there() -> None:
    async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    assert not is_there(hangs)
