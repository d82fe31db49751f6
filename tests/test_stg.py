"""The Spurious Token Game: specification, generator, files, command line, and agreement with the published files."""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cattune.cli import stg as command
from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import CattuneError, ConfigError, DataError, OutputError
from cattune.formats.loading import load_examples, save_examples
from cattune.tasks.stg import (
    BUILT_IN,
    SPLITS,
    Game,
    Wording,
    causal_only,
    class_shares,
    draw_splits,
    find_record,
    load_game,
    make_split,
    parse_game,
    split_sizes,
    wording_from,
    write_game,
)
from cattune.tasks.stg.generate import NoUnseenError, causal_tuple, values_of
from cattune.tasks.stg.spec import Attribute, Integers

COUPLED = [split for split, kind in SPLITS.items() if kind == "coupled"]
CLASS_GAMES = ("cancer_risk", "bridge_repair")
SMALL = split_sizes(20, 5, 10)


def triple(smoking: int, weight: int, exercise: int) -> dict[str, Decimal]:
    return {"Smoking": Decimal(smoking), "Weight": Decimal(weight), "Exercise": Decimal(exercise)}


def texts(examples: list[Example]) -> list[tuple[str, str]]:
    return [(str(example.prompt), str(example.completion)) for example in examples]


def integers_of(attribute: Attribute) -> range:
    assert isinstance(attribute.drawn, Integers)
    return range(attribute.drawn.low, attribute.drawn.high + 1)


def run_cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["stg", *arguments])
    return int(args.run(args))


# --- the rule -----------------------------------------------------------------------------------------------------


def test_published_rule_at_its_thresholds() -> None:
    game = load_game("cancer_risk")
    at_low = {t: game.label(triple(*t)) for t in product(range(1, 11), repeat=3) if value_of(t) == Fraction(27, 10)}
    at_high = {game.label(triple(*t)) for t in product(range(1, 11), repeat=3) if value_of(t) == Fraction(72, 10)}
    assert len(at_low) == 8
    assert {t for t, label in at_low.items() if label == "Middle"} == {(1, 5, 2), (5, 1, 4)}
    assert set(at_low.values()) == {"Middle", "Low"}
    assert at_high == {"Low"}


def value_of(t: tuple[int, ...]) -> Fraction:
    return Fraction(12 * t[0] + 7 * t[1] - 10 * t[2], 10)


def test_wide_rule_is_exact_everywhere() -> None:
    game = load_game("cancer_risk").with_rule("wide")
    labels = Counter[str]()
    for t in product(range(1, 11), repeat=3):
        value = value_of(t)
        expected = "High" if value > Fraction(72, 10) else "Low" if value < Fraction(27, 10) else "Middle"
        assert game.label(triple(*t)) == expected
        labels[expected] += 1
    assert min(labels.values()) > 300  # of 1000: a real middle class


@pytest.mark.parametrize(("name", "rule", "most"), [("bridge_repair", "two", 0.51), ("bridge_repair", "wide", 0.36)])
def test_second_game_is_balanced(name: str, rule: str, most: float) -> None:
    game = load_game(name).with_rule(rule)
    ranges = [integers_of(a) for a in game.attributes if a.role == "cause"]
    counts = Counter(game.label(dict(zip(game.causes, map(Decimal, t), strict=True))) for t in product(*ranges))
    assert set(counts) == set(game.labels)
    assert max(counts.values()) / sum(counts.values()) < most


def test_numeric_answer_clips_scales_and_rounds_half_to_even() -> None:
    game = load_game("air_quality")
    zero = dict.fromkeys(game.causes, Decimal(0))
    assert game.label(zero) == "40"
    assert game.label(zero | {"Industrial Emissions": Decimal("1.0")}) == "41"  # 0.3 -> 40.6
    assert game.label(zero | {"Vehicle Emissions": Decimal("1.0")}) == "40"  # 0.25 -> 40.5, exactly half
    assert game.label(zero | {"Vehicle Emissions": Decimal("3.0")}) == "42"  # 0.75 -> 41.5, exactly half
    assert game.label(zero | {"Industrial Emissions": Decimal(10**6)}) == "100"
    assert game.label(zero | {"Meteorological Dispersion": Decimal(10**6)}) == "0"


# --- agreement with the published files ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stg_s_train", "stg_m_train", "stg_l_train", "stg_iid_test"])
def test_published_cancer_files_follow_the_specification(published_data: Path, name: str) -> None:
    path = published_data / f"{name}.jsonl"
    game = load_game("cancer_risk")
    game = game.with_wording(wording_from(path, game))
    examples = load_examples(path)
    for example in examples:
        values = record_of(example, game)
        assert example.target == game.label(values), example.id
        for spurious, cause in game.spurious.items():
            ratio = next(a.coupling.ratio for a in game.attributes if a.name == spurious and a.coupling)
            assert values[spurious] == floor(Fraction(ratio) * Fraction(values[cause])), example.id
        if example.links:
            linked = {example.text_of(cause) for cause in example.links[0].causes}
            assert linked == {f"{cause}: {values[cause]}" for cause in game.causes}
    assert bool(examples[0].links) == ("train" in name)


@pytest.mark.parametrize("name", ["stg_h_train", "stg_h_iid_test"])
def test_published_air_files_follow_the_specification_but_for_rounding(published_data: Path, name: str) -> None:
    path = published_data / f"{name}.jsonl"
    game = load_game("air_quality")
    game = game.with_wording(wording_from(path, game))
    examples = load_examples(path)
    records = [record_of(example, game) for example in examples]
    errors = [int(e.target) - int(game.label(values)) for e, values in zip(examples, records, strict=True)]
    assert max(map(abs, errors)) <= 1
    assert sum(error == 0 for error in errors) / len(errors) > 0.96
    drawn = [values_of(example) for example in make_split(game, "iid", 1500, 0)]
    for attribute in game.attributes:
        published = [float(values[attribute.name]) for values in records]
        ours = [float(values[attribute.name]) for values in drawn]
        spread = statistics.stdev(published)
        assert abs(statistics.mean(ours) - statistics.mean(published)) < 0.15 * spread, attribute.name
        assert abs(statistics.stdev(ours) / spread - 1) < 0.1, attribute.name


def record_of(example: Example, game: Game) -> dict[str, Decimal]:
    prompt = str(example.prompt)
    found = find_record(prompt, game, example.id)
    assert len(found) == len(game.attributes)
    return {f.attribute.name: Decimal(prompt[f.value_start : f.end].removesuffix(f.attribute.suffix)) for f in found}


@pytest.mark.parametrize(("name", "file"), [("cancer_risk", "stg_l_train"), ("air_quality", "stg_h_train")])
def test_published_wording_can_be_taken_over(published_data: Path, name: str, file: str) -> None:
    path = published_data / f"{file}.jsonl"
    game = load_game(name)
    game = game.with_wording(wording_from(path, game))
    published = load_examples(path)
    ours = make_split(game, "ood", 50, 0)
    if name == "cancer_risk":
        assert {example.target for example in ours} <= {"High Risk", "Low Risk", "Middle Risk"}
    blank = {blanked(example, game) for example in ours} | {blanked(example, game) for example in published[:50]}
    assert len(blank) == 1


def blanked(example: Example, game: Game) -> str:
    prompt = str(example.prompt)
    for entry in reversed(find_record(prompt, game, example.id)):
        prompt = prompt[: entry.start] + "#" + prompt[entry.end :]
    return prompt


# --- splits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASS_GAMES)
@pytest.mark.parametrize("split", COUPLED)
def test_couplings_hold_exactly(name: str, split: str) -> None:
    game = load_game(name)
    couplings = {a.name: a.coupling for a in game.attributes if a.coupling is not None}
    assert len(couplings) >= 3
    for example in make_split(game, split, 500, 3):
        values = values_of(example)
        for spurious, coupling in couplings.items():
            assert values[spurious] == floor(Fraction(coupling.ratio) * Fraction(values[coupling.partner]))


def correlation(examples: list[Example], first: str, second: str) -> float:
    records = [values_of(example) for example in examples]
    return statistics.correlation([float(r[first]) for r in records], [float(r[second]) for r in records])


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("split", ["ood", "ood-permuted", "ood-validation"])
def test_spurious_values_are_independent_of_causes(name: str, split: str) -> None:
    game = load_game(name)
    shifted, training = make_split(game, split, 2000, 0), make_split(game, "train", 300, 0)
    for spurious, cause in game.spurious.items():
        assert abs(correlation(shifted, spurious, cause)) < 0.08  # 3.6 standard errors
        assert abs(correlation(training, spurious, cause)) > 0.2


@pytest.mark.parametrize("name", CLASS_GAMES)
def test_independence_by_chi_square(name: str) -> None:
    game = load_game(name)
    for split in ("ood", "ood-permuted"):
        records = [values_of(example) for example in make_split(game, split, 4000, 1)]
        for spurious, cause in game.spurious.items():
            cells = Counter((r[spurious], r[cause]) for r in records)
            rows, columns = Counter(r[spurious] for r in records), Counter(r[cause] for r in records)
            expected = {(a, b): rows[a] * columns[b] / len(records) for a in rows for b in columns}
            statistic = sum((cells[cell] - e) ** 2 / e for cell, e in expected.items())
            freedom = (len(rows) - 1) * (len(columns) - 1)
            assert statistic < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("name", CLASS_GAMES)
def test_permuted_keeps_the_training_marginals_and_ood_has_its_own(name: str) -> None:
    game = load_game(name)
    splits = {s: [values_of(e) for e in make_split(game, s, 2500, 2)] for s in ("train", "ood", "ood-permuted")}
    for attribute in game.attributes:
        shares = {s: shares_of(records, attribute.name) for s, records in splits.items()}
        assert distance(shares["train"], shares["ood-permuted"]) < 0.07, attribute.name
        if attribute.role == "spurious":
            assert set(shares["ood"]) == set(integers_of(attribute))


def shares_of(records: list[dict[str, Decimal]], name: str) -> dict[Decimal, float]:
    return {value: count / len(records) for value, count in Counter(r[name] for r in records).items()}


def distance(first: dict[Decimal, float], second: dict[Decimal, float]) -> float:
    return sum(abs(first.get(v, 0) - second.get(v, 0)) for v in first.keys() | second.keys()) / 2


@pytest.mark.parametrize("name", BUILT_IN)
def test_unseen_is_disjoint_from_training_and_ood_is_not(name: str) -> None:
    game = load_game(name)
    drawn, omitted = draw_splits(game, split_sizes(1600, 10, 500), 0)
    assert not omitted
    tuples = {s: [causal_tuple(game, values_of(e)) for e in examples] for s, examples in drawn.items()}
    assert not set(tuples["ood-unseen"]) & set(tuples["train"])
    if name != "air_quality":
        assert set(tuples["ood"]) & set(tuples["train"])


def test_unseen_is_left_out_with_a_reason_when_training_has_every_tuple(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of("cancer_risk")
    for attribute in spec["attributes"][:3]:
        attribute["integers"] = [1, 2]
    game = parse_game(spec, "small.yaml")
    (tmp_path / "ood-unseen.jsonl").write_text("of an earlier run")
    manifest = write_game(tmp_path, game, split_sizes(200, 5, 5), 0, overwrite=True)
    assert "ood-unseen" not in manifest["splits"]
    assert "smaller train size" in manifest["omitted"]["ood-unseen"]
    assert not (tmp_path / "ood-unseen.jsonl").exists()
    command.print_manifest(manifest)
    assert "left out ood-unseen" in capsys.readouterr().err
    with pytest.raises(NoUnseenError):
        make_split(game, "ood-unseen", 1, 0, seen={tuple(map(Decimal, t)) for t in product((1, 2), repeat=3)})


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(BUILT_IN),
    split=st.sampled_from(sorted(SPLITS)),
    seed=st.integers(-(2**70), 2**70),
    size=st.integers(1, 12),
    more=st.integers(0, 12),
)
def test_a_smaller_split_is_a_prefix_of_a_larger_one(name: str, split: str, seed: int, size: int, more: int) -> None:
    game = load_game(name)
    assert make_split(game, split, size + more, seed)[:size] == make_split(game, split, size, seed)


def test_splits_and_seeds_have_streams_of_their_own() -> None:
    game = load_game("cancer_risk")
    firsts = [texts(make_split(game, split, 5, seed)) for split in SPLITS for seed in (0, 1)]
    assert len({json.dumps(first) for first in firsts}) == len(firsts)
    assert texts(make_split(replace(game, version=2), "train", 5, 0)) != texts(make_split(game, "train", 5, 0))


def test_test_size_does_not_change_the_other_splits() -> None:
    game = load_game("cancer_risk")
    small, _ = draw_splits(game, split_sizes(400, 20, 10), 0)
    large, _ = draw_splits(game, split_sizes(400, 20, 30), 0)
    assert small["train"] == large["train"]
    assert small["ood-validation"] == large["ood-validation"]
    assert all(large[split][: len(examples)] == examples for split, examples in small.items())


def test_wording_rule_and_links_do_not_change_what_is_drawn() -> None:
    game = load_game("cancer_risk")
    other = game.with_rule("wide").with_wording(Wording("", "{name} is {value}", ("; ",), "?", {"High": "yes"}))
    drawn = make_split(other, "ood", 50, 0, links="phrases")
    assert [values_of(e) for e in drawn] == [values_of(e) for e in make_split(game, "ood", 50, 0)]
    assert {e.target for e in drawn} == {"yes", "Middle", "Low"}


GOLDEN = {
    "cancer_risk": "bc27983c99d52eb5",
    "air_quality": "33fb6b174e05ff51",
    "bridge_repair": "baf130c31692cb65",
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_examples_are_the_same_on_every_machine(name: str) -> None:
    """A change of these digests is a change of every data set: raise GENERATOR, or the game's version, with it."""
    game = load_game(name)
    drawn = [texts(make_split(game, split, 100, 0)) for split in SPLITS]
    assert hashlib.sha256(json.dumps(drawn).encode()).hexdigest()[:16] == GOLDEN[name]


# --- examples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("links", ["values", "phrases"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_links_cover_the_label_and_the_causal_values(name: str, links: str) -> None:
    game = load_game(name)
    for example in make_split(game, "ood", 100, 5, links=links):
        (link,) = example.links
        assert link.source == "rule"
        assert example.text_of(link.effect) == example.target == game.label(values_of(example))
        expected = set()
        for attribute in game.attributes:
            text = attribute.text(values_of(example)[attribute.name])
            if attribute.role == "cause":
                expected.add(text if links == "values" else f"{attribute.name}: {text}")
        assert {example.text_of(cause) for cause in link.causes} == expected
        assert len(link.causes) == len(game.causes)
        found = {f.attribute.name: f for f in find_record(str(example.prompt), game, example.id)}
        where = {(f.value_start if links == "values" else f.start, f.end) for f in map(found.get, game.causes) if f}
        assert {(cause.start, cause.end) for cause in link.causes} == where


def test_spurious_before_cause_counts_the_printed_order() -> None:
    game = load_game("cancer_risk")
    examples = make_split(game, "train", 400, 0)
    for example in examples:
        prompt = str(example.prompt)
        before = sum(prompt.index(f"{s}:") < prompt.index(f"{c}:") for s, c in game.spurious.items())
        assert example.metadata["spurious_before_cause"] == before
    assert 1.35 < statistics.mean(example.metadata["spurious_before_cause"] for example in examples) < 1.65


@pytest.mark.parametrize("links", ["values", "phrases"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_causal_only_keeps_the_causes_and_their_links(name: str, links: str) -> None:
    game = load_game(name)
    for example in make_split(game, "train", 50, 0, links=links):
        short = causal_only(example, game)
        kept = [f for f in find_record(str(example.prompt), game, "") if f.attribute.role == "cause"]
        attributes = [str(example.prompt)[f.start : f.end] for f in kept]
        assert short.prompt == game.wording.opening + ", ".join(attributes) + game.wording.closing
        assert short.completion == example.completion and short.id == example.id
        assert set(short.metadata["attributes"]) == set(game.causes)
        before = [example.text_of(cause) for cause in example.links[0].causes]
        assert [short.text_of(cause) for cause in short.links[0].causes] == before
        starts = [cause.start for cause in short.links[0].causes]
        offset = 0 if links == "phrases" else None
        for start, text, attribute in zip(starts, before, attributes, strict=True):
            at = str(short.prompt).index(attribute)
            assert start == at + (offset if offset is not None else len(attribute) - len(text))


@pytest.mark.parametrize(("name", "file"), [("cancer_risk", "stg_s_train"), ("air_quality", "stg_h_iid_test")])
def test_causal_only_on_published_wording(published_data: Path, name: str, file: str) -> None:
    game = load_game(name)
    for example in load_examples(published_data / f"{file}.jsonl")[:50]:
        short = causal_only(example, game)
        assert not any(
            attribute.name in str(short.prompt) for attribute in game.attributes if attribute.role != "cause"
        )
        assert ", , " not in str(short.prompt) and ",  " not in str(short.prompt)
        assert str(short.prompt).endswith(str(example.prompt)[-9:])
        for link, original in zip(short.links, example.links, strict=True):
            assert [short.text_of(c) for c in link.causes] == [example.text_of(c) for c in original.causes]


def test_causal_only_refuses_what_it_cannot_keep() -> None:
    game = load_game("cancer_risk")
    example = make_split(game, "train", 1, 0)[0]
    prompt = str(example.prompt)
    found = {f.attribute.name: f for f in find_record(prompt, game, "")}
    spurious, cause = found["Hormones"], found["Smoking"]
    spans = [Span("prompt", f.value_start, f.end) for f in (spurious, cause)]
    effect = example.links[0].effect
    asked = Span("prompt", prompt.index("Cancer risk"), prompt.index("Cancer risk") + 11)
    links = (CausalLink(effect, tuple(spans)), CausalLink(effect, (spans[0],)), CausalLink(effect, (asked,)))
    short = causal_only(replace(example, links=links), game)
    assert [[short.text_of(c) for c in link.causes] for link in short.links] == [
        [prompt[cause.value_start : cause.end]],
        ["Cancer risk"],
    ]
    assert [refused.cause for refused in short.refused] == [prompt[spurious.value_start : spurious.end]] * 2
    with pytest.raises(DataError, match=".Smoking..*once, found it 0 times"):
        causal_only(replace(example, prompt="Smoking is bad.", links=()), game)
    with pytest.raises(DataError, match="found it 2 times"):
        causal_only(replace(example, prompt=prompt + " Smoking: 3"), game)


# --- files and the command line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_folder_is_reproducible_to_the_byte_and_reads_back(tmp_path: Path, name: str) -> None:
    game = load_game(name)
    for folder in ("a", "b"):
        write_game(tmp_path / folder, game, SMALL, 7)
    files = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert set(files) == {f"{split}.jsonl" for split in SPLITS} | {"manifest.json"}
    manifest = json.loads(files["manifest.json"])
    drawn, _ = draw_splits(game, SMALL, 7)
    for split, entry in manifest["splits"].items():
        assert hashlib.sha256(files[entry["file"]]).hexdigest() == entry["sha256"]
        assert load_examples(tmp_path / "a" / entry["file"]) == drawn[split]
        assert entry["n"] == SMALL[split]
    assert parse_game(manifest["game"], "manifest.json") == game


def test_manifest_reports_balance_and_overlap(tmp_path: Path) -> None:
    game = load_game("cancer_risk")
    manifest = write_game(tmp_path, game, split_sizes(1600, 100, 1000), 0)
    assert manifest["rule"] == "published"
    for split, entry in manifest["splits"].items():
        assert sum(entry["classes"].values()) == entry["n"]
        assert entry["majority"]["share"] == max(entry["classes"].values()) / entry["n"]
        assert entry["majority"]["completion"] == "Low"
        assert 0.4 < entry["spurious_before_cause"] < 0.6, split
    shares = {split: entry["causal_tuples_in_train"] for split, entry in manifest["splits"].items()}
    assert shares["train"] == 1 and shares["ood-unseen"] == 0
    assert 0.7 < shares["ood"] < 0.9
    assert 0 < manifest["splits"]["iid"]["records_in_train"] < 0.05


def test_own_wording_is_found_again_in_an_own_file(tmp_path: Path) -> None:
    for name in BUILT_IN:
        game = load_game(name)
        save_examples(tmp_path / "own.jsonl", make_split(game, "train", 3, 0))
        taken = game.with_wording(wording_from(tmp_path / "own.jsonl", game))
        assert make_split(taken, "ood", 20, 0) == make_split(game, "ood", 20, 0)


@pytest.mark.parametrize(
    ("prompt", "completion", "message"),
    [
        ("nothing here", "High", ".Smoking."),
        ("{} Risk: ", "Perhaps", "begins with a label"),
        ("{;} Risk: ", "High", "several separators"),
        ("{=} Risk: ", "High", "joined to their values in several ways"),
    ],
)
def test_a_wording_that_cannot_be_taken_is_refused(tmp_path: Path, prompt: str, completion: str, message: str) -> None:
    game = load_game("cancer_risk")
    record = [f"{attribute.name}: 1" for attribute in game.attributes]
    prompt = prompt.replace("{}", ", ".join(record))
    prompt = prompt.replace("{;}", ", ".join(record[:4]) + "; " + ", ".join(record[4:]))
    prompt = prompt.replace("{=}", ", ".join([record[0].replace(":", " ="), *record[1:]]))
    save_examples(tmp_path / "file.jsonl", [Example("x", prompt, completion)])
    with pytest.raises(CattuneError, match=message):
        wording_from(tmp_path / "file.jsonl", game)


def test_command_prints_a_table_or_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train-size", "30", "--validation-size", "10", "--test-size", "20", "--seed", "3"]
    out = str(tmp_path / "out")
    assert run_cli("--size", "s", "--out", out, *sizes) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "ood-permuted" in printed.err and "majority" in printed.err
    with pytest.raises(OutputError, match="--overwrite"):
        run_cli("--size", "s", "--out", out, *sizes)
    assert run_cli("--out", out, "--json", "--overwrite", "--middle", "wide", "--links", "phrases", *sizes) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["rule"], manifest["links"], manifest["seed"]) == ("wide", "phrases", 3)
    assert {split: entry["n"] for split, entry in manifest["splits"].items()} == split_sizes(30, 10, 20)


def test_command_takes_a_user_game(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(command.__file__).parents[1] / "tasks" / "stg" / "games" / "bridge_repair.yaml"
    path = tmp_path / "mine.yaml"
    path.write_text(source.read_text().replace("name: bridge_repair", "name: mine"))
    arguments = ["--game", str(path), "--size", "s", "--test-size", "5", "--validation-size", "5"]
    assert run_cli(*arguments, "--json", "--out", str(tmp_path / "out")) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["n"] == 400
    assert load_examples(tmp_path / "out" / "iid.jsonl")[4].id == "mine-seed0-iid-000004"


def test_the_game_in_the_documentation_works(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "stg.md").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    game = load_game(tmp_path / "mine.yaml")
    assert {example.target for example in make_split(game, "train", 50, 0)} == {"rising", "Down"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--middle", "nosuch"], "published, wide"),
        (["--size", "h", "--middle", "wide"], "its answer is a number"),
        (["--game", "nosuch"], "built-in game: cancer_risk"),
        (["--game", "."], "cannot read the game"),
        (["--game", "\0"], "cannot read the game"),
        (["--test-size", "0"], "at least one example"),
        (["--train-size", "-1"], "at least one example"),
        (["--wording-from", "nosuch.jsonl"], "nosuch.jsonl"),
    ],
)
def test_wrong_calls_are_named(tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(CattuneError, match=message):
        run_cli("--out", str(tmp_path / "out"), *arguments)
    assert not (tmp_path / "out").exists()


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, cattune.cli.stg; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- the specification's errors -----------------------------------------------------------------------------------


def spec_of(name: str) -> dict[str, Any]:
    return copy.deepcopy(dict(load_game(name).source))


def set_at(spec: Any, path: tuple[str | int, ...], value: Any) -> Any:
    spec = copy.deepcopy(spec)
    target = spec
    for step in path[:-1]:
        target = target[step]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), ..., "g.yaml: the key 'name' is missing"),
        (("name",), "a b", "g.yaml: name: expected a name of letters"),
        (("extra",), 1, "g.yaml: the key .extra. is not known here"),
        (("version",), True, "version: expected a whole number"),
        (("order",), "random", "order: expected one of shuffled, fixed, got 'random'"),
        (("attributes",), [], r"attributes: expected a list"),
        (("attributes", 0, "role"), "causal", r"attributes\[0\].role: expected one of cause"),
        (("attributes", 0, "integers"), [5, 1], r"attributes\[0\].integers: expected \[low, high\]"),
        (("attributes", 0, "integers"), [1, 2, 3], "expected a list of 2 entries"),
        (("attributes", 1, "name"), "Smoking", "neither contains nor is contained"),
        (("attributes", 0, "suffix"), "5", "a suffix that begins with neither"),
        (("attributes", 3, "integers"), [1, 2], "the key .integers. is not known here"),
        (("attributes", 3, "ood"), ..., "the key 'ood' is missing"),
        (("attributes", 3, "coupling", "partner"), "Room size", "partner: expected one of Smoking, Weight, Exercise"),
        (("attributes", 3, "coupling", "ratio"), float("nan"), "ratio: expected a number"),
        pytest.param(("attributes", 3, "coupling", "ratio"), 16**5000, "a number of more than 77 digits", id="huge"),
        (("outcome", "coefficients", "Smoking"), 0, "a coefficient other than 0"),
        (("outcome", "coefficients", "Hormones"), 1, ".Hormones. is not known here"),
        (("outcome", "default_rule"), "x", "expected one of published, wide"),
        (("outcome", "answer"), {}, ".default_rule. is not known here"),
        (("outcome", "rules", "wide", "classes", 2, "above"), 1, "bounds for every class but the last"),
        (("outcome", "rules", "wide", "classes", 1, "label"), "High", "a label of its own"),
        (("wording", "attribute"), "{value}: {name}", "'{name}', one to four signs"),
        (("wording", "attribute"), "{name} -{value}", "no hyphen"),
        (("wording", "opening"), "Record", "does not end in a letter"),
        (("wording", "closing"), "5", "does not begin with a letter"),
        (("wording", "separator"), "x", "neither begins nor ends with"),
        (("wording", "labels"), {"Huge": "x"}, "only labels of this game"),
        (("wording", "labels"), {"High": "Low"}, "a text of its own for every label"),
    ],
)
def test_a_wrong_specification_names_file_key_and_expectation(
    path: tuple[str | int, ...], value: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_game(set_at(spec_of("cancer_risk"), path, value), "g.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected a mapping"),
        (b"a: [1", "not valid YAML"),
        (b"a: 1\na: 2", 'line 2: the key "a" is given twice'),
        (b"!!map x", "not valid YAML"),
        (b"!!python/object:os.system {}", "not valid YAML"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b"&a [*a]", "an alias stands for a value that holds it"),
        (b"[" * 1200, "not valid YAML"),
        (b"1: 2", "a text as key"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "game.yaml"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_game(path)
    assert str(path) in str(caught.value)


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, entry in entries for p in paths_of(entry, (*path, key)))]


SPECS = {name: spec_of(name) for name in BUILT_IN}
JUNK = st.one_of(
    st.just(...),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("{name}: {value}"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=4,
    ),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), name=st.sampled_from(BUILT_IN))
def test_a_mutated_specification_works_or_is_a_config_error(data: st.DataObject, name: str) -> None:
    spec: Any = SPECS[name]
    for _ in range(data.draw(st.integers(1, 3))):
        paths = [path for path in paths_of(spec) if path]
        if paths:
            spec = set_at(spec, data.draw(st.sampled_from(paths)), data.draw(JUNK))
    try:
        game = parse_game(spec, "g.yaml")
    except ConfigError as error:
        assert str(error).startswith("g.yaml: ")
        return
    for split in SPLITS:
        for example in make_split(game, split, 2, 0):
            assert example.links
            json.dumps(example.metadata)


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60) | st.binary(max_size=40))
def test_any_file_is_a_game_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError):
        load_game(path)


# --- how often a class occurs ---------------------------------------------------------------------------------------


def test_class_shares_are_counted_where_all_causal_values_can_be() -> None:
    published = class_shares(load_game("cancer_risk"))
    assert published.exact and published.shares["Middle"] == 0.002
    assert sum(published.shares.values()) == pytest.approx(1)
    assert published.notes() == ["class 'Middle' is rare: 0.20% of all causal values"]
    assert class_shares(load_game("cancer_risk").with_rule("wide")).notes() == []
    assert class_shares(load_game("air_quality")).shares == {}  # its answer is a number


def game_with_bounds(name: str = "cancer_risk", **bounds: float) -> Game:
    spec = spec_of(name)
    spec["outcome"]["rules"]["published"]["classes"][0] = {"label": "High", **bounds}
    return parse_game(spec, "mine.yaml")


def test_a_class_that_cannot_occur_is_told() -> None:
    (high, _) = class_shares(game_with_bounds(above=100)).notes()
    assert high == "class 'High' cannot occur: no causal values lead to it; change its bounds or the coefficients"


def test_a_class_of_a_game_of_reals_is_looked_for_in_draws() -> None:
    spec = spec_of("cancer_risk")
    del spec["attributes"][0]["integers"]
    spec["attributes"][0].update(uniform=[1, 10], decimals=3)
    shares = class_shares(parse_game(spec, "mine.yaml"))
    assert not shares.exact and shares == class_shares(parse_game(spec, "mine.yaml"))
    assert shares.notes() == [
        "class 'Middle' did not occur in 20,000 draws; change its bounds or the coefficients"
    ] or ("of drawn causal values" in shares.notes()[0])
    assert shares.shares["High"] == pytest.approx(class_shares(load_game("cancer_risk")).shares["High"], abs=0.03)


def test_the_command_tells_of_a_rare_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train-size", "30", "--validation-size", "10", "--test-size", "20"]
    assert run_cli("--out", str(tmp_path / "out"), "--json", *sizes) == 0
    out, err = capsys.readouterr()
    assert "class 'Middle' is rare: 0.20% of all causal values" in err
    assert json.loads(out)["class_shares"]["Middle"] == 0.002
