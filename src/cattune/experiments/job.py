"""One training job: a model, a training file, evaluation files, settings. It is what `cattune train` runs."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from cattune.errors import ConfigError
from cattune.io import check_output_dir, prepare_output_dir, write_json
from cattune.provenance import provenance

Report = Callable[[str, int, int], None]

_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class TrainJob:
    """What to train on what, and where the result goes.

    Args:
        model: `tiny`, a folder, or the name of a model on the hub.
        train_file: training examples, in this library's JSONL or the published format.
        output_dir: gets the model, its tokenizer and `results.json`.
        eval_files: name of a split -> its file.
        occurrences: how a phrase that occurs several times is resolved, see `grounding`.
        attn_implementation: the attention backend; the model's own choice by default.
        dtype: the precision to load the weights in ("bfloat16", ...); as saved by default.
        peft: settings of a `peft.LoraConfig`; the whole model is trained without.
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
    peft: Mapping[str, Any] | None = None
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
        missing = [name for name in ("model", "train_file", "output_dir") if given.get(name) is None]
        if missing:
            raise ConfigError(f"missing: {', '.join(missing)}; give it in the YAML file or as --{missing[0]} VALUE")
        hints = {**get_type_hints(CATConfig), **get_type_hints(cls)}
        values = {name: _checked(name, value, hints[name]) for name, value in given.items()}
        values["eval_files"] = _named_files(values.get("eval_files") or {})
        return cls(
            **{name: value for name, value in values.items() if name in own},
            settings={name: value for name, value in values.items() if name in known},
        )


def run_job(job: TrainJob, report: Report = lambda what, done, total: None) -> dict[str, Any]:
    """Trains, saves, evaluates; returns what it wrote to `results.json`.

    Raises:
        CattuneError: the job cannot be done as it is described.
    """
    from cattune.evaluation.evaluate import evaluate_model
    from cattune.experiments.training import load_or_build, make_config, make_trainer, peft_config
    from cattune.loading import load_examples

    resuming = job.settings.get("resume_from_checkpoint") is not None
    check_output_dir(job.output_dir, job.overwrite or resuming)  # before anything is loaded
    train = load_examples(job.train_file, job.occurrences)
    splits = {name: load_examples(path, job.occurrences) for name, path in job.eval_files.items()}
    args = make_config(job.model, {**job.settings, "output_dir": job.output_dir})
    adapter = None if job.peft is None else peft_config(job.peft)
    model, tokenizer = load_or_build(job.model, train, args.seed, job.attn_implementation, job.dtype)
    trainer = make_trainer(
        model,
        tokenizer,
        train,
        args,
        lambda *at: report("training", *at),
        **({"peft_config": adapter} if adapter else {}),
    )
    folder = prepare_output_dir(Path(job.output_dir), job.overwrite or resuming)
    started = time.perf_counter()
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    seconds = time.perf_counter() - started
    trainer.save_model(str(folder))
    results = {}
    for name, examples in splits.items():
        result = evaluate_model(trainer.model, tokenizer, examples, progress=lambda *at, name=name: report(name, *at))
        results[name] = result.to_dict()
    record = {
        "splits": results,
        "training": {
            "examples": len(train),
            "steps": trainer.state.global_step,
            "seconds": seconds,
            "alignment": trainer.alignment.to_dict(),
            "log": trainer.state.log_history,
        },
        "provenance": provenance(
            model=job.model,
            train_file=job.train_file,
            eval_files=dict(job.eval_files),
            occurrences=job.occurrences,
            peft=None if job.peft is None else dict(job.peft),
            seed=args.seed,
            settings={name: value for name, value in args.to_dict().items() if name != "output_dir"},
        ),
    }
    write_json(folder / "results.json", record)
    return record


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value, as a number where its text is one; refused where a plain type is expected and it is none.

    YAML reads `1e-3` as a text, hence the conversion.
    """
    text = str(hint)
    if name in ("layers", "heads") and value is not None:
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) for item in values):
            raise ConfigError(f"{name} is {value!r}; it must be a list of whole numbers, for instance [0, -1]")
        return values
    wants = {kind for kind in ("bool", "int", "float", "str") if re.search(rf"\b{kind}\b", text)}
    if value is None or not wants or "Mapping" in text or "dict" in text or "list" in text or "Strategy" in text:
        return value
    if isinstance(value, str) and "str" not in wants and "float" in wants and _FLOAT.fullmatch(value):
        return float(value)
    kinds: tuple[type, ...] = tuple({"bool": bool, "int": int, "float": (int, float), "str": str}[k] for k in wants)  # type: ignore[misc]
    if not isinstance(value, kinds) or (isinstance(value, bool) and "bool" not in wants):
        raise ConfigError(f"{name} is {value!r}; it must be {' or '.join(sorted(wants))}")
    return value


def _named_files(value: Any) -> dict[str, str]:
    """A mapping of names to files, also from words of the form NAME=FILE."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Sequence):
        pairs = [str(word).partition("=") for word in value]
        if any(not (name and equals and path) for name, equals, path in pairs):
            raise ConfigError(f"eval_files is {value!r}; expected NAME=FILE, for instance ood=ood.jsonl")
        value = {name: path for name, _, path in pairs}
    if not isinstance(value, Mapping) or not all(isinstance(path, str) for path in value.values()):
        raise ConfigError(f"eval_files is {value!r}; expected a mapping of names to files")
    return {str(name): path for name, path in value.items()}
