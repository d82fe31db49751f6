"""The arms that are compared: ways of training the same model on the same data for the same number of steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cattune.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Arm:
    """A way of training.

    Args:
        name: as it stands in `results.json`.
        label: as people read it.
        description: what sets it apart, in a few words.
        settings: of `CATConfig`, on top of the recipe that all arms share.
        causal_only: whether it trains on, and is tested on, the causal attributes alone.
    """

    name: str
    label: str
    description: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    causal_only: bool = False


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("sft", "Plain fine-tuning", "cross-entropy alone", {"gamma": 0.0}),
        Arm("cat", "Causal Attention Tuning", "cattune's default: objective uniform, gamma 1 falling linearly to 0"),
        Arm(
            "cat-published",
            "CAT as published",
            "objective div, alpha 2, gamma 1 falling exponentially with the epochs",
            {"objective": "div", "alpha": 2.0, "gamma_schedule": "exponential", "gamma_rate": 1.0},
        ),
        Arm(
            "causal-only",
            "Causes alone",
            "plain fine-tuning on prompts that hold nothing but the causal attributes: what there is to learn",
            {"gamma": 0.0},
            causal_only=True,
        ),
    )
}
"""Every arm by its name."""


def get_arm(name: str) -> Arm:
    """The arm of that name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in ARMS:
        raise ConfigError(f"unknown arm {name!r}; choose from {', '.join(ARMS)}")
    return ARMS[name]
