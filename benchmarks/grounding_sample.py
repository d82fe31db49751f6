"""Draws links whose phrases are ambiguous, and prints them for labelling by hand.

    python benchmarks/grounding_sample.py --data FOLDER

From each of the published files with worked problems the same number of links is drawn, with a fixed seed and at most
one of a record, among those where the choice of an occurrence matters: the effect occurs more than once, or more than
one occurrence of a cause stands before the end of the effect's last one. Every occurrence of an ambiguous phrase is
printed with its number. Occurrences are whole words and numbers in one field; they are found here and not by
`cattune.grounding.links`, so that what is drawn does not depend on what is measured.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cattune.data.jsonl import read_jsonl
from cattune.formats.published import _phrase, _phrases

FILES = tuple(f"{name}.jsonl" for name in ("mawps_train", "mawps_val", "svamp_train", "svamp_val", "gsm8k_val"))
PER_FILE = 44
SEED = 20_240

_TOKEN = re.compile(r"\d+(?:[.,]\d+)*|\w+")

Place = tuple[int, int]
"""[start, end) in the joined fields."""


class Link(NamedTuple):
    """A link of a published record, in words."""

    file: str
    record: int
    """The line of its record, from 0."""
    number: int
    """Its position among the record's links."""
    effect: str
    causes: tuple[str, ...]


class Record(NamedTuple):
    """A record's fields and links."""

    prompt: str
    completion: str
    links: tuple[Link, ...]

    @property
    def joined(self) -> str:
        """The fields in reading order."""
        return self.prompt + self.completion

    @property
    def digest(self) -> str:
        """By which a changed record is noticed."""
        return hashlib.sha256(self.joined.encode()).hexdigest()[:16]


def read_records(path: Path) -> list[Record]:
    records = []
    for line, record in read_jsonl(path):
        links = enumerate(_phrases(record, f"{path.name}, line {line}", []))
        records.append(
            Record(
                prompt=record["input"],
                completion=_phrase(record["target"]) or "",
                links=tuple(
                    Link(path.name, line - 1, index, effect, tuple(causes)) for index, (effect, causes) in links
                ),
            )
        )
    return records


def places(record: Record, phrase: str) -> list[Place]:
    """Where a phrase occurs as whole words and numbers in one field, in reading order."""
    if not phrase.strip():
        return []
    found = []
    for start, field in ((0, record.prompt), (len(record.prompt), record.completion)):
        inside = {cut for token in _TOKEN.finditer(field) for cut in range(token.start() + 1, token.end())}
        at = field.find(phrase)
        while at >= 0:
            if at not in inside and at + len(phrase) not in inside:
                found.append((start + at, start + at + len(phrase)))
            at = field.find(phrase, at + 1)
    return found


def candidates(record: Record, link: Link) -> tuple[list[Place], dict[str, list[Place]]]:
    """The places of the effect, and for each cause those before the end of the effect's last one."""
    effects = places(record, link.effect)
    end = effects[-1][1] if effects else 0
    return effects, {cause: [at for at in places(record, cause) if at[0] < end] for cause in link.causes}


def is_ambiguous(record: Record, link: Link) -> bool:
    effects, causes = candidates(record, link)
    return any(causes.values()) and (len(effects) > 1 or any(len(found) > 1 for found in causes.values()))


def draw(folder: Path) -> Iterator[tuple[Record, Link]]:
    """The sample, in the order of the files."""
    for name in FILES:
        records = read_records(folder / name)
        links = [link for record in records for link in record.links if is_ambiguous(record, link)]
        random.Random(f"{SEED} {name}").shuffle(links)
        one_of_each = {link.record: link for link in reversed(links)}
        order = {link: position for position, link in enumerate(links)}
        chosen = sorted(one_of_each.values(), key=order.__getitem__)[:PER_FILE]
        yield from ((records[link.record], link) for link in sorted(chosen, key=lambda link: link.record))


def show(record: Record, link: Link) -> str:
    """The text with the places of ambiguous phrases numbered (e the effect, the rest causes), and the links beside."""
    effects, causes = candidates(record, link)
    marks: list[tuple[int, int, str]] = []
    lines = []
    for letter, (phrase, found) in zip(
        "eabcdfghijklmnopqrstuvwxyz", [(link.effect, effects), *causes.items()], strict=False
    ):
        times = 1 if letter == "e" else link.causes.count(phrase)
        lines.append(f"  {letter} {phrase!r}: {len(found)}" + (f", named {times} times" if times > 1 else ""))
        if len(found) > 1:
            for number, (start, end) in enumerate(found, start=1):
                marks += [(start, 1, f"⟦{letter}{number}:"), (end, 0, "⟧")]
    text = record.joined
    for at, _, mark in sorted(marks, key=lambda mark: mark[:2], reverse=True):
        text = text[:at] + mark + text[at:]
    near = record.links[max(0, link.number - 1) : link.number + 2]
    context = " | ".join(f"{other.effect} <- {list(other.causes)}" for other in near if other is not link)
    return "\n".join([text, *lines, f"  beside: {context}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published training files")
    for number, (record, link) in enumerate(draw(parser.parse_args().data)):
        print(f"#{number} {link.file} {link.record} {link.number}\n{show(record, link)}\n")


if __name__ == "__main__":
    main()
