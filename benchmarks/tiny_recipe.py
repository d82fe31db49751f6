"""How the recipe of `tiny` was chosen: validation accuracy of plain fine-tuning and of CAT under the same settings.

    python benchmarks/tiny_recipe.py [--variants recipe "learning rate 5e-4" ...]

Development seeds, and the `validation` split alone: no test split is looked at. The variant "transformers'
initialisation" shows the plateau at the majority class that `tiny`'s own initialisation avoids. About a minute a run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from cattune.data.jsonl import write_json
from cattune.experiments.cell import Cell, run_cell
from cattune.models.tiny import RECIPE
from cattune.provenance import provenance
from cattune.tasks.stg.task import StgTask

SEEDS = (5, 6)
ARMS = ("sft", "cat")
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "learning rate 5e-4": {"learning_rate": 5e-4},
    "learning rate 2e-3": {"learning_rate": 2e-3},
    "weight decay 0.1": {"weight_decay": 0.1},
    "two layers of width 192": {},
    "transformers' initialisation": {},
    "gamma 3": {"gamma": 3.0},
    "gamma 0.3": {"gamma": 0.3},
    "gamma constant": {"gamma_schedule": "constant"},
}


def run(variant: str, arm: str, seed: int) -> dict[str, Any]:
    """One run: its validation accuracy, and its cross-entropy along the way."""
    import torch
    from transformers import LlamaConfig

    from cattune.models import tiny

    torch.set_num_threads(1)
    if variant == "transformers' initialisation":
        tiny._initialise = lambda model: None  # what LlamaForCausalLM drew stays
    if variant == "two layers of width 192":
        shape = {"num_hidden_layers": 2, "hidden_size": 192, "intermediate_size": 512}
        tiny.LlamaConfig = lambda **settings: LlamaConfig(**settings | shape)  # type: ignore[assignment,misc]
    result = run_cell(Cell(arm, seed, StgTask(test=1), VARIANTS[variant]))
    return {
        "variant": variant,
        "arm": arm,
        "seed": seed,
        "validation": result.splits["validation"]["accuracy"],
        "majority": result.splits["validation"]["majority"]["accuracy"],
        "cross_entropy": result.curves["cross_entropy"],
        "seconds": round(result.train_seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tiny_recipe.json")
    parser.add_argument("--variants", nargs="+", choices=tuple(VARIANTS), default=tuple(VARIANTS))
    args = parser.parse_args()
    runs = [
        (variant, arm, seed)
        for variant in args.variants
        for arm in ARMS
        for seed in SEEDS
        if arm == "cat" or not variant.startswith("gamma")
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1) as pool:
        results = []
        for result in pool.map(run, *zip(*runs, strict=True)):
            results.append(result)
            print(
                f"{result['variant']:30} {result['arm']:4} seed {result['seed']} {result['validation']:.3f}", flush=True
            )
    table: dict[str, dict[str, list[float]]] = {}
    for result in results:
        table.setdefault(result["variant"], {}).setdefault(result["arm"], []).append(result["validation"])
    made = provenance(recipe=dict(RECIPE), variants={name: VARIANTS[name] for name in args.variants}, seeds=SEEDS)
    write_json(args.out, {"validation_accuracy": table, "runs": results, "provenance": made})


if __name__ == "__main__":
    main()
