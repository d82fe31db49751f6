"""Tables about annotations for a terminal, out of what the results' `to_dict` gives; computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from cattune.reports.annotations import (
    LENGTHS,
    METHODS,
    QUANTILES,
    count,
    finding,
    interval,
    measured_on,
    number,
    reasons,
    trivial_rows,
    worth,
)
from cattune.reports.tables import Row, Table, print_tables
from cattune.reports.terminal import percent
from cattune.wording import counted


def print_report(report: Mapping[str, Any], file: IO[str] | None = None) -> None:
    """Print an annotation report, to standard output by default; a file that is no terminal gets it at full width."""
    examples, links, grounding = report["examples"], report["links"], report["grounding"]
    coverage = {
        "with a link": examples["with_links"],
        "  of which one explains the completion": examples["with_answer_links"],
        "without a link": examples["without_links"],
        "  of which all given links were refused": examples["failed"],
    }
    tables = [_shares("examples", coverage, examples["n"])]
    if links["n"]:
        methods = {f"{name}: {METHODS[name]}": n for name, n in grounding["methods"].items()}
        statuses = {f"status: {name}": n for name, n in links["statuses"].items()}
        sources = {f"source: {name}": n for name, n in links["sources"].items()}
        tables.append(_shares("links", methods | statuses | sources, links["n"]))
        order = {**report["order"]["fields"], "runs into its effect": report["order"]["overlapping"]}
        tables.append(_shares("causes", order, links["causes"]))
        tables.append(
            _shares("effects and causes", {"stand more than once": grounding["ambiguous"]}, grounding["spans"])
        )
        tables.append(_lengths(report))
    if refused := reasons(report):
        rows = [(reason, count(of_links), count(of_causes)) for reason, of_links, of_causes in refused]
        rows.append(("with the link kept, to bring back", "", count(report["refused"]["recoverable"])))
        tables.append(_table(("refused, and why", "links", "causes"), rows))
    notes = []
    if report["reference"]:
        tables.append(_reference(report["reference"]))
        if beside := trivial_rows(report["reference"]):
            titles = ("words that the answer depends on", "precision %", "recall %", "F1", "just the right numbers")
            rows_of = [Row(label, cells) for label, *cells in beside]
            tables.append(Table(titles, rows_of, measured_on(report["reference"])))
            notes.append(worth(report["reference"]))
    print_tables(tables, file, title=finding(report), notes=notes)


def print_join(record: Mapping[str, Any], file: IO[str] | None = None) -> None:
    """Print what `Consensus` counted and how far the annotators agree."""
    agreement, counts = record["agreement"], record["counts"]
    pairs = [
        (f"{p['first']} and {p['second']}", count(p["examples"]), interval(p["edge_f1"]), interval(p["link_f1"]))
        for p in agreement["pairs"]
    ]
    tables = [_table(("agreement", "examples", "F1 of edges", "F1 of whole links"), pairs)]
    edges = {
        "kept": counts["kept"],
        **{f"  with confidence {confidence}": n for confidence, n in counts["confidences"].items()},
        "outvoted": counts["outvoted"],
        "rejected by people": counts["rejected"],
    }
    tables.append(_shares("edges", edges, counts["kept"] + counts["outvoted"] + counts["rejected"]))
    examples = {f"annotated {counted(int(n), 'time')}": found for n, found in counts["annotations"].items()}
    missing = {f"missing in {name}": n for name, n in counts["missing"].items() if n}
    others = {"metadata differ, the first file's kept": counts["metadata_differ"]} if counts["metadata_differ"] else {}
    tables.append(_shares("examples", examples | missing | others, counts["examples"]))
    title = f"Krippendorff's alpha {interval(agreement['alpha'])} over {count(agreement['units'])} candidate edges"
    print_tables(tables, file, title=title)


def print_rules(record: Mapping[str, Any], file: IO[str] | None = None) -> None:
    """Print what rules made of a file."""
    missing = record["missing"]
    rows = [(name, count(n), count(missing.get(name, 0))) for name, n in record["matched"].items()]
    rows += [(part, "", count(n)) for part, n in missing.items() if part not in record["matched"]]
    tables = [_table(("pattern", "examples that it matches", "wanted, and missing or ambiguous"), rows)]
    if record["refused"]:
        tables.append(_table(("refused, and why", ""), [(why, count(n)) for why, n in record["refused"].items()]))
    examples, links = counted(record["examples"], "example"), counted(record["links"], "link")
    title = f"{examples}, {count(record['with_links'])} with links; {links} in all"
    print_tables(tables, file, title=title)


def _shares(title: str, counts: Mapping[str, int], whole: int) -> Table:
    rows = [(name, count(n), percent(n / whole if whole else None)) for name, n in counts.items()]
    return _table((title, count(whole), "%"), rows)


def _lengths(report: Mapping[str, Any]) -> Table:
    rows = []
    for label, part, key in LENGTHS:
        if summary := report[part][key]:
            rows.append((label, number(summary["mean"]), *(number(summary["quantiles"][q]) for q in QUANTILES)))
    return _table(("lengths and numbers", "mean", *QUANTILES.values()), rows)


def _reference(record: Mapping[str, Any]) -> Table:
    edges = record["edges"]
    rows = [
        ("examples compared", count(record["examples"])),
        ("  annotated in the file only", count(record["only_in_file"])),
        ("  annotated in the reference only", count(record["only_in_reference"])),
        ("edges in both, in the file, in the reference", " ".join(map(count, edges.values()))),
        ("precision and recall of edges, %", f"{percent(record['precision'])} {percent(record['recall'])}"),
        ("F1 of edges", interval(record["edge_f1"])),
        ("F1 of whole links", interval(record["link_f1"])),
        ("Krippendorff's alpha", interval(record["alpha"])),
    ]
    return _table(("agreement with the reference", "[95% interval]"), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    return Table(titles, [Row(label, cells) for label, *cells in rows])
