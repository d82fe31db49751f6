"""What supervision costs on top of tokenizing with offsets.

`python benchmarks/alignment.py --data FOLDER` trains a byte-level BPE and a Unigram tokenizer on the published files.
It then tokenizes each file with `tokenizer(texts, return_offsets_mapping=True)` and encodes it with `encode_examples`,
in turn, so that a change of the machine's speed meets both. Both keep what they make, as training would. The thread
pool of tokenizers is off: the times are those of one core.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from cattune.examples import Example
from cattune.io import write_json
from cattune.loading import load_examples
from cattune.provenance import provenance
from cattune.supervision import encode_examples

BATCH = 1000
BUDGET = 0.25
FILES = ("mawps_train.jsonl", "svamp_train.jsonl", "gsm8k_val.jsonl", "stg_l_train.jsonl", "stg_h_train.jsonl")
SPECIAL = ["<unk>", "<pad>", "<s>", "</s>"]


def byte_level(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")


def unigram(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


def tokenize(examples: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[Any]:
    texts = [f"{example.prompt}{example.completion}" for example in examples]
    return [tokenizer(texts[i : i + BATCH], return_offsets_mapping=True) for i in range(0, len(texts), BATCH)]


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of this process's CPU time."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    del result
    return wall, cpu


def compare(examples: list[Example], tokenizer: PreTrainedTokenizerFast, repeats: int) -> dict[str, Any]:
    """Median times of both, and how much more the second one takes: over the pairs of runs, and fastest to fastest."""
    pairs = []
    for _ in range(repeats + 1):
        pairs.append(
            (timed(lambda: tokenize(examples, tokenizer)), timed(lambda: encode_examples(examples, tokenizer)))
        )
    pairs = pairs[1:]  # the first pair warms the caches up
    features, report = encode_examples(examples, tokenizer)
    result: dict[str, Any] = {
        "examples": len(examples),
        "tokens": sum(len(feature["input_ids"]) for feature in features),
        "links": report.links,
        "causes": report.causes,
        "rows": report.rows,
    }
    for index, clock in enumerate(("wall", "cpu")):
        overheads = [ours[index] / theirs[index] - 1 for theirs, ours in pairs]
        low, _, high = statistics.quantiles(overheads, n=4)
        theirs, ours = ([run[index] for run in runs] for runs in zip(*pairs, strict=True))
        result[clock] = {
            "tokenize_s": statistics.median(theirs),
            "encode_s": statistics.median(ours),
            "overhead": statistics.median(overheads),
            "overhead_quartiles": [low, high],
            "overhead_of_the_fastest": min(ours) / min(theirs) - 1,
        }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder with the published files")
    parser.add_argument("--repeats", type=int, default=9, help="pairs of runs (default: 9)")
    parser.add_argument("--vocab-size", type=int, default=8000, help="of both tokenizers (default: 8000)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "alignment.json")
    args = parser.parse_args()

    data = {name: load_examples(args.data / name) for name in FILES}
    data["all files"] = [example for examples in data.values() for example in examples]
    texts = [f"{example.prompt}{example.completion}" for example in data["all files"]]
    results: dict[str, dict[str, Any]] = {}
    for name, train in (("byte-level BPE", byte_level), ("Metaspace Unigram, NFKC", unigram)):
        tokenizer = train(texts, args.vocab_size)
        results[name] = {}
        for file, examples in data.items():
            results[name][file] = cell = compare(examples, tokenizer, args.repeats)
            low, high = cell["cpu"]["overhead_quartiles"]
            print(
                f"{name}, {file}: tokenizing {cell['cpu']['tokenize_s']:.3f} s, overhead {cell['cpu']['overhead']:+.1%}"
                f" of CPU time (quartiles {low:+.1%} to {high:+.1%}, fastest runs"
                f" {cell['cpu']['overhead_of_the_fastest']:+.1%}), {cell['wall']['overhead']:+.1%} by the clock",
                file=sys.stderr,
            )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    config = {"repeats": args.repeats, "vocab_size": args.vocab_size, "batch": BATCH, "files": list(FILES)}
    write_json(args.out, {"budget": BUDGET, "results": results, "provenance": provenance(**config)})
    worst = max(cell["all files"]["cpu"]["overhead"] for cell in results.values())
    print(f"overhead on all files, worst tokenizer: {worst:+.1%} of CPU time (budget {BUDGET:+.0%})", file=sys.stderr)
    return 0 if worst <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
