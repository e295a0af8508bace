"""How the budgets of a router's arms are enforced: what a request must carry so that an arm answers as its curve
says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from r2router.decide import Best, Policy
from r2router.pool.pool import Pool
from r2router.types import Arm, BoolArray, Choices, Enforcement, FloatArray, Forecast
from r2router.upstream.controls import Collected, Controls, thinking_within


class RequestLimits(msgspec.Struct, frozen=True):
    """What goes with `Choices`, lists of length n; of a query without an arm it means nothing.

    max_tokens: as in `Decision`.
    enforcement: as in `Decision`; equal ones are one object.
    fallbacks: as in `Decision`.
    """

    max_tokens: list[int | None]
    enforcement: list[Enforcement]
    fallbacks: list[tuple[Arm, ...]]


@dataclass(frozen=True, eq=False)
class ArmControls:
    """How the budget of each arm is enforced.

    collected: (arms,) how each arm of the pool was collected; where that was not recorded, as the pool has it.
    """

    pool: Pool
    collected: tuple[Collected, ...]

    @classmethod
    def of(cls, pool: Pool, signatures: Sequence[str]) -> ArmControls:
        """Read how each arm was collected.

        signatures: of `Controls.signature`, one per arm or none; empty where an arm's is not known.
        """
        known = [Collected.parse(text) for text in signatures] or [None] * len(pool)
        return cls(pool, tuple(c or Collected(Controls(), b.control) for c, b in zip(known, pool.budgets, strict=True)))

    def limits(
        self, forecast: Forecast, choices: Choices, policy: Policy, fallbacks: list[tuple[Arm, ...]]
    ) -> RequestLimits:
        """Return what goes with choices, beside their fallbacks."""
        maximum = self.max_tokens(forecast, choices, policy)
        return RequestLimits(maximum, self.enforcement(choices, maximum), fallbacks)

    def max_tokens(self, forecast: Forecast, choices: Choices, policy: Policy) -> list[int | None]:
        """Return the output length to enforce: the cap under which the arm was collected, and what a policy's cap can
        pay for.
        """
        arm, rows = choices.arm, np.arange(len(choices))
        caps, follows = self._caps
        further = choices.budget_tokens - self.pool.budget_tokens[arm]  # between two budgets
        maximum = caps[arm] + np.where(follows[arm] & ~np.isnan(further), further, 0.0)
        if isinstance(policy, Best):
            price = self.pool.max_output_price[arm]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                more = (policy.max_cost - forecast.cost[rows, arm]) / price
                affordable = np.maximum(forecast.tokens[rows, arm] + more, 1.0)
            maximum = np.where(price > 0, np.minimum(maximum, affordable), maximum)
        return [int(n) if n < math.inf else None for n in maximum.tolist()]

    def enforcement(self, choices: Choices, max_tokens: Sequence[int | None]) -> list[Enforcement]:
        """Return what the requests of n choices must carry; equal ones are one object, since few different
        ones recur.
        """
        found: dict[tuple[int, float | None, int | None], Enforcement] = {}
        wanted = [None if math.isnan(b) else b for b in choices.budget_tokens.tolist()]
        keys = list(zip(choices.arm.tolist(), wanted, max_tokens, strict=True))
        for key in dict.fromkeys(keys):
            found[key] = self._enforcement(*key)
        return [found[key] for key in keys]

    def _enforcement(self, at: int, wanted: float | None, max_tokens: int | None) -> Enforcement:
        """Return what the request of one choice must carry.

        at: the arm.
        wanted: the budget asked for, in tokens; None where it is no number.
        max_tokens: as `max_tokens` has it. Where a policy's cap pays for less than the arm was collected with, thinking
            leaves the answer the same room, but takes up to half.
        """
        budget, collected = self.pool.budgets[at], self.collected[at]
        if wanted is not None and wanted != self.pool.budget_tokens[at]:
            budget = msgspec.structs.replace(budget, id=str(int(wanted)), tokens=int(wanted))
        found = collected.enforcement(self.pool.models[self.pool.model_of_arm[at]], budget)
        thinking = found.thinking_tokens
        if thinking and max_tokens is not None and (found.max_tokens is None or max_tokens < found.max_tokens):
            thinking = thinking_within(thinking, max_tokens, collected.controls.answer_room)
        return msgspec.structs.replace(found, max_tokens=max_tokens, thinking_tokens=thinking)

    @cached_property
    def _caps(self) -> tuple[FloatArray, BoolArray]:
        """(arms,) the `max_tokens` of each arm, infinite where there is none, and whether it follows the budget."""
        models = [self.pool.models[m] for m in self.pool.model_of_arm]
        caps = [
            c.enforcement(m, b).max_tokens for c, m, b in zip(self.collected, models, self.pool.budgets, strict=True)
        ]
        return np.array([math.inf if cap is None else float(cap) for cap in caps]), np.array(
            [c.cap is None for c in self.collected]
        )
