"""What does Causal Attention Tuning cost beside plain fine-tuning? Time and memory of a training step.

    python benchmarks/training_step.py --out benchmarks/results/training_step_cpu.json
    python benchmarks/training_step.py --device cuda --attention sdpa --out benchmarks/results/training_step_h200.json

A step is what the Trainer does for a batch: forward, loss, backward, AdamW. Four ways are compared, on one model with
random weights and one batch, interleaved, each round in a random order:

- `sft`: `transformers.Trainer` on the fused attention backend;
- `cat`: `CATTrainer` on the same backend;
- `maps`: the eager model's full attention maps, averaged layer by layer, then the same loss, vectorised;
- `loop`: the published algorithm: the same maps, and a Python loop over the rows.

The objective is the published `div` in all. The batch is one sequence; its second half is the completion, and the
supervised rows lie there, evenly spread, each with 8 causal keys in the prompt. Memory is the peak of a process of its
own: on a CPU its resident memory above that of the process with everything imported. About 25 minutes on two cores.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Trainer

from cattune.attention import MaskGroup, RowMass, RowSelection
from cattune.attention.rows import LayerInput, row_mass
from cattune.attention.tiles import attend_rows
from cattune.data.jsonl import write_json
from cattune.models import tiny
from cattune.provenance import provenance
from cattune.training.config import CATConfig
from cattune.training.penalties.objectives import div
from cattune.training.penalties.re_attention import group_sums
from cattune.training.trainer import CATTrainer

CONFIGS = {
    "cpu": dict(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=8192,
    ),
    "cuda": dict(  # the size of Llama 3.2 1B
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        tie_word_embeddings=True,
    ),
}
LENGTHS = {"cpu": (128, 256, 512, 1024, 2048, 4096, 8192), "cuda": (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)}
LARGEST_MAPS = {"cpu": 4096, "cuda": 8192}
LONGEST_DENSE_LOOP = 1024
"""Beyond, the row loop over half of the rows takes minutes a step: each row's gradient is a map of its own."""
FEW = 32
CAUSES = 8
ROUNDS_ALONE = 9
_M_MMAP_THRESHOLD = -3
"""Tells glibc to give every larger block back when it is freed: the peak is then of what is in use, to 1 MiB."""
FEWEST_ROUNDS, FEWEST_BASELINE_ROUNDS, MOST_ROUNDS, SECONDS = 7, 3, 51, 20.0
"""Rounds of a length: as many as give plain fine-tuning so many seconds, within these bounds; of the slow baselines
fewer, since one step of theirs may take a minute."""
ALPHA = 1e9
"""Above every ratio, so that `div` is differentiated in each row and not only where it happens to be low."""


def build_model(device: str, attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(**CONFIGS[device], max_position_embeddings=65536, attn_implementation=attention)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    return LlamaForCausalLM(config).to(device, dtype)


def make_batch(length: int, rows: int, vocabulary: int, device: str) -> dict[str, Tensor]:
    """One sequence, as the collator gives it; `rows` of its second half are supervised."""
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(vocabulary, (1, length), generator=generator)
    labels = ids.clone()
    labels[:, : length // 2] = -100
    query_rows = torch.linspace(length // 2 - 1, length - 2, rows).round().long().unique()
    keys = torch.rand(len(query_rows), length // 2 - 1, generator=generator).topk(CAUSES).indices.sort().values
    batch = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "query_rows": query_rows.unsqueeze(0),
        "causal_keys": keys.unsqueeze(0),
        "causal_weights": torch.ones(1, *keys.shape),
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


class MapsTrainer(CATTrainer):
    """The same loss from full attention maps, one layer's at a time averaged over its heads."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Cross-entropy and, from the maps of the same forward, the Re-Attention loss."""
        inputs = dict(inputs)
        rows, keys, weights = (inputs.pop(name) for name in ("query_rows", "causal_keys", "causal_weights"))
        outputs = model(**inputs, output_attentions=True, use_cache=False, num_items_in_batch=num_items_in_batch)
        selection = RowSelection.from_batch(rows, keys, attention_mask=inputs["attention_mask"])
        loss = self.re_attention_loss(outputs.attentions, selection, weights)
        self.last_loss = loss.detach()
        return outputs.loss + self.gamma * loss

    def re_attention_loss(self, maps: tuple[Tensor, ...], selection: RowSelection, weights: Tensor) -> Tensor:
        """From one (B, H, S, S) map a layer."""
        mean = sum(attention.float().mean(1, keepdim=True) for attention in maps) / len(maps)  # (B, 1, S, S)
        index = selection.query_rows[:, None, :, None].expand(-1, 1, -1, mean.shape[3])
        mass = row_mass(mean.gather(2, index), selection)
        sums = group_sums(MaskGroup((0,), selection, mass), weights, div, ALPHA, join=True)
        return sums.loss / sums.rows


class LoopTrainer(MapsTrainer):
    """The published algorithm: all maps stacked and averaged, then one row after the other."""

    def re_attention_loss(self, maps: tuple[Tensor, ...], selection: RowSelection, weights: Tensor) -> Tensor:
        """From one (B, H, S, S) map a layer."""
        mean = torch.stack(maps).float().mean((0, 2))  # (B, S, S)
        losses = []
        for sequence in range(mean.shape[0]):
            for row, keys in zip(selection.query_rows[sequence].tolist(), selection.causal_keys[sequence], strict=True):
                attention = mean[sequence, row, : row + 1]
                is_causal = torch.zeros_like(attention, dtype=torch.bool)
                is_causal[keys] = True
                a1, a0 = attention[is_causal].mean(), attention[~is_causal].mean()
                if a1 < ALPHA * a0:
                    losses.append(-torch.log1p(a1) / torch.log1p(a0))
        return torch.stack(losses).mean()


class SFTTrainer(Trainer):
    """Plain fine-tuning, on the columns that a model takes."""

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Cross-entropy alone."""
        plain = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
        return super().compute_loss(model, plain, *args, **kwargs)


TRAINERS: dict[str, type[Trainer]] = {"sft": SFTTrainer, "cat": CATTrainer, "maps": MapsTrainer, "loop": LoopTrainer}


class Way:
    """One way to take a training step, on a model that all ways share."""

    def __init__(self, name: str, model: PreTrainedModel, batch: Mapping[str, Tensor], attention: str) -> None:
        self.attention = "eager" if name in ("maps", "loop") else attention
        self.model, self.batch = model, batch
        device = model.device
        tokenizer = tiny.build_tokenizer(["none"])
        settings = CATConfig(
            output_dir="unused",
            gamma_schedule="constant",
            objective="div",
            alpha=ALPHA,
            report_to="none",
            logging_steps=10**6,
            use_cpu=device.type == "cpu",
            bf16=device.type == "cuda",
        )
        self.trainer = TRAINERS[name](model, settings, processing_class=tokenizer)
        self.trainer.state.max_steps = 10**6

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Forward, backward and AdamW."""
        if self.model.config._attn_implementation != self.attention:
            self.model.set_attn_implementation(self.attention)
        batches, items = self.trainer.get_batch_samples(iter([dict(self.batch)]), 1, self.model.device)
        self.trainer.training_step(self.model, batches[0], items)
        optimizer.step()
        optimizer.zero_grad()

    def re_attention_loss(self) -> float:
        """Of the last step."""
        if isinstance(self.trainer, MapsTrainer):
            return float(self.trainer.last_loss)
        return float(self.trainer._meter.read(lambda x: x)["re_attention_loss"])


def seconds(work: Callable[[], None], device: str) -> float:
    """Wall time on a CPU, device events on a GPU."""
    if device == "cpu":
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def measure_times(device: str, attention: str, length: int, with_maps: bool) -> list[dict[str, Any]]:
    """Medians, quartiles and ratios to `sft` of every way at one length: the shorter the step, the more rounds."""
    model = build_model(device, attention)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    few, half = (make_batch(length, rows, model.config.vocab_size, device) for rows in (FEW, length // 2))
    ways = {("sft", FEW): Way("sft", model, few, attention), ("cat", FEW): Way("cat", model, few, attention)}
    ways["cat", length // 2] = Way("cat", model, half, attention)
    if with_maps:
        ways["maps", FEW] = Way("maps", model, few, attention)
        ways["loop", FEW] = Way("loop", model, few, attention)
    if with_maps and length <= LONGEST_DENSE_LOOP:
        ways["loop", length // 2] = Way("loop", model, half, attention)
    for way in ways.values():
        way.step(optimizer)
    losses = [way.re_attention_loss() for (name, rows), way in ways.items() if name != "sft" and rows == FEW]
    if max(losses) - min(losses) > 1e-2 * abs(losses[0]):  # the steps in between move the weights a little
        raise AssertionError(f"the ways do not compute the same loss: {losses}")
    once = seconds(lambda: ways["sft", FEW].step(optimizer), device)
    wanted = min(MOST_ROUNDS, round(SECONDS / once))
    baselines = [key for key in ways if key[0] in ("maps", "loop")]
    others = [key for key in ways if key not in baselines]
    times: dict[tuple[str, int], list[float]] = {key: [] for key in ways}
    rng = random.Random(0)
    for number in range(max(FEWEST_ROUNDS, wanted)):
        # What is compared most closely stands close together: the speed of a shared machine drifts.
        order = rng.sample(others, len(others))
        if number < max(FEWEST_BASELINE_ROUNDS, wanted):
            order += rng.sample(baselines, len(baselines))
        for key in order:
            times[key].append(seconds(lambda way=ways[key]: way.step(optimizer), device))
    base = times["sft", FEW]
    return [
        {
            "way": name,
            "length": length,
            "rows": None if name == "sft" else rows,
            "rounds": len(found),
            "seconds": statistics.median(found),
            "seconds_quartiles": statistics.quantiles(found, n=4)[::2],
            "ratio_to_sft": statistics.median(ratios),
            "ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
        }
        for (name, rows), found in times.items()
        for ratios in [[a / b for a, b in zip(found, base, strict=False)]]
    ]


def in_a_process(*measured: Any) -> int:
    """`measure_memory` in a fresh process, forked from one that has imported everything and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "cattune.training.trainer", "cattune.models.tiny"])
    with context.Pool(1, maxtasksperchild=1) as pool:
        return pool.apply(measure_memory, measured)


def measure_memory(device: str, attention: str, way: str, length: int, rows: int) -> int:
    """Peak bytes of two steps. Call it in a process of its own."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**17)
    before = resident("VmRSS") if device == "cpu" else 0
    model = build_model(device, attention)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    steps = Way(way, model, make_batch(length, rows, model.config.vocab_size, device), attention)
    for _ in range(2):
        steps.step(optimizer)
    return resident("VmHWM") - before if device == "cpu" else torch.cuda.max_memory_allocated()


def resident(field: str) -> int:
    """Bytes of this process's memory, by the kernel's name for them."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


def measure_rows(device: str, rows: int, length: int) -> dict[str, Any]:
    """The captured rows alone, forward and backward, for all layers of the model: what `cat` adds to `sft`."""
    shape = CONFIGS[device]
    size = shape["hidden_size"] // shape["num_attention_heads"]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32

    def tensor(heads: int) -> Tensor:
        return torch.randn(1, length, heads, size, device=device, dtype=dtype).transpose(1, 2).requires_grad_()

    layers = [
        LayerInput(tensor(shape["num_attention_heads"]), tensor(shape["num_key_value_heads"]), size**-0.5)
        for _ in range(shape["num_hidden_layers"])
    ]
    batch = make_batch(length, rows, 100, device)
    selection = RowSelection.from_batch(
        batch["query_rows"], batch["causal_keys"], attention_mask=batch["attention_mask"]
    )

    def work() -> None:
        mass: RowMass = attend_rows(layers, selection, average_heads=True)
        mass.causal.log().sum().backward()

    work()
    found = [seconds(work, device) for _ in range(ROUNDS_ALONE)]
    return {"rows": rows, "keys": length, "seconds": statistics.median(found), "rounds": ROUNDS_ALONE}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=tuple(CONFIGS), default="cpu")
    parser.add_argument("--attention", default="sdpa", help="the fused backend")
    parser.add_argument("--lengths", type=int, nargs="+")
    return parser.parse_args()


def main() -> None:
    """Measures part by part and writes after each; parts that the output holds are not measured again."""
    args = parse()
    lengths = args.lengths or LENGTHS[args.device]
    found: dict[str, Any] = {"times": [], "memory": [], "rows_alone": []}
    if args.out.exists():
        found = json.loads(args.out.read_text())
    else:
        found["provenance"] = provenance(
            model=CONFIGS[args.device],
            attention=args.attention,
            device=torch.cuda.get_device_name() if args.device == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            causes=CAUSES,
            objective="div",
        )
    largest = LARGEST_MAPS[args.device]
    for length in lengths:
        if any(entry["length"] == length for entry in found["times"]):
            continue
        found["times"] += measure_times(args.device, args.attention, length, length <= largest)
        for way, rows in (("sft", FEW), ("cat", FEW), ("cat", length // 2), ("maps", FEW)):
            if length <= largest or way != "maps":
                peak = in_a_process(args.device, args.attention, way, length, rows)
                entry = {"way": way, "length": length, "rows": None if way == "sft" else rows, "bytes": peak}
                found["memory"].append(entry)
        write_json(args.out, found)
        print_length(found, length)
    if not found["rows_alone"]:
        for length, rows in [(2048, 2**n) for n in range(3, 11)] + [(2**n, 64) for n in range(8, 14)]:
            found["rows_alone"].append(measure_rows(args.device, rows, length))
        write_json(args.out, found)


def print_length(found: dict[str, Any], length: int) -> None:
    memory = {(x["way"], x["rows"]): x["bytes"] for x in found["memory"] if x["length"] == length}
    for entry in (x for x in found["times"] if x["length"] == length):
        peak = memory.get((entry["way"], entry["rows"]))
        note = "" if peak is None else f"{peak / 2**20:10.0f} MiB  x {peak / memory['sft', None]:.3f}"
        name = f"{entry['way']} {entry['rows'] or ''}"
        print(f"{length:6d} {name:12s} {entry['seconds']:8.3f} s  x {entry['ratio_to_sft']:.3f} {note}", flush=True)


if __name__ == "__main__":
    main()
