"""Where the time goes that supervision costs on top of tokenizing: one file, one tokenizer, step by step.

    python benchmarks/alignment_profile.py --data FOLDER

Each step is timed by itself, on what the steps before it made; the steps take turns. Times are microseconds of CPU time
an example, the medians of all rounds, so they add up only about. The result replaces its own part of the result file of
`alignment.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from alignment import BUDGET, FILES, byte_level, log, timed, tokenize

from cattune.data.examples import Example, Span
from cattune.data.jsonl import write_json
from cattune.formats.loading import load_examples
from cattune.provenance import provenance
from cattune.supervision.dataset import encode
from cattune.supervision.rendering import Renderer
from cattune.supervision.tokens import Tokens, fast_backend

FILE = "mawps_train.jsonl"


def spans_of(example: Example) -> Iterator[Span]:
    for link in example.links:
        yield from (link.effect, *link.causes)


def shifts_of(example: Example) -> dict[str, int]:
    return {"prompt": 0, "completion": len(example.prompt or "")}


def look_up(pairs: Iterable[tuple[Example, Tokens]]) -> None:
    for example, tokens in pairs:
        find = tokens.finder(shifts_of(example))
        for span in spans_of(example):
            find(span)


def ask_the_encodings(pairs: Iterable[tuple[Example, Any]]) -> None:
    """The spans' ends from the tokenizer's own encodings, without a list of offsets; right only in simple texts."""
    for example, encoding in pairs:
        token_at, characters_of, shifts = encoding.char_to_token, encoding.token_to_chars, shifts_of(example)
        for span in spans_of(example):
            shift = shifts[span.field]
            token_at(span.start + shift)
            characters_of((token_at(span.end + shift - 1) or 0) + 1)


def steps_of(examples: list[Example], tokenizer: Any) -> dict[str, Callable[[], object]]:
    backend, render = fast_backend(tokenizer), Renderer(tokenizer)
    texts = [f"{example.prompt}{example.completion}" for example in examples]
    encodings = backend.encode_batch(texts)
    tokens = [Tokens(e.ids, e.offsets, 0, len(e.ids)) for e in encodings]
    return {
        "tokenize": lambda: tokenize(examples, tokenizer),
        "encode_batch": lambda: backend.encode_batch(texts),
        "render": lambda: render.each(examples),
        "lists": lambda: [(encoding.ids, encoding.offsets) for encoding in encodings],
        "columns": lambda: [Tokens(one.ids, one.offsets, 0, one.last) for one in tokens],
        "look_up": lambda: look_up(zip(examples, tokens, strict=True)),
        "ask": lambda: ask_the_encodings(zip(examples, encodings, strict=True)),
        "encode": lambda: encode(examples, tokenizer),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the published files")
    parser.add_argument("--rounds", type=int, default=25, help="(default: 25)")
    parser.add_argument("--vocab-size", type=int, default=8000, help="(default: 8000)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "alignment.json")
    args = parser.parse_args()
    data = {name: load_examples(args.data / name) for name in FILES}
    texts = [f"{example.prompt}{example.completion}" for examples in data.values() for example in examples]
    examples, tokenizer = data[FILE], byte_level(texts, args.vocab_size)
    steps = steps_of(examples, tokenizer)
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(args.rounds + 1):
        for name, step in steps.items():
            times[name].append(timed(step)[1])
    record = json.loads(args.out.read_text(encoding="utf-8"))
    record["profile"] = {
        "file": FILE,
        "budget": BUDGET,
        "spans": sum(1 for example in examples for _ in spans_of(example)) / len(examples),
        # The first round warms the caches up.
        "microseconds": {name: 1e6 * statistics.median(runs[1:]) / len(examples) for name, runs in times.items()},
        "provenance": provenance(rounds=args.rounds, vocab_size=args.vocab_size),
    }
    log(json.dumps(record["profile"]["microseconds"], indent=1))
    write_json(args.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
