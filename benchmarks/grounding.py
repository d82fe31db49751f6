"""How the rules of `cattune.grounding.links` fare on published annotations: what they ground, and how well they choose.

    python benchmarks/grounding.py --data FOLDER          counts, and the choices on the `dev` part of the labels
    python benchmarks/grounding.py --data FOLDER --test   and those on the `test` part

Every link of the published files is grounded under each rule of `OCCURRENCES`: how many are, in what way, and why the
others are not; and of the phrases that stand in the text verbatim, how many got a place.

The labels (results/grounding_labels.json, which says by what conventions they were made) tell for a sample of links
which places of an ambiguous phrase are right. A phrase counts where one of its places is wrong, a link where one of
its phrases counts; a link is right when all of its verbatim phrases are. `inside_accepted` is the same with a cause's
place inside the right effect taken as right, too, which the labels do not.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from grounding_sample import FILES, Link, Place, Record, places, read_records
from rich.console import Console
from rich.table import Table

from cattune.data.examples import CausalLink, Span
from cattune.data.jsonl import write_json
from cattune.grounding.links import OCCURRENCES, ground_links
from cattune.provenance import provenance

RESULTS = Path(__file__).parent / "results"
LABELS = RESULTS / "grounding_labels.json"
COMPARED = ("context", "nearest")
ALL_FILES = "all files"
COUNTED = ("links", "methods", "verbatim_effects", "verbatim_causes")
Z = 1.959963984540054


class Outcome(NamedTuple):
    """What became of one link that was given."""

    links: tuple[CausalLink, ...]
    refused: dict[str | None, str]
    """Reasons by cause; of the whole link by None."""


class _Numbered(str):
    """An effect phrase that knows the link that it was given in, by which a refusal is told from another's."""

    number: int


def ground(record: Record, rule: str) -> list[Outcome]:
    """What becomes of each of a record's links."""
    fields = {"prompt": record.prompt, "completion": record.completion}
    phrases = []
    for link in record.links:
        phrases.append((_Numbered(link.effect), link.causes))
        phrases[-1][0].number = link.number
    if rule == "all":  # several links of one, and the links beside it have no part in it
        each = [ground_links(fields, [phrase], rule) for phrase in phrases]
        return [Outcome(one.links, {refusal.cause: refusal.reason for refusal in one.refused}) for one in each]
    grounding = ground_links(fields, phrases, rule)
    refused: list[dict[str | None, str]] = [{} for _ in phrases]
    for refusal in grounding.refused:
        assert isinstance(refusal.effect, _Numbered)
        refused[refusal.effect.number][refusal.cause] = refusal.reason
    links = iter(grounding.links)
    outcomes = [Outcome(() if None in reasons else (next(links),), reasons) for reasons in refused]
    assert next(links, None) is None
    return outcomes


def count(records: list[Record], rule: str) -> dict[str, Counter[str]]:
    """What becomes of every link and of every verbatim phrase, and in what way links were found."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in COUNTED}
    for record in records:
        for link, outcome in zip(record.links, ground(record, rule), strict=True):
            _count_link(record, link, outcome, counts)
    return counts


def count_files(data: dict[str, list[Record]], rule: str) -> dict[str, dict[str, Counter[str]]]:
    files = {file: count(records, rule) for file, records in data.items()}
    return {**files, ALL_FILES: {name: sum((c[name] for c in files.values()), Counter()) for name in COUNTED}}


def _count_link(record: Record, link: Link, outcome: Outcome, counts: dict[str, Counter[str]]) -> None:
    whole = outcome.refused.get(None, "grounded")
    counts["links"][whole] += 1
    for found in outcome.links[:1]:
        counts["methods"][found.method] += 1
    if link.effect.strip() and link.effect in record.joined:
        counts["verbatim_effects"][whole] += 1
    for cause in link.causes:
        if cause.strip() and cause in record.joined:
            because = "grounded" if outcome.links else f"its link: {whole}"
            counts["verbatim_causes"][outcome.refused.get(cause, because)] += 1


def judge(record: Record, link: Link, label: dict[str, Any], rule: str, inside: bool) -> Iterator[tuple[str, bool]]:
    """For the effect, each cause and the link, if it counts: which of them it is, and whether the choice is right."""
    found = ground(record, rule)[link.number].links
    effects = {_place(record, link.effect) for link in found}
    causes = {_place(record, cause) for link in found for cause in link.causes}
    right_effects = {tuple(place) for place in label["effect"]["accept"]}
    groundable = any(cause["accept"] for cause in label["causes"])
    right = bool(effects) and effects <= right_effects if groundable else not found
    judged = [("effects", right, len(right_effects) < label["effect"]["places"])]
    for cause in label["causes"]:
        accepted = {tuple(place) for place in cause["accept"]}
        chosen = causes & set(places(record, link.causes[cause["cause"]]))
        wanted = min(len(accepted), cause.get("take", 1))
        if inside:
            accepted |= {place for place in chosen for effect in right_effects if _holds(effect, place)}
        judged.append(("causes", chosen <= accepted and len(chosen) >= wanted, len(cause["accept"]) < cause["places"]))
    yield from ((kind, right) for kind, right, counts in judged if counts)
    if any(counts for _, _, counts in judged):
        yield "links", all(right for _, right, _ in judged)


def _place(record: Record, span: Span) -> Place:
    shift = 0 if span.field == "prompt" else len(record.prompt)
    return span.start + shift, span.end + shift


def _holds(effect: Place, place: Place) -> bool:
    return effect != place and effect[0] <= place[0] and place[1] <= effect[1]


def choices(data: dict[str, list[Record]], split: str) -> dict[str, Any]:
    """How often each rule is right on one part of the labels, and whether the two compared rules differ."""
    labels = [label for label in read_labels() if label["split"] == split and "undecidable" not in label]
    result: dict[str, Any] = {}
    for name, inside in (("as_labelled", False), ("inside_accepted", True)):
        judged: dict[str, dict[str, list[bool]]] = {rule: defaultdict(list) for rule in OCCURRENCES}
        for label in labels:
            record = data[label["file"]][label["record"]]
            if record.digest != label["digest"]:
                raise SystemExit(f"{label['file']}, record {label['record']}: not the text that was labelled")
            for rule in OCCURRENCES:
                for kind, right in judge(record, record.links[label["link"]], label, rule, inside):
                    judged[rule][kind].append(right)
        result[name] = {rule: {kind: share(rights) for kind, rights in kinds.items()} for rule, kinds in judged.items()}
        if set(COMPARED) <= set(OCCURRENCES):
            ours, theirs = (judged[rule] for rule in COMPARED)
            result[name][" against ".join(COMPARED)] = {kind: mcnemar(ours[kind], theirs[kind]) for kind in ours}
    return result


def read_labels() -> list[dict[str, Any]]:
    return json.loads(LABELS.read_text(encoding="utf-8"))["links"]


def share(rights: list[bool]) -> dict[str, Any]:
    """How many are right, with Wilson's 95% interval."""
    n, k = len(rights), sum(rights)
    centre, scale = (k + Z * Z / 2) / (n + Z * Z), Z / (n + Z * Z)
    half = scale * math.sqrt(k * (n - k) / n + Z * Z / 4)
    return {"right": k, "n": n, "share": k / n, "interval": [centre - half, centre + half]}


def mcnemar(ours: list[bool], theirs: list[bool]) -> dict[str, Any]:
    """McNemar's exact test, two-sided: of the pairs that differ, how many are right under one rule alone."""
    wins = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    losses = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1)) / 2**n
    return {"wins": wins, "losses": losses, "p": min(1.0, 2 * tail)}


def show(result: dict[str, Any]) -> None:
    console = Console(stderr=True)
    table = Table("rule", "links", "effects in the text", "causes in the text", "found", title="grounded, all files")
    for rule, files in result["counts"].items():
        links, methods, *verbatim = (files[ALL_FILES][name] for name in COUNTED)
        grounded = [f"{outcomes['grounded']} of {outcomes.total()}" for outcomes in (links, *verbatim)]
        table.add_row(rule, *grounded, ", ".join(f"{n} {way}" for way, n in methods.most_common()))
    console.print(table)
    table = Table("rule", "effects", "causes", title="in the text verbatim and without a place, all files")
    for rule, files in result["counts"].items():
        reasons = [Counter(files[ALL_FILES][name]) for name in COUNTED[2:]]
        table.add_row(rule, *("\n".join(f"{n} {r}" for r, n in c.most_common() if r != "grounded") for c in reasons))
    console.print(table)
    for split, variants in result["choices"].items():
        for variant, rules in variants.items():
            table = Table("rule", "effects", "causes", "links", title=f"right choices, {split}, {variant}")
            for rule, kinds in rules.items():
                table.add_row(rule, *(_cell(kinds.get(kind)) for kind in ("effects", "causes", "links")))
            console.print(table)


def _cell(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    if "p" in figures:
        return f"+{figures['wins']} -{figures['losses']}, p = {figures['p']:.2g}"
    low, high = figures["interval"]
    return f"{figures['right']}/{figures['n']} = {figures['share']:.0%} ({low:.0%} to {high:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the published training files")
    parser.add_argument("--test", action="store_true", help="judge the choices on the test part of the labels as well")
    parser.add_argument("--out", type=Path, help="result file")
    options = parser.parse_args()
    data = {name: read_records(options.data / name) for name in FILES}
    result = {
        "counts": {rule: count_files(data, rule) for rule in OCCURRENCES},
        "choices": {split: choices(data, split) for split in ("dev", "test")[: 1 + options.test]},
        "provenance": provenance(files=list(FILES), test=options.test),
    }
    show(result)
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
