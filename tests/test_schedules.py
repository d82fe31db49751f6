"""Schedules of gamma."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cattune.errors import ConfigError
from cattune.training.penalties.schedules import SCHEDULES, gamma_at


@pytest.mark.parametrize(
    ("schedule", "progress", "epoch", "expected"),
    [
        ("constant", 0.7, 7, 3.0),
        ("linear", 0.0, 0, 3.0),
        ("linear", 0.25, 2.5, 2.25),
        ("linear", 1.0, 10, 0.0),
        ("cosine", 0.5, 5, 1.5),
        ("cosine", 1.0, 10, 0.0),
        ("exponential", 0.0, 0, 3.0),
        ("exponential", 0.2, 2, 3 * math.exp(-2)),
    ],
)
def test_values(schedule: str, progress: float, epoch: float, expected: float) -> None:
    assert gamma_at(3.0, schedule, progress=progress, epoch=epoch) == pytest.approx(expected)


def test_rate_of_the_exponential() -> None:
    assert gamma_at(1.0, "exponential", progress=0.2, epoch=2, rate=0.5) == pytest.approx(math.exp(-1))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warmup_rises_from_zero_to_the_schedule_s_start(schedule: str) -> None:
    at = [gamma_at(2.0, schedule, progress=p, epoch=10 * p, warmup=0.2) for p in (0.0, 0.1, 0.2)]
    assert at == pytest.approx([0.0, 1.0, 2.0])
    assert gamma_at(2.0, "linear", progress=0.6, epoch=6, warmup=0.2) == pytest.approx(1.0)


@given(
    schedule=st.sampled_from(sorted(SCHEDULES)),
    progress=st.floats(0, 1),
    epochs=st.floats(0, 100),
    rate=st.floats(0, 5),
    warmup=st.floats(0, 0.99),
)
def test_gamma_stays_between_zero_and_its_highest(
    schedule: str, progress: float, epochs: float, rate: float, warmup: float
) -> None:
    gamma = gamma_at(2.0, schedule, progress=progress, epoch=progress * epochs, rate=rate, warmup=warmup)
    assert 0 <= gamma <= 2.0


def test_an_unknown_schedule_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown gamma schedule 'step'.*linear"):
        gamma_at(1.0, "step", progress=0, epoch=0)
