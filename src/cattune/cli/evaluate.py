"""`cattune evaluate`: a saved model's scores on named splits."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from cattune.cli import printable
from cattune.cli.progress import progress_bars
from cattune.cli.reading import followed_examples
from cattune.cli.template import add_template_option
from cattune.data.outputs import check_outputs
from cattune.errors import ConfigError
from cattune.wording import counted

_SETTINGS = ("model", "batch_size", "max_new_tokens", "by", "chat_template_kwargs")

_BAR = "cattune evaluate"

_EPILOG = """\
examples:
  cattune evaluate --model runs/cat --data iid=data/stg_l/iid.jsonl ood=data/stg_l/ood.jsonl --out scores.json
  cattune evaluate --model runs/cat --data ood=data/stg_l/ood.jsonl --by spurious_before_cause \\
      --out scores.json --samples samples.jsonl
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a saved model on named splits",
        description="Generate an answer for each example and score it: exact match, numeric match, balanced accuracy "
        "where the answers are a closed set of labels, each with its standard error, and the best constant answer.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME_OR_DIR",
        help="a saved model, or one on the model hub, with its tokenizer",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code that the model's folder brings along run"
    )
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        action="extend",
        metavar="NAME=FILE",
        help="a split's name and its JSONL file, in this library's or the published format",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="where the scores go, as JSON")
    parser.add_argument("--samples", metavar="FILE", help="where each example's outcome goes, as JSON Lines")
    parser.add_argument("--by", metavar="KEY", help="also score the examples apart by this metadata key's values")
    parser.add_argument(
        "--batch-size", type=int, default=256, metavar="N", help="prompts answered at once (default %(default)s)"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="length limit (default: the longest target's tokens + 2)"
    )
    add_template_option(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace the output files if they exist")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate, write the files, print the table."""
    files = named_files(args.data)
    check_outputs([args.out, args.samples], files.values(), args.overwrite)

    with progress_bars() as update:
        splits = {name: list(followed_examples(path, update, path)) for name, path in files.items()}
        update(_BAR, "loading the model", 0, 0)

        from cattune.data.jsonl import write_json
        from cattune.evaluation.evaluate import evaluate_model, write_samples
        from cattune.evaluation.models import load_model
        from cattune.provenance import provenance

        model, tokenizer = load_model(args.model, args.device, args.trust_remote_code)
        results = {}
        for name, examples in splits.items():
            results[name] = evaluate_model(
                model,
                tokenizer,
                examples,
                batch_size=args.batch_size,
                max_new_tokens=args.max_new_tokens,
                by=args.by,
                progress=partial(update, _BAR, f"answering {name}"),
                chat_template_kwargs=args.chat_template_kwargs,
            )
    for name, result in results.items():
        if result.left_out:
            why = next(iter(result.left_out.values()))
            counts = f"{len(result.left_out):,} of {counted(len(splits[name]), 'example')}"
            print(printable(f"{name}: left out {counts}, the first for this: {why}"), file=sys.stderr)
    settings = {key: getattr(args, key) for key in _SETTINGS}
    record = {
        "splits": {name: result.to_dict() for name, result in results.items()},
        "provenance": provenance(**settings, data=files, device=str(model.device)),
    }
    if args.samples:
        write_samples(args.samples, results)
    write_json(args.out, record)
    _print(record, as_json=args.json)
    return 0


def named_files(pairs: Sequence[str]) -> dict[str, str]:
    """Read NAME=FILE arguments.

    Raises:
        ConfigError: one has no name, no file or no `=`, or two have the same name.
    """
    files: dict[str, str] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name.strip() and equals and path):
            raise ConfigError(f"--data {pair!r}: expected NAME=FILE, for instance iid=iid_test.jsonl")
        if name in files:
            raise ConfigError(f"--data names the split {name!r} twice ({files[name]} and {path}); give it two names")
        files[name] = path
    return files


def _print(record: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
        return
    from cattune.reports.terminal import print_splits

    print_splits(record["splits"])
