"""`cattune align`: how many causal links reach tokens with a given tokenizer, and why the others do not."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from cattune.cli import printable
from cattune.cli.progress import followed, progress_bars
from cattune.cli.template import add_template_option
from cattune.data.atomic import atomic_file
from cattune.data.outputs import check_outputs
from cattune.errors import AlignmentError
from cattune.grounding.links import OCCURRENCES
from cattune.wording import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from cattune.data.examples import Example
    from cattune.data.on_disk import Grouped
    from cattune.supervision.report import AlignmentReport

_BAR = "cattune align"
TINY = "tiny"
_SHOWN = 5
_BATCH = 1000

_SETTINGS = ("file", "tokenizer", "occurrences", "max_length", "chat_template_kwargs")

_ADVICE = {
    "not in the text": "write a phrase exactly as it stands in the prompt or the completion",
    "after its effect": "name causes that stand before their effect: a causal model reads from left to right",
    "before its effect": "name causes that stand before their effect: a causal model reads from left to right",
    "the effect itself": "name as a cause what the effect depends on, and not the effect",
    "more than once": "write spans instead of phrases, or choose another rule for --occurrences",
    "too often": "write spans instead of phrases, or choose another rule for --occurrences",
    "causes are not": 'write a link as {"effect": ["cause", "cause"]}',
    "not a mapping": 'write a link as {"effect": ["cause", "cause"]}',
    "truncated away": "allow more tokens with --max-length, or shorten the examples",
    "no token touches": "let the span cover characters that the tokenizer and the chat template keep",
    "chat template": "give the texts as the template writes them, or variables for it with --chat-template-kwargs",
    "every visible token": "leave tokens that are no cause before the effect, or name fewer causes",
}
"""What to do about a reason that contains these words."""

_DESCRIPTION = """\
Find out, before training, how many of a file's causal links become supervision with a given tokenizer, and why the
others do not. Reads this library's JSONL, the prompt-completion and messages formats, and the published format.
"""
_EPILOG = """\
examples:
  cattune align train.jsonl --tokenizer tiny
  cattune align train.jsonl --tokenizer ~/models/llama --out alignment.json
  cattune align published.jsonl --tokenizer tiny --occurrences error --strict

exit status: 0 done; 2 something is wrong with the file or the call, no link could be used, or with --strict not all.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "align",
        help="see which causal links reach tokens, and why the others do not",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the examples, as JSON Lines")
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="NAME_OR_DIR",
        help=f"a folder with a tokenizer, a name on the model hub, or {TINY!r}: one token a word, made from FILE",
    )
    parser.add_argument("--out", metavar="FILE", help="where the report goes, as JSON, with every problem in it")
    parser.add_argument(
        "--occurrences",
        choices=OCCURRENCES,
        default="context",
        help="published format: which place is meant by a phrase that stands in the text more than once; context "
        "judges by the phrases around it, error refuses it (default %(default)s)",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code that the tokenizer's folder brings along run"
    )
    parser.add_argument("--max-length", type=int, metavar="N", help="cut examples to N tokens, as training would")
    add_template_option(parser)
    parser.add_argument("--strict", action="store_true", help="exit with 2 if any link, or part of one, is not used")
    parser.add_argument("--overwrite", action="store_true", help="replace the report if it exists")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Align, write the report, print what matters of it.

    Raises:
        AlignmentError: no link could be used, or `--strict` and not all could; the report is written all the same.
        CattuneError: the file, the tokenizer or the output is not what it should be.
    """
    check_outputs([args.out], [args.file], args.overwrite)

    from cattune.data.lines import numbered_lines
    from cattune.data.on_disk import Grouped
    from cattune.formats.loading import iter_examples, load_examples, unlinked_examples
    from cattune.provenance import provenance

    texts: Iterable[Example]
    if os.path.isfile(args.file):
        texts, examples = unlinked_examples(args.file), iter_examples(args.file, args.occurrences)
    else:  # what a pipe gives is there only once
        texts = loaded = load_examples(args.file, args.occurrences)
        examples = iter(loaded)
    examples = chain([next(examples)], examples)  # what is wrong with the file is said before a tokenizer is fetched
    settings = {key: getattr(args, key) for key in _SETTINGS}
    how = {"max_length": args.max_length, "chat_template_kwargs": args.chat_template_kwargs}
    with progress_bars() as update, Grouped() as problems:
        update(_BAR, "reading", 0, 0)
        tokenizer = _tokenizer(args.tokenizer, texts, args.trust_remote_code)
        total = sum(1 for _ in numbered_lines(args.file)) if os.path.isfile(args.file) else 0
        report, refused = _align(followed(examples, update, _BAR, "examples", total), tokenizer, problems, **how)
        record = {
            **report.to_dict(),
            "max_named": None,
            "refused_links": refused["link"].total(),
            "refused_causes": refused["cause"].total(),
            "provenance": provenance(**settings),
        }
        if args.out is not None:
            with atomic_file(args.out) as write:
                for piece in _json(record, problems):
                    write(piece.encode(errors="backslashreplace"))  # a file's name need not be Unicode
        if args.json:
            sys.stdout.writelines(_json(record, problems, ensure_ascii=True))
    _print(record, len(problems), _reasons(refused, report), args.out)
    _judge(record, len(problems), args.strict)
    return 0


def _tokenizer(name: str, examples: Iterable[Example], trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """A tokenizer from a folder or the model hub, or `tiny`'s, with the examples' words as its vocabulary."""
    if name == TINY:
        from cattune.models.tiny import build_tokenizer, texts_of

        return build_tokenizer(texts_of(examples))

    from cattune.models.load import load_tokenizer

    return load_tokenizer(name, trust_remote_code)


def _align(
    examples: Iterator[Example], tokenizer: PreTrainedTokenizerBase, problems: Grouped, **how: Any
) -> tuple[AlignmentReport, dict[str, Counter[str]]]:
    """The report on all examples, which names the first loss of each reason, and how many were refused before.

    Every loss goes to `problems`, as JSON; a batch of the examples at a time is in memory. `how` is for
    `encode_examples`.
    """
    from cattune.supervision.report import AlignmentReport
    from cattune.supervision.rows import encode_examples

    total = AlignmentReport(max_named=1)
    refused: dict[str, Counter[str]] = {"link": Counter(), "cause": Counter()}
    while batch := list(islice(examples, _BATCH)):
        for refusal in (refusal for example in batch for refusal in example.refused):
            refused["link" if refusal.cause is None else "cause"][refusal.reason] += 1
        _, report = encode_examples(batch, tokenizer, **how)
        for problem in report.to_dict()["problems"]:
            problems.add(problem["reason"], json.dumps(problem, ensure_ascii=False))
        total += report
    return total, refused


def _json(record: dict[str, Any], problems: Grouped, ensure_ascii: bool = False) -> Iterator[str]:
    """The record as indented JSON, piece by piece, with all problems in the place of those that it has."""
    encode = json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=False, indent=2).encode
    head, empty, tail = encode({**record, "problems": []}).partition('"problems": []')
    yield head + (empty if not len(problems) else '"problems": [')
    for index, problem in enumerate(problems):
        yield ("," if index else "") + f"\n{encode(json.loads(problem))}".replace("\n", "\n    ")
    yield ("\n  ]" if len(problems) else "") + tail + "\n"


def _reasons(refused: dict[str, Counter[str]], report: AlignmentReport) -> dict[str, Counter[str]]:
    """For examples, links, causes and rows: why some are not used, and how many."""
    reasons = {kind: Counter(refused.get(kind)) for kind in ("example", "link", "cause", "row")}
    for reason, count in report.lost.items():
        kind, _, why = reason.partition(": ")
        reasons.setdefault(kind, Counter())[why] += count
    return reasons


def _print(record: dict[str, Any], problems: int, reasons: dict[str, Counter[str]], out: str | None) -> None:
    """A table of the counts, what to do, and the first few problems, on standard error."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    used_of = {
        "example": (record["examples"] - record["left_out"], record["examples"]),
        "link": (record["aligned_links"], record["links"] + record["refused_links"]),
        "cause": (record["aligned_causes"], record["causes"] + record["refused_causes"]),
        "row": (record["rows"], record["rows"] + reasons["row"].total()),
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("used", justify="right")
    table.add_column("of", justify="right")
    table.add_column("not used, and why")
    for kind, counts in reasons.items():
        used, of = used_of.get(kind, ("", ""))
        why = "\n".join(f"{count} x {reason}" for reason, count in counts.most_common())
        table.add_row(f"{kind}s", str(used), str(of), Text(printable(why)))

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=True, highlight=False, width=160)
    console.print(table)
    for line in (*_notes(record), *_advice(reasons), *_first_problems(record["problems"], problems, out)):
        console.print(Text(printable(line)), soft_wrap=True)


def _notes(record: dict[str, Any]) -> list[str]:
    notes = []
    if record["examples_without_links"]:
        some = counted(record["examples_without_links"], "example has", "examples have")
        notes.append(f"{some} no link: such examples train on cross-entropy alone")
    if record["altered"]:
        some = counted(record["altered"], "example has", "examples have")
        notes.append(
            f"{some} an earlier message that the chat template cuts or rewrites: links to what it leaves out are lost"
        )
    if record["truncated"]:
        some = counted(record["truncated"], "example is", "examples are")
        notes.append(f"{some} cut to --max-length: {counted(record['truncated_tokens'], 'token')} lost")
    return notes


def _advice(reasons: dict[str, Counter[str]]) -> list[str]:
    present = "\n".join(reason for counts in reasons.values() for reason in counts)
    todo = dict.fromkeys(advice for words, advice in _ADVICE.items() if words in present)
    return ["", "what to do:", *(f"  {advice}" for advice in todo)] if todo else []


def _first_problems(firsts: list[dict[str, str]], count: int, out: str | None) -> list[str]:
    """The first problem of each kind, up to a handful, of so many problems in all."""
    if not firsts:
        return []
    lines = ["", "for instance:"]
    lines += [f"  example {p['id']}: {p['reason']}: {_shortened(p['detail'])}" for p in firsts[:_SHOWN]]
    rest = count - len(firsts[:_SHOWN])
    if rest:
        lines.append(f"  ... and {rest} more, all of them in {out or 'the report that --out FILE writes'}")
    return lines


def _shortened(text: str, limit: int = 100) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


def _judge(record: dict[str, Any], problems: int, strict: bool) -> None:
    links = record["links"] + record["refused_links"]
    if links and not record["rows"]:
        raise AlignmentError(
            f"{counted(links, 'link')}, and none can be used: training would ignore them all; see above why, and fix "
            "the file, or choose another tokenizer or --max-length"
        )
    if strict and problems:
        raise AlignmentError(
            f"--strict: of {counted(links, 'link')}, {record['aligned_links']:,} used, with "
            f"{counted(problems, 'problem')}; see above, and fix the file, or leave --strict out to train without "
            "what cannot be used"
        )
