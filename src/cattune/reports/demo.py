"""The report of a grid: arms by splits, training curves and heat-strips, out of the cells' results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def demo_report(
    results: Sequence[CellResult],
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]],
    game: Game,
    notes: Sequence[str],
    provenance: Mapping[str, Any],
    method: str,
    baseline: str,
) -> ReportData:
    """What `cattune demo` shows.

    Args:
        results: of all cells.
        arms: their summary, see `grid.summarize`.
        game: what was played.
        notes: what must be said about the game.
        provenance: what made them.
        method, baseline: the two whose difference is the finding, and whose heat-strips are shown.
    """
    seeds = sorted({result.cell.seed for result in results})
    splits = tuple(split for split in SPLITS if all(split.name in scores for scores in arms.values()))
    rows = _rows(results, arms, splits, several=len(seeds) > 1)
    by_name = {arm.name: arm for arm in rows}
    first = next(iter(arms.values()))
    labels = {**{row.name: row.label for row in rows}, **{split.name: split.label for split in splits}}
    return ReportData(
        title="Causal Attention Tuning on the Spurious Token Game",
        finding=finding(by_name[baseline], by_name[method], "iid", "ood")
        if {baseline, method} <= by_name.keys()
        else "",
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
            Curve(result.method, metric.name, tuple(result.curves[metric.name]))
            for result in results
            for metric in METRICS
            if _is_drawn(result, metric)
        ),
        strips=_strips([result for result in results if result.cell.seed == seeds[0]], (baseline, method)),
        no_strips=f"They are drawn where both {baseline} and {method} are among the arms.",
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


def _rows(
    results: Sequence[CellResult],
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]],
    splits: Sequence[Split],
    several: bool,
) -> tuple[Arm, ...]:
    """The table's rows; `several` says that there is more than one seed."""
    of_method = {result.method: result for result in results}
    return tuple(
        Arm(
            name,
            of_method[name].label,
            {
                split.name: Score(
                    mean=scores[split.name]["accuracy"],
                    n=scores[split.name]["n"],
                    spread=scores[split.name]["sd" if several else "stderr"],
                    low=scores[split.name]["low"],
                    high=scores[split.name]["high"],
                    seeds=tuple(scores[split.name]["seeds"]),
                )
                for split in splits
            },
            of_method[name].description,
        )
        for name, scores in arms.items()
    )


def _is_drawn(result: CellResult, metric: Metric) -> bool:
    """Whether a curve says something.

    Attention is another thing where the examples are others, and what is not above zero has no logarithm, as the losses
    of some objectives.
    """
    points = result.curves.get(metric.name, ())
    comparable = result.own_tests or metric.name == "cross_entropy"
    return comparable and bool(points) and (not metric.log or any(value > 0 for _, value in points))


def _strips(results: Sequence[CellResult], pair: tuple[str, str]) -> tuple[Strip, ...]:
    """The first examples of `ood`, the first of the two methods above the other."""
    shown = {result.method: result.strips for result in results}
    if not all(shown.get(name) for name in pair):
        return ()
    return tuple(
        Strip(
            example_id=upper["id"],
            split="ood",
            target=upper["target"],
            tokens=tuple(upper["tokens"]),
            kinds=tuple(upper["kinds"]),
            rows=tuple(_strip_row(name, strip) for name, strip in zip(pair, (upper, lower), strict=True)),
        )
        for upper, lower in zip(*(shown[name] for name in pair), strict=True)
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
