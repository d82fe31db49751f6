"""Agreement figures: against Krippendorff's worked values and library, by hand, and in general."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from cattune.annotation.consensus.agreement import Agreement, Tally, _alpha, _coincidences, agreement
from cattune.annotation.consensus.ballots import Edge, is_before, unnamed_words
from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import ConfigError

ANSWER = (1, 0, 1)
BARE = Example("e", "- " * 20, "-")
"""An example without words: what nobody names is no candidate."""


def edge(start: int, effect: tuple[int, int, int] = ANSWER) -> Edge:
    return effect, (0, start, start + 1)


def alpha_of(values: list[list[int | None]]) -> float:
    """Alpha of a table of annotators by units, each unit an example of one candidate edge that counts noes as well."""
    sums = np.zeros(3)
    for unit in zip(*values, strict=True):
        given_values = [value for value in unit if value is not None]
        m = len(given_values)
        if m > 1:
            yes = sum(given_values)
            sums += [yes * (m - yes) / (m - 1), m - yes, yes]
    return float(_alpha(sums))


def test_krippendorffs_binary_example_of_two_observers() -> None:
    # Computing Krippendorff's Alpha-Reliability, section A: two observers, ten units, alpha = 0.095.
    meg = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    owen = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    assert round(alpha_of([meg, owen]), 3) == 0.095


def test_the_library_gives_the_same_with_missing_data() -> None:
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(3)
    for _ in range(50):
        table = rng.choice([0.0, 1.0, np.nan], p=[0.6, 0.25, 0.15], size=(4, 30))
        ours = alpha_of([[None if math.isnan(v) else int(v) for v in row] for row in table])
        assert ours == pytest.approx(krippendorff.alpha(table, level_of_measurement="nominal"), abs=1e-12)


TEXTS = ["ab c, d-ef", "gh 5 i"]


def by_hand(votes: list[set[Edge]]) -> tuple[int, list[list[int]]]:
    """All candidate edges of an example, one by one, and who names each: the slow way."""
    effects = {e for named in votes for e, _ in named}
    places = effects | {c for named in votes for _, c in named}
    proposed = set().union(*votes)
    words = [(0, 0, 2), (0, 3, 4), (0, 6, 7), (0, 8, 10), (1, 0, 2), (1, 3, 4), (1, 5, 6)]
    places |= {w for w in words if not any(w[0] == p[0] and w[1] < p[2] and p[1] < w[2] for p in places)}
    units = [(e, c) for e, c in product(effects, places) if is_before(c, e) or (e, c) in proposed]
    return len(units), [[int(unit in named) for unit in units] for named in votes]


places = st.tuples(st.integers(0, 1), st.integers(0, 4), st.integers(1, 3)).map(lambda p: (p[0], p[1], p[1] + p[2]))
edges = st.sets(st.tuples(places, places).filter(lambda e: e[1][:2] < (e[0][0], e[0][2])), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.lists(edges, min_size=2, max_size=4))
def test_counted_candidates_are_those_that_are_listed(votes: list[set[Edge]]) -> None:
    units, table = by_hand(votes)
    counted, (disagreement, no, yes) = _coincidences([frozenset(named) for named in votes], TEXTS)
    assert counted == units
    assert yes == sum(map(sum, table)) and no == len(votes) * units - yes
    expected = sum(k * (len(votes) - k) for k in map(sum, zip(*table, strict=True))) / (len(votes) - 1)
    assert disagreement == pytest.approx(expected)
    if disagreement:
        krippendorff = pytest.importorskip("krippendorff")
        ours = float(_alpha(np.array([disagreement, no, yes])))
        assert ours == pytest.approx(krippendorff.alpha(np.array(table), level_of_measurement="nominal"))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(edges, edges), min_size=1, max_size=6))
@example([(set(), set()), *[(set(), {edge(1)})] * 2, (set(), {edge(1), edge(2)}), ({edge(1)}, set())])
def test_f1_is_symmetric_and_a_share(pairs: list[tuple[set[Edge], set[Edge]]]) -> None:
    def figures(order: tuple[str, str]) -> Agreement:
        tally = Tally(order)
        for one, other in pairs:
            tally.add(BARE, {"a": one, "b": other})
        return tally.agreement()

    forth, back = figures(("a", "b")), figures(("b", "a"))
    assert forth.alpha == back.alpha and forth.units == back.units
    for kind in ("edge_f1", "link_f1"):
        one, other = getattr(forth.pairs[0], kind), getattr(back.pairs[0], kind)
        assert one == other
        assert one.value is None or 0 <= one.low <= one.high <= 1 and 0 <= one.value <= 1
    assert forth.pairs[0].edges[1:] == back.pairs[0].edges[:0:-1]


def test_f1_by_hand_is_summed_over_examples() -> None:
    tally = Tally(["a", "b"])
    tally.add(BARE, {"a": [edge(1), edge(2)], "b": [edge(1)]})
    tally.add(BARE, {"a": [edge(1), edge(2), edge(3)], "b": [edge(1), edge(2), edge(3), edge(4)]})
    tally.add(BARE, {"a": [edge(5)]})  # b does not have it
    result = tally.agreement()
    (pair,) = result.pairs
    assert pair.edges == (4, 5, 5) and pair.edge_f1.value == 0.8
    assert pair.links == (0, 2, 2) and pair.link_f1.value == 0
    assert (result.examples, pair.examples) == (2, 2)
    # The candidates are the answer's 2 and 4 causes; alpha counts the one edge of each that only one names.
    assert result.units == 6
    assert result.alpha.value == pytest.approx(1 - 11 * 2 / (2 * 10))


def test_annotators_without_a_common_example_have_no_figures() -> None:
    tally = Tally(["a", "b", "c"])
    tally.add(BARE, {"a": [edge(1)], "b": [edge(1)]})
    figures = {(p.first, p.second): p.edge_f1.value for p in tally.agreement().pairs}
    assert figures == {("a", "b"): 1, ("a", "c"): None, ("b", "c"): None}
    assert Tally(["a", "b"]).agreement().alpha.value is None


def test_chance_gives_an_alpha_near_zero_and_agreement_a_high_one() -> None:
    rng = np.random.default_rng(0)
    text = "".join(f"{c} " for c in "abcdefgh")

    def alpha(p_copy: float) -> float:
        tally = Tally(["a", "b", "c"])
        for _ in range(400):
            truth = rng.random(8) < 0.4
            votes = {n: np.where(rng.random(8) < p_copy, truth, rng.random(8) < 0.4) for n in "abc"}
            named = {n: [edge(2 * i) for i in range(8) if votes[n][i]] for n in "abc"}
            tally.add(Example("e", text, "-"), named)
        value = tally.agreement().alpha.value
        assert value is not None
        return value

    assert abs(alpha(0.0)) < 0.05
    # With probability .95 each copies the truth, so that two give the same value, beyond chance, in .95 ** 2 of cases.
    assert abs(alpha(0.95) - 0.95**2) < 0.03


def test_words_that_no_span_touches_are_found() -> None:
    assert unnamed_words(["Ann has 4.5 pens", "好的 ok"], [(0, 1, 2), (0, 9, 11), (1, 1, 2)]) == [
        (0, 4),
        (0, 12),
        (1, 0),
        (1, 3),
    ]


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        tally = Tally(["a", "b"])
        for _ in range(60):
            shared = rng.random(4) < 0.8
            tally.add(
                BARE, {"a": [edge(i) for i in range(4)], "b": [edge(i if shared[i] else i + 10) for i in range(4)]}
            )
        figure = tally.agreement().pairs[0].edge_f1
        assert figure.low is not None and figure.high is not None
        hits += figure.low <= 0.8 <= figure.high
    assert 88 <= hits <= 100


def test_figures_are_the_same_again() -> None:
    first = example_pair()
    assert agreement(first) == agreement(first)


def example_pair() -> dict[str, list[Example]]:
    def one(name: str, *causes: int) -> Example:
        links = tuple(CausalLink(Span("completion", 0, 1), (Span("prompt", c, c + 1),)) for c in causes)
        return Example(name, "abcdef", "x", links=links)

    return {"a": [one("1", 0, 1), one("2", 3)], "b": [one("1", 0), one("2", 3), one("3", 4)]}


def test_agreement_of_examples() -> None:
    result = agreement(example_pair())
    assert result.pairs[0].edges == (2, 3, 2)
    assert result.to_dict()["pairs"][0]["edge_f1"]["value"] == 0.8
    with pytest.raises(ConfigError, match="one of exact, overlap"):
        agreement(example_pair(), "nearly")


@given(st.lists(st.sets(st.integers(0, 9), min_size=1), min_size=2, max_size=5))
def test_more_unanimous_noes_bring_alpha_towards_f1(votes: list[set[int]]) -> None:
    assume(len(votes) >= 2 and votes[0] != votes[1])
    both, sizes = len(votes[0] & votes[1]), len(votes[0]) + len(votes[1])
    disagreement = len(votes[0] ^ votes[1])
    alphas = [float(_alpha(np.array([disagreement, no + disagreement, sizes]))) for no in (10, 1e3, 1e7)]
    assert alphas == sorted(alphas)
    assert alphas[-1] == pytest.approx(2 * both / sizes, abs=1e-4)
