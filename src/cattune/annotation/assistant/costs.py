"""What requests cost, before and after they are answered, and when a budget is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cattune.annotation.assistant.endpoint.limits import estimate_tokens
from cattune.annotation.assistant.endpoint.refusals import OUTPUT_LIMITS
from cattune.annotation.store.store import Spent
from cattune.errors import ConfigError

FIRST_GUESS = 400
"""Tokens of a reply, as long as there has been none."""


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens of prompts and of replies.

    Raises:
        ConfigError: one is below 0 or infinite.
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < float("inf") and 0 <= self.completion < float("inf")):
            raise ConfigError(f"prices must be numbers of USD, 0 or more, got {self.prompt} and {self.completion}")

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """USD."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(slots=True)
class Estimate:
    """Tokens that a request is expected to have."""

    prompt: float
    completion: float


class Costs:
    """Learns from the replies how many tokens a request has, and keeps a run within its budget.

    Args:
        price: None where it is not known; there is then no budget.
        budget: USD that all replies of the model in the store may cost together; None for no limit.
        parameters: of the requests; a limit on output tokens among them bounds a reply.

    Raises:
        ConfigError: there is a budget and no price, or it is not above 0.
    """

    def __init__(
        self, price: Price | None = None, budget: float | None = None, parameters: Mapping[str, Any] | None = None
    ) -> None:
        if budget is not None and price is None:
            raise ConfigError("a budget needs the prices of tokens: --price IN OUT, in USD for a million")
        if budget is not None and not 0 < budget < float("inf"):
            raise ConfigError(f"the budget must be an amount of USD above 0, got {budget}")
        self.price = price
        self.budget = budget
        most = next((parameters[name] for name in OUTPUT_LIMITS if name in parameters), None) if parameters else None
        self._most = most if isinstance(most, int) else None
        self._longest = FIRST_GUESS
        self._estimated = self._actual = 0.0
        self._committed = 0.0
        self.under_way = 0
        """Requests that are sent and not yet stored."""

    def estimate(self, messages: Sequence[Mapping[str, str]]) -> Estimate:
        """What a request is expected to have: the reply as many tokens as the longest one so far."""
        ratio = self._actual / self._estimated if self._estimated else 1.0
        longest = self._longest if self._most is None else min(self._longest, self._most)
        return Estimate(estimate_tokens(messages) * ratio, longest)

    def allows(self, estimate: Estimate, spent: Spent) -> bool:
        """Whether one more request stays within the budget, when those under way come to what is expected of them."""
        if self.budget is None or self.price is None:
            return True
        so_far = self.price.of(spent.prompt_tokens, spent.completion_tokens) + self._committed
        return so_far + self._cost(estimate) <= self.budget

    def begin(self, estimate: Estimate) -> None:
        """A request is sent."""
        self.under_way += 1
        self._committed += self._cost(estimate)

    def end(self, estimate: Estimate) -> None:
        """It is answered and stored, or given up."""
        self.under_way -= 1
        self._committed -= self._cost(estimate)

    def learn(self, messages: Sequence[Mapping[str, str]], prompt_tokens: int, completion_tokens: int) -> None:
        """A request had these tokens, as the server counts."""
        self._estimated += estimate_tokens(messages)
        self._actual += prompt_tokens
        self._longest = max(self._longest, completion_tokens)

    def _cost(self, estimate: Estimate) -> float:
        return 0.0 if self.price is None else self.price.of(estimate.prompt, estimate.completion)
