"""A run's folder: what of it is ours, whether the run in it is finished, and its clearing for the next one.

`run.json` says which run the folder holds and which of its files are a saved model's; `results.json` is written last,
so that a run without it is not finished.
"""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cattune.data.atomic import blaming
from cattune.data.jsonl import write_json
from cattune.data.locks import FileLock
from cattune.errors import OutputError
from cattune.experiments.checkpoints import checkpoint_folders

RUN, RESULTS, LOG = "run.json", "results.json", "train.log"
_LOCK = ".cattune-train.lock"
_HIDDEN = ".cattune-"  # locks and what a killed process was writing
SAVING = ".cattune-model.tmp"

# What loading a folder may read. A file like that which we did not write may be taken for a part of our model.
_OF_A_MODEL = (
    "*.safetensors", "*.safetensors.index.json", "pytorch_model*", "adapter_model*", "adapter_config.json",
    "config.json", "configuration_*.py", "modeling_*.py", "generation_config.json", "tokenizer*", "tokenization_*.py",
    "special_tokens_map.json", "added_tokens.json", "chat_template*", "additional_chat_templates", "vocab.*",
    "merges.txt", "*.model", "*.gguf", "tf_model*", "flax_model*",
)  # fmt: skip
_BESIDE_A_MODEL = ("training_args.bin", "README.md")  # written by transformers and peft with it; not loaded


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Args:
        identity: of the run in it, as `run_identity` gave it; None where there is none, or it is not known.
        model_files: the saved model of that run.
        finished: whether the run was.
        is_run: whether there is one of ours.
        others: names of what we did not write.
    """

    identity: Mapping[str, Any] | None
    model_files: tuple[str, ...]
    finished: bool
    is_run: bool
    others: tuple[str, ...]

    @property
    def in_the_way(self) -> list[str]:
        """Files of somebody else's that loading the folder would read."""
        return [name for name in self.others if _is_of_a_model(name)]


def look(folder: Path) -> Found:
    """See what a folder holds; it may be missing.

    Raises:
        OutputError: it cannot be read.
    """
    with blaming(folder):
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    run, results = _read(folder / RUN, "cattune_run"), _read(folder / RESULTS, "provenance")
    model_files = [name for name in names if run is not None and name in run.get("model_files", ())]
    if run is None and results is not None:  # of a release that wrote no run.json
        model_files = [name for name in names if _is_of_a_model(name) or name in _BESIDE_A_MODEL]
    is_run = run is not None or results is not None
    ours = set(model_files)
    if is_run:
        ours |= {RUN, RESULTS, LOG, *(path.name for path in checkpoint_folders(folder))}
    others = tuple(name for name in names if name not in ours and not name.startswith(_HIDDEN))
    identity = run.get("identity") if run is not None else None
    return Found(identity, tuple(model_files), results is not None, is_run, others)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other runs out of it; folders that stay empty are taken away again.

    Raises:
        OutputError: another run is using it, or it cannot be made or written to.
    """
    with blaming(folder):
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    try:
        busy = f"another run is writing to {folder}; wait for its end, or choose another output_dir"
        with FileLock(folder / _LOCK, busy):
            yield
    finally:
        for path in made:
            if any(path.iterdir()):
                break
            path.rmdir()


def clear(folder: Path, found: Found) -> None:
    """Delete what the earlier run wrote: `results.json` first, so that what is left is no finished run.

    Raises:
        OutputError: something cannot be deleted.
    """
    with blaming(folder):
        _delete(folder, [RESULTS, *found.model_files])
        _delete(folder, [LOG, *(path.name for path in checkpoint_folders(folder))] if found.is_run else [])


def unfinish(folder: Path) -> None:
    """Take the results away from a run that goes on: they are not its last."""
    with blaming(folder):
        _delete(folder, [RESULTS])


def put_aside(folder: Path, after: int) -> list[str]:
    """Rename checkpoints of later steps than `after`: half ones, and those of another course of the run.

    Otherwise a checkpoint that is being written over an old one, and is cut off, would be a mixture that looks whole.

    Returns:
        The new names.
    """
    new_names = []
    with blaming(folder):
        for path in checkpoint_folders(folder):
            if int(path.name.rpartition("-")[2]) <= after:
                continue
            target, count = folder / f"aside-{path.name}", 1
            while target.exists():
                count += 1
                target = folder / f"aside-{path.name}-{count}"
            path.rename(target)
            new_names.append(target.name)
    return new_names


def write_run(folder: Path, identity: Mapping[str, Any], model_files: Sequence[str]) -> None:
    """Say in `run.json` which run the folder holds."""
    write_json(folder / RUN, {"cattune_run": 1, "identity": identity, "model_files": sorted(model_files)})


def new_model_folder(folder: Path) -> Path:
    """Where to save a model before it takes its place: an empty name in the same file system."""
    with blaming(folder):
        _delete(folder, [SAVING])
    return folder / SAVING


def place_model(folder: Path, identity: Mapping[str, Any], old: Sequence[str]) -> None:
    """Move the model that was saved in `new_model_folder` to its place, instead of the files of an old one.

    `config.json` and `adapter_config.json` leave first and come last: without them nothing is taken for a model.
    """
    saved = folder / SAVING
    new = sorted((path.name for path in saved.iterdir()), key=_is_a_config)
    write_run(folder, identity, [*old, *new])
    with blaming(folder):
        _delete(folder, sorted({*old, *new}, key=_is_a_config, reverse=True))
        for name in new:
            (saved / name).rename(folder / name)
        saved.rmdir()
    write_run(folder, identity, new)


def _is_a_config(name: str) -> bool:
    return name in ("config.json", "adapter_config.json")


def _delete(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_of_a_model(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in _OF_A_MODEL)


def _read(path: Path, key: str) -> dict[str, Any] | None:
    """A JSON file of ours, which has that key; None where it is missing or somebody else's."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and key in value else None


def check_nothing_in_the_way(folder: Path, found: Found) -> None:
    """Refuse a folder with files of somebody else's that would be loaded with our model.

    Raises:
        OutputError: there are some; it names them.
    """
    if found.in_the_way:
        raise OutputError(
            f"{folder} holds {', '.join(found.in_the_way[:5])}, which no run of cattune wrote there and which may be "
            "loaded in place of the new model, or with it; move them away, or choose another folder"
        )
