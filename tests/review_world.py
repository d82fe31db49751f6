"""A reviewer, the page's document and another program at work on one file, and what must be true of them.

What is held against the document is kept here, in plain lists: what the file had when it was read, what the reviewer
was last shown after a confirmed edit, and what is in the file now. Each confirmed edit must be in the file, or shown
and unsaved, or in a file of what was set aside.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from faulty_system import Faults, Killed

from cattune.cli.review import _farewell, _greeting
from cattune.data.examples import CausalLink, Example, Span
from cattune.data.locks import FileLock
from cattune.data.records import example_to_dict
from cattune.errors import CattuneError
from cattune.formats.loading import load_examples, save_examples
from cattune.review import edits
from cattune.review.document import Document, open_document
from cattune.review.journal import SUFFIX

CHANGES = (
    "change a line", "remove a line", "move lines", "add a line", "write a line otherwise", "same again", "bring back",
    "delete", "garbage", "an id twice",
)  # fmt: skip
"""What another program does to the file."""


def start_examples() -> list[Example]:
    link = CausalLink(Span("completion", 0, 1), (Span("prompt", 0, 3),))
    return [Example(name, "1 2 = ", "3", links=(link,)) for name in "abc"]


def contents(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def asides(folder: Path) -> dict[Path, list[Example]]:
    return {path: load_examples(path) for path in folder.glob("*.set-aside-*.jsonl")}


class World:
    """One history."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "f.jsonl"
        save_examples(self.path, start_examples())
        self.count = 0
        self.log: list[str] = []
        self.counts: Counter[str] = Counter()
        self.aside: dict[Path, list[Example]] = {}
        self.had: dict[str, Example] = {}  # in the file, when it was last read or saved
        self.wanted: dict[str, list[Example]] = {}  # confirmed last; two where the answer was lost
        self.order: list[str] = []
        self.earlier = [self.path.read_bytes()]
        self.locks = Locks()
        self.document: Document | None = None
        self.restart()

    # --- the reviewer

    def edit(self, place: int, kind: str, faults: Faults) -> None:
        """Edit, undo or redo one example."""
        document, index = self._here(place)
        name = self.order[index]
        self.count += 1
        change: dict[str, Callable[[Example], Example]] = {
            "new": lambda example: replace(example, metadata={**example.metadata, "mine": self.count}),
            "done": lambda example: edits.set_done(example, example.metadata.get("reviewed") is not True),
            "accept": lambda example: edits.accept(example, 0),
            "reject": lambda example: edits.reject(example, 0),
        }
        before = document.example(index)
        version = document.version(index)
        may_be = [before]
        if kind in change:
            with suppress(CattuneError):
                may_be.append(change[kind](before))
            work = lambda: document.edit(index, version, change[kind])  # noqa: E731
        else:
            by = -1 if kind == "undo" else 1
            history = document._histories.get(index)
            if history is not None and history.has(by):
                may_be.append(history.states[history.at + by])
            work = lambda: getattr(document, kind)(index, version)  # noqa: E731
        outcome = self._do(f"{kind} {name}", work, faults)
        if outcome == "killed":
            self.wanted[name] = may_be
        elif outcome == "done":
            self.wanted[name] = [document.example(index)]
            assert document.example(index) in may_be, "not what was asked for"
        elif "uncertain" in outcome:
            self.wanted[name] = may_be
            self.kill()
        self._check()

    def save(self, faults: Faults, name: str | None = None) -> None:
        """Save, or save under another name; `faults` may hold another program that replaces the file meanwhile."""
        document, _ = self._here(0)
        target = self.path if name is None else self.folder / name
        before, changed = contents(target), name is None and not self._as_loaded()
        theirs: list[bytes | None] = []
        faults.interfere = lambda: theirs.append(self.replace_by_another(target))
        outcome = self._do(f"save {name or ''}", lambda: document.save_as(name) if name else document.save(), faults)
        now = contents(target)
        if theirs:
            assert now == theirs[0], "another program's file was overwritten"
        elif outcome == "done":
            assert not changed, "a file that another program had changed was overwritten"
            assert load_examples(target) == [self.wanted[each][0] for each in self.order]
        elif now != before:  # it may have been done, and the answer lost; then as a whole
            assert faults.happened and not changed
            assert load_examples(target) == [self.wanted[each][0] for each in self.order]
        if outcome == "done":
            self.uncleared = faults.happened
            self.had = {each: values[0] for each, values in self.wanted.items()}
            self.path = target
            self.loaded_bytes = self.path.read_bytes() if not theirs else None
        if outcome == "killed" and name is None and not theirs and now != before:  # saved, and the answer lost
            self.had = {each: values[0] for each, values in self.wanted.items()}
            self.uncleared, self.loaded_bytes = True, now
        if theirs and outcome != "done" and name is not None:
            target.unlink()  # not under review: it must not stand in the way of the next
        if outcome == "killed" and name is not None and now is not None and not theirs:
            self.aside[target] = load_examples(target)  # the reviewer goes on with the first file, and has this one too
        self._check()

    def reload(self, faults: Faults) -> None:
        """Read the file again."""
        document, _ = self._here(0)
        if self._do("reload", document.reload, faults) == "done":
            self._settle()
        self._check()

    # --- the process

    def kill(self) -> None:
        """End the process, as kill -9 does."""
        document, self.document = self.document, None
        if document is not None:
            document.source.close()
            document.journal._file.close()
        self.locks.let_go()

    def stop(self) -> None:
        """Ctrl-C."""
        document, _ = self._here(0)
        said = _farewell(document)
        if "everything is saved" in said:
            assert not self.aside_here and not self.unsaved()
            assert load_examples(self.path) == [self.wanted[each][0] for each in self.order]
        document.close()
        self.document = None
        assert self.unsaved() or not self._journal().exists(), "a journal was left behind"

    def restart(self, faults: Faults | None = None) -> None:
        """Start the process, if it does not run."""
        if self.document is not None:
            return
        faults = faults or Faults()
        self.log.append(f"restart ({faults.kind} at {faults.step})")
        made: list[Document] = []
        try:
            with faults.at_work(), self.locks.noted:
                made.append(open_document(self.path))
        except Killed:
            self.locks.let_go()
            self._tally("start", "killed", faults)
            return
        except CattuneError as error:
            self._tally("start", "refused", faults)
            in_order = self.readable()
            assert faults.happened or not in_order, f"not opened: {error}"
            certain = any(self.had[name] not in values for name, values in self.wanted.items()) and not self._copied()
            if not in_order and not faults.happened and certain:
                assert str(self._journal()) in str(error), "not told where the edits are"
            return
        self._tally("start", "done", faults)
        self.document = made[0]
        self.aside_here = False
        self._settle()
        self._check()

    def end(self) -> None:
        """Kill the process, and see that nothing is lost."""
        self.kill()
        if not self.readable():
            self.change("bring back", 0)
        self.restart()
        self.kill()

    # --- another program

    def change(self, kind: str, place: int) -> None:
        """Change the file on the disk."""
        self.log.append(f"another program: {kind} {place}")
        self.counts[f"another program: {kind}"] += 1
        self.count += 1
        try:
            now = load_examples(self.path)
        except CattuneError:
            now = start_examples() if kind != "bring back" else []
        place %= max(1, len(now))
        lines = [json.dumps(example_to_dict(example)) for example in now]
        if kind == "delete":
            self.path.unlink(missing_ok=True)
            return
        if kind == "change a line" and now:
            changed = replace(now[place], metadata={**now[place].metadata, "theirs": self.count})
            lines[place] = json.dumps(example_to_dict(changed))
        elif kind == "remove a line" and len(lines) > 1:
            del lines[place]
        elif kind == "move lines":
            lines = lines[place:] + lines[:place]
        elif kind == "add a line":
            lines.insert(place, json.dumps(example_to_dict(Example(f"new-{self.count}", "x ", "y"))))
        elif kind == "write a line otherwise" and now:
            lines[place] = json.dumps(dict(reversed(example_to_dict(now[place]).items())), separators=(" , ", ":  "))
        elif kind == "garbage":
            lines = ["{"]
        elif kind == "an id twice" and now:
            lines.append(lines[place])
        data = "".join(f"{line}\n" for line in lines).encode()
        if kind == "same again" and self.path.exists():
            data = self.path.read_bytes()
        if kind == "bring back":
            data = self.earlier[place % len(self.earlier)]
        self._put(self.path, data)

    def replace_by_another(self, target: Path) -> bytes:
        """Put another file in the place of one, by rename."""
        self.count += 1
        data = (json.dumps(example_to_dict(Example(f"race-{self.count}", "x ", "y"))) + "\n").encode()
        self._put(target, data)
        return data

    # --- what must be true

    def unsaved(self) -> list[str]:
        return [name for name, values in self.wanted.items() if values != [self.had[name]]]

    def _here(self, place: int) -> tuple[Document, int]:
        assert self.document is not None
        return self.document, place % len(self.document)

    def _do(self, words: str, work: Callable[[], Any], faults: Faults) -> str:
        """Do something: "done", "killed", or what was told the reviewer."""
        self.log.append(f"{words} ({faults.kind} at {faults.step})")
        try:
            with faults.at_work(), self.locks.noted:
                work()
            outcome = "done"
        except Killed:
            self.kill()
            outcome = "killed"
        except CattuneError as error:
            self.log.append(f"    told: {error}")
            outcome = str(error)
        self._tally(words.split()[0], outcome if outcome in ("done", "killed") else "refused", faults)
        return outcome

    def _tally(self, what: str, outcome: str, faults: Faults) -> None:
        self.counts[f"{what}: {outcome}"] += 1
        if faults.happened:
            self.counts[f"fault: {faults.kind}, {faults.where}"] += 1

    def _check(self) -> None:
        """What is shown is what was last confirmed, and the unsaved ones are those that differ from the file's."""
        for path, examples in self.aside.items():
            assert load_examples(path) == examples, "what was set aside is gone"
        if self.document is None:
            return
        shown = [self.document.example(index) for index in range(len(self.document))]
        assert shown == [self.wanted[name][0] for name in self.order]
        assert {self.order[index] for index in self.document.unsaved} == set(self.unsaved())
        with self._journal().open("rb") as file:
            assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600

    def _settle(self) -> None:
        """The file has been read, with a journal: see what became of each unsaved edit."""
        document = self.document
        assert document is not None
        now = {example.id: example for example in load_examples(self.path)}
        shown = {document.example(index).id: document.example(index) for index in range(len(document))}
        assert list(shown) == list(now)
        new = {path: examples for path, examples in asides(self.folder).items() if path not in self.aside}
        told = set(document.carried_over.set_aside)
        greeting = _greeting(document)
        kept = [example for path in new if str(path) in greeting for example in new[path]]  # set aside, and told
        if told:
            assert document.carried_over.path in new and str(document.carried_over.path) in _greeting(document)
            assert {example.id for example in new[document.carried_over.path]} == told
            self.aside_here = True
        copied = self._copied()
        for name, values in self.wanted.items():
            had, has, sees = self.had[name], now.get(name), shown.get(name)
            fates = []
            for wanted in values:
                if wanted == had:
                    fates.append(sees == has and name not in told)
                    if self.uncleared:  # saved, and brought back to be saved again, or set aside
                        fates.append(sees == wanted or (sees == has and wanted in kept))
                elif wanted in copied and sees == has:
                    fates.append(True)
                elif has == had:
                    again = sees == has and wanted in kept  # set aside by one who was killed; the file is back since
                    fates.append((sees == wanted or again) and name not in told)
                else:
                    fates.append(sees == wanted == has or (sees == has and wanted in kept))
            assert any(fates), f"{name}: lost {values}, the file had {had} and has {has}, shown is {sees}"
        for name in set(shown) - set(self.wanted):
            assert shown[name] == now[name]
        self.aside |= new
        self.counts["edits carried over"] += len(document.unsaved)
        self.counts["edits set aside"] += len(told)
        self.order, self.had = list(now), now
        self.wanted = {name: [example] for name, example in shown.items()}
        self.loaded_bytes = self.path.read_bytes()

    aside_here = False
    uncleared = False
    """Whether the system failed after the last save, so that the journal may still hold what is saved."""
    loaded_bytes: bytes | None = None
    """What was read or saved last; None: what it was is known, but another program replaced it before it was seen."""

    def _copied(self) -> list[Example]:
        """What a save under another name has put into whole files, although its answer was lost."""
        return [example for path in self.aside for example in self.aside[path] if ".set-aside-" not in path.name]

    def _as_loaded(self) -> bool:
        if self.loaded_bytes is not None:
            return contents(self.path) == self.loaded_bytes
        return self.readable() and load_examples(self.path) == [self.had[name] for name in self.order]

    def readable(self) -> bool:
        try:
            load_examples(self.path)
        except CattuneError:
            return False
        return True

    def _journal(self) -> Path:
        return self.path.with_name(self.path.name + SUFFIX)

    def _put(self, target: Path, data: bytes) -> None:
        other = self.folder / "other"
        with open(other, "wb") as file:
            file.write(data)
        os.rename(other, target)
        self.earlier.append(data)


class Locks:
    """The locks of a process, so that it lets go of them when it dies, wherever it is."""

    def __init__(self) -> None:
        self._taken: list[tuple[int, os.stat_result]] = []
        take = FileLock._take

        def noted(lock: FileLock, busy: str) -> int:
            descriptor = take(lock, busy)
            self._taken.append((descriptor, os.fstat(descriptor)))
            return descriptor

        self.noted = patch.object(FileLock, "_take", noted)

    def let_go(self) -> None:
        for descriptor, status in self._taken:
            with suppress(OSError):
                if os.path.samestat(os.fstat(descriptor), status):
                    os.close(descriptor)
        self._taken.clear()


def random_history(folder: Path, rng: random.Random, steps: int, kinds: tuple[str, ...]) -> World:
    """A history of its own for each state of the generator."""
    world = World(folder)
    for _ in range(steps):
        faults = Faults(rng.choice(kinds) if rng.random() < 0.4 else "none", rng.choice((0, 0, 1, 1, 2, 3, 4, 5, 6, 8)))
        what = rng.random()
        if what < 0.2:
            world.change(rng.choice(CHANGES), rng.randrange(8))
        elif world.document is None:
            if not world.readable() and rng.random() < 0.7:
                world.change("bring back", rng.randrange(8))
            world.restart(faults if rng.random() < 0.5 else None)
        elif what < 0.65:
            kind = rng.choice(("new", "new", "done", "accept", "reject", "undo", "undo", "redo"))
            if faults.kind != "interference":
                world.edit(rng.randrange(3), kind, faults)
        elif what < 0.78:
            world.save(Faults("interference", rng.randrange(7)) if rng.random() < 0.25 else faults)
        elif what < 0.80:
            world.save(faults, f"g{world.count}.jsonl")
        elif what < 0.88:
            if faults.kind != "interference":
                world.reload(faults)
        elif what < 0.95:
            world.kill()
        else:
            world.stop()
    world.end()
    return world
