"""Trains, saves and evaluates what a `TrainJob` describes. It is what `cattune train` runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cattune.data.jsonl import write_json
from cattune.errors import CattuneError, ConfigError
from cattune.experiments.job import TrainJob
from cattune.experiments.run_folder import RESULTS, claimed
from cattune.experiments.run_identity import run_identity
from cattune.experiments.run_lines import Line
from cattune.experiments.start import Start, plan_start
from cattune.provenance import provenance

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from cattune.data.examples import Example
    from cattune.training.config import CATConfig
    from cattune.training.trainer import CATTrainer

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]


def run_job(
    job: TrainJob, report: Report = lambda what, done, total: None, say: Callable[[Line], None] = lambda line: None
) -> dict[str, Any]:
    """Trains, saves, evaluates; returns what it wrote to `results.json`.

    Args:
        job: what to do.
        report: is told (what is going on, steps, batches or examples done, how many in all).
        say: is told each line about the run; all of them are in `train.log` too.

    Raises:
        CattuneError: the job cannot be done as it is described.
    """
    from cattune.experiments.following import Follower
    from cattune.experiments.training import early_stopping, evaluates, load_or_build, make_trainer, peft_config
    from cattune.experiments.training_run import TrainingRun, decided_by_main
    from cattune.formats.loading import load_examples
    from cattune.models.adapters import with_base

    folder = Path(job.output_dir)
    args = _config(job)
    stopping = early_stopping(job.early_stopping_patience, job.early_stopping_threshold)
    adapter = None if job.peft is None else peft_config(job.peft)
    with ExitStack() as scope:
        start, identity = decided_by_main(args, lambda: _claim(job, args, scope))
        train = load_examples(job.train_file, job.occurrences)
        splits = {name: load_examples(path, job.occurrences) for name, path in job.eval_files.items()}
        model, tokenizer = load_or_build(
            job.model, train, args.seed, job.attn_implementation, job.dtype, job.trust_remote_code, adapter is not None
        )
        trainer = make_trainer(
            model,
            tokenizer,
            train,
            args,
            report,
            eval_dataset=splits if evaluates(args) else None,
            callbacks=stopping,
            **({"peft_config": adapter} if adapter else {}),
        )
        _check_splits(trainer, tokenizer, splits)
        for note in start.notes if args.process_index == 0 else ():
            logger.warning("%s", note)
        run = TrainingRun(trainer, folder, start, identity, _command_to_go_on(job))
        own_logging = not {"logging_steps", "logging_strategy"}.isdisjoint(job.settings)
        follower = Follower(trainer, folder, say, own_logging)
        with run.explained():
            started = time.perf_counter()
            run.train()
            seconds = time.perf_counter() - started
            if adapter is not None:
                trainer.model = with_base(trainer.model)
            run.save_model()
            training = _training_record(trainer, len(train), seconds)
            follower.say_ending(folder, seconds, training["best"])
            results = _scores(trainer, tokenizer, splits, report)
            record = {"splits": results, "training": training, "provenance": _provenance(job, args)}
            if args.process_index == 0:
                write_json(folder / RESULTS, record)
                follower.say(Line.of(f"results: {folder / RESULTS}"))
    return record


def _claim(job: TrainJob, args: CATConfig, scope: ExitStack) -> tuple[Start, dict[str, Any]]:
    """Take the folder for as long as `scope` is open, and decide how the run starts there; also its identity."""
    from cattune.experiments.training_run import writes_checkpoints

    folder = Path(job.output_dir)
    scope.enter_context(claimed(folder))
    identity = run_identity(job, args)
    resume = job.settings.get("resume_from_checkpoint")
    saves, rotates = writes_checkpoints(args), bool(args.save_total_limit)
    return plan_start(folder, identity, resume, job.overwrite, saves, args.world_size, rotates), identity


def _config(job: TrainJob) -> CATConfig:
    from cattune.experiments.training import evaluates, make_config

    resume = job.settings.get("resume_from_checkpoint")
    settings = {**job.settings, "output_dir": job.output_dir, "resume_from_checkpoint": str(resume or "") or None}
    args = make_config(job.model, settings, stops_early=job.early_stopping_patience is not None)
    if evaluates(args) and not job.eval_files:
        name = "eval_on_start" if args.eval_strategy == "no" else "eval_strategy"
        raise ConfigError(f"{name} asks for evaluations during training, on eval_files; give NAME: FILE there")
    return args


def _check_splits(trainer: CATTrainer, tokenizer: PreTrainedTokenizerBase, splits: Mapping[str, list[Example]]) -> None:
    """Refuse before training what could not be evaluated after it."""
    from cattune.evaluation.evaluate import check_evaluation

    for name, examples in splits.items():
        try:
            check_evaluation(trainer.model, tokenizer, examples, trainer.args.chat_template_kwargs)
        except CattuneError as error:
            raise ConfigError(f"eval_files, {name}: {error}") from error


def _scores(
    trainer: CATTrainer, tokenizer: PreTrainedTokenizerBase, splits: Mapping[str, list[Example]], report: Report
) -> dict[str, Any]:
    from cattune.evaluation.evaluate import evaluate_model

    results = {}
    for name, examples in splits.items():
        result = evaluate_model(
            trainer.model,
            tokenizer,
            examples,
            progress=lambda *at, name=name: report(name, *at),
            chat_template_kwargs=trainer.args.chat_template_kwargs,
        )
        results[name] = result.to_dict()
    return results


def _training_record(trainer: CATTrainer, examples: int, seconds: float) -> dict[str, Any]:
    from cattune.experiments.following import as_json, best_of_run

    return {
        "examples": examples,
        "steps": trainer.state.global_step,
        "seconds": seconds,
        "alignment": trainer.alignment.to_dict(),
        "best": best_of_run(trainer),
        "log": as_json(trainer.state.log_history),
    }


def _provenance(job: TrainJob, args: CATConfig) -> dict[str, Any]:
    return provenance(
        model=job.model,
        train_file=job.train_file,
        eval_files=dict(job.eval_files),
        occurrences=job.occurrences,
        peft=None if job.peft is None else dict(job.peft),
        seed=args.seed,
        settings={name: value for name, value in args.to_dict().items() if name != "output_dir"},
    )


def _command_to_go_on(job: TrainJob) -> str:
    """What to run after an interruption, in words: the same, unless that would start anew or from a named place."""
    named = isinstance(job.settings.get("resume_from_checkpoint"), str)
    without = [word for word, given in (("--overwrite", job.overwrite), ("--resume_from_checkpoint", named)) if given]
    return "the same command" + (f" without {' and '.join(without)}" if without else "")
