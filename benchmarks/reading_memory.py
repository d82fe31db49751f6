"""Peak memory of the commands that read a file of examples and report on it, as the file grows.

    python benchmarks/reading_memory.py [--lines 10000 50000 200000]

Generated STG examples, with links; in every tenth one a link could not be grounded and one crosses the answer's first
tokens, so that there is something to report. Each command is a process of its own; memory is its peak resident set
size, as the system gives it when the process ends (what `/usr/bin/time -v` prints). Linux counts what the parent held
into it, so the files are made in a process of their own, and this one stays small. The reference is the same file in
another order. Growth is the memory of the largest file above that of the smallest, divided by the lines between them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from cattune.data.examples import Example, RefusedLink
from cattune.data.jsonl import write_json, write_jsonl
from cattune.data.records import example_to_dict
from cattune.grounding.links import CAUSE_MISSING
from cattune.provenance import provenance
from cattune.tasks.stg import load_game, make_split

GAME, SEED, CHUNK = "cancer_risk", 0, 1000
COMMANDS = {
    "align": ["align", "{file}", "--tokenizer", "tiny", "--out", "{out}", "--overwrite"],
    "align, a published file": ["align", "{published}", "--tokenizer", "tiny", "--out", "{out}", "--overwrite"],
    "annotations report": ["annotations", "report", "{file}", "--json"],
    "annotations report, with a reference": ["annotations", "report", "{file}", "--reference", "{other}", "--json"],
}


def examples(lines: int) -> Iterator[Example]:
    game = load_game(GAME)
    made = 0
    while made < lines:
        for example in make_split(game, "train", CHUNK, SEED + made):
            if made % 10 == 0:
                lost = (RefusedLink(f"no {made}", "phrase", CAUSE_MISSING),)
                example = (
                    replace(example, completion="", links=(), refused=lost)
                    if made % 100 == 0
                    else replace(example, refused=lost)
                )
            yield replace(example, id=f"{example.id}-{made}")
            made += 1
            if made == lines:
                return


def published(example: Example) -> dict[str, Any]:
    links = [{example.text_of(link.effect): [example.text_of(c) for c in link.causes]} for link in example.links]
    return {"idx": example.id, "input": example.prompt, "target": example.completion, "important": links}


def write_files(folder: Path, lines: int) -> dict[str, str]:
    """The files of one size, by the names that stand in COMMANDS."""
    files = {name: str(folder / f"{name}.jsonl") for name in ("file", "published", "other")}
    write_jsonl(files["file"], map(example_to_dict, examples(lines)))
    write_jsonl(files["published"], (published(example) for example in examples(lines)))
    rows = Path(files["file"]).read_bytes().splitlines(keepends=True)
    random.Random(SEED).shuffle(rows)
    Path(files["other"]).write_bytes(b"".join(rows))
    return files | {"out": str(folder / "report.json")}


def measured(words: list[str], log: Path) -> dict[str, float]:
    """Peak resident set size and CPU seconds of a command."""
    started = time.perf_counter()
    with log.open("wb") as out:
        redirected = [(os.POSIX_SPAWN_DUP2, out.fileno(), fd) for fd in (1, 2)]
        command = [sys.executable, "-m", "cattune", *words]
        child = os.posix_spawn(sys.executable, command, os.environ, file_actions=redirected)
        _, status, usage = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{words}: {log.read_text()[-2000:]}")
    return {
        "peak_mb": usage.ru_maxrss / 1024,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "seconds": time.perf_counter() - started,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="default: all commands")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "reading_memory.json")
    args = parser.parse_args()
    cells = []
    for lines in sorted(args.lines):
        with tempfile.TemporaryDirectory() as name:
            with multiprocessing.get_context("spawn").Pool(1) as other:
                files = other.apply(write_files, (Path(name), lines))
            size = Path(files["file"]).stat().st_size / 1e6
            for command in args.only:
                cell = measured([word.format(**files) for word in COMMANDS[command]], Path(name) / "log")
                cells.append({"command": command, "lines": lines, "file_mb": size, **cell})
                print(f"{command}, {lines} lines: {cell['peak_mb']:.0f} MB, {cell['cpu_seconds']:.1f} s", flush=True)
    growth = {}
    for command in args.only:
        first, *_, last = (cell for cell in cells if cell["command"] == command)
        growth[command] = 2**20 * (last["peak_mb"] - first["peak_mb"]) / (last["lines"] - first["lines"])
        print(f"{command}: {growth[command]:.0f} bytes a line")
    write_json(args.out, {"cells": cells, "bytes_a_line": growth, "provenance": provenance(game=GAME, seed=SEED)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
