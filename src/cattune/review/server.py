"""Runs the review page on this machine's loopback address until it is interrupted."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress

import uvicorn

from cattune.errors import ConfigError
from cattune.review.app import build_app
from cattune.review.browser import Doorway
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


def serve(document: Document, listener: socket.socket, started: Callable[[str], None], browser: bool) -> None:
    """Serve a document until Ctrl-C.

    Args:
        document: what is reviewed.
        listener: see `listen`.
        started: is told the page's URL, with its token.
        browser: whether to open the page.
    """
    port = listener.getsockname()[1]
    token = secrets.token_urlsafe(24)
    url = f"http://{HOST}:{port}/?token={token}"
    with ExitStack() as stack:
        doorway = None
        if browser:
            with suppress(OSError):  # the URL is printed
                doorway = Doorway(url)
                stack.callback(doorway.close)
        config = uvicorn.Config(
            build_app(document, token, port, doorway.close if doorway else None),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        started(url)
        if doorway:
            doorway.show()
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
