"""What the scripts share that turn result files into the tables and plots of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Line(NamedTuple):
    """One line of a panel."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str
    style: str = "-"


class Panel(NamedTuple):
    """One plot; the horizontal axis is logarithmic, to the base 2 or 10."""

    title: str
    xlabel: str
    lines: Sequence[Line]
    base: int = 2
    logarithmic: bool = False


def fill(page: Path, parts: dict[str, str]) -> None:
    """Puts each part between its `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        head, opened, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not (opened and closed):
            raise SystemExit(f"{page.name} has no place for {name}")
        text = f"{head}{begin}\n{part}\n{end}{tail}"
    page.write_text(text, encoding="utf-8")


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Writes the panels beside each other as one SVG, the same bytes for the same numbers."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "cattune", "svg.fonttype": "none", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.3), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        for line in panel.lines:
            axis.plot(*zip(*line.points, strict=True), line.style, color=line.colour, label=line.name, marker="o", ms=3)
        axis.set_xscale("log", base=panel.base)
        if panel.logarithmic:
            axis.set_yscale("log", base=panel.base)
        else:
            axis.set_ylim(bottom=0)
        axis.set_title(panel.title, loc="left", fontsize=9, fontweight="bold")
        axis.set_xlabel(panel.xlabel)
        axis.grid(color="#d8dee4")
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
