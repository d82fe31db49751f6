"""The figures that training logs: summed on the device, joined over processes, divided once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cattune.training.penalties.re_attention import RowSums


class Meter:
    """Sums what is logged, on the device, until it is read."""

    def __init__(self) -> None:
        self._gamma = 0.0
        self._reset()

    def _reset(self) -> None:
        self.weight: Tensor | int = 0  # what the cross-entropies are divided by: steps, in evaluation tokens
        self._cross_entropy: Tensor | None = None
        self._rows: Tensor | None = None  # (5,): the fields of RowSums

    def add(self, cross_entropy: Tensor, sums: RowSums | None, gamma: float, tokens: Tensor | None = None) -> None:
        """Takes a batch: its share of a step's cross-entropy or, with `tokens`, the mean over so many."""
        self._gamma = gamma
        if tokens is not None:
            cross_entropy = torch.where(tokens > 0, cross_entropy * tokens, 0)
            self.weight = self.weight + tokens
        self._cross_entropy = cross_entropy if self._cross_entropy is None else self._cross_entropy + cross_entropy
        if sums is not None:
            rows = torch.stack([x.detach().to(torch.float32) for x in sums])
            self._rows = rows if self._rows is None else self._rows + rows

    def read(self, gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The figures since the last reading; `gather` joins the processes'."""
        figures: dict[str, float] = {}
        if self._cross_entropy is not None:
            device = self._cross_entropy.device
            pair = [torch.as_tensor(x, dtype=torch.float32, device=device) for x in (self._cross_entropy, self.weight)]
            total, weight = gather(torch.stack(pair).unsqueeze(0)).mean(0).tolist()
            figures = {"cross_entropy": total / (weight or 1), "gamma": self._gamma}
        if self._rows is not None:
            loss, mass, causal, rest, rows = gather(self._rows.unsqueeze(0)).sum(0).tolist()
            figures["supervised_rows"] = rows
            if rows:
                figures |= {"re_attention_loss": loss / rows, "causal_mass": mass / rows}
                figures["attention_ratio"] = causal / rest if rest else float("inf")
        self._reset()
        return figures
