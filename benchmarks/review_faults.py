"""Whether the review page loses a confirmed edit: random histories with faults at each write, flush and rename.

    python benchmarks/review_faults.py [--histories N] [--dir DIR]      writes results/review_faults.json

A history is a reviewer who edits, undoes, redoes, saves, reloads, stops and starts again, a process that is killed or
fails at any step of what it writes, and another program that changes the file; tests/review_world.py has them, with
what must be true after each step. History number n is that of the seed n. All is in one process: a kill means that
nothing which comes after it reaches the file system. What a loss of power does to unwritten pages is not tried.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faulty_system import KINDS
from review_world import random_history

from cattune.data.jsonl import write_json
from cattune.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "review_faults.json"
STEPS = 14
EDITS = ("new", "done", "accept", "reject", "undo", "redo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--dir", help="where the files are made, such as /dev/shm; default: the system's own place")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=args.dir))
    counts: Counter[str] = Counter()
    failures: list[dict[str, object]] = []
    began = time.monotonic()
    for seed in range(args.histories):
        place = folder / str(seed)
        place.mkdir()
        try:
            counts += random_history(place, random.Random(seed), STEPS, KINDS).counts
        except AssertionError as error:
            failures.append({"seed": seed, "what": str(error)[:300]})
            print(f"history {seed}: {error}", file=sys.stderr)
        shutil.rmtree(place)
        if not (seed + 1) % 1000:
            print(f"{seed + 1:,} histories, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    edits = sum(count for what, count in counts.items() if what.endswith(": done") and what.split(":")[0] in EDITS)
    result = {
        "histories": args.histories,
        "steps": STEPS,
        "edits_confirmed": edits,
        "faults": sum(count for what, count in counts.items() if what.startswith("fault: ")),
        "edits_lost": len(failures),
        "failures": failures,
        "seconds": round(time.monotonic() - began, 1),
        "counts": dict(sorted(counts.items())),
    }
    write_json(RESULTS, result | {"provenance": provenance(histories=args.histories, steps=STEPS)})
    print(f"{args.histories:,} histories, {edits:,} confirmed edits, {result['faults']:,} faults: {len(failures)} lost")


if __name__ == "__main__":
    main()
