"""Runs the review page on this machine's loopback address until it is interrupted."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

import uvicorn

from cattune.errors import ConfigError
from cattune.review.app import build_app
from cattune.review.document import Document

HOST = "127.0.0.1"


def listen(port: int) -> socket.socket:
    """A socket on the loopback address; port 0 takes a free one.

    Raises:
        ConfigError: The port is in use, or not for users.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # else a port that was used a minute ago is refused; elsewhere it would allow two owners
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is in use" if used else f"cannot be had ({getattr(error, 'strerror', None) or error})"
        raise ConfigError(f"port {port} {reason}; leave --port out to take a free one") from None
    return listener


def serve(document: Document, listener: socket.socket, started: Callable[[str], None]) -> None:
    """Serve a document until Ctrl-C; `started` is told the page's URL, with its token."""
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(24)
    config = uvicorn.Config(
        build_app(document, token, port),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
    )
    started(f"http://{HOST}:{port}/?token={token}")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def open_browser(url: str) -> None:
    """Show a URL in the user's browser, where there is a screen to show it on."""
    import webbrowser

    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    Thread(target=webbrowser.open, args=(url,), daemon=True).start()
