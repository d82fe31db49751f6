"""`cattune train`: fine-tunes a model from a YAML file, settings on the command line, or both."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cattune.errors import ConfigError

if TYPE_CHECKING:
    from cattune.data.settings import Word
    from cattune.experiments.run_lines import Line

_WIDE = 140
"""Columns that a logging step with the full names of its figures takes, and a bit."""

_DESCRIPTION = """\
Fine-tune a model with Causal Attention Tuning, save it, and score it on the evaluation files.

Every key may stand in the YAML file or on the command line, which wins:
--key value, --key alone for true, --no-key for false. There are the keys below,
and all of transformers.TrainingArguments (learning_rate, num_train_epochs, seed,
eval_strategy, save_strategy, report_to, ...), which are described at
https://huggingface.co/docs/transformers/main_classes/trainer
"""

_EPILOG = """\
examples:
  cattune train config.yaml
  cattune train config.yaml --gamma 0 --output_dir runs/sft
  cattune train --model tiny --train_file data/stg_l/train.jsonl \\
      --eval_files iid=data/stg_l/iid.jsonl ood=data/stg_l/ood.jsonl --output_dir runs/cat
"""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "train",
        help="fine-tune a model on examples with causal links",
        usage="cattune train [CONFIG.yaml] [--key value ...] [--overwrite] [--json] [--debug]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # The keys are CATConfig's, which only torch can list: so nothing is an option here, and `run` reads the words.
        prefix_chars="\0",
        add_help=False,
    )
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(run=lambda args: run(args, parser))


def run(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Train, save, evaluate, print the table."""
    words = list(args.words)
    if not words or "-h" in words or "--help" in words:
        parser.description = f"{_DESCRIPTION}\n{_own_keys()}"
        parser.print_help()
        return 0 if words else 2
    as_json = "--json" in words
    given = read_words([word for word in words if word != "--json"])

    from cattune.cli.progress import progress_bars, say
    from cattune.experiments.job import TrainJob
    from cattune.experiments.run_job import run_job

    job = TrainJob.from_dict(given)
    with progress_bars() as update:

        def report(what: str, done: int, total: int) -> None:
            if not job.settings.get("disable_tqdm"):
                update("cattune train", what, done, total)

        report("getting ready", 0, 0)
        record = run_job(job, report, _speaker(say))
    if as_json:
        print(json.dumps({name: record[name] for name in ("splits", "provenance")}, ensure_ascii=False, indent=2))
    elif record["splits"]:
        from cattune.reports.terminal import print_splits

        print_splits(record["splits"])
    return 0


def _own_keys() -> str:
    """A paragraph for each key that is cattune's own, as `TrainJob` and `CATConfig` describe them."""
    from cattune.experiments.job import TrainJob
    from cattune.training.config import CATConfig

    job = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", inspect.getdoc(TrainJob) or "", re.MULTILINE))
    config = {
        f.name: f.metadata["help"] + ("" if f.default is None else f" Default: {str(f.default).lower()}.")
        for f in CATConfig.own_fields()
    }
    described = {name: text for name, text in job.items() if name != "settings"} | config
    lines = [
        textwrap.fill(text[0].upper() + text[1:], 80, initial_indent=f"  {name:<26}", subsequent_indent=" " * 28)
        for name, text in described.items()
    ]
    return "\n".join(lines)


def _speaker(say: Callable[[str], None]) -> Callable[[Line], None]:
    """Says lines in as many words as fit: all of them where standard error is no terminal."""
    from cattune.experiments.run_lines import LEGEND

    narrow = sys.stderr.isatty() and shutil.get_terminal_size().columns < _WIDE
    legend = [LEGEND] if narrow else []

    def speak(line: Line) -> None:
        if legend and line.short != line.text:
            say(legend.pop())
        say(line.short if narrow else line.text)

    return speak


def read_words(words: Sequence[str]) -> dict[str, Any]:
    """The settings of `[CONFIG.yaml] [--key value ...]`: `--key` alone is true, `--no-key` false, many values a list.

    What a word means is its setting's to decide: see `data.settings`.

    Raises:
        ConfigError: the file is missing or is not a mapping, or a word stands where a key should.
    """
    from cattune.data.settings import Word

    settings: dict[str, Any] = {}
    rest = list(words)
    if rest and not rest[0].startswith("--"):
        settings = _read_file(rest.pop(0))
    given: dict[str, list[Word]] = {}
    key = None
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            key = name.replace("-", "_")
            if not key or key in given:
                raise ConfigError(f"{word!r}: " + ("given twice" if key else "expected --key value"))
            given[key] = [Word(value)] if equals else []
        elif key is None:
            raise ConfigError(f"{word!r}: expected --key value after the configuration file")
        else:
            given[key].append(Word(word))
    for name, values in given.items():
        on = bool(values) or not name.startswith("no_")
        if not on and name.removeprefix("no_") in given:
            raise ConfigError(f"--{name}: --{name.removeprefix('no_')} is given too; keep one")
        settings[name if on else name.removeprefix("no_")] = _value(values) if values else on
    return settings


def _value(words: list[Word]) -> Word | list[Word]:
    return words[0] if len(words) == 1 else words


def _read_file(path: str) -> dict[str, Any]:
    from cattune.data.settings import read_settings
    from cattune.data.yaml_text import read_yaml

    return read_settings(read_yaml(path, "configuration", "name a YAML file of settings"), path)
