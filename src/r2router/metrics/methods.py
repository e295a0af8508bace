"""What can be compared: methods that give operating points, from outcomes that were observed.

One rule makes every curve. A method that does not know the outcomes has at most twelve settings, fixed by its forecasts
alone: those whose forecast spend lies nearest to twelve equal steps of log spend. A method that knows the outcomes (the
oracle, the mixture that knows these very queries) has all of them, and says so by `knows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from r2router.metrics.frontier import Sweep, sweep
from r2router.types import Arm, BoolArray, FloatArray, IntArray

KEEP = 0.95
"""The share of the best fixed arm's quality at which cost is compared (the paper's QNC)."""
SETTINGS = 12
"""How many settings a curve is made of, at most, unless its method knows the outcomes."""
_MOSTLY_SEEN = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What n queries really gave: quality and cost (n, arms), NaN where not observed in either."""

    arms: tuple[Arm, ...]
    quality: FloatArray
    cost: FloatArray

    @classmethod
    def of(cls, arms: tuple[Arm, ...], quality: FloatArray, cost: FloatArray) -> Outcomes:
        """Cells that lack quality or cost are not observed; a cost of zero is allowed. Raises nothing."""
        seen = ~np.isnan(quality) & ~np.isnan(cost)
        return cls(arms, np.where(seen, quality, np.nan), np.where(seen, cost, np.nan))

    @property
    def seen(self) -> BoolArray:
        return ~np.isnan(self.quality)

    def fixed_arms(self, rows: IntArray | None = None) -> IntArray:
        """Return the arms that can be scored as "always this one": those observed on nearly every query (of `rows`; all
        by default).
        """
        seen = self.seen if rows is None else self.seen[rows]
        return np.flatnonzero(seen.mean(axis=0) >= _MOSTLY_SEEN)

    def take(self, rows: IntArray) -> Outcomes:
        """Return the outcomes of some queries."""
        return Outcomes(self.arms, self.quality[rows], self.cost[rows])


class Method(Protocol):
    """Anything that gives (cost, quality) operating points when queries count `weight` times each.

    knows: it has seen the outcomes.
    """

    @property
    def knows(self) -> bool: ...

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]: ...


@dataclass(frozen=True, eq=False)
class FixedArms:
    """The points of fixed arms. Mixtures of them know the outcomes: which arms to mix is read off the means that score
    them.
    """

    outcomes: Outcomes
    arms: IntArray

    @property
    def knows(self) -> bool:
        return True

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return one point per arm: its mean over the queries where it was observed."""
        seen, cost, quality = self._columns
        total = weight @ seen
        return weight @ cost / total, weight @ quality / total

    @cached_property
    def _columns(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What a bootstrap sums again and again: 1 where observed, cost and quality (0 where not)."""
        cost, quality = (a[:, self.arms] for a in (self.outcomes.cost, self.outcomes.quality))
        return self.outcomes.seen[:, self.arms].astype(np.float64), np.nan_to_num(cost), np.nan_to_num(quality)


@dataclass(frozen=True, eq=False)
class Routed:
    """The deferral curve of forecasts.

    settings: (k,) the numbers of steps of the sweep at which the curve has its points; None: wherever some decision
        changes, which only a method that knows the outcomes may have.
    """

    outcomes: Outcomes
    sweep: Sweep
    settings: IntArray | None = None

    @classmethod
    def of(cls, quality: FloatArray, cost: FloatArray, outcomes: Outcomes, arms: IntArray | None = None) -> Routed:
        """Return the curve of (n, arms) forecasts of quality and cost, choosing among `arms` (all by default) where
        they were observed.
        """
        steps = _sweep(quality, cost, outcomes, arms)
        return cls(outcomes, steps, settings_of(steps, cost))

    @classmethod
    def oracle(cls, outcomes: Outcomes, arms: IntArray | None = None) -> Routed:
        """Return the curve of the outcomes themselves: no decisions are better."""
        return cls(outcomes, _sweep(outcomes.quality, outcomes.cost, outcomes, arms))

    @classmethod
    def mixture(cls, means: Means, outcomes: Outcomes) -> Routed:
        """Return the mixture of fixed arms that `means` from other queries choose: a router whose forecasts are the
        same for every query.

        It has the arms that can be scored as "always this one"; on a query where none of them was observed, any that
        was.
        """
        quality, cost = (np.broadcast_to(a, outcomes.quality.shape) for a in (means.quality, means.cost))
        allowed = outcomes.seen & ~np.isnan(quality) & np.isfinite(cost)
        fixed = allowed & np.isin(np.arange(len(outcomes.arms)), outcomes.fixed_arms())
        allowed = np.where(fixed.any(axis=1, keepdims=True), fixed, allowed)
        steps = sweep(np.where(allowed, quality, np.nan), np.where(allowed, cost, np.inf))
        return cls(outcomes, steps, settings_of(steps, cost))

    @property
    def knows(self) -> bool:
        return self.settings is None

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return every point of the curve, from the cheapest decisions to the best."""
        if self.settings is None:
            of_cost, of_quality = self._parts
            at = self.sweep.stops
            return self.sweep.add_up(*of_cost, weight)[at], self.sweep.add_up(*of_quality, weight)[at]
        total, (cost, quality) = weight.sum(), self._columns
        return weight @ cost / total, weight @ quality / total

    @cached_property
    def _parts(self) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        # only observed cells are ever chosen, so a NaN here would be a defect and must show
        return self.sweep.parts(self.outcomes.cost), self.sweep.parts(self.outcomes.quality)

    @cached_property
    def _columns(self) -> tuple[FloatArray, FloatArray]:
        """(n, k) cost and quality of each query at each setting."""
        arm = self.sweep.after_steps(np.empty(0, dtype=np.intp) if self.settings is None else self.settings)
        rows = np.arange(len(arm))[:, None]
        return self.outcomes.cost[rows, arm], self.outcomes.quality[rows, arm]


@dataclass(frozen=True, slots=True, eq=False)
class Means:
    """What is known of arms without the queries that are scored: mean quality and cost, (arms,), or (n, arms) where
    folds differ.
    """

    quality: FloatArray
    cost: FloatArray

    def mean(self) -> tuple[FloatArray, FloatArray]:
        """Return (arms,) quality and cost, averaged over queries where they differ."""
        one, other = (a if a.ndim == 1 else a.mean(axis=0) for a in (self.quality, self.cost))
        return one, other


def settings_of(steps: Sweep, cost: FloatArray) -> IntArray:
    """Return (k,) numbers of steps at which a curve has its settings, chosen by the (n, arms) forecast cost: see the
    head of this module.
    """
    spend = steps.totals(cost)[steps.stops]
    minimum = float(spend[spend > 0].min(initial=np.inf))
    level = np.log(np.maximum(spend, minimum if np.isfinite(minimum) else 1.0))
    nearest = {int(np.abs(level - at).argmin()) for at in np.linspace(level[0], level[-1], SETTINGS)}
    return steps.stops[sorted(nearest | {0, len(spend) - 1})]


def methods(outcomes: Outcomes, quality: FloatArray, cost: FloatArray, means: Means | None = None) -> dict[str, Method]:
    """Return the router of these (n, arms) forecasts and what it is always shown beside.

    `fixed`: the mixture of fixed arms that the `means` choose, which are known from other queries (left out without
    them). `fixed known`: the one that knows the outcomes. `one budget`: the same forecasts with one budget per LLM,
    chosen by the means (by the outcomes without them). `oracle`.
    """
    found: dict[str, Method] = {"router": Routed.of(quality, cost, outcomes)}
    if means is not None:
        found["fixed"] = Routed.mixture(means, outcomes)
    found["fixed known"] = FixedArms(outcomes, outcomes.fixed_arms())
    one = one_budget_each(outcomes, means=means)
    if len(one) and outcomes.seen[:, one].any(axis=1).all():
        found["one budget"] = Routed.of(quality, cost, outcomes, one)
    return found | {"oracle": Routed.oracle(outcomes)}


def one_budget_each(
    outcomes: Outcomes, choose: Literal["best", "cheapest", "cheap enough"] = "best", means: Means | None = None
) -> IntArray:
    """Return one arm for each LLM, as a router that does not know budgets would see it.

    means: what to choose by; by default the outcomes' own.

    It is the arm of the LLM's highest mean quality (the cheaper one of equals), or its cheapest arm, or the cheapest
    that keeps 95 % of that quality.
    """
    fixed = outcomes.fixed_arms()
    if means is None:
        quality, cost = (np.full(len(outcomes.arms), np.nan) for _ in range(2))
        quality[fixed], cost[fixed] = (
            np.nanmean(outcomes.quality[:, fixed], axis=0),
            np.nanmean(outcomes.cost[:, fixed], axis=0),
        )
    else:
        quality, cost = means.mean()
    found: dict[str, list[tuple[float, float, int]]] = {}
    for arm in fixed[np.isfinite(quality[fixed]) & np.isfinite(cost[fixed])].tolist():
        found.setdefault(outcomes.arms[arm].model, []).append((float(quality[arm]), float(cost[arm]), arm))
    minimum: Mapping[str, float] = {"best": 1.0, "cheapest": 0.0, "cheap enough": KEEP}
    chosen = []
    for arms in found.values():
        top = max(q for q, _, _ in arms)
        enough = [(c, -q, arm) for q, c, arm in arms if q >= minimum[choose] * top]
        chosen.append(min(enough)[2])
    return np.array(sorted(chosen), dtype=np.intp)


def _sweep(quality: FloatArray, cost: FloatArray, outcomes: Outcomes, arms: IntArray | None) -> Sweep:
    allowed = outcomes.seen.copy()
    if arms is not None:
        allowed &= np.isin(np.arange(len(outcomes.arms)), arms)
    return sweep(quality, np.where(allowed, cost, np.inf))
