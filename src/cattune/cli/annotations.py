"""`cattune annotations`: look at an annotated file or at replies, annotate by rules, join several annotations."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cattune.cli import replies, say
from cattune.cli.progress import progress_bars
from cattune.cli.reading import followed_examples
from cattune.data.outputs import check_outputs
from cattune.errors import ConfigError, DataError
from cattune.wording import counted, shown

if TYPE_CHECKING:
    from cattune.data.examples import Example

_EPILOG = """\
examples:
  cattune annotations report train.jsonl
  cattune annotations report train.jsonl --reference by_hand.jsonl --html annotations.html
  cattune annotations replies train.jsonl
  cattune annotations rules records.jsonl --rules risk.yaml --out train.jsonl
  cattune annotations join model_a.jsonl model_b.jsonl rules.jsonl --out train.jsonl

exit status: 0 done; 2 something is wrong with a file or the call, or nothing was found that could be used.
"""
_JOIN = """\
Join annotations of the same examples into one. Each link gets as its weight the share of the annotations that have it;
what fewer than --threshold of them have is refused, and kept for review. What people accepted or rejected counts
instead of the votes. The annotators are named as their files are.
"""
_MATCH = "when two spans are the same: their ends are equal (default), or they share half of their words or more"


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    form = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "annotations",
        help="look at annotated data and replies, annotate by rules, join several annotations",
        description="Look at an annotated file or at replies that could not be used, annotate by rules, or join "
        "several annotations of the same examples.",
        epilog=_EPILOG,
        formatter_class=form,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    report = actions.add_parser(
        "report",
        help="coverage, grounding, refused links, order, lengths, agreement",
        description="Report on an annotated file: coverage, grounding, refused links, causal order, lengths, sources, "
        "and how far it agrees with a reference.",
    )
    report.add_argument("file", metavar="FILE", help="the annotated examples, as JSON Lines")
    report.add_argument("--reference", metavar="FILE", help="the same examples, annotated by somebody who is believed")
    report.add_argument("--match", choices=("exact", "overlap"), default="exact", help=_MATCH)
    report.add_argument("--html", metavar="FILE", help="write the report as a page, too")

    rules = actions.add_parser(
        "rules",
        help="annotate templated or tabular text by patterns and edges",
        description="Annotate templated or tabular text by the patterns and edges of a YAML file, without any model.",
    )
    rules.add_argument("file", metavar="FILE", help="the examples, as JSON Lines; links that they have are left out")
    rules.add_argument(
        "--rules",
        required=True,
        metavar="NAME_OR_FILE",
        help="a YAML file, or packaged rules: air_quality, bridge_repair, cancer_risk",
    )

    join = actions.add_parser(
        "join", help="join several annotations of the same examples", description=_JOIN, formatter_class=form
    )
    join.add_argument("files", nargs="+", metavar="FILE", help="the annotations, two or more, as JSON Lines")
    join.add_argument(
        "--threshold", type=float, default=0.5, metavar="SHARE", help="least confidence kept (default %(default)s)"
    )
    join.add_argument("--match", choices=("exact", "overlap"), default="exact", help=_MATCH)
    join.add_argument(
        "--weight",
        action="append",
        default=[],
        metavar="FILE=NUMBER",
        help="how much the vote of a file counts, for instance by_hand.jsonl=2; default 1; may be given several times",
    )
    for action in (rules, join):
        action.add_argument("--out", required=True, metavar="FILE", help="where the annotated examples go")
    for action in (report, rules, join):
        action.add_argument("--overwrite", action="store_true", help="replace an output file that exists")
        action.add_argument("--json", action="store_true", help="print the figures as JSON instead of tables")
    replies.add_parser(actions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the action.

    Raises:
        CattuneError: a file or the call is not what it should be, or nothing was found that could be used.
    """
    return {"report": _report, "rules": _rules, "join": _join, "replies": replies.run}[args.action](args)


def _report(args: argparse.Namespace) -> int:
    sources = [args.file] if args.reference is None else [args.file, args.reference]
    check_outputs([args.html], sources, args.overwrite)

    from cattune.annotation.report import annotation_report
    from cattune.data.atomic import write_text
    from cattune.formats.loading import load_examples
    from cattune.provenance import provenance

    with progress_bars() as update:
        examples, *reference = (followed_examples(path, update, path) for path in sources)
        report = annotation_report(examples, reference[0] if reference else None, args.match).to_dict()
    if reference and not report["reference"]["examples"]:
        raise DataError(_nothing_in_common({path: load_examples(path) for path in sources}))
    made = provenance(file=args.file, reference=args.reference, match=args.match)
    if args.html is not None:
        from cattune.reports.annotations import render_annotations

        write_text(args.html, render_annotations(report, Path(args.file).name, made))
    if args.json:
        print(json.dumps({**report, "provenance": made}, ensure_ascii=False, indent=2))
    else:
        from cattune.reports.annotation_tables import print_report

        print_report(report)
    if args.html is not None:
        say(f"wrote {args.html}")
    return 0


def _rules(args: argparse.Namespace) -> int:
    check_outputs([args.out], [args.file, args.rules], args.overwrite)

    from cattune.annotation.rules.apply import RuleReport, annotate_all
    from cattune.annotation.rules.file import load_rules
    from cattune.formats.loading import save_examples

    rules = load_rules(args.rules)
    report = RuleReport(rules)
    with progress_bars() as update:
        annotated = list(annotate_all(rules, followed_examples(args.file, update, args.file), report))
    record = report.to_dict()
    if report.links:
        save_examples(args.out, annotated)  # before anything is printed, to whomever stops reading
    if not args.json:
        from cattune.reports.annotation_tables import print_rules

        print_rules(record)
    if not report.links:
        unmatched = ", ".join(report.unmatched) or "none"
        raise ConfigError(
            f"{rules.where}: no rule made a link in {args.file} ({counted(report.examples, 'example')}), so nothing "
            f"was written; patterns that match nowhere: {unmatched}; fix these, or choose other rules"
        )
    if args.json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
    for name in report.unmatched:
        say(f"the pattern {shown(name)} matches no example; is it misspelled?")
    if report.replaced:
        say(
            f"{counted(report.replaced, 'example')} had links already, which are not in {args.out}; to have both, join "
            "the two files"
        )
    say(f"wrote {args.out}")
    return 0


def _join(args: argparse.Namespace) -> int:
    names = _annotators(args.files)
    check_outputs([args.out], args.files, args.overwrite)
    weights = _weights(args.weight, names)

    from cattune.annotation.consensus.join import join
    from cattune.formats.loading import save_examples
    from cattune.provenance import provenance

    with progress_bars() as update:
        annotations = {name: list(followed_examples(path, update, path)) for path, name in names.items()}
        update("cattune annotations join", "joining", 0, 0)
        consensus = join(annotations, args.threshold, args.match, weights)
    if not consensus.agreement.examples:
        raise DataError(_nothing_in_common(annotations))
    settings = {"files": args.files, "threshold": args.threshold, "match": args.match, "weights": weights}
    record = {"agreement": consensus.agreement.to_dict(), "counts": consensus.counts.to_dict()}
    if consensus.counts.kept:
        save_examples(args.out, consensus.examples)
    if not args.json:
        from cattune.reports.annotation_tables import print_join

        print_join(record)
    if not consensus.counts.kept:
        if not any(example.links for examples in annotations.values() for example in examples):
            raise DataError("no file has a causal link, so nothing was written; are these the annotated files?")
        raise DataError(
            f"no edge has a confidence of {args.threshold:g} or more, so nothing was written; see whether the files "
            "annotate the same texts, and choose a lower --threshold, or --match overlap"
        )
    if args.json:
        print(json.dumps({**record, "provenance": provenance(**settings)}, ensure_ascii=False, indent=2))
    say(f"wrote {args.out}")
    return 0


def _nothing_in_common(annotations: Mapping[str, Sequence[Example]]) -> str:
    """Why no example is annotated in two of the files: the ids differ, or annotators failed on what they have."""
    from cattune.annotation.consensus.ballots import has_failed

    times = Counter(example.id for examples in annotations.values() for example in examples)
    common = {name for name, count in times.items() if count > 1}
    nothing = "no example is annotated in two of the files, so there is nothing to compare"
    if not common:
        first = "; ".join(
            f"the first id of {name} is {shown(examples[0].id)}" for name, examples in annotations.items()
        )
        return f"{nothing}: {first}; ids must be the same"
    failed = {name: sum(has_failed(e) and e.id in common for e in examples) for name, examples in annotations.items()}
    said = " and ".join(f"{count:,} of them failed in {name}" for name, count in failed.items() if count)
    return (
        f"{nothing}: {counted(len(common), 'example stands', 'examples stand')} in two or more of the files, but "
        f'{said} (refused with "no annotation: ..."); annotate those again, with --retry-failed where the assistant '
        "replied, or leave such a file out"
    )


def _annotators(files: list[str]) -> dict[str, str]:
    """The name of each file's annotator: the file's, without its ending, with as many folders as tell them apart."""
    paths = [os.path.normpath(file) for file in files]
    if repeated := [path for index, path in enumerate(paths) if path in paths[:index]]:
        raise ConfigError(f"{repeated[0]} is given twice; an annotation has one vote")
    for parts in range(1, 1 + max(len(Path(path).parts) for path in paths)):
        names = ["/".join(Path(path).with_suffix("").parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return dict(zip(paths, names, strict=True))
    return dict(zip(paths, paths, strict=True))  # a.json and a.jsonl


def _weights(pairs: list[str], names: dict[str, str]) -> dict[str, float]:
    weights = {}
    for pair in pairs:
        file, _, number = pair.rpartition("=")
        name = names.get(os.path.normpath(file))
        try:
            weight = float(number)
        except ValueError:
            name = None
        if name is None:
            raise ConfigError(f"--weight {shown(pair)}: expected FILE=NUMBER, with one of the files that are joined")
        weights[name] = weight
    return weights
