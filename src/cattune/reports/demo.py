"""The report of a grid: arms by splits, training curves and heat-strips, out of the cells' results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cattune.experiments.arms import ARMS
from cattune.experiments.cell import CellResult
from cattune.reports.data import Arm, Curve, Metric, ReportData, Score, Split, Strip, StripRow
from cattune.reports.finding import finding
from cattune.reports.remarks import arms_remarks
from cattune.tasks.stg import Game

SPLITS = (
    Split("iid", "IID", "spurious correlations as in training"),
    Split("ood", "OOD", "all attributes independent"),
    Split("ood-permuted", "OOD, permuted", "training marginals, made independent"),
    Split("ood-unseen", "OOD, unseen", "causal values that training never combined"),
)
METRICS = (
    Metric("cross_entropy", "Cross-entropy", "of the answer's tokens", log=True),
    Metric("re_attention_loss", "Re-Attention loss", "uniform: KL from the wanted to the paid attention", log=True),
    Metric("causal_mass", "Causal mass", "attention that the answer's rows pay to the causes"),
    Metric("attention_ratio", "Attention ratio", "a causal token's attention over another token's", log=True),
)

_ALL = tuple(metric.name for metric in METRICS)
_CURVES = {
    "sft": _ALL,
    "cat": _ALL,
    "cat-published": tuple(name for name in _ALL if name != "re_attention_loss"),  # another objective, below zero
    "causal-only": ("cross_entropy",),  # there is nothing else to look at
}


def demo_report(
    results: Sequence[CellResult],
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]],
    game: Game,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
) -> ReportData:
    """What `cattune demo` shows.

    Args:
        results: of all cells.
        arms: their summary, see `grid.summarize`.
        game: what was played.
        notes: what must be said about the game.
        provenance: what made them.
    """
    seeds = sorted({result.cell.seed for result in results})
    splits = tuple(split for split in SPLITS if all(split.name in scores for scores in arms.values()))
    rows = tuple(
        Arm(
            name,
            ARMS[name].label,
            {
                split.name: Score(
                    mean=scores[split.name]["accuracy"],
                    n=scores[split.name]["n"],
                    spread=scores[split.name]["sd"] if len(seeds) > 1 else scores[split.name]["stderr"],
                    low=scores[split.name]["low"],
                    high=scores[split.name]["high"],
                    seeds=tuple(scores[split.name]["seeds"]),
                )
                for split in splits
            },
            ARMS[name].description,
        )
        for name, scores in arms.items()
    )
    by_name = {arm.name: arm for arm in rows}
    first = next(iter(arms.values()))
    labels = {**{name: ARMS[name].label for name in arms}, **{split.name: split.label for split in splits}}
    return ReportData(
        title="Causal Attention Tuning on the Spurious Token Game",
        finding=finding(by_name["sft"], by_name["cat"], "iid", "ood") if {"sft", "cat"} <= by_name.keys() else "",
        splits=splits,
        arms=rows,
        majority={split.name: first[split.name]["majority"] for split in splits},
        intro=(
            "A record lists attributes in random order. Some of them cause the answer; in training, others go along "
            "with those, and the rest is noise. The same small model is trained from the same start on the same "
            "records for the same number of steps, once for each row of the table. Then the correlation is broken: "
            "what the model learned from the causes still holds, what it learned from their companions does not.",
            _game(game),
        ),
        notes=(*arms_remarks(arms, labels), *notes),
        spread_label=f"standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "standard error",
        metrics=METRICS,
        curves=tuple(
            Curve(result.cell.arm, metric.name, tuple(result.curves[metric.name]))
            for result in results
            for metric in METRICS
            if metric.name in _CURVES.get(result.cell.arm, ()) and result.curves.get(metric.name)
        ),
        strips=_strips([result for result in results if result.cell.seed == seeds[0]]),
        no_strips="They are drawn where both sft and cat are among the arms.",
        provenance=provenance,
    )


def _game(game: Game) -> str:
    """The game by its name, with its causes, and what goes along with them in training."""
    companions = "; ".join(f"{name} goes along with {cause}" for name, cause in game.spurious.items())
    causes, rest = _and(game.causes), [a.name for a in game.attributes if a.role == "irrelevant"]
    return (
        f"The game is {game.name}. Its answer depends on {causes}. In training, {companions or 'nothing else does'}."
        + (f" The rest is noise: {_and(rest)}." if rest else "")
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _strips(results: Sequence[CellResult]) -> tuple[Strip, ...]:
    """The first examples of `ood`, plain fine-tuning above Causal Attention Tuning."""
    shown = {result.cell.arm: result.strips for result in results if result.cell.arm in ("sft", "cat")}
    if len(shown) < 2:
        return ()
    return tuple(
        Strip(
            example_id=sft["id"],
            split="ood",
            target=sft["target"],
            tokens=tuple(sft["tokens"]),
            kinds=tuple(sft["kinds"]),
            rows=tuple(_strip_row(arm, strip) for arm, strip in (("sft", sft), ("cat", cat))),
        )
        for sft, cat in zip(shown["sft"], shown["cat"], strict=True)
    )


def _strip_row(arm: str, strip: Mapping[str, Any]) -> StripRow:
    mass = {
        kind: sum(a for a, k in zip(strip["attention"], strip["kinds"], strict=True) if k == kind)
        for kind in ("cause", "spurious")
    }
    return StripRow(
        arm=arm,
        prediction=strip["prediction"],
        correct=strip["correct"],
        attention=tuple(strip["attention"]),
        causal_mass=mass["cause"],
        spurious_mass=mass["spurious"],
    )
