"""Joining annotations: votes, people, weights, texts that differ, and that no order and no repetition matters."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.annotation.consensus.join import Consensus, join
from cattune.data.examples import OUTVOTED, REJECTED, CausalLink, Example, Message, RefusedLink, Span
from cattune.errors import ConfigError, DataError
from cattune.grounding.links import CAUSE_MISSING

PROMPT = "Ann has 4 red pens and 2 hats. She sells 3 pens. How many? "
WORDS = ("Ann", "has", "4", "red", "pens", "2", "hats", "sells", "3")


def span(text: str, field: str = "prompt", source: str = PROMPT) -> Span:
    start = source.index(text)
    return Span(field, start, start + len(text))


ANSWER = Span("completion", 0, 1)


def link(*causes: str, effect: Span = ANSWER, **kwargs: object) -> CausalLink:
    return CausalLink(effect, tuple(map(span, causes)), **kwargs)  # type: ignore[arg-type]


def example(*links: CausalLink, refused: Sequence[RefusedLink] = (), name: str = "e", **kwargs: object) -> Example:
    return Example(name, PROMPT, "1", links=links, refused=tuple(refused), **kwargs)  # type: ignore[arg-type]


def rejected(*causes: str) -> RefusedLink:
    return RefusedLink("1", None, REJECTED, link(*causes))


def one_each(*examples: Example, **kwargs: object) -> Consensus:
    return join({"abcdefg"[i]: [e] for i, e in enumerate(examples)}, **kwargs)  # type: ignore[arg-type]


def weights(consensus: Consensus) -> dict[str, float]:
    """The weight of each cause of the answer, as training takes it: the largest of the links that name it."""
    found: dict[str, float] = {}
    for entry in consensus.examples[0].links:
        assert entry.effect == ANSWER
        for cause in entry.causes:
            text = consensus.examples[0].text_of(cause)
            found[text] = max(entry.weight, found.get(text, 0))
    return found


def refusals(consensus: Consensus) -> dict[str | None, str]:
    return {entry.cause: entry.reason for entry in consensus.examples[0].refused}


def test_the_share_of_annotators_is_the_weight_and_each_confidence_has_a_link_of_its_own() -> None:
    joined = one_each(example(link("4", "3")), example(link("4", "3"), link("Ann")), example(link("4"), link("hats")))
    assert weights(joined) == {"4": 1, "3": 2 / 3}
    assert [(len(entry.causes), entry.weight) for entry in joined.examples[0].links] == [(1, 1), (1, 2 / 3)]
    assert refusals(joined) == {"Ann": OUTVOTED, "hats": OUTVOTED}
    first, second = joined.examples[0].links
    assert (first.source, second.source) == ("consensus of a, b, c", "consensus of a, b")
    assert joined.counts.kept == 2 and joined.counts.outvoted == 2
    assert joined.counts.confidences == {1: 1, 2 / 3: 1}


def test_an_outvoted_edge_keeps_its_link_with_its_confidence() -> None:
    joined = one_each(example(link("4")), example(link("4")), example(link("4", "Ann", score=0.9, method="fuzzy")))
    (entry,) = joined.examples[0].refused
    assert entry.link == link("Ann", weight=1 / 3, source="consensus of c", score=0.9, method="fuzzy")
    assert (entry.effect, entry.cause) == ("1", "Ann")


def test_a_joined_link_was_found_as_laxly_as_the_laxest_of_its_edges_by_the_strictest_annotator() -> None:
    loose = example(link("4", method="loose", score=0.99), link("3", method="fuzzy", score=0.8))
    other = example(link("4", method="fuzzy", score=0.9), link("3", method="fuzzy", score=0.95))
    for joined in (one_each(loose, other), one_each(other, loose)):
        (found,) = joined.examples[0].links
        assert (found.method, found.score) == ("fuzzy", 0.95)  # of "4" loose 0.99, of "3" fuzzy 0.95


def test_weights_reach_the_keys_of_training() -> None:
    from cattune.models.tiny import build_tokenizer, texts_of
    from cattune.supervision.rows import encode_examples

    joined = one_each(example(link("4", "3")), example(link("4")))
    tokenizer = build_tokenizer(texts_of(joined.examples))
    ((feature,), _) = encode_examples(joined.examples, tokenizer)
    keys = dict(zip(feature["causal_keys"][0], feature["causal_weights"][0], strict=True))
    tokens = {tokenizer.decode([feature["input_ids"][key]]).strip(): weight for key, weight in keys.items()}
    assert tokens == {"4": 1.0, "3": 0.5}


def test_two_annotators_and_the_threshold() -> None:
    pair = example(link("4")), example(link("3"))
    assert weights(one_each(*pair)) == {"4": 0.5, "3": 0.5}
    assert weights(one_each(*pair, threshold=0.6)) == {}
    thirds = example(link("4")), example(link("4")), example()
    assert weights(one_each(*thirds, threshold=2 / 3)) == {"4": 2 / 3}
    assert weights(one_each(*thirds, threshold=0.67)) == {}


def test_an_example_that_an_annotator_does_not_have_is_no_vote_against() -> None:
    a, b = [example(link("4"))], [example(link("4"), link("3")), example(link("3"), name="f")]
    joined = join({"a": a, "b": b, "c": []})
    assert weights(joined) == {"4": 1, "3": 0.5}
    assert [e.id for e in joined.examples] == ["e", "f"]
    assert joined.examples[1].links[0].weight == 1
    assert joined.counts.missing == {"a": 1, "b": 0, "c": 2}
    assert joined.counts.annotations == {2: 1, 1: 1}
    assert joined.agreement.examples == 1


def test_an_annotator_that_failed_on_an_example_has_no_vote() -> None:
    failed = example(refused=[RefusedLink("", None, "no annotation: timeout")])
    joined = one_each(example(link("4")), failed, example(link("4")))
    assert weights(joined) == {"4": 1}
    assert joined.counts.missing == {"a": 0, "b": 1, "c": 0} and joined.counts.annotations == {2: 1}
    assert joined.agreement.pairs[0].examples == 0 and joined.agreement.pairs[1].examples == 1
    assert weights(one_each(*joined.examples, example(link("4")))) == {"4": 1}  # the joined one has not failed
    assert one_each(failed, failed).examples == (failed,)


def test_people_have_the_last_word() -> None:
    accepted = link("hats", status="accepted")
    joined = one_each(example(accepted, refused=[rejected("4")]), example(link("4")), example(link("4", "3")))
    assert weights(joined) == {"hats": 1}
    assert joined.examples[0].links[0].status == "accepted"
    assert refusals(joined) == {"4": REJECTED, "3": OUTVOTED}
    assert (joined.counts.accepted, joined.counts.rejected, joined.counts.divided) == (1, 1, 0)


def test_people_who_disagree_are_counted_and_share_the_vote() -> None:
    accepted = example(link("4", status="accepted"))
    rejects = example(refused=[rejected("4")])
    joined = one_each(accepted, rejects, example())
    assert weights(joined) == {"4": 0.5}
    assert joined.counts.divided == 1
    assert refusals(one_each(accepted, rejects, rejects)) == {"4": REJECTED}


def test_a_link_that_a_person_corrected_is_not_rejected_by_what_it_was() -> None:
    corrected = example(link("4", status="accepted"), refused=[rejected("4", "3")])
    joined = one_each(corrected, example(link("4", "3")), example(link("4", "3")))
    assert weights(joined) == {"4": 1}
    assert refusals(joined) == {"3": REJECTED}


def test_an_outvoted_link_is_a_candidate_that_its_annotator_is_against() -> None:
    out = RefusedLink("1", "3", OUTVOTED, link("3", weight=0.25))
    joined = one_each(example(link("4"), refused=[out]), example(link("4")))
    assert refusals(joined) == {"3": OUTVOTED}
    assert joined.examples[0].refused[0].link == link("3", weight=0.25)
    again = one_each(example(link("4"), refused=[out]), example(link("4", "3")))
    assert weights(again) == {"4": 1, "3": 0.5} and refusals(again) == {}


def test_what_could_not_be_grounded_is_kept_once() -> None:
    lost = RefusedLink("1", "5 pens", CAUSE_MISSING)
    joined = one_each(example(link("4"), refused=[lost]), example(link("4"), refused=[lost]))
    assert joined.examples[0].refused == (lost,)


def test_weights_of_annotators() -> None:
    votes = example(link("4")), example(link("3"))
    assert weights(one_each(*votes, weights={"a": 3})) == {"4": 0.75}
    for wrong in ({"x": 1}, {"a": 0}, {"a": float("nan")}, {"a": -1}):
        with pytest.raises(ConfigError):
            one_each(*votes, weights=wrong)


def test_spans_that_overlap_by_words() -> None:
    long = example(CausalLink(ANSWER, (span("4 red pens"),)))
    short = example(CausalLink(ANSWER, (span("red pens"),)))
    far = example(CausalLink(ANSWER, (span("4"),)))
    assert weights(one_each(long, short)) == {"4 red pens": 0.5, "red pens": 0.5}
    assert weights(one_each(long, short, match="overlap")) == {"red pens": 1}
    assert weights(one_each(long, long, short, match="overlap")) == {"4 red pens": 1}
    assert weights(one_each(long, far, match="overlap")) == {"4 red pens": 0.5, "4": 0.5}
    # A chain: the first is like the second and the second like the third, but the ends are not alike.
    chain = [example(CausalLink(ANSWER, (span(text),))) for text in ("Ann has", "Ann has 4 red", "4 red")]
    assert weights(one_each(*chain, match="overlap", threshold=0.3)) == {"4 red": 2 / 3, "Ann has": 1 / 3}


def test_overlap_never_turns_an_edge_round_or_folds_it_up() -> None:
    effect = span("4 red pens")
    one = example(CausalLink(effect, (span("4 red"),)))
    two = example(CausalLink(ANSWER, (effect,)), CausalLink(ANSWER, (span("4 red"),)))
    for joined in (one_each(one, two, match="overlap"), one_each(two, one, match="overlap")):
        for entry in joined.examples[0].links:
            assert entry.effect not in entry.causes


def test_metadata_and_order_are_the_first_annotations() -> None:
    a, b = example(link("4"), metadata={"x": 1}), example(link("4"), metadata={"x": 2, "y": 3})
    joined = one_each(a, b)
    assert joined.examples[0].metadata == {"x": 1, "y": 3}
    assert joined.counts.metadata_differ == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Example("e", PROMPT.replace("hats", "cats"), "1"), "prompt differs from character 25 on.*cats"),
        (Example("e", PROMPT + "more", "1"), "prompt differs from character 59"),
        (Example("e", PROMPT, "2"), "completion differs from character 0"),
        (Example("e", messages=(Message("assistant", "1"),)), "prompt and completion, the other messages of assistant"),
    ],
)
def test_other_texts_under_one_id_are_an_error_that_names_both(other: Example, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        join({"one.jsonl": [example(link("4"))], "two.jsonl": [other]})
    assert '"e"' in str(error.value) and "one.jsonl" in str(error.value) and "two.jsonl" in str(error.value)


def test_roles_belong_to_the_text() -> None:
    talks = [Example("e", messages=(Message(role, "x"), Message("assistant", "1"))) for role in ("user", "system")]
    with pytest.raises(DataError, match="messages of user, assistant, the other messages of system, assistant"):
        one_each(*talks)


def test_calls_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="two annotations or more"):
        join({"a": [example()]})
    for threshold in (0, -1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="threshold"):
            one_each(example(), example(), threshold=threshold)
    with pytest.raises(ConfigError, match="match"):
        one_each(example(), example(), match="nearly")
    with pytest.raises(DataError, match='"e" stands there twice'):
        join({"a": [example(), example()], "b": []})


spans = st.sampled_from([span(word) for word in WORDS] + [span("4 red pens"), span("red pens"), ANSWER])


@st.composite
def link_of(draw: st.DrawFn) -> CausalLink:
    effect = draw(spans)
    before = [
        s
        for s in [span(w) for w in WORDS] + [span("4 red pens")]
        if s != effect and (s.field < effect.field or s.start < effect.end or effect is ANSWER)
    ]
    causes = draw(st.lists(st.sampled_from(before), min_size=1, max_size=4, unique=True)) if before else None
    if causes is None:
        return link("4")
    status = draw(st.sampled_from(["proposed", "proposed", "accepted"]))
    return CausalLink(effect, tuple(causes), source="x", status=status)


def valid(links: Sequence[CausalLink]) -> tuple[CausalLink, ...]:
    order = {"prompt": 0, "completion": 1}
    return tuple(
        entry
        for entry in links
        if all((order[c.field], c.start) < (order[entry.effect.field], entry.effect.end) for c in entry.causes)
    )


annotation = st.lists(link_of(), max_size=5).map(valid)


def edges(example: Example) -> set[tuple[Span, Span]]:
    return {(entry.effect, cause) for entry in example.links for cause in entry.causes}


def comparable(consensus: Consensus) -> Mapping[str, object]:
    return {
        "links": [e.links for e in consensus.examples],
        "refused": [frozenset(e.refused) for e in consensus.examples],
        "alpha": consensus.agreement.alpha,
        "counts": consensus.counts,
    }


@settings(max_examples=150, deadline=None)
@given(st.lists(annotation, min_size=1, max_size=4), st.integers(2, 4), st.sampled_from(["exact", "overlap"]))
def test_joining_equal_annotations_gives_that_annotation(
    all_links: list[tuple[CausalLink, ...]], n: int, match: str
) -> None:
    given_examples = [example(*links, name=f"e{i}") for i, links in enumerate(all_links)]
    joined = join({f"annotator {i}": given_examples for i in range(n)}, match=match)
    for before, after in zip(given_examples, joined.examples, strict=True):
        if match == "exact":
            assert edges(after) == edges(before)
        assert all(entry.weight == 1 for entry in after.links)
        assert after.refused == ()
    if any(all_links):
        assert joined.agreement.alpha.value == 1
        assert all(pair.edge_f1.value == pair.link_f1.value == 1 for pair in joined.agreement.pairs)
    else:
        assert joined.agreement.alpha.value is None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(annotation, min_size=2, max_size=2), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from(["exact", "overlap"]),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_the_order_of_annotators_does_not_matter(
    annotations: list[list[tuple[CausalLink, ...]]], rng: random.Random, match: str, threshold: float
) -> None:
    named = {
        f"n{i}": [example(*links, name=f"e{j}") for j, links in enumerate(one)] for i, one in enumerate(annotations)
    }
    shuffled = list(named.items())
    rng.shuffle(shuffled)
    one, other = (join(dict(items), threshold, match) for items in (named.items(), shuffled))
    assert comparable(one) == comparable(other)
    for joined in (one, other):
        for entry in joined.examples:
            assert all(threshold - 1e-6 <= found.weight <= 1 for found in entry.links)
            every = len(edges(entry)) + sum(refusal.link is not None for refusal in entry.refused)
            assert every == len(edges(entry) | {(r.link.effect, r.link.causes[0]) for r in entry.refused if r.link})
        counts = joined.counts
        assert counts.kept == sum(len(edges(entry)) for entry in joined.examples) == counts.confidences.total()
        assert counts.outvoted + counts.rejected == sum(len(entry.refused) for entry in joined.examples)


def test_a_joined_file_can_be_joined_again() -> None:
    joined = one_each(example(link("4", "3")), example(link("4")), example(link("4"), link("Ann")))
    again = join({"x": joined.examples, "y": joined.examples})
    assert edges(again.examples[0]) == edges(joined.examples[0])
    assert {r.cause for r in again.examples[0].refused} == {r.cause for r in joined.examples[0].refused}
    assert replace(again.examples[0], links=(), refused=()) == replace(joined.examples[0], links=(), refused=())
