"""What a router's own policy decides on a table, and what that really gave."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from r2router.decide import NO_ARM, Value
from r2router.evaluation.operating_points import asked_cost
from r2router.evaluation.router_forecasts import EvaluatedTable
from r2router.figure import Figure
from r2router.metrics.intervals import mean
from r2router.metrics.score import Routed
from r2router.router.router import Router
from r2router.types import Choices, FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class OwnDecisions:
    """The own policy's decisions on the n queries that got an arm. It chooses among observed cells, as only these can
    be scored.

    rows: (n,) which of the evaluated queries they are.
    choices: (n,) the decisions.
    quality, cost: (n,) of the chosen arms, with the tokens used; for a budget between two (a `Best` cap), interpolated
        between the outcomes of both, as in the paper's Eq. 9.
    """

    router: Router
    evaluated: EvaluatedTable
    rows: IntArray
    choices: Choices
    quality: FloatArray
    cost: FloatArray

    @classmethod
    def of(cls, router: Router, evaluated: EvaluatedTable) -> OwnDecisions:
        """Decide with `Router.choose`, the way every request is decided."""
        everywhere = router.choose(evaluated.forecast, None, evaluated.outcomes.seen)
        rows = np.flatnonzero(everywhere.arm != NO_ARM)
        choices = everywhere.take(rows)
        high, share = router.neighbours(choices)

        def realised(outcome: FloatArray) -> FloatArray:
            low_value, high_value = outcome[rows, choices.arm], outcome[rows, high]
            return low_value + share * (high_value - low_value)

        return cls(
            router, evaluated, rows, choices, realised(evaluated.outcomes.quality), realised(evaluated.outcomes.cost)
        )

    def point(self, resamples: int, seed: int) -> tuple[Figure, Figure]:
        """Mean quality and cost."""
        return mean("quality", self.quality, resamples, seed), mean("cost", self.cost, resamples, seed)

    def notes(self) -> list[str]:
        """Notes on queries where the policy finds no arm."""
        n, missing = len(self.evaluated.tasks), len(self.evaluated.tasks) - len(self.rows)
        if not missing:
            return []
        return [
            (
                f"the router's own policy leaves {missing:,} of {n:,} queries without an arm (its cap); its figures are of"
                " the others"
            )
        ]

    def other_costs(self, resamples: int, seed: int) -> dict[str, Figure]:
        """Return the cost as it was forecast, and if answers had the tokens asked for; NaN where a budget is no number
        of tokens.
        """
        asked = asked_cost(self.router.pool, self.evaluated.input_tokens[self.rows])
        high, share = self.router.neighbours(self.choices)
        at = np.arange(len(self.rows))
        low_cost = asked[at, self.choices.arm]
        costs = {"forecast": self.choices.cost, "asked": low_cost + share * (asked[at, high] - low_cost)}
        return {name: mean(name, cost, resamples, seed) for name, cost in costs.items()}

    def shares(self) -> tuple[tuple[str, float], ...]:
        """Return (arm, share of decisions), the most used first; all budgets between the same two of a model count as
        one.
        """
        arms, (high, share) = self.router.arms, self.router.neighbours(self.choices)
        names = [
            f"{arms[low]} to {arms[above].budget}" if part else str(arms[low])
            for low, above, part in zip(self.choices.arm.tolist(), high.tolist(), share.tolist(), strict=True)
        ]
        order = {str(arm): i for i, arm in enumerate(arms)}
        count = sorted(Counter(names).items(), key=lambda pair: (-pair[1], order.get(pair[0], len(arms))))
        return tuple((name, n / len(names)) for name, n in count)

    def regret(self, resamples: int, seed: int) -> Figure | None:
        """US dollars per request that the oracle gains at the same value of an answer; None where the policy has no
        such value.
        """
        if not isinstance(self.router.policy, Value) or not len(self.rows):
            return None
        value, outcomes = self.router.policy.usd, self.evaluated.outcomes
        best = Routed.oracle(outcomes).sweep.at(value)[self.rows]
        worth = value * outcomes.quality[self.rows, best] - outcomes.cost[self.rows, best]
        return mean("regret", worth - (value * self.quality - self.cost), resamples, seed)
