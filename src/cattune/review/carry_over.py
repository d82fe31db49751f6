"""What becomes of the edits in a journal when the file is read again, which may have changed in the meantime.

Each example that was edited meets one of three fates: its edits are in force again, or there is nothing to do, because
the file has what the reviewer wanted or the reviewer wanted what the file had, or the reviewer's version is set aside
in a file beside the one under review.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cattune.data.atomic import atomic_file
from cattune.data.examples import Example
from cattune.data.jsonl import to_json
from cattune.data.records import example_to_dict
from cattune.review.exchange import put_new
from cattune.review.history import History
from cattune.review.journal import Record, fingerprint
from cattune.review.source import Source

_ASIDE = ".set-aside-"


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """What became of the edits in a journal.

    Args:
        applied: how many examples' edits are in force again, and not saved.
        set_aside: ids of edited examples that the file now has otherwise, or not at all.
        path: where the reviewer's versions of those are; None where there are none.
        torn: whether the journal ended in an edit that was cut short.
    """

    applied: int = 0
    set_aside: tuple[str, ...] = ()
    path: Path | None = None
    torn: bool = False


@dataclass(slots=True)
class Fates:
    """The edited examples, by what becomes of their edits.

    Args:
        carried: by the example's index, the edits made again.
        aside: the newest record of each example that fits no longer.
        settled: the newest record of each example for which there is nothing to do.
    """

    carried: dict[int, History] = field(default_factory=dict)
    aside: list[Record] = field(default_factory=list)
    settled: list[Record] = field(default_factory=list)


def decide(records: Sequence[Record], source: Source, ids: dict[str, int], version: int) -> Fates:
    """Make a journal's edits again on the examples that are as they were when the edits were made.

    Args:
        records: the journal.
        source: the file as it is now.
        ids: the index of each example.
        version: the version of an example without edits.
    """
    fates = Fates()
    for name, edits in _open_edits(records).items():
        index, last = ids.get(name), edits[-1]
        now = None if index is None else source.example(index)
        if index is not None and now is not None and last.base in (fingerprint(now), source.lines.hashes[index]):
            fates.carried[index] = history = History([now], now, version)
            for edit in edits:
                history.replay(edit)
        elif now == last.example or last.base == fingerprint(last.example):
            fates.settled.append(last)
        else:
            fates.aside.append(last)
    return fates


def _open_edits(records: Sequence[Record]) -> dict[str, list[Record]]:
    """For each example its edits that have not been dealt with."""
    by_id: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "settled":
            by_id.pop(record.example.id, None)
        else:
            by_id.setdefault(record.example.id, []).append(record)
    return by_id


def set_aside(examples: Sequence[Example], target: Path, like: os.stat_result) -> Path:
    """Write examples to a new file beside another one, with that one's permissions; the new file's path.

    Raises:
        OutputError: It cannot be written.
    """
    number = 1
    while os.path.lexists(path := target.with_name(f"{target.name}{_ASIDE}{number}.jsonl")):
        number += 1
    with atomic_file(path, like=like, put=put_new) as write:
        for example in examples:
            write(to_json(example_to_dict(example), str(path)) + b"\n")
    return path


def files_set_aside(target: Path) -> list[Path]:
    """The files of what was set aside, by this review or an earlier one, that are still beside a file."""
    beginning = f"{target.name}{_ASIDE}"
    return sorted(path for path in target.parent.iterdir() if path.name.startswith(beginning))
