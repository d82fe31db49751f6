"""How a run starts in its folder: anew, from a checkpoint, or not at all. Nothing is changed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cattune.errors import ConfigError, OutputError
from cattune.experiments.checkpoints import Checkpoint, checkpoint_folders, last_whole, read_checkpoint
from cattune.experiments.run_folder import RESULTS, Found, check_nothing_in_the_way, look
from cattune.experiments.run_identity import differences

ANEW = "--overwrite starts anew"


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with.

    Args:
        found: what its folder holds.
        checkpoint: where it goes on from; None to begin with the model as it is.
        clears: whether what an earlier run wrote goes.
        notes: what the user should know before it begins.
    """

    found: Found
    checkpoint: Checkpoint | None = None
    clears: bool = False
    notes: list[str] = field(default_factory=list)


def plan_start(
    folder: Path,
    identity: Mapping[str, Any],
    resume: bool | str | None,
    overwrite: bool,
    saves: bool,
    processes: int = 1,
    rotates: bool = False,
) -> Start:
    """Decide how a run starts.

    Args:
        folder: the run's; it may be missing.
        identity: the run's, see `run_identity`.
        resume: the setting `resume_from_checkpoint`; None where it was not given.
        overwrite: whether what an earlier run wrote may go.
        saves: whether the settings write checkpoints.
        processes: how many train.
        rotates: whether old checkpoints are deleted as new ones are written (`save_total_limit`).

    Raises:
        OutputError: the folder holds something that must not be lost, or nothing to resume.
        ConfigError: the checkpoint that was named cannot be resumed from, or the settings contradict each other.
    """
    found = look(folder)
    if rotates and (strange := _taken_for_checkpoints(folder, found)):
        raise OutputError(
            f"{folder} holds {_list(strange)}, which save_total_limit would count as checkpoints and delete; rename "
            "them, or leave save_total_limit out"
        )
    if isinstance(resume, str):
        return _from_named(folder, found, Path(resume), overwrite, processes)
    if resume and overwrite:
        raise ConfigError(f"resume_from_checkpoint goes on with the run in {folder}, and {ANEW}; give one of them")
    if resume:
        check_nothing_in_the_way(folder, found)
        return _from_last(folder, found, saves, processes)
    if overwrite:
        check_nothing_in_the_way(folder, found)
        stay = [f"{folder}: {_list(found.others)} from elsewhere stay there"] if found.others else []
        return Start(found, clears=True, notes=stay)
    if not found.is_run:
        if found.others:
            hint = ""
            if checkpoint_folders(folder):
                hint = "; to go on from the checkpoints in it, pass --resume_from_checkpoint true"
            raise OutputError(f"{folder} already holds files; pass --overwrite, or choose another folder{hint}")
        return Start(found)
    if found.finished:
        raise OutputError(
            f"{folder} already holds a finished run ({RESULTS}); {ANEW}; to train on, give a larger max_steps or "
            "num_train_epochs and --resume_from_checkpoint true; or choose another output_dir"
        )
    if resume is False:
        raise OutputError(
            f"{folder} already holds a run that was interrupted, and resume_from_checkpoint is false; {ANEW}"
        )
    check_nothing_in_the_way(folder, found)
    _check_same_run(folder, found, identity)
    return _from_last(folder, found, saves, processes)


def how_to_go_on(folder: Path, command: str, saves: bool, processes: int = 1) -> str:
    """What to do after an interruption, in words.

    Args:
        command: what to run, in words.
        saves: whether the settings write checkpoints.
    """
    if not look(folder).is_run:
        return f"it had not done its first step and has changed nothing in {folder}; the same command starts it again"
    checkpoint, faulty = last_whole(folder, processes)
    if checkpoint is not None:
        return f"{command} goes on from {checkpoint.path} (step {checkpoint.step} of {checkpoint.max_steps})"
    return f"{_nothing_to_resume(folder, faulty, saves)}; {ANEW}"


def describe_faults(faulty: Sequence[Checkpoint]) -> list[str]:
    """One sentence for each checkpoint that training cannot go on from."""
    return [f"{checkpoint.path} cannot be resumed from and is left aside: {checkpoint.fault}" for checkpoint in faulty]


def _from_last(folder: Path, found: Found, saves: bool, processes: int) -> Start:
    checkpoint, faulty = last_whole(folder, processes)
    if checkpoint is None:
        raise OutputError(f"{_nothing_to_resume(folder, faulty, saves)}; {ANEW}")
    return Start(found, checkpoint, notes=describe_faults(faulty))


def _from_named(folder: Path, found: Found, path: Path, overwrite: bool, processes: int) -> Start:
    checkpoint = read_checkpoint(path, processes)
    if checkpoint.fault is not None:
        around = path if checkpoint_folders(path) else path.parent
        whole, _ = last_whole(around, processes)
        advice = f"the last whole one there is {whole.path}" if whole else f"{around} holds no whole one"
        raise ConfigError(
            f"resume_from_checkpoint is {path}, which cannot be resumed from: {checkpoint.fault}; {advice}"
        )
    inside = path.resolve().parent == folder.resolve()
    if inside and overwrite:
        raise ConfigError(f"resume_from_checkpoint goes on with the run in {folder}, and {ANEW}; give one of them")
    if not inside and not overwrite and (found.is_run or found.others):
        raise OutputError(
            f"{folder} already holds files, and resume_from_checkpoint is another run's; pass --overwrite, or choose "
            "another output_dir"
        )
    check_nothing_in_the_way(folder, found)
    return Start(found, checkpoint, clears=overwrite)


def _check_same_run(folder: Path, found: Found, identity: Mapping[str, Any]) -> None:
    if found.identity is None:
        raise OutputError(
            f"{folder} holds a run that was interrupted, and no record of its settings; to go on with these, "
            f"pass --resume_from_checkpoint true; {ANEW}"
        )
    changed = differences(found.identity, identity)
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise OutputError(
            f"{folder} holds a run that was interrupted, and this is not the same one: {', '.join(changed[:5])}{more}; "
            f"the command it was started with goes on; {_with_these_settings(folder, identity)}; {ANEW}"
        )


def _with_these_settings(folder: Path, identity: Mapping[str, Any]) -> str:
    """Whether a run with other settings could take over, in words."""
    max_steps = identity.get("settings", {}).get("max_steps", 0)
    checkpoint, _ = last_whole(folder)
    if checkpoint is not None and 0 < max_steps < checkpoint.step:
        return f"with these settings nothing is left to do, as {checkpoint.path} has done {checkpoint.step} steps"
    return "these settings take over from its last checkpoint with --resume_from_checkpoint true"


def _nothing_to_resume(folder: Path, faulty: Sequence[Checkpoint], saves: bool) -> str:
    if faulty:
        last, more = faulty[0], f", and {len(faulty) - 1} before it" if len(faulty) > 1 else ""
        words = f"{last.path.name}: {last.fault}{more}"
        return f"{folder} holds no whole checkpoint, so there is nothing to resume ({words})"
    if not saves:
        return (
            f"{folder} holds no checkpoint, because save_strategy is no, so there is nothing to resume; "
            "save_strategy: steps with save_steps: N would write one every N steps"
        )
    return f"{folder} holds no checkpoint yet, so there is nothing to resume"


def _taken_for_checkpoints(folder: Path, found: Found) -> list[str]:
    """Folders that transformers deletes with old checkpoints: it goes by the beginning of the name alone."""
    ours = {path.name for path in checkpoint_folders(folder)}
    return [
        name
        for name in found.others
        if name.startswith("checkpoint-") and name not in ours and (folder / name).is_dir()
    ]


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
