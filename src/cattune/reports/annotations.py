"""The page of `cattune annotations report --html`, out of what `AnnotationReport.to_dict` gives; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.reports.page import render_page
from cattune.reports.terminal import NONE, percent
from cattune.wording import counted

LENGTHS = (
    ("characters from a cause to its effect", "lengths", "distance"),
    ("characters of an effect", "lengths", "effects"),
    ("characters of a cause", "lengths", "causes"),
    ("links of an example", "links", "per_example"),
    ("causes of a link", "links", "causes_per_link"),
    ("weight of a link", "links", "weights"),
    ("score of a link that is not verbatim", "grounding", "scores"),
)
"""The distributions of a report: what they are of, and where the report has them."""

QUANTILES = {"0": "least", "0.05": "5%", "0.25": "25%", "0.5": "median", "0.75": "75%", "0.95": "95%", "1": "most"}

METHODS = {
    "exact": "verbatim",
    "loose": "with other case, blanks or signs that look alike",
    "fuzzy": "nearly, with a score that says how nearly",
}


def render_annotations(report: Mapping[str, Any], title: str, provenance: Mapping[str, Any]) -> str:
    """The page, as text for a UTF-8 file; every text of the data is escaped.

    Args:
        report: what `AnnotationReport.to_dict` gives.
        title: names the file that was reported on.
        provenance: what made the report.
    """
    return render_page(
        "annotations.html.j2",
        provenance,
        {"count": count, "number": number, "interval": interval},
        title=title,
        finding=finding(report),
        methods=METHODS,
        summaries=[(label, report[part][key]) for label, part, key in LENGTHS if report[part][key]],
        quantiles=QUANTILES,
        reasons=reasons(report),
        trivial=trivial_rows(report["reference"]),
        measured_on=measured_on(report["reference"]),
        worth=worth(report["reference"]),
        provenance=[(key, str(value)) for key, value in provenance.items() if not isinstance(value, dict | list)],
        **report,
    )


def finding(report: Mapping[str, Any]) -> str:
    """The report in a sentence."""
    examples, links = report["examples"], report["links"]
    if not examples["with_links"]:
        return f"{counted(examples['n'], 'example')}, none with a causal link"
    share = percent(examples["with_links"] / examples["n"])
    return (
        f"{counted(examples['n'], 'example')}, {share}% with causal links: {counted(links['n'], 'link')} with "
        f"{counted(links['causes'], 'cause')}"
    )


def trivial_rows(reference: Mapping[str, Any] | None) -> list[tuple[str, ...]]:
    """Name, precision, recall, F1 of words, share with the right numbers: of the file, then of each trivial rule."""
    trivial = reference and reference["trivial"]
    return [
        (name, percent(score["precision"]), percent(score["recall"]), interval(score["f1"]), interval(score["numbers"]))
        for name, score in (trivial["scores"].items() if trivial else ())
    ]


def measured_on(reference: Mapping[str, Any] | None) -> str:
    """Which examples and words the file and the rules are compared on; "" where there is nothing to compare."""
    trivial = reference and reference["trivial"]
    if not trivial:
        return ""
    examples, with_numbers = counted(trivial["examples"], "example"), count(trivial["with_numbers"])
    return (
        f"On {examples}, {with_numbers} of them with numbers: the words of the prompt that lie in a cause of the "
        "completion. An example on which this file failed counts as one for which it names nothing."
    )


def worth(reference: Mapping[str, Any] | None) -> str:
    """In a sentence, whether the file is better than a trivial rule; "" where there is nothing to compare."""
    trivial = reference and reference["trivial"]
    if not trivial:
        return ""
    said = f"On the words that the answer depends on (F1), {_beside(trivial, 'words', 'f1')}"
    if trivial["numbers"] is None:
        return f"{said}."
    return f"{said}; on naming just the right numbers (share of examples), {_beside(trivial, 'numbers', 'numbers')}."


def _beside(trivial: Mapping[str, Any], part: str, figure: str) -> str:
    rule, verdict = trivial[part]["rule"], trivial[part]["verdict"]
    file = next(iter(trivial["scores"]))
    said = {"better": "is better than", "worse": "is worse than"}.get(verdict, "is not told apart from")
    few = ", of too few examples to tell" if verdict == "too few examples" else ""
    mine, its = (f"{trivial['scores'][name][figure]['value']:.3f}" for name in (file, rule))
    difference = interval(trivial[part]["difference"])
    return f"{file} {said} the best trivial rule, {rule}: {mine} against {its}, difference {difference}{few}"


def reasons(report: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(reason, links, causes) refused for it, the most frequent first."""
    links, causes = report["refused"]["links"], report["refused"]["causes"]
    rows = [(reason, links.get(reason, 0), causes.get(reason, 0)) for reason in {**links, **causes}]
    return sorted(rows, key=lambda row: (-row[1] - row[2], row[0]))


def count(n: int) -> str:
    """A count with its thousands set off."""
    return f"{n:,}"


def number(value: float | None) -> str:
    """A number in as few digits as tell it from its neighbours; a dash for None."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.3g}"


def interval(figure: Mapping[str, float | None]) -> str:
    """A figure with its 95% interval; a dash where it is not defined."""
    if figure["value"] is None:
        return NONE
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
