"""What `cattune annotate` shows while it runs, and says at its end."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cattune.annotation.assistant.annotator import BUDGET, INTERRUPTED, NO_ANSWER
from cattune.annotation.assistant.costs import Price
from cattune.annotation.assistant.endpoint import refusals
from cattune.annotation.assistant.reply import ADVICE
from cattune.annotation.store.store import Store
from cattune.annotation.summary import Summary
from cattune.cli import printable
from cattune.cli.progress import Update
from cattune.wording import counted

_ADVICE = {**ADVICE, **refusals.ADVICE}


def show(update: Update, summary: Summary, total: int, concurrency: int, price: Price | None) -> None:
    """Tell a bar how far a run is: replies that were stored are no speed, nor are fewer than are under way at once."""
    failed = f"{summary.failed.total():,} failed" if summary.failed else ""
    note = ", ".join(filter(None, (failed, _sent_again(summary), _spent(summary, price))))
    update("cattune annotate", "examples", summary.done, total, summary.from_store, concurrency, note)


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
    return 1 if summary.stopped or summary.failed else 0


def _lines(summary: Summary, record: dict[str, Any], args: argparse.Namespace) -> list[str]:
    failed = summary.failed.total()
    lines = [
        f"{counted(summary.done, 'example')}: {summary.annotated} with links, {summary.without_links} without, "
        f"{failed} failed; {counted(summary.links, 'link')}",
    ]
    if args.batch is None:
        cost = "" if record["cost_usd"] is None else f", {record['cost_usd']:.4f} USD"
        lines.append(
            f"{counted(summary.asked, 'reply', 'replies')} asked for and {summary.reused:,} from the store; "
            f"{_spent(summary, None)}{cost}"
        )
    if summary.sent_again:
        lines.append(_sent_again(summary))
    if summary.unmetered:
        replies = counted(summary.unmetered, "reply", "replies")
        lines.append(f"the server did not tell the tokens of {replies}: they are estimated")
    lines += [f"  refused: {count} x {reason}" for reason, count in summary.refused.most_common()]
    for reason, count in summary.failed.most_common():
        advice = f" ({_ADVICE[reason]})" if reason in _ADVICE else ""
        lines.append(f"  failed: {count} x {reason}{advice}")
    lines += [f"    example {name}: {detail[:200]}" for name, _, detail in summary.failures[:3]]
    if summary.unusable:
        again = "--retry-failed" if args.batch is None else "--batch write FILE --retry-failed"
        replies = counted(summary.unusable, "example whose replies", "examples whose replies")
        show = f"cattune annotations replies {args.store} shows them"
        lines.append(f"{replies} could not be used: {again} asks again; {show}")
    if summary.stopped is not None:
        return lines + _how_to_go_on(summary, record, args)
    lines.append(f"wrote {args.out}")
    if summary.unanswered:
        again = "the same command" if args.batch is None else "--batch write FILE"
        lines.append(f"{counted(summary.unanswered, 'example')} got no answer: {again} asks again for what is missing")
    return lines


def _how_to_go_on(summary: Summary, record: dict[str, Any], args: argparse.Namespace) -> list[str]:
    earlier = "; the one that is there is of an earlier run" if Path(args.out).exists() else ""
    lines = [f"stopped before the end ({summary.why or summary.stopped}); {args.out} was not written{earlier}"]
    if summary.stopped == BUDGET:
        lines.append(
            f"all replies in {args.store} have cost {record['store_cost_usd']:.4f} of {args.budget:g} USD; the same "
            "command with a higher --budget goes on where this one stopped"
        )
    elif summary.stopped in (INTERRUPTED, NO_ANSWER):
        lines.append("the same command goes on where this one stopped, and asks for nothing that is stored")
    if summary.stopped != NO_ANSWER and summary.in_order and args.batch is None:
        lines.append(f"--limit {summary.in_order} writes what is through, {counted(summary.in_order, 'example')}")
    return lines


def _sent_again(summary: Summary) -> str:
    reasons = ", ".join(f"{count:,} x {reason}" for reason, count in summary.sent_again.most_common(3))
    return f"sent again: {summary.sent_again.total():,} ({reasons})" if reasons else ""


def _spent(summary: Summary, price: Price | None) -> str:
    tokens = f"{summary.prompt_tokens + summary.completion_tokens:,} tokens"
    if price is None:
        return tokens
    return f"{tokens}, {price.of(summary.prompt_tokens, summary.completion_tokens):.2f} USD"
