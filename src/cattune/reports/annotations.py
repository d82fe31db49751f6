"""The page of `cattune annotations report --html`, out of what `AnnotationReport.to_dict` gives; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cattune.io import counted
from cattune.reports.page import render_page
from cattune.reports.terminal import NONE, percent

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
