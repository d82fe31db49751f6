"""Whether a spoilt reply is ever read as one that says something else: random faults of models, servers and wires.

    python benchmarks/mutated_replies.py [--replies N]      writes results/mutated_replies.json

A reply names phrases of a text (plain, LaTeX, code, paths, tables, Chinese, texts about thought tags), and is spoilt in
one to three ways before it is read; tests/reply_mutations.py has the ways, and what must be true of what is accepted.
Reply number n is that of the seed n.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reply_mutations import EDITS, FORMS, MOST_SECONDS, check_reply

from cattune.data.jsonl import write_json
from cattune.provenance import provenance

RESULTS = Path(__file__).parent / "results" / "mutated_replies.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=10_000)
    args = parser.parse_args()
    counts: Counter[str] = Counter()
    failures: list[dict[str, object]] = []
    slowest = 0.0
    began = time.monotonic()
    for seed in range(args.replies):
        try:
            what, seconds = check_reply(seed)
            counts += what
            slowest = max(slowest, seconds)
        except Exception as error:
            failures.append({"seed": seed, "what": f"{type(error).__name__}: {error}"[:500]})
            print(f"reply {seed}: {failures[-1]['what']}", file=sys.stderr)
        if not (seed + 1) % 1000:
            print(f"{seed + 1:,} replies, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    result = {
        "replies": args.replies,
        "ways": [*FORMS, *EDITS],
        "phrases_accepted": counts.pop("phrases", 0),
        "failures": failures,
        "most_seconds_allowed": MOST_SECONDS,
        "slowest_seconds": round(slowest, 2),
        "seconds": round(time.monotonic() - began, 1),
        "counts": dict(sorted(counts.items())),
        "provenance": provenance(replies=args.replies),
    }
    write_json(RESULTS, result)
    print({key: value for key, value in result.items() if key not in ("ways", "provenance")})
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
