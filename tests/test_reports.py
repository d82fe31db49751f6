"""The page and the tables: every number is there, every text is harmless, and no input breaks the drawing."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cattune.errors import DataError
from cattune.io import write_text
from cattune.reports.data import Arm, Curve, Metric, ReportData, Score, Split, Strip, StripRow
from cattune.reports.finding import finding
from cattune.reports.html import render_report, visible
from cattune.reports.plot import HEIGHT, WIDTH, Axis, axis, path
from cattune.reports.terminal import percent, print_splits

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, with their attributes; fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def strip(text: str = " Smoking") -> Strip:
    rows = (
        StripRow("sft", "Low Risk", False, (0.5, 0.25, 0.125, 0.125), 0.25, 0.125),
        StripRow("cat", "High Risk", True, (0.0, 1.0, 0.0, 0.0)),
    )
    return Strip("example-7", "ood", "High Risk", (text, " 3", " 9", ":"), ("", "cause", "spurious", ""), rows)


def report(**changes: Any) -> ReportData:
    arms = (
        Arm("sft", "Plain fine-tuning", {"iid": Score(0.971, 400, 0.011, (0.96, 0.982)), "ood": Score(0.653, 400)}),
        Arm("cat", "Causal Attention Tuning", {"iid": Score(0.972, 400), "ood": Score(0.968, 4000, 0.004)}),
        Arm("other", "Other", {"iid": Score(0.5, 400)}),
    )
    data = ReportData(
        title="A game",
        finding="It works.",
        splits=(Split("iid", "IID", "as in training"), Split("ood", "OOD")),
        arms=arms,
        majority={"iid": 0.6875, "ood": 0.665},
        intro=("What was done.",),
        metrics=(Metric("ce", "Cross-entropy"), Metric("ratio", "Attention ratio", log=True)),
        curves=(
            Curve("sft", "ce", ((0, 2.0), (10, None), (20, 1.0), (30, 0.5))),
            Curve("cat", "ratio", ((0, 0.0), (10, 5.0), (20, 500.0))),
        ),
        strips=(strip(),),
        provenance={"cattune": "0.1.0", "config": {"lr": 0.001}},
    )
    return replace(data, **changes)


def test_the_page_shows_every_number_and_the_majority_row() -> None:
    text = render_report(report())
    page = Page(text)
    words = " ".join(page.texts)
    for number in ("97.1", "± 1.1", "96.0", "98.2", "65.3", "97.2", "96.8", "± 0.4", "50.0", "68.8", "66.5"):
        assert number in words
    for piece in ("It works.", "A game", "What was done.", "as in training", "n = 400 or 4000", "Majority answer"):
        assert piece in " ".join(words.split())
    assert '"lr": 0.001' in words and "0.1.0" in words


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = Page(render_report(report()))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not [attrs for _, attrs in page.elements if {"src", "href", "srcset", "data"} & set(attrs)]
    assert not re.search(r"url\(|@import|https?://", render_report(report()))


HOSTILE = "</script><img src=x onerror=alert(1)><b>'\"&{{ 123*456 }}{% x %}-->"


def test_every_text_is_harmless() -> None:
    arm = Arm(HOSTILE, HOSTILE, {HOSTILE: Score(0.5, 4)}, HOSTILE)
    row = StripRow(HOSTILE, HOSTILE, False, (0.1,))
    data = ReportData(
        title=HOSTILE,
        finding=HOSTILE,
        splits=(Split(HOSTILE, HOSTILE, HOSTILE),),
        arms=(arm,),
        majority={HOSTILE: 0.5},
        intro=(HOSTILE,),
        spread_label=HOSTILE,
        metrics=(Metric(HOSTILE, HOSTILE, HOSTILE),),
        curves=(Curve(HOSTILE, HOSTILE, ((0, 1), (1, 2))),),
        strips=(Strip(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,), ("cause",), (row,)),),
        provenance={HOSTILE: HOSTILE, "more": {HOSTILE: [HOSTILE]}},
    )
    page = Page(render_report(data))
    assert not {tag for tag, _ in page.elements} & {"script", "img"}
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    shown = "".join(page.texts)
    assert shown.count("{{ 123*456 }}") >= 20 and "56088" not in shown


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30) | st.text(st.characters(categories=["Cc", "Cs", "Cf", "Zs"]), max_size=5))
def test_any_token_can_be_shown_and_written(tmp_path_factory: pytest.TempPathFactory, token: str) -> None:
    page = render_report(report(strips=(strip(token),)))
    write_text(tmp_path_factory.mktemp("page") / "report.html", page)
    assert len(Page(page).of_class("cell")) == 2 + 2 * 4  # two in the legend
    assert visible(token) and not any(c in visible(token) for c in "\n\t\r\0\x1b\u202e")


def test_white_space_is_made_visible() -> None:
    shown = [visible(text) for text in ("", " ", "  ", " Risk", "Low Risk", "\n", " a\tb ", "\x1b", "\u202e")]
    assert shown == ["∅", "␣", "␣␣", "Risk", "Low Risk", "⏎", "a⇥b", "␛", "�"]


def test_a_heat_strip_has_a_row_for_each_arm_in_order() -> None:
    page = Page(render_report(report()))
    cells = page.of_class("cell")[2:]
    kinds = [(cell["class"] or "").split()[1] for cell in cells]
    assert kinds == ["plain", "cause", "spurious", "plain"] * 2
    strengths = [float((cell["style"] or "").removeprefix("--a:")) for cell in cells]
    assert strengths == [0.5, 0.25, 0.125, 0.125, 0.0, 1.0, 0.0, 0.0]
    assert cells[1]["title"] == "3: 25.0 % (cause)" and cells[3]["title"] == ":: 12.5 %"
    words = " ".join(page.texts)
    assert words.index("✗ Low Risk") < words.index("✓ High Risk")
    assert "25.0 % on causes, 12.5 % on spurious" in words


def test_a_curve_breaks_where_a_value_is_missing_and_says_so() -> None:
    page = Page(render_report(report()))
    curves = page.of_class("curve")
    assert [re.sub(r"[^ML]", "", curve["d"] or "") for curve in curves] == ["MML", "ML"]
    notes = [text for text in page.texts if "not drawn" in text]
    assert notes == ["1 value undefined, not drawn.", "1 value undefined or not above zero, not drawn."]


def test_a_report_without_curves_strips_or_spread_is_a_page_too() -> None:
    page = Page(render_report(report(metrics=(), curves=(), strips=(), intro=(), provenance={})))
    assert "Training" in page.texts and "What the answer reads" not in page.texts
    assert Page(render_report(report(curves=())))  # panels without a curve


def test_the_data_go_through_json_and_back() -> None:
    data = report()
    assert ReportData.from_dict(json.loads(json.dumps(data.to_dict()))) == data


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["title"], 3, "report.title: expected str, got int"),
        (["arms", 0, "scores", "iid", "mean"], "high", r"report.arms\[0\].scores\['iid'\].mean: expected float"),
        (["arms", 0, "scores", "iid", "mean"], 97.1, "from 0 to 1, got 97.1"),
        (["arms", 0, "scores", "iid", "mean"], math.nan, "from 0 to 1, got nan"),
        (["arms", 0, "scores", "iid", "spread"], math.inf, "finite number >= 0"),
        (["arms", 1, "name"], "sft", "names the arm 'sft' twice"),
        (["arms"], [], "needs a split and an arm"),
        (["arms", 0, "scores"], {"new": {"mean": 1, "n": 1}}, "names the split 'new'; the report has iid, ood"),
        (["majority"], {"iid": 0.5}, r"no majority share for \['ood'\]"),
        (["curves", 0, "points", 0], [1], "expected 2 values, got 1"),
        (["curves", 0, "arm"], "x", "names the arm 'x'"),
        (["strips", 0, "kinds", 0], "casue", "of kind"),
        (["strips", 0, "kinds"], [], "4 tokens and 0 kinds"),
        (["strips", 0, "rows", 0, "attention"], [0.5], "4 tokens, and 1 attentions of 'sft'"),
        (["strips", 0, "rows", 0, "attention", 0], -0.5, "not finite numbers >= 0"),
        (["strips", 0, "rows", 0, "correct"], 1, "expected bool, got int"),
        (["extra"], 1, "unknown key 'extra'"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_their_place(place: list[Any], value: Any, message: str) -> None:
    record = json.loads(json.dumps(report().to_dict()))
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(DataError, match=message):
        ReportData.from_dict(record)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(DataError, match="report: the key 'title' is missing"):
        ReportData.from_dict({})
    with pytest.raises(DataError, match="report: expected an object, got list"):
        ReportData.from_dict([])  # type: ignore[arg-type]


values = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)


@given(st.lists(values, max_size=20), st.integers(1, 8))
def test_an_axis_holds_its_values_and_has_ticks_in_their_order(data: list[float], count: int) -> None:
    scale = axis(data, 400.0, 10.0)
    assert scale.low < scale.high
    assert all(9.999 <= scale.place(value) <= 400.001 for value in data)
    check_ticks(scale, count)


@given(st.lists(st.floats(1e-100, 1e100), max_size=20), st.integers(1, 8))
def test_a_logarithmic_axis_too(data: list[float], count: int) -> None:
    scale = axis(data, 400.0, 10.0, log=True)
    assert all(9.999 <= scale.place(value) <= 400.001 for value in data)
    check_ticks(scale, count)


def check_ticks(scale: Axis, count: int) -> None:
    places = [tick.at for tick in scale.ticks(count)]
    assert places == sorted(places, reverse=True) and len(places) <= 3 * count + 3
    assert all(9.8 <= place <= 400.2 for place in places)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.none() | st.floats()), max_size=30), st.booleans())
def test_a_path_stays_inside_its_panel(points: list[tuple[float, float | None]], log: bool) -> None:
    x, y = Axis(0, 10**6, 0, WIDTH), axis([1e-3, 1.0], HEIGHT, 0, log)
    inside = [(s, v if v is None or not math.isfinite(v) else min(max(v, 0.0), 1.0) or 0.0) for s, v in points]
    inside = [(s, v if v is None or not 0 < v < 1e-3 else 1e-3) for s, v in inside]
    drawn = path(inside, x, y)
    assert "nan" not in drawn and "inf" not in drawn
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", drawn)]
    assert all(-0.1 <= n <= max(WIDTH, HEIGHT) + 0.1 for n in numbers)
    assert len(numbers) == 2 * sum(v is not None and math.isfinite(v) and (v > 0 or not log) for _, v in inside)


def two_arms(before: float, after: float, other: float, spread: float = 0.01) -> str:
    one = Arm("a", "SFT", {"iid": Score(before, 400, spread), "ood": Score(after, 400, spread)})
    two = Arm("b", "CAT", {"iid": Score(0.97, 400, spread), "ood": Score(other, 400, spread)})
    return finding(one, two, "iid", "ood").replace("\u00a0", " ")


def test_the_finding_says_what_the_numbers_bear_out() -> None:
    assert two_arms(0.971, 0.653, 0.968) == (
        "SFT falls from 97.1 % to 65.3 % when the spurious correlations break; CAT stays at 96.8 % (97.0 % before), "
        "31.5 points higher."
    )
    assert "CAT falls from 97.0 % to 60.0 %, 20.0 points lower." in two_arms(0.9, 0.8, 0.6)
    assert "SFT rises from 50.0 % to 80.0 %" in two_arms(0.5, 0.8, 0.6)
    assert two_arms(0.97, 0.66, 0.97, spread=0.2).endswith("which is not clearly different.")
    assert "SFT stays at 65.3 %" in two_arms(0.66, 0.653, 0.968, spread=0.0)


def test_the_table_always_has_a_majority_row_and_shows_names_as_they_are() -> None:
    scores = {
        "n": 400, "accuracy": 0.968, "stderr": 0.0088, "numeric_accuracy": None, "numeric_stderr": None,
        "balanced_accuracy": 0.9612, "balanced_stderr": 0.01,
    }  # fmt: skip
    majority = {**scores, "label": "Low [red]Risk\x1b[2J", "accuracy": 0.6875, "stderr": 0.02, "balanced_accuracy": 0.5}
    split = {**scores, "majority": majority, "grouped_by": "first", "groups": {"true": {**scores, "n": 7}}}
    out = io.StringIO()
    print_splits({"iid": split, "[bold]ood": split}, out)
    lines = out.getvalue().splitlines()
    assert sum("majority: Low [red]Risk\ufffd[2J" in line and "68.8 ± 2.0" in line for line in lines) == 2
    assert any(re.search(r"^ *\[bold\]ood +400 +96\.8 ± 0\.9 +- +96\.1 ± 1\.0", line) for line in lines)
    assert sum(bool(re.search(r"first = true +7 ", line)) for line in lines) == 2
    assert "\x1b" not in out.getvalue()


def test_percent() -> None:
    assert (percent(0.9684, 0.00875), percent(1.0), percent(None, 0.1)) == ("96.8 ± 0.9", "100.0", "-")
