"""Where requests go: base URLs as gateways have them, the environment's address, and proxies that cannot be used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from behaving_server import behaving, good

from cattune.annotation.assistant.endpoint import address as endpoint
from cattune.annotation.assistant.endpoint.address import chat_url, find_address, shown_address
from cattune.annotation.assistant.endpoint.client import Assistant
from cattune.annotation.assistant.endpoint.unanswered import Unanswered
from cattune.annotation.assistant.prior import load_prior
from cattune.annotation.assistant.reply_form import response_format
from cattune.errors import ConfigError

FORMAT = response_format(load_prior("arithmetic"))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def connect(base_url: str | None = None) -> None:
    async def run() -> None:
        assistant = Assistant("m", FORMAT, base_url=base_url)
        await assistant.close()

    asyncio.run(run())


async def ask(url: str, **settings: Any) -> None:
    assistant = Assistant("m", FORMAT, base_url=url, **settings)
    try:
        await assistant.ask([{"role": "user", "content": "Annotate."}])
    finally:
        await assistant.close()


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("", "/chat/completions"),
        ("/v1?api-version=1", "/v1/chat/completions?api-version=1"),
        ("/v1/?api-version=1&b=/c", "/v1/chat/completions?api-version=1&b=/c"),
        ("/v1#part", "/v1/chat/completions"),
        ("/v1?a=b#part", "/v1/chat/completions?a=b"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions?api-version=1", "/v1/chat/completions?api-version=1"),
        ("/openai/deployments/a%20b", "/openai/deployments/a%20b/chat/completions"),
    ],
)
def test_where_chat_completions_are(base_url: str, path: str) -> None:
    assert chat_url(f"http://host:8000{base_url}") == f"http://host:8000{path}"
    told: list[str] = []
    with behaving(lambda n, request: good()) as server:
        asyncio.run(ask(server.url.removesuffix("/v1") + base_url, tell=told.append))
    assert [request["path"] for request in server.requests] == [path]
    assert ["is not sent" in said for said in told] == [True] * ("#" in base_url)


def test_what_is_shown_of_an_address() -> None:
    assert shown_address("http://me:hush@host:1/v1/chat/completions?key=hush#hush") == "http://host:1/v1"


@pytest.mark.parametrize("is_given", [True, False])
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://me:hush@127.0.0.1:9/v1", '"http://127.0.0.1:9/v1" was given with a name or a password'),
        ("http://hush@127.0.0.1:9/v1", "was given with a name or a password"),
        ("me:hush@localhost:8000", "does not begin with http://"),
        ("localhost:8000/v1", "does not begin with http://"),
        ("http://[::1/v1", "cannot be read"),
        ("http://host:port/v1", "cannot be read"),
        ("http://host:99999/v1", "cannot be read"),
        ("http:///v1", "does not begin with"),
    ],
)
def test_addresses_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str, is_given: bool
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ConfigError) as caught:
        connect(address if is_given else None)
    assert message in str(caught.value)
    assert ("OPENAI_BASE_URL" in str(caught.value)) == (not is_given)
    assert "hush" not in str(caught.value)


def test_the_environments_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_address(None) is None
    monkeypatch.setenv("OPENAI_BASE_URL", " ")
    assert find_address(None) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host/v1")
    assert find_address(None) == "http://host/v1"
    assert find_address("http://other/v1") == "http://other/v1"
    monkeypatch.delenv(endpoint.KEY_VARIABLE)
    connect()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "proxy",
    ["socks5://me:hush@localhost:1080", "ftp://localhost", "http://[::1", "http://:3128", "http://host:port", "x://"],
)
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, name: str, proxy: str) -> None:
    monkeypatch.setenv(name, proxy)
    with pytest.raises(ConfigError, match=r"prox(y|ies)") as caught:
        connect("http://assistant.example/v1")
    assert "hush" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://me:hush@127.0.0.1:9")
    with pytest.raises(Unanswered, match=r"no connection: .*\(through the proxy 127\.0\.0\.1:9\)") as caught:
        asyncio.run(ask("http://assistant.example/v1", max_retries=0))
    assert "hush" not in str(caught.value)


def test_a_proxy_that_is_not_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "socks5://localhost:1080")
    monkeypatch.setenv("no_proxy", "assistant.example,127.0.0.1")
    connect("http://assistant.example/v1")
