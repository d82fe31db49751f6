"""Rules: the game's links from the text alone, every way of missing, every mistake in the YAML, bounded time."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.annotation.rules import apply as rules_module
from cattune.annotation.rules.apply import (
    CAUSE_AMBIGUOUS,
    CAUSE_NOT_FOUND,
    EFFECT_AMBIGUOUS,
    EFFECT_NOT_FOUND,
    Part,
    RuleReport,
    RuleSet,
    annotate_all,
    annotate_by_rules,
    apply_rules,
)
from cattune.annotation.rules.file import BUILT_IN, attribute_regex, load_rules, parse_rules
from cattune.data.examples import Example, Message
from cattune.errors import CattuneError, ConfigError
from cattune.formats.loading import load_examples
from cattune.grounding.links import CAUSE_IS_EFFECT, CAUSE_LATE, NO_CAUSE_LEFT
from cattune.tasks.stg import SIZES, SPLITS, load_game, make_split

ANSWER = "answer: {in: completion, regex: '.+'}"


def rules_of(patterns: str, edges: str) -> RuleSet:
    indented = "\n".join(f"  {line}" for line in patterns.strip().splitlines())
    return parse_rules(f"patterns:\n{indented}\nedges:\n  {edges}\n", "rules.yaml")


def found(rules: RuleSet, example: Example) -> list[tuple[str, list[str]]]:
    links = apply_rules(rules, example).links
    return [(example.text_of(link.effect), [example.text_of(cause) for cause in link.causes]) for link in links]


def refused(rules: RuleSet, example: Example) -> list[tuple[str, str | None, str]]:
    return [(entry.effect, entry.cause, entry.reason) for entry in apply_rules(rules, example).refused]


def values_only(rules: RuleSet) -> RuleSet:
    return replace(
        rules, edges=tuple((e, tuple(Part(c.pattern, "value") for c in causes)) for e, causes in rules.edges)
    )


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("links", ["phrases", "values"])
def test_rules_reproduce_the_generators_links(name: str, links: str) -> None:
    rules = load_rules(name) if links == "phrases" else values_only(load_rules(name))
    game = load_game(name)
    for seed in (0, 1, 7):
        for split in SPLITS:
            for example in make_split(game, split, 60, seed, links=links):
                assert annotate_by_rules(rules, replace(example, links=())) == example


@pytest.mark.parametrize("size", ["s", "m", "l", "h"])
def test_rules_reproduce_the_published_links(published_data: Path, size: str) -> None:
    examples = load_examples(published_data / f"stg_{size}_train.jsonl")
    rules = load_rules(SIZES[size][0])
    if size == "h":  # there the published causes are the values alone
        rules = values_only(rules)
    for example in examples:
        ours, theirs = (
            {(link.effect, cause) for link in links for cause in link.causes}
            for links in (apply_rules(rules, example).links, example.links)
        )
        assert ours == theirs


def test_groups_places_and_matches() -> None:
    rules = rules_of(
        r"""
has: {regex: '(?P<who>\w+) has (?P<n>\d+)'}
numbers: {regex: '\d+', matches: all}
final: {regex: '\d+', matches: last}
initial: {regex: '\d+', matches: first}
answer: {in: completion, regex: '\d+'}
""",
        "{answer: [numbers], has.n: [has.who], final: [initial]}",
    )
    example = Example("e", "Ann has 4 pens and 2 hats.", "So 6.")
    assert found(rules, example) == [("6", ["4", "2"]), ("4", ["Ann"]), ("2", ["4"])]
    assert refused(rules, example) == []


def test_an_effect_with_several_matches_gives_a_link_each() -> None:
    rules = rules_of(r"n: {in: completion, regex: '\d', matches: all}" "\n" r"q: {regex: '\d'}", "n: [q]")
    assert found(rules, Example("e", "is 3", "4 or 5")) == [("4", ["3"]), ("5", ["3"])]


def test_roles_choose_among_messages() -> None:
    turns = (Message("system", "Rust: 1"), Message("user", "Rust: 2"), Message("assistant", "Rust: 3"))
    talk = Example("e", messages=(*turns, Message("user", "Rust: 4"), Message("assistant", "done")))
    patterns = ANSWER + "\nrust: {in: %s, attribute: Rust, matches: all}"
    for place, values in {
        "system": ["Rust: 1"],
        "user": ["Rust: 2", "Rust: 4"],
        "assistant": ["Rust: 3"],
        "prompt": [f"Rust: {n}" for n in (1, 2, 3, 4)],
    }.items():
        assert found(rules_of(patterns % place, "answer: [rust]"), talk) == [("done", values)]
    assert (
        refused(rules_of(patterns % "user", "answer: [rust]"), Example("e", "Rust: 1", "done"))[0][2] == CAUSE_NOT_FOUND
    )


def test_what_is_missing_is_refused_with_the_reason_and_the_rest_stays() -> None:
    rules = rules_of(ANSWER + "\nrust: {attribute: Rust}\nsalt: {attribute: Salt}", "answer: [rust, salt.value]")
    assert found(rules, Example("e", "Rust: 1", "yes")) == [("yes", ["Rust: 1"])]
    assert refused(rules, Example("e", "Rust: 1", "yes")) == [("yes", "salt.value", CAUSE_NOT_FOUND)]
    assert refused(rules, Example("e", "none", "yes")) == [
        ("yes", "rust", CAUSE_NOT_FOUND),
        ("yes", "salt.value", CAUSE_NOT_FOUND),
        ("yes", None, NO_CAUSE_LEFT),
    ]
    assert refused(rules, Example("e", "Rust: 1, Salt: 2", "")) == [("answer", None, EFFECT_NOT_FOUND)]
    twice = Example("e", "Rust: 1, Salt: 2, Rust: 3", "yes")
    assert found(rules, twice) == [("yes", ["2"])]
    assert refused(rules, twice) == [("yes", "rust", CAUSE_AMBIGUOUS)]


def test_ambiguous_effects_and_causes_out_of_order_are_refused() -> None:
    late = rules_of(ANSWER + "\na: {regex: 'a'}\nb: {regex: 'b'}", "{a: [b], answer: [b]}")
    assert refused(late, Example("e", "a b", "yes")) == [("a", "b", CAUSE_LATE), ("a", None, NO_CAUSE_LEFT)]
    same = rules_of(r"a: {in: completion, regex: 'x'}" "\n" r"b: {in: completion, regex: '[xy]'}", "a: [b]")
    assert refused(same, Example("e", "", "x"))[0] == ("x", "x", CAUSE_IS_EFFECT)
    twice = rules_of(r"a: {in: completion, regex: '\d'}" "\n" "b: {regex: b}", "a: [b]")
    assert refused(twice, Example("e", "b", "1 2")) == [("a", None, EFFECT_AMBIGUOUS)]
    before = rules_of(r"n: {regex: '\d', matches: all}" "\n" "m: {regex: m}", "m: [n]")
    assert found(before, Example("e", "1 2 m 3", "")) == [("m", ["1", "2"])]
    assert refused(before, Example("e", "1 2 m 3", "")) == []


def test_a_group_without_part_in_the_match_is_missing() -> None:
    rules = rules_of(ANSWER + "\nn: {regex: 'a(?P<sign>-)?(?P<empty>)'}", "answer: [n, n.sign, n.empty]")
    assert [cause for _, cause, _ in refused(rules, Example("e", "a", "yes"))] == ["n.sign", "n.empty"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rust: 5", "5"),
        ("Report. Rust: -6.9, Salt: 2", "-6.9"),
        ("Rust: 41.9%; Salt: 2", "41.9%"),
        ("Rust: 12 Answer: ", "12"),
        ("- Rust: 23rd.\n- Salt: 1", "23rd"),
        ("| Rust | 1,204 | Salt |", "1,204"),
        ('{"Rust": "very much", "Salt": 1}', "very much"),
        ("Rust: some-college, Salt: 1", "some-college"),
        ("Rust=high. Salt=low", "high"),
        ("**Rust:** 3", "3"),
        ("Rust: 3.\n", "3"),
        ("Rust: nothing to see.", "nothing to see"),
        ("(Rust: 铁锈)", "铁锈"),
    ],
)
def test_attributes_of_many_forms(text: str, value: str) -> None:
    rules = rules_of(ANSWER + "\nrust: {attribute: Rust}", "answer: [rust.value]")
    assert found(rules, Example("e", text, "yes")) == [("yes", [value])]


@pytest.mark.parametrize(
    "text",
    [
        "Red Rust: 5",
        "non-Rust: 5",
        "Rust, Salt: 5",
        "Rust history: 5",
        "rust: 5",
        "Rusty: 5",
        "Rust: ",
        "Rust 5",
        "Rust\n: 5",
    ],
)
def test_what_is_no_attribute_is_not_found(text: str) -> None:
    rules = rules_of(ANSWER + "\nrust: {attribute: Rust}", "answer: [rust]")
    assert found(rules, Example("e", text, "yes")) == []


def test_a_value_of_ones_own() -> None:
    rules = rules_of(
        ANSWER
        + r"""
weight: {attribute: Weight, value: '\d+ kg'}""",
        "answer: [weight]",
    )
    assert found(rules, Example("e", "Weight: 70 kg", "yes")) == [("yes", ["Weight: 70 kg"])]


@given(st.text(max_size=60), st.text(alphabet="Rust:=| -5.%,;\n()", max_size=40))
def test_any_text_is_annotated_without_an_error(text: str, cells: str) -> None:
    rules = rules_of(ANSWER + "\nrust: {attribute: Rust}", "answer: [rust]")
    try:
        example = Example("e", text + cells, text)
    except CattuneError:
        return
    outcome = apply_rules(rules, example)
    assert len(outcome.links) + sum(entry.cause is None for entry in outcome.refused) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edges: {a: [b]}", "'patterns' is missing"),
        ("patterns: {a: {regex: x}}", "'edges' is missing"),
        ("patterns: {}\nedges: {a: [b]}", "at least one PATTERN"),
        ("patterns: {a: {regex: x}}\nedges: {}", "at least one EFFECT"),
        ("patterns: {a: {regex: x}}\nedges: {a: [b]}", "no pattern .b..*the patterns are a"),
        ("patterns: {a: {regex: x}}\nedges: {b: [a]}", "no pattern .b."),
        ("patterns: {a: {regex: x}}\nedges: {a: [a]}", "other than the effect itself"),
        ("patterns: {a: {regex: x}, b: {regex: y}}\nedges: {a: [b, b]}", "every cause once"),
        ("patterns: {a: {regex: x}, b: {regex: y}}\nedges: {a: b}", "a list"),
        ("patterns: {a: {regex: x}, b: {regex: y}, c: {regex: z}}\nedges: {a: [b]}", '"c" stands in no edge'),
        ("patterns: {a: {regex: '('}, b: {regex: y}}\nedges: {a: [b]}", r"patterns.a.regex: expected a regular expr"),
        ("patterns: {a: {regex: 'x*'}, b: {regex: y}}\nedges: {a: [b]}", "at least one character"),
        ("patterns: {a: {attribute: X, value: '('}, b: {regex: y}}\nedges: {a: [b]}", "a.value: expected a regular"),
        ("patterns: {a: {attribute: X, regex: x}, b: {regex: y}}\nedges: {a: [b]}", 'unknown key "regex"'),
        ("patterns: {a: {in: prompt}, b: {regex: y}}\nedges: {a: [b]}", "'regex' is missing"),
        ("patterns: {a: {regex: x, in: promt}, b: {regex: y}}\nedges: {a: [b]}", "one of prompt, completion"),
        ("patterns: {a: {regex: x, matches: any}, b: {regex: y}}\nedges: {a: [b]}", "one of one, first, last, all"),
        ("patterns: {a: {regex: '(?P<n>x)'}, b: {regex: y}}\nedges: {b: [a.m]}", "no group .m.*groups are n"),
        ("patterns: {a: {regex: x}, b: {regex: y}}\nedges: {b: [a.m]}", "no group .m.; write one as"),
        ("patterns: {a.b: {regex: x}, b: {regex: y}}\nedges: {b: [a.b]}", "letters, digits and '_'"),
        ("patterns: {a: {regex: x}, a: {regex: y}}\nedges: {a: [a]}", "given twice"),
        ("patterns: [a]\nedges: {a: [a]}", "a mapping"),
        ("patterns: {a: x}\nedges: {a: [a]}", "patterns.a: expected a mapping"),
        ("patterns: {[a]: x}\nedges: {a: [a]}", "rules.yaml"),
        (": - :", "not valid YAML|expected"),
        ("", "empty"),
        ("patterns: {a: {regex: x}}\nedges: {a: [b]}\nmore: 1", "unknown key"),
    ],
)
def test_mistakes_in_the_yaml_are_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        parse_rules(text, "rules.yaml")
    assert str(error.value).startswith("rules.yaml")


@settings(max_examples=200)
@given(st.text(max_size=80) | st.text(alphabet="patternsedg:{}[], abrx'\n()*+", max_size=80))
def test_no_yaml_text_raises_anything_but_a_config_error(text: str) -> None:
    try:
        parse_rules(text, "rules.yaml")
        parse_rules(f"patterns: {{a: {{regex: {text!r}}}, b: {{regex: b}}}}\nedges: {{a: [b]}}", "rules.yaml")
    except ConfigError:
        pass


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_rules(tmp_path / "bad.yaml")
    with pytest.raises(ConfigError, match="packaged rules: air_quality, bridge_repair, cancer_risk"):
        load_rules("cancer_rsk")
    with pytest.raises(ConfigError, match="cannot read the rules"):
        load_rules("a\0b")


def test_a_pattern_that_backtracks_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "TIME_LIMIT", 0.2)
    rules = rules_of(ANSWER + "\nslow: {regex: '(a|aa)+$'}", "answer: [slow]")
    start = time.process_time()
    with pytest.raises(
        ConfigError, match='"slow" took more than 0.2 s on the 201 characters of prompt in example "e7"'
    ):
        apply_rules(rules, Example("e7", "a" * 200 + "b", "yes"))
    assert time.process_time() - start < 5


def test_a_pattern_that_takes_all_memory_stops_the_run() -> None:
    class CallsItself:  # (?R)*a takes a gigabyte before it fails
        def finditer(self, text: str, timeout: float) -> None:
            raise MemoryError

    rules = rules_of(ANSWER + "\nwide: {regex: 'a+'}", "answer: [wide]")
    wide = dataclasses.replace(rules.patterns["wide"], regex=CallsItself())
    rules = dataclasses.replace(rules, patterns={**rules.patterns, "wide": wide})
    with pytest.raises(ConfigError, match='"wide" took all memory on prompt in example "e7"'):
        apply_rules(rules, Example("e7", "a", "yes"))


def test_attributes_are_linear_in_the_text() -> None:
    rules = rules_of(ANSWER + "\nrust: {attribute: Rust}", "answer: [rust]")
    for filler in ("Rust: ", "Rust: a ", " ", "Rust | ", "-", "Rust: 5,5,"):
        start = time.process_time()
        apply_rules(rules, Example("e", filler * (20_000 // len(filler)), "yes"))
        assert time.process_time() - start < 1, filler


def test_the_report_adds_up_and_names_patterns_that_match_nowhere() -> None:
    rules = rules_of(ANSWER + "\nrust: {attribute: Rust}\nsalt: {attribute: Sallt}", "answer: [rust, salt]")
    examples = make_split(load_game("bridge_repair"), "train", 20, 0)
    examples[0] = replace(examples[0], prompt="nothing", links=())
    report = RuleReport(rules)
    annotated = list(annotate_all(rules, examples, report))
    assert report.unmatched == ("salt",)
    assert report.replaced == 19
    assert (report.examples, report.with_links, report.links) == (20, 19, 19)
    assert report.links == sum(len(example.links) for example in annotated)
    assert report.refused.total() == sum(len(example.refused) for example in annotated)
    assert report.missing == {"rust": 1, "salt": 20}
    assert report.to_dict()["matched"] == {"answer": 20, "rust": 19, "salt": 0}


def test_the_attribute_expression_names_its_parts() -> None:
    assert "(?P<name>Rust)" in attribute_regex("Rust")
    assert "(?P<value>x)" in attribute_regex("Rust", "x")
