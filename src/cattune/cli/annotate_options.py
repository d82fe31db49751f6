"""The options of `cattune annotate`, and which of them go together."""

from __future__ import annotations

import argparse
import json
from typing import Any

from cattune.annotation.assistant.endpoint.forms import FORMS
from cattune.annotation.assistant.endpoint.refusals import OUTPUT_LIMITS
from cattune.data.outputs import check_outputs
from cattune.errors import ConfigError

OUR_PARAMETERS: dict[str, Any] = {"temperature": 0}
"""Parameters where the user gives none; the client leaves out those that the model refuses."""

_DESCRIPTION = """\
Let an assistant model name what each example's answer depends on, and write the examples with those causal links.

Every reply is stored before it counts. The same command goes on where an earlier one was stopped, killed, out of budget
or got no answer, and asks for nothing that is stored.
"""
_EPILOG = """\
examples:
  cattune annotate in.jsonl --prior arithmetic --model gpt-4.1-mini --dry-run
  cattune annotate in.jsonl --prior prior.yaml --model gpt-4.1-mini --price 0.4 1.6 --budget 5 --out out.jsonl
  cattune annotate in.jsonl --prior prior.yaml --model qwen3 --base-url http://localhost:8000/v1 --out out.jsonl
  cattune annotate in.jsonl --prior prior.yaml --model gpt-4.1-mini --batch write requests.jsonl --out out.jsonl

exit status: 0 every example has a reply that could be used; 1 some failed, the budget was reached, or the assistant
does not answer; 2 the input or the call is wrong; 130 interrupted. docs/annotation.md says more.
"""


def add_options(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command's parser, and return it."""
    parser = subparsers.add_parser(
        "annotate",
        help="let an assistant model name the causal links of a file's examples",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="the examples, as JSON Lines; links that it has are left out")
    add("--prior", required=True, metavar="NAME_OR_YAML", help="what causes what, and examples: see cattune prior")
    add("--model", required=True, metavar="NAME", help="the assistant model; with --local a folder")
    add("--out", metavar="FILE", help="where to write the annotated examples")
    add(
        "--overwrite", action="store_true", help="replace --out where it exists; to go on with one needs no --overwrite"
    )
    add("--store", metavar="FILE", help="keeps the replies (default: the name of --out with .store behind it)")
    _add_assistant(parser)
    _add_speed(parser)
    _add_what_is_asked(parser)
    _add_how_much(parser)
    found: argparse.ArgumentParser = parser
    return found


def _add_assistant(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("the assistant").add_argument
    add("--base-url", metavar="URL", help="an OpenAI-compatible endpoint, such as http://localhost:8000/v1")
    add(
        "--api-key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="the environment variable that holds the key (default: %(default)s); not needed with --base-url",
    )
    add(
        "--parameters",
        type=_parameters,
        default=OUR_PARAMETERS,
        metavar="JSON",
        help='sent with every request (default: {"temperature": 0}, or nothing where the model refuses that)',
    )
    add(
        "--response-format",
        choices=FORMS,
        default=FORMS[0],
        help="the strictest form to ask for; where the server refuses it, the next one (default: %(default)s)",
    )
    add("--local", action="store_true", help="--model is a folder with a transformers model, run in this process")
    add("--trust-remote-code", action="store_true", help="--local: let code that the model's folder brings along run")
    add(
        "--thought-tags",
        nargs=2,
        metavar=("OPEN", "CLOSE"),
        help="what stands around the model's thoughts, where that is none of the usual tags, such as <think> </think>",
    )
    add(
        "--max-output-tokens",
        type=int,
        metavar="N",
        help="the most tokens of a reply (default: enough for what the prior allows)",
    )


def _add_speed(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how fast").add_argument
    add(
        "--concurrency",
        type=int,
        default=16,
        metavar="N",
        help="the most requests under way at once, if the server bears so many (default: %(default)s)",
    )
    add("--requests-per-minute", type=float, metavar="N", help="send no more than this")
    add("--tokens-per-minute", type=float, metavar="N", help="of prompts and replies, send no more than about this")
    add(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="seconds of silence, the server's queue left out, before a request is sent again (default: 120)",
    )
    add(
        "--reply-timeout",
        type=float,
        metavar="S",
        help="seconds for a reply from its first byte on, however steadily it comes (default: 4 x --timeout)",
    )
    add("--max-retries", type=int, default=8, metavar="N", help="how often a request is sent again (default: 8)")


def _add_what_is_asked(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is asked (default: what the prior's options say)").add_argument
    add(
        "--answer-first",
        type=int,
        choices=(0, 1),
        help="ask for the answer's link before the others, for small models that forget it",
    )
    add("--repair", type=int, choices=(0, 1), help="ask once more where a reply has no link for the answer")


def _add_how_much(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how much").add_argument
    add("--limit", type=int, metavar="N", help="only the first N examples")
    add("--price", type=float, nargs=2, metavar=("IN", "OUT"), help="USD for a million tokens of prompts, of replies")
    add("--budget", type=float, metavar="USD", help="stop before all replies in the store cost more; needs --price")
    add("--dry-run", action="store_true", help="print one prompt and the expected cost; needs no key and no network")
    add("--retry-failed", action="store_true", help="ask again for the replies that could not be used")
    add(
        "--batch",
        nargs=2,
        metavar=("write|read", "FILE"),
        help="write the requests for a provider's batch queue, or read its results",
    )
    add("--json", action="store_true", help="print the summary to stdout")


def check_options(args: argparse.Namespace) -> None:
    """Refuse what does not go together, and fill in the name of the store."""
    if args.batch is not None and args.batch[0] not in ("write", "read"):
        raise ConfigError(f"--batch takes 'write FILE' or 'read FILE', got {args.batch[0]!r}")
    if args.local and (args.base_url or args.batch or args.price):
        raise ConfigError("--local runs the model in this process: it has no --base-url, no --batch and no --price")
    if args.trust_remote_code and not args.local:
        raise ConfigError(
            "--trust-remote-code is about the model that --local runs; without --local no model runs here"
        )
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit must be 1 or more, got {args.limit}")
    if args.max_output_tokens is not None and args.max_output_tokens < 1:
        raise ConfigError(f"--max-output-tokens must be 1 or more, got {args.max_output_tokens}")
    if args.max_output_tokens is not None and any(name in args.parameters for name in OUTPUT_LIMITS):
        raise ConfigError("--parameters and --max-output-tokens both limit a reply's tokens; give one of them")
    if args.max_retries < 0:
        raise ConfigError(f"--max-retries must be 0 or more, got {args.max_retries}")
    if not 0 < args.timeout < float("inf"):
        raise ConfigError(f"--timeout must be a number of seconds above 0, got {args.timeout:g}")
    if args.reply_timeout is not None and not 0 < args.reply_timeout < float("inf"):
        raise ConfigError(f"--reply-timeout must be a number of seconds above 0, got {args.reply_timeout:g}")
    if args.out is None and not args.dry_run:
        raise ConfigError("name the file to write with --out, or see what would be asked with --dry-run")
    if args.store is None:
        args.store = f"{args.out}.store" if args.out is not None else None
    requests, results = (args.batch[1] if args.batch and args.batch[0] == kind else None for kind in ("write", "read"))
    inputs = [args.file, args.prior, results]
    check_outputs([args.store], inputs, overwrite=True)
    check_outputs([args.out, requests], [*inputs, args.store], overwrite=True)  # --out: see `annotation.output`
    check_outputs([requests], [], args.overwrite or args.dry_run)


def _parameters(text: str) -> dict[str, Any]:
    from cattune.annotation.assistant.endpoint.address import check_parameters

    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('expected a JSON object, such as {"temperature": 0}')
    try:
        return check_parameters(value)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
