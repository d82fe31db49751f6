"""`cattune stg`: writes the Spurious Token Game's training and test sets."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from cattune.cli import say
from cattune.cli.progress import progress_bars

EXAMPLE = """\
examples:
  cattune stg --size l --seed 0 --out data/stg_l
  cattune stg --game bridge_repair --size m --seed 1 --out data/bridge
  cattune stg --size l --middle wide --links values --out data/stg_l_wide
  cattune stg --size l --wording-from published/stg_l_train.jsonl --out data/stg_l_published_wording

Writes train, validation, iid, ood, ood-permuted, ood-unseen and ood-validation .jsonl and manifest.json into DIR.
docs/stg.md says what each split is for.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `stg` to the command line."""
    parser = subparsers.add_parser(
        "stg",
        help="write the Spurious Token Game's data sets",
        description="Write the Spurious Token Game's data sets, with causal links, reproducible to the byte.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", required=True, type=Path, metavar="DIR", help="folder to write")
    add(
        "--size",
        choices=("s", "m", "l", "h"),
        default="l",
        help="published size: 400, 800 or 1600 training examples of cancer_risk, or (h) 3000 of air_quality; default l",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of all random streams; default 0")
    add(
        "--game",
        metavar="NAME_OR_YAML",
        help="another game: cancer_risk, air_quality, bridge_repair, or a YAML file of the same form; --size then "
        "gives the number of training examples only",
    )
    add("--train-size", type=int, metavar="N", help="training examples, instead of the size's number")
    add(
        "--validation-size",
        type=int,
        default=1000,
        metavar="N",
        help="examples of validation and of ood-validation; default 1000",
    )
    add("--test-size", type=int, default=4000, metavar="N", help="examples of every test split; default 4000")
    add(
        "--middle",
        metavar="RULE",
        help="the game's outcome rule; cancer_risk: published (default; Middle is nearly unreachable) or wide (a real "
        "middle class); bridge_repair: two (default) or wide",
    )
    add(
        "--links",
        choices=("values", "phrases"),
        default="phrases",
        help="what a cause covers: 'name: value' (default), or the value alone",
    )
    add(
        "--wording-from",
        type=Path,
        metavar="FILE",
        help="take the words around the attributes, and of the labels, from the first example of a JSONL file",
    )
    add("--overwrite", action="store_true", help="allow a DIR that holds files already")
    add("--json", action="store_true", help="print the manifest to stdout instead of a table to stderr")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the data sets; 0 when done. Raises a CattuneError where the call is wrong."""
    from cattune.tasks.stg import SIZES, class_shares, load_game, split_sizes, wording_from, write_game

    game_name, train_size = SIZES[args.size]
    game = load_game(args.game if args.game is not None else game_name)
    if args.middle is not None:
        game = game.with_rule(args.middle)
    if args.wording_from is not None:
        game = game.with_wording(wording_from(args.wording_from, game))
    sizes = split_sizes(
        args.train_size if args.train_size is not None else train_size, args.validation_size, args.test_size
    )
    with progress_bars() as update:
        tell = partial(update, "cattune stg", "examples")
        manifest = write_game(
            args.out, game, sizes, args.seed, links=args.links, overwrite=args.overwrite, progress=tell
        )
    if args.json:
        print(json.dumps(manifest, ensure_ascii=False, indent=2))
    else:
        print_manifest(manifest)
    for note in class_shares(game).notes():
        say(note)
    if not args.json:
        say(f"wrote {args.out}")
    return 0


def print_manifest(manifest: dict[str, Any]) -> None:
    """One row a split: its size, the majority answer with its share, and how much of it training has seen."""
    from cattune.reports.tables import Row, Table, print_tables

    rows = []
    for name, split in manifest["splits"].items():
        majority = split["majority"]
        shares = (majority["share"], split["causal_tuples_in_train"], split["records_in_train"])
        rows.append(Row(name, (str(split["n"]), majority["completion"], *(f"{share:.1%}" for share in shares))))
    titles = ("split", "n", "majority", "share", "causes seen in train", "records in train")
    notes = [f"left out {name}: {reason}" for name, reason in manifest["omitted"].items()]
    print_tables([Table(titles, rows)], sys.stderr, notes=notes)
