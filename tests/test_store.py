"""The store: what it has said it keeps stays, whoever is killed, and two processes do not ask the same thing."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.annotation.store import schema, writer
from cattune.annotation.store.store import (
    OURS,
    STORED,
    TAKEN,
    Failure,
    InputNote,
    OutputNote,
    Spent,
    Store,
    StoredReply,
    request_key,
)
from cattune.errors import OutputError

MESSAGES = [{"role": "user", "content": "What is it? \u05d0 😀"}]
KEY = request_key(MESSAGES, "m", {}, "1")
OTHER = request_key(MESSAGES, "m", {}, "2")
REPLY = StoredReply("it is 4", "stop", 10, 3)
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def script(path: Path, code: str) -> subprocess.Popen[str]:
    """A process with the store open as `s`."""
    begin = f"from cattune.annotation.store.store import *\nimport sys, time\nwith Store({str(path)!r}) as s:\n"
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return subprocess.Popen(
        [sys.executable, "-c", begin + body], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("model", "parameters", "version", "messages"),
    [
        ("n", {}, "1", MESSAGES),
        ("m", {"temperature": 0}, "1", MESSAGES),
        ("m", {}, "2", MESSAGES),
        ("m", {}, "1", [*MESSAGES, *MESSAGES]),
        ("m", {}, "1", [{"role": "system", "content": MESSAGES[0]["content"]}]),
    ],
)
def test_key_depends_on_all_that_decides_the_reply(model, parameters, version, messages) -> None:
    assert request_key(messages, model, parameters, version) != KEY


def test_key_does_not_depend_on_the_order_of_parameters() -> None:
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert request_key(MESSAGES, "m", one, "1") == request_key(MESSAGES, "m", other, "1")
    assert len(KEY) == 32


@settings(max_examples=25, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])), detail=st.text(st.characters(exclude_categories=["Cs"])))
def test_texts_come_back_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, text: str, detail: str) -> None:
    with Store(tmp_path_factory.mktemp("store") / "store") as store:
        reply = StoredReply(text, "length", 0, 2**40)
        store.save(KEY, "m", reply).result()
        store.fail([Failure(KEY, "truncated", detail, text)]).result()
        assert store.get(KEY) == reply
        assert store.failure(KEY) == Failure(KEY, "truncated", detail, text)


def test_first_reply_stays_and_every_one_is_counted(store: Store) -> None:
    store.save(KEY, "m", REPLY).result()
    store.save(KEY, "m", StoredReply("another", "stop", 1, 1)).result()
    assert store.get(KEY) == REPLY
    assert store.spent("m") == Spent(2, 11, 4)
    assert store.spent("n") == Spent()


def test_failures_keep_every_attempt_with_its_raw_reply(store: Store) -> None:
    for text in ("first", "second"):
        store.save(KEY, "m", StoredReply(text, "stop", 5, 5)).result()
        store.fail([Failure(KEY, "no_json", "prose", text)]).result()
        store.fail([Failure(KEY, "no_json", "told twice", text)]).result()
        assert store.failure(KEY) is not None
        store.reopen([KEY]).result()
        assert store.failure(KEY) is None
        assert store.get(KEY) is None
    assert [(f.raw, f.detail, attempt, stands) for f, attempt, stands in store.failures()] == [
        ("first", "prose", 1, False),
        ("second", "prose", 2, False),
    ]
    assert store.spent("m").requests == 2  # what was given up was paid for all the same


def test_reopening_never_loses_a_reply_that_is_not_kept_as_a_failure(store: Store) -> None:
    store.save(KEY, "m", REPLY).result()
    store.reopen([KEY]).result()
    assert store.get(KEY) == REPLY


def test_input_notes(store: Store) -> None:
    assert store.input_note("a") is None
    for note in (InputNote("00", 1), InputNote("11", 2)):
        store.note_input("a", note).result()
        assert store.input_note("a") == note


def test_claims(store: Store, tmp_path: Path) -> None:
    with Store(tmp_path / "store") as other:
        assert store.claim(KEY).result() == OURS
        assert store.claim(KEY).result() == OURS
        assert other.claim(KEY).result() == TAKEN
        store.release(KEY).result()
        assert other.claim(KEY).result() == OURS
        other.save(KEY, "m", REPLY).result()
        assert store.claim(KEY).result() == STORED
        other.claim(OTHER).result()
    assert store.claim(OTHER).result() == OURS  # whoever leaves gives up what it claimed


def test_claims_of_a_killed_process_are_void_at_once(tmp_path: Path) -> None:
    process = script(tmp_path / "store", f"print(s.claim({KEY!r}).result(), flush=True)\ntime.sleep(60)")
    assert line_of(process) == OURS
    with Store(tmp_path / "store") as store:
        assert store.claim(KEY).result() == TAKEN
    process.kill()
    process.wait()
    with Store(tmp_path / "store") as store:
        assert store.claim(KEY).result() == OURS


def test_claims_of_a_silent_process_lapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a machine that went to sleep, or one that is not seen from here."""
    monkeypatch.setattr(schema, "_is_alive", lambda pid: True)
    process = script(tmp_path / "store", f"print(s.claim({KEY!r}).result(), flush=True)\ntime.sleep(60)")
    assert line_of(process) == OURS
    os.kill(process.pid, signal.SIGSTOP)
    with Store(tmp_path / "store") as store:
        assert store.claim(KEY).result() == TAKEN
        with sqlite3.connect(tmp_path / "store") as database:
            database.execute("UPDATE owners SET beat = beat - ?", (schema.LEASE_S + 1,))
        assert store.claim(KEY).result() == OURS
    process.kill()
    process.wait()


def test_a_process_that_lives_keeps_its_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BEAT_S", 0.05)
    monkeypatch.setattr(schema, "LEASE_S", 0.5)
    monkeypatch.setattr("cattune.annotation.store.store.LEASE_S", 0.5)
    with Store(tmp_path / "store") as one, Store(tmp_path / "store") as other:
        one.claim(KEY).result()
        time.sleep(0.8)
        assert other.claim(KEY).result() == TAKEN


def test_what_is_stored_survives_a_kill(tmp_path: Path) -> None:
    code = """
for i in range(100000):
    s.save(i.to_bytes(32, "big"), "m", StoredReply(str(i), "stop", 1, 1)).result()
    print(i, flush=True)
"""
    process = script(tmp_path / "store", code)
    while int(line_of(process)) < 200:
        pass
    process.kill()
    assert process.stdout is not None
    said = [*process.stdout.read().split("\n")[:-1]] or ["200"]
    process.wait()
    with Store(tmp_path / "store") as store:
        for i in range(int(said[-1]) + 1):
            reply = store.get(i.to_bytes(32, "big"))
            assert reply is not None and reply.text == str(i)
        assert store.spent("m").requests - int(said[-1]) in (1, 2)  # at most the one that it was about to tell of
        assert store._reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_commits_reach_the_disk_before_they_are_told(store: Store) -> None:
    """2 is FULL: SQLite calls fsync at every commit, so that a power cut takes nothing back either."""
    assert store._writer.submit(lambda it: it.execute("PRAGMA synchronous").fetchone()).result() == (2,)
    assert store._reader.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.slow
def test_two_processes_write_at_once(tmp_path: Path) -> None:
    code = """
def key(i): return i.to_bytes(32, "big")
done = 0
for i in range(400):
    if s.claim(key(i)).result() == OURS:
        s.save(key(i), "m", StoredReply(str(i), "stop", 1, 1)).result()
        done += 1
print(done, flush=True)
"""
    processes = [script(tmp_path / "store", code) for _ in range(3)]
    done = [int(line_of(process)) for process in processes]
    assert [process.wait() for process in processes] == [0, 0, 0]
    with Store(tmp_path / "store") as store:
        assert sum(done) == store.spent("m").requests == 400
        assert all(store.get(i.to_bytes(32, "big")) for i in range(400))


def test_a_file_that_is_no_store_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(OutputError, match=r"notes\.txt.*no store"):
        Store(path)
    assert path.read_text() == "not a database, " * 100


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store") as database:
        database.execute("CREATE TABLE birds (name TEXT)")
    with pytest.raises(OutputError, match="another program's database"):
        Store(tmp_path / "store")


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with sqlite3.connect(tmp_path / "store") as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="schema version 99"):
        Store(tmp_path / "store")


def test_a_store_of_an_earlier_release_is_taken_on(tmp_path: Path) -> None:
    filled(tmp_path / "store")
    with sqlite3.connect(tmp_path / "store") as database:
        database.execute("DROP TABLE outputs")
    with Store(tmp_path / "store") as store:
        assert store.get(KEY) == REPLY
        note = OutputNote("0" * 64, "command", 1, 2)
        store.note_output("out", note).result()
        assert (store.output_note("out"), store.output_note("other")) == (note, None)


def filled(path: Path) -> None:
    with Store(path) as store:
        store.save(KEY, "m", REPLY).result()


def test_an_empty_store_is_not_left_behind(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        store.note_input("in", InputNote("0" * 64, 1)).result()
        store.claim(KEY).result()
        assert (tmp_path / "store").exists()
    assert not list(tmp_path.iterdir())


def test_a_store_that_another_has_open_is_not_removed(tmp_path: Path) -> None:
    first, second = Store(tmp_path / "store"), Store(tmp_path / "store")
    first.close()
    second.save(KEY, "m", REPLY).result()
    second.close()
    with Store(tmp_path / "store") as store:
        assert store.get(KEY) == REPLY


def test_what_is_stored_while_others_come_and_go_is_there(tmp_path: Path) -> None:
    """Processes that open and close an empty store, which is removed each time, while others put replies into it."""
    begin = "import sys\nfrom cattune.annotation.store.store import *\n"
    comes_and_goes = f"{begin}for _ in range(60):\n    Store(sys.argv[1]).close()\n"
    puts = f"""{begin}
for _ in range(20):
    Store(sys.argv[1]).close()
with Store(sys.argv[1]) as store:
    store.save(sys.argv[2].encode() * 32, "m", StoredReply("a", "stop", 1, 1)).result()
"""
    commands = [(comes_and_goes, "x"), *((puts, str(i)) for i in range(3))]
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "store"), name], env=ENVIRONMENT)
        for code, name in commands
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    with Store(tmp_path / "store") as store:
        assert all(store.get(str(i).encode() * 32) for i in range(3))


@pytest.mark.parametrize("name", ["", "file/store"])
def test_places_where_no_store_can_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--store|folder"):
        Store(tmp_path / name)


def test_its_folder_is_made(tmp_path: Path) -> None:
    filled(tmp_path / "new" / "folder" / "store")
    assert (tmp_path / "new" / "folder" / "store").is_file()


def test_a_database_that_another_program_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_S", 0.1)
    Store(tmp_path / "store").close()
    database = sqlite3.connect(tmp_path / "store", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OutputError, match="another program holds the file"):
        Store(tmp_path / "store")
    database.close()


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """The limit on the size of files is what a full disk is to SQLite: a write that fails."""
    code = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
from cattune.errors import OutputError
done = 0
try:
    for i in range(1000):
        s.save(i.to_bytes(32, "big"), "m", StoredReply("x" * 5000, "stop", 1, 1)).result()
        done += 1
except OutputError as error:
    print(done, error, flush=True)
"""
    process = script(tmp_path / "store", code)
    done, _, message = line_of(process).partition(" ")
    process.wait()
    assert "full" in message or "disk" in message
    assert "cannot be used" in message
    with Store(tmp_path / "store") as store:
        assert 0 < int(done) <= store.spent("m").requests
        assert all(store.get(i.to_bytes(32, "big")) for i in range(int(done)))


def test_who_stops_waiting_takes_nothing_back(store: Store) -> None:
    assert not store.save(KEY, "m", REPLY).cancel()
    store.release(OTHER).result()
    assert store.get(KEY) == REPLY


def test_no_waiting_coroutine_is_forgotten(store: Store) -> None:
    async def many() -> int:
        wakeups = writer.Wakeups(asyncio.get_running_loop())

        async def work(number: int) -> int:
            for i in range(200):
                future = store.claim(number.to_bytes(16, "big") + i.to_bytes(16, "big"))
                if (i + number) % 3 == 0:
                    while not future.done():  # so that it is the loop's thread that is told
                        await asyncio.sleep(0)
                assert await wakeups.written(future) == OURS
            return 1

        return sum(await asyncio.wait_for(asyncio.gather(*map(work, range(16))), 60))

    assert asyncio.run(many()) == 16


def test_errors_reach_the_waiting_coroutine(store: Store) -> None:
    def broken(database: sqlite3.Connection) -> None:
        database.execute("SELECT absent FROM replies")

    async def wait() -> None:
        await writer.Wakeups(asyncio.get_running_loop()).written(store._writer.submit(broken))

    with pytest.raises(OutputError, match="no such column"):
        asyncio.run(wait())


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.close()
    store.close()
    with pytest.raises(OutputError, match="closed"):
        store.save(KEY, "m", REPLY).result()
