"""The report on annotated data: counts that add up, the page, the tables, and the three commands."""

from __future__ import annotations

import argparse
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reports import Page

from cattune.annotation.report import Distribution, annotation_report
from cattune.cli import annotations as command
from cattune.data.examples import FAILED, METHODS, OUTVOTED, STATUSES, CausalLink, Example, Message, RefusedLink, Span
from cattune.errors import CattuneError, ConfigError, DataError, OutputError
from cattune.formats.loading import load_examples, save_examples
from cattune.grounding.links import CAUSE_MISSING, EFFECT_MISSING
from cattune.reports.annotation_tables import print_join, print_report, print_rules
from cattune.reports.annotations import finding, interval, number, render_annotations, worth
from cattune.tasks.stg import load_game, make_split

PROMPT = "Ann has 4 pens, and 4 hats. "


def at(start: int, end: int, field: str = "prompt") -> Span:
    return Span(field, start, end)


def small() -> list[Example]:
    whole = CausalLink(at(0, 1, "completion"), (at(8, 9), at(20, 21)), 0.5, "model", "fuzzy", 0.9, "accepted")
    inner = CausalLink(at(8, 14), (at(0, 3), at(4, 9)), source="rule")
    outvoted = RefusedLink("4 pens", "Ann", OUTVOTED, CausalLink(at(8, 14), (at(0, 3),)))
    return [
        Example("a", PROMPT, "8", links=(whole, inner)),
        Example("b", PROMPT, "8", links=(inner,), refused=(RefusedLink("9", None, EFFECT_MISSING),)),
        Example("c", PROMPT, "8", refused=(outvoted, RefusedLink("8", "5", CAUSE_MISSING))),
        Example("d", PROMPT, "8"),
    ]


def test_a_small_file_counted_by_hand() -> None:
    report = annotation_report(small()).to_dict()
    assert report["examples"] == {"n": 4, "with_links": 2, "with_answer_links": 1, "without_links": 2, "failed": 1}
    links = report["links"]
    assert (links["n"], links["causes"]) == (3, 6)
    assert links["per_example"]["mean"] == 0.75
    assert links["statuses"] == {"proposed": 2, "accepted": 1}
    assert links["sources"] == {"rule": 2, "model": 1}
    assert links["weights"]["quantiles"]["0"] == 0.5
    grounding = report["grounding"]
    assert grounding["methods"] == {"exact": 2, "loose": 0, "fuzzy": 1}
    assert grounding["scores"]["n"] == 1 and grounding["scores"]["mean"] == 0.9
    # In a: 8, 4, 4, "4 pens", Ann, "has 4"; in b the last three. Only the number stands twice.
    assert (grounding["spans"], grounding["ambiguous"]) == (9, 2)
    assert report["refused"] == {
        "links": {EFFECT_MISSING: 1},
        "causes": {CAUSE_MISSING: 1, OUTVOTED: 1},
        "recoverable": 1,
    }
    assert report["order"] == {"fields": {"prompt -> prompt": 4, "prompt -> completion": 2}, "overlapping": 2}
    distance = report["lengths"]["distance"]
    # "Ann" to "4 pens" 5, twice; "has 4" into it 0, twice; the fours to the answer 28 - 9 and 28 - 21.
    assert distance["mean"] == pytest.approx((5 * 2 + 0 * 2 + 19 + 7) / 6)
    assert distance["quantiles"] == {"0": 0, "0.05": 0, "0.25": 0, "0.5": 5, "0.75": 7, "0.95": 19, "1": 19}
    assert report["reference"] is None


def test_a_number_inside_another_is_not_the_same_text_again() -> None:
    link = CausalLink(at(0, 1, "completion"), (at(0, 1), at(2, 4)))
    report = annotation_report([Example("e", "4 14 44 pens and 14", "8", links=(link,))])
    assert (report.spans, report.ambiguous) == (3, 1)


def test_agreement_with_a_reference() -> None:
    reference = [replace(small()[0], links=small()[0].links[:1]), *small()[1:3], Example("z", "x", "y")]
    record = annotation_report(small(), reference).to_dict()["reference"]
    assert (record["examples"], record["only_in_file"], record["only_in_reference"]) == (3, 1, 1)
    assert record["edges"] == {"both": 4, "file": 6, "reference": 4}
    assert (record["precision"], record["recall"]) == (4 / 6, 1)
    assert record["edge_f1"]["value"] == 0.8
    with pytest.raises(DataError, match="not the same in this file and in reference"):
        annotation_report(small(), [Example("a", "other", "8")])


# Beside trivial rules

STORY = "Ann had 4 pens and 12 hats. She buys 2 pens. How many pens?"


def story(index: int, *causes: str, failed: bool = False, completion: str = "6") -> Example:
    """Its answer depends on these phrases."""
    spans = tuple(Span("prompt", STORY.index(cause), STORY.index(cause) + len(cause)) for cause in causes)
    links = (CausalLink(Span("completion", 0, 1), spans),) if spans else ()
    refused = (RefusedLink("", None, f"{FAILED}truncated"),) if failed else ()
    return Example(f"s{index}", STORY, completion, links=links, refused=refused)


def beside(file: list[Example], reference: list[Example]) -> dict[str, Any]:
    record: dict[str, Any] = annotation_report(file, reference).to_dict()["reference"]["trivial"]
    return record


def test_the_trivial_rules_stand_beside_the_file() -> None:
    reference = [story(i, "4 pens", "buys 2") for i in range(12)]
    record = beside([story(i, "4", "buys 2 pens", "hats") for i in range(12)], reference)
    assert (record["examples"], record["with_numbers"]) == (12, 12)
    assert list(record["scores"]) == ["this file", "every number", "every content word"]
    scores = [(s["precision"], s["recall"], s["f1"]["value"], s["numbers"]["value"]) for s in record["scores"].values()]
    assert scores == [
        (3 / 5, 3 / 4, pytest.approx(6 / 9), 1),
        (2 / 3, 2 / 4, pytest.approx(4 / 7), 0),
        (4 / 10, 1, pytest.approx(8 / 14), 0),
    ]
    assert record["words"]["verdict"] == record["numbers"]["verdict"] == "better"
    assert record["words"]["difference"]["value"] == pytest.approx(6 / 9 - 4 / 7)


def test_which_is_better_is_told_by_a_paired_interval() -> None:
    reference = [story(i, "4 pens", "buys 2") for i in range(40)]
    verdicts = {}
    for right in (0, 20, 40):
        named = [("4 pens", "buys 2") if i < right else ("12 hats",) for i in range(40)]
        verdicts[right] = beside([story(i, *causes) for i, causes in enumerate(named)], reference)["words"]["verdict"]
    assert verdicts == {0: "worse", 20: "not told apart", 40: "better"}


def rule(index: int) -> Example:
    """What the rule that every number is a cause would name."""
    spans = tuple(Span("prompt", match.start(), match.end()) for match in re.finditer(r"\d+", STORY))
    return replace(story(index), links=(CausalLink(Span("completion", 0, 1), spans),))


def test_a_file_that_is_the_rule_is_not_told_apart_from_it() -> None:
    record = beside([rule(i) for i in range(40)], [story(i, "4 pens", "12") for i in range(40)])
    assert record["words"]["verdict"] == record["numbers"]["verdict"] == "not told apart"
    assert record["words"]["difference"]["value"] == 0


def test_a_cause_that_begins_behind_a_word_does_not_name_it() -> None:
    reference = [story(i, "4", "buys 2") for i in range(12)]
    file = [story(i, " pens and", "buys 2") for i in range(12)]
    score = beside(file, reference)["scores"]["this file"]
    assert (score["precision"], score["recall"]) == (2 / 4, 2 / 3)


def test_what_the_file_failed_on_counts_as_nothing_named() -> None:
    reference = [story(i, "4 pens", "buys 2") for i in range(12)]
    file = [story(0, "4 pens", "buys 2"), *(story(i, failed=True) for i in range(1, 12))]
    record = beside(file, reference)
    assert record["examples"] == 12
    assert record["scores"]["this file"]["recall"] == pytest.approx(1 / 12)
    assert record["words"]["verdict"] == "worse"


def test_few_examples_tell_nothing() -> None:
    reference = [story(i, "4 pens", "buys 2") for i in range(9)]
    record = beside(reference, reference)
    assert record["words"]["verdict"] == "too few examples"
    assert "of too few examples to tell" in worth({"trivial": record})


def test_texts_without_numbers_among_the_causes() -> None:
    reference = [story(i, "How many") for i in range(12)]
    record = beside(reference, reference)
    assert (record["with_numbers"], record["numbers"]) == (0, None)
    assert record["scores"]["every number"]["precision"] == 0
    assert "numbers" not in worth({"trivial": record}).replace("every number", "")


def test_a_reference_that_explains_no_answer_has_nothing_to_compare() -> None:
    link = CausalLink(Span("prompt", 8, 14), (Span("prompt", 0, 3),))
    reference = [replace(story(0), links=(link,))]
    report = annotation_report([story(0, "4 pens")], reference).to_dict()
    assert report["reference"]["trivial"] is None
    assert worth(report["reference"]) == ""
    Page(render_annotations(report, "x", {}))


def test_the_page_and_the_table_say_whether_it_is_better() -> None:
    reference = [story(i, "4 pens", "buys 2") for i in range(12)]
    report = annotation_report(reference, reference).to_dict()
    said = worth(report["reference"])
    assert said == (
        "On the words that the answer depends on (F1), this file is better than the best trivial rule, every number: "
        "1.000 against 0.571, difference 0.429 [0.429, 0.429]; on naming just the right numbers (share of examples), "
        "this file is better than the best trivial rule, every number: 1.000 against 0.000, difference 1.000 [1.000, "
        "1.000]."
    )
    page = render_annotations(report, "x", {})
    Page(page)
    out = io.StringIO()
    print_report(report, out)
    for shown in (page, " ".join(out.getvalue().split())):
        assert said in shown
        assert "On 12 examples, 12 of them with numbers: the words of the prompt" in shown
        assert "every content word" in shown


def test_conversations_have_a_completion_too() -> None:
    turns = (Message("user", "2 and 3"), Message("assistant", "so 5"))
    link = CausalLink(Span("messages[1].content", 3, 4), (Span("messages[0].content", 0, 1),))
    report = annotation_report([Example("e", messages=turns, links=(link,))]).to_dict()
    assert report["order"]["fields"] == {"prompt -> completion": 1}
    assert report["examples"]["with_answer_links"] == 1
    assert report["lengths"]["distance"]["mean"] == 7 - 1 + 3


spans = st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda p: at(p[0], p[0] + p[1]))
links = st.builds(
    CausalLink,
    st.just(at(0, 1, "completion")),
    st.lists(spans, min_size=1, max_size=3),
    st.sampled_from([0.25, 1.0]),
    st.sampled_from(["rule", "model"]),
    st.sampled_from(METHODS),
    st.sampled_from([0.5, 1.0]),
    st.sampled_from(STATUSES),
)
refusals = st.builds(RefusedLink, st.just("8"), st.none() | st.just("4"), st.sampled_from(["x", "y"]))
examples = st.lists(
    st.builds(
        lambda some, refused: Example("e", PROMPT, "8", links=some, refused=refused),
        st.lists(links, max_size=3),
        st.lists(refusals, max_size=3),
    ),
    max_size=6,
).map(lambda made: [replace(example, id=f"e{i}") for i, example in enumerate(made)])


@settings(max_examples=100, deadline=None)
@given(examples, examples)
def test_counts_add_up_and_can_be_shown(made: list[Example], reference: list[Example]) -> None:
    report = annotation_report(made, reference or None)
    record = report.to_dict()
    assert record["examples"]["n"] == len(made)
    assert report.with_links + report.without_links == report.examples
    assert report.failed <= report.without_links and report.with_answer_links <= report.with_links
    n, causes = record["links"]["n"], record["links"]["causes"]
    assert (
        n
        == sum(len(e.links) for e in made)
        == report.links_per_example.total() * 0 + sum(k * c for k, c in report.links_per_example.items())
    )
    for counts in (report.methods, report.statuses, report.sources, report.weights, report.causes_per_link):
        assert counts.total() == n
    for counts in (report.order, report.distances, report.cause_lengths):
        assert counts.total() == causes
    refused = report.refused_links.total() + report.refused_causes.total()
    assert refused == sum(len(e.refused) for e in made)
    Page(render_annotations(json.loads(json.dumps(record)), "x", {}))
    print_report(record, io.StringIO())


@given(st.lists(st.integers(-3, 9), min_size=1, max_size=40))
def test_quantiles_are_the_least_values_with_that_share(values: list[int]) -> None:
    summary = Distribution(values).summary()
    assert summary is not None
    ordered = sorted(values)
    assert summary["n"] == len(values)
    for q, value in summary["quantiles"].items():
        share = float(q)
        assert sum(v <= value for v in ordered) >= share * len(ordered)
        assert value == ordered[0] or sum(v < value for v in ordered) < share * len(ordered)
    assert Distribution().summary() is None


def test_the_page_holds_every_figure_and_no_text_does_harm() -> None:
    nasty = '<script>alert("1")</script>\u202e'
    made = [replace(small()[0], links=tuple(replace(link, source=nasty) for link in small()[0].links)), *small()[1:]]
    made[2] = replace(made[2], refused=(RefusedLink("8", None, nasty),))
    record = annotation_report(made, small()).to_dict()
    text = render_annotations(record, nasty, {"cattune": "0", "config": {"a": nasty}})
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.elements}
    assert "\u202e" not in text.split("<footer>")[0].split("</title>")[1]
    words = " ".join(" ".join(page.texts).split())
    assert finding(record) in words and "4 examples, 50.0% with causal links: 3 links with 6 causes" in words
    for figure in (interval(record["reference"]["edge_f1"]), interval(record["reference"]["alpha"]), "Coverage"):
        assert figure in words
    assert "http" not in text.replace("http-equiv", "").lower()


def test_a_file_without_links_has_a_page_and_tables() -> None:
    record = annotation_report([Example("d", PROMPT, "8")]).to_dict()
    assert "1 example, none with a causal link" in render_annotations(record, "x", {})
    out = io.StringIO()
    print_report(record, out)
    assert "1 example, none" in out.getvalue()


def test_numbers_in_few_digits() -> None:
    assert [number(v) for v in (None, 0, 3.0, 0.98765, 12.34, 1234.5, 12345)] == [
        "-",
        "0",
        "3",
        "0.988",
        "12.3",
        "1,234",
        "12,345",
    ]
    assert interval({"value": None, "low": None, "high": None}) == "-"


def cattune(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["annotations", *map(str, words)])
    status: int = args.run(args)
    return status


@pytest.fixture
def game(tmp_path: Path) -> Path:
    """A file of the game, as it is, and one without links."""
    made = make_split(load_game("cancer_risk"), "train", 30, 0)
    save_examples(tmp_path / "game.jsonl", made)
    save_examples(tmp_path / "bare.jsonl", [replace(example, links=()) for example in made])
    return tmp_path


def test_rules_command(game: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cattune("rules", game / "bare.jsonl", "--rules", "cancer_risk", "--out", game / "out.jsonl") == 0
    assert load_examples(game / "out.jsonl") == load_examples(game / "game.jsonl")
    assert "30 examples, 30 with links" in capsys.readouterr().out
    with pytest.raises(OutputError, match="--overwrite"):
        cattune("rules", game / "bare.jsonl", "--rules", "cancer_risk", "--out", game / "out.jsonl")
    own = game / "own.yaml"
    own.write_text("patterns: {answer: {in: completion, regex: .+}}\nedges: {answer: [answer]}\n")
    for inputs, out in ((("bare.jsonl", "cancer_risk"), "bare.jsonl"), (("bare.jsonl", own), "own.yaml")):
        with pytest.raises(OutputError, match="input file"):
            cattune("rules", game / inputs[0], "--rules", inputs[1], "--out", game / out, "--overwrite")
    assert cattune("rules", game / "game.jsonl", "--rules", "cancer_risk", "--out", game / "b.jsonl", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["replaced"] == 30 and "30 examples had links already" in captured.err


def test_rules_that_make_no_link_write_nothing(game: Path) -> None:
    with pytest.raises(ConfigError, match="no rule made a link in .*30 examples.*match nowhere: traffic, rust, salt"):
        cattune("rules", game / "bare.jsonl", "--rules", "bridge_repair", "--out", game / "out.jsonl")
    assert not (game / "out.jsonl").exists()


def test_a_misspelt_pattern_is_reported(game: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (game / "r.yaml").write_text(
        "patterns:\n  answer: {in: completion, regex: .+}\n  s: {attribute: Smoking}\n  w: {attribute: Wieght}\n"
        "edges:\n  answer: [s, w]\n"
    )
    assert cattune("rules", game / "bare.jsonl", "--rules", game / "r.yaml", "--out", game / "out.jsonl") == 0
    assert 'the pattern "w" matches no example' in capsys.readouterr().err


def test_join_command(game: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = load_examples(game / "game.jsonl")
    fewer = [replace(e, links=tuple(replace(link, causes=link.causes[:2]) for link in e.links)) for e in other]
    save_examples(game / "fewer.jsonl", fewer[:20])
    files = game / "game.jsonl", game / "fewer.jsonl"
    assert cattune("join", *files, "--out", game / "out.jsonl", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["counts"]["missing"] == {"game": 0, "fewer": 10}
    assert record["counts"]["confidences"] == {"1": 70, "0.5": 20}
    assert record["agreement"]["pairs"][0]["edges"] == [40, 60, 40]
    joined = load_examples(game / "out.jsonl")
    assert [link.weight for link in joined[0].links] == [1.0, 0.5]
    assert joined[0].links[1].source == "consensus of game"
    options = "--overwrite", "--weight", f"{files[0]}=3", "--threshold", "0.7"
    assert cattune("join", *files, "--out", game / "out.jsonl", *options) == 0
    assert "with confidence 0.75" in capsys.readouterr().out
    (game / "other").mkdir()
    save_examples(game / "other" / "game.jsonl", other)
    assert cattune("join", files[0], game / "other" / "game.jsonl", "--out", game / "twice.jsonl") == 0
    assert load_examples(game / "twice.jsonl")[0].links[0].source == f"consensus of other/game, {game.name}/game"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["game.jsonl"], ConfigError, "two annotations or more"),
        (["game.jsonl", "./game.jsonl"], ConfigError, "given twice"),
        (["game.jsonl", "bare.jsonl", "--weight", "x=2"], ConfigError, "one of the files that are joined"),
        (["game.jsonl", "bare.jsonl", "--weight", "game.jsonl"], ConfigError, "expected FILE=NUMBER"),
        (["game.jsonl", "bare.jsonl", "--weight", "game.jsonl=much"], ConfigError, "expected FILE=NUMBER"),
        (["game.jsonl", "bare.jsonl", "--weight", "game.jsonl=nan"], ConfigError, "finite number > 0"),
        (["game.jsonl", "bare.jsonl", "--threshold", "0"], ConfigError, "threshold"),
        (["game.jsonl", "bare.jsonl", "--threshold", "0.6"], DataError, "no edge has a confidence of 0.6 or more"),
        (["game.jsonl", "missing.jsonl"], DataError, "does not exist"),
        (["game.jsonl", "others.jsonl"], DataError, 'nothing to compare.*"other"'),
    ],
)
def test_joins_that_cannot_be(
    game: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], error: type[CattuneError], message: str
) -> None:
    monkeypatch.chdir(game)
    save_examples("others.jsonl", [Example("other", "a", "b")])
    with pytest.raises(error, match=message):
        cattune("join", *words, "--out", "out.jsonl")
    assert not (game / "out.jsonl").exists()


FAILURE = RefusedLink("", None, f"{FAILED}no_json")


def failed(example: Example) -> Example:
    return replace(example, links=(), refused=(FAILURE,))


@pytest.mark.parametrize(("in_a", "in_b"), [(30, 0), (0, 30), (30, 30), (20, 10)])
def test_a_join_of_files_whose_examples_failed_says_so(game: Path, in_a: int, in_b: int) -> None:
    """Not that ids differ: they are the same."""
    examples = load_examples(game / "game.jsonl")
    save_examples(game / "a.jsonl", [failed(e) if i < in_a else e for i, e in enumerate(examples)])
    save_examples(game / "b.jsonl", [failed(e) if i >= 30 - in_b else e for i, e in enumerate(examples)])
    with pytest.raises(DataError, match="30 examples stand in two or more of the files") as caught:
        cattune("join", game / "a.jsonl", game / "b.jsonl", "--out", game / "out.jsonl")
    assert "ids" not in str(caught.value)
    for name, count in (("a", in_a), ("b", in_b)):
        assert (f"{count} of them failed in {name}" in str(caught.value)) == (count > 0)


def test_a_join_of_files_without_links_says_so(game: Path) -> None:
    (game / "again.jsonl").write_bytes((game / "bare.jsonl").read_bytes())
    with pytest.raises(DataError, match="no file has a causal link"):
        cattune("join", game / "bare.jsonl", game / "again.jsonl", "--out", game / "out.jsonl")


def test_examples_that_failed_in_part_are_no_votes_against(game: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = load_examples(game / "game.jsonl")
    save_examples(game / "a.jsonl", [failed(e) if i < 12 else e for i, e in enumerate(examples)])
    assert cattune("join", game / "a.jsonl", game / "game.jsonl", "--out", game / "out.jsonl") == 0
    assert re.search(r"missing in a +12\b", capsys.readouterr().out)
    assert all(link.weight == 1 for example in load_examples(game / "out.jsonl") for link in example.links)


def test_a_reference_of_other_examples(game: Path) -> None:
    save_examples(game / "others.jsonl", [Example("other", "a", "b")])
    with pytest.raises(DataError, match="nothing to compare"):
        cattune("report", game / "game.jsonl", "--reference", game / "others.jsonl")


def test_report_command(game: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = game / "page.html"
    words = "report", game / "game.jsonl", "--reference", game / "bare.jsonl", "--html", page
    assert cattune(*words) == 0
    assert "30 examples, 100.0% with causal links: 30 links with 90 causes" in capsys.readouterr().out
    Page(page.read_text(encoding="utf-8"))
    assert "game.jsonl" in page.read_text(encoding="utf-8")
    with pytest.raises(OutputError, match="--overwrite"):
        cattune(*words)
    assert cattune(*words, "--overwrite", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["reference"]["recall"] is None and record["reference"]["edge_f1"]["value"] == 0
    assert record["provenance"]["config"]["file"].endswith("game.jsonl")


def test_tables_show_no_control_characters() -> None:
    record = {
        "examples": 1, "with_links": 1, "links": 1, "matched": {"a\x1b[31m": 1}, "missing": {"b.c\n": 1},
        "refused": {"x\x07": 1},
    }  # fmt: skip
    out = io.StringIO()
    print_rules(record, out)
    assert "\x1b" not in out.getvalue() and "\x07" not in out.getvalue()
    figure = {"value": 0.5, "low": 0.25, "high": 1.0}
    pair = {"first": "a\x1b", "second": "b", "examples": 2, "edge_f1": figure, "link_f1": figure}
    counts = {
        "kept": 0,
        "outvoted": 0,
        "rejected": 0,
        "confidences": {},
        "annotations": {"2": 1},
        "missing": {"a\x1b": 1},
    }
    counts |= {"examples": 1, "metadata_differ": 1}
    out = io.StringIO()
    print_join({"agreement": {"pairs": [pair], "alpha": figure, "units": 4}, "counts": counts}, out)
    assert "\x1b" not in out.getvalue() and "0.500 [0.250, 1.000]" in out.getvalue()
