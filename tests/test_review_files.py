"""What the review page leaves on the disk: journal, lock, saved files, and what another program does to them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from faulty_system import Faults, kill

from cattune.cli.review import _farewell, _greeting
from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import ConfigError, DataError, OutputError
from cattune.formats.loading import load_examples, save_examples
from cattune.review import edits, exchange
from cattune.review.browser import Doorway
from cattune.review.document import Document, open_document
from cattune.review.journal import LOCK_SUFFIX, SUFFIX, Journal, Record
from cattune.review.problems import FileChanged

LINK = CausalLink(Span("completion", 0, 1), (Span("prompt", 0, 3),))


def example(name: str, **metadata: Any) -> Example:
    return Example(name, "1 2 = ", "3", links=(LINK,), metadata=metadata)


def accept(changed: Example) -> Example:
    return edits.accept(changed, 0)


def reject(changed: Example) -> Example:
    return edits.reject(changed, 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.jsonl"
    save_examples(path, [example("a"), example("b"), example("c")])
    path.chmod(0o600)
    return path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestJournal:
    @pytest.mark.parametrize("kind", ["fails", "fails when done", "full disk", "never shorter"])
    @pytest.mark.parametrize("step", [1, 2], ids=["write", "flush"])
    def test_an_edit_that_was_not_made_never_comes_back(self, tmp_path: Path, kind: str, step: int) -> None:
        faults = Faults(kind, 10_000)
        with faults.at_work():
            journal = Journal(tmp_path / "x.jsonl")
            journal.append(Record("set", 1, example("first")))
            faults.step = faults.steps + step
            with pytest.raises(OutputError, match="the edit was not made"):
                journal.append(Record("set", 1, example("not made")))
            faults.kind = "none"
        data = journal.path.read_bytes()
        assert [record.example.id for record in journal.read()] == ["first"], "after a restart"
        journal.path.write_bytes(data)
        journal.append(Record("set", 1, example("third")))
        assert [record.example.id for record in journal.read()] == ["first", "third"]
        journal.close()

    def test_where_the_disk_is_gone_the_uncertainty_is_told(self, tmp_path: Path) -> None:
        faults = Faults("broken disk", 10_000)
        with faults.at_work():
            journal = Journal(tmp_path / "x.jsonl")
            faults.step = faults.steps + 2
            with pytest.raises(OutputError, match="what is in it is uncertain; stop the review, see to the disk"):
                journal.append(Record("set", 1, example("who knows")))
        journal.close()

    def test_a_journal_that_was_deleted_is_written_again(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        document.journal.path.unlink()
        document.edit(1, 0, accept)
        kill(document)
        again = open_document(file)
        assert again.unsaved == {0, 1} and mode(again.journal.path) == 0o600
        again.close()

    def test_a_journal_that_was_replaced_is_not_overwritten(self, document: Document) -> None:
        document.edit(0, 0, accept)
        document.journal.path.unlink()
        document.journal.path.write_text("theirs")
        with pytest.raises(OutputError, match="replaced by another program; move it away; the edit was not made"):
            document.edit(1, 0, accept)
        assert document.journal.path.read_text() == "theirs" and document.version(1) == 0
        document.journal.path.unlink()
        document.edit(1, 0, accept)
        assert len(document.journal.read()) == 2

    def test_an_edit_cut_short_is_told(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        document.edit(1, 0, accept)
        kill(document)
        journal = file.with_name(file.name + SUFFIX)
        journal.write_bytes(journal.read_bytes()[:-5])
        again = open_document(file)
        assert again.unsaved == {0} and "the last edit in the journal was cut short" in _greeting(again)
        again.close()

    def test_a_damaged_line_says_how_to_go_on(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        document.edit(1, 0, accept)
        kill(document)
        journal = file.with_name(file.name + SUFFIX)
        first, second = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"garbage\n" + second)
        with pytest.raises(DataError, match=r"line 1: .*delete the line to go on with the others"):
            open_document(file)
        assert journal.read_bytes() == b"garbage\n" + second
        journal.write_bytes(second)
        again = open_document(file)
        assert again.unsaved == {1}
        again.close()

    def test_a_journal_of_an_earlier_release(self, file: Path, document: Document) -> None:
        """It has the hash of the line, not of what the example holds."""
        accepted = edits.accept(document.example(0), 0)
        document.journal.append(Record("set", document.source.lines.hashes[0], accepted))
        kill(document)
        file.with_name(file.name + SUFFIX).chmod(0o644)
        again = open_document(file)
        assert again.unsaved == {0} and again.example(0) == accepted
        assert mode(again.journal.path) == 0o600
        again.close()

    def test_a_journal_of_another_file(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        kill(document)
        other = file.with_name("other.jsonl")
        save_examples(other, [example("x"), replace(example("a"), prompt="9 9 = ")])
        file.with_name(file.name + SUFFIX).rename(other.with_name(other.name + SUFFIX))
        again = open_document(other)
        assert again.unsaved == set() and again.carried_over.set_aside == ("a",)
        again.close()


ENDINGS = ["reload", "restart", "kill"]


def read_again(document: Document, file: Path, how: str) -> Document:
    if how == "reload":
        document.reload()
        return document
    (kill if how == "kill" else Document.close)(document)
    return open_document(file)


class TestCarryingOver:
    @pytest.mark.parametrize("how", ENDINGS)
    @pytest.mark.parametrize(
        "steps",
        [
            [accept, "save", "undo", reject],
            [accept, "save", "undo"],
            [accept, "save", reject, "undo", "undo"],
            [accept, "save", "undo", "redo", reject],
            [accept, "undo", "save", "redo"],
            [accept, reject, "save", "undo", "save", "undo"],
        ],
    )
    def test_an_edit_after_an_undo_past_a_save(
        self, file: Path, document: Document, how: str, steps: list[Any]
    ) -> None:
        for step in steps:
            if step == "save":
                document.save()
            elif isinstance(step, str):
                getattr(document, step)(0, document.version(0))
            else:
                document.edit(0, document.version(0), step)
        wanted, unsaved = document.example(0), set(document.unsaved)
        theirs = load_examples(file)
        theirs[0] = replace(theirs[0], metadata={"note": "theirs"})
        save_examples(file, theirs)
        again = read_again(document, file, how)
        assert again.example(0) == theirs[0] and again.unsaved == set()
        if unsaved:
            assert again.carried_over.set_aside == ("a",) and again.carried_over.path is not None
            assert load_examples(again.carried_over.path) == [wanted]
            assert mode(again.carried_over.path) == 0o600
            assert "everything is saved" not in _farewell(again) and str(again.carried_over.path) in _farewell(again)
        else:
            assert again.carried_over.set_aside == ()
        again.close()

    @pytest.mark.parametrize("how", ENDINGS)
    def test_a_line_written_otherwise_is_the_same_example(self, file: Path, document: Document, how: str) -> None:
        document.edit(2, 0, accept)
        file.write_bytes(file.read_bytes().replace(b'", "', b'" ,  "').replace(b"\n", b"\r\n").rstrip())
        again = read_again(document, file, how)
        assert again.unsaved == {2} and again.carried_over.set_aside == ()
        again.close()

    def test_an_edit_that_was_taken_back_is_not_set_aside(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        document.undo(0, 1)
        document.edit(0, 2, reject)
        document.edit(0, 3, lambda changed: edits.restore(changed, 0, accepted=False))  # back without an undo
        save_examples(file, [example("b")])
        document.reload()
        assert document.carried_over.set_aside == ()

    def test_what_a_killed_review_set_aside_is_told_at_the_next_start(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        save_examples(file, [example("b")])
        document.reload()
        path = document.carried_over.path
        kill(document)
        again = open_document(file)
        assert f"set aside by earlier reviews, and still there: {path}" in _greeting(again)
        again.close()

    @pytest.mark.parametrize("content", [None, "{", "no json\n"])
    def test_a_file_that_is_gone_says_where_the_edits_are(
        self, file: Path, document: Document, content: str | None
    ) -> None:
        document.edit(0, 0, accept)
        kill(document)
        before = file.read_bytes()
        file.unlink()
        if content is not None:
            file.write_text(content)
        with pytest.raises(
            DataError, match=r"Unsaved edits of an earlier review are kept in .*f\.jsonl\.review-journal"
        ):
            open_document(file)
        file.write_bytes(before)
        again = open_document(file)
        assert again.unsaved == {0}
        again.close()

    def test_a_full_disk_while_edits_are_set_aside_changes_nothing(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        document.edit(1, 0, accept)
        save_examples(file, [example("b")])
        for step in range(8):
            with Faults("full disk", step).at_work(), pytest.raises(OutputError):
                document.reload()
            assert document.unsaved == {0, 1} and not list(file.parent.glob("*.set-aside-*"))
        document.reload()
        assert document.unsaved == {0} and document.carried_over.set_aside == ("a",)


class TestSaving:
    @pytest.mark.parametrize("able", [True, False], ids=["exchange", "check"])
    @pytest.mark.parametrize("what", ["replaced", "deleted"])
    def test_a_file_that_changes_while_it_is_saved(
        self, file: Path, document: Document, monkeypatch: Any, able: bool, what: str
    ) -> None:
        """With an exchange, at the last moment; without, right after everything is on the disk."""
        theirs = b'{"theirs": true}\n'
        swap, sync = exchange.swap, os.fsync
        done: list[bool] = []

        def interfere() -> None:
            if not done:
                done.append(True)
                file.unlink()
                if what == "replaced":
                    file.write_bytes(theirs)

        def late_swap(one: Path, other: Path) -> bool:
            if able:
                interfere()
            return able and swap(one, other)

        def late_sync(descriptor: int) -> None:
            sync(descriptor)
            if not able:
                interfere()

        document.edit(0, 0, accept)
        monkeypatch.setattr(exchange, "swap", late_swap)
        monkeypatch.setattr("os.fsync", late_sync)
        with pytest.raises(FileChanged, match="save under another name, or reload"):
            document.save()
        assert done and (file.read_bytes() if file.exists() else b"") == (theirs if what == "replaced" else b"")
        assert not list(file.parent.glob(".cattune-*")) and document.unsaved == {0}

    def test_a_new_file_never_takes_the_place_of_another(
        self, file: Path, document: Document, monkeypatch: Any
    ) -> None:
        other, link = file.with_name("other.jsonl"), os.link

        def late_link(*names: Any) -> None:
            other.write_text("theirs")
            link(*names)

        document.edit(0, 0, accept)
        monkeypatch.setattr("os.link", late_link)
        with pytest.raises(FileChanged, match="made by another program in the meantime"):
            document.save_as("other.jsonl")
        assert other.read_text() == "theirs" and document.target == file and document.unsaved == {0}

    def test_a_file_system_without_links_or_exchanges(self, file: Path, document: Document, monkeypatch: Any) -> None:
        def refuse(*names: Any) -> None:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(exchange, "swap", lambda *names: False)
        monkeypatch.setattr("os.link", refuse)
        document.edit(0, 0, accept)
        document.save()
        assert load_examples(file)[0].links[0].status == "accepted"
        document.save_as("g.jsonl")
        assert load_examples(file.with_name("g.jsonl")) == load_examples(file)

    def test_nothing_is_ever_more_open_than_the_file(self, file: Path, monkeypatch: Any) -> None:
        seen: dict[str, set[int]] = {}
        write, sync = Journal.append, os.fsync

        def look(*_: Any) -> None:
            for path in file.parent.iterdir():
                seen.setdefault(path.name if "tmp" not in path.name else "temporary", set()).add(mode(path))

        def looking(work: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *words: (look(), work(*words), look())[1]

        old = os.umask(0)
        try:
            monkeypatch.setattr(Journal, "append", looking(write))
            monkeypatch.setattr("os.fsync", looking(sync))
            document = open_document(file)
            document.edit(0, 0, accept)
            document.save()
            document.edit(1, 0, accept)
            save_examples(file, [example("c")])
            document.reload()
            document.save_as("g.jsonl")
            document.close()
        finally:
            os.umask(old)
        assert {"temporary", file.name, file.name + SUFFIX, file.name + LOCK_SUFFIX} <= set(seen)
        assert any("set-aside" in name for name in seen)
        assert set().union(*seen.values()) == {0o600}

    def test_a_file_changed_after_the_save_is_not_called_saved(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept)
        document.save()
        assert _farewell(document) == "stopped; everything is saved"
        save_examples(file, [example("c")])
        assert "everything is saved" not in _farewell(document)
        assert "changed, moved or deleted by another program" in _farewell(document)

    def test_a_journal_that_cannot_be_emptied_does_not_bring_saved_edits_back(
        self, file: Path, monkeypatch: Any
    ) -> None:
        def refuse(*words: Any) -> None:
            raise OSError(5, "Input/output error")

        document = open_document(file)
        document.edit(0, 0, accept)
        original = file.read_bytes()
        monkeypatch.setattr("os.ftruncate", refuse)
        assert document.save() == 1
        monkeypatch.undo()
        document.edit(1, 0, accept)
        kill(document)
        file.write_bytes(original)  # another program brings the old file back
        again = open_document(file)
        assert again.unsaved == {1}
        again.close()


class TestOpening:
    def test_another_format_is_refused_at_its_first_line(self, tmp_path: Path) -> None:
        path = tmp_path / "p.jsonl"
        path.write_text('{"prompt": "1", "completion": "2"}\nnever read\n')
        with pytest.raises(ConfigError, match="line 1, is not in cattune's own schema.*--out"):
            open_document(path)
        assert [item.name for item in tmp_path.iterdir()] == ["p.jsonl"]

    def test_a_packed_file_is_not_written(self, file: Path, document: Document) -> None:
        with pytest.raises(ConfigError, match=r"without \.gz"):
            document.save_as("g.jsonl.gz")
        with pytest.raises(ConfigError, match=r"without \.gz"):
            open_document(file, file.with_name("g.jsonl.gz"))

    def test_the_file_is_read_under_the_lock(self, file: Path, document: Document) -> None:
        with pytest.raises(OutputError, match=rf"already open in another review.*held by process {os.getpid()}"):
            open_document(file)

    def test_the_browser_is_started_without_the_token(self, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "snap").mkdir()
        monkeypatch.setenv("DISPLAY", ":0")
        shown: list[str] = []
        started = Event()
        monkeypatch.setattr("webbrowser.open", lambda url: (shown.append(url), started.set()))
        doorway = Doorway("http://127.0.0.1:1/?token=secret")
        try:
            doorway.show()
            assert mode(doorway.path) == 0o600 and doorway.path.parent == tmp_path
            assert "url=http://127.0.0.1:1/?token=secret" in doorway.path.read_text()
            assert started.wait(10) and shown == [doorway.path.as_uri()] and "secret" not in shown[0]
        finally:
            doorway.close()
        assert not doorway.path.exists()
