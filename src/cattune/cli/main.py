"""`cattune`: finds the command, and turns whatever goes wrong into one message and an exit status.

0 done; 1 failed while working; 2 the user's input or call is wrong; 130 interrupted, 143 terminated. Messages go to
standard error.
"""

from __future__ import annotations

import argparse
import io
import os
import select
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import NoReturn

from cattune import __version__
from cattune.cli import printable
from cattune.cli.ending import Terminated, ended_in_order
from cattune.errors import CattuneError, bounded

COMMANDS = ("demo", "stg", "prior", "annotate", "annotations", "review", "align", "train", "evaluate")
"""Each is a module of this package with `add_parser(subparsers)` and `run(args)`, in the order that help lists them."""

_EPILOG = """\
examples:
  cattune demo --out demo                                    see it work, in a few minutes on a CPU
  cattune stg --size l --seed 0 --out data/stg_l             write a data set with a known spurious correlation
  cattune prior new --from arithmetic --out sums.yaml        start a prior: what causes what, with handwritten examples
  cattune annotate sums.jsonl --prior sums.yaml --model NAME --out links.jsonl
                                                             let an assistant model write the causal links of a data set
  cattune review links.jsonl                                 look at them and correct them, in the browser
  cattune align data/stg_l/train.jsonl --tokenizer tiny      see whether its causal links reach tokens
  cattune train config.yaml                                  fine-tune a model
  cattune evaluate --model runs/model --data iid=iid.jsonl ood=ood.jsonl --out scores.json

cattune COMMAND --help explains a command.
"""

_SAY_HOW_TO_GO_ON = ("annotate", "review", "train")
"""Commands that say themselves what an interrupted run has left."""

# What the libraries below say for their own sake, and would say in the middle of a command's own messages.
_QUIET = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
_NOISY = r"(accelerate|datasets|huggingface_hub|peft|torch|transformers)(\.|$)"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, the program's own by default, and return its exit status."""
    _open_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words  # anywhere: `train` passes on every word that follows it
    args = build_parser().parse_args([word for word in words if word != "--debug"])
    try:
        with ended_in_order(), nullcontext() if debug else _quiet_libraries():
            status: int = args.run(args)
        sys.stdout.flush()  # so that a full disk or a closed pipe is noticed here, and not after the end
        return status
    except KeyboardInterrupt as stop:
        number = stop.number if isinstance(stop, Terminated) else signal.SIGINT
        how = "interrupted" if number == signal.SIGINT else "terminated"
        _say(how if args.command in _SAY_HOW_TO_GO_ON else f"{how}; no half-written file is left: run it again")
        return 128 + number
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            return 0  # a table of rich's was cut off by its reader: rich ends the program with 1 then
        raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _settle_stdout()
            return 0  # whoever read the output has seen enough, and the work was done before anything was printed
        if debug:
            raise
        if isinstance(error, CattuneError):
            _say(f"error: {error}")
            return error.exit_status
        _settle_stdout()
        _say(bounded(" ".join(f"failed: {type(error).__name__}: {error}".split())))
        _say("run the same with --debug for the traceback")
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; imports the commands' modules, and these import nothing heavy."""
    parser = _Parser(
        prog="cattune",
        description="Fine-tune causal language models so that they read the tokens that cause the answer, and prove "
        "that they do.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cattune {__version__}")
    parser.add_argument(
        "--debug", action="store_true", help="with any command: the traceback of an error, and the libraries' messages"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"cattune.cli.{name}").add_parser(subparsers)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a call without repeating all of it, however long it is; so do the commands' parsers."""

    def error(self, message: str) -> NoReturn:
        super().error(bounded(message))


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep other libraries' progress bars, log lines and warnings off the terminal; what the user has set stays."""
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.filterwarnings("ignore", module=_NOISY)
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _open_streams() -> None:
    """See that both streams take any text: one that was closed goes nowhere, one that lacks a sign escapes it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(message: str) -> None:
    with suppress(OSError):  # there is nobody left to tell
        print(f"cattune: {printable(message)}", file=sys.stderr)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe whose reader is gone: it may also be another pipe that broke."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # asks for nothing but what is reported always: errors and hang-ups
        return bool(poll.poll(0))
    except (AttributeError, OSError, ValueError):  # there is no standard output, or it is no file
        return False


def _settle_stdout() -> None:
    """Flush standard output; where that fails, send the rest nowhere, or the interpreter's own flush would fail too."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
