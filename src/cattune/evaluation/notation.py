r"""LaTeX and typography rewritten as plain signs, so that numbers are read in one notation.

What is rewritten, and who does the same:

- `\dfrac`, `\tfrac`, `\frac12`, `\frac1{72}` are fractions; `\left`, `\right`, `\!`, `\$`, `\%` and `^\circ` go: the
  normalisation of MATH answers (Hendrycks et al. 2021), `strip_string` in lm-evaluation-harness's `hendrycks_math`.
- `\text{...}` and its kin are what stands in them: `normalize_final_answer` of Minerva (Lewkowycz et al. 2022).
- Blanks of LaTeX (`\,`, `\;`, `~`) and of Unicode are blanks: ISO 80000-1 groups digits in threes by a small space.
- `½` and `¹⁄₂` are the fraction that Unicode's compatibility decomposition says; `x²` is `x^2`.
- What is not a number's own sign (a root, a power in braces, a fraction with a letter in it) becomes `OPAQUE`.
"""

from __future__ import annotations

import re
import unicodedata

OPAQUE = "\u25a1"
"""Stands for an expression that states no number."""

_NESTED = 4
"""Fractions and roots in one another are taken apart to this depth."""

_BLANKS = re.compile(
    r"[\u00a0\u2000-\u200a\u202f\u205f\u3000~]|\\(?:[,;: >()\[\]]|(?:thin|med|thick|neg|en)space\b|q?quad\b)"
)
_NOTHING = re.compile(
    r"[\u200b\u2060\ufeff]|\\!|\\(?:left|right|displaystyle|textstyle|bigl?|bigr?)(?![A-Za-z])"
    r"|\^ ?\{? ?(?:\\(?:text|mathrm) ?\{ ?)?(?:st|nd|rd|th)\b(?: ?\})*"
)
_SIGNS = {
    r"\$": "$",
    r"\%": "%",
    r"\times": "\u00d7",
    r"\cdot": "\u00d7",
    r"\ast": "\u00d7",
    r"\div": "\u00f7",
    r"\over": "/",
    r"\pm": "\u00b1",
    r"\mp": "\u00b1",
    r"\pi": "\u03c0",
    r"\approx": "\u2248",
    r"\simeq": "\u2248",
    r"\pounds": "\u00a3",
    r"\euro": "\u20ac",
    **dict.fromkeys((r"\lt", r"\le", r"\leq", r"\gt", r"\ge", r"\geq", r"\ne", r"\neq"), "<"),
}
_SIGN = re.compile(r"\\[$%]|\\[a-z]+(?![A-Za-z])")
_DEGREES = re.compile(r"\^ ?\{? ?\\circ ?\}?|\\(?:degrees?|circ)(?![A-Za-z])")
_PUNCTUATION_IN_BRACES = re.compile(r"\{ ?([.,]) ?\}")
_WORDS = re.compile(r"\\(?:text\w*|math\w+|mbox|hbox|emph|bm|boldsymbol|underline|operatorname) ?\{([^{}]*)\}")

_SUPERSCRIPT = "\u2070\u00b9\u00b2\u00b3\u2074-\u2079"
_VULGAR = re.compile(
    rf"[\u00bc-\u00be\u2150-\u215e\u2189]|(?<![{_SUPERSCRIPT}])[{_SUPERSCRIPT}]++[\u2044/][\u2080-\u2089]++"
)
_RAISED = re.compile(rf"[\u207a\u207b]?[{_SUPERSCRIPT}\u207f]+")
_PYTHON_POWER = re.compile(r"(?<=[0-9A-Za-z)])(?:\*\*(-?[0-9]{1,9}))+(?![*0-9])")

_POWER = re.compile(r"([_^]) ?\{([^{}]*)\}")
_SMALL = re.compile(r" ?[-+\u2212]?[0-9]{1,3} ?")
_ARGUMENT = r" ?(?:\{([^{}]*)\}|([0-9A-Za-z]))"
_FRACTION = re.compile(rf"\\[dtc]?frac{_ARGUMENT}{_ARGUMENT}")
_FUNCTION = re.compile(rf"\\(?:sqrt(?: ?\[[^\[\]{{}}]*\])?|overline|d?t?binom{_ARGUMENT}){_ARGUMENT}")
_SIMPLE = re.compile(r" ?([-+\u2212]?) ?([0-9,]+(?:\.[0-9]+)?|\.[0-9]+) ?")
_SIGN_APART = re.compile(r"(?<=[=(\u2248{:])( ?)([-\u2212\u2013]) +(?=[0-9.$])")


def plain(text: str) -> str:
    """The text in plain signs; takes time linear in its length, and refuses no text."""
    text = _BLANKS.sub(" ", text)
    text = _VULGAR.sub(_vulgar, text)
    text = _RAISED.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]).replace("\u2212", "-"), text)
    text = text.replace("\u2044", "/")
    text = _PYTHON_POWER.sub(lambda match: "^" + (match[1] if match[0] == "**" + match[1] else OPAQUE), text)
    if "\\" in text or "{" in text:
        text = _without_latex(text)
    return _SIGN_APART.sub(r"\1\2", text)


def _without_latex(text: str) -> str:
    text = _NOTHING.sub("", text)
    text = _DEGREES.sub("\u00b0", text)
    text = _SIGN.sub(lambda match: _SIGNS.get(match[0], match[0]), text)
    text = _PUNCTUATION_IN_BRACES.sub(r"\1", text)
    for _ in range(_NESTED):
        before = text
        text = _WORDS.sub(r" \1", text)
        text = _POWER.sub(_power, text)
        text = _FUNCTION.sub(OPAQUE, text)
        text = _FRACTION.sub(_fraction, text)
        if text == before:
            break
    return text


def _vulgar(match: re.Match[str]) -> str:
    """`2½` is a mixed number, so that a blank keeps the digits apart."""
    top, _, bottom = unicodedata.normalize("NFKC", match[0]).replace("/", "\u2044").partition("\u2044")
    return _apart(match, f"{top}/{bottom}")


def _fraction(match: re.Match[str]) -> str:
    top, bottom = (_SIMPLE.fullmatch(match[i] or match[i + 1] or "") for i in (1, 3))
    if top is None or bottom is None:
        return OPAQUE
    sign = "-" if bool(top[1].strip("+")) != bool(bottom[1].strip("+")) else ""
    return _apart(match, f"{sign}{top[2]}/{bottom[2]}")


def _apart(match: re.Match[str], fraction: str) -> str:
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return (" " if before.isdigit() else "") + fraction + (" " if after.isdigit() else "")


def _power(match: re.Match[str]) -> str:
    inside = match[2] if _SMALL.fullmatch(match[2]) else OPAQUE
    return match[1] + inside.strip().replace("\u2212", "-")
