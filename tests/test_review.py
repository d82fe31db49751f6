"""`cattune review` without a browser: the document, its index, journal and saving, and the routes of the page."""

from __future__ import annotations

import argparse
import json
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty_system import kill
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.data.examples import OUTVOTED, REJECTED, CausalLink, Example, Message, RefusedLink, Span
from cattune.errors import CattuneError, ConfigError, DataError, OutputError
from cattune.formats.loading import load_examples, save_examples

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from cattune.cli import review as command
from cattune.review import edits
from cattune.review.app import MOST_BYTES, PAGE, build_app
from cattune.review.carry_over import CarriedOver
from cattune.review.document import Document, open_document
from cattune.review.index import OTHER_SOURCES, Filter, Index
from cattune.review.journal import LOCK_SUFFIX, SUFFIX, Journal, Record
from cattune.review.problems import FileChanged, Stale
from cattune.review.server import listen

PROMPT = "Red hats: 3. Blue hats: 5. All hats: "
RED, BLUE, ANSWER = Span("prompt", 0, 11), Span("prompt", 13, 25), Span("completion", 0, 1)
LINK = CausalLink(ANSWER, (RED, BLUE), source="model")


def hats(name: str = "hats", *links: CausalLink, **others: Any) -> Example:
    return Example(name, PROMPT, "8", links=links or (LINK,), **others)


@pytest.fixture
def examples() -> list[Example]:
    return [
        hats("plain"),
        hats("sure", replace(LINK, status="accepted", source="rule")),
        hats("fuzzy", replace(LINK, method="fuzzy", score=0.7), replace(LINK, causes=(RED,), weight=0.5)),
        Example("bare", "Straße 👩‍👩‍👧 or ", "שלום"),
        hats("refused", refused=(RefusedLink("8", None, OUTVOTED, LINK), RefusedLink("8", "Hat: 1", "not there"))),
        Example("chat", messages=(Message("user", "2 + 2?"), Message("assistant", "4"))),
    ]


@pytest.fixture
def file(tmp_path: Path, examples: list[Example]) -> Path:
    path = tmp_path / "hats.jsonl"
    save_examples(path, examples)
    return path


def accept_first(example: Example) -> Example:
    return edits.accept(example, 0)


def found(document: Document, **wanted: Any) -> list[str]:
    order, _ = document.index.select(Filter(**wanted))
    return [document.example(int(index)).id for index in order]


class TestEdits:
    def test_accepting_changes_one_link_only(self) -> None:
        two = hats("two", LINK, replace(LINK, causes=(RED,)))
        assert [link.status for link in edits.accept(two, 1).links] == ["proposed", "accepted"]
        assert [link.status for link in edits.accept_all(two).links] == ["accepted", "accepted"]

    def test_a_rejected_link_is_kept_and_comes_back_as_it_was(self) -> None:
        rejected = edits.reject(hats(), 0)
        assert rejected.links == ()
        assert rejected.refused == (RefusedLink("8", None, REJECTED, LINK),)
        assert edits.restore(rejected, 0, accepted=False) == hats()
        assert edits.restore(rejected, 0, accepted=True).links == (replace(LINK, status="accepted"),)

    def test_what_was_never_in_the_text_cannot_come_back(self) -> None:
        with pytest.raises(DataError, match="never found"):
            edits.restore(hats(refused=(RefusedLink("8", "x", "not there"),)), 0, accepted=True)

    def test_a_link_by_a_person_says_so(self) -> None:
        added = edits.add(Example("x", PROMPT, "8"), ANSWER, [RED, RED])
        assert added.links == (CausalLink(ANSWER, (RED,), source="person", status="accepted"),)

    def test_a_corrected_link_is_the_persons_and_keeps_its_weight(self) -> None:
        old = hats("x", replace(LINK, weight=0.5, method="fuzzy", score=0.7))
        assert edits.change(old, 0, ANSWER, [BLUE]).links == (
            CausalLink(ANSWER, (BLUE,), weight=0.5, source="person", status="accepted"),
        )

    @pytest.mark.parametrize(
        ("effect", "causes", "reason"),
        [
            (RED, [ANSWER], "comes after its effect"),
            (RED, [BLUE], "comes after its effect"),
            (ANSWER, [], "at least one cause"),
            (ANSWER, [ANSWER], "cause of itself"),
            (ANSWER, [Span("prompt", 12, 13)], "white space"),
            (ANSWER, [Span("prompt", 0, 99)], "past the end"),
            (ANSWER, [Span("title", 0, 1)], "names the field"),
            (ANSWER, [BLUE, RED], "already there"),
        ],
    )
    def test_no_link_comes_in_that_is_not_valid(self, effect: Span, causes: list[Span], reason: str) -> None:
        with pytest.raises(DataError, match=reason):
            edits.add(hats(), effect, causes)

    def test_reviewed_is_what_has_been_decided(self) -> None:
        assert not edits.is_reviewed(hats())
        assert edits.is_reviewed(edits.accept(hats(), 0))
        assert edits.is_reviewed(edits.reject(hats(), 0))
        assert not edits.is_reviewed(Example("x", "a", "b")), "an example that nobody has looked at"
        assert not edits.is_reviewed(Example("x", "a", "b", refused=(RefusedLink("b", None, OUTVOTED),)))
        done = edits.set_done(hats(metadata={"split": "train"}), True)
        assert edits.is_reviewed(done) and done.metadata == {"split": "train", "reviewed": True}
        assert edits.set_done(done, False) == hats(metadata={"split": "train"})

    def test_metadata_of_the_same_name_are_left_alone(self) -> None:
        with pytest.raises(DataError, match="not ours to replace"):
            edits.set_done(hats(metadata={"reviewed": "by Ann"}), True)

    @pytest.mark.parametrize("number", [-1, 1])
    def test_there_is_no_such_link(self, number: int) -> None:
        with pytest.raises(DataError, match="has no link"):
            edits.accept(hats(), number)


class TestIndex:
    @pytest.mark.parametrize(
        ("wanted", "names"),
        [
            ({}, ["plain", "sure", "fuzzy", "bare", "refused", "chat"]),
            ({"statuses": ("accepted",)}, ["sure"]),
            ({"statuses": ("none",)}, ["bare", "chat"]),
            ({"statuses": ("outvoted", "accepted")}, ["sure", "refused"]),
            ({"statuses": ("refused",)}, ["refused"]),
            ({"statuses": ("rejected",)}, []),
            ({"methods": ("fuzzy",)}, ["fuzzy"]),
            ({"sources": ("rule",)}, ["sure"]),
            ({"sources": ("nobody",)}, []),
            ({"reviewed": True}, ["sure"]),
            ({"disagreement": True}, ["fuzzy", "refused"]),
            ({"scores": (0.0, 0.7)}, ["fuzzy"]),
            ({"scores": (0.7, 0.7)}, ["fuzzy"]),
            ({"scores": (0.71, 1.0)}, ["plain", "sure", "refused"]),
            ({"text": "BLUE HATS"}, ["plain", "sure", "fuzzy", "refused"]),
            ({"text": "STRASSE"}, ["bare"]),
            ({"text": "שלום"}, ["bare"]),
            ({"text": "👧"}, ["bare"]),
            ({"text": "2 + 2"}, ["chat"]),
            ({"text": "fuz"}, ["fuzzy"]),
            ({"text": "8s"}, []),
            ({"order": "score"}, ["fuzzy", "plain", "sure", "refused", "bare", "chat"]),
            ({"order": "weight", "statuses": ("proposed",)}, ["fuzzy", "plain", "refused"]),
        ],
    )
    def test_filters(self, document: Document, wanted: dict[str, Any], names: list[str]) -> None:
        assert found(document, **wanted) == names

    def test_a_count_is_what_the_click_would_give(self, document: Document) -> None:
        for chosen in ({}, {"sources": ("model",)}, {"statuses": ("proposed",), "text": "hats"}):
            _, counts = document.index.select(Filter(**chosen))
            for group, numbers in counts.items():
                for name, number in numbers.items():
                    if group in ("statuses", "methods", "sources"):
                        choice: Any = {group: (name,)}
                    elif group == "reviewed":
                        choice = {"reviewed": name == "reviewed"}
                    else:
                        choice = {"disagreement": True}
                    assert len(found(document, **(chosen | choice))) == number, (chosen, group, name)

    def test_more_sources_than_bits(self) -> None:
        index = Index()
        for number in range(80):
            index.add(hats(f"{number}", replace(LINK, source=f"model {number}")))
        index.seal()
        assert len(index.sources) == 64 and index.sources[-1] == OTHER_SOURCES
        order, counts = index.select(Filter(sources=(OTHER_SOURCES,)))
        assert order.tolist() == list(range(63, 80)) and counts["sources"]["model 0"] == 1

    def test_next_unreviewed_goes_round(self, document: Document) -> None:
        index = document.index
        assert index.next_unreviewed(Filter(), 0) == 2, "past the one that is reviewed"
        assert index.next_unreviewed(Filter(), 5) == 0
        assert index.next_unreviewed(Filter(order="score"), 2) == 0
        assert index.next_unreviewed(Filter(text="fuzzy"), 2) is None, "there is no other"
        assert index.next_unreviewed(Filter(text="fuzzy"), 0) == 2, "from outside the filter: its first"
        assert index.next_unreviewed(Filter(reviewed=True), 0) is None


class TestDocument:
    def test_an_edit_is_there_until_it_is_undone(self, document: Document, examples: list[Example]) -> None:
        document.edit(0, 0, accept_first)
        assert document.example(0).links[0].status == "accepted"
        assert document.unsaved == {0} and found(document, reviewed=True) == ["plain", "sure"]
        document.undo(0, 1)
        assert document.example(0) == examples[0] and document.unsaved == set()
        assert found(document, reviewed=True) == ["sure"]
        document.redo(0, 2)
        assert document.example(0).links[0].status == "accepted" and not document.can_redo(0)

    def test_a_new_edit_forgets_what_was_undone(self, document: Document) -> None:
        document.edit(0, 0, accept_first)
        document.undo(0, 1)
        document.edit(0, 2, lambda example: edits.reject(example, 0))
        with pytest.raises(DataError, match="nothing to redo"):
            document.redo(0, 3)

    def test_an_edit_that_changes_nothing_is_none(self, document: Document) -> None:
        document.edit(1, 0, accept_first)
        assert document.version(1) == 0 and not document.can_undo(1)

    def test_an_edit_of_an_older_version_is_refused(self, document: Document) -> None:
        document.edit(0, 0, accept_first)
        for attempt in (lambda: document.edit(0, 0, edits.accept_all), lambda: document.undo(0, 0)):
            with pytest.raises(Stale):
                attempt()
        assert document.version(0) == 1

    @pytest.mark.parametrize("index", [-1, 6])
    def test_there_is_no_such_example(self, document: Document, index: int) -> None:
        with pytest.raises(DataError, match="there is no example"):
            document.edit(index, 0, accept_first)

    def test_unsaved_edits_outlive_the_process(self, file: Path, examples: list[Example]) -> None:
        before = file.read_bytes()
        first = open_document(file)
        first.edit(0, 0, accept_first)
        first.edit(0, 1, lambda example: edits.reject(example, 0))
        first.undo(0, 2)
        first.edit(3, 0, lambda example: edits.set_done(example, True))
        states = [first.example(index) for index in range(len(first))]
        kill(first)
        again = open_document(file)
        assert [again.example(index) for index in range(len(again))] == states
        assert again.unsaved == {0, 3} and again.carried_over.applied == 2
        again.redo(0, 3)
        assert again.example(0).links == ()
        again.undo(0, 4)
        again.undo(0, 5)
        assert again.example(0) == examples[0]
        assert file.read_bytes() == before
        again.close()

    def test_an_edit_that_was_half_written_when_the_power_went_is_dropped(self, file: Path) -> None:
        first = open_document(file)
        first.edit(0, 0, accept_first)
        first.edit(2, 0, edits.accept_all)
        first.close()
        journal = file.with_name(file.name + SUFFIX)
        journal.write_bytes(journal.read_bytes()[:-20])
        again = open_document(file)
        assert again.unsaved == {0}
        again.edit(2, 0, edits.accept_all)
        again.close()
        last = open_document(file)
        assert last.unsaved == {0, 2}
        last.close()

    def test_saving_changes_the_edited_lines_only(self, tmp_path: Path, examples: list[Example]) -> None:
        path = tmp_path / "odd.jsonl"
        save_examples(path, examples)
        lines = path.read_bytes().splitlines()
        lines[1] = json.dumps(json.loads(lines[1]), indent=None, separators=(" ,", ":  ")).encode()  # odd, but JSON
        data = b"\xef\xbb\xbf" + lines[0] + b"\r\n\n" + b"\n".join(lines[1:])  # a BOM, a blank line, no last line end
        path.write_bytes(data)
        path.chmod(0o640)
        document = open_document(path)
        document.edit(5, 0, lambda example: edits.set_done(example, True))
        assert document.save() == 1
        saved = path.read_bytes()
        assert saved.startswith(data[: -len(lines[-1])])
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert load_examples(path) == [*examples[:5], edits.set_done(examples[5], True)]
        assert document.unsaved == set() and document.example(2) == examples[2]
        document.undo(5, 1)
        assert document.unsaved == {5}, "undo reaches past a save"
        document.edit(0, 0, accept_first)
        assert document.save() == 2
        assert load_examples(path) == [edits.accept(examples[0], 0), *examples[1:]]
        document.close()
        assert [item.name for item in tmp_path.iterdir()] == ["odd.jsonl"], "no journal and no temporary file is left"

    def test_a_crash_between_saving_and_clearing_the_journal(self, file: Path, monkeypatch: Any) -> None:
        document = open_document(file)
        document.edit(0, 0, accept_first)
        monkeypatch.setattr(Journal, "clear", lambda journal: None)
        document.save()
        monkeypatch.undo()
        kill(document)
        again = open_document(file)
        assert again.unsaved == set() and again.carried_over == CarriedOver()
        again.close()

    @pytest.mark.parametrize("way", ["replaced", "in place", "deleted", "same size"])
    def test_a_file_that_changed_is_not_overwritten(self, file: Path, document: Document, way: str) -> None:
        document.edit(0, 0, accept_first)
        data = file.read_bytes()
        if way == "replaced":
            other = file.with_name("other")
            other.write_bytes(data + b"\n")
            os.replace(other, file)
        elif way == "in place":
            with file.open("ab") as stream:
                stream.write(b"\n")
        elif way == "same size":
            file.write_bytes(data.replace(b"Blue hats: 5", b"Blue hats: 6").replace(b'"8"', b'"9"'))
        else:
            file.unlink()
        now = file.read_bytes() if file.exists() else None
        assert not document.source.looks_unchanged()
        with pytest.raises(FileChanged, match="save under another name, or reload"):
            document.save()
        assert (file.read_bytes() if file.exists() else None) == now
        assert document.unsaved == {0} and not list(file.parent.glob(".cattune-*"))

    def test_a_file_that_was_only_touched_is_saved(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept_first)
        os.utime(file, ns=(1, 1))
        assert document.save() == 1

    def test_a_change_in_the_middle_of_saving(self, file: Path, document: Document, monkeypatch: Any) -> None:
        document.edit(0, 0, accept_first)
        copy = type(document.source).copy

        def interrupted(*args: Any) -> Any:
            result = copy(*args)
            other = file.with_name("other")
            other.write_bytes(b"theirs")
            os.replace(other, file)
            return result

        monkeypatch.setattr(type(document.source), "copy", interrupted)
        with pytest.raises(FileChanged):
            document.save()
        assert file.read_bytes() == b"theirs"

    def test_lines_that_are_not_those_loaded_are_not_shown(self, file: Path, document: Document) -> None:
        data = bytearray(file.read_bytes())
        data[60] ^= 1
        with file.open("r+b") as stream:
            stream.write(data)
        with pytest.raises(FileChanged, match="overwritten while it was open"):
            document.example(0)

    def test_saving_under_another_name_after_the_file_was_replaced(
        self, file: Path, document: Document, examples: list[Example]
    ) -> None:
        document.edit(0, 0, accept_first)
        file.unlink()
        file.write_text("theirs")
        assert document.save_as("mine.jsonl") == 1
        mine = file.with_name("mine.jsonl")
        assert load_examples(mine) == [edits.accept(examples[0], 0), *examples[1:]]
        assert file.read_text() == "theirs"
        document.edit(1, 0, lambda example: edits.reject(example, 0))
        document.save()
        assert load_examples(mine)[1].links == ()

    def test_saving_under_another_name_after_lines_were_appended(
        self, file: Path, document: Document, examples: list[Example]
    ) -> None:
        with file.open("ab") as stream:
            stream.write(b"theirs")
        document.save_as("mine.jsonl")
        assert load_examples(file.with_name("mine.jsonl")) == examples

    def test_what_was_overwritten_in_place_cannot_be_saved_elsewhere(self, tmp_path: Path) -> None:
        path = tmp_path / "many.jsonl"
        save_examples(path, [hats(f"{number}") for number in range(500)])  # more than one buffer
        document = open_document(path)
        document.edit(0, 0, accept_first)
        path.write_text("theirs")
        with pytest.raises(FileChanged, match="the edits stay in the journal"):
            document.save_as("mine.jsonl")
        assert {item.name for item in tmp_path.iterdir()} == {
            "many.jsonl",
            f"many.jsonl{SUFFIX}",
            f"many.jsonl{LOCK_SUFFIX}",
        }
        assert document.unsaved == {0}
        document.close()

    @pytest.mark.parametrize("name", ["hats.jsonl", "link"])
    def test_another_name_must_be_free(self, file: Path, document: Document, name: str) -> None:
        file.with_name("link").symlink_to("nowhere")
        with pytest.raises(OutputError, match="already exists"):
            document.save_as(name)

    @pytest.mark.parametrize("name", ["", " ", "..", "a/b", "/tmp/x", "../x", "a\0b"])
    def test_another_name_stays_in_the_folder(self, document: Document, name: str) -> None:
        with pytest.raises(ConfigError, match="name of a file"):
            document.save_as(name)

    def test_reloading_carries_over_what_fits_and_sets_the_rest_aside(
        self, file: Path, document: Document, examples: list[Example]
    ) -> None:
        for index in (0, 1, 2):
            document.edit(index, 0, lambda example: edits.reject(example, 0))
        mine = [document.example(index) for index in range(3)]
        document.edit(3, 0, lambda example: edits.set_done(example, True))
        document.undo(3, 1)
        theirs = [examples[5], edits.accept_all(examples[2]), examples[0], hats("new")]  # others, and in another order
        save_examples(file, theirs)
        document.reload()
        carried = document.carried_over
        assert document.example(2) == mine[0] and document.unsaved == {2}
        assert document.example(1) == theirs[1], "someone else's decision stands"
        assert carried.applied == 1 and set(carried.set_aside) == {"sure", "fuzzy"}
        assert carried.path is not None
        assert {example.id: example for example in load_examples(carried.path)} == {"sure": mine[1], "fuzzy": mine[2]}
        with pytest.raises(Stale):
            document.edit(2, 1, accept_first)  # a page that has not been reloaded
        document.save()
        assert load_examples(file) == [theirs[0], theirs[1], mine[0], theirs[3]]

    def test_reloading_a_file_that_is_no_longer_in_order_changes_nothing(self, file: Path, document: Document) -> None:
        document.edit(0, 0, accept_first)
        file.unlink()
        with pytest.raises(DataError, match="does not exist"):
            document.reload()
        file.write_text("{")
        with pytest.raises(DataError, match="not JSON"):
            document.reload()
        assert document.unsaved == {0} and document.example(0).links[0].status == "accepted"

    def test_an_edit_that_cannot_be_kept_is_not_made(self, document: Document, monkeypatch: Any) -> None:
        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("cattune.review.journal.os.fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            document.edit(0, 0, accept_first)
        monkeypatch.undo()
        assert document.version(0) == 0 and document.example(0).links[0].status == "proposed"
        document.edit(1, 0, lambda example: edits.reject(example, 0))
        assert [record.example.id for record in document.journal.read()] == ["sure"]

    def test_one_review_at_a_time(self, file: Path, document: Document) -> None:
        with pytest.raises(OutputError, match="already open in another review"):
            open_document(file)

    @pytest.mark.parametrize("form", ["published", "plain"])
    def test_other_formats_need_another_file(self, tmp_path: Path, form: str) -> None:
        path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        record = {"input": "2 pens, 3 pens: ", "target": "5", "important": [{"5": ["2 pens", "3 pens"]}], "idx": 7}
        if form == "plain":
            record = {"prompt": "2 pens, 3 pens: ", "completion": "5"}
        path.write_text(f"{json.dumps(record)}\n\n{json.dumps(record)}\n")
        with pytest.raises(ConfigError, match="--out"):
            open_document(path)
        document = open_document(path, out)
        assert document.example(1).id == {"published": "7 (line 3)", "plain": "line-3"}[form]
        document.edit(1, 0, lambda example: edits.set_done(example, True))
        document.save()
        saved = load_examples(out)
        assert saved == [document.example(0), document.example(1)] and saved[1].metadata["reviewed"] is True
        document.edit(0, 0, lambda example: edits.set_done(example, True))
        assert document.save() == 1
        document.close()
        with pytest.raises(OutputError, match="already exists"):
            open_document(path, out)
        assert open_document(out).index.reviewed == 2

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "does not exist"),
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("{}\n", "no format that cattune reads"),
            ("[1]\n", "is a JSON array"),
            ('{"schema": "cattune/9", "id": "a", "prompt": "a", "completion": "b"}', "this release of cattune reads"),
            ('{"schema": "cattune/1", "id": "a", "prompt": "a", "completion": "b"}\n' * 2, "both have the id"),
        ],
    )
    def test_a_file_that_is_no_good(self, tmp_path: Path, content: str | None, message: str) -> None:
        path = tmp_path / "bad.jsonl"
        if content is not None:
            path.write_text(content)
        with pytest.raises(DataError, match=message):
            open_document(path)
        assert not path.with_name(path.name + SUFFIX).exists()

    @pytest.mark.parametrize("kind", ["folder", "pipe", "name"])
    def test_things_that_are_no_files(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "thing"
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            path = Path(os.devnull)
        else:
            path = Path("a\0b")
        with pytest.raises(DataError, match="folder|regular file|file name"):
            open_document(path)

    def test_a_folder_that_cannot_be_written(self, file: Path) -> None:
        with pytest.raises(OutputError, match="edits are kept there"):
            Journal(file / "below.jsonl")

    def test_a_file_that_may_not_be_written(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write to all files
        with pytest.raises(OutputError, match="read-only"):
            open_document(file)
        open_document(file, file.with_name("new.jsonl")).close()

    @pytest.mark.parametrize(
        "line", ["{}", '{"kind": "set"}', '{"kind": "set", "base": "xyz", "example": {}}', "nonsense"]
    )
    def test_a_journal_of_something_else(self, file: Path, line: str) -> None:
        file.with_name(file.name + SUFFIX).write_text(line + "\n")
        with pytest.raises(DataError, match=r"hats\.jsonl\.review-journal, line 1"):
            open_document(file)
        assert file.with_name(file.name + SUFFIX).read_text() == line + "\n"

    def test_a_line_of_millions_of_characters(self, tmp_path: Path) -> None:
        path = tmp_path / "long.jsonl"
        save_examples(path, [hats(), Example("long", "ה" * 3_000_000 + " end", "x")])
        document = open_document(path)
        end = Span("prompt", 3_000_001, 3_000_004)
        document.edit(1, 0, lambda example: edits.add(example, ANSWER, [end]))
        document.save()
        document.close()
        assert load_examples(path)[1].links[0].causes == (end,)

    def test_a_link_to_a_file_stays_one(self, file: Path) -> None:
        link = file.with_name("link.jsonl")
        link.symlink_to(file.name)
        document = open_document(link)
        document.edit(0, 0, accept_first)
        document.save()
        document.close()
        assert link.is_symlink() and load_examples(file)[0].links[0].status == "accepted"


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["edit", "undo", "redo", "save", "restart"]))))
def test_any_session_equals_the_plain_one(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    """Whatever is done in whatever order, the file ends as lists of states, kept here, say."""
    path = tmp_path_factory.mktemp("session") / "three.jsonl"
    start = [hats(f"{number}") for number in range(3)]
    save_examples(path, start)
    document = open_document(path)
    states = [[example] for example in start]
    at = [0, 0, 0]
    for count, (which, step) in enumerate(steps):
        version = document.version(which)
        if step == "edit":
            new = replace(states[which][at[which]], metadata={"count": count})
            document.edit(which, version, lambda _, new=new: new)
            del states[which][at[which] + 1 :]
            states[which].append(new)
            at[which] += 1
        elif step in ("undo", "redo"):
            by = -1 if step == "undo" else 1
            if 0 <= at[which] + by < len(states[which]):
                getattr(document, step)(which, version)
                at[which] += by
            else:
                with pytest.raises(DataError, match="nothing to"):
                    getattr(document, step)(which, version)
        elif step == "save":
            document.save()
        else:
            before = [document.example(index) for index in range(3)]
            document.close()
            document = open_document(path)
            assert [document.example(index) for index in range(3)] == before
            states, at = _states_of(document)
        assert [document.example(index) for index in range(3)] == [states[i][at[i]] for i in range(3)]
    document.save()
    document.close()
    assert load_examples(path) == [states[i][at[i]] for i in range(3)]


def _states_of(document: Document) -> tuple[list[list[Example]], list[int]]:
    histories = [document._histories.get(index) for index in range(len(document))]
    states = [[document.example(i)] if history is None else list(history.states) for i, history in enumerate(histories)]
    return states, [0 if history is None else history.at for history in histories]


PORT = 4321
OWN = {"origin": f"http://127.0.0.1:{PORT}"}


@pytest.fixture
def visitor(document: Document) -> TestClient:
    """Somebody without the token."""
    return TestClient(build_app(document, "secret", PORT), base_url=f"http://127.0.0.1:{PORT}")


@pytest.fixture
def client(visitor: TestClient) -> TestClient:
    """The page, after the token was exchanged for a cookie."""
    assert visitor.get("/?token=secret").status_code == 200
    return visitor


def send(client: TestClient, index: int, version: int, edit: Any) -> Any:
    return client.post(f"/api/examples/{index}", json={"version": version, "edit": edit}, headers=OWN)


def span(field: str, start: int, end: int, text: str) -> dict[str, Any]:
    return {"field": field, "start": start, "end": end, "text": text}


class TestGuard:
    @pytest.mark.parametrize(
        "path", ["/", "/?token=", "/?token=wrong", "/?token=s%C3%A9cret", "/static/main.js", "/api/document"]
    )
    def test_nothing_without_the_token(self, visitor: TestClient, path: str) -> None:
        answer = visitor.get(path)
        assert answer.status_code == 403 and "set-cookie" not in answer.headers
        assert "cattune review" in answer.text and "hats" not in answer.text

    def test_the_token_opens_the_page_only(self, visitor: TestClient) -> None:
        assert visitor.get("/api/document?token=secret").status_code == 403
        assert visitor.post("/?token=secret", json={}).status_code != 200

    def test_the_cookie(self, visitor: TestClient) -> None:
        cookie = visitor.get("/?token=secret").headers["set-cookie"]
        name, _, rest = cookie.partition("=")
        assert name == f"cattune_review_{PORT}"
        assert "secret" not in rest and rest.endswith("; HttpOnly; SameSite=Strict; Path=/")
        assert visitor.get("/").status_code == visitor.get("/api/document").status_code == 200

    @pytest.mark.parametrize("host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", ""])
    def test_other_host_names_are_refused(self, client: TestClient, host: str) -> None:
        for path in ("/", "/?token=secret", "/api/document"):
            answer = client.get(path, headers={"host": host})
            assert answer.status_code == 421 and "file" not in answer.text

    @pytest.mark.parametrize(
        "headers", [{}, {"origin": "null"}, {"origin": "http://evil.example"}, {"origin": f"https://127.0.0.1:{PORT}"}]
    )
    def test_other_pages_change_nothing(self, client: TestClient, document: Document, headers: dict[str, str]) -> None:
        body = {"version": 0, "edit": {"kind": "accept", "link": 0}}
        assert client.post("/api/examples/0", json=body, headers=headers).status_code == 403
        assert document.version(0) == 0

    def test_a_form_changes_nothing(self, client: TestClient) -> None:
        answer = client.post("/api/save", content="{}", headers={**OWN, "content-type": "text/plain"})
        assert answer.status_code == 415

    def test_every_answer_has_the_safety_headers(self, client: TestClient) -> None:
        for path in ("/", "/static/main.js", "/api/document", "/nothing", "/api/examples/99"):
            headers = client.get(path).headers
            assert headers["content-security-policy"].startswith("default-src 'self'; frame-ancestors 'none'")
            assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"

    @pytest.mark.parametrize("name", ["../app.py", "..%2Fapp.py", "%2e%2e%2fapp.py", "nothing.js", "%00.js", "."])
    def test_no_file_but_the_pages(self, client: TestClient, name: str) -> None:
        answer = client.get(f"/static/{name}")
        assert answer.status_code in (403, 404) and "Starlette" not in answer.text

    def test_a_request_too_long(self, client: TestClient) -> None:
        answer = client.post(
            "/api/save", content=b" " * (MOST_BYTES + 1), headers={**OWN, "content-type": "application/json"}
        )
        assert answer.status_code == 413

    def test_the_page_fetches_nothing_from_elsewhere_and_makes_no_html_of_text(self) -> None:
        for path in PAGE.iterdir():
            source = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
            assert "http:" not in source and "https:" not in source and "//cdn" not in source, path
            for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
                assert way not in source, path
            assert path.suffix != ".html" or ("style=" not in source and "onclick=" not in source)


class TestApi:
    def test_the_document(self, client: TestClient, file: Path) -> None:
        state = client.get("/api/document").json()
        assert state["file"] == file.name and state["examples"] == 6 and state["reviewed"] == 1
        assert state["unsaved"] == 0 and state["changed_on_disk"] is False
        file.unlink()
        assert client.get("/api/document").json()["changed_on_disk"] is True

    def test_an_example_in_code_points(self, client: TestClient) -> None:
        send(
            client,
            3,
            0,
            {"kind": "add", "effect": span("completion", 0, 4, "שלום"), "causes": [span("prompt", 7, 12, "👩‍👩‍👧")]},
        )
        example = client.get("/api/examples/3").json()["example"]
        assert example["fields"][0] == {"name": "prompt", "label": "prompt", "text": "Straße 👩‍👩‍👧 or "}
        assert example["links"][0]["causes"] == [span("prompt", 7, 12, "👩‍👩‍👧")]
        assert example["reviewed"] and example["unsaved"] and example["can_undo"] and not example["can_redo"]

    def test_utf16_positions_are_found_out(self, client: TestClient) -> None:
        edit = {"kind": "add", "effect": span("completion", 0, 4, "שלום"), "causes": [span("prompt", 7, 15, "👩‍👩‍👧")]}
        answer = send(client, 3, 0, edit)
        assert answer.status_code == 422 and "is not at prompt[7:15]" in answer.json()["error"]

    def test_filters_reach_the_index(self, client: TestClient) -> None:
        answer = client.get("/api/examples", params={"statuses": "accepted\nnone", "order": "score"}).json()
        assert answer["order"] == [1, 3, 5] and answer["counts"]["statuses"]["none"] == 2
        assert client.get("/api/examples", params={"low": "0", "high": "0.8"}).json()["order"] == [2]
        assert client.get("/api/examples", params={"reviewed": "yes"}).json()["order"] == [1]
        assert client.get("/api/next", params={"after": "0"}).json() == {"next": 2}

    @pytest.mark.parametrize("query", [{"low": "x"}, {"high": "nan"}, {"order": "size"}])
    def test_filters_that_are_none(self, client: TestClient, query: dict[str, str]) -> None:
        assert client.get("/api/examples", params=query).status_code == 422

    def test_rows(self, client: TestClient) -> None:
        rows = client.get("/api/rows?of=2,5").json()["rows"]
        assert [row["id"] for row in rows] == ["fuzzy", "chat"]
        assert rows[0]["proposed"] == 2 and rows[0]["score"] == 0.7 and rows[1]["text"] == "2 + 2?"
        assert client.get("/api/rows?of=1,x").status_code == client.get("/api/rows?of=99").status_code == 422
        assert client.get("/api/rows?of=" + ",".join("1" * 501)).status_code == 422

    def test_the_second_of_two_edits_of_one_version_is_refused_with_the_news(self, client: TestClient) -> None:
        assert send(client, 0, 0, {"kind": "accept", "link": 0}).status_code == 200
        answer = send(client, 0, 0, {"kind": "reject", "link": 0})
        assert answer.status_code == 409 and answer.json()["kind"] == "stale"
        assert answer.json()["example"]["version"] == 1
        assert answer.json()["example"]["links"][0]["status"] == "accepted"

    def test_undo_and_redo(self, client: TestClient) -> None:
        send(client, 0, 0, {"kind": "reject", "link": 0})
        assert send(client, 0, 1, "undo").json()["example"]["links"]
        assert send(client, 0, 2, "redo").json()["row"]["refused"] == 1
        assert (
            send(client, 0, 3, {"kind": "restore", "refused": 0, "accepted": True}).json()["document"]["reviewed"] == 2
        )
        assert send(client, 0, 4, "redo").status_code == 422

    @pytest.mark.parametrize(
        "edit",
        [
            None,
            [],
            "forget",
            {},
            {"kind": "accept"},
            {"kind": "accept", "link": -1},
            {"kind": "accept", "link": False},
            {"kind": "accept", "link": 10**30},
            {"kind": "restore", "refused": 0, "accepted": 1},
            {"kind": "done", "done": "yes"},
            {"kind": "add", "effect": None, "causes": [span("prompt", 0, 3, "Red")]},
            {"kind": "add", "effect": span("completion", 0, 1, "8"), "causes": []},
            {"kind": "add", "effect": span("completion", 0, 1, "8"), "causes": [span("prompt", 3, 3, "")]},
            {"kind": "add", "effect": span("completion", 0, 1, "8"), "causes": [span("nothing", 0, 1, "x")]},
            {"kind": "add", "effect": span("prompt", 0, 3, "Red"), "causes": [span("completion", 0, 1, "8")]},
            {"kind": "add", "effect": span("completion", 0, 1, "8"), "causes": ["Red"]},
            {
                "kind": "change",
                "link": 9,
                "effect": span("completion", 0, 1, "8"),
                "causes": [span("prompt", 0, 3, "Red")],
            },
        ],
    )
    def test_what_is_no_edit_is_refused_with_a_reason(self, client: TestClient, document: Document, edit: Any) -> None:
        answer = send(client, 0, 0, edit)
        assert answer.status_code == 422 and answer.json()["error"] and document.version(0) == 0

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
    def test_what_is_no_request_is_refused(self, client: TestClient, body: bytes) -> None:
        answer = client.post("/api/save-as", content=body, headers={**OWN, "content-type": "application/json"})
        assert answer.status_code == 400

    def test_saving(self, client: TestClient, file: Path) -> None:
        send(client, 0, 0, {"kind": "accept", "link": 0})
        assert client.post("/api/save", json={}, headers=OWN).json()["saved"] == 1
        assert load_examples(file)[0].links[0].status == "accepted"
        file.write_text("theirs")
        send(client, 1, 0, {"kind": "reject", "link": 0})
        answer = client.post("/api/save", json={}, headers=OWN)
        assert answer.status_code == 409 and answer.json()["kind"] == "changed" and file.read_text() == "theirs"

    def test_saving_elsewhere_and_reloading(self, client: TestClient, file: Path, examples: list[Example]) -> None:
        send(client, 0, 0, {"kind": "accept", "link": 0})
        save_examples(file, examples[:2])
        assert client.post("/api/save", json={}, headers=OWN).status_code == 409
        answer = client.post("/api/reload", json={}, headers=OWN).json()
        assert answer["document"]["examples"] == 2 and answer["document"]["carried_over"]["applied"] == 1
        answer = client.post("/api/save-as", json={"name": "b.jsonl"}, headers=OWN).json()
        assert answer["document"]["file"] == "b.jsonl"
        assert load_examples(file.with_name("b.jsonl"))[0].links[0].status == "accepted"
        assert client.post("/api/save-as", json={"name": 3}, headers=OWN).status_code == 422


@settings(max_examples=150, deadline=None)
@given(
    edit=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["kind", "link", "effect", "causes", "start", "end", "field", "text"]) | st.text(),
                inner,
            )
        ),
        max_leaves=8,
    )
    | st.fixed_dictionaries(
        {"kind": st.sampled_from(["add", "change", "accept", "restore", "done"])},
        optional={
            "link": st.integers(-2, 3),
            "effect": st.dictionaries(
                st.sampled_from(["field", "start", "end", "text"]),
                st.integers(-1, 5) | st.sampled_from(["prompt", "Red"]),
            ),
            "causes": st.lists(st.none(), max_size=2),
            "done": st.booleans(),
        },
    )
)
def test_no_edit_is_a_failure_of_the_server(edit: Any) -> None:
    from cattune.review.wire import read_edit

    try:
        changed = read_edit(edit)(hats())
    except CattuneError as error:
        assert str(error)
    else:
        assert changed.id == "hats"


class TestCommand:
    def parse(self, *words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        command.add_parser(parser.add_subparsers())
        return parser.parse_args(["review", *words])

    def test_a_port_in_use(self, file: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(ConfigError, match="is in use; leave --port out"):
                command.run(self.parse(str(file), "--port", str(taken.getsockname()[1])))
        assert not file.with_name(file.name + SUFFIX).exists()

    @pytest.mark.parametrize("port", ["-1", "70000"])
    def test_no_port(self, file: Path, port: str) -> None:
        with pytest.raises(ConfigError, match="from 0 to 65535"):
            command.run(self.parse(str(file), "--port", port))

    def test_only_this_machine_is_listened_to(self) -> None:
        with listen(0) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"

    def test_without_the_extra(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
        monkeypatch.delitem(__import__("sys").modules, "cattune.review.server")
        with pytest.raises(ConfigError, match=r"causal-attention-tuning\[review\]"):
            command.run(self.parse(str(file)))


def test_records_of_a_journal_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x.jsonl")
    records = [
        Record("set", 2**64 - 1, hats(metadata={"a": "\u2028\x85 line ends of other alphabets"})),
        Record("undo", 0, hats()),
    ]
    for record in records:
        journal.append(record)
    assert journal.read() == records
    journal.clear()
    assert journal.read() == []
    journal.close()
    assert list(tmp_path.iterdir()) == []
