"""Does Causal Attention Tuning hold up where spurious correlations break? The claims of the README, measured afresh.

    python benchmarks/stg.py --published FOLDER --out benchmarks/results/stg.json

Trains `sft`, `cat` and `causal-only` on STG L, M and S, on the published training files of the same sizes (with
--published) and on the second game, three seeds each, and `sft` and `cat` on L with seven seeds more. The seeds are
fresh: nothing was chosen by them (docs/tiny.md says what was chosen by what). About 75 minutes on two cores; a group
that the output file holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from cattune.cli.progress import progress_bars
from cattune.data.jsonl import write_json
from cattune.experiments.cell import Cell, CellResult
from cattune.experiments.grid import gap_closed, run_grid, summarize
from cattune.provenance import provenance
from cattune.reports.terminal import print_arms
from cattune.tasks.stg import SIZES
from cattune.tasks.stg.task import StgTask

SEEDS = range(100, 103)
PUBLISHED_SEEDS = (range(103, 106), range(106, 109), range(109, 112))
ROBUSTNESS_SEEDS = range(112, 119)
COMPARED = ("sft", "cat", "causal-only")
ROLES = {"baseline": "sft", "method": "cat", "ceiling": "causal-only"}


class Group(NamedTuple):
    """Cells that are compared with each other."""

    task: StgTask
    arms: tuple[str, ...] = COMPARED
    seeds: range = SEEDS
    splits: tuple[str, ...] = ("iid", "ood")


def groups(published: Path | None) -> dict[str, Group]:
    """Each group by its name; `ood-permuted` and unseen causes are tested on STG L."""
    sizes = {size: SIZES[size][1] for size in "lms"}
    chosen = {
        "stg-l": Group(StgTask(train=sizes["l"]), splits=StgTask.evaluated[1:]),
        "stg-s": Group(StgTask(train=sizes["s"])),
        "stg-m": Group(StgTask(train=sizes["m"])),
    }
    if published is not None:
        for size, seeds in zip("lsm", PUBLISHED_SEEDS, strict=True):
            task = StgTask(train_file=str(published / f"stg_{size}_train.jsonl"))
            chosen[f"published-{size}"] = Group(task, seeds=seeds)
    chosen["bridge_repair-l"] = Group(StgTask(game="bridge_repair", train=sizes["l"]))
    chosen["robustness-l"] = Group(StgTask(train=sizes["l"], test=1000), ("sft", "cat"), ROBUSTNESS_SEEDS)
    return chosen


def run_group(group: Group, jobs: int) -> dict[str, Any]:
    """One group's summary, how much of the gap is closed, and how every run ended."""
    cells = [Cell(arm, seed, group.task, splits=group.splits) for seed in group.seeds for arm in group.arms]
    with progress_bars() as update:
        results = run_grid(cells, jobs, update)
    summary = summarize(results)
    print_arms(summary)
    train_file = group.task.train_file
    return {
        "data": {**asdict(group.task), "train_file": train_file and Path(train_file).name},
        "seeds": list(group.seeds),
        "arms": summary,
        "gap_closed": {split: gap_closed(summary, split, **ROLES) for split in group.splits},
        "runs": [describe(result) for result in results],
        "by_order": by_order(results),
        "provenance": provenance(settings={result.method: dict(result.settings) for result in results}),
    }


def describe(result: CellResult) -> dict[str, Any]:
    """How a run ended: its cross-entropy a token over the last tenth, and what it would be on the plateau."""
    splits = result.cell.task.splits(result.cell.seed)
    targets = Counter(example.target for example in splits["train"])
    total = sum(targets.values())
    entropy = -sum(n / total * math.log(n / total) for n in targets.values())
    # The words of the answer after the first, and the end of the text, cost nothing once the first is known.
    tokens = 1 + len(next(iter(targets)).split())
    curve = [value for _, value in result.curves["cross_entropy"]]
    last = curve[-max(1, len(curve) // 10) :]
    return {
        "cell": result.cell.name,
        "cross_entropy": sum(last) / len(last),
        "plateau": entropy / tokens,
        "accuracy": {split: scores["accuracy"] for split, scores in result.splits.items()},
        "seconds": round(result.seconds, 1),
        "train_seconds": round(result.train_seconds, 1),
    }


def by_order(results: list[CellResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Arm -> number of spurious attributes that stand before their cause -> accuracy and n on `ood`, over the seeds."""
    sums: dict[str, dict[str, list[float]]] = {}
    for result in results:
        for name, scores in result.splits["ood"].get("groups", {}).items():
            entry = sums.setdefault(result.method, {}).setdefault(name, [0.0, 0.0])
            entry[0] += scores["accuracy"] * scores["n"]
            entry[1] += scores["n"]
    return {
        arm: {name: {"accuracy": right / n, "n": n} for name, (right, n) in groups.items()}
        for arm, groups in sums.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--published", type=Path, help="folder with the published training files; without, they are left out"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "stg.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    record = json.loads(args.out.read_text()) if args.out.exists() else {"groups": {}}
    for name, group in groups(args.published).items():
        if name not in record["groups"]:
            print(name, flush=True)
            record["groups"][name] = run_group(group, args.jobs)
            write_json(args.out, record)


if __name__ == "__main__":
    main()
