"""Where requests go, and with what: the address, the key, the parameters, and the SDK's client for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cattune.errors import ConfigError

if TYPE_CHECKING:
    from httpx2 import AsyncClient

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "none"
"""Sent in the place of a key to a server of one's own."""
RESERVED_PARAMETERS = frozenset({"messages", "model", "n", "response_format", "stream", "tools", "functions"})
"""Parameters of a request that are set here."""


def check_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, without those that are set here.

    Raises:
        ConfigError: there is one of those.
    """
    wrong = sorted(RESERVED_PARAMETERS & set(parameters))
    if wrong:
        raise ConfigError(f"the parameters must not hold {', '.join(wrong)}: cattune sets these itself")
    return dict(parameters)


def read_key(variable: str, base_url: str | None) -> str:
    """The key, or a placeholder for a server of one's own.

    Raises:
        ConfigError: it is needed and not there.
    """
    key = os.environ.get(variable, "").strip()
    if key:
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                f"the environment variable {variable} does not hold a key: it has characters that no key has"
            )
        return key
    if base_url is None and "OPENAI_BASE_URL" not in os.environ:
        raise ConfigError(
            f"the environment variable {variable} is not set; put the key there, name another variable with "
            "--api-key-env, or name a server of your own with --base-url"
        )
    return NO_KEY


def check_address(url: str | None) -> None:
    """Refuse what is no address, and one with a user's name or password: they would be shown wherever the address is.

    Raises:
        ConfigError: it is one of these.
    """
    if url is not None and not (urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc):
        raise ConfigError(
            f"the address {without_login(url)!r} does not begin with http:// or https:// and a host; write it as in "
            "http://localhost:8000/v1"
        )
    if url is not None and "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"the address {without_login(url)!r} was given with a name or a password in it; put the key into an "
            "environment variable (--api-key-env) and leave them out"
        )


def without_login(url: str) -> str:
    """The address without a user's name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def open_client(base_url: str | None, key: str, connect_timeout_s: float) -> tuple[AsyncClient, str]:
    """The HTTP client that the SDK would use, with its headers and the key, and the address of chat completions.

    The SDK's own way to send a request takes three times as long as the request itself; its retries, which would be
    the reason to use it, are not what is needed here (see `client`).

    Raises:
        ConfigError: the SDK is not installed, or the address is none.
    """
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient, Timeout
    except ImportError:
        raise ConfigError(
            "an assistant model is asked through the openai package, which is not installed; "
            "pip install 'causal-attention-tuning[annotate]'"
        ) from None
    timeout = Timeout(None, connect=connect_timeout_s)  # how long a server may be silent: see `patience`
    try:
        http = DefaultAioHttpClient(timeout=timeout)
    except RuntimeError:  # without aiohttp, the other one, which takes more time for a request
        http = DefaultAsyncHttpxClient(timeout=timeout)
    try:
        sdk = AsyncOpenAI(api_key=key, base_url=base_url, http_client=http)
    except Exception as error:  # an address that is none raises what its parser raises
        raise ConfigError(f"the address {without_login(base_url or '')!r} cannot be used: {error}") from None
    headers = {**sdk.default_headers, **sdk.auth_headers}
    http.headers.update({name: value for name, value in headers.items() if isinstance(value, str)})
    return http, f"{str(sdk.base_url).rstrip('/')}/chat/completions"
