"""The routes of the review page.

The server is for people on this machine; `guard` sees to that. A page runs no script but its own files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from cattune.errors import CattuneError, DataError
from cattune.review.document import Document
from cattune.review.guard import Guard
from cattune.review.problems import FileChanged, Stale
from cattune.review.wire import document_state, example_state, read_edit, read_filter, row_state

PAGE = Path(__file__).parent / "static"
MOST_BYTES = 1 << 20
"""The longest request that is read."""
_MOST_ROWS = 500
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {path.name: _TYPES[path.suffix] for path in PAGE.iterdir() if path.suffix in _TYPES}


def build_app(document: Document, token: str, port: int, entered: Callable[[], None] | None = None) -> ASGIApp:
    """The application.

    Args:
        document: what is reviewed.
        token: must be in the page's URL, as ?token=...
        port: where the server listens; part of the host names that it answers to.
        entered: is called when the page has been opened with the token.
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
    return Guard(Starlette(routes=routes), token, port, entered or (lambda: None))


class _Api:
    """The routes that answer with JSON; one request at a time touches the document."""

    def __init__(self, document: Document) -> None:
        self._document = document

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
        """The answer of some work; what the user can fix becomes a message and, where it was stale, the news."""

        def locked() -> Response:
            with self._document.alone:
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
