"""The routes of the review page, and who may use them.

The server is for people on this machine. It listens on 127.0.0.1, gives nothing away without the token of its URL, or
the cookie that the token is exchanged for, answers only to its own host name, so that another site's name that is made
to point here gets nowhere, and takes writes only from its own pages. A page runs no script but its own files.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cattune.errors import CattuneError, DataError
from cattune.review.document import Document
from cattune.review.problems import FileChanged, Stale
from cattune.review.wire import document_state, example_state, read_edit, read_filter, row_state

PAGE = Path(__file__).parent / "static"
MOST_BYTES = 1 << 20
"""The longest request that is read."""
_MOST_ROWS = 500
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {path.name: _TYPES[path.suffix] for path in PAGE.iterdir() if path.suffix in _TYPES}
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


def build_app(document: Document, token: str, port: int) -> ASGIApp:
    """The application.

    Args:
        document: what is reviewed.
        token: must be in the page's URL, as ?token=...
        port: where the server listens; part of the host names that it answers to.
    """
    api = _Api(document)
    routes = [
        Route("/", _page),
        Route("/static/{name}", _static),
        Route("/api/document", api.document),
        Route("/api/examples", api.select),
        Route("/api/next", api.next_unreviewed),
        Route("/api/rows", api.rows),
        Route("/api/examples/{index:int}", api.example),
        Route("/api/examples/{index:int}", api.edit, methods=["POST"]),
        Route("/api/save", api.save, methods=["POST"]),
        Route("/api/save-as", api.save_as, methods=["POST"]),
        Route("/api/reload", api.reload, methods=["POST"]),
    ]
    return _Guard(Starlette(routes=routes), token, port)


class _Guard:
    """Lets requests through that may come from the reviewer's own page, and puts the safety headers on all answers."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._session = secrets.token_urlsafe(32)
        self._cookie = f"cattune_review_{port}"  # cookies do not tell ports apart
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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

        answer = self._refusal(request, by_token) or self._app
        await answer(scope, receive, send_safely)
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


class _Api:
    """The routes that answer with JSON; one request at a time touches the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._lock = Lock()

    async def document(self, request: Request) -> Response:
        return await self._answer(self._state)

    async def select(self, request: Request) -> Response:
        return await self._answer(partial(self._select, request.query_params))

    async def next_unreviewed(self, request: Request) -> Response:
        return await self._answer(partial(self._next, request.query_params))

    async def rows(self, request: Request) -> Response:
        return await self._answer(partial(self._rows, request.query_params.get("of", "")))

    async def example(self, request: Request) -> Response:
        return await self._answer(partial(self._example, request.path_params["index"]))

    async def edit(self, request: Request) -> Response:
        index = request.path_params["index"]
        return await self._with_body(request, lambda body: self._edit(index, body))

    async def save(self, request: Request) -> Response:
        return await self._with_body(request, self._save)

    async def save_as(self, request: Request) -> Response:
        return await self._with_body(request, self._save_as)

    async def reload(self, request: Request) -> Response:
        return await self._with_body(request, self._reload)

    def _state(self) -> dict[str, Any]:
        return document_state(self._document)

    def _select(self, query: Any) -> dict[str, Any]:
        found, counts = self._document.index.select(read_filter(query))
        return {"order": found.tolist(), "counts": counts}

    def _next(self, query: Any) -> dict[str, Any]:
        after = _whole(query.get("after", "0"))
        return {"next": self._document.index.next_unreviewed(read_filter(query), after)}

    def _rows(self, of: str) -> dict[str, Any]:
        wanted = [_whole(number) for number in of.split(",") if number]
        if len(wanted) > _MOST_ROWS:
            raise DataError(f"at most {_MOST_ROWS} rows at a time")
        return {"rows": [row_state(self._document, index) for index in wanted]}

    def _example(self, index: int) -> dict[str, Any]:
        return {"example": example_state(self._document, index)}

    def _edit(self, index: int, body: dict[str, Any]) -> dict[str, Any]:
        document, version, wanted = self._document, body.get("version"), body.get("edit")
        if type(version) is not int:
            raise DataError("an edit says which version of the example it was made on")
        if wanted == "undo":
            document.undo(index, version)
        elif wanted == "redo":
            document.redo(index, version)
        else:
            document.edit(index, version, read_edit(wanted))
        return {**self._example(index), "document": self._state(), "row": row_state(document, index)}

    def _save(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"saved": self._document.save(), "document": self._state()}

    def _save_as(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body.get("name")
        if not isinstance(name, str):
            raise DataError("expected the name of a file")
        return {"saved": self._document.save_as(name), "document": self._state()}

    def _reload(self, body: dict[str, Any]) -> dict[str, Any]:
        self._document.reload()
        return {"document": self._state()}

    async def _with_body(self, request: Request, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Response:
        data = bytearray()
        try:
            async for part in request.stream():
                data += part
                if len(data) > MOST_BYTES:
                    return _json({"error": f"requests are at most {MOST_BYTES} bytes long"}, 413)
        except ClientDisconnect:
            return Response(status_code=400)
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return _json({"error": "expected a JSON object"}, 400)
        return await self._answer(partial(work, body), request.path_params.get("index"))

    async def _answer(self, work: Callable[[], dict[str, Any]], index: int | None = None) -> Response:
        """The answer of some work; what is the user's to mend becomes a message and, where it was stale, the news."""

        def locked() -> Response:
            with self._lock:
                try:
                    return _json(work())
                except Stale as error:
                    assert index is not None  # only edits of an example are stale
                    return _json({"error": str(error), "kind": "stale", **self._example(index)}, 409)
                except FileChanged as error:
                    return _json({"error": str(error), "kind": "changed"}, 409)
                except CattuneError as error:
                    return _json({"error": str(error), "kind": "refused"}, 422)

        return await run_in_threadpool(locked)


async def _page(request: Request) -> Response:
    return _file("index.html")


async def _static(request: Request) -> Response:
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    if name not in _FILES:
        return PlainTextResponse("There is no such page.\n", 404)
    return FileResponse(PAGE / name, media_type=_FILES[name])


def _json(value: dict[str, Any], status: int = 200) -> Response:
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
    return Response(data, status, media_type="application/json")


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise DataError(f"expected a whole number, got {text!r}")
    return int(text)


def _same(given: str | None, secret: str) -> bool:
    return given is not None and secrets.compare_digest(given.encode(errors="replace"), secret.encode())
