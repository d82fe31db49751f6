"""Fills docs/cost.md and draws docs/images/cost.svg from the committed results; measures nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pages import ROOT, Line, Panel, draw, fill

RESULTS = ROOT / "benchmarks" / "results" / "training_step_cpu.json"
PAGE = ROOT / "docs" / "cost.md"
COLOURS = {"few": "#1f6feb", "half": "#c6703c", "maps": "#8a8f98", "loop": "#57606a"}


def cells(found: dict[str, Any]) -> dict[int, dict[str, dict[str, Any]]]:
    """By length, then `sft`, `few`, `half`, `maps`, `loop`: seconds, ratios and peak bytes."""
    table: dict[int, dict[str, dict[str, Any]]] = {}
    for kind in ("times", "memory"):
        for entry in found[kind]:
            dense = entry["rows"] is not None and entry["rows"] != 32
            if dense and entry["way"] == "loop":
                name = "loop-half"
            else:
                name = {"cat": "half" if dense else "few"}.get(entry["way"], entry["way"])
            table.setdefault(entry["length"], {}).setdefault(name, {}).update(entry)
    return table


def table(found: dict[str, Any]) -> str:
    """Seconds and MiB of plain fine-tuning, and of each way as a multiple of them."""
    rows = [
        "| tokens | plain fine-tuning | CAT, 32 rows | CAT, half of all rows | eager maps, 32 rows | row loop, 32 rows "
        "| row loop, half |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for length, ways in sorted(cells(found).items()):
        sft = ways["sft"]
        texts = [f"{length:,}", f"{sft['seconds']:.2f} s, {sft['bytes'] / 2**20:,.0f} MiB"]
        for name in ("few", "half", "maps", "loop", "loop-half"):
            way = ways.get(name)
            if way is None:
                texts.append("")
                continue
            low, high = way["ratio_quartiles"]
            memory = f", {way['bytes'] / sft['bytes']:.2f} × memory" if "bytes" in way else ""
            texts.append(f"{way['ratio_to_sft']:.2f} × time ({low:.2f} to {high:.2f}){memory}")
        rows.append("| " + " | ".join(texts) + " |")
    return "\n".join(rows)


def panels(found: dict[str, Any]) -> list[Panel]:
    """Time over length; memory over length; the captured rows alone over rows x keys."""
    by_length = sorted(cells(found).items())
    names = {"few": "CAT, 32 rows", "half": "CAT, half of all rows", "maps": "eager maps", "loop": "row loop"}

    def lines(needed: str, share: Callable[[dict[str, Any], dict[str, Any]], float]) -> list[Line]:
        found = {
            name: [(n, share(ways[name], ways["sft"])) for n, ways in by_length if needed in ways.get(name, {})]
            for name in names
        }
        return [Line(names[name], points, COLOURS[name]) for name, points in found.items() if points]

    alone = found["rows_alone"]
    by_rows = sorted({x["rows"] * x["keys"]: x["seconds"] for x in alone if x["keys"] == 2048}.items())
    by_keys = sorted({x["rows"] * x["keys"]: x["seconds"] for x in alone if x["rows"] == 64}.items())
    end, seconds = max(by_rows)
    slope = Line("in proportion", [(end / 2**7, seconds / 2**7), (end, seconds)], "#d0d7de", "--")
    linear = [
        Line("8 to 1024 rows, 2048 keys", by_rows, "#1f6feb"),
        Line("64 rows, 256 to 8192 keys", by_keys, "#c6703c"),
    ]
    return [
        Panel(
            "step time, plain fine-tuning = 1", "tokens", lines("ratio_to_sft", lambda way, sft: way["ratio_to_sft"])
        ),
        Panel(
            "peak memory, plain fine-tuning = 1", "tokens", lines("bytes", lambda way, sft: way["bytes"] / sft["bytes"])
        ),
        Panel("what the rows cost, seconds", "rows × keys", [slope, *linear], logarithmic=True),
    ]


def parts_of(found: dict[str, Any]) -> dict[str, str]:
    """The generated parts of the page by name."""
    return {"steps": table(found)}


def main() -> None:
    """Writes both."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    fill(PAGE, parts_of(found))
    draw(panels(found), ROOT / "docs" / "images" / "cost.svg")


if __name__ == "__main__":
    main()
