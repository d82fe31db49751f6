from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.data.examples import CausalLink, Example, RefusedLink, Span
from cattune.errors import ConfigError
from cattune.grounding import links as grounding
from cattune.grounding.links import OCCURRENCES, Grounding, Phrase, ground_links


def ground(
    prompt: str, completion: str, effect: str | Phrase, *causes: str | Phrase, rule: str = "nearest"
) -> Grounding:
    return ground_links({"prompt": prompt, "completion": completion}, [(effect, causes)], rule)


def places(found: Grounding) -> list[tuple[int, list[int]]]:
    """Where each effect and its causes start."""
    return [(link.effect.start, [cause.start for cause in link.causes]) for link in found.links]


def test_a_link_in_words_becomes_spans() -> None:
    found = ground("Weight: 4, Smoking: 8 Answer: ", "High Risk", "High Risk", "Smoking: 8", "Weight: 4")
    (link,) = found.links
    assert link.effect == Span("completion", 0, 9)
    assert link.causes == (Span("prompt", 11, 21), Span("prompt", 0, 9))
    assert found.refused == ()


# --- whole words and numbers first


@pytest.mark.parametrize(
    ("text", "phrase", "start"),
    [
        ("15 5.0 5", "5", 7),
        ("5.0 and 5.", "5", 8),
        ("1,500 and 500", "500", 10),
        ("-6.9 and 6.9", "6.9", 9),
        ("6.9 and -6.9", "-6.9", 8),
        ("9-5 and 25", "5", 2),
        ("0.5 and .5", ".5", 8),
        (".5 and 5", "5", 7),
        ("1,2 12", "2", 2),
        ("the heat eat", "eat", 9),
        ("96th, 96", "96", 6),
        ("13.45% 13.4%", "13.4%", 7),
        ("cafe\u0301 cafe", "cafe", 6),
        ("1,2,3", "2", 2),
        ("115.0", "115", 0),
        ("\u6211\u5403\u82f9\u679c", "\u82f9\u679c", 2),
    ],
)
def test_whole_occurrences_are_preferred(text: str, phrase: str, start: int) -> None:
    found = ground(text, "x", "x", phrase, rule="error")
    assert places(found) == [(0, [start])]


def test_a_field_ends_its_last_token() -> None:
    found = ground("25 end", "5 x 15", "5", "end")
    assert found.links[0].effect == Span("completion", 0, 1)


def test_overlapping_occurrences_are_found() -> None:
    assert places(ground("15 5 5", "x", "x", "5 5")) == [(0, [3])]


# --- the boundary of the completion


def test_an_effect_across_the_boundary_is_cut_to_the_completion() -> None:
    (link,) = ground("Rate: 43.1. Answer: ", "8", "Answer: 8", "43.1").links
    assert link.effect == Span("completion", 0, 1)
    (link,) = ground("Rate: 43.1. Answer:", " 8", "Answer: 8", "43.1").links
    assert link.effect == Span("completion", 1, 2)


def test_a_cause_across_the_boundary_is_cut_to_the_prompt_without_its_white_space() -> None:
    (link,) = ground("Answer: ", "8 so 9", "9", "Answer: 8").links
    assert link.causes == (Span("prompt", 0, 7),)


def test_a_cut_that_leaves_only_white_space_is_no_occurrence() -> None:
    assert ground("so", " b", "o ", "so").refused == (RefusedLink("o ", None, grounding.EFFECT_MISSING),)


def test_a_phrase_across_earlier_fields_is_not_found() -> None:
    fields = {
        "messages[0].content": "ab",
        "messages[1].content": "",
        "messages[2].content": "cd",
        "messages[3].content": "ef",
    }
    found = ground_links(fields, [("ef", ["bc", "cd", "a"]), ("de", ["c"])])
    assert found.links[0].causes == (Span("messages[2].content", 0, 2), Span("messages[0].content", 0, 1))
    assert found.refused == (RefusedLink("ef", "bc", grounding.CAUSE_MISSING),)
    assert found.links[1].effect == Span("messages[3].content", 0, 1)


# --- the rules


TEXT = "a b a c b a "  # a: 0 4 10, b: 2 8, c: 6


@pytest.mark.parametrize(
    ("rule", "effect", "causes", "expected"),
    [
        ("nearest", "c", ["a", "b"], [(6, [4, 2])]),
        ("nearest", "b", ["a", "c"], [(8, [4, 6])]),  # only the second b has both before it
        ("nearest", "a", ["b"], [(10, [8])]),  # 4 and 10 are equally near to a b: the later
        ("nearest", "b", ["a"], [(2, [0])]),  # the first b is nearer to an a
        ("nearest", "c", ["a", "a"], [(6, [0, 4])]),  # named twice: two occurrences
        ("nearest", "c", ["b", "b", "b"], [(6, [2])]),  # as many as there are
        ("nearest", "a", ["a"], [(4, [0])]),
        ("first", "b", ["a"], [(2, [0])]),
        ("first", "c", ["a", "a", "b"], [(6, [0, 4, 2])]),
        ("all", "b", ["a", "c"], [(2, [0]), (8, [0, 4, 6])]),
        ("all", "a", ["a", "b"], [(4, [0, 2]), (10, [0, 4, 2, 8])]),
        ("error", "c", ["prompt"], []),
        ("context", "c", ["a", "b"], [(6, [4, 2])]),
        ("context", "b", ["a"], [(2, [0])]),
        ("context", "a", ["a"], [(4, [0])]),
        ("context", "c", ["b", "b", "b"], [(6, [2])]),
    ],
)
def test_rules(rule: str, effect: str, causes: list[str], expected: list[tuple[int, list[int]]]) -> None:
    assert places(ground(TEXT, "x", effect, *causes, rule=rule)) == expected


@pytest.mark.parametrize(
    ("rule", "effect", "causes", "cause", "reason"),
    [
        ("nearest", " ", ["a"], None, grounding.EFFECT_EMPTY),
        ("nearest", "", ["a"], None, grounding.EFFECT_EMPTY),
        ("nearest", "zz", ["a"], None, grounding.EFFECT_MISSING),
        ("nearest", "ab", ["a"], None, grounding.EFFECT_MISSING),
        ("nearest", "x", [], None, grounding.NO_CAUSES),
        ("nearest", "x", ["a", ""], "", grounding.CAUSE_EMPTY),
        ("nearest", "x", ["a", "zz"], "zz", grounding.CAUSE_MISSING),
        ("nearest", "c", ["a", "x"], "x", grounding.CAUSE_LATE),
        ("nearest", "x", ["a", "x"], "x", grounding.CAUSE_IS_EFFECT),
        ("context", "c", ["a", "x"], "x", grounding.CAUSE_LATE),
        ("context", "x", ["a", "x"], "x", grounding.CAUSE_IS_EFFECT),
        ("first", "a b", ["a b a", "c"], "c", grounding.CAUSE_LATE),
        ("error", "a", ["b"], None, grounding.EFFECT_REPEATED),
        ("error", "x", ["c", "a"], "a", grounding.CAUSE_REPEATED),
    ],
)
def test_reasons(rule: str, effect: str, causes: list[str], cause: str | None, reason: str) -> None:
    found = ground(TEXT, "x", effect, *causes, rule=rule)
    assert found.refused == (RefusedLink(effect, cause, reason),)
    assert len(found.links) == (cause is not None)  # one bad cause does not spoil the others


def test_a_link_that_loses_all_its_causes_is_refused_as_a_whole() -> None:
    found = ground(TEXT, "x", "c", "x", "zz")
    assert found.links == ()
    assert found.refused == (
        RefusedLink("c", "x", grounding.CAUSE_LATE),
        RefusedLink("c", "zz", grounding.CAUSE_MISSING),
        RefusedLink("c", None, grounding.NO_CAUSE_LEFT),
    )


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="context, nearest, all, first, error, got 'last'"):
        ground("a", "b", "b", "a", rule="last")


def test_all_does_not_explode() -> None:
    found = ground("a " * 5000, "x", "a", "a", rule="all")
    assert found == Grounding((), (RefusedLink("a", None, grounding.TOO_MANY),))


@pytest.mark.parametrize("rule", OCCURRENCES)
@pytest.mark.parametrize(
    ("prompt", "effect", "causes"),
    [
        ("a" * 10_000, "a", ["a"] * 20),
        ("a " * 5_000, "a", ["a", "a a"]),
        ("a" * 10_000, "a" * 5_000, ["a" * 4_999]),
        ("1,000.0" * 1_500, "1", ["000"]),
        ("e\u0301" * 5_000, "e", ["\u0301"]),
        ("the cat sat on mat 15 " * 500, "15", ["cat", "sat", "on", "mat"]),
    ],
)
def test_long_texts_take_no_time(rule: str, prompt: str, effect: str, causes: list[str]) -> None:
    start = time.process_time()
    ground(prompt, "x", effect, *causes, rule=rule)
    assert time.process_time() - start < 3.0  # they take 0.01 to 0.3 s; pairing all with all takes tens of seconds


# --- how well the phrases were found


def test_a_link_has_the_method_and_score_of_the_worst_found_of_its_phrases() -> None:
    text = "Ann has 4 Pens and traveled home."
    (link,) = ground(text, "4", "4", "Ann", "4 pens", "travelled", "missing").links
    assert (link.method, link.score) == ("fuzzy", pytest.approx(0.94, abs=0.01))
    (link,) = ground(text, "4", "4", "Ann", "4 pens", "missing").links
    assert (link.method, link.score, link.status) == ("loose", 0.99, "proposed")
    (link,) = ground(text, "5", "5", "Ann", "trave").links
    assert (link.method, link.score) == ("exact", 0.9)


def test_a_cause_that_is_refused_does_not_lower_the_score() -> None:
    found = ground("a B", "b c", "b", "a", "C", rule="error")
    assert found.links == (CausalLink(Span("completion", 0, 1), (Span("prompt", 0, 1),)),)


def test_a_quote_makes_a_phrase_unambiguous() -> None:
    text = "Ann has 4 pens. Bob has 4 pens. "
    meant = Phrase("4 pens", "Ann has 4 pens")
    (link,) = ground(text, "8", "8", meant, "Bob", rule="error").links
    assert link.causes == (Span("prompt", 8, 14), Span("prompt", 16, 19))
    both = [meant, Phrase("4 pens", "Bob has 4 pens")]
    (link,) = ground(text, "8", "8", *both).links
    assert [cause.start for cause in link.causes] == [8, 24]


# --- a slow, obvious reference for `nearest`, and invariants that hold for any text


words = st.lists(st.sampled_from(["a", "b", "c", "ab", "5", "5.0", "\U0001f600"]), max_size=14).map(" ".join)
phrase = st.sampled_from(["a", "b", "c", "ab", "5", "5.0", "0", "a b", "\U0001f600", "zz", " "])


def starts_of(text: str, wanted: str) -> list[int]:
    return [i for i in range(len(text)) if text.startswith(wanted, i)]


@given(text=st.text(alphabet="ab ", max_size=20), effect=st.sampled_from(["a", "b"]), cause=st.sampled_from(["a", "b"]))
@settings(max_examples=200, deadline=None)
def test_nearest_against_the_definition(text: str, effect: str, cause: str) -> None:
    spaced = " ".join(text.replace(" ", ""))  # every letter a word
    best = None
    for at in starts_of(spaced, effect):
        before = [c for c in starts_of(spaced, cause) if c < at]
        if before:
            candidate = (-(at - max(before)), at, max(before))
            best = candidate if best is None else max(best, candidate)
    found = ground(spaced, "!", effect, cause)
    assert places(found) == ([] if best is None else [(best[1], [best[2]])])


@given(
    prompt=words,
    completion=words,
    links=st.lists(st.tuples(phrase, st.lists(phrase, max_size=4)), max_size=4),
    rule=st.sampled_from(OCCURRENCES),
)
@settings(max_examples=300, deadline=None)
def test_every_link_is_grounded_or_refused(
    prompt: str, completion: str, links: list[tuple[str, list[str]]], rule: str
) -> None:
    for effect, causes in links:
        found = ground(prompt, completion, effect, *causes, rule=rule)
        example = Example(id="a", prompt=prompt, completion=completion, links=found.links, refused=found.refused)
        whole = [link for link in found.refused if link.cause is None]
        assert bool(found.links) != bool(whole) and len(whole) <= 1
        assert rule == "all" or len(found.links) <= 1
        for link in found.links:
            assert example.text_of(link.effect) in effect
            assert len(set(link.causes)) == len(link.causes)
            for cause in link.causes:
                assert any(example.text_of(cause) in given_cause for given_cause in causes)
        if found.links:  # each cause phrase is used or refused
            refused = {link.cause for link in found.refused}
            for cause in set(causes) - refused:
                assert any(example.text_of(span) in cause for link in found.links for span in link.causes)


@given(prompt=words, completion=words, effect=phrase, causes=st.lists(phrase, max_size=4))
@settings(max_examples=300, deadline=None)
def test_in_context_a_link_is_lost_only_where_no_rule_could_use_it(
    prompt: str, completion: str, effect: str, causes: list[str]
) -> None:
    every = ground(prompt, completion, effect, *causes, rule="all").links
    found = ground(prompt, completion, effect, *causes, rule="context").links
    assert bool(found) == bool(every)
    for link in found:
        (same,) = [other for other in every if other.effect == link.effect]
        assert set(link.causes) <= set(same.causes)


anything = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("aAbB 15.-\nßé\u0301\u05d0\u200d\u202e\U0001f469\U0001f3fd我"),
    ),
    max_size=12,
)
given_phrase = anything | st.builds(Phrase, anything, anything)


@given(
    fields=st.tuples(anything, anything),
    links=st.lists(st.tuples(given_phrase, st.lists(given_phrase, max_size=3)), max_size=3),
    rule=st.sampled_from(OCCURRENCES),
)
@settings(max_examples=300, deadline=None)
def test_any_text_is_grounded_or_refused(
    fields: tuple[str, str], links: list[tuple[str | Phrase, list[str | Phrase]]], rule: str
) -> None:
    prompt, completion = fields
    found = ground_links({"prompt": prompt, "completion": completion}, links, rule)
    Example(id="a", prompt=prompt, completion=completion, links=found.links, refused=found.refused)
    assert len({link.effect for link in found.refused if link.cause is None}) <= len(links)
    if rule != "all":
        assert len(found.links) + sum(link.cause is None for link in found.refused) == len(links)
