"""What makes two runs the same: the settings and data on which the trained weights depend."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cattune.data.lines import readable
from cattune.wording import shown

if TYPE_CHECKING:
    from cattune.experiments.job import TrainJob
    from cattune.training.config import CATConfig

# Settings that change what is printed, kept or measured, and how fast, but not the weights.
_WITHOUT_EFFECT = (
    "ddp_timeout", "disable_tqdm", "do_", "dataloader_num_workers", "dataloader_persistent_workers",
    "dataloader_pin_memory", "dataloader_prefetch_factor", "dataset_num_proc", "enable_jit_checkpoint",
    "eval_accumulation_steps", "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_steps", "eval_strategy",
    "hub_", "log_", "logging_", "output_dir", "per_device_eval_batch_size", "project", "push_to_hub", "report_to",
    "resume_from_checkpoint", "run_name", "save_", "self_check", "skip_memory_metrics", "strict", "trackio_",
)  # fmt: skip
_WHOLE_BELOW = 64 << 20
_ENDS = 1 << 20


def run_identity(job: TrainJob, args: CATConfig) -> dict[str, Any]:
    """A run's settings and the fingerprints of its files, as JSON holds them; paths are not part of it.

    Raises:
        DataError: the training file cannot be read.
    """
    settings = {name: value for name, value in args.to_dict().items() if not name.startswith(_WITHOUT_EFFECT)}
    with readable(job.train_file):
        train_file = fingerprint(Path(job.train_file))
    model = os.path.expanduser(job.model)
    identity = {
        "model": fingerprint(Path(model)) if os.path.isdir(model) else job.model,
        "train_file": train_file,
        "occurrences": job.occurrences,
        "attn_implementation": job.attn_implementation,
        "dtype": job.dtype,
        "peft": None if job.peft is None else dict(job.peft),
        "early_stopping": [job.early_stopping_patience, job.early_stopping_threshold],
        "processes": args.world_size,
        "settings": settings,
    }
    # A limit may be infinite, for which JSON has no word.
    found: dict[str, Any] = json.loads(json.dumps(identity, default=str), parse_constant=str)
    return found


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What sets two identities apart, in words, one entry a setting."""
    flat_then, flat_now = dict(_flat(then)), dict(_flat(now))
    words = []
    for name in sorted(flat_then.keys() | flat_now.keys()):
        old, new = flat_then.get(name), flat_now.get(name)
        if old == new:
            continue
        if name in ("train_file", "model") and _is_hash(old) and _is_hash(new):
            words.append(f"{name} has other contents")
        else:
            old, new = ("a folder" if _is_hash(value) else shown(value) for value in (old, new))
            words.append(f"{name} was {old}, is {new}")
    return words


def fingerprint(path: Path) -> str:
    """A hash of a file's contents, or of all files directly in a folder; of large weights, size and both ends."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        total.update(f"{file.name if path.is_dir() else ''} {size}\n".encode(errors="surrogateescape"))
        with file.open("rb") as source:
            if size <= _WHOLE_BELOW or not path.is_dir():
                while block := source.read(_ENDS):
                    total.update(block)
            else:
                total.update(source.read(_ENDS))
                source.seek(-_ENDS, 2)
                total.update(source.read(_ENDS))
    return f"sha256:{total.hexdigest()}"


def _flat(identity: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in identity.items():
        if name == "settings" and isinstance(value, Mapping):
            yield from value.items()
        else:
            yield name, value


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and value.startswith("sha256:")
