"""`cattune demo`: trains four arms on the Spurious Token Game, tests them, and shows what they read."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from cattune.cli import say
from cattune.errors import ConfigError

_SETTINGS = ("seeds", "first_seed", "size", "game", "train_size", "test_size", "train_file", "arms", "steps", "jobs")

_METHODS = ("sft", "cat", "cat-published", "causal-only")
_COMPARED = {"method": "cat", "baseline": "sft", "ceiling": "causal-only"}

_LEAST_SHARE = 0.1
"""So much of one cell has to be done before that says how long the rest takes."""

_EPILOG = """\
examples:
  cattune demo --out demo                       one seed, a few minutes on two cores
  cattune demo --out demo --seeds 3             means and spread over three seeds
  cattune demo --out demo --game bridge_repair --train-size 1600

Writes results.json, report.html (open it in a browser) and one file for each cell into DIR.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "demo",
        help="see plain fine-tuning fall for spurious tokens, and Causal Attention Tuning not",
        description="Train the tiny model from scratch on the Spurious Token Game in several ways, test each with and "
        "without the training data's spurious correlations, and report.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="folder for results.json, report.html and cells/")
    add("--seeds", type=int, default=1, metavar="N", help="number of seeds, default 1")
    add("--first-seed", type=int, default=0, metavar="N", help="the first of them, default 0")
    add("--size", choices=("s", "m", "l"), default="l", help="400, 800 or 1600 training examples, default l")
    add("--game", default="cancer_risk", metavar="NAME_OR_YAML", help="the game, default cancer_risk")
    add("--train-size", type=int, metavar="N", help="training examples, instead of the size's number")
    add("--test-size", type=int, default=4000, metavar="N", help="examples of each test split, default 4000")
    add("--train-file", metavar="FILE", help="train on this JSONL of the game; tests are drawn in its wording")
    add("--arms", nargs="+", metavar="ARM", help="which arms, default " + " ".join(_METHODS))
    add("--steps", type=int, metavar="N", help="optimizer steps of every arm, default the recipe's")
    add("--jobs", type=int, metavar="N", help="cells at a time, default as many as there are cores, at most 4")
    add("--overwrite", action="store_true", help="allow a DIR that holds files already")
    add("--json", action="store_true", help="print results.json instead of the table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the grid, write the files, print the table."""
    from cattune.cli.progress import progress_bars
    from cattune.data.atomic import prepare_output_dir, write_text
    from cattune.data.jsonl import write_json
    from cattune.experiments.cell import Cell
    from cattune.experiments.grid import gap_closed, run_grid, summarize
    from cattune.methods.base import METHODS
    from cattune.provenance import provenance
    from cattune.reports.demo import demo_report
    from cattune.reports.html import render_report
    from cattune.reports.terminal import print_arms
    from cattune.tasks.stg import SIZES, class_shares
    from cattune.tasks.stg.task import StgTask

    _check_numbers(args)
    arms = list(dict.fromkeys(args.arms or _METHODS))
    names = [METHODS.get(arm).name for arm in arms]  # an unknown one is refused
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"--arms has two methods with the name {twice[0]!r}; give each its own")
    task = StgTask(
        game=args.game,
        train=args.train_size or SIZES[args.size][1],
        test=args.test_size,
        train_file=args.train_file,
    )
    settings = {} if args.steps is None else {"max_steps": args.steps}
    cells = [
        Cell(arm, seed, task, settings, strips=4 if seed == args.first_seed else 0)
        for seed in range(args.first_seed, args.first_seed + args.seeds)
        for arm in arms
    ]
    task.splits(args.first_seed)  # what is wrong with the game or the file is said before anything is written
    folder = prepare_output_dir(Path(args.out), args.overwrite)
    game = task.spec
    notes = class_shares(game).notes()
    for note in notes:
        say(note)
    with progress_bars() as update:
        overall = partial(update, "cattune demo", "cells", total=len(cells), least=_LEAST_SHARE)
        overall(0)
        results = run_grid(cells, args.jobs or min(4, os.cpu_count() or 1), update, overall)
    summary = summarize(results)
    made = provenance(
        **{name: value for name, value in vars(args).items() if name in _SETTINGS},
        settings={result.method: dict(result.settings) for result in results},
    )
    record = {
        "arms": summary,
        "gap_closed": {split: gap_closed(summary, split, **_COMPARED) for split in next(iter(summary.values()))},
        "seconds": {result.cell.name: round(result.seconds, 1) for result in results},
        "provenance": made,
    }
    for result in results:
        write_json(folder / "cells" / f"{result.cell.name}.json", asdict(result))
    write_json(folder / "results.json", record)
    report = demo_report(results, summary, game, notes, made, _COMPARED["method"], _COMPARED["baseline"])
    write_text(folder / "report.html", render_report(report))
    if args.json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
    else:
        print_arms(summary)
        print(f"game: {game.name}; the answer depends on {', '.join(game.causes)}")
        print(f"report: {folder / 'report.html'}")
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    for name in ("seeds", "train_size", "test_size", "steps", "jobs"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; it must be at least 1")
