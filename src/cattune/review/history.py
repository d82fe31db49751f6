"""What one example has been, for undo and redo, and how the edits of a journal are made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cattune.examples import Example
from cattune.loading import save_examples
from cattune.review.journal import Record
from cattune.review.source import Source

_STEPS = {"undo": -1, "redo": 1}


@dataclass(slots=True)
class History:
    """What one example has been.

    Args:
        states: oldest first.
        saved: what the file has.
        version: grows with every step, undo and redo included.
        at: which of the states it is now.
    """

    states: list[Example]
    saved: Example
    version: int = 0
    at: int = 0

    @property
    def now(self) -> Example:
        """The example as it is."""
        return self.states[self.at]

    def has(self, by: int) -> bool:
        """Whether one can go that many states on, or back."""
        return 0 <= self.at + by < len(self.states)

    def push(self, example: Example) -> None:
        """A new state; what had been undone is forgotten."""
        del self.states[self.at + 1 :]
        self.states.append(example)
        self.go(1)

    def go(self, by: int) -> None:
        """Go on or back."""
        self.at += by
        self.version += 1

    def replay(self, record: Record) -> None:
        """Make an edit of a journal again; an undo past the journal's beginning becomes a new state."""
        by = _STEPS.get(record.kind, 0)
        if by and self.has(by) and self.states[self.at + by] == record.example:
            self.go(by)
        else:
            self.push(record.example)


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """What became of the edits in a journal.

    Args:
        applied: how many examples' edits are in force again.
        set_aside: ids of edited examples that the file now has otherwise, or not at all.
        path: where the reviewer's versions of those are; None where there are none.
    """

    applied: int = 0
    set_aside: tuple[str, ...] = ()
    path: Path | None = None


def carry_over(
    records: Sequence[Record], source: Source, ids: dict[str, int], target: Path, version: int
) -> tuple[dict[int, History], CarriedOver]:
    """Make a journal's edits again, on the examples whose lines are those that the edits were made on.

    Args:
        records: the journal.
        source: the file as it is now.
        ids: the index of each example.
        target: beside it goes what fits no longer.
        version: the version of an example without edits.
    """
    by_id: dict[str, list[Record]] = {}
    for record in records:
        by_id.setdefault(record.example.id, []).append(record)
    histories: dict[int, History] = {}
    aside: list[Example] = []
    for name, edits in by_id.items():
        index, last = ids.get(name), edits[-1].example
        now = None if index is None else source.example(index)
        if index is not None and now is not None and edits[0].base == source.lines.hashes[index]:
            histories[index] = History([now], now, version)
            for edit in edits:
                histories[index].replay(edit)
        elif now != last and sum(_STEPS.get(edit.kind, 1) for edit in edits) != 0:
            aside.append(last)  # else it was saved before the journal could be cleared, or all of it was undone
    path = _set_aside(aside, target)
    return histories, CarriedOver(len(histories), tuple(example.id for example in aside), path)


def _set_aside(examples: Sequence[Example], target: Path) -> Path | None:
    if not examples:
        return None
    number = 1
    while (path := target.with_name(f"{target.name}.set-aside-{number}.jsonl")).exists():
        number += 1
    save_examples(path, examples)
    return path
