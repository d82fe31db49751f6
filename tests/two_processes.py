"""Runs of one and of two processes on the same global batches; as a program, one of the two processes.

`python two_processes.py FOLDER KIND`, with RANK and WORLD_SIZE set, makes every run of a kind ("plain", "deepspeed") in
turn and saves what the first process saw as FOLDER/NAME.pt. The test process makes the same runs by itself, with the
same functions.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from training import make_examples, make_model, make_tokenizer, settings
from transformers import GptOssConfig, GptOssForCausalLM, PreTrainedModel

from cattune.attention import RowSelection
from cattune.data.examples import Example
from cattune.supervision.collator import CausalCollator
from cattune.supervision.rows import encode_examples
from cattune.training.penalties.re_attention import ReAttention
from cattune.training.trainer import CATTrainer

STEPS, STEP_SIZE = 4, 8
UNLINKED = {*range(2, 14), 20, 25, 26}
"""Without these links the second process has no supervised row in the first step, nor the first one in the second."""


def train_examples() -> list[Example]:
    """In the order in which they are trained on."""
    examples = make_examples(STEPS * STEP_SIZE, seed=1, linked=1.0)
    return [dataclasses.replace(x, links=()) if i in UNLINKED else x for i, x in enumerate(examples)]


def eval_examples() -> list[Example]:
    """Two processes with batches of two cannot share seven without giving one of them twice."""
    return make_examples(7, seed=2)


class CountingTrainer(CATTrainer):
    """Keeps, for each step, what each process is given: a list of (supervised rows, completion tokens)."""

    def get_batch_samples(self, *args: Any) -> Any:
        batches, num_items = super().get_batch_samples(*args)
        rows = sum((batch["query_rows"] >= 0).sum() for batch in batches)
        tokens = sum((batch["labels"] != -100).sum() for batch in batches)
        self.shares = [
            *getattr(self, "shares", []),
            self.accelerator.gather(torch.stack([rows, tokens])[None]).tolist(),
        ]
        return batches, num_items


def trainer_run(output: Path, micro_batch: int, accumulation: int = 1, **changes: Any) -> dict[str, Any]:
    """Trains and evaluates: steps of `STEP_SIZE` examples, `micro_batch` of them in each of two processes at a time."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    size = micro_batch * 2 // world
    assert size * accumulation * world == STEP_SIZE
    tokenizer = make_tokenizer()
    args = settings(
        output,
        max_steps=STEPS,
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        per_device_eval_batch_size=2,
        train_sampling_strategy="sequential",
        **changes,
    )
    trainer = CountingTrainer(
        make_model(tokenizer),
        args,
        train_dataset=train_examples(),
        eval_dataset=eval_examples(),
        processing_class=tokenizer,
    )
    trainer.train()
    with whole_parameters(trainer):
        weights = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {"weights": weights, "history": history, "shares": trainer.shares, "metrics": trainer.evaluate()}


def whole_parameters(trainer: CATTrainer) -> AbstractContextManager[Any]:
    """DeepSpeed keeps parts of them in each process."""
    if not trainer.is_deepspeed_enabled:
        return nullcontext()
    import deepspeed

    parameters = list(trainer.model.parameters())
    if trainer.args.deepspeed["zero_optimization"]["stage"] == 3:
        assert not any(parameter.numel() for parameter in parameters), "these were not partitioned"
    return deepspeed.zero.GatheredParameters(parameters)


def llama(layers: int = 2) -> PreTrainedModel:
    return make_model(make_tokenizer(), layers=layers)


def gpt_oss() -> PreTrainedModel:
    """Attention sinks, which are parameters that the captured softmax reads, and layers of two kinds."""
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=len(make_tokenizer()),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        num_local_experts=2,
        num_experts_per_tok=2,
        initializer_range=0.2,
        attn_implementation="eager",
    )
    return GptOssForCausalLM(config)


def sharded_run(
    build: Callable[[], PreTrainedModel], checkpointing: bool = False, attention: bool = False
) -> dict[str, Any]:
    """A plain training loop; two processes shard the model (`attention`: its attention modules one by one too)."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model = build()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if world > 1:
        mesh = init_device_mesh("cpu", (world,))
        for layer in model.model.layers:
            if attention:
                fully_shard(layer.self_attn, mesh=mesh)
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    model.train()
    re_attention = ReAttention(model)
    features = encode_examples(train_examples(), make_tokenizer())[0]
    size = STEP_SIZE // world
    losses = []
    for start in range(0, len(features), STEP_SIZE):
        mine = features[start + rank * size : start + (rank + 1) * size]
        losses.append(_step(model, re_attention, CausalCollator(0)(mine), world, checkpointing))
    weights = {name: value.full_tensor() if world > 1 else value for name, value in model.state_dict().items()}
    return {"weights": weights, "losses": losses}


def _step(
    model: nn.Module, re_attention: ReAttention, batch: dict[str, Tensor], world: int, at_once: bool
) -> tuple[float, float]:
    """One step of gradient descent: the cross-entropy and the Re-Attention loss of the global batch."""
    supervision = {name: batch.pop(name) for name in ("query_rows", "causal_keys", "causal_weights")}
    selection = RowSelection.from_batch(
        supervision["query_rows"], supervision["causal_keys"], attention_mask=batch["attention_mask"]
    )
    rows, tokens = re_attention.count_rows(selection), (batch["labels"][:, 1:] != -100).sum()
    _sum_over_processes(rows, tokens)
    capture = re_attention.start(selection, grad=True, at_once=at_once)
    with capture.observe(model):
        outputs = model(**batch, use_cache=False, num_items_in_batch=tokens)
        row_loss = re_attention.sums(capture, supervision["causal_weights"]).loss / rows
        ((outputs.loss + row_loss) * world).backward()  # gradients are averaged over processes
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.05 * parameter.grad
    model.zero_grad()
    losses = torch.stack([outputs.loss.detach(), row_loss.detach()])
    _sum_over_processes(losses)
    return losses[0].item(), losses[1].item()


def _sum_over_processes(*tensors: Tensor) -> None:
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)


TRAINER_RUNS: dict[str, dict[str, Any]] = {
    "plain": {"micro_batch": 4},
    "accumulation": {"micro_batch": 2, "accumulation": 2},
    "padding-free, checkpointed": {"micro_batch": 4, "padding_free": True, "gradient_checkpointing": True},
}
SHARDED_RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    "sharded": partial(sharded_run, llama),
    "sharded and checkpointed": partial(sharded_run, llama, checkpointing=True),
    "sharded attention": partial(sharded_run, llama, attention=True),
    "sharded sinks": partial(sharded_run, gpt_oss),
}


DEEPSPEED_RUNS: dict[str, dict[str, Any]] = {
    f"ZeRO {stage}": {
        "micro_batch": 2,
        "accumulation": 2,
        "deepspeed": {
            "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
            "train_batch_size": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": 0.0,  # as in `settings`; it is 1 otherwise
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
        },
    }
    for stage in (2, 3)
}


def main(folder: Path, kind: str) -> None:
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, timeout=timedelta(seconds=60), rank=rank, world_size=world)
    runs = dict(SHARDED_RUNS) if kind == "plain" else {}
    with tempfile.TemporaryDirectory() as output:
        for name, changes in (TRAINER_RUNS if kind == "plain" else DEEPSPEED_RUNS).items():
            runs[name] = partial(trainer_run, Path(output), **changes)
        for name, run in runs.items():
            result = run()
            if rank == 0:
                torch.save(result, folder / f"{name}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a process that waits for the other would not end otherwise
