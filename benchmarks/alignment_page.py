"""Writes the tables of docs/alignment.md and docs/images/alignment.svg from benchmarks/results/alignment.json.

`python benchmarks/alignment_page.py` measures nothing.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from pages import ROOT, Line, Panel, draw, fill

RESULTS = ROOT / "benchmarks" / "results" / "alignment.json"
PAGE = ROOT / "docs" / "alignment.md"
PLOT = ROOT / "docs" / "images" / "alignment.svg"


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


def profile_table(profile: dict[str, Any]) -> str:
    """Each step's time, and what is left of the whole for the lists of features and the report."""
    times = profile["microseconds"]
    steps = {
        "`encode_batch`, which tokenizing spends too": times["encode_batch"],
        "the text": times["render"],
        "ids and offsets as Python lists": times["lists"],
        "offsets by column, and whether they ascend": times["columns"],
        f"looking up {profile['spans']:.0f} spans": times["look_up"],
    }
    needed = sum(steps.values())
    rows = ["| step | µs an example |", "|---|--:|"]
    rows += [f"| {name} | {time:.1f} |" for name, time in steps.items()]
    rows += [
        f"| labels, rows, keys, weights, the report; freeing the encodings, garbage collection | "
        f"{times['encode'] - needed:.1f} |",
        f"| all of the encoding | {times['encode']:.1f} |",
        f"| tokenizing with offsets | {times['tokenize']:.1f} |",
        f"| what the budget allows | {(1 + profile['budget']) * times['tokenize']:.1f} |",
        f"| instead of lists, columns and look-ups: three calls into the encoding for each span | {times['ask']:.1f} |",
    ]
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


def panels(scale: dict[str, Any]) -> list[Panel]:
    """Examples a second, and memory, over the number of examples."""
    sizes = sorted({size for size, _ in settings(scale)})
    processes = sorted({num_proc for _, num_proc in settings(scale)})
    names = {"tokenize": "tokenizing with offsets", "encode": "encoding with its links"}
    colours = {"tokenize": "#8a8f98", "encode": "#1f6feb"}

    def lines(value: Callable[[str, int, int], float], kinds: Sequence[str]) -> list[Line]:
        return [
            Line(
                f"{names[kind]}, {num_proc} process{'es' * (num_proc > 1)}",
                [(size, value(kind, size, num_proc)) for size in sizes],
                colours[kind],
                "--" if num_proc > 1 else "-",
            )
            for kind in kinds
            for num_proc in processes
        ]

    speed = lines(lambda kind, size, n: statistics.median(rates(scale, kind, size, n)), ("tokenize", "encode"))
    memory = lines(lambda kind, size, n: worst(scale, "anonymous_mb", size, n), ("encode",))
    return [
        Panel("examples a second", "examples", speed, base=10),
        Panel("peak memory above the start, MB", "examples", memory, base=10),
    ]


def parts_of(record: dict[str, Any]) -> dict[str, str]:
    """The generated parts of the page by name."""
    scale = record["scale"]
    return {
        "files": files_table(record["files"]),
        "profile": profile_table(record["profile"]),
        "scale": scale_table(scale),
        "collate": collate_sentence(scale),
    }


def main() -> None:
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    fill(PAGE, parts_of(record))
    draw(panels(record["scale"]), PLOT)


if __name__ == "__main__":
    main()
