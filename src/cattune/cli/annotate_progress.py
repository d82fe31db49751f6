"""What `cattune annotate` shows while it runs and at its end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cattune.annotation.annotate import BUDGET, INTERRUPTED
from cattune.annotation.costs import Price
from cattune.annotation.reply import ADVICE
from cattune.annotation.storage.store import Store
from cattune.annotation.summary import Summary
from cattune.cli import printable

LINE_EVERY_S = 10.0
"""Where standard error is no terminal, a line so often."""

_SHOW_EVERY_S = 0.1


class Meter:
    """A bar on standard error with tokens, cost and time left; a line now and then where that is no terminal."""

    def __init__(self, total: int, price: Price | None) -> None:
        self._total = total
        self._price = price
        self._started = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[spent]}"),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=Console(stderr=True), transient=True, disable=not self._live)
        self._task = self._bars.add_task("", total=total, spent="")

    def __enter__(self) -> Meter:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self, summary: Summary) -> None:
        """Show how far the run is."""
        now = time.monotonic()
        if now - self._shown < (_SHOW_EVERY_S if self._live else LINE_EVERY_S):
            return
        self._shown = now
        spent = _spent(summary, self._price)
        if self._live:
            self._bars.update(self._task, completed=summary.done, spent=spent)
            return
        left = (now - self._started) / summary.done * (self._total - summary.done)
        print(
            f"{summary.done} of {self._total} examples, {spent}, about {left:.0f} s left", file=sys.stderr, flush=True
        )

    def tell(self, message: str) -> None:
        """Say something beside the bar."""
        text = printable(message)
        if self._live:
            self._bars.console.print(escape(text), soft_wrap=True, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)


def report(summary: Summary, store: Store, model: str, price: Price | None, args: argparse.Namespace) -> int:
    """Say what was done and what to do next; return the exit status."""
    spent = store.spent(model)
    record: dict[str, Any] = {
        **summary.to_dict(),
        "cost_usd": None if price is None else price.of(summary.prompt_tokens, summary.completion_tokens),
        "store_requests": spent.requests,
        "store_cost_usd": None if price is None else price.of(spent.prompt_tokens, spent.completion_tokens),
        "out": None if summary.stopped else args.out,
        "store": args.store,
    }
    if args.json:
        print(json.dumps(record, ensure_ascii=False, indent=2))
    for line in _lines(summary, record, args):
        print(printable(line), file=sys.stderr)
    if summary.stopped == INTERRUPTED:
        return 130
    return 1 if summary.stopped or summary.failed else 0


def _lines(summary: Summary, record: dict[str, Any], args: argparse.Namespace) -> list[str]:
    failed = summary.failed.total()
    lines = [
        f"{summary.done} examples: {summary.annotated} with links, {summary.without_links} without, {failed} failed; "
        f"{summary.links} links",
    ]
    if args.batch is None:
        cost = "" if record["cost_usd"] is None else f", {record['cost_usd']:.4f} USD"
        lines.append(
            f"{summary.asked} replies asked for and {summary.reused} from the store; {_spent(summary, None)}{cost}"
        )
    if summary.unmetered:
        lines.append(f"the server did not tell the tokens of {summary.unmetered} replies: those are estimates")
    lines += [f"  refused: {count} x {reason}" for reason, count in summary.refused.most_common()]
    for reason, count in summary.failed.most_common():
        advice = f" ({ADVICE[reason]})" if reason in ADVICE else ""
        lines.append(f"  failed: {count} x {reason}{advice}")
    lines += [f"    example {name}: {detail[:200]}" for name, _, detail in summary.failures[:3]]
    if failed:
        again = "--retry-failed --overwrite" if args.batch is None else "--batch write FILE --retry-failed"
        lines.append(f"ask the failed ones again with {again}; their replies are kept in the store")
    if summary.stopped is None:
        lines.append(f"wrote {args.out}")
    else:
        lines += _how_to_go_on(summary, record, args)
    return lines


def _how_to_go_on(summary: Summary, record: dict[str, Any], args: argparse.Namespace) -> list[str]:
    earlier = "; the one that is there is of an earlier run" if Path(args.out).exists() else ""
    lines = [f"stopped before the end ({summary.stopped}); {args.out} was not written{earlier}"]
    if summary.stopped == BUDGET:
        lines.append(
            f"all replies in {args.store} have cost {record['store_cost_usd']:.4f} of {args.budget:g} USD; the same "
            "command with a higher --budget goes on where this one stopped"
        )
    elif summary.stopped == INTERRUPTED:
        lines.append("the same command goes on where this one stopped, and asks for nothing that is stored")
    if summary.in_order and args.batch is None:
        lines.append(f"--limit {summary.in_order} writes the first {summary.in_order} examples, which are all through")
    return lines


def _spent(summary: Summary, price: Price | None) -> str:
    tokens = f"{summary.prompt_tokens + summary.completion_tokens:,} tokens"
    if price is None:
        return tokens
    return f"{tokens}, {price.of(summary.prompt_tokens, summary.completion_tokens):.2f} USD"
