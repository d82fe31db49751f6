"""The thread that writes to a store, and the sign of life that keeps its process's claims."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from cattune.annotation.store.schema import connect, explained, void_claims
from cattune.errors import OutputError

T = TypeVar("T")

BEAT_S = 3.0
"""How often a process tells that it lives."""

Job: TypeAlias = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]


class Writer:
    """Runs jobs on a connection of its own: what has gathered goes into one transaction.

    Args:
        path: the store's file.

    Raises:
        OutputError: The file cannot be used.
    """

    owner: int
    """The number of this process among those that work on the store."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="cattune-store", daemon=True)
        self._thread.start()
        self.owner = started.result()

    def submit(self, run: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Have a job done; the future is done when its transaction is on the disk."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()  # whoever stops waiting does not take back what is to be written
        if self._closed:
            future.set_exception(OutputError(f"the store {str(self._path)!r} is closed"))
        else:
            self._queue.put((run, future))
        return future

    def close(self) -> None:
        """Do what is waiting, give up all claims, and end."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _run(self, started: Future[int]) -> None:
        try:
            database = connect(self._path)
            with explained(self._path):
                owner = _transaction(database, lambda it: _register(it, None))
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(owner)
        running, beat = True, time.monotonic()
        while running:
            jobs, running = self._gathered()
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                jobs.append((lambda it: _beat(it, owner), Future()))
            if jobs:
                self._write(database, jobs)
        self._write(database, [(lambda it: _leave(it, owner), Future())])
        database.close()

    def _gathered(self) -> tuple[list[Job], bool]:
        """What waits to be written, at the latest when the next beat is due; False when the end was among it."""
        jobs: list[Job] = []
        wait = BEAT_S
        while True:
            try:
                job = self._queue.get(timeout=wait) if wait else self._queue.get_nowait()
            except queue.Empty:
                return jobs, True
            if job is None:
                return jobs, False
            jobs.append(job)
            wait = 0.0

    def _write(self, database: sqlite3.Connection, jobs: list[Job]) -> None:
        try:
            with explained(self._path):
                results = _transaction(database, lambda it: [run(it) for run, _ in jobs])
        except BaseException as error:
            for _, future in jobs:
                future.set_exception(error)
            return
        for (_, future), result in zip(jobs, results, strict=True):
            future.set_result(result)


class Wakeups:
    """Lets coroutines wait for what the writing thread does, waking their loop once for all of a transaction.

    Args:
        loop: the one that they run in.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._lock = threading.Lock()

    async def written(self, future: Future[T]) -> T:
        """The result of a job, when its transaction is on the disk."""
        waiter: asyncio.Future[T] = self._loop.create_future()
        future.add_done_callback(lambda done: self._told(waiter, done))
        return await waiter

    def _told(self, waiter: asyncio.Future[Any], done: Future[Any]) -> None:
        with self._lock:  # a job that is done by now is told of by the loop's thread, others by the writing one
            self._ready.append((waiter, done))
            is_first = len(self._ready) == 1
        if is_first:  # else the loop has been woken and has not yet come to the end of the queue
            with suppress(RuntimeError):  # it is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        while self._ready:
            waiter, done = self._ready.popleft()
            if waiter.done():
                continue
            error = done.exception()
            if error is None:
                waiter.set_result(done.result())
            else:
                waiter.set_exception(error)


def _register(database: sqlite3.Connection, owner: int | None) -> int:
    """Enter this process among the owners; drop those that are dead."""
    void_claims(database)
    row = database.execute(
        "INSERT INTO owners (id, pid, host, beat) VALUES (?, ?, ?, ?)",
        (owner, os.getpid(), socket.gethostname(), time.time()),
    )
    assert row.lastrowid is not None
    return row.lastrowid


def _beat(database: sqlite3.Connection, owner: int) -> None:
    done = database.execute("UPDATE owners SET beat = ? WHERE id = ?", (time.time(), owner))
    if done.rowcount:
        void_claims(database)
    else:  # this process was frozen for so long that another took it for dead
        _register(database, owner)


def _leave(database: sqlite3.Connection, owner: int) -> None:
    database.execute("DELETE FROM claims WHERE owner = ?", (owner,))
    database.execute("DELETE FROM owners WHERE id = ?", (owner,))


def _transaction(database: sqlite3.Connection, run: Callable[[sqlite3.Connection], T]) -> T:
    database.execute("BEGIN IMMEDIATE")
    try:
        result = run(database)
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # on a full disk SQLite has rolled back by itself
            database.execute("ROLLBACK")
        raise
    return result
