"""One training job: a model, a training file, evaluation files, settings. It is what `cattune train` runs."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from cattune.errors import ConfigError
from cattune.experiments.run_folder import RESULTS, claimed
from cattune.experiments.run_identity import run_identity
from cattune.experiments.run_lines import Line
from cattune.experiments.settings import typed
from cattune.experiments.start import Start, plan_start
from cattune.io import shown, write_json
from cattune.provenance import provenance

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from cattune.config import CATConfig
    from cattune.examples import Example
    from cattune.trainer import CATTrainer

logger = logging.getLogger(__name__)

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What to train on what, and where the result goes.

    Args:
        model: `tiny`, a folder, or the name of a model on the hub.
        train_file: training examples, in this library's JSONL or the published format.
        output_dir: gets the model, its tokenizer and `results.json`.
        eval_files: name of a split -> its file; NAME=FILE ... on the command line.
        occurrences: how a phrase that occurs several times is resolved, see `grounding`.
        attn_implementation: the attention backend; the model's own choice by default.
        dtype: the precision to load the weights in ("bfloat16", ...); as saved by default.
        trust_remote_code: whether code that comes with the model may run.
        peft: settings of a `peft.LoraConfig`, such as {r: 64, lora_alpha: 32}; without, the whole model is trained.
        early_stopping_patience: stop after so many evaluations in a row that were no better than the best before them.
        early_stopping_threshold: by more than this an evaluation has to be better.
        overwrite: whether `output_dir` may hold files already.
        settings: of `CATConfig`.
    """

    model: str
    train_file: str
    output_dir: str
    eval_files: Mapping[str, str] = field(default_factory=dict)
    occurrences: str = "context"
    attn_implementation: str | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    peft: Mapping[str, Any] | None = None
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0
    overwrite: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> TrainJob:
        """A job from flat keys: the ones above, and any setting of `CATConfig`.

        Raises:
            ConfigError: a key is unknown, missing, or its value is of the wrong kind.
        """
        from cattune.config import CATConfig

        own = {f.name for f in fields(cls)} - {"settings"}
        known = {f.name for f in fields(CATConfig) if f.init} - {"output_dir"}
        for name in given:
            if name not in own | known:
                close = difflib.get_close_matches(name, own | known, n=3)
                hint = f"; did you mean {' or '.join(close)}?" if close else ""
                raise ConfigError(f"unknown setting {name!r}{hint}")
        required = ("model", "train_file", "output_dir")
        hints = {
            **get_type_hints(CATConfig),
            **get_type_hints(cls),
            **dict.fromkeys(required, str | None),
            "eval_files": Mapping[str, str] | list[str] | None,
            "resume_from_checkpoint": bool | str | None,
        }
        values = {name: typed(name, value, hints[name]) for name, value in given.items()}
        if missing := [name for name in required if not values.get(name)]:
            raise ConfigError(f"missing: {', '.join(missing)}; give it in the YAML file or as --{missing[0]} VALUE")
        values["eval_files"] = _named_files(values.get("eval_files") or {})
        return cls(
            **{name: value for name, value in values.items() if name in own},
            settings={name: value for name, value in values.items() if name in known},
        )


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
    from cattune.experiments.training_run import TrainingRun, decided_by_main, writes_checkpoints
    from cattune.loading import load_examples
    from cattune.models.adapters import with_base

    resume = job.settings.get("resume_from_checkpoint")
    folder = Path(job.output_dir)
    args = _config(job)
    stopping = early_stopping(job.early_stopping_patience, job.early_stopping_threshold)
    adapter = None if job.peft is None else peft_config(job.peft)
    with ExitStack() as scope:

        def claim() -> tuple[Start, dict[str, Any]]:
            scope.enter_context(claimed(folder))
            identity = run_identity(job, args)
            saves, rotates = writes_checkpoints(args), bool(args.save_total_limit)
            plan = plan_start(folder, identity, resume, job.overwrite, saves, args.world_size, rotates)
            return plan, identity

        start, identity = decided_by_main(args, claim)
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


def _config(job: TrainJob) -> CATConfig:
    from cattune.experiments.training import evaluates, make_config

    resume = job.settings.get("resume_from_checkpoint")
    settings = {**job.settings, "output_dir": job.output_dir, "resume_from_checkpoint": str(resume or "") or None}
    args = make_config(job.model, settings, stops_early=job.early_stopping_patience is not None)
    if evaluates(args) and not job.eval_files:
        name = "eval_on_start" if args.eval_strategy == "no" else "eval_strategy"
        raise ConfigError(f"{name} asks for evaluations during training, on eval_files; give NAME: FILE there")
    return args


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


def _named_files(given: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """A mapping of names to files, also from words of the form NAME=FILE."""
    if isinstance(given, Mapping):
        return dict(given)
    pairs = [word.partition("=") for word in given]
    if any(not (name and equals and path) for name, equals, path in pairs):
        raise ConfigError(f"eval_files is {shown(given)}; expected NAME=FILE, for instance ood=ood.jsonl")
    names = [name for name, _, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"eval_files: the name {shown(twice[0])} is given twice; give each file its own")
    return {name: path for name, _, path in pairs}
