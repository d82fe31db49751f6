"""One POST, with limits on everything: what is read, what it unpacks to, how long it takes, and where it may lead."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

MOST_BYTES = 8_000_000
"""The most bytes of a response, packed and unpacked: a reply of 500,000 characters in JSON's escapes has 6,000,000."""

MOST_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ONE_BYTE = re.compile(r"charset\s*=\s*[\"']?(iso-8859-(?:1|2|15)|windows-125[0-8]|latin-?1)\b", re.IGNORECASE)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class TooLarge(Exception):
    """The response has more than `MOST_BYTES`."""


class TooSlow(Exception):
    """The response took longer than a response may."""


class Redirected(Exception):
    """The server sends the request to another address, where it must not go by itself.

    Args:
        source: where it was sent.
        target: where it should go.
    """

    def __init__(self, source: str, target: str) -> None:
        super().__init__(source, target)
        self.source = source
        self.target = target
        self.leads_away = _origin(source) != _origin(target)


class Received(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: Mapping[str, str]
    text: str


async def post(
    http: AsyncClient, url: str, content: bytes, within_s: float, heard: Callable[[], None] = lambda: None
) -> Received:
    """Send a request and read the response.

    Redirects are followed within the same scheme, host and port, with method and body.

    Args:
        http: the client.
        url: where to.
        content: what to send.
        within_s: how long the response may take from its first byte on, however steadily it comes.
        heard: is told whenever something has come.

    Raises:
        TooLarge: it is larger than a response may be.
        TooSlow: it was not there in time.
        Redirected: to another origin, or too often.
        httpx2.TransportError: the connection failed.
        ValueError: the response is packed in a way that was not asked for, or wrongly.
    """
    where = url
    for _ in range(MOST_REDIRECTS + 1):
        request = http.build_request("POST", where, content=content)
        response = await http.send(request, stream=True, follow_redirects=False)
        heard()
        try:
            target = _target(response, where)
            if target is None:
                text = await _read(response, within_s, heard)
                return Received(response.status_code, response.headers, text)
        finally:
            await response.aclose()
        if _origin(target) != _origin(where):
            raise Redirected(where, target)
        where = target
    raise Redirected(url, where)


async def is_there(http: AsyncClient, url: str, within_s: float) -> bool:
    """Whether a server answers at the address of chat completions: it is asked for its models, which costs nothing."""
    parts = urlsplit(url)
    models = parts._replace(path=parts.path.removesuffix("chat/completions") + "models")
    try:
        async with (
            asyncio.timeout(within_s),
            http.stream("GET", urlunsplit(models), follow_redirects=False) as response,
        ):
            return response.status_code < 500 or response.status_code == 501  # which is about GET
    except Exception:  # what is no HTTP raises whatever the library has for it
        return False


def _target(response: Response, url: str) -> str | None:
    location = response.headers.get("location")
    return urljoin(url, location) if response.status_code in _REDIRECTS and location else None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


async def _read(response: Response, within_s: float, heard: Callable[[], None]) -> str:
    packing = response.headers.get("content-encoding", "").strip().lower()
    if packing not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise ValueError(f"the content encoding {packing[:40]!r}, which was not asked for")
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > MOST_BYTES:
        raise TooLarge
    unpack = None
    chunks, read, size = [], 0, 0
    try:
        async with asyncio.timeout(within_s) as limit:
            async for chunk in response.aiter_raw():
                heard()
                read += len(chunk)
                if unpack is None and chunk and packing not in ("", "identity"):
                    unpack = _unpacker(packing, chunk[0])
                if unpack is not None:
                    chunk = b"" if unpack.eof else unpack.decompress(chunk, MOST_BYTES + 1 - size)
                size += len(chunk)
                chunks.append(chunk)
                if max(read, size) > MOST_BYTES:
                    raise TooLarge
    except zlib.error as error:
        raise ValueError(f"the body is not packed as it says ({error})") from None
    except TimeoutError:
        if limit.expired():
            raise TooSlow from None
        raise
    return _text(b"".join(chunks), response.headers.get("content-type", ""))


def _unpacker(packing: str, first: int) -> zlib._Decompress:
    """For gzip, for zlib's form, and for a bare stream, which some servers take "deflate" for."""
    is_bare = packing == "deflate" and first & 15 != zlib.DEFLATED
    return zlib.decompressobj(-zlib.MAX_WBITS if is_bare else zlib.MAX_WBITS | 32)


def _text(body: bytes, content_type: str) -> str:
    """A body in UTF-8, 16 or 32, as JSON may be, or in the one-byte code that the server names for another text."""
    code: str = json.detect_encoding(body)
    if code == "utf-8" and (named := _ONE_BYTE.search(content_type)):
        code = named[1]
    return body.decode(code, "replace").removeprefix("\ufeff")
