"""`cattune prior`: begin a prior of one's own, and see how the examples of one fit their texts."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cattune.cli import printable, say
from cattune.data.outputs import check_outputs
from cattune.errors import ConfigError
from cattune.wording import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from cattune.annotation.assistant.judgement import Judgement
    from cattune.annotation.assistant.prior import Prior, PriorExample
    from cattune.data.examples import Example, Span

PACKAGED = ("arithmetic", "multiple_choice", "tabular_risk")

_DESCRIPTION = """\
A prior is one YAML file that tells an assistant model how to annotate a kind of text: what the texts are, what depends
on what in them, and a few examples annotated by hand. These come with the package: arithmetic, multiple_choice,
tabular_risk.
"""
_EPILOG = """\
examples:
  cattune prior new --from tabular_risk --out loans.yaml     a copy to edit
  cattune prior check loans.yaml                             where each phrase of its examples stands in the text
  cattune prior check arithmetic --json

exit status: 0 done; 2 something is wrong with the file or the call, or an example does not fit its text.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    form = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "prior",
        help="write and check the prior that tells an assistant how to annotate",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=form,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = actions.add_parser("new", help="write a prior to edit", description="Write a copy of a prior, to edit.")
    new.add_argument("--out", required=True, metavar="FILE", help="the YAML file to write; its name names the prior")
    new.add_argument(
        "--from",
        dest="source",
        default="arithmetic",
        metavar="NAME_OR_FILE",
        help=f"what to copy: {', '.join(PACKAGED)}, or a prior of yours (default %(default)s)",
    )
    new.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    check = actions.add_parser(
        "check",
        help="see how a prior's examples fit their texts",
        description="Read a prior and show where each phrase of its examples stands in the text, and what is wrong.",
    )
    check.add_argument("prior", metavar="NAME_OR_FILE", help=f"{', '.join(PACKAGED)}, or a YAML file")
    check.add_argument("--json", action="store_true", help="print what was found as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write or check a prior.

    Raises:
        ConfigError: the prior is not as it should be, or an example does not fit its text; it is shown all the same.
        OutputError: the new file exists, or cannot be written.
    """
    return _new(args) if args.action == "new" else _check(args)


def _new(args: argparse.Namespace) -> int:
    from cattune.annotation.assistant.prior import parse_prior, read_source
    from cattune.data.atomic import write_text

    text, source = read_source(args.source)
    parse_prior(text, source)
    out = Path(args.out)
    check_outputs([args.out], [args.source], args.overwrite)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", out.stem)
    write_text(out, re.sub(r"^name:.*$", lambda _: f"name: {name}", text, count=1, flags=re.MULTILINE))
    say(f"wrote {args.out}; edit it, then: cattune prior check {shlex.quote(args.out)}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from cattune.annotation.assistant.prior import ambiguous_phrases, check_prior, read_prior

    prior = read_prior(args.prior)
    judgements = check_prior(prior)
    repeated = [ambiguous_phrases(entry, prior.options) for entry in prior.examples]
    if args.json:
        print(json.dumps(_record(prior, judgements, repeated), ensure_ascii=False, indent=2))
    else:
        _print(prior, judgements, repeated)
    if wrong := [str(index) for index, judgement in enumerate(judgements, start=1) if judgement.problems]:
        raise ConfigError(
            f"{args.prior}: of {counted(len(judgements), 'example')}, {len(wrong)} with phrases that do not fit the "
            f"text (number {', '.join(wrong)}); see above, and fix the phrases that are named"
        )
    return 0


def _record(prior: Prior, judgements: list[Judgement], repeated: list[list[str]]) -> dict[str, Any]:
    from cattune.annotation.assistant.prior import content_key
    from cattune.data.records import example_to_dict

    return {
        "name": prior.name,
        "content_key": content_key(prior),
        "prompt_characters": _prompt_characters(prior),
        "examples": [
            {
                "note": entry.note,
                "example": example_to_dict(_linked(entry.example, judgement)),
                "problems": list(judgement.problems),
                "ambiguous": phrases,
            }
            for entry, judgement, phrases in zip(prior.examples, judgements, repeated, strict=True)
        ],
    }


def _linked(example: Example, judgement: Judgement) -> Example:
    from dataclasses import replace

    return replace(example, links=judgement.links, refused=judgement.refused)


def _prompt_characters(prior: Prior) -> int:
    """How many characters an assistant is sent before the example that it is to annotate."""
    from cattune.annotation.assistant.prompt import build_messages

    messages = build_messages(prior, prior.examples[0].example)
    return sum(len(message["content"]) for message in messages[:-1])


def _print(prior: Prior, judgements: list[Judgement], repeated: list[list[str]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for entry, judgement, phrases in zip(prior.examples, judgements, repeated, strict=True):
        _print_example(console, entry, judgement)
        for phrase in phrases:
            note = f"  {phrase!r} stands in the text more than once: add a quote that tells which one is meant"
            console.print(Text(printable(note), style="yellow"), soft_wrap=True)
        for problem in judgement.problems:
            console.print(Text(printable(f"  {problem}"), style="red"), soft_wrap=True)
        console.print()
    links = sum(len(judgement.links) for judgement in judgements)
    console.print(
        Text(
            f"prior {prior.name}: {counted(len(judgements), 'example')}, {counted(links, 'link')}; an assistant reads "
            f"about {_prompt_characters(prior):,} characters before each example"
        ),
        soft_wrap=True,
    )


def _print_example(console: Console, entry: PriorExample, judgement: Judgement) -> None:
    from rich.text import Text

    example = entry.example
    note = f"  {entry.note}" if entry.note else ""
    console.print(Text.assemble((example.id, "bold"), printable(note)), soft_wrap=True)
    for name, text in example.fields.items():
        console.print(Text.assemble((f"  {name}: ", "dim"), _highlighted(name, text, judgement)), soft_wrap=True)
    for link in judgement.links:
        line = Text.assemble("  ", _place(example, link.effect, "bold green"), " <- ")
        line.append_text(Text(", ").join(_place(example, cause, "cyan") for cause in link.causes))
        if link.method != "exact" or link.score < 1:
            line.append(f"  ({link.method}, {link.score:.2f})", style="yellow")
        console.print(line, soft_wrap=True)


def _highlighted(name: str, text: str, judgement: Judgement) -> Text:
    from rich.text import Text

    marked = Text(text.translate({c: 0xFFFD for c in range(32) if c not in (9, 10)}))
    for link in judgement.links:
        for cause in link.causes:
            if cause.field == name:
                marked.stylize("cyan underline", cause.start, cause.end)
    for link in judgement.links:
        if link.effect.field == name:
            marked.stylize("bold green", link.effect.start, link.effect.end)
    return marked


def _place(example: Example, span: Span, style: str) -> Text:
    from rich.text import Text

    words = printable(" ".join(example.text_of(span).split()))
    return Text.assemble((f'"{words}"', style), (f" {span.field}[{span.start}:{span.end}]", "dim"))
