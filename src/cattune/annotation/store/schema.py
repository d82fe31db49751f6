"""The store's tables, its connections, and what SQLite's errors mean to the user."""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cattune.data.own_kinds import STORE_MARK
from cattune.errors import OutputError

SCHEMA_VERSION = 1
APPLICATION_ID = int.from_bytes(STORE_MARK)

BUSY_S = 30.0
"""How long to wait while another process writes."""

LEASE_S = 15.0
"""A process that has not told for so long that it lives is taken for dead, and its claims for void."""

_TABLES = """
CREATE TABLE replies (
    key BLOB PRIMARY KEY, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, created REAL NOT NULL
);
CREATE TABLE failures (
    key BLOB NOT NULL, attempt INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, raw TEXT NOT NULL,
    created REAL NOT NULL, open INTEGER NOT NULL, UNIQUE (key, attempt)
);
CREATE TABLE spent (
    model TEXT PRIMARY KEY, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL
);
CREATE TABLE inputs (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, examples INTEGER NOT NULL, seen REAL NOT NULL);
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pid INTEGER NOT NULL, host TEXT NOT NULL, beat REAL NOT NULL
);
CREATE TABLE claims (key BLOB PRIMARY KEY, owner INTEGER NOT NULL) WITHOUT ROWID;
"""
_LATER_TABLES = """
CREATE TABLE IF NOT EXISTS outputs (
    name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, command TEXT NOT NULL, unanswered INTEGER NOT NULL,
    unusable INTEGER NOT NULL, written REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS failed_examples (key BLOB PRIMARY KEY, example TEXT NOT NULL) WITHOUT ROWID;
"""  # a release that does not know one does without it

_ADVICE = (
    (
        ("disk is full",),
        "the disk is full; free some space and run the same command again: all that was stored is kept",
    ),
    (("locked", "busy"), "another program holds the file; end it, or choose another file with --store"),
    (("readonly", "read-only"), "the file or its folder is read-only; choose another file with --store"),
    (("unable to open",), "it cannot be opened; check that the folder exists and may be written to"),
    (
        ("not a database", "malformed", "file is encrypted"),
        "it is no store, or a damaged one; choose another file with --store",
    ),
    (("disk I/O error",), "the disk or the network drive failed; put the store on a local disk with --store"),
)


@contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what SQLite says into an `OutputError` about the file."""
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        advice = next((advice for words, advice in _ADVICE if any(word in text for word in words)), text)
        raise OutputError(f"the store {str(path)!r} cannot be used: {advice} (SQLite: {text})") from error


def connect(path: Path) -> sqlite3.Connection:
    """Open the store, or make it; transactions are begun and ended by hand.

    Raises:
        OutputError: The file cannot be opened, is no store, is one of a newer release, or lies where WAL cannot be.
    """
    if os.path.isdir(path):
        raise OutputError(f"the store {str(path)!r} is a folder; name a file with --store")
    with explained(path):
        with suppress(OSError):  # SQLite says what is wrong
            path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise OutputError(
                    f"the store {str(path)!r} lies where SQLite has no write-ahead log (journal mode {mode!r}), as on "
                    "some network drives; put it on a local disk with --store"
                )
            # FULL: fsync at every commit. NORMAL would survive a kill of the process, but not a power cut.
            database.execute("PRAGMA synchronous = FULL")
            _check_schema(database, path)
        except BaseException:
            database.close()
            raise
    return database


def _check_schema(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")  # of two processes that come at once, one makes the tables
    try:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        mark = database.execute("PRAGMA application_id").fetchone()[0]
        empty = not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty:
            _make(database, _TABLES)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif mark != APPLICATION_ID:
            raise OutputError(f"{str(path)!r} is another program's database; choose another file with --store")
        elif version != SCHEMA_VERSION:
            raise OutputError(
                f"the store {str(path)!r} has schema version {version}, and this release of cattune reads "
                f"{SCHEMA_VERSION}; use the release that wrote it, or choose another file with --store"
            )
        _make(database, _LATER_TABLES)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _make(database: sqlite3.Connection, tables: str) -> None:
    for statement in filter(str.strip, tables.split(";")):
        database.execute(statement)


def is_empty(database: sqlite3.Connection) -> bool:
    """Whether a store holds nothing that anybody would miss, and nobody has it open."""
    tables = ("replies", "failures", "spent", "outputs", "owners")
    return not any(database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in tables)


def void_claims(database: sqlite3.Connection) -> None:
    """Drop the owners that are dead, and the claims that nobody alive holds."""
    late = time.time() - LEASE_S
    for owner, pid, host, beat in database.execute("SELECT id, pid, host, beat FROM owners").fetchall():
        if beat < late or (host == socket.gethostname() and not _is_alive(pid)):
            database.execute("DELETE FROM owners WHERE id = ?", (owner,))
    database.execute("DELETE FROM claims WHERE owner NOT IN (SELECT id FROM owners)")


def _is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; where the system has no harmless way to ask, yes."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
