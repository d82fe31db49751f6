"""Who may use the review page: nobody without the token of its URL, no other site's page, no other host's name.

The server gives nothing away without the token, or the cookie that it is exchanged for, answers only to its own host
name, so that another site's name that is made to point here gets nowhere, and takes writes only from its own pages.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_CLOSED = "This page opens with the URL that `cattune review` printed when it was started.\n"


class Guard:
    """Lets requests through that may come from the reviewer's own page, and puts the safety headers on all answers."""

    def __init__(self, app: ASGIApp, token: str, port: int, entered: Callable[[], None]) -> None:
        """Guard an application.

        Args:
            app: the application.
            token: opens the page.
            port: where the server listens.
            entered: is called when the token has been exchanged for the cookie.
        """
        self._app = app
        self._entered = entered
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"cattune_review_{port}"  # cookies do not tell ports apart
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return None
        request = Request(scope, receive)
        by_token = request.url.path == "/" and _same(request.query_params.get("token"), self._token)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = dict(_HEADERS)
                if by_token:
                    headers["set-cookie"] = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
                message["headers"] = [
                    *((key, value) for key, value in message["headers"] if key.decode() not in headers),
                    *((key.encode(), value.encode()) for key, value in headers.items()),
                ]
            await send(message)

        refusal = self._refusal(request, by_token)
        await (refusal or self._app)(scope, receive, send_safely)
        if by_token and refusal is None:
            self._entered()
        return None

    def _refusal(self, request: Request, by_token: bool) -> Response | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            by_token = False
            return PlainTextResponse("This server answers to its own address only.\n", 421)
        if not (by_token or _same(request.cookies.get(self._cookie), self._session)):
            return PlainTextResponse(_CLOSED, 403)
        if request.method not in ("GET", "HEAD"):
            if request.headers.get("origin") != f"http://{host}":
                return PlainTextResponse("Only this server's own page may change anything.\n", 403)
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                return PlainTextResponse("Expected JSON.\n", 415)
        return None


def _same(given: str | None, secret: str) -> bool:
    return given is not None and secrets.compare_digest(given.encode(errors="replace"), secret.encode())
