"""A file under review: its examples with the edits made so far, undo, and saving.

Nothing here knows of the web. Each example has a version, a number that grows with every edit of it; an edit says which
version it was made on, and is refused where that is not the newest.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from cattune.data.atomic import atomic_file
from cattune.data.examples import Example
from cattune.data.jsonl import to_json
from cattune.data.records import example_to_dict
from cattune.errors import CattuneError, ConfigError, DataError, OutputError
from cattune.review.carry_over import CarriedOver, decide, set_aside
from cattune.review.exchange import put_in_place, put_new
from cattune.review.history import History
from cattune.review.index import Index
from cattune.review.journal import SUFFIX, Journal, Record, fingerprint
from cattune.review.problems import FileChanged, Stale
from cattune.review.reading import Progress, check_new_target, read_source
from cattune.review.source import Source


@dataclass(slots=True)
class Document:
    """A file under review; made by `open_document`.

    Attributes:
        source: the file that lines are read from.
        target: the file that is written; after the first save it is the source too.
        index: what the filters need.
        journal: where edits are until they are saved.
        unsaved: the examples that differ from the file's.
        carried_over: what became of the edits that were not saved when the file was last read.
        aside: the files of this review that hold what no longer fitted, each with how many examples.
        reading: another one each time that the file is read; indices and versions of one mean nothing in another.
        alone: held by whoever uses the document, where there are several threads.
    """

    source: Source
    target: Path
    index: Index
    journal: Journal
    unsaved: set[int] = field(default_factory=set)
    carried_over: CarriedOver = CarriedOver()
    aside: dict[Path, int] = field(default_factory=dict)
    reading: str = ""
    alone: Lock = field(default_factory=Lock)
    _histories: dict[int, History] = field(default_factory=dict)
    _first_version: int = 0

    def __len__(self) -> int:
        return len(self.index)

    def example(self, index: int) -> Example:
        """An example as it is now."""
        self._check(index)
        return self._histories[index].now if index in self._histories else self.source.example(index)

    def version(self, index: int) -> int:
        """The version of an example."""
        return self._histories[index].version if index in self._histories else self._first_version

    def can_undo(self, index: int) -> bool:
        """Whether an example has a change to take back."""
        return index in self._histories and self._histories[index].has(-1)

    def can_redo(self, index: int) -> bool:
        """Whether an example has a change that was taken back."""
        return index in self._histories and self._histories[index].has(1)

    def edit(self, index: int, version: int, change: Callable[[Example], Example]) -> None:
        """Make a change and keep it in the journal.

        Raises:
            Stale: The example has been edited since that version.
            DataError: The change would make something that is no valid link; the message says why.
            OutputError: The journal cannot be written.
        """
        self._check(index, version)
        now = self.example(index)
        changed = change(now)
        if changed != now:
            history = self._history(index)
            self.journal.append(Record("set", fingerprint(history.saved), changed))
            history.push(changed)
            self._note(index)

    def undo(self, index: int, version: int) -> None:
        """Take the last change of an example back; errors as in `edit`."""
        self._go(index, version, "undo", -1)

    def redo(self, index: int, version: int) -> None:
        """Make the change that was last taken back again; errors as in `edit`."""
        self._go(index, version, "redo", 1)

    def save(self) -> int:
        """Write the file, with what was edited; lines that were not stay as they are, byte for byte.

        Returns:
            How many examples were changed.

        Raises:
            FileChanged: The file on disk is not the one that was read; nothing is written.
            OutputError: It cannot be written.
        """
        return self._save(self.target)

    def save_as(self, name: str) -> int:
        """Write to another file of the same folder, which must not exist, and go on with that one; as in `save`."""
        if not name.strip() or name in (".", "..") or "\0" in name or Path(name).name != name:
            raise ConfigError(f"{name!r}: expected the name of a file, without a folder")
        target = self.target.with_name(name)
        check_new_target(target, "choose another name")
        journal = Journal(target)
        try:
            if journal.read():
                raise OutputError(f"{target} does not exist, but a journal of edits to it does; choose another name")
            count = self._save(target)
        except BaseException:
            journal.close()
            raise
        self.journal.close()
        self.journal = journal
        return count

    def reload(self, progress: Progress | None = None) -> None:
        """Read the file again and make the edits that are not saved on it; `carried_over` says what fitted.

        Raises:
            CattuneError: The file is gone, or no longer in order; the document then stays as it is.
        """
        source, index = read_source(self.source.path, self.target, progress)
        newest = max((history.version for history in self._histories.values()), default=self._first_version)
        try:
            self._take(source, index, newest + 1)
        except BaseException:
            source.close()
            raise

    def restore(self) -> None:
        """Make the edits of the journal on the examples of the file; errors as in `reload`."""
        self._take(self.source, self.index, self._first_version)

    def _take(self, source: Source, index: Index, version: int) -> None:
        """Go on with what was read; nothing is changed before all that can fail is done."""
        fates = decide(self.journal.read(), source, index.ids, version)
        aside = [record.example for record in fates.aside]
        path = set_aside(aside, self.target, source.status) if aside else None
        done = [Record("settled", record.base, record.example) for record in (*fates.aside, *fates.settled)]
        try:
            if done:
                self.journal.append(*done)
        except BaseException:
            if path is not None:
                with suppress(OSError):  # it will be set aside again
                    path.unlink()
            raise
        if path is not None:
            self.aside[path] = len(aside)
        old, self.source, self.index, self._histories = self.source, source, index, fates.carried
        if old is not source:
            old.close()
        self._first_version, self.reading, self.unsaved = version, secrets.token_hex(4), set()
        for number in self._histories:
            self._note(number)
        ids = tuple(example.id for example in aside)
        self.carried_over = CarriedOver(len(self.unsaved), ids, path, self.journal.torn)

    def close(self) -> None:
        """Let go of the files; edits that are not saved stay in the journal."""
        if not self.unsaved:
            with suppress(CattuneError):
                self.journal.clear()
        self.source.close()
        self.journal.close()

    def _check(self, index: int, version: int | None = None) -> None:
        if not 0 <= index < len(self):
            raise DataError(f"there is no example {index}; the file has {len(self)}")
        if version is not None and version != self.version(index):
            raise Stale("this example was changed elsewhere in the meantime; it is shown as it is now")

    def _history(self, index: int) -> History:
        if index not in self._histories:
            example = self.source.example(index)
            self._histories[index] = History([example], example, self._first_version)
        return self._histories[index]

    def _go(self, index: int, version: int, kind: str, by: int) -> None:
        self._check(index, version)
        history = self._history(index)
        if not history.has(by):
            raise DataError(f"there is nothing to {kind} in this example")
        self.journal.append(Record(kind, fingerprint(history.saved), history.states[history.at + by]))
        history.go(by)
        self._note(index)

    def _note(self, index: int) -> None:
        """Bring what is derived from an example up to date."""
        history = self._histories[index]
        self.index.update(index, history.now)
        (self.unsaved.discard if history.now == history.saved else self.unsaved.add)(index)

    def _save(self, target: Path) -> int:
        def changed(index: int) -> bytes | None:
            if self.source.native and index not in self.unsaved:
                return None
            return to_json(example_to_dict(self.example(index)), str(target)) + b"\n"

        copies: list[Source] = []

        def put(temporary: Path, final: Path) -> None:
            copies.append(self.source.moved_to(target, temporary, lines, digest))  # now: nothing may fail afterwards
            if target == self.source.path:
                return put_in_place(self.source.check_unchanged)(temporary, final)
            try:
                return put_new(temporary, final)
            except FileExistsError:
                raise FileChanged(
                    f"{target} was made by another program in the meantime; save under another name"
                ) from None

        try:
            with atomic_file(target, like=self.source.status, put=put) as write:
                lines, digest = self.source.copy(write, changed)
        except BaseException:
            for copy in copies:
                copy.close()
            raise
        self.source.close()
        self.source, self.target = copies[0], target
        count = len(self.unsaved)
        for history in self._histories.values():
            history.saved = history.now
        self.unsaved = set()
        with suppress(CattuneError):  # what is left in it is found to be saved when it is next read
            self.journal.clear()
        return count


def open_document(path: str | Path, out: str | Path | None = None, progress: Progress | None = None) -> Document:
    """Read a file for review.

    Args:
        path: the examples, in any format that cattune reads.
        out: where to save, a file that does not exist; None: `path` itself, which must then be in cattune's schema.
        progress: see `Progress`.

    Raises:
        CattuneError: The file is not in order, is open in another review, or edits to it could not be kept.
    """
    file = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    target = file if out is None else Path(out)
    if out is not None:
        check_new_target(target, f"go on with it (cattune review {target}), or name another")
    if target.exists() and not os.access(target, os.W_OK):  # to put another file in its place would be allowed
        raise OutputError(f"{target} is read-only; allow writing to it, or name a new file with --out")
    try:
        Source(file).close()  # says what is wrong with it before a lock and a journal are made beside it
        journal = Journal(target)
        try:
            source, index = read_source(file, target, progress)  # under the lock: no other review saves meanwhile
            try:
                document = Document(source, target, index, journal)
                document.restore()
            except BaseException:
                source.close()
                raise
        except BaseException:
            journal.close()
            raise
    except (DataError, ConfigError) as error:
        kept = target.with_name(target.name + SUFFIX)
        if str(kept) in str(error) or not kept.is_file() or not kept.stat().st_size:
            raise
        raise type(error)(f"{error}. Unsaved edits of an earlier review are kept in {kept}") from error
    return document
