"""`cattune annotations replies`: what the assistant wrote where its reply could not be used."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cattune.cli import printable, say
from cattune.data.own_kinds import is_store
from cattune.errors import ConfigError, DataError
from cattune.wording import counted, shown

if TYPE_CHECKING:
    from cattune.annotation.store.store import Failure

SHOWN_CHARACTERS = 600
"""So much of a reply is shown, unless it is asked for by its example's id."""

_DESCRIPTION = """\
Show the replies of the assistant that could not be used: whose they are, why, what can be done, and what it wrote. They
are in the store that `cattune annotate` keeps beside its output.
"""


def add_parser(actions: Any) -> None:
    """Add the action's parser."""
    parser = actions.add_parser(
        "replies",
        help="show the assistant's replies that could not be used",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the output of cattune annotate, or its store")
    parser.add_argument("--store", metavar="FILE", help="the store, where it is not FILE.store")
    parser.add_argument("--id", metavar="ID", help="only those about this example, and the whole of them")
    parser.add_argument("--json", action="store_true", help="print them as JSON Lines")


def run(args: argparse.Namespace) -> int:
    """Show them; 0, also where there is none.

    Raises:
        CattuneError: there is no store, or none of the example's replies is in it.
    """
    from cattune.annotation.store.store import Store

    path = _store(args)
    with Store(path) as store:
        failures = [(failure, attempt) for failure, attempt, stands in store.failures() if stands]
    if args.id is not None:
        failures = [(failure, attempt) for failure, attempt in failures if failure.example == args.id]
        if not failures:
            raise DataError(
                f"{path} has no reply about the example {shown(args.id)} that could not be used; without --id all that "
                "it has are shown"
            )
    for failure, attempt in failures:
        record = _record(failure, attempt)
        if args.json:
            print(json.dumps(record, ensure_ascii=False))
        else:
            print(printable("\n".join(_lines(record, whole=args.id is not None))))
    say(f"{counted(len(failures), 'reply', 'replies')} of {path} could not be used")
    return 0


def _store(args: argparse.Namespace) -> str:
    for path in filter(None, (args.store, args.file, f"{args.file}.store")):
        try:
            with open(path, "rb") as file:
                if is_store(file.read(100)):
                    return str(path)
        except OSError as error:
            if path == args.store:
                raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
        if path == args.store:
            raise ConfigError(f"{path} is no store of cattune annotate")
    there = "is no store" if os.path.exists(args.file) else "does not exist"
    raise ConfigError(
        f"{args.file} {there}, and there is none beside it ({args.file}.store); name the file that cattune annotate "
        "wrote, or its store with --store"
    )


def _record(failure: Failure, attempt: int) -> dict[str, Any]:
    from cattune.annotation.assistant.reply import ADVICE

    return {
        "example": failure.example or None,
        "reason": failure.reason,
        "detail": failure.detail,
        "advice": ADVICE.get(failure.reason),
        "attempt": attempt,
        "reply": failure.raw,
    }


def _lines(record: dict[str, Any], whole: bool) -> Iterator[str]:
    name = "an example of an earlier release" if record["example"] is None else f"example {record['example']}"
    again = f", attempt {record['attempt']}" if record["attempt"] > 1 else ""
    yield f"{name}: {record['reason']}{again}: {record['detail']}"
    if record["advice"]:
        yield f"  advice: {record['advice']}"
    reply = record["reply"]
    left_out = 0 if whole else len(reply) - SHOWN_CHARACTERS
    for line in (reply if left_out <= 0 else reply[:SHOWN_CHARACTERS]).splitlines():
        yield f"  | {line}"
    if left_out > 0:
        yield f"  | ... and {counted(left_out, 'character')} more: --id shows all"
    yield ""
