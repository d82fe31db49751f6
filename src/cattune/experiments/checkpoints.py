"""Checkpoints of a run: which are whole, and what is wrong with the others.

transformers writes a checkpoint straight into its folder, `trainer_state.json` last, so that a process that is killed
leaves a half one behind. Whole is one from which training goes on exactly: everything is there, and every file can be
read to its end. A damaged weight inside a safetensors file of the right size is not seen: the format has no checksums.
"""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"
_IN_PROGRESS = "checkpoint-is-incomplete.txt"  # there while transformers writes a checkpoint on SIGTERM
_WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin", "adapter_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_CUT_OFF = "it was cut off while it was written"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint.

    Args:
        path: its folder.
        step: optimizer steps that had been done; what the folder's name says where its state cannot be read.
        max_steps: of how many; 0 where its state cannot be read.
        fault: why training cannot go on from it, or None for a whole one.
    """

    path: Path
    step: int
    max_steps: int
    fault: str | None


def checkpoint_folders(folder: Path) -> list[Path]:
    """The folders `checkpoint-N` of a run, the first step first; half ones too."""
    found = {path: _NAME.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ())}
    steps = {path: int(match[1]) for path, match in found.items() if match and path.is_dir()}
    return sorted(steps, key=lambda path: steps[path])


def last_whole(folder: Path, processes: int = 1) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """The last whole checkpoint of a run, if any, and the faulty ones after it."""
    faulty: list[Checkpoint] = []
    for path in reversed(checkpoint_folders(folder)):
        checkpoint = read_checkpoint(path, processes)
        if checkpoint.fault is None:
            return checkpoint, faulty
        faulty.append(checkpoint)
    return None, faulty


def read_checkpoint(path: Path, processes: int = 1) -> Checkpoint:
    """Look at a checkpoint, reading every file of it but the weights.

    Args:
        path: its folder.
        processes: how many train; each has a random state of its own.
    """
    named = _NAME.fullmatch(path.name)
    step, max_steps = int(named[1]) if named else 0, 0
    try:
        fault = _unfinished(path)
        if fault is None:
            state = json.loads((path / _STATE).read_text(encoding="utf-8"))
            step, max_steps = int(state["global_step"]), int(state["max_steps"])
            fault = _incomplete(path, processes) or _damaged(path)
    except (KeyError, TypeError, ValueError, RecursionError):
        fault = f"{_STATE} is damaged"
    except OSError as error:
        fault = f"it cannot be read: {error.strerror}"
    return Checkpoint(path, step, max_steps, fault)


def weight_files(path: Path) -> list[Path]:
    """The files with a checkpoint's or a model's weights, each shard by itself.

    Raises:
        ValueError: an index of shards is damaged.
    """
    files = [path / name for name in _WEIGHTS if (path / name).is_file()]
    for index in (path / name for name in _INDEXES if (path / name).is_file()):
        shards: Any = json.loads(index.read_text(encoding="utf-8"))
        if not isinstance(shards, dict) or not isinstance(shards.get("weight_map"), dict):
            raise ValueError("no weight_map")
        files += [path / str(name) for name in sorted(set(shards["weight_map"].values()))]
    return files


def _unfinished(path: Path) -> str | None:
    if not path.is_dir():
        return "it is no folder" if path.exists() else "it does not exist"
    if (path / _IN_PROGRESS).exists():
        return _CUT_OFF
    if not (path / _STATE).exists():
        return f"{_STATE} is missing: {_CUT_OFF}" if any(path.iterdir()) else "it is empty"
    return None


def _incomplete(path: Path, processes: int) -> str | None:
    try:
        weights = weight_files(path)
    except ValueError:
        return "the index of its shards is damaged"
    if missing := [file.name for file in weights if not file.is_file()]:
        return f"{missing[0]}, a part of the weights, is missing"
    # FSDP, DeepSpeed and several adapters at once keep folders of their own.
    in_folders = any(entry.is_dir() for entry in path.iterdir())
    if not weights and not in_folders:
        return "it holds no weights"
    if any(file.name.startswith("adapter_model") for file in weights) and not (path / "adapter_config.json").exists():
        return "adapter_config.json is missing"
    if not in_folders and not (path / "optimizer.pt").exists():
        return "it holds weights alone, without the optimizer's state (optimizer.pt), as save_only_model writes them"
    if not in_folders and not (path / "scheduler.pt").exists():
        return "scheduler.pt, the state of the learning rate's schedule, is missing"
    own_states = [path / f"rng_state_{rank}.pth" for rank in range(processes)]
    states = [path / "rng_state.pth"] if processes == 1 else own_states
    missing = [state.name for state in states if not state.exists()]
    return f"{missing[0]}, a state of the random numbers, is missing" if missing else None


def _damaged(path: Path) -> str | None:
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        if not _readable(file):
            return f"{file.relative_to(path)} is damaged or cut off"
    return None


def _readable(file: Path) -> bool:
    """Whether a file is whole, as far as its format tells: a header that fits the size, checksums, closed brackets."""
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="numpy"):
                return True
        if file.suffix in (".pt", ".pth", ".bin"):  # torch writes an archive with a checksum for each of its parts
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
    except (SafetensorError, zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, RecursionError):
        return False
    return True
