"""The weight gamma of the Re-Attention loss over training: pure functions of progress."""

from __future__ import annotations

import math
from collections.abc import Callable

from cattune.errors import ConfigError

Schedule = Callable[[float, float, float], float]
"""(progress in [0, 1], epoch, rate) -> factor in [0, 1] on gamma."""


def constant(progress: float, epoch: float, rate: float) -> float:
    """1 throughout."""
    return 1.0


def linear(progress: float, epoch: float, rate: float) -> float:
    """From 1 at the start to 0 at the end of training."""
    return 1.0 - progress


def cosine(progress: float, epoch: float, rate: float) -> float:
    """From 1 to 0 along half a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(progress: float, epoch: float, rate: float) -> float:
    """exp(-rate * epoch), the published schedule (rate 1); `epoch` counts whole and part epochs since the start."""
    return math.exp(-rate * epoch)


SCHEDULES: dict[str, Schedule] = {
    "linear": linear,
    "cosine": cosine,
    "constant": constant,
    "exponential": exponential,
}
"""Every schedule by the name that the configuration uses."""


def gamma_at(
    gamma: float, schedule: str, *, progress: float, epoch: float, rate: float = 1.0, warmup: float = 0.0
) -> float:
    """The weight of the Re-Attention loss at one point of training.

    Args:
        gamma: the weight at its highest, >= 0.
        schedule: a name in `SCHEDULES`.
        progress: share of the optimizer steps that are done, in [0, 1].
        epoch: epochs done, parts included.
        rate: decay of `exponential` per epoch.
        warmup: share of training, in [0, 1), over which gamma rises linearly from 0 before the schedule starts.

    Raises:
        ConfigError: there is no schedule of that name.
    """
    if schedule not in SCHEDULES:
        raise ConfigError(f"unknown gamma schedule {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    if progress < warmup:
        return gamma * progress / warmup
    decayed = (progress - warmup) / (1.0 - warmup)
    epochs_decayed = epoch * (1.0 - warmup / progress) if progress > 0 else 0.0
    return gamma * SCHEDULES[schedule](min(decayed, 1.0), epochs_decayed, rate)
