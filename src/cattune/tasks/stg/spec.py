"""What a Spurious Token Game is: attributes with roles, couplings, and the rule that decides the answer.

Everything here is frozen data with its exact arithmetic; `parse` reads it from YAML and checks it, `generate` draws
from it. Numbers are decimals, as they are printed, so that a value at a threshold is decided exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from cattune.errors import ConfigError
from cattune.wording import listed, shown

ROLES = ("cause", "spurious", "irrelevant")
ORDERS = ("shuffled", "fixed")
ARITHMETICS = ("exact", "double")


@dataclass(frozen=True, slots=True)
class Integers:
    """Whole numbers, each from `low` to `high` inclusive equally likely."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Reals:
    """Uniform on [low, high] plus normal noise of standard deviation `noise_sd`, rounded to `decimals` places."""

    low: Decimal
    high: Decimal
    noise_sd: float
    decimals: int


Distribution = Integers | Reals


@dataclass(frozen=True, slots=True)
class Coupling:
    """How a spurious attribute follows its causal partner in training.

    Args:
        partner: name of the causal attribute.
        ratio: the value is ratio * partner, then rounded down to a whole number, or, with `noise_sd`, plus noise.
        noise_sd: standard deviation of normal noise; None means no noise and rounding down.
        decimals: places that a noisy value is rounded to.
    """

    partner: str
    ratio: Decimal
    noise_sd: float | None = None
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Attribute:
    """One "name: value" of the record.

    Args:
        name: as printed.
        role: `cause` decides the answer, `spurious` follows a cause in training only, `irrelevant` does neither.
        drawn: the distribution of a cause or an irrelevant attribute, and a spurious attribute's out of distribution.
        coupling: of a spurious attribute, else None.
        suffix: printed directly after the number, such as "%".
    """

    name: str
    role: str
    drawn: Distribution
    coupling: Coupling | None = None
    suffix: str = ""

    def text(self, value: Decimal) -> str:
        """The value as printed, with its suffix."""
        return f"{value:f}{self.suffix}"


@dataclass(frozen=True, slots=True)
class LabelRange:
    """A class and the bounds of its values; a bound that is None does not bind."""

    label: str
    above: Decimal | None = None
    at_least: Decimal | None = None
    below: Decimal | None = None
    at_most: Decimal | None = None

    def holds(self, value: Fraction | float) -> bool:
        """Whether the value lies in the range; a float is compared with the bounds' own doubles."""
        kind = float if isinstance(value, float) else Fraction
        return (
            (self.above is None or value > kind(self.above))
            and (self.at_least is None or value >= kind(self.at_least))
            and (self.below is None or value < kind(self.below))
            and (self.at_most is None or value <= kind(self.at_most))
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """Classes in order: the first whose range holds is the label, and the last one holds always.

    Args:
        arithmetic: `exact` decides by rational numbers, `double` by IEEE doubles summed in the coefficients' order.
        classes: at least two.
    """

    arithmetic: str
    classes: tuple[LabelRange, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A numeric answer: the sum clipped to [clip_low, clip_high], mapped to the scale, rounded with halves to even."""

    clip_low: Decimal
    clip_high: Decimal
    scale_low: Decimal
    scale_high: Decimal


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the causal values decide the answer: a weighted sum, then a rule of classes or a numeric answer.

    Args:
        coefficients: (cause, coefficient), in the order of summation.
        rules: the game's rules by name; empty for a numeric answer.
        rule: the name of the rule in force; None for a numeric answer.
        answer: the numeric answer, or None.
    """

    coefficients: tuple[tuple[str, Decimal], ...]
    rules: Mapping[str, Rule]
    rule: str | None
    answer: Answer | None

    def label(self, values: Mapping[str, Decimal]) -> str:
        """The class label, or the number as text, that these causal values decide."""
        if self.answer is not None:
            return str(_scaled(self._exact_sum(values), self.answer))
        rule = self.rules[str(self.rule)]
        total = self._double_sum(values) if rule.arithmetic == "double" else self._exact_sum(values)
        return next(choice.label for choice in rule.classes if choice.holds(total))

    def _exact_sum(self, values: Mapping[str, Decimal]) -> Fraction:
        return sum((Fraction(c) * Fraction(values[name]) for name, c in self.coefficients), Fraction(0))

    def _double_sum(self, values: Mapping[str, Decimal]) -> float:
        total = 0.0
        # Not sum(): from Python 3.12 on it compensates rounding errors, which this arithmetic is there to keep.
        for name, coefficient in self.coefficients:
            total += float(coefficient) * float(values[name])
        return total


@dataclass(frozen=True, slots=True)
class Wording:
    """The words around the values.

    Args:
        opening: text before the first attribute.
        attribute: "{name}" and "{value}" with what stands between them.
        separators: one text between all attributes, or one for each gap of a fixed order.
        closing: text after the last attribute; the prompt ends with it.
        labels: class label -> completion text; a label that is not in it is written as it is.
    """

    opening: str
    attribute: str
    separators: tuple[str, ...]
    closing: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def separator(self, gap: int) -> str:
        """The text between attributes `gap` and `gap + 1`."""
        return self.separators[gap] if len(self.separators) > 1 else self.separators[0]


@dataclass(frozen=True, slots=True)
class Game:
    """A Spurious Token Game, complete: what is drawn, what decides the answer, how it is worded.

    Args:
        name: begins the ids of its examples.
        version: part of every random stream; raise it when the game changes.
        order: `shuffled` anew in every example, or `fixed` as listed.
        wording: the words around the values.
        attributes: all attributes of the record.
        outcome: what the causes decide.
        source: the specification as it was read, for the manifest.
    """

    name: str
    version: int
    order: str
    wording: Wording
    attributes: tuple[Attribute, ...]
    outcome: Outcome
    source: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def causes(self) -> tuple[str, ...]:
        """Names of the causal attributes, in the order of the specification."""
        return tuple(a.name for a in self.attributes if a.role == "cause")

    @property
    def spurious(self) -> dict[str, str]:
        """Name of each spurious attribute -> name of its causal partner."""
        return {a.name: a.coupling.partner for a in self.attributes if a.coupling is not None}

    @property
    def labels(self) -> tuple[str, ...]:
        """The class labels of the rule in force, before wording; empty for a numeric answer."""
        rule = self.outcome.rule
        return () if rule is None else tuple(c.label for c in self.outcome.rules[rule].classes)

    def label(self, values: Mapping[str, Decimal]) -> str:
        """The completion that these causal values decide, as it is worded."""
        label = self.outcome.label(values)
        return self.wording.labels.get(label, label)

    def with_rule(self, rule: str) -> Game:
        """The same game decided by another of its rules; ConfigError where it has none of that name."""
        if rule not in self.outcome.rules:
            known = listed(self.outcome.rules) if self.outcome.rules else "none, its answer is a number"
            raise ConfigError(f"game {shown(self.name)} has no outcome rule {shown(rule)}; it has: {known}")
        return replace(self, outcome=replace(self.outcome, rule=rule))

    def with_wording(self, wording: Wording) -> Game:
        """The same game in other words; what is drawn and decided stays the same."""
        return replace(self, wording=wording)


def _scaled(total: Fraction, answer: Answer) -> int:
    low, high = Fraction(answer.clip_low), Fraction(answer.clip_high)
    scale_low, scale_high = Fraction(answer.scale_low), Fraction(answer.scale_high)
    share = (min(max(total, low), high) - low) / (high - low)
    return round(scale_low + share * (scale_high - scale_low))
