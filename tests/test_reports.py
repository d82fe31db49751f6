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

from cattune.data.atomic import write_text
from cattune.errors import DataError
from cattune.evaluation.intervals import stderr_of_rate, wilson
from cattune.reports.data import Arm, Curve, Metric, ReportData, Score, Split, Strip, StripRow
from cattune.reports.finding import finding
from cattune.reports.html import render_report, visible
from cattune.reports.plot import HEIGHT, WIDTH, Axis, axis, path
from cattune.reports.remarks import arms_remarks
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
    words = " ".join(" ".join(page.texts).split())
    assert "No heat-strips to show. None were recorded." in words and "Against optimizer steps" not in words


def test_a_report_says_where_there_is_nothing_to_plot() -> None:
    page = Page(render_report(report(curves=())))
    words = " ".join(" ".join(page.texts).split())
    assert (
        "Nothing to plot: training logged none of these figures; a run that is shorter" in words
        and not page.of_class("curve")
    )
    some = Page(render_report(report(curves=report().curves[:1], strips=(), no_strips="Only for two arms.")))
    words = " ".join(" ".join(some.texts).split())
    assert (
        "Nothing to plot: no arm logged it, as with gamma 0 or without supervised rows." in words
        and len(some.of_class("curve")) == 1
    )
    assert "No heat-strips to show. Only for two arms." in words


def test_a_curve_of_one_value_is_a_dot_and_one_of_none_is_told() -> None:
    curves = (Curve("sft", "ce", ((10, 2.0),)), Curve("cat", "ratio", ((0, 0.0), (10, None))))
    page = Page(render_report(report(curves=curves)))
    (curve,) = page.of_class("curve")
    assert re.fullmatch(r"M[\d.]+ [\d.]+Z", curve["d"] or "") and "dots" in (curve["class"] or "").split()
    assert "Nothing to plot: 2 values undefined or not above zero." in " ".join(" ".join(page.texts).split())


def test_a_page_without_a_finding_is_headed_by_its_title() -> None:
    text = render_report(report(finding=""))
    assert "<h1>A game</h1>" in text and "overline" not in text.partition("<body>")[2]


def test_remarks_name_the_splits_that_they_hold_for_once() -> None:
    told = {"majority_label": "Low", "answers": 40, **scores_of(0.6, 40, constant_answer="Low", beats_majority=False)}
    arms = {"sft": {"iid": told, "ood": told, "validation": told}, "cat": {"iid": {**told, "constant_answer": None}}}
    labels = {"sft": "Plain", "cat": "CAT", "iid": "IID", "ood": "OOD"}
    assert arms_remarks(arms, labels) == [
        'Plain (IID; OOD): every answer is "Low", the best constant answer',
        'CAT (IID): no better than the best constant answer, "Low", as far as 95% intervals tell',
    ]
    assert arms_remarks(arms)[0].startswith("sft (iid; ood; validation): ")


def test_notes_and_intervals_stand_at_the_table() -> None:
    arm = Arm("sft", "Plain", {"iid": Score(0.0, 12, 0.0, (0.0,), *wilson(0.0, 12)), "ood": Score(0.5, 400, 0.025)})
    data = report(arms=(arm,), curves=(), strips=(), notes=("Plain, IID: 3 of 12 answers were cut off at 6 tokens",))
    words = " ".join(" ".join(Page(render_report(data)).texts).split())
    assert "[0.0, 24.2]" in words and "± 2.5" in words and "[from, to] is a 95% interval" in words
    assert "Plain, IID: 3 of 12 answers were cut off at 6 tokens" in words
    assert "95% interval" not in render_report(report())


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
        (["arms", 0, "scores", "iid", "low"], 0.5, "both ends or none"),
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


def test_the_finding_makes_no_news_of_a_handful_of_answers() -> None:
    def arm(label: str, iid: int, ood: int) -> Arm:
        scores = {
            name: Score(k / 12, 12, stderr_of_rate(k / 12, 12), (), *wilson(k / 12, 12))
            for name, k in (("iid", iid), ("ood", ood))
        }
        return Arm(label, label, scores)

    assert finding(arm("SFT", 12, 10), arm("CAT", 0, 2), "iid", "ood").count("stays at") == 2
    assert "SFT falls" in finding(arm("SFT", 12, 3), arm("CAT", 12, 12), "iid", "ood")


def scores_of(accuracy: float, n: int = 400, **changes: Any) -> dict[str, Any]:
    low, high = wilson(accuracy, n)
    none = {f"{kind}_{key}": None for kind in ("numeric", "balanced") for key in ("accuracy", "stderr", "low", "high")}
    told = {"unfinished": 0, "max_new_tokens": 6, "constant_answer": None, "beats_majority": True}
    rate = {"n": n, "accuracy": accuracy, "stderr": stderr_of_rate(accuracy, n), "low": low, "high": high}
    return {**rate, **none, **told, **changes}


def split_of(accuracy: float, n: int = 400, **changes: Any) -> dict[str, Any]:
    return scores_of(accuracy, n, majority={**scores_of(0.6875, n), "label": "Low [red]Risk\x1b[2J"}, **changes)


def printed(splits: dict[str, Any], columns: int | None = None) -> str:
    out = io.StringIO()
    if columns is not None:
        out.isatty = lambda: True  # type: ignore[method-assign]
    print_splits(splits, out)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def test_the_table_always_has_a_majority_row_and_shows_names_as_they_are() -> None:
    balanced = {"balanced_accuracy": 0.9612, "balanced_stderr": 0.01, "balanced_low": 0.94, "balanced_high": 0.98}
    split = split_of(0.968, grouped_by="first", groups={"true": scores_of(0.5, 7)}, **balanced)
    text = printed({"iid": split, "[bold]ood": split})
    lines = text.splitlines()
    assert sum("majority: Low [red]Risk\ufffd[2J" in line and "68.8 ± 2.3" in line for line in lines) == 2
    assert any(re.search(r"^ *\[bold\]ood +400 +96\.8 ± 0\.9 +- +96\.1 ± 1\.0", line) for line in lines)
    assert sum(bool(re.search(r"first = true +7 ", line)) for line in lines) == 2
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("rate", "n", "cell"),
    [
        (0.0, 12, "0.0 [0.0, 24.2]"),
        (1.0, 12, "100.0 [75.8, 100.0]"),
        (1.0, 4000, "100.0 [99.9, 100.0]"),
        (0.5, 12, "50.0 [25.4, 74.6]"),
        (0.968, 4000, "96.8 ± 0.3"),
        (0.66, 400, "66.0 ± 2.4"),
    ],
)
def test_a_rate_has_an_interval_where_its_standard_error_says_too_much(rate: float, n: int, cell: str) -> None:
    text = printed({"iid": split_of(rate, n)})
    assert cell in text
    assert ("95% interval" in text) == ("[" in cell or n == 12)  # the majority row has an interval, too, for 12


def test_what_must_be_said_of_a_score_stands_below_the_table() -> None:
    splits = {
        "fine": split_of(0.9),
        "same": split_of(0.6875, constant_answer="Low [red]Risk\x1b[2J", beats_majority=False),
        "other": split_of(0.3, constant_answer="High", beats_majority=False),
        "level": split_of(0.69, beats_majority=False, unfinished=12),
        "one": split_of(0.9, n=1, unfinished=1, max_new_tokens=1),
    }
    text = printed(splits)
    notes = [line for line in text.splitlines() if ": " in line and "majority:" not in line]
    assert len(notes) == 5 and not any(note.startswith("fine") for note in notes)
    assert re.search("^same: every answer is .*, the best constant answer$", text, re.MULTILINE)
    assert re.search('^other: every answer is "High", and .* is the best constant answer$', text, re.MULTILINE)
    assert re.search("^level: no better than the best constant answer, ", text, re.MULTILINE)
    assert "level: 12 of 400 answers were cut off at 6 tokens" in text
    assert "one: 1 of 1 answer was cut off at 1 token" in text


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_every_label_and_number_is_there_at_any_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    names = {
        "iid": split_of(0.968),
        "ood-permuted": split_of(0.0, 12, grouped_by="before", groups={"2": scores_of(0.5)}),
    }
    text = printed(names, width)
    assert all(len(line) <= width for line in text.splitlines())
    flat = "".join(text.split())
    pieces = [
        "iid",
        "ood-permuted",
        "before = 2",
        "majority: Low [red]Risk",
        "96.8 ± 0.9",
        "0.0 [0.0, 24.2]",
        "[from, to] is",
    ]
    assert all("".join(piece.split()) in flat for piece in pieces)
    if width == 40:
        assert "  exact: 96.8 ± 0.9" in text and "ood-permuted\n" in text


def test_percent() -> None:
    assert (percent(0.9684, 0.00875), percent(1.0), percent(None, 0.1)) == ("96.8 ± 0.9", "100.0", "-")
