"""`cattune review`: a local web page on which to look at causal links and correct them."""

from __future__ import annotations

import argparse
from typing import Any

from cattune.cli import say
from cattune.errors import ConfigError
from cattune.wording import listed

_DESCRIPTION = """\
Look at the causal links of a file, and accept, reject, correct and add links, on a web page that this machine serves to
itself. The page's URL is printed; whoever has it can edit the file while the command runs. Ctrl-C stops it.
"""
_EPILOG = """\
examples:
  cattune review annotated.jsonl
  cattune review annotated.jsonl --port 8765 --no-browser
  cattune review published.jsonl --out reviewed.jsonl

Edits are kept in FILE.review-journal until they are saved: stop, start again, and they are there. Saving replaces FILE
as a whole or not at all, and not if another program has changed it. Edits that no longer fit the file are set aside in
FILE.set-aside-1.jsonl. docs/review.md lists the keys.

exit status: 0 stopped; 2 something is wrong with the file or the call.
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "review",
        help="look at causal links on a local web page, and correct them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE", help="the examples, as JSON Lines")
    parser.add_argument(
        "--out", metavar="FILE", help="save to this new file; needed where FILE is not in cattune's own schema"
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="port of 127.0.0.1; default: a free one")
    parser.add_argument("--no-browser", action="store_true", help="only print the URL")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C.

    Raises:
        CattuneError: the file is not in order, or the page cannot be served.
    """
    try:
        from cattune.review.server import listen, serve
    except ImportError as error:
        raise ConfigError(
            f"the review page needs {error.name}: pip install 'causal-attention-tuning[review]'"
        ) from error
    from cattune.cli.progress import progress_bars
    from cattune.review.document import open_document

    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port must be from 0 to 65535, got {args.port}")
    listener = listen(args.port)
    with listener:
        with progress_bars() as update:
            document = open_document(args.file, args.out, lambda done, size: update("reading", "bytes", done, size))
        try:
            say(_greeting(document))

            def started(url: str) -> None:
                print(url, flush=True)
                say("Ctrl-C stops the page")

            serve(document, listener, started, browser=not args.no_browser)
        finally:
            with document.alone:  # a save may still be under way
                said = _farewell(document)
                document.close()
        say(said)
    return 0


def _greeting(document: Any) -> str:
    from cattune.review.carry_over import files_set_aside

    carried = document.carried_over
    lines = [f"{document.source.path}: {_examples(len(document))}, {document.index.reviewed:,} reviewed"]
    if carried.torn:
        lines.append(
            "the last edit in the journal was cut short, as by a crash while it was written, and is left out: it had "
            "not been confirmed"
        )
    if carried.applied:
        lines.append(f"unsaved edits of an earlier review are in force again: {_examples(carried.applied)}")
    if carried.set_aside:
        lines.append(
            f"changed in the file after they were edited here: {_examples(len(carried.set_aside))} "
            f"({listed(carried.set_aside)}); your versions are in {carried.path}"
        )
    earlier = [path for path in files_set_aside(document.target) if path not in document.aside]
    if earlier:  # a review that was killed has told nobody
        lines.append(f"set aside by earlier reviews, and still there: {', '.join(map(str, earlier))}")
    return "\n".join(lines)


def _farewell(document: Any) -> str:
    lines = [
        f"not in {document.target}: your versions of {_examples(count)}, which are in {path}"
        for path, count in document.aside.items()
    ]
    if document.unsaved:
        again = "the same command" if document.source.path != document.target else f"cattune review {document.target}"
        lines.append(
            f"not saved in {document.target} yet: the edits of {_examples(len(document.unsaved))}. They are kept in "
            f"{document.journal.path}, and {again} continues with them"
        )
    elif not document.source.looks_unchanged():
        lines.append(f"{document.source.path} was changed, moved or deleted by another program after you saved")
    return "\n".join(["stopped" if lines else "stopped; everything is saved", *lines])


def _examples(count: int) -> str:
    return f"{count:,} {'example' if count == 1 else 'examples'}"
