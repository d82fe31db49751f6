"""What `cattune annotate` does, from its options to its exit status."""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from types import FrameType
from typing import Any

from cattune.annotation.assistant.annotator import INTERRUPTED, Annotator, Asker
from cattune.annotation.assistant.batch import MOST_REQUESTS, collect, read_results, write_requests
from cattune.annotation.assistant.costs import Costs, Price
from cattune.annotation.assistant.course import Question
from cattune.annotation.assistant.endpoint.address import find_address
from cattune.annotation.assistant.endpoint.forms import FORMS, Way
from cattune.annotation.assistant.endpoint.limits import Limits
from cattune.annotation.assistant.forecast import forecast
from cattune.annotation.assistant.inputs import InputFile, check_input, check_unchanged, iter_examples
from cattune.annotation.assistant.output import check_output, command_key, note_output
from cattune.annotation.assistant.prior import Prior, load_prior
from cattune.annotation.assistant.reply_form import limited, output_limit, response_format
from cattune.annotation.store.store import InputNote, Store
from cattune.annotation.summary import Stopped, Summary
from cattune.cli import say
from cattune.cli.annotate_options import OUR_PARAMETERS, check_options
from cattune.cli.annotate_progress import report, show
from cattune.cli.progress import progress_bars
from cattune.data.examples import Example
from cattune.data.jsonl import write_jsonl
from cattune.data.records import example_to_dict
from cattune.wording import counted


def annotate(args: argparse.Namespace) -> int:
    """Annotate; 0 where every example has a usable reply, 1 where some failed or the run was stopped."""
    costs = Costs(_price(args), args.budget, {**_most_tokens(args), **args.parameters})
    check_options(args)

    tags = tuple(args.thought_tags) if args.thought_tags else None
    repair = None if args.repair is None else bool(args.repair)
    question = Question(_prior(args), args.model, args.parameters, repair, tags)
    found = check_input(args.file, args.limit)
    if found.with_links:
        some = counted(found.with_links, "example has", "examples have")
        say(f"{some} links already, of {_total(args, found):,}; these links are left out")
    if args.dry_run:
        return _dry_run(args, question, found)

    with Store(args.store) as store:
        if args.batch is not None and args.batch[0] == "write":
            return _write_batch(args, question, store, found)
        _check_output(args, question, store)
        _note_input(args, question, store, found)
        if args.batch is not None:
            return _read_batch(args, question, store, found)
        return _annotate(args, question, store, found, costs)


def _examples(args: argparse.Namespace) -> Iterator[Example]:
    return islice(iter_examples(args.file), args.limit)


def _prior(args: argparse.Namespace) -> Prior:
    prior = load_prior(args.prior)
    if args.answer_first is None:
        return prior
    return replace(prior, options=replace(prior.options, answer_first=bool(args.answer_first)))


def _most_tokens(args: argparse.Namespace) -> dict[str, int]:
    return {} if args.max_output_tokens is None else {"max_tokens": args.max_output_tokens}


def _total(args: argparse.Namespace, found: InputFile) -> int:
    return found.examples if args.limit is None else min(found.examples, args.limit)


def _price(args: argparse.Namespace) -> Price | None:
    return None if args.price is None else Price(*args.price)


def _dry_run(args: argparse.Namespace, question: Question, found: InputFile) -> int:
    store = Store(args.store) if args.store is not None and os.path.isfile(args.store) else None
    try:
        expected = forecast(question, _examples(args), store)
    finally:
        if store is not None:
            store.close()
    price = _price(args)
    cost = None if price is None else price.of(expected.prompt_tokens, expected.completion_tokens)
    if args.json:
        print(json.dumps({**expected.to_dict(), "cost_usd": cost}, ensure_ascii=False, indent=2))
        return 0
    for turn in expected.messages:
        print(f"--- {turn['role']}\n{turn['content']}\n")
    say(
        f"{counted(expected.examples, 'example')}; {counted(expected.requests, 'request')} to send, "
        f"{expected.stored:,} stored already, "
        f"{counted(expected.duplicates, 'example is', 'examples are')} the same as another"
    )
    say(
        f"about {expected.prompt_tokens:,} tokens of prompts and {expected.completion_tokens:,} of replies, without "
        "the second requests where a reply has problems"
    )
    say("give --price IN OUT to see the cost" if cost is None else f"about {cost:.2f} USD")
    return 0


def _note_input(args: argparse.Namespace, question: Question, store: Store, found: InputFile) -> None:
    """Say what is reused where the input is not what it was in the last run."""
    name = os.path.realpath(args.file)
    before = store.input_note(name)
    if before is not None and before.sha256 != found.sha256:
        expected = forecast(question, _examples(args), store)
        say(
            f"{args.file} has changed since the last run ({counted(before.examples, 'example')} then, "
            f"{found.examples:,} now): replies to {counted(expected.stored, 'text')} are reused; "
            f"new: {expected.requests:,}"
        )
    store.note_input(name, InputNote(found.sha256, found.examples)).result()


def _check_output(args: argparse.Namespace, question: Question, store: Store) -> None:
    """Refuse to replace an output, unless it is one to go on with."""
    if args.overwrite:
        return
    note = check_output(args.out, store, command_key(question, args.file, args.limit), args.retry_failed)
    if note is not None:
        say(
            f"{args.out} is of an earlier run of this command, in which {counted(note.unanswered, 'example')} got no "
            f"answer and {counted(note.unusable, 'example')} none that could be used; going on with it"
        )


def _write_batch(args: argparse.Namespace, question: Question, store: Store, found: InputFile) -> int:
    path = args.batch[1]
    form = Way(args.response_format).response_format(response_format(question.prior)).get("response_format")
    most = args.max_output_tokens
    count = write_requests(
        path, question, _examples(args), store, form, most_tokens=most, retry_failed=args.retry_failed
    )
    check_unchanged(found)
    say(f"wrote {counted(count, 'request')} to {path}; give the results to the same command with --batch read RESULTS")
    if count > MOST_REQUESTS:
        say(
            f"services take up to {MOST_REQUESTS:,} requests a file: split it by lines, and read the results one by one"
        )
    if args.json:
        print(json.dumps({"requests": count}))
    return 0


def _read_batch(args: argparse.Namespace, question: Question, store: Store, found: InputFile) -> int:
    counts = read_results(args.batch[1], question, store)
    say(
        f"read {counted(counts['new'], 'new reply', 'new replies')}, {counts['known']:,} known and "
        f"{counted(counts['failed'], 'error')}"
    )
    summary = Summary()
    try:
        _write(args, found, collect(question, _examples(args), store, summary))
        _note_output(args, question, store, summary)
    except Stopped:
        say("not every request is answered yet, or a reply has problems: write what is open with --batch write FILE")
    return report(summary, store, question.model, _price(args), args)


def _annotate(args: argparse.Namespace, question: Question, store: Store, found: InputFile, costs: Costs) -> int:
    total = _total(args, found)
    with progress_bars() as update:
        asker = _asker(args, question.prior, say, store.spent(question.model).requests > 0)

        def progress(summary: Summary) -> None:
            at_once = args.concurrency if args.local else asker.limits.pace.limit
            show(update, summary, total, at_once, costs.price)

        annotator = Annotator(question, asker, store, costs=costs, retry_failed=args.retry_failed, progress=progress)
        progress(annotator.summary)
        with suppress(Stopped), _interruptible(annotator) as signals, _modules_not_searched():
            _write(args, found, annotator.run(_examples(args)))
            _note_output(args, question, store, annotator.summary)
    status = report(annotator.summary, store, question.model, costs.price, args)
    return 128 + signals[0] if annotator.summary.stopped == INTERRUPTED else status


def _write(args: argparse.Namespace, found: InputFile, examples: Generator[Example]) -> None:
    def records() -> Iterator[dict[str, Any]]:
        for example in examples:
            yield example_to_dict(example)
        check_unchanged(found)

    with closing(examples):  # a file that cannot be written ends the run before its store is closed
        write_jsonl(args.out, records())


def _note_output(args: argparse.Namespace, question: Question, store: Store, summary: Summary) -> None:
    note_output(args.out, store, command_key(question, args.file, args.limit), summary)


def _asker(args: argparse.Namespace, prior: Prior, tell: Callable[[str], None], answered_before: bool) -> Asker:
    if args.local:
        from cattune.annotation.assistant.local import MAX_NEW_TOKENS, LocalModel

        most = args.max_output_tokens or args.parameters.get("max_tokens", MAX_NEW_TOKENS)
        trust = args.trust_remote_code
        form = response_format(prior) if args.response_format == FORMS[0] else None
        return LocalModel(
            args.model, form, batch_size=args.concurrency, max_new_tokens=most, trust_remote_code=trust, tell=tell
        )

    from cattune.annotation.assistant.endpoint.client import Assistant

    most = args.max_output_tokens or output_limit(prior)
    limit = limited(args.parameters, most, own_server=find_address(args.base_url) is not None)
    own = {*(limit if args.max_output_tokens is None else ())}
    own |= args.parameters.keys() if args.parameters is OUR_PARAMETERS else set()
    return Assistant(
        args.model,
        response_format(prior),
        form=args.response_format,
        base_url=args.base_url,
        key_variable=args.api_key_env,
        parameters={**args.parameters, **limit},
        own=own,
        limits=Limits(args.concurrency, args.requests_per_minute, args.tokens_per_minute),
        timeout_s=args.timeout,
        reply_timeout_s=args.reply_timeout,
        max_retries=args.max_retries,
        answered_before=answered_before,
        tell=tell,
    )


@contextmanager
def _modules_not_searched() -> Iterator[None]:
    """Keep the garbage collector from searching all that is imported again and again: a fifth of the time of a run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _interruptible(annotator: Annotator) -> Iterator[list[int]]:
    """The first Ctrl-C, or SIGTERM, lets what is under way be answered and stored; the second one ends at once.

    Gives the list of the signals that came.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(number, before[number])
        annotator.stop(INTERRUPTED)
        with suppress(RuntimeError):  # the signal came while another line was being written: Python refuses a second
            say("stopping: requests under way are waited for and stored; press Ctrl-C again to end at once")

    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
