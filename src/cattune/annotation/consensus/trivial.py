"""Is an annotation better than a trivial rule? Two rules that read nothing are held to the same reference.

Compared are the words of the prompt that the completion depends on: those that lie in a cause of a link whose effect is
in the completion. Words, since a rule knows no phrases; and for texts with numbers also how often just the right
numbers are named. An example on which the file failed counts as one for which it names nothing: so the rules and the
file are measured on the same examples.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cattune.annotation.consensus.agreement import Figure, f1, figure, resampled
from cattune.annotation.consensus.ballots import WORD
from cattune.data.examples import Example

LEAST_EXAMPLES = 10
"""With fewer, the bootstrap says nothing of use."""

BETTER, WORSE, SAME, TOO_FEW = "better", "worse", "not told apart", "too few examples"

# English; of other languages every word has content.
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about above after again all also am an and any are as at be because been before being below between both
        but by can could did do does doing down during each either else few for from further had has have having he her
        here hers herself him himself his how i if in into is it its itself just me more most much my myself neither no
        nor not now of off on once only or other our ours out over own same shall she should so some such than that the
        their theirs them then there these they this those through to too under until up upon us very was we were what
        when where which while who whom whose why will with would yet you your yours""",
    )
)

_Words: TypeAlias = "Mapping[tuple[str, int], str]"
"""The words of a text, by field and start."""

_Places: TypeAlias = "frozenset[tuple[str, int]]"


def _numbers(words: _Words) -> _Places:
    return frozenset(place for place, word in words.items() if word[0].isdecimal())


def _content_words(words: _Words) -> _Places:
    return frozenset(place for place, word in words.items() if word.lower() not in _FUNCTION_WORDS)


RULES: Mapping[str, Callable[[_Words], _Places]] = {
    "every number": _numbers,
    "every content word": _content_words,
}
"""What each rule calls a cause of the answer."""


@dataclass(frozen=True, slots=True)
class Score:
    """How far one annotator agrees with the reference.

    Args:
        precision: of the words that it names, and `recall` of those that the reference names.
        f1: of words.
        numbers: the share of the examples with numbers among their causes for which it names just these numbers.
    """

    precision: float | None
    recall: float | None
    f1: Figure
    numbers: Figure


@dataclass(frozen=True, slots=True)
class Against:
    """The file beside the best rule.

    Args:
        rule: which rule is the best.
        difference: the file's figure less the rule's, over the same samples of the examples.
        verdict: `BETTER`, `WORSE`, `SAME` or `TOO_FEW`.
    """

    rule: str
    difference: Figure
    verdict: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The file and the rules, held to the reference.

    Args:
        examples: with a cause of the answer in the reference; `with_numbers` have a number among these.
        scores: by annotator: the file, then the rules.
        words: by F1 of words.
        numbers: by the share of examples with just the right numbers; None where there are none.
    """

    examples: int
    with_numbers: int
    scores: Mapping[str, Score]
    words: Against
    numbers: Against | None

    def to_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return asdict(self)


class TrivialTally:
    """Adds up what the comparison is made of, example by example.

    Args:
        file: what the file is called among the rules.
    """

    def __init__(self, file: str) -> None:
        self._names = (file, *RULES)
        self._rows: Counter[tuple[float, ...]] = Counter()

    def add(self, file: Example, reference: Example) -> None:
        """Both annotations of an example; it counts where the reference has a cause of the answer."""
        words = _prompt_words(reference)
        meant = _causes(reference, words)
        if not meant:
            return
        numbers = _numbers(words)
        row = [int(bool(meant & numbers))]
        for named in (_causes(file, words), *(rule(words) for rule in RULES.values())):
            is_right = bool(meant & numbers) and named & numbers == meant & numbers
            row += [len(named & meant), len(named), len(meant), int(is_right)]
        self._rows[tuple(row)] += 1

    def comparison(self) -> Comparison | None:
        """The figures on all that was added; None where that is nothing."""
        if not self._rows:
            return None
        total, draws = resampled(self._rows, 1 + 4 * len(self._names))
        at = {name: 1 + 4 * index for index, name in enumerate(self._names)}
        rates = {name: _Rates(total, draws, start) for name, start in at.items()}
        examples, with_numbers = self._rows.total(), int(total[0])
        scores = {name: Score(rate.precision, rate.recall, rate.f1, rate.numbers) for name, rate in rates.items()}
        words = _against({name: (rate.f1_total, rate.f1_draws) for name, rate in rates.items()}, examples)
        right = {name: (rate.right_total, rate.right_draws) for name, rate in rates.items()}
        return Comparison(
            examples, with_numbers, scores, words, _against(right, with_numbers) if with_numbers else None
        )


class _Rates:
    """The figures of one annotator, whose sums stand from `start` on."""

    def __init__(self, total: NDArray[np.float64], draws: NDArray[np.float64], start: int) -> None:
        both, named, meant, right = (float(value) for value in total[start : start + 4])
        self.precision = both / named if named else None
        self.recall = both / meant
        self.f1_total, self.f1_draws = f1(total[start : start + 3]), f1(draws[:, start : start + 3])
        with np.errstate(invalid="ignore"):
            self.right_total = np.asarray(right / total[0] if total[0] else np.nan)
            self.right_draws = draws[:, start + 3] / draws[:, 0]
        self.f1, self.numbers = figure(self.f1_total, self.f1_draws), figure(self.right_total, self.right_draws)


def _against(figures: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], examples: int) -> Against:
    (total, draws), *_ = figures.values()
    rule = max(RULES, key=lambda name: float(figures[name][0]))
    difference = figure(total - figures[rule][0], draws - figures[rule][1])
    low, high = difference.low or 0.0, difference.high or 0.0
    verdict = TOO_FEW if examples < LEAST_EXAMPLES else BETTER if low > 0 else WORSE if high < 0 else SAME
    return Against(rule, difference, verdict)


def _prompt_words(example: Example) -> _Words:
    return {
        (name, match.start()): match[0]
        for name, text in example.fields.items()
        if name != example.completion_field
        for match in WORD.finditer(text)
    }


def _causes(example: Example, words: _Words) -> _Places:
    """The words that lie, wholly or in part, in a cause of a link whose effect is in the completion."""
    places = list(words)  # sorted within a field, as its words are
    fields = list(dict.fromkeys(name for name, _ in places))
    starts = {field: [start for name, start in places if name == field] for field in fields}
    named = set()
    for link in example.links:
        for cause in link.causes if link.effect.field == example.completion_field else ():
            known = starts.get(cause.field, [])
            first = max(0, bisect_right(known, cause.start) - 1)
            for start in known[first : bisect_left(known, cause.end)]:
                if cause.start < start + len(words[cause.field, start]):
                    named.add((cause.field, start))
    return frozenset(named)
