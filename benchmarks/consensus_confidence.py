"""Which confidence a consensus should give to an edge: the share of the annotators, or what reliabilities say?

Simulated annotators name true and false edges at given rates. Compared are the plain share of the annotators who name
an edge and the posterior of Dawid and Skene's model (1979), estimated by EM, with one reliability for each annotator
(one-coin) or with two, for edges that are there and for those that are not (two-coin). All candidate edges are given to
the model, those that nobody names included: with named edges alone it does far worse. Figures are means over runs:

  F1     of the edges with a confidence of at least 0.5
  Brier  mean squared error of the confidence of the named edges (lower is better)

    python benchmarks/consensus_confidence.py
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EXAMPLES, TRUE, CANDIDATES, RUNS = 300, 4, 24, 10

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """Rates at which each annotator names a true and a false edge; the second may copy the first's votes."""

    name: str
    true_rates: tuple[float, ...]
    false_rates: tuple[float, ...]
    copied: float = 0.0


CASES = (
    Case("2 equal", (0.85,) * 2, (0.03,) * 2),
    Case("2 unequal", (0.95, 0.6), (0.01, 0.1)),
    Case("3 equal", (0.85,) * 3, (0.03,) * 3),
    Case("3 equal, poor", (0.6,) * 3, (0.08,) * 3),
    Case("3 unequal", (0.95, 0.6, 0.5), (0.01, 0.1, 0.15)),
    Case("3, one of them guesses", (0.85, 0.8, 0.3), (0.03, 0.04, 0.3)),
    Case("3, two share 70% of their votes", (0.7, 0.7, 0.9), (0.08, 0.08, 0.02), 0.7),
    Case("3, two share 95%, the third is better", (0.6, 0.6, 0.95), (0.1, 0.1, 0.01), 0.95),
    Case("5 equal", (0.75,) * 5, (0.05,) * 5),
    Case("5 unequal", (0.95, 0.85, 0.7, 0.6, 0.5), (0.01, 0.03, 0.05, 0.1, 0.15)),
)


def simulate(case: Case, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_]]:
    """Votes (annotators, candidates) as 0 and 1, and which candidates are true."""
    truth = np.tile(np.arange(CANDIDATES) < TRUE, EXAMPLES)
    rates = [np.where(truth, *pair) for pair in zip(case.true_rates, case.false_rates, strict=True)]
    votes = np.stack([rng.random(truth.size) < rate for rate in rates]).astype(float)
    votes[1] = np.where(rng.random(truth.size) < case.copied, votes[0], votes[1])
    return votes, truth


def dawid_skene(votes: Array, two_coins: bool, steps: int = 100) -> Array:
    """The probability that each candidate is true; rates are smoothed by one success and one failure."""
    probability = votes.mean(axis=0)
    for _ in range(steps):
        prior = (probability.sum() + 1) / (probability.size + 2)
        if two_coins:
            hit = ((votes * probability).sum(axis=1) + 1) / (probability.sum() + 2)
            false = ((votes * (1 - probability)).sum(axis=1) + 1) / ((1 - probability).sum() + 2)
        else:
            right = (votes * probability + (1 - votes) * (1 - probability)).sum(axis=1)
            hit = (right + 1) / (probability.size + 2)
            false = 1 - hit
        hit, false = (np.clip(rate, 0.001, 0.999)[:, None] for rate in (hit, false))
        evidence = votes * np.log(hit / false) + (1 - votes) * np.log((1 - hit) / (1 - false))
        probability = 1 / (1 + np.exp(-np.log(prior / (1 - prior)) - evidence.sum(axis=0)))
    return probability


def scores(confidence: Array, votes: Array, truth: NDArray[np.bool_]) -> tuple[float, float]:
    """F1 of what is kept, and the Brier score over the candidates that somebody names."""
    named = votes.any(axis=0)
    kept = named & (confidence >= 0.5)
    f1 = 2 * (kept & truth).sum() / (kept.sum() + truth.sum())
    return float(f1), float(((confidence - truth)[named] ** 2).mean())


def main() -> None:
    """Print a Markdown table."""
    rng = np.random.default_rng(0)
    print("| annotators | share: F1 | Brier | one-coin: F1 | Brier | two-coin: F1 | Brier |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        runs = []
        for _ in range(RUNS):
            votes, truth = simulate(case, rng)
            ways = votes.mean(axis=0), dawid_skene(votes, False), dawid_skene(votes, True)
            runs.append([score for way in ways for score in scores(way, votes, truth)])
        figures = " | ".join(f"{figure:.3f}" for figure in np.mean(runs, axis=0))
        print(f"| {case.name} | {figures} |")


if __name__ == "__main__":
    main()
