"""The number that a text states: every notation, what is no number, which one is the answer, hostile texts."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.evaluation.notation import plain
from cattune.evaluation.numbers import MAX_DIGITS
from cattune.evaluation.scores import last_number, numeric_match

HALF, THREE_QUARTERS = Fraction(1, 2), Fraction(3, 4)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("84", 84),
        ("Answer: 84.0", 84),
        ("084", 84),
        ("8.4e1", 84),
        ("8.4E+1 km", 84),
        ("6,359", 6359),
        ("1,234,567.25.", Fraction(123456725, 100)),
        ("1,234,56", 56),
        ("1,2345", 2345),
        ("3,5", 5),
        ("$ 5", 5),
        ("$5.50", Fraction(11, 2)),
        ("-$5", -5),
        ("$-5", -5),
        ("\u20ac12", 12),
        ("USD18", 18),
        ("Rs.500", 500),
        ("12%", 12),
        ("5kg", 5),
        (".5", HALF),
        ("...5", 5),
        ("3/4", THREE_QUARTERS),
        ("3 / 4", THREE_QUARTERS),
        ("-3/4", -THREE_QUARTERS),
        ("1/0", None),
        ("7, then 1/0", 7),
        ("10-3", 3),
        ("10 - 3", 3),
        ("= -3", -3),
        ("x = - 5", -5),
        ("(\u22124)", -4),
        ("\u20135", -5),
        ("12 apples and 8 pears", 8),
        ("Low Risk", None),
        ("", None),
        ("\u0663", None),
        ("9" * 5000, Fraction(10**5000 - 1)),
    ],
)
def test_a_number_in_running_text(text: str, number: Fraction | int | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"\boxed{7{,}200}", 7200),
        (r"\boxed{7\,200}", 7200),
        (r"\boxed{7\;200}", 7200),
        (r"\boxed{7,\!200}", 7200),
        ("The total is $7{,}200$ euros.", 7200),
        ("7 200", 7200),
        ("7\u2009200", 7200),
        ("7\u00a0200", 7200),
        ("1\u202f234\u202f567.5", Fraction(2469135, 2)),
        ("7'200", 7200),
        ("1,00,000", 100000),
        ("10 20 300 400", 400),
        ("1 1/2", Fraction(3, 2)),
        ("I ate 1 1/2.", Fraction(3, 2)),
        ("-2 1/2 cups", Fraction(-5, 2)),
        ("2 and 1/2", Fraction(5, 2)),
        ("1 5/2", Fraction(5, 2)),
        ("\u00bd", HALF),
        ("-\u00bd", -HALF),
        ("2\u00bd cups", Fraction(5, 2)),
        ("1 \u00be", Fraction(7, 4)),
        ("1\u20442", HALF),
        ("\u00b9\u2044\u2082", HALF),
        (r"\frac34", THREE_QUARTERS),
        (r"\tfrac 3 4", THREE_QUARTERS),
        (r"\dfrac{3}4", THREE_QUARTERS),
        (r"-\frac{3}{4}", -THREE_QUARTERS),
        (r"\boxed{\frac{-3}{4}}", -THREE_QUARTERS),
        (r"\boxed{- \frac{3}{4}}", -THREE_QUARTERS),
        (r"2\frac{1}{2}", Fraction(5, 2)),
        (r"\boxed{\frac{7{,}200}{2}}", 3600),
        ("5 x 10^3", 5000),
        (r"5 \times 10^{3}", 5000),
        (r"5\cdot10^{-3}", Fraction(1, 200)),
        ("5\u00d710\u00b3", 5000),
        ("10**3", 1000),
        (r"\boxed{\$18}", 18),
        (r"\boxed{18\%}", 18),
        (r"\boxed{45^\circ}", 45),
        (r"\boxed{45^{\circ}}", 45),
        (r"\boxed{\text{18 dollars}}", 18),
        (r"\boxed{18\text{ cm}^2}", 18),
        (r"\boxed{\mathbf{18}}", 18),
        ("18 m\u00b2", 18),
        ("**18**", 18),
    ],
)
def test_a_number_in_latex_and_typography(text: str, number: Fraction | int) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *("x^2", "x^{2}", "x\u00b2", "x**2", "x_1", "x_{12}", "x1", "H2O", "2^10", "2^{10}", "9**9**9", "101_2"),
        *("\u221a2", r"\sqrt{2}", r"\sqrt2", r"\sqrt[3]{5}", r"3\pi", "3\u03c0", "\u03c0/2", "x/2", r"2\sqrt{3}"),
        *(r"\frac{x}{4}", r"\frac{x^{2}}{4}", r"\frac{\sqrt{3}}{2}", r"\binom{5}{2}", r"0.\overline{3}"),
        *("12:30", "3:4", "10/12/2024", "2024-10-12", "1.2.3", "1.234,50", "\u20ac1.234,50", "-3:4", "1e999999"),
        *(r"\boxed{x+3}", r"\boxed{3 + x}", r"\boxed{3x}", r"\boxed{3(x+1)}", r"\boxed{20 - 2}", r"\boxed{5 < x}"),
        *(r"\boxed{3!}", r"\boxed{3 \pm 1}"),
        *(r"\boxed{(3, 4)}", r"\boxed{3, 4}", r"\boxed{3 \text{ and } 4}", r"\boxed{\text{A}} 7", r"\boxed{}", "two"),
        "9" * (MAX_DIGITS + 1),
    ],
)
def test_what_states_no_number(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (r"The answer is \boxed{18}. (20 minus 2)", 18),
        (r"\boxed{3}, no: \boxed{18}, and 5 are left", 18),
        (r"\boxed{\boxed{18}} 20", 18),
        (r"\boxed 18$, as 20 - 2", 18),
        (r"\fbox{18} 20", 18),
        (r"\boxed{18} \boxed{19", 18),
        (r"\boxed{x = 18} 20", 18),
        (r"\boxed{20 - 2 = 18} 2", 18),
        (r"\boxed{18\text{ eggs in 3 days}}", 18),
        ("\\boxed{18}\n\nQuestion: 3 and 4? \\boxed{7}", 18),
        ("48/2 = 24 clips\n#### 72", 72),
        ("#### 18 eggs in 3 days", 18),
        ("#### 18\n\nQuestion: Tom has 3 dogs and 4 cats. How many pets?", 18),
        ("#### 18\n#### 7", 18),
        ("5 #### - 5", -5),
        ("#### $1,234 in 2020", 1234),
        ("#### **18** (3 days)", 18),
        ("#### 3 + 4 = 7", 7),
        ("#### 2 1/2 cups", Fraction(5, 2)),
        ("#### 1. Add\n2 + 3\n#### 2. Say\nThe answer is 18.", 18),
        ("#### Step 1\n3 + 4\n#### Answer: 18", 18),
        ("72 #### no number", None),
        ("The answer is 72. She has 3 dogs.", 72),
        ("The answer is 72, in total, so she earns 3 more.", 72),
        ("The answer to question 3 is 18, in 5 days.", 18),
        ("**Answer:** 18\n\n(3 days)", 18),
        ("Final answer: $\\frac{3}{4}$ of 8 hours", THREE_QUARTERS),
        ("The answer is 5. No. The answer is 18. Of 20.", 18),
        ("The answer is 18, not 20.", 18),
        ("The answer is not 20 but 18", 18),
        ("The answer is 20 - 2 = 18 dollars of 30.", 18),
        ("The answer is 72 = 48 + 24.", 72),
        ("The answer is 3 times 6, which is 18", 18),
        ("The answer is 18.\nQ: 3 and 4?\nA: The answer is 7.", 18),
    ],
)
def test_which_number_is_the_answer(text: str, number: Fraction | int | None) -> None:
    assert last_number(text) == number


def test_numbers_agree_with_math_verify_or_the_difference_is_meant(request: pytest.FixtureRequest) -> None:
    recorded = json.loads((request.path.parent / "data" / "math_verify.json").read_text(encoding="utf-8"))["values"]
    meant = {
        *("\\boxed{18\\%}", "12%"),  # a percent sign is a unit here
        *("\\boxed{\\sqrt{16}}", "\\boxed{2^{10}}", "\\boxed{3 \\times 4}", "\\boxed{20 - 2}"),  # nothing is computed
        *("1,5", "12:30", "10/12/2024"),  # decimal comma; it reads 12 and 10 / 12 / 2024
        *("\\boxed{7\\,200}", "2 1/2", "5e3", "5 x 10^3", "#### 18 eggs in 3 days"),  # it reads 207, 1, 5, 1000, 3
        *("\u00bd", "\u22125", "-$5", "\\boxed{\\mathbf{18}}", "\\boxed{3} and then \\boxed{18}"),  # it reads nothing
    }
    ours = {text: last_number(text) for text in recorded}
    theirs = {text: None if value is None else Fraction(value) for text, value in recorded.items()}
    assert {text for text in recorded if ours[text] != theirs[text]} == meant


@pytest.mark.parametrize(
    "name", ["gsm8k_val", "mawps_train", "mawps_val", "svamp_train", "svamp_val", "stg_h_iid_test"]
)
def test_published_targets_state_the_number_at_their_end(published_data: Path, name: str) -> None:
    with (published_data / f"{name}.jsonl").open(encoding="utf-8") as lines:
        targets = [str(json.loads(line)["target"]) for line in lines]
    for target in targets:
        assert last_number(target) == Fraction(target.split()[-1].replace(",", "").lstrip("$"))


NOTATIONS = ("a/b", "frac", "dfrac", "mixed", "latex mixed")


def render(value: Fraction, notation: str) -> str:
    sign, size = "-" if value < 0 else "", abs(value)
    whole, part = divmod(size.numerator, size.denominator)
    if notation == "a/b" or not part:
        return f"{sign}{size}"
    if notation in ("frac", "dfrac"):
        return f"{sign}\\{notation}{{{size.numerator}}}{{{size.denominator}}}"
    if not whole:
        return f"{sign}{part}/{size.denominator}"
    fraction = f"{part}/{size.denominator}" if notation == "mixed" else f"\\frac{{{part}}}{{{size.denominator}}}"
    return f"{sign}{whole} {fraction}"


fractions = st.fractions(min_value=-(10**6), max_value=10**6, max_denominator=10**5)
frames = st.sampled_from(
    ["{}", "$ {} $", "\\boxed{{{}}} of 7", "#### {}", "The answer is {}, of 7.", "x = {}", "7, {}"]
)


@given(value=fractions, notation=st.sampled_from(NOTATIONS), frame=frames)
def test_a_fraction_in_every_notation_gives_the_number_back(value: Fraction, notation: str, frame: str) -> None:
    assert last_number(frame.format(render(value, notation))) == value


numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3)
separators = st.sampled_from([",", "{,}", "\\,", "\\;", "~", " ", "\u2009", "\u202f", "\u00a0", "'"])


@given(value=numbers, separator=separators, frame=frames)
def test_a_decimal_in_every_grouping_gives_the_number_back(value: object, separator: str, frame: str) -> None:
    grouped = frame.format(f"{value:,f}".replace(",", separator))
    assert last_number(grouped) == Fraction(str(value))
    assert numeric_match(grouped + " units.", f"{value:f}0%") is True


PIECES = (
    r"\boxed{", "{", "}", "####", "answer is ", r"\frac", r"\text{", "^", "_", "9", "12", "1,234", "1 234", "/", "-",
    "\u2013", " ", "\n", "=", "\u00bd", "\u00b2", "e9", r"\,", "{,}", r"\sqrt{", "**", "$", r"\$", "x", "Q:", "\u2248",
    "(", "\u00d7", "\u03c0", ".", ":", "\ud800", "\0", "\u202e", "\u0663", "<", "Question", "a1",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join))
def test_no_text_breaks_the_number_reader(text: str) -> None:
    number = last_number(text)
    if number is not None:
        assert any(c.isdigit() or c.isnumeric() for c in text)
        assert number == last_number(f"#### {number}")
    plain(text)


def test_ten_thousand_hostile_texts_are_read() -> None:
    pick = random.Random(0)
    for _ in range(10_000):
        last_number("".join(pick.choices(PIECES, k=pick.randint(1, 24))))


@pytest.mark.parametrize("piece", PIECES)
def test_a_long_text_of_one_piece_is_read(piece: str) -> None:
    last_number(piece * (20_000 // len(piece)))  # a reader that is not linear takes minutes
