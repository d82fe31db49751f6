"""A chat endpoint in a thread of this process that behaves as a function says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from assistant_server import completion

Answer = tuple[int, Any, Mapping[str, str]]
"""A status, a body (bytes as they are, else as JSON) and headers."""


FINE = '{"said": "fine"}'


def good(text: str = FINE, **message: Any) -> Answer:
    """A chat completion with this text."""
    payload = completion("m", text, "stop", 3, 4)
    payload["choices"][0]["message"] |= message
    return 200, payload, {}


def refused(status: int, message: str = "no", headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    """An error in OpenAI's form."""
    return status, {"error": {"message": message, **more}}, headers or {}


class Server:
    """Its address, and the requests that came."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        """The bodies, with the path as `path`."""


@contextmanager
def behaving(
    answer: Callable[[int, dict[str, Any]], Answer] | None = None,
    raw: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None,
) -> Iterator[Server]:
    """A server that answers the n-th request, counted from 1, as `answer` says; or does with it what `raw` does."""
    server, lock = Server(), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                server.requests.append({**request, "path": self.path})
                number = len(server.requests)
            with suppress(OSError):
                if raw is not None:
                    raw(self)
                elif answer is not None:
                    self.give(*answer(number, request))

        def give(self, status: int, body: Any, headers: Mapping[str, str]) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        running.block_on_close = False
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        server.url = f"http://127.0.0.1:{running.server_port}/v1"
        try:
            yield server
        finally:
            running.shutdown()
