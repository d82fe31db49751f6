"""Where requests go, and with what: the address, the key, the parameters, and the SDK's client for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from cattune.errors import ConfigError
from cattune.wording import shown

if TYPE_CHECKING:
    from httpx2 import AsyncClient

KEY_VARIABLE = "OPENAI_API_KEY"
ADDRESS_VARIABLE = "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
NO_KEY = "none"
"""Sent in the place of a key to a server of one's own."""
RESERVED_PARAMETERS = frozenset({"messages", "model", "n", "response_format", "stream", "tools", "functions"})
"""Parameters of a request that are set here."""

_CHAT = "/chat/completions"
_AS_IN = "write it as in http://localhost:8000/v1"


def check_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, without those that are set here.

    Raises:
        ConfigError: there is one of those.
    """
    wrong = sorted(RESERVED_PARAMETERS & set(parameters))
    if wrong:
        raise ConfigError(f"the parameters must not hold {', '.join(wrong)}: cattune sets these itself")
    return dict(parameters)


def read_key(variable: str, address: str | None) -> str:
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
    if address is None:
        raise ConfigError(
            f"the environment variable {variable} is not set; put the key there, name another variable with "
            "--api-key-env, or name a server of your own with --base-url"
        )
    return NO_KEY


def find_address(base_url: str | None) -> str | None:
    """The base URL that was given, or else the environment's; None where there is neither.

    Raises:
        ConfigError: it is no address, or has a user's name or password, which would be shown wherever the address is.
    """
    if base_url is not None:
        return _checked(base_url, "the address")
    url = os.environ.get(ADDRESS_VARIABLE, "").strip()
    return _checked(url, f"the address in {ADDRESS_VARIABLE},") if url else None


def _checked(url: str, what: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port that is none
        raise ConfigError(f"{what} {shown(url.rpartition('@')[2])} cannot be read; {_AS_IN}") from None
    if "@" in parts.netloc:
        raise ConfigError(
            f"{what} {shown(shown_address(url))} was given with a name or a password in it; put the key into an "
            "environment variable (--api-key-env) and leave them out"
        )
    if not is_address:
        raise ConfigError(
            f"{what} {shown(url.rpartition('@')[2])} does not begin with http:// or https:// and a host; {_AS_IN}"
        )
    return url


def chat_url(base_url: str) -> str:
    """Where chat completions are: below the base URL, before its query, and once where it names them itself."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/").removesuffix(_CHAT)
    return urlunsplit(parts._replace(path=path + _CHAT, fragment=""))


def shown_address(url: str) -> str:
    """The base URL as it may be shown: without name and password, and without a query, which may hold a key."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix(_CHAT)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=path, query="", fragment=""))


def find_proxy(url: str) -> str | None:
    """The proxy of the environment that requests to this address go through, as it may be shown; None for none.

    Raises:
        ConfigError: it is none that speaks HTTP.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc):
        return None
    name = proxy.rpartition("@")[2]
    try:
        found = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        is_usable = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigError(
            f"the environment names the proxy {shown(name)} for {parts.scheme} addresses, which cannot be used: only "
            "http:// and https:// proxies can; correct it, or put the host into NO_PROXY"
        )
    return name


def open_client(address: str | None, key: str, connect_timeout_s: float) -> tuple[AsyncClient, str]:
    """The HTTP client that the SDK would use, with its headers and the key, and the address of chat completions.

    The SDK's own way to send a request takes three times as long as the request itself; its retries, which would be
    the reason to use it, are not what is needed here (see `client`).

    Raises:
        ConfigError: the SDK is not installed, or the address or a proxy cannot be used.
    """
    try:
        from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient, Timeout
    except ImportError:
        raise ConfigError(
            "an assistant model is asked through the openai package, which is not installed; "
            "pip install 'causal-attention-tuning[annotate]'"
        ) from None
    address = address or OPENAI
    find_proxy(address)
    timeout = Timeout(None, connect=connect_timeout_s)  # how long a server may be silent: see `patience`
    try:
        try:
            http = DefaultAioHttpClient(timeout=timeout)
        except RuntimeError:  # without aiohttp, the other one, which takes more time for a request
            http = DefaultAsyncHttpxClient(timeout=timeout)
    except Exception as error:  # a proxy of the environment, whatever its scheme, raises what its parser raises
        raise ConfigError(f"the proxies that the environment names cannot be used: {without_logins(error)}") from None
    try:
        sdk = AsyncOpenAI(api_key=key, base_url=address, http_client=http)
    except Exception as error:  # an address that is none raises what its parser raises
        raise ConfigError(f"the address {shown(shown_address(address))} cannot be used: {error}") from None
    headers = {**sdk.default_headers, **sdk.auth_headers, "accept-encoding": "gzip, deflate"}
    http.headers.update({name: value for name, value in headers.items() if isinstance(value, str)})
    return http, chat_url(address)


def without_logins(error: object) -> str:
    """What an error says, without names and passwords of addresses in it."""
    return re.sub(r"(?<=//)[^/@\s]+@", "", str(error))
