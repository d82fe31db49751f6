"""Objectives against reference vectors, a brute-force loop over rows, numerical gradients and extreme attention."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cattune.errors import ConfigError
from cattune.training.penalties.objectives import COVERAGE_SHARE, OBJECTIVES, RowAttention, get_objective

PUBLISHED = ("hinge", "div", "div2", "nll")
VECTORS = json.loads((Path(__file__).parent / "data" / "reattention.json").read_text())


def row_attention(attention: Tensor, mask: Tensor, weights: Tensor, content: Tensor) -> RowAttention:
    """Counted rows of (B, S, S) maps as one RowAttention, with K = S."""
    size = attention.shape[-1]
    visible = torch.ones(size, size, dtype=torch.bool).tril().expand_as(mask)
    causal = mask.bool() & visible
    num_causal, num_visible = causal.sum(-1), visible.sum(-1)
    counted = (num_causal > 0) & (num_causal < num_visible)
    prior = weights * causal
    return RowAttention(
        causal=(attention * causal)[counted],
        prior=(prior / prior.sum(-1, keepdim=True).clamp_min(1e-300))[counted],
        rest=(attention * (visible & ~causal)).sum(-1)[counted],
        competing=(attention * (visible & ~causal & content)).sum(-1)[counted],
        num_causal=num_causal[counted],
        num_visible=num_visible[counted],
    )


def brute_force(
    name: str, alpha: float, attention: Tensor, mask: Tensor, weights: Tensor, content: Tensor
) -> list[float]:
    """The objectives as formulas over plain floats, one row at a time."""
    losses = []
    for a, c, w, d in zip(attention.tolist(), mask.tolist(), weights.tolist(), content.tolist(), strict=True):
        for i in range(len(a)):
            keys = [j for j in range(i + 1) if c[i][j]]
            others = [j for j in range(i + 1) if not c[i][j]]
            if not keys or not others:
                continue
            m, r = sum(a[i][j] for j in keys), sum(a[i][j] for j in others)
            a1, a0 = m / len(keys), r / len(others)
            total = sum(w[i][j] for j in keys)
            if name in PUBLISHED and a1 / a0 >= alpha:
                losses.append(0.0)
            elif name == "hinge":
                losses.append(alpha - a1 / a0)
            elif name == "div":
                losses.append(-math.log(1 + a1) / math.log(1 + a0))
            elif name == "div2":
                losses.append(-math.log(1 + a1 / (1 + a0)))
            elif name == "nll":
                losses.append(-a1 / (a1 + a0))
            elif name == "mass":
                losses.append(-math.log(m))
            elif name == "uniform":
                losses.append(sum(w[i][j] / total * math.log(w[i][j] / total / a[i][j]) for j in keys))
            elif name == "contrast":
                competing = sum(a[i][j] for j in others if d[i][j])
                loss = -math.log(m / (m + competing))
                for j in keys:
                    p = w[i][j] / total
                    loss += p * max(0.0, 1 - (a[i][j] / m) / (COVERAGE_SHARE * p))
                losses.append(loss)
    return losses


def random_maps(seed: int, size: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, size, size, generator=generator, dtype=torch.float64)
    attention = logits.masked_fill(~torch.ones(size, size, dtype=torch.bool).tril(), -torch.inf).softmax(-1)
    mask = torch.rand(batch, size, size, generator=generator) < 0.3
    weights = 0.1 + torch.rand(batch, size, size, generator=generator, dtype=torch.float64)
    content = torch.rand(batch, size, size, generator=generator) < 0.5
    return attention, mask, weights, content


@pytest.mark.parametrize("case", range(len(VECTORS["cases"])))
def test_published_objectives_agree_with_the_vectors(case: int) -> None:
    vectors = VECTORS["cases"][case]
    attention = torch.tensor(vectors["attention"], dtype=torch.float64)
    rows = row_attention(
        attention, torch.tensor(vectors["mask"]), torch.ones_like(attention), torch.zeros_like(attention) > 0
    )
    for name, expected in vectors["loss"].items():
        objective, alpha = name.split("@")
        assert OBJECTIVES[objective](rows, float(alpha)).mean().item() == pytest.approx(expected, abs=1e-9), name


@pytest.mark.parametrize("name", OBJECTIVES)
@given(seed=st.integers(0, 2**32), size=st.integers(2, 12), alpha=st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_objectives_agree_with_a_loop_over_rows(name: str, seed: int, size: int, alpha: float) -> None:
    maps = random_maps(seed, size)
    expected = brute_force(name, alpha, *maps)
    torch.testing.assert_close(
        OBJECTIVES[name](row_attention(*maps), alpha), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("name", OBJECTIVES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10, deadline=None)
def test_gradients_agree_with_finite_differences(name: str, seed: int) -> None:
    attention, mask, weights, content = random_maps(seed, 6, batch=1)
    rows = row_attention(attention, mask, weights, content)
    if not len(rows.rest):
        return
    # The published objectives jump where the ratio is alpha: keep away from it.
    ratio = rows.mean_causal / rows.mean_rest
    alpha = float(ratio.max()) * 2 + 1

    def loss(causal: Tensor, rest: Tensor, share: Tensor) -> Tensor:
        return OBJECTIVES[name](rows._replace(causal=causal, rest=rest, competing=rest * share), alpha)

    # Where a causal key is padding, its attention is a constant 0 and the floor of the logarithm is not smooth.
    # And attention near 0 is too curved for finite differences.
    causal = torch.where(rows.prior == 0, 0.1, rows.causal.clamp_min(0.01))
    share = (rows.competing / rows.rest).clamp(0.1, 0.9)
    assert torch.autograd.gradcheck(
        loss, tuple(x.detach().clone().requires_grad_() for x in (causal, rows.rest, share))
    )


def test_uniform_is_zero_at_the_prior_and_positive_elsewhere() -> None:
    prior = torch.tensor([[0.5, 0.25, 0.25]])
    rows = RowAttention(prior, prior, torch.zeros(1), torch.zeros(1), torch.tensor([3]), torch.tensor([9]))
    assert OBJECTIVES["uniform"](rows, 2.0).item() == pytest.approx(0.0, abs=1e-6)
    assert OBJECTIVES["uniform"](rows._replace(causal=prior[:, [1, 0, 2]]), 2.0).item() > 0.1


def test_contrast_leaves_covered_causes_and_the_rest_alone() -> None:
    prior = torch.full((1, 2), 0.5)
    causal = torch.tensor([[0.08, 0.12]], requires_grad=True)
    rest = torch.tensor([0.8], requires_grad=True)
    rows = RowAttention(causal, prior, rest, torch.zeros(1), torch.tensor([2]), torch.tensor([9]))
    loss = OBJECTIVES["contrast"](rows, 2.0).sum()
    (gradient,) = torch.autograd.grad(loss, [causal])
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient.abs().max() < 1e-5


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("extreme", ["nothing on the causes", "everything on the causes", "one cause only"])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_extreme_attention_gives_finite_losses_and_gradients(name: str, extreme: str, alpha: float) -> None:
    causal = {
        "nothing on the causes": [0.0, 0.0],
        "everything on the causes": [0.5, 0.5],
        "one cause only": [1.0, 0.0],
    }[extreme]
    logits = torch.tensor([causal], requires_grad=True)
    rest = (1 - logits.sum(-1)).clamp_min(0)
    rows = RowAttention(logits, torch.full((1, 2), 0.5), rest, rest, torch.tensor([2]), torch.tensor([9]))
    loss = OBJECTIVES[name](rows, alpha)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("name", ["uniform", "mass"])
def test_a_row_that_starts_with_no_causal_mass_is_still_taught(name: str) -> None:
    """Through the softmax of float32 logits: a mass of 1e-15 has a gradient of order one on the logits."""
    logits = torch.tensor([[-35.0, -34.0, 0.0, 0.0]], requires_grad=True)
    attention = logits.softmax(-1)
    rows = RowAttention(
        attention[:, :2],
        torch.full((1, 2), 0.5),
        attention[:, 2:].sum(-1),
        torch.zeros(1),
        torch.tensor([2]),
        torch.tensor([4]),
    )
    OBJECTIVES[name](rows, 2.0).sum().backward()
    assert logits.grad is not None and logits.grad[0, 0] < -0.2


def test_an_unknown_objective_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown objective 'kl'.*uniform"):
        get_objective("kl")
