r"""Which number of a text is its answer.

A further question that the model asks itself is cut off first ("Question:", "Q:", "Problem:": the stop sequences of
GSM8K's and MATH's tasks in lm-evaluation-harness). Then the first of these that states a number decides:

1. The last whole `\boxed{}` or `\fbox{}`: `last_boxed_only_string` (MATH, Hendrycks et al. 2021). A box holds the whole
   answer, so that an expression or a list in it states no number, and nothing outside of it counts.
2. The first `####` that a number follows: GSM8K's own `extract_answer` (Cobbe et al. 2021), lm-evaluation-harness's
   `strict-match`. `#### 1. Title` is a heading. Else what stands before the last `####` does not count.
3. The last "answer is ...", "answer: ...", "answer = ...", of which the first number counts (`gsm8k_cot`'s
   `strict-match`; math-verify's anchors).
4. The last number of the text: lm-evaluation-harness's `flexible-extract`.

In 1 to 3, `20 - 2 = 18` states 18, `72 = 48 + 24` states 72, and arithmetic without a result states nothing: nothing
is computed here.
"""

from __future__ import annotations

import re
from collections import deque
from fractions import Fraction
from itertools import islice, zip_longest

from cattune.evaluation.notation import OPAQUE, plain
from cattune.evaluation.numbers import MAX_DIGITS, numbers

_NEXT_QUESTION = re.compile(r"\n[ \t]*+(?:Question|Problem|Q)(?: ?[0-9]{1,4})? ?:")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?P<bare>[^{}\s$]+))|\\.|[{}]", re.DOTALL)
_MARK = re.compile(r"(?<!#)#{4}(?!#)(?![\s*_]*[0-9]{1,2}[.)][ \t]+[A-Za-z*])[\s*_`$({\[=:]*")
_PHRASE = re.compile(r"\banswer\b[^\n.]{0,60}?(?:\b(?:is|are|equals)\b|[:=])(?!\s*not\b)[\s*_:]*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?:(?![.!?](?:\s|$)|\n).){0,200}", re.DOTALL)
_LONGEST = 200
"""An answer that follows its mark is read within this many characters."""

_MOST = 100
"""So many marks, or phrases, of a text are looked at: a text of nothing else would take long."""


_OPERATOR = r"(?:[-\u2212\u2013+*/\u00d7\u00f7^]|\b(?:x|times|plus|minus|divided by|multiplied by)\b)"
_ARITHMETIC = re.compile(rf"[A-Za-z%\u00b0$ ]{{0,30}}?{_OPERATOR} ?\(? ?")
_EQUALS = re.compile(r"[^=<,;.\n]{0,30}[=\u2248] ?")
_LIST = re.compile(r"[,;]|\b(?:and|or|to)\b")
_TIED = re.compile(rf"(?:\b[A-Za-z0-9]|[)\]\u03c0{OPAQUE}]) ?[-\u2212+*/\u00d7\u00f7] ?\Z|\A= ?[*/\u00d7\u00f7] ?\Z")
"""What stands before a number that is an operand: `x + `."""

_FACTOR = re.compile(
    # A letter that touches its number is a factor, unless it is the sign of a unit (g, h, l, m, o for ordinals, s).
    rf" ?[!\u00b1]|[abcdefijknpqrtuvwxyz](?![A-Za-z])|\((?:[A-Za-z](?![A-Za-z])|[0-9\u221a\u03c0{OPAQUE}])"
    rf"| ?[-\u2212+*/\u00d7\u00f7] ?(?:[A-Za-z](?![A-Za-z])|[(0-9\u221a\u03c0{OPAQUE}])"
)
"""What stands behind a number in a box that is an operand: `3x`, `3 + x`, `3(x + 1)`, `3!`, `3 \u00b1 1`."""


def stated_number(text: str) -> Fraction | None:
    """The number that a text states as its answer; None if it states none."""
    text = _first_answer(text)
    if (box := _last_box(text)) is not None:
        return _said(box, in_box=True) if len(box) <= MAX_DIGITS else None
    text = plain(text)
    for mark in islice(_MARK.finditer(text), _MOST):
        if (value := _directly_after(text, mark.end())) is not None:
            return value
    text = text.rpartition("####")[2]
    for phrase in reversed(deque(_PHRASE.finditer(text), _MOST)):
        sentence = _SENTENCE.match(text, phrase.end())
        if sentence and (value := _said(sentence[0])) is not None:
            return value
    return next((value for number in reversed(list(numbers(text))) if (value := number.value()) is not None), None)


def _first_answer(text: str) -> str:
    match = _NEXT_QUESTION.search(text)
    return text[: match.start()] if match and text[: match.start()].strip() else text


def _last_box(text: str) -> str | None:
    """What stands in the box that opens last of those that are closed; one pass, however they nest."""
    opened: list[int | None] = []
    last, content = -1, None
    for match in _BRACES.finditer(text):
        if match["bare"]:
            last, content = match.start(), match["bare"]
        elif match[0] == "}":
            start = opened.pop() if opened else None
            if start is not None and start > last:
                last, content = start, text[start : match.start()]
        elif match[0].endswith("{") and match[0] != r"\{":
            opened.append(match.end() if len(match[0]) > 1 else None)
    return content


def _directly_after(text: str, start: int) -> Fraction | None:
    """What the rest of the line says, if it begins with a number."""
    line = plain("=" + text[start : start + _LONGEST].partition("\n")[0])
    first = next(numbers(line), None)
    return _said(line[1:]) if first is not None and first.start == 1 else None


def _said(words: str, in_box: bool = False) -> Fraction | None:
    """The result that the first number, with the arithmetic that it is part of, comes to by the text's own words."""
    words = plain("=" + words)  # an answer begins here, so that a sign may stand apart from its number: "- 5"
    found = [] if in_box and "<" in words else list(numbers(words))
    stated, operand = None, bool(found) and bool(_TIED.search(words[: found[0].start]))
    for number, following in zip_longest(found, found[1:]):
        between = words[number.end : following.start if following else None]
        goes_on = following is not None and (
            bool(_ARITHMETIC.fullmatch(between)) or (between.isspace() and words[following.start] in "-\u2212")
        )
        if not (operand or goes_on or (in_box and _FACTOR.match(between))):
            stated = value if (value := number.value()) is not None else stated
        if following is None:
            break
        if in_box and _LIST.search(between):
            return None
        operand = goes_on or bool(_TIED.search(between))
        if not (goes_on or _EQUALS.fullmatch(between)):
            break
    return stated
