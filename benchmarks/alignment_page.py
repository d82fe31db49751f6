"""Writes the tables of docs/alignment.md and docs/images/alignment.svg from benchmarks/results/alignment.json.

`python benchmarks/alignment_page.py` measures nothing.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "alignment.json"
PAGE = ROOT / "docs" / "alignment.md"
PLOT = ROOT / "docs" / "images" / "alignment.svg"

WIDTH, HEIGHT = 330, 230
LEFT, TOP, RIGHT, BOTTOM = 62, 34, 14, 44


class Line(NamedTuple):
    """One line of a panel: its name, colour, whether it is dashed, and its points (examples, value)."""

    name: str
    colour: str
    dashed: bool
    points: list[tuple[int, float]]


def files_table(files: dict[str, Any]) -> str:
    rows = [
        "| tokenizer, file | tokens | causes | tokenizing | encoding | overhead (quartiles) |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for tokenizer, cells in files["results"].items():
        for file, cell in cells.items():
            n, cpu = cell["examples"], cell["cpu"]
            low, high = cpu["overhead_quartiles"]
            rows.append(
                f"| {tokenizer}, {file.removesuffix('.jsonl')} | {cell['tokens'] / n:.0f} | {cell['causes'] / n:.1f} | "
                f"{n / cpu['tokenize_s']:,.0f} | {n / cpu['encode_s']:,.0f} | "
                f"{cpu['overhead']:+.0%} ({low:+.0%} to {high:+.0%}) |"
            )
    return "\n".join(rows)


def scale_table(scale: dict[str, Any]) -> str:
    rows = [
        "| examples | processes | tokenizing | encoding | overhead | memory | mapped files | features on disk |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for size, num_proc in settings(scale):
        theirs, ours = (rates(scale, kind, size, num_proc) for kind in ("tokenize", "encode"))
        figures = [worst(scale, name, size, num_proc) for name in ("anonymous_mb", "file_mb", "features_mb")]
        rows.append(
            f"| {size:,} | {num_proc} | {spread(theirs)} | {spread(ours)} | "
            f"{cpu_overhead(scale, size, num_proc):+.0%} | "
            + " | ".join(f"{figure:,.0f} MB" for figure in figures)
            + " |"
        )
    return "\n".join(rows)


def collate_sentence(scale: dict[str, Any]) -> str:
    cells = [cell for cell in scale["cells"] if cell["kind"] == "encode"]
    from_lists = [cell["fetch_and_collate_list_ms"] for cell in cells if "fetch_and_collate_list_ms" in cell]
    largest = max(cell["examples"] for cell in cells)
    from_arrow = [cell["fetch_and_collate_ms"] for cell in cells if cell["examples"] == largest]
    return (
        f"Fetching and padding a shuffled batch of 16 takes {statistics.median(from_arrow):.2f} ms from {largest:,} "
        f"examples on disk, {statistics.median(from_lists):.2f} ms from a list."
    )


def settings(scale: dict[str, Any]) -> list[tuple[int, int]]:
    return sorted({(cell["examples"], cell["num_proc"]) for cell in scale["cells"]})


def chosen(scale: dict[str, Any], kind: str, size: int, num_proc: int) -> list[dict[str, Any]]:
    wanted = {"kind": kind, "examples": size, "num_proc": num_proc}
    return [cell for cell in scale["cells"] if wanted.items() <= cell.items()]


def rates(scale: dict[str, Any], kind: str, size: int, num_proc: int) -> list[float]:
    return [size / cell["seconds"] for cell in chosen(scale, kind, size, num_proc)]


def cpu_overhead(scale: dict[str, Any], size: int, num_proc: int) -> float:
    """How much more CPU time encoding takes than tokenizing, medians of all runs."""
    theirs, ours = (
        statistics.median(cell["cpu_seconds"] for cell in chosen(scale, kind, size, num_proc))
        for kind in ("tokenize", "encode")
    )
    return ours / theirs - 1


def worst(scale: dict[str, Any], name: str, size: int, num_proc: int) -> float:
    return max(cell[name] for cell in chosen(scale, "encode", size, num_proc))


def spread(values: Sequence[float]) -> str:
    middle = f"{statistics.median(values):,.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.0f} to {max(values):,.0f})"


def plot(scale: dict[str, Any]) -> str:
    sizes = sorted({size for size, _ in settings(scale)})
    processes = sorted({num_proc for _, num_proc in settings(scale)})

    def lines(value: Callable[[str, int, int], float], kinds: Sequence[str]) -> list[Line]:
        colours = {"tokenize": "#8a8f98", "encode": "#1f6feb"}
        names = {"tokenize": "tokenizing with offsets", "encode": "encoding with its links"}
        return [
            Line(
                f"{names[kind]}, {num_proc} process{'es' * (num_proc > 1)}",
                colours[kind],
                num_proc > 1,
                [(size, value(kind, size, num_proc)) for size in sizes],
            )
            for kind in kinds
            for num_proc in processes
        ]

    speed = lines(lambda kind, size, n: statistics.median(rates(scale, kind, size, n)), ("tokenize", "encode"))
    memory = lines(
        lambda kind, size, n: max(cell["anonymous_mb"] for cell in chosen(scale, kind, size, n)), ("encode",)
    )
    panels = panel("examples a second", speed, 0) + panel("peak memory above the start, MB", memory, WIDTH)
    legend_height = 18 * len(speed)
    height = HEIGHT + legend_height + 8
    legend = "".join(
        f'<path d="M{LEFT} {HEIGHT + 10 + 18 * i}h28" {stroke(line)}/>'
        f'<text x="{LEFT + 36}" y="{HEIGHT + 14 + 18 * i}">{line.name}</text>'
        for i, line in enumerate(speed)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}" width="{2 * WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif" font-size="11" fill="#30363d">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{panels}{legend}\n</svg>\n'
    )


def panel(title: str, lines: list[Line], shift: int) -> str:
    """A panel with the number of examples on a logarithmic axis and values from 0 on a linear one."""
    xs = sorted({x for line in lines for x, _ in line.points})
    step = nice_step(max(y for line in lines for _, y in line.points))
    top = step * math.ceil(max(y for line in lines for _, y in line.points) / step)

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log(x) - math.log(xs[0])) / ((math.log(xs[-1]) - math.log(xs[0])) or 1)
        inner = WIDTH - LEFT - RIGHT
        return shift + LEFT + share * inner, HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{shift + LEFT}" y="{TOP - 14}" font-weight="600">{title}</text>']
    for tick in range(round(top / step) + 1):
        x, y = place(xs[0], tick * step)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{shift + WIDTH - RIGHT}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick * step:,.0f}</text>')
    for size in xs:
        x, y = place(size, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{size:,}</text>')
    x, y = place(xs[0], 0)
    parts.append(f'<text x="{x:.1f}" y="{y + 32:.1f}">examples</text>')
    for line in lines:
        points = [place(*point) for point in line.points]
        parts.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" {stroke(line)}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{line.colour}"/>' for x, y in points]
    return "\n".join(parts) + "\n"


def stroke(line: Line) -> str:
    return f'fill="none" stroke="{line.colour}" stroke-width="2"' + ' stroke-dasharray="6 4"' * line.dashed


def nice_step(largest: float) -> float:
    """A round number that goes into the largest value three to six times."""
    power = 10.0 ** math.floor(math.log10(largest / 3))
    return next(factor * power for factor in (5, 2, 1) if largest / (factor * power) >= 3 or factor == 1)


def filled(page: str, parts: dict[str, str]) -> str:
    for name, text in parts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, opened, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        assert opened and closed, f"the page has no place for {name}"
        page = f"{head}{begin}\n{text}\n{end}{tail}"
    return page


def parts_of(record: dict[str, Any]) -> dict[str, str]:
    """The generated parts of the page by name."""
    scale = record["scale"]
    return {"files": files_table(record["files"]), "scale": scale_table(scale), "collate": collate_sentence(scale)}


def main() -> None:
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), parts_of(record)), encoding="utf-8")
    PLOT.write_text(plot(record["scale"]), encoding="utf-8")


if __name__ == "__main__":
    main()
