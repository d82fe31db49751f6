"""Writes a game's splits as JSONL with a manifest, the same bytes for the same settings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from cattune import __version__
from cattune.data.atomic import prepare_output_dir
from cattune.data.examples import Example
from cattune.data.jsonl import write_json
from cattune.errors import OutputError
from cattune.formats.loading import save_examples
from cattune.tasks.stg.generate import GENERATOR, SPLITS, NoUnseenError, causal_tuple, make_split, values_of
from cattune.tasks.stg.shares import class_shares
from cattune.tasks.stg.spec import Game

SIZES = {"s": ("cancer_risk", 400), "m": ("cancer_risk", 800), "l": ("cancer_risk", 1600), "h": ("air_quality", 3000)}
"""Published size -> its game and its number of training examples."""

VALIDATION_SIZE = 1000
TEST_SIZE = 4000
"""Ten times the published tests: a standard error of at most 0.8 points instead of 2.5."""


def split_sizes(train: int, validation: int = VALIDATION_SIZE, test: int = TEST_SIZE) -> dict[str, int]:
    """Split -> number of examples."""
    sizes = {"train": train, "validation": validation, "ood-validation": validation}
    return {split: sizes.get(split, test) for split in SPLITS}


def write_game(
    out: Path,
    game: Game,
    sizes: Mapping[str, int],
    seed: int,
    *,
    links: str = "phrases",
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write SPLIT.jsonl for every split, and manifest.json; returns the manifest.

    A split `ood-unseen` that cannot be drawn is left out, and the manifest's "omitted" says why.

    Args:
        out: the folder to write.
        game: with the rule and the wording in force.
        sizes: split -> number of examples, see `split_sizes`.
        seed: of all random streams.
        links: "values" or "phrases", see `make_split`.
        overwrite: allow a folder that holds files.
        progress: is told (done, in all): an example counts when it is drawn and when it is written.

    Raises:
        ConfigError: a size or `links` is out of range.
        OutputError: the folder holds files and `overwrite` is not set, or cannot be written.
    """
    whole = 2 * sum(sizes[split] for split in SPLITS)
    drawn, omitted = draw_splits(game, sizes, seed, links, lambda done: progress(done, whole))
    folder = prepare_output_dir(out, overwrite)
    train = drawn["train"]
    entries = {}
    done = whole // 2
    for split, examples in drawn.items():
        path = folder / f"{split}.jsonl"
        save_examples(path, examples)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        entries[split] = {"file": path.name, "sha256": digest, **describe(game, examples, train)}
        done += sizes[split]
        progress(done, whole)
    for split in omitted:
        # What an earlier run left under this name would belong to another game.
        _remove(folder / f"{split}.jsonl")
    manifest = {
        "generator": GENERATOR,
        "cattune": __version__,
        "seed": seed,
        "links": links,
        "rule": game.outcome.rule,
        "wording": asdict(game.wording),
        "game": dict(game.source),
        "class_shares": class_shares(game).shares,
        "splits": entries,
        "omitted": omitted,
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def draw_splits(
    game: Game,
    sizes: Mapping[str, int],
    seed: int,
    links: str = "phrases",
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, list[Example]], dict[str, str]]:
    """Every split's examples, and for one that cannot be drawn the reason; `progress` is told how many are drawn."""
    drawn: dict[str, list[Example]] = {}
    omitted: dict[str, str] = {}
    seen: Collection[tuple[Decimal, ...]] = frozenset()
    done = 0
    for split in SPLITS:  # train comes first
        try:
            drawn[split] = make_split(game, split, sizes[split], seed, links=links, seen=seen)
        except NoUnseenError as error:
            omitted[split] = str(error)
        done += sizes[split]
        progress(done)
        if split == "train":
            seen = {causal_tuple(game, values_of(example)) for example in drawn[split]}
    return drawn, omitted


def describe(game: Game, examples: Sequence[Example], train: Sequence[Example]) -> dict[str, Any]:
    """What a reader of results must know about a split.

    Returns:
        "n"; "classes": counts by completion (not for a numeric answer); "majority": the most frequent completion and
        its share, the accuracy of always answering it; "distinct_causal_tuples"; "causal_tuples_in_train" and
        "records_in_train": shares of the examples whose causal values, or whole record in any order, occur in train;
        "spurious_before_cause": share of the spurious attributes that stand before their cause.
    """
    targets = Counter(example.target for example in examples)
    label, count = min(targets.items(), key=lambda item: (-item[1], item[0]))
    records = [values_of(example) for example in examples]
    tuples = [causal_tuple(game, values) for values in records]
    train_values = [values_of(example) for example in train]
    train_tuples = {causal_tuple(game, values) for values in train_values}
    train_records = {frozenset(values.items()) for values in train_values}
    pairs = len(game.spurious) * len(examples)
    before = sum(example.metadata["spurious_before_cause"] for example in examples)
    return {
        "n": len(examples),
        **({"classes": dict(sorted(targets.items()))} if game.outcome.answer is None else {}),
        "majority": {"completion": label, "share": count / len(examples)},
        "distinct_causal_tuples": len(set(tuples)),
        "causal_tuples_in_train": sum(t in train_tuples for t in tuples) / len(examples),
        "records_in_train": sum(frozenset(values.items()) in train_records for values in records) / len(examples),
        "spurious_before_cause": before / pairs if pairs else 0.0,
    }


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot remove {path}, which is of an earlier run: {error.strerror}; remove it") from None
