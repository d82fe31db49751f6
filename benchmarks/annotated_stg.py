"""Does it train as well on links that an assistant model gave as on the generator's own?

    python benchmarks/annotated_stg.py --out benchmarks/results/annotated_stg.json

For each seed the training split of STG L is written without its links, and `cattune annotate` asks a local server
(`tests/assistant_server.py`), which answers with the generator's links in words, and with faults a fifth of the time.
Then `cat` is trained on both files with everything else equal. About 10 minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from cattune import load_examples
from cattune.cli.progress import progress_bars
from cattune.data.examples import Example
from cattune.data.jsonl import write_json
from cattune.experiments.cell import Cell
from cattune.experiments.grid import run_grid
from cattune.formats.loading import save_examples
from cattune.provenance import provenance
from cattune.tasks.stg.task import StgTask

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from assistant_server import running, write_replies

SEEDS = range(200, 203)
FAULTS = 0.2


def annotated(examples: list[Example], folder: Path, seed: int) -> Path:
    """A file of the same examples, whose links an assistant was asked for."""
    bare, out = folder / f"bare-{seed}.jsonl", folder / f"annotated-{seed}.jsonl"
    save_examples(bare, (replace(example, links=()) for example in examples))
    replies = write_replies(folder / f"replies-{seed}.jsonl", examples)
    with running(replies, "--faults", FAULTS, "--seed", seed) as url:
        command = [sys.executable, "-m", "cattune", "annotate", bare, "--prior", "tabular_risk", "--model", "replayed"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run(
            [*map(str, command), "--base-url", url, "--timeout", "2", "--out", str(out)], check=True, env=environment
        )
    return out


def same_links(one: Example, other: Example) -> bool:
    """Whether two examples have links between the same spans."""
    return {(x.effect, frozenset(x.causes)) for x in one.links} == {
        (x.effect, frozenset(x.causes)) for x in other.links
    }


def run(folder: Path, jobs: int) -> dict[str, Any]:
    """Accuracy of `cat` on both files for each seed."""
    cells, equal = [], []
    for seed in SEEDS:
        examples = StgTask().splits(seed)["train"]
        own = folder / f"own-{seed}.jsonl"
        save_examples(own, examples)
        given = annotated(examples, folder, seed)
        equal.append(sum(map(same_links, examples, load_examples(given))))
        cells += [Cell("cat", seed, StgTask(train_file=str(file)), splits=("iid", "ood")) for file in (own, given)]
    with progress_bars() as update:
        results = run_grid(cells, jobs, update)
    return {
        "examples": StgTask().train,
        "seeds": list(SEEDS),
        "faults": FAULTS,
        "examples_with_the_same_links": equal,
        "runs": [
            {
                "seed": result.cell.seed,
                "links": ("generator", "assistant")[index % 2],
                "accuracy": {split: scores["accuracy"] for split, scores in result.splits.items()},
            }
            for index, result in enumerate(results)
        ],
        "provenance": provenance(settings=dict(results[0].settings)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "annotated_stg.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record = run(Path(folder), args.jobs)
    for entry in record["runs"]:
        print(entry["seed"], entry["links"], entry["accuracy"])
    write_json(args.out, record)


if __name__ == "__main__":
    main()
