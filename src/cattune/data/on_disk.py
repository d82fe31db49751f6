"""Sets, shelves and lists in temporary files, so that a million entries take no memory.

Each is an SQLite database without a name, which the system removes with the process; its pages are written to the disk
when there are more than a few megabytes of them. They are used from the thread that made them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class _Temporary:
    """A database of one table; a context manager."""

    def __init__(self, table: str) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # "": a temporary file
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(f"CREATE TABLE {table}")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove it."""
        self._database.close()


class SeenKeys(_Temporary):
    """A set of short texts or bytes."""

    def __init__(self) -> None:
        super().__init__("seen (key PRIMARY KEY, note INTEGER) WITHOUT ROWID")

    def add(self, key: str | bytes, note: int = 0) -> int | None:
        """Put a key in; return the note that it was put in with before, None if it is new."""
        key = _bytes(key)
        cursor = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, note))
        if cursor.rowcount:
            return None
        return int(self._database.execute("SELECT note FROM seen WHERE key = ?", (key,)).fetchone()[0])


class Shelf(_Temporary):
    """Values by a key and a place under it, each taken out once."""

    def __init__(self) -> None:
        super().__init__("shelf (number INTEGER PRIMARY KEY, key BLOB, place INTEGER, value BLOB)")
        self._database.execute("CREATE UNIQUE INDEX by_key ON shelf (key, place)")

    def put(self, key: str, place: int, value: bytes) -> bool:
        """Put a value in; False where one is there already, which stays."""
        sql = "INSERT OR IGNORE INTO shelf (key, place, value) VALUES (?, ?, ?)"
        return self._database.execute(sql, (_bytes(key), place, value)).rowcount == 1

    def take(self, key: str | bytes) -> list[tuple[int, bytes]]:
        """Take out the values of a key, each with its place, by place."""
        name = (_bytes(key),)
        rows = self._database.execute("SELECT place, value FROM shelf WHERE key = ? ORDER BY place", name).fetchall()
        if rows:
            self._database.execute("DELETE FROM shelf WHERE key = ?", name)
        return rows

    def take_all(self) -> Iterator[list[tuple[int, bytes]]]:
        """Take out what is left, key by key, in the order in which the keys were put in."""
        last = -1
        while row := self._database.execute(
            "SELECT number, key FROM shelf WHERE number > ? ORDER BY number LIMIT 1", (last,)
        ).fetchone():
            last, key = row
            yield self.take(key)


class Grouped(_Temporary):
    """A list of texts that comes out group by group, in the order in which the groups came in."""

    def __init__(self) -> None:
        super().__init__("entries (number INTEGER PRIMARY KEY, rank INTEGER, value TEXT)")
        self._ranks: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, group: str, value: str) -> None:
        """Add an entry at the end of its group."""
        rank = self._ranks.setdefault(group, len(self._ranks))
        self._database.execute("INSERT INTO entries (rank, value) VALUES (?, ?)", (rank, value))
        self._count += 1

    def __iter__(self) -> Iterator[str]:
        for (value,) in self._database.execute("SELECT value FROM entries ORDER BY rank, number"):
            yield value


def _bytes(key: str | bytes) -> bytes:
    """A key as SQLite takes any: also with half of a surrogate pair in it."""
    return key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
