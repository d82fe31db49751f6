"""What becomes of a request that is not answered: the reason, and whether the server or the text is to blame."""

from __future__ import annotations

import errno
import socket
import ssl

from cattune.errors import CattuneError

NO_CONNECTION = "no connection"
"""`Unanswered.reason` where nothing could be sent: refused, no such host, no TLS, no route. No text is to blame."""

TIME_OUT, CONNECTION_FAILED, MALFORMED = "time-out", "connection failed", "malformed response"

TOO_LARGE, TOO_SLOW = "reply too large", "too slow"
"""`Unanswered.reason` where a reply was not read to its end: it would be so again."""

BUSY = frozenset({"status 429", "status 503", "status 529"})
"""Reasons that no text is to blame for: the server has too much to do."""

OVERLOAD = BUSY | {TIME_OUT}
"""What shows that fewer requests should be under way."""

_SILENCE = OVERLOAD | {"status 408", CONNECTION_FAILED, NO_CONNECTION}
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENETDOWN, errno.EHOSTDOWN})


class NoAnswer(CattuneError):
    """The assistant does not answer at all, or has stopped answering; what was answered is good."""


class Unanswered(Exception):
    """One request has no answer; the others may.

    Args:
        reason: for counting, such as "status 400" or "time-out".
        detail: what the server said, without secrets.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    @property
    def is_silence(self) -> bool:
        """Whether the server, and not the text, may be to blame: it may be gone."""
        return self.reason in _SILENCE or self.reason.startswith("status 5")

    @property
    def advice(self) -> str:
        """What the user can look after, where the server answers nobody."""
        if self.reason in BUSY:
            return "it has too much to do, or limits how much may be asked: --requests-per-minute, or later"
        if self.reason == MALFORMED:
            return "is this the address of a chat endpoint?"
        if self.reason.startswith("status 5"):
            return "its log may say why"
        return "is it running, and is the address right?"


def first_cause(error: BaseException) -> BaseException:
    """What went wrong at first: the layers in between take one kind for another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def connection_failure(cause: BaseException) -> str:
    """The reason of a connection that failed, by its first cause."""
    if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
        return TIME_OUT
    never_sent = isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLError) or (
        isinstance(cause, OSError) and cause.errno in _UNREACHABLE
    )
    return NO_CONNECTION if never_sent else CONNECTION_FAILED
