"""A file under review: its examples with the edits made so far, undo, and saving.

Nothing here knows of the web. Each example has a version, a number that grows with every edit of it; an edit says which
version it was made on, and is refused where that is not the newest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cattune.errors import CattuneError, ConfigError, DataError, OutputError
from cattune.examples import Example
from cattune.io import atomic_file, to_json
from cattune.records import example_to_dict
from cattune.review.history import CarriedOver, History, carry_over
from cattune.review.index import Index
from cattune.review.journal import Journal, Record
from cattune.review.problems import FileChanged, Stale
from cattune.review.source import Source

Progress = Callable[[int, int], None]
"""Is told how many bytes have been read, and of how many."""


@dataclass(slots=True)
class Document:
    """A file under review; made by `open_document`.

    Attributes:
        source: the file that lines are read from.
        target: the file that is written; after the first save it is the source too.
        index: what the filters need.
        journal: where edits are until they are saved.
        unsaved: the examples that differ from the file's.
        carried_over: what became of the edits that an earlier review had not saved.
    """

    source: Source
    target: Path
    index: Index
    journal: Journal
    unsaved: set[int] = field(default_factory=set)
    carried_over: CarriedOver = CarriedOver()
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
            self.journal.append(Record("set", self.source.lines.hashes[index], changed))
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
        if os.path.lexists(target):
            raise OutputError(f"{target} already exists; choose another name")
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
        source, index = _read(self.source.path, progress)
        old = self.source, self.index, self._histories, self._first_version
        newest = max((history.version for history in self._histories.values()), default=self._first_version)
        try:
            _check_form(source, self.target)
            self.source, self.index, self._first_version = source, index, newest + 1
            self.restore()
        except CattuneError:
            self.source, self.index, self._histories, self._first_version = old
            source.close()
            raise
        old[0].close()

    def restore(self) -> None:
        """Make the edits of the journal on the examples of the file."""
        records = self.journal.read()
        self._histories, self.carried_over = carry_over(
            records, self.source, self.index.ids, self.target, self._first_version
        )
        kept = [record for record in records if self.index.ids.get(record.example.id) in self._histories]
        if len(kept) < len(records):
            self.journal.clear(kept)
        self.unsaved = set()
        for index in self._histories:
            self._note(index)

    def close(self) -> None:
        """Let go of the files; edits that are not saved stay in the journal."""
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
        self.journal.append(Record(kind, self.source.lines.hashes[index], history.states[history.at + by]))
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

        with atomic_file(target) as write:
            lines, digest = self.source.copy(write, changed)
            self._check_target(target)  # at the last moment: right before the copy gets its name
        old = self.source
        self.source, self.target = old.moved_to(target, lines, digest), target
        old.close()
        count = len(self.unsaved)
        for history in self._histories.values():
            history.saved = history.now
        self.unsaved = set()
        self.journal.clear()
        return count

    def _check_target(self, target: Path) -> None:
        if target == self.source.path:
            self.source.check_unchanged()
        elif os.path.lexists(target):
            raise FileChanged(f"{target} was made by another program in the meantime; save under another name")


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
    if out is not None and os.path.lexists(target):
        raise OutputError(f"--out {target} already exists; go on with it (cattune review {target}), or name another")
    if target.exists() and not os.access(target, os.W_OK):  # to put another file in its place would be allowed
        raise OutputError(f"{target} is read-only; allow writing to it, or name a new file with --out")
    source, index = _read(file, progress)
    try:
        _check_form(source, target)
        journal = Journal(target)
        try:
            document = Document(source, target, index, journal)
            document.restore()
        except BaseException:
            journal.close()
            raise
    except BaseException:
        source.close()
        raise
    return document


def _read(path: Path, progress: Progress | None) -> tuple[Source, Index]:
    source, index = Source(path), Index()
    try:
        for example, place in source.scan():
            index.add(example)
            if progress is not None and not len(index) % 500:
                progress(place, source.size)
        index.seal()
    except BaseException:
        source.close()
        raise
    return source, index


def _check_form(source: Source, target: Path) -> None:
    if not source.native and target == source.path:
        raise ConfigError(
            f"{source.path} is not in cattune's own schema, and saving would change its format; name a new file with "
            "--out"
        )
