"""Whether mutated records, YAML files and chat templates get through the readers and commands in order.

    python benchmarks/mutations.py [--inputs N] [--first SEED] [--dir DIR]      writes results/mutations.json

Input number n is that of the seed n; tests/mutated_inputs.py makes it, and tests/mutation_trials.py reads it and has
what must be true: no exception but cattune's own, messages of at most 1,000 characters, exit status 0, 1 or 2, at most
5 s of the processor, bounded memory, and where records are read, the words that Python's `json` finds in the file. One
in twenty of the bombs in chat templates is one that does not end, since each of these takes seconds.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mutation_trials import Trial, loaded, trial

from cattune.data.jsonl import write_json
from cattune.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "mutations.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--dir", help="where the files are made, such as /dev/shm; default: the system's own place")
    args = parser.parse_args()
    loaded()
    trials: list[tuple[int, Trial]] = []
    began = time.monotonic()
    for seed in range(args.first, args.first + args.inputs):
        folder = Path(tempfile.mkdtemp(dir=args.dir))
        done = trial(seed, folder, endless=0.05)
        shutil.rmtree(folder, ignore_errors=True)
        trials.append((seed, done))
        if done.problem:
            print(f"input {seed}: {done.kind}: {', '.join(done.steps)}: {done.problem}", file=sys.stderr, flush=True)
        if not len(trials) % 1000:
            print(f"{len(trials):,} inputs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, done in trials:
        outcomes[done.kind][done.outcome or "failed"] += 1
    failures = [
        {"seed": seed, "kind": done.kind, "steps": done.steps, "what": done.problem}
        for seed, done in trials
        if done.problem
    ]
    slowest = sorted(trials, key=lambda each: -each[1].seconds)[:5]
    result = {
        "inputs": args.inputs,
        "first_seed": args.first,
        "failed": len(failures),
        "failures": failures,
        "outcomes": {kind: dict(sorted(counts.items())) for kind, counts in sorted(outcomes.items())},
        "most_processor_seconds": round(slowest[0][1].seconds, 2),
        "most_memory_grown_mb": max(done.grown for _, done in trials) >> 20,
        "slowest": [
            {"seed": seed, "kind": done.kind, "steps": done.steps, "processor_seconds": round(done.seconds, 2)}
            for seed, done in slowest
        ],
        "mutations": dict(sorted(Counter(step for _, done in trials for step in done.steps).items())),
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(RESULTS, result | {"provenance": provenance(inputs=args.inputs, first_seed=args.first)})
    print(f"{args.inputs:,} inputs: {len(failures)} failed; the slowest took {result['most_processor_seconds']} s")


if __name__ == "__main__":
    main()
