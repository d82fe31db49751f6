"""Runs many cells in several processes, and joins their results by arm."""

from __future__ import annotations

import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from cattune.experiments.cell import Cell, CellResult, run_cell

GridReport = Callable[[str, str, int, int], None]
"""Is told (cell, what is going on, steps or examples done, how many in all)."""


_STEP = 40
"""A training step of `tiny` takes about as long as to answer so many examples; see `share_done`."""


def run_grid(
    cells: Sequence[Cell], jobs: int, report: GridReport, overall: Callable[[float], None] = lambda done: None
) -> list[CellResult]:
    """Runs the cells, `jobs` at a time, with the machine's threads shared out among them.

    Small models gain little from a second thread, so cells side by side use two cores better than threads do.

    Args:
        cells: what to run; their names differ.
        jobs: how many at a time.
        report: is told of each cell.
        overall: is told how many cells are done, with the parts of those that are under way.

    Returns:
        The results in the order of the cells.

    Raises:
        CattuneError: of the first cell that fails; the others are stopped.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    by_name = {cell.name: cell for cell in cells}
    steps, shares = dict.fromkeys(by_name, 0), dict.fromkeys(by_name, 0.0)
    with context.Manager() as manager:
        messages = manager.Queue()
        pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(threads,))
        try:
            futures = [pool.submit(_work, cell, messages) for cell in cells]
            waiting: set[Future[CellResult]] = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                while not messages.empty():
                    name, what, count, total = messages.get()
                    report(name, what, count, total)
                    steps[name] = total if what == "training" else steps[name]
                    shares[name] = max(shares[name], share_done(by_name[name], steps[name], what, count))
                    overall(sum(shares.values()))
                for future in done:
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def share_done(cell: Cell, steps: int, what: str, done: int) -> float:
    """About which part of a cell's time is over, from 0 to 1.

    Args:
        cell: which; its training, then its splits, take their time one after another.
        steps: of its training.
        what: is going on: "training", a split, or "done"; of anything else the share is 0.
        done: steps, or answered examples of the split.
    """
    sizes = {split: cell.task.validation if "validation" in split else cell.task.test for split in cell.splits}
    work = {"training": _STEP * steps, **sizes}
    if what == "done":
        return 1.0
    if what not in work:
        return 0.0
    before = list(work.values())[: list(work).index(what)]
    return (sum(before) + done * (_STEP if what == "training" else 1)) / sum(work.values())


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _work(cell: Cell, messages: Any) -> CellResult:
    result = run_cell(cell, lambda what, done, total: messages.put((cell.name, what, done, total)))
    messages.put((cell.name, "done", 1, 1))
    return result


def summarize(results: Sequence[CellResult]) -> dict[str, dict[str, dict[str, Any]]]:
    """Arm -> split -> accuracy, its standard error, and what they are made of.

    Returns:
        For each arm and split `accuracy` (mean over seeds, 0 to 1), `stderr`, `n` (examples a seed), `seeds` (accuracy
        of each), `majority` (of the best constant answer, `majority_label`), `unfinished` (answers that were cut off at
        `max_new_tokens`, of all seeds' `answers`), `constant_answer` (where it is one in all seeds) and
        `beats_majority` (in all seeds). With one seed the standard error is that of `n` answers, and `low` and `high`
        are their 95% interval; with several it is that of the mean over seeds, which holds the former.
    """
    arms: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for result in results:
        splits = arms.setdefault(result.method, {})
        for name, scores in result.splits.items():
            splits.setdefault(name, []).append(scores)
    return {arm: {name: _join(seeds) for name, seeds in splits.items()} for arm, splits in arms.items()}


def gap_closed(
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]], split: str, *, method: str, baseline: str, ceiling: str
) -> float | None:
    """How much of the gap from `baseline` to `ceiling` a method closes on a split: 1 is all; None without a gap.

    None, too, where one of the three was not run.
    """
    try:
        low, high, ours = (float(arms[name][split]["accuracy"]) for name in (baseline, ceiling, method))
    except KeyError:
        return None
    return (ours - low) / (high - low) if high > low else None


def _join(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scores of one arm on one split, one for each seed."""
    seeds, first = [of_seed["accuracy"] for of_seed in scores], scores[0]
    several = len(seeds) > 1
    constants = {of_seed["constant_answer"] for of_seed in scores}
    return {
        "accuracy": statistics.fmean(seeds),
        "n": first["n"],
        "stderr": statistics.stdev(seeds) / len(seeds) ** 0.5 if several else first["stderr"],
        "low": None if several else first["low"],
        "high": None if several else first["high"],
        "sd": statistics.stdev(seeds) if several else None,
        "seeds": seeds,
        "majority": statistics.fmean(of_seed["majority"]["accuracy"] for of_seed in scores),
        "majority_label": first["majority"]["label"],
        "constant_answer": constants.pop() if len(constants) == 1 else None,
        "beats_majority": all(of_seed["beats_majority"] for of_seed in scores),
        "unfinished": sum(of_seed["unfinished"] for of_seed in scores),
        "answers": sum(of_seed["n"] for of_seed in scores),
        "max_new_tokens": max(of_seed["max_new_tokens"] for of_seed in scores),
    }
