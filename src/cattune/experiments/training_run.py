"""Training in a run's folder: what happens to the folder, and what is said when training is cut off."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback

from cattune.errors import CattuneError, ConfigError, RunError
from cattune.experiments import run_folder
from cattune.experiments.checkpoint_fit import check_fits
from cattune.experiments.checkpoints import read_checkpoint
from cattune.experiments.refusals import refusal
from cattune.experiments.start import Start, how_to_go_on
from cattune.experiments.write_failures import write_failure
from cattune.training.config import CATConfig
from cattune.training.trainer import CATTrainer

T = TypeVar("T")
_NEEDS = 4
"""A checkpoint has the weights and two moments of Adam, and the disk is not used to its last byte."""

logger = logging.getLogger(__name__)


def decided_by_main(args: CATConfig, decide: Callable[[], T]) -> T:
    """What the main process decides, in every process; an error of it is raised in all of them."""
    if args.world_size == 1:
        return decide()
    answer: list[Any] = [None]
    if args.process_index == 0:
        try:
            answer = [decide()]
        except CattuneError as error:
            answer = [error]
    broadcast_object_list(answer, from_process=0)
    if isinstance(answer[0], CattuneError):
        raise answer[0]
    decided: T = answer[0]
    return decided


class TrainingRun:
    """A trainer, the folder it writes to, and how it starts there.

    The folder stays as it is until the first step has been computed: a fault that shows before costs nothing.
    """

    def __init__(
        self, trainer: CATTrainer, folder: Path, start: Start, identity: Mapping[str, Any], command: str
    ) -> None:
        """`command` says in words what the user runs to go on after an interruption."""
        self._trainer, self._folder, self._start, self._identity = trainer, folder, start, identity
        self._command = command
        self._has_folder = False
        self._stopped_by: int | None = None
        self._hooks = _Hooks(self)
        trainer.callback_handler.callbacks.insert(0, self._hooks)  # before those that write

    @property
    def _is_main(self) -> bool:
        return self._trainer.args.process_index == 0

    def train(self) -> None:
        """Train, from the start's checkpoint if there is one.

        Raises:
            ConfigError: the settings or the checkpoint are refused, or there is nothing left to do.
            RunError: a file could not be written.
        """
        checkpoint = self._start.checkpoint
        if checkpoint is not None:
            check_fits(checkpoint.path, self._trainer.model)
        self._trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
        if self._stopped_by is not None:
            raise SystemExit(128 + self._stopped_by)  # transformers has written a checkpoint and stopped of itself
        self.take_folder()

    def save_model(self) -> None:
        """Save the model beside the folder's own files first, so that a half one is never in its place."""
        self._trainer.accelerator.wait_for_everyone()
        if self._is_main:
            run_folder.new_model_folder(self._folder)
        self._trainer.accelerator.wait_for_everyone()
        self._trainer.save_model(str(self._folder / run_folder.SAVING), _internal_call=True)
        self._trainer.accelerator.wait_for_everyone()
        if self._is_main:
            old = () if self._start.clears else self._start.found.model_files
            run_folder.place_model(self._folder, self._identity, old)
        if self._trainer.args.push_to_hub:
            self._trainer.push_to_hub(commit_message="Model save")

    def begin(self, max_steps: int, step: int) -> None:
        """Called when everything is loaded: see that there are steps left, and say where the run goes on."""
        checkpoint = self._start.checkpoint
        if checkpoint is None:
            return
        if step > max_steps or (step == max_steps and self._start.found.finished):
            raise ConfigError(
                f"there is nothing left to do: {checkpoint.path} has done {step} steps, and these settings ask for "
                f"{max_steps}; give a larger max_steps or num_train_epochs, or --overwrite to start anew"
            )
        if self._is_main:
            left = max_steps - step
            logger.warning(
                "resuming from %s: %d of %d steps are done, %d %s left",
                checkpoint.path, step, max_steps, left, "is" if left == 1 else "are",
            )  # fmt: skip

    def take_folder(self) -> None:
        """Make the folder this run's: what an earlier one wrote goes, and `run.json` says whose it is."""
        if self._has_folder:
            return
        self._has_folder = True
        if self._is_main:
            start = self._start
            if start.clears:
                run_folder.clear(self._folder, start.found)
            elif start.checkpoint is not None and start.checkpoint.path.resolve().parent == self._folder.resolve():
                run_folder.unfinish(self._folder)
                for name in run_folder.put_aside(self._folder, start.checkpoint.step):
                    logger.warning("a checkpoint of a later step is now %s", self._folder / name)
            run_folder.write_run(self._folder, self._identity, () if start.clears else start.found.model_files)
        self._trainer.accelerator.wait_for_everyone()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say how to go on where the work inside is cut off by the user, the system or a disk.

        Raises:
            RunError: a file could not be written.
            ConfigError: the settings or the checkpoint were refused before the first step.
        """
        try:
            with self._terminated_in_order():
                yield
        except (KeyboardInterrupt, SystemExit):
            self._discard_half()
            if self._is_main:
                logger.warning("stopped: %s", self._how_to_go_on())
            raise
        except Exception as error:
            reason = write_failure(error, self._folder, self._size())
            if reason is not None:
                self._discard_half()
                raise RunError(
                    f"{reason}: {self._folder} cannot be written to; see to that first; then: {self._how_to_go_on()}"
                ) from error
            words = refusal(error, self._hooks.begun)
            if words is None:
                raise
            checkpoint = self._start.checkpoint
            what = "the settings are refused" if checkpoint is None else f"{checkpoint.path} does not fit the settings"
            raise ConfigError(f"{what}: {words}") from error

    def _how_to_go_on(self) -> str:
        args = self._trainer.args
        if not self._has_folder:
            return f"it had not done its first step, and {self._folder} is as it was; run the command again"
        return how_to_go_on(self._folder, self._command, writes_checkpoints(args), args.world_size)

    def _discard_half(self) -> None:
        """Remove what was being written: a half checkpoint of this process, a half model."""
        if not (self._is_main and self._has_folder):
            return
        path = self._folder / f"checkpoint-{self._trainer.state.global_step}"
        if path.is_dir() and read_checkpoint(path, self._trainer.args.world_size).fault is not None:
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self._folder / run_folder.SAVING, ignore_errors=True)

    def _size(self) -> int:
        return _NEEDS * sum(weight.numel() * weight.element_size() for weight in self._trainer.model.parameters())

    @contextmanager
    def _terminated_in_order(self) -> Iterator[None]:
        """SIGTERM ends the work as Ctrl-C does, with status 143; with enable_jit_checkpoint after a last checkpoint."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may set handlers
            return
        before = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: FrameType | None) -> None:
            if callable(before):
                self._stopped_by = number
                before(number, frame)
            else:
                raise SystemExit(128 + number)

        if before == signal.SIG_IGN:
            yield
            return
        signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def writes_checkpoints(args: CATConfig) -> bool:
    """Whether the settings write any."""
    return args.save_strategy != "no" or args.enable_jit_checkpoint


class _Hooks(TrainerCallback):
    """Calls a `TrainingRun` when the Trainer has loaded everything, and in each step."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run
        self.begun = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._run.begin(state.max_steps, state.global_step)
        best = Path(args.output_dir) / f"checkpoint-{state.best_global_step}"
        if state.best_global_step and best.is_dir():
            state.best_model_checkpoint = str(best)  # recorded as seen from the working folder of then
        elif args.load_best_model_at_end and state.best_global_step and not state.best_model_checkpoint:
            logger.warning("%s, the best checkpoint so far, is gone; the best of the rest will be taken", best)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self.begun = True

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called by the Trainer."""
        self._run.take_folder()
