"""One training job: a model, a training file, evaluation files, settings."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_type_hints

from cattune.data.settings import typed
from cattune.errors import ConfigError
from cattune.wording import shown


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
        dtype: the precision to load the weights in; as saved (`auto`) by default.
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
    dtype: Literal["auto", "bfloat16", "float16", "float32", "float64"] | None = None
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
        from cattune.training.config import CATConfig

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
        files = _named_files(values.get("eval_files") or {})
        values["eval_files"] = {name: os.path.expanduser(path) for name, path in files.items()}
        for name in ("train_file", "output_dir", "resume_from_checkpoint"):  # no shell read `output_dir: ~/runs`
            if isinstance(values.get(name), str):
                values[name] = os.path.expanduser(values[name])
        return cls(
            **{name: value for name, value in values.items() if name in own},
            settings={name: value for name, value in values.items() if name in known},
        )


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
