"""Draws the examples of a game's splits, each split from a random stream of its own.

The streams use only `random.Random(text).random()`, whose sequence Python guarantees to stay the same, with arithmetic
of our own on top, so that a seed gives the same bytes with every version of Python and NumPy.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from decimal import Decimal
from fractions import Fraction
from math import floor
from statistics import NormalDist

from cattune.data.examples import CausalLink, Example, Span
from cattune.errors import ConfigError
from cattune.tasks.stg.spec import Attribute, Coupling, Distribution, Game, Integers

GENERATOR = "cattune-stg/1"
"""Part of every random stream and of the manifest: raise it when the same seed would give other examples."""

SPLITS = {
    "train": "coupled",
    "validation": "coupled",
    "iid": "coupled",
    "ood": "independent",
    "ood-permuted": "permuted",
    "ood-unseen": "unseen",
    "ood-validation": "independent",
}
"""Split -> how its spurious values are drawn.

coupled: from their causes. independent: by the `ood` distributions. permuted: coupled to a value of the cause that is
drawn afresh, which keeps the training marginals. unseen: independent, and no tuple of causal values occurs in training.
"""

LINKS = ("values", "phrases")
"""What a cause span covers: the value, or "name: value"."""

UNSEEN_TRIES = 1000
"""Draws in search of one unseen tuple of causal values before `ood-unseen` is given up."""

Values = dict[str, Decimal]


class NoUnseenError(ConfigError):
    """Training holds (nearly) all tuples of causal values, so that `ood-unseen` cannot be drawn."""


def make_split(
    game: Game,
    split: str,
    n: int,
    seed: int,
    *,
    links: str = "phrases",
    seen: Collection[tuple[Decimal, ...]] = frozenset(),
) -> list[Example]:
    """The first n examples of a split; a smaller n gives a prefix of a larger one.

    Args:
        game: what to draw, decide and write.
        split: one of SPLITS; each has a random stream of its own, from the seed and the game's name and version.
        n: number of examples, >= 1.
        seed: any whole number.
        links: one of LINKS.
        seen: tuples of causal values (see `causal_tuple`) that `ood-unseen` must avoid; other splits ignore it.

    Raises:
        ConfigError: an argument is not as above.
        NoUnseenError: `ood-unseen` found no unseen tuple in UNSEEN_TRIES draws.
    """
    if split not in SPLITS:
        raise ConfigError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    if links not in LINKS:
        raise ConfigError(f"expected links to be one of {', '.join(LINKS)}, got {links!r}")
    if n < 1:
        raise ConfigError(f"expected at least one example in the split {split!r}, got {n}")
    rng = random.Random(f"{GENERATOR}/{game.name}/{game.version}/{split}/{seed}")
    excluded = frozenset(seen) if SPLITS[split] == "unseen" else frozenset()
    examples = []
    for index in range(n):
        values = _draw_values(game, SPLITS[split], rng, excluded)
        order = list(game.attributes)
        if game.order == "shuffled":
            _shuffle(order, rng)
        name = f"{game.name}-seed{seed}-{split}-{index:06d}"
        examples.append(_write(game, order, values, name, split, links))
    return examples


def causal_tuple(game: Game, values: Mapping[str, Decimal]) -> tuple[Decimal, ...]:
    """The causal values in the order of the game's causes."""
    return tuple(values[name] for name in game.causes)


def values_of(example: Example) -> Values:
    """The record of a generated example, from its metadata, as exact decimals."""
    return {name: Decimal(str(value)) for name, value in example.metadata["attributes"].items()}


def draw_causes(game: Game, rng: random.Random) -> Values:
    """A value for each cause, in the order of the game's causes."""
    return {a.name: _draw(a.drawn, rng) for a in game.attributes if a.role == "cause"}


def redraw(cause: Attribute, rng: random.Random) -> Decimal:
    """Another value of one attribute, from its own distribution."""
    return _draw(cause.drawn, rng)


def _draw_values(game: Game, kind: str, rng: random.Random, excluded: Collection[tuple[Decimal, ...]]) -> Values:
    causes = {a.name: a for a in game.attributes if a.role == "cause"}
    for _ in range(UNSEEN_TRIES):
        values = draw_causes(game, rng)
        if causal_tuple(game, values) not in excluded:
            break
    else:
        raise NoUnseenError(
            f"game {game.name!r}: {UNSEEN_TRIES} draws found no tuple of causal values that training "
            f"({len(excluded)} tuples) does not hold; use a smaller train size, or do without ood-unseen"
        )
    drawn = dict(values)
    for attribute in game.attributes:
        coupling = attribute.coupling
        if coupling is not None and kind == "coupled":
            drawn[attribute.name] = _follow(coupling, values[coupling.partner], rng)
        elif coupling is not None and kind == "permuted":
            drawn[attribute.name] = _follow(coupling, _draw(causes[coupling.partner].drawn, rng), rng)
        elif attribute.role != "cause":
            drawn[attribute.name] = _draw(attribute.drawn, rng)
    return drawn


def _follow(coupling: Coupling, partner: Decimal, rng: random.Random) -> Decimal:
    exact = Fraction(coupling.ratio) * Fraction(partner)
    if coupling.noise_sd is None:
        return Decimal(floor(exact))
    return _rounded(float(exact) + _normal(coupling.noise_sd, rng), coupling.decimals)


def _draw(distribution: Distribution, rng: random.Random) -> Decimal:
    if isinstance(distribution, Integers):
        return Decimal(distribution.low + _below(distribution.high - distribution.low + 1, rng))
    low, high = float(distribution.low), float(distribution.high)
    value = low + rng.random() * (high - low)
    return _rounded(value + _normal(distribution.noise_sd, rng), distribution.decimals)


def _below(n: int, rng: random.Random) -> int:
    return int(rng.random() * n)


def _normal(sd: float, rng: random.Random) -> float:
    # random() may give 0, where the inverse distribution function is not defined.
    return sd * NormalDist().inv_cdf(max(rng.random(), 2.0**-53)) if sd else 0.0


def _rounded(value: float, decimals: int) -> Decimal:
    return Decimal(round(value * 10**decimals)).scaleb(-decimals)


def _shuffle(items: list[Attribute], rng: random.Random) -> None:
    for last in range(len(items) - 1, 0, -1):
        other = _below(last + 1, rng)
        items[last], items[other] = items[other], items[last]


def _write(game: Game, order: list[Attribute], values: Values, name: str, split: str, links: str) -> Example:
    wording = game.wording
    prompt = wording.opening
    causes: list[Span] = []
    for index, attribute in enumerate(order):
        if index:
            prompt += wording.separator(index - 1)
        text = attribute.text(values[attribute.name])
        start = len(prompt)
        prompt += wording.attribute.replace("{name}", attribute.name).replace("{value}", text)
        if attribute.role == "cause":
            causes.append(Span("prompt", len(prompt) - len(text) if links == "values" else start, len(prompt)))
    prompt += wording.closing
    completion = game.label(values)
    link = CausalLink(Span("completion", 0, len(completion)), tuple(causes), source="rule")
    names = [attribute.name for attribute in order]
    metadata = {
        "split": split,
        "attributes": {name: plain_value(values[name]) for name in names},
        "spurious_before_cause": sum(names.index(s) < names.index(c) for s, c in game.spurious.items()),
    }
    return Example(name, prompt, completion, links=(link,), metadata=metadata)


def plain_value(value: Decimal) -> int | float:
    """A value as the metadata has it."""
    return float(value) if value.as_tuple().exponent else int(value)
