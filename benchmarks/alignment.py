"""What supervision costs on top of tokenizing with offsets, file by file and as a data set grows.

    python benchmarks/alignment.py --data FOLDER                       the published files
    python benchmarks/alignment.py --scale 1000 10000 100000 1000000   generated STG examples, in any number of sizes
    python benchmarks/alignment_page.py                                the tables and the plot of docs/alignment.md

Either part replaces its own in the result file and leaves the other. `--data` trains a byte-level BPE and a Unigram
tokenizer on the published files; it then tokenizes each file with `tokenizer(texts, return_offsets_mapping=True)` and
encodes it as `CATTrainer` does a list of examples, in turn, so that a change of the machine's speed meets both. Both
keep what they make. The thread pool of tokenizers is off: the times are those of one core.

`--scale` writes the largest data set once and maps the first so many rows of it: `tokenize` reads prompt and
completion, tokenizes them with offsets and keeps the ids; `encode` is what `CATTrainer` does with a `datasets.Dataset`.
Each run is a process of its own. Memory is the proportional set size of it and its workers, sampled, above what it was
before the map: anonymous pages are memory that the process needs, file pages are parts of Arrow files that the system
may drop.

`alignment_profile.py` adds where the time goes, step by step.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from cattune.data.examples import Example
from cattune.data.jsonl import write_json
from cattune.data.records import example_to_dict
from cattune.formats.loading import load_examples
from cattune.provenance import provenance
from cattune.supervision.collator import CausalCollator
from cattune.supervision.dataset import encode
from cattune.tasks.stg import load_game, make_split

BATCH = 1000
BUDGET = 0.25
FILES = ("mawps_train.jsonl", "svamp_train.jsonl", "gsm8k_val.jsonl", "stg_l_train.jsonl", "stg_h_train.jsonl")
SPECIAL = ["<unk>", "<pad>", "<s>", "</s>"]
GAME = "cancer_risk"
SEED = 0
CHUNK = 1000
"""Generated examples of one seed."""
COLLATED, COLLATE_BATCH = 200, 16
SAMPLE_S = 0.1


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
        pairs.append((timed(lambda: tokenize(examples, tokenizer)), timed(lambda: encode(examples, tokenizer))))
    pairs = pairs[1:]  # the first pair warms the caches up
    features, report = encode(examples, tokenizer)
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


def compare_files(folder: Path, repeats: int, vocab_size: int) -> dict[str, Any]:
    data = {name: load_examples(folder / name) for name in FILES}
    data["all files"] = [
        replace(example, id=f"{file}, {example.id}")  # two files may use one id
        for file, examples in data.items()
        for example in examples
    ]
    texts = [f"{example.prompt}{example.completion}" for example in data["all files"]]
    results: dict[str, dict[str, Any]] = {}
    for name, train in (("byte-level BPE", byte_level), ("Metaspace Unigram, NFKC", unigram)):
        tokenizer = train(texts, vocab_size)
        results[name] = {}
        for file, examples in data.items():
            results[name][file] = cell = compare(examples, tokenizer, repeats)
            low, high = cell["cpu"]["overhead_quartiles"]
            log(
                f"{name}, {file}: tokenizing {cell['cpu']['tokenize_s']:.3f} s, overhead {cell['cpu']['overhead']:+.1%}"
                f" of CPU time (quartiles {low:+.1%} to {high:+.1%}), {cell['wall']['overhead']:+.1%} by the clock"
            )
    config = {"repeats": repeats, "vocab_size": vocab_size, "batch": BATCH, "files": list(FILES)}
    return {"budget": BUDGET, "results": results, "provenance": provenance(**config)}


def generated(chunks: list[int]) -> Iterator[dict[str, Any]]:
    game = load_game(GAME)
    for chunk in chunks:
        yield from map(example_to_dict, make_split(game, "train", CHUNK, SEED + chunk))


def ids_only(batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    texts = [prompt + completion for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True)]
    return {"input_ids": tokenizer(texts, return_offsets_mapping=True)["input_ids"]}


def measure_scale(sizes: list[int], processes: list[int], repeats: int, vocab_size: int) -> dict[str, Any]:
    """Each size, number of processes and kind of map in a process of its own; the two kinds take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log(f"generating {max(sizes)} examples")
        chunks = list(range(-(-max(sizes) // CHUNK)))
        rows = Dataset.from_generator(generated, gen_kwargs={"chunks": chunks}, cache_dir=str(folder / "generated"))
        source = rows.cache_files[0]["filename"]
        first = rows.select(range(min(10 * CHUNK, len(rows))))
        texts = [prompt + answer for prompt, answer in zip(first["prompt"], first["completion"], strict=True)]
        byte_level(texts, vocab_size).save_pretrained(folder / "tokenizer")
        cells = []
        for size in sorted(sizes):
            for num_proc in processes:
                for repeat in range(repeats if size <= 100_000 else 1):
                    for kind in ("tokenize", "encode"):
                        cell = measured([kind, source, str(folder / "tokenizer"), str(size), str(num_proc)])
                        cells.append({"kind": kind, "examples": size, "num_proc": num_proc, "repeat": repeat, **cell})
                        log(
                            f"{kind}, {size} examples, {num_proc} processes: {size / cell['seconds']:.0f} a second, "
                            f"peak +{cell['anonymous_mb']:.0f} MB anonymous, +{cell['file_mb']:.0f} MB of files"
                        )
    config = {"game": GAME, "seed": SEED, "chunk": CHUNK, "sizes": sizes, "num_proc": processes, "repeats": repeats}
    return {"cells": cells, "provenance": provenance(**config, vocab_size=vocab_size)}


def measured(arguments: list[str]) -> dict[str, float]:
    """What a run of this file with `--cell` prints."""
    done = subprocess.run(
        [sys.executable, __file__, "--cell", *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def run_cell(kind: str, source: str, tokenizer_folder: str, size: int, num_proc: int) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    rows = Dataset.from_file(source).select(range(size))
    processes = num_proc if num_proc > 1 else None
    with Memory() as memory:
        started, cpu = time.perf_counter(), cpu_seconds()
        if kind == "tokenize":
            features = rows.map(
                ids_only,
                batched=True,
                batch_size=BATCH,
                remove_columns=rows.column_names,
                fn_kwargs={"tokenizer": tokenizer},
                num_proc=processes,
            )
        else:
            features, report = encode(rows, tokenizer, num_proc=num_proc)
            assert report.aligned_links == report.links == size
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    files = [Path(file["filename"]) for file in features.cache_files]
    written = sum(file.stat().st_size for file in files) / 1e6
    result = {"seconds": seconds, "cpu_seconds": cpu, **memory.peak_mb(), "features_mb": written}
    if kind == "encode":
        result["fetch_and_collate_ms"] = collate_ms(features)
        if size <= 10_000:
            result["fetch_and_collate_list_ms"] = collate_ms(InMemory(features.to_list()))
    for file in files:
        file.unlink()
    return result


def cpu_seconds() -> float:
    """Of this process and of the children that have ended, in all their threads."""
    return sum(os.times()[:4])


class InMemory(list[dict[str, Any]]):
    """Features as plain lists, fetched as a `DataLoader` fetches them."""

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


def collate_ms(features: Any) -> float:
    """Milliseconds to fetch and to pad a batch, in the order of a shuffled epoch."""
    collate, rng = CausalCollator(pad_token_id=0), random.Random(SEED)
    batches = [[rng.randrange(len(features)) for _ in range(COLLATE_BATCH)] for _ in range(COLLATED)]
    times = []
    for indices in batches:
        started = time.perf_counter()
        collate(features.__getitems__(indices))
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


class Memory:
    """The peak memory of this process and its children while the block runs, above what it was at the start."""

    def __enter__(self) -> Memory:
        gc.collect()
        self._before = self._peak = tree_memory()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._peak = tuple(map(max, self._peak, tree_memory()))

    def peak_mb(self) -> dict[str, float]:
        """Megabytes above those at the start, and these."""
        above = [(peak - before) / 1000 for peak, before in zip(self._peak, self._before, strict=True)]
        return {"anonymous_mb": above[0], "file_mb": above[1], "before_mb": sum(self._before) / 1000}


def tree_memory() -> tuple[int, ...]:
    """Anonymous and file pages of this process and its children, in kB, shared pages by their share (Linux)."""
    totals = {"Pss_Anon": 0, "Pss_File": 0}
    waiting = [os.getpid()]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            for task in (folder / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            for line in (folder / "smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in totals:
                    totals[name] += int(value.split()[0])
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return tuple(totals.values())


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the folder with the published files")
    parser.add_argument("--scale", type=int, nargs="+", metavar="N", help="numbers of generated examples")
    parser.add_argument("--num-proc", type=int, nargs="+", default=[1, 2], help="with --scale (default: 1 2)")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of runs for a file (default: 7)")
    parser.add_argument(
        "--scale-repeats", type=int, default=3, help="runs of each size up to 100000, one above (default: 3)"
    )
    parser.add_argument("--vocab-size", type=int, default=8000, help="of all tokenizers (default: 8000)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "alignment.json")
    parser.add_argument("--cell", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    disable_progress_bars()
    if args.cell:
        kind, source, tokenizer, size, num_proc = args.cell
        print(json.dumps(run_cell(kind, source, tokenizer, int(size), int(num_proc))))
        return 0
    if args.data is None and args.scale is None:
        parser.error("nothing to do: give --data FOLDER, --scale N ..., or both")

    record = json.loads(args.out.read_text(encoding="utf-8")) if args.out.exists() else {}
    if args.data is not None:
        record["files"] = compare_files(args.data, args.repeats, args.vocab_size)
        write_json(args.out, record)
    if args.scale is not None:
        record["scale"] = measure_scale(args.scale, args.num_proc, args.scale_repeats, args.vocab_size)
        write_json(args.out, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
