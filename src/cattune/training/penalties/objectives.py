"""Re-Attention objectives: pure functions from the attention of supervised rows to one loss a row.

The notation is that of Causal Attention Tuning (Han et al., EMNLP 2025): `m` is the attention mass on the causal keys,
`r` the mass on the other visible keys, `k` and `n` the numbers of causal and of visible keys, `a1 = m / k` and
`a0 = r / (n - k)` the mean attention to a causal and to another key. `r` is summed by whoever captures it and is not
`1 - m`: near `m = 1` the difference would be rounding noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from cattune.errors import ConfigError

FLOOR = 1e-20
"""Attention below this counts as this in a logarithm: its gradient, at most 1e20, still fits into float32."""

COVERAGE_SHARE = 0.5
"""`contrast` pushes a cause up until it has this share of its part `p_j` of the mass, then leaves it alone."""


class RowAttention(NamedTuple):
    """What an objective sees of the supervised rows; `...` is free (none, layers, or layers x heads).

    Attributes:
        causal: (..., R, K) attention to each causal key, 0 at padding.
        prior: (R, K) the links' weights normalised over the row's causal keys, 0 at padding.
        rest: (..., R) attention to the visible keys that are not causal, summed.
        competing: (..., R) the part of `rest` on competing content; only `contrast` reads it.
        num_causal: (R,) `k`, at least 1.
        num_visible: (R,) `n`, more than `k`.
    """

    causal: Tensor
    prior: Tensor
    rest: Tensor
    competing: Tensor
    num_causal: Tensor
    num_visible: Tensor

    @property
    def mass(self) -> Tensor:
        """(..., R) causal mass `m`, in [0, 1]."""
        return self.causal.sum(-1)

    @property
    def mean_causal(self) -> Tensor:
        """(..., R) `a1`, mean attention to a causal key."""
        return self.mass / self.num_causal

    @property
    def mean_rest(self) -> Tensor:
        """(..., R) `a0`, mean attention to a visible key that is not causal."""
        return self.rest / (self.num_visible - self.num_causal)


Objective = Callable[[RowAttention, float], Tensor]
"""(rows, alpha) -> (..., R) losses."""


def _log(x: Tensor) -> Tensor:
    return x.clamp_min(FLOOR).log()


def _below_ratio(rows: RowAttention, alpha: float, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`loss(a1, a0)` where a1 / a0 < alpha, else 0, with a zero gradient there and never a NaN."""
    a1, a0 = rows.mean_causal, rows.mean_rest
    below = a1 < alpha * a0
    # The unused branch of a `where` still sends its gradient back times zero, so it must be finite: hence `safe`.
    safe = torch.where(below, a0, torch.ones_like(a0))
    return torch.where(below, loss(a1, safe), torch.zeros_like(a1))


def hinge(rows: RowAttention, alpha: float) -> Tensor:
    """max(0, alpha - a1 / a0): the published margin objective."""
    return _below_ratio(rows, alpha, lambda a1, a0: alpha - a1 / a0)


def div(rows: RowAttention, alpha: float) -> Tensor:
    """-log(1 + a1) / log(1 + a0) where a1 / a0 < alpha, else 0: the published default. Not continuous at alpha."""
    return _below_ratio(rows, alpha, lambda a1, a0: -torch.log1p(a1) / torch.log1p(a0))


def div2(rows: RowAttention, alpha: float) -> Tensor:
    """-log(1 + a1 / (1 + a0)) where a1 / a0 < alpha, else 0: a published variant. Not continuous at alpha."""
    return _below_ratio(rows, alpha, lambda a1, a0: -torch.log1p(a1 / (1 + a0)))


def nll(rows: RowAttention, alpha: float) -> Tensor:
    """-a1 / (a1 + a0) where a1 / a0 < alpha, else 0: a published variant. Not continuous at alpha."""
    return _below_ratio(rows, alpha, lambda a1, a0: -a1 / (a1 + a0))


def uniform(rows: RowAttention, alpha: float) -> Tensor:
    """KL(p || a) over the causal keys: asks for *every* cause in its proportion. Zero when a = p.

    An objective in `m` alone is satisfied by whichever causal token is easiest to look at (a colon, a name); this one
    is not. `alpha` is not used.
    """
    entropy = torch.special.entr(rows.prior).sum(-1)
    return -(rows.prior * _log(rows.causal)).sum(-1) - entropy


def mass(rows: RowAttention, alpha: float) -> Tensor:
    """-log m: asks for attention to the causes as a whole. `alpha` is not used."""
    return -_log(rows.mass)


def contrast(rows: RowAttention, alpha: float) -> Tensor:
    """-log(m / (m + d)) plus a hinge on each cause's share; `d` is the attention to competing content.

    Sink, template and local tokens are in neither `m` nor `d`, so the heads that serve them are left alone. The hinge,
    mean over p of max(0, 1 - s_j / (COVERAGE_SHARE p_j)) with s_j = a_j / m, keeps one easy cause from standing for all
    and has no gradient once every cause has half of its part. A row without competing content costs the hinge alone.
    `alpha` is not used.
    """
    m = rows.mass
    preference = _log(m + rows.competing) - _log(m)
    share = rows.causal / m.clamp_min(FLOOR).unsqueeze(-1)
    wanted = torch.where(rows.prior > 0, COVERAGE_SHARE * rows.prior, torch.ones_like(rows.prior))
    return preference + (rows.prior * (1 - share / wanted).clamp_min(0)).sum(-1)


OBJECTIVES: dict[str, Objective] = {
    "uniform": uniform,
    "mass": mass,
    "contrast": contrast,
    "hinge": hinge,
    "div": div,
    "div2": div2,
    "nll": nll,
}
"""Every objective by the name that the configuration uses."""


def get_objective(name: str) -> Objective:
    """The objective of that name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"unknown objective {name!r}; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
