"""Every reply that was paid for, in one SQLite file: asked once, kept for good, shared by processes.

A reply is kept under the SHA-256 of the request that it answers (`request_key`), so the same request is never sent
twice, whichever run, input file or process it comes from. The file is in WAL mode with `synchronous=FULL`: what
`save` has returned from survives a kill -9 of the process, and a power cut where the disk keeps its word on fsync.

One thread writes (`writer`), and takes what has gathered into one transaction: many replies cost one fsync.

Processes on one store share the work: who is about to send a request claims its key first. A process tells every few
seconds that it lives; the claims of one that has been silent for `LEASE_S`, or whose process id is gone, are void.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cattune.annotation.store.presence import opening, removing
from cattune.annotation.store.schema import LEASE_S, connect, explained, is_empty
from cattune.annotation.store.writer import Writer

OURS, STORED, TAKEN = "ours", "stored", "taken"
"""What became of a claim: the request is ours to send; it is answered already; another process is asking it."""


@dataclass(frozen=True, slots=True)
class StoredReply:
    """What an assistant model answered, as it came, and the tokens that were billed for it."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no usable reply: `reason` for counting, `detail` for people, `raw` as the server sent it.

    `example` is the id of an example that it was about, or "" where that is not known.
    """

    key: bytes
    reason: str
    detail: str
    raw: str
    example: str = ""


@dataclass(frozen=True, slots=True)
class Spent:
    """Tokens of all replies that a store has had from a model."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class InputNote:
    """The state in which an input file was last seen: the SHA-256 of its bytes, and how many examples it had."""

    sha256: str
    examples: int


@dataclass(frozen=True, slots=True)
class OutputNote:
    """An output file as a run wrote it.

    Args:
        sha256: of its bytes.
        command: what the run was to do, see `output.command_key`.
        unanswered: examples of which a request had no reply.
        unusable: examples whose replies could not be used.
    """

    sha256: str
    command: str
    unanswered: int
    unusable: int


_FAILURE = (
    "failures.key, reason, detail, raw, coalesce(example, '') FROM failures "
    "LEFT JOIN failed_examples ON failed_examples.key = failures.key"
)


def request_key(
    messages: Sequence[Mapping[str, str]], model: str, parameters: Mapping[str, Any], version: str
) -> bytes:
    """The key of a request: SHA-256 of the canonical JSON of all that decides the reply; 32 bytes."""
    request = [version, model, parameters, messages]
    text = json.dumps(request, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).digest()


class Store:
    """An open store; a context manager. Reads are made by the thread that opened it, writes by one of its own.

    A store that holds nothing when it is closed is removed, unless somebody else has it open.

    A writing method returns a `Future`, done when the transaction is on the disk. Every `sqlite3.Error` becomes an
    `OutputError` that names the file and says what to do.

    Args:
        path: the file; it is made where there is none.

    Raises:
        OutputError: The file cannot be opened, is no store, or is one of a newer release.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._closed = False
        with opening(self.path):
            self._reader = connect(self.path)
            try:
                self._writer = Writer(self.path)
            except BaseException:
                self._reader.close()
                raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is waiting, give up all claims, and close the file."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        with removing(self.path) as nobody_comes:
            empty = False
            with suppress(sqlite3.Error):  # what cannot be read is no empty store
                empty = nobody_comes and is_empty(self._reader)
            self._reader.close()
            if empty:
                with suppress(OSError):
                    os.unlink(os.path.realpath(self.path))

    # Reading.

    def get(self, key: bytes) -> StoredReply | None:
        """The stored reply to a request."""
        row = self._row("SELECT text, finish_reason, prompt_tokens, completion_tokens FROM replies WHERE key = ?", key)
        return None if row is None else StoredReply(*row)

    def failure(self, key: bytes) -> Failure | None:
        """The failure of a request that has not been given another chance since."""
        row = self._row(f"SELECT {_FAILURE} WHERE failures.key = ? AND open", key)
        return None if row is None else Failure(*row)

    def failures(self) -> Iterator[tuple[Failure, int, bool]]:
        """Every failure there ever was, oldest first, with the number of its attempt, from 1, and whether it stands."""
        sql = f"SELECT attempt, open, {_FAILURE} ORDER BY failures.rowid"
        with explained(self.path):
            for attempt, is_open, *failure in self._reader.execute(sql):
                yield Failure(*failure), attempt, bool(is_open)

    def spent(self, model: str) -> Spent:
        """What all replies of a model have cost, in tokens, those that were given up since included."""
        row = self._row("SELECT requests, prompt_tokens, completion_tokens FROM spent WHERE model = ?", model)
        return Spent() if row is None else Spent(*row)

    def input_note(self, name: str) -> InputNote | None:
        """What was noted of an input file."""
        row = self._row("SELECT sha256, examples FROM inputs WHERE name = ?", name)
        return None if row is None else InputNote(*row)

    def output_note(self, name: str) -> OutputNote | None:
        """What was noted of an output file."""
        row = self._row("SELECT sha256, command, unanswered, unusable FROM outputs WHERE name = ?", name)
        return None if row is None else OutputNote(*row)

    def _row(self, sql: str, *values: Any) -> tuple[Any, ...] | None:
        with explained(self.path):
            row: tuple[Any, ...] | None = self._reader.execute(sql, values).fetchone()
        return row

    # Writing.

    def claim(self, key: bytes) -> Future[str]:
        """Ask for the right to send a request: `OURS`, `STORED` or `TAKEN`. Ours is held until it is
        saved, failed or released.
        """

        def run(database: sqlite3.Connection) -> str:
            if database.execute("SELECT 1 FROM replies WHERE key = ?", (key,)).fetchone():
                return STORED
            done = database.execute(
                "INSERT INTO claims (key, owner) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET owner = excluded.owner "
                "WHERE owner = excluded.owner OR owner NOT IN (SELECT id FROM owners WHERE beat > ?)",
                (key, self._writer.owner, time.time() - LEASE_S),
            )
            return OURS if done.rowcount == 1 else TAKEN

        return self._writer.submit(run)

    def release(self, key: bytes) -> Future[None]:
        """Give up a claim."""

        def run(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._writer.owner))

        return self._writer.submit(run)

    def save(self, key: bytes, model: str, reply: StoredReply) -> Future[None]:
        """Keep a reply. A key that has one keeps it, but what both cost is counted."""
        values = (key, reply.text, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens, time.time())

        def run(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT OR IGNORE INTO replies (key, text, finish_reason, prompt_tokens, completion_tokens, created) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                values,
            )
            database.execute("DELETE FROM claims WHERE key = ?", (key,))
            database.execute(
                "INSERT INTO spent VALUES (?, 1, ?, ?) ON CONFLICT (model) DO UPDATE SET requests = requests + 1, "
                "prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
                "completion_tokens = completion_tokens + excluded.completion_tokens",
                (model, reply.prompt_tokens, reply.completion_tokens),
            )

        return self._writer.submit(run)

    def fail(self, failures: Sequence[Failure]) -> Future[None]:
        """Keep failures; a request whose failure stands already keeps that one."""

        def run(database: sqlite3.Connection) -> None:
            for f in failures:
                attempts, stand = database.execute(
                    "SELECT count(*), total(open) FROM failures WHERE key = ?", (f.key,)
                ).fetchone()
                if not stand:
                    database.execute(
                        "INSERT INTO failures (key, attempt, reason, detail, raw, created, open) "
                        "VALUES (?, ?, ?, ?, ?, ?, 1)",
                        (f.key, attempts + 1, f.reason, f.detail, f.raw, time.time()),
                    )
                if f.example:
                    database.execute("INSERT OR REPLACE INTO failed_examples VALUES (?, ?)", (f.key, f.example))
                database.execute("DELETE FROM claims WHERE key = ?", (f.key,))

        return self._writer.submit(run)

    def reopen(self, keys: Sequence[bytes]) -> Future[None]:
        """Give failed requests another chance: their failures no longer stand, and their replies are set aside.

        The raw replies stay in the table of failures; a reply without a failure there stays where it is.
        """

        def run(database: sqlite3.Connection) -> None:
            for key in keys:
                database.execute(
                    "DELETE FROM replies WHERE key = ?1 AND EXISTS (SELECT 1 FROM failures WHERE key = ?1 AND open)",
                    (key,),
                )
                database.execute("UPDATE failures SET open = 0 WHERE key = ?", (key,))

        return self._writer.submit(run)

    def note_input(self, name: str, note: InputNote) -> Future[None]:
        """Remember in which state an input file is."""

        def run(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT OR REPLACE INTO inputs (name, sha256, examples, seen) VALUES (?, ?, ?, ?)",
                (name, note.sha256, note.examples, time.time()),
            )

        return self._writer.submit(run)

    def note_output(self, name: str, note: OutputNote) -> Future[None]:
        """Remember in which state an output file was left."""
        values = (name, note.sha256, note.command, note.unanswered, note.unusable, time.time())

        def run(database: sqlite3.Connection) -> None:
            database.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?, ?, ?, ?, ?)", values)

        return self._writer.submit(run)
