"""How good are decisions? The figures of a deferral curve, each with a bootstrap interval over queries.

Costs are US dollars a request, of the tokens really used. A (query, arm) cell that was not observed cannot be scored, so no method
may choose it there. Curves are compared with mixtures allowed (a share of requests to one operating point, the rest to another):
nobody has to settle for a point below the line between two others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from r2router.card import Figure
from r2router.frontier import Sweep, area_over_cost, area_over_log_cost, least_cost, sweep, upper_envelope
from r2router.types import Arm, BoolArray, FloatArray, IntArray

_MOSTLY_SEEN = 0.95
KEEP = 0.95
"""The share of the best fixed arm's quality at which cost is compared (the paper's QNC)."""


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

    def fixed_arms(self) -> IntArray:
        """The arms that can be scored as "always this one": those observed on nearly every query."""
        return np.flatnonzero(self.seen.mean(axis=0) >= _MOSTLY_SEEN)


class Method(Protocol):
    """Anything that gives (cost, quality) operating points when queries count `weight` times each."""

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]: ...


@dataclass(frozen=True, eq=False)
class FixedArms:
    """The points of fixed arms; with mixtures, the line no router may fall below."""

    outcomes: Outcomes
    arms: IntArray

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """One point an arm: its mean over the queries where it was observed."""
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
    """The deferral curve of forecasts: one point for every trade-off at which some decision changes."""

    outcomes: Outcomes
    sweep: Sweep

    @classmethod
    def of(cls, quality: FloatArray, cost: FloatArray, outcomes: Outcomes, arms: IntArray | None = None) -> Routed:
        """The curve of (n, arms) forecasts of quality and cost, choosing among `arms` (all by default) where they were observed."""
        allowed = outcomes.seen.copy()
        if arms is not None:
            allowed &= np.isin(np.arange(len(outcomes.arms)), arms)
        return cls(outcomes, sweep(quality, np.where(allowed, cost, np.inf)))

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Every point of the curve, from the cheapest decisions to the best."""
        cost, quality = self._parts
        return self.sweep.add_up(*cost, weight), self.sweep.add_up(*quality, weight)

    @cached_property
    def _parts(self) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
        # only observed cells are ever chosen, so a NaN here would be a defect and must show
        return self.sweep.parts(self.outcomes.cost), self.sweep.parts(self.outcomes.quality)


def methods(outcomes: Outcomes, quality: FloatArray, cost: FloatArray) -> dict[str, Method]:
    """The router of these (n, arms) forecasts and what it is always shown beside: fixed arms, one budget an LLM, the oracle."""
    fixed = outcomes.fixed_arms()
    found: dict[str, Method] = {"router": Routed.of(quality, cost, outcomes), "fixed": FixedArms(outcomes, fixed)}
    one = one_budget_each(outcomes)
    everywhere = outcomes.seen[:, one].any(axis=1).all() if len(one) else False
    if everywhere:
        found["one budget"] = Routed.of(quality, cost, outcomes, one)
    found["oracle"] = Routed.of(outcomes.quality, outcomes.cost, outcomes)
    return found


def one_budget_each(outcomes: Outcomes) -> IntArray:
    """For each LLM the arm of its highest mean quality (the cheaper one of equals): what a router sees that knows points only."""
    best: dict[str, tuple[float, float, int]] = {}
    for arm in outcomes.fixed_arms().tolist():
        key = (-float(np.nanmean(outcomes.quality[:, arm])), float(np.nanmean(outcomes.cost[:, arm])), arm)
        model = outcomes.arms[arm].model
        best[model] = min(best.get(model, key), key)
    return np.array(sorted(arm for _, _, arm in best.values()), dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one method.

    area: mean quality over log cost, between the cheapest and the dearest fixed arm.
    audc: area under the deferral curve over cost, normalised to [0, 1] by the same two (the paper's, with linear cost).
    peak: highest mean quality of any operating point.
    cost_at_keep: least US dollars a request that reach 95 % of the best fixed arm's quality; NaN if never.
    qnc: the same over the cost of that best fixed arm.
    """

    area: float
    audc: float
    peak: float
    cost_at_keep: float
    qnc: float


NAMES = ("area", "audc", "peak", "cost_at_keep", "qnc")


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Figures of several methods on the same queries.

    figures: method -> figure name -> Figure. differences: method -> figure name -> router minus that method, paired.
    points: method -> (cost, quality) operating points. best_arm: the best fixed arm. low, high: the cost range of the areas.
    """

    n: int
    figures: dict[str, dict[str, Figure]]
    differences: dict[str, dict[str, Figure]]
    points: dict[str, tuple[FloatArray, FloatArray]]
    best_arm: Arm
    best: tuple[float, float]
    low: float
    high: float


def compare(found: Mapping[str, Method], outcomes: Outcomes, resamples: int, seed: int) -> Comparison:
    """Figures with 95 % percentile intervals from `resamples` bootstrap draws of queries, the same draws for all methods.

    Raises `ValueError` where no arm was observed on nearly all queries, so that nothing can be compared with.
    """
    n = len(outcomes.quality)
    fixed = FixedArms(outcomes, outcomes.fixed_arms())
    if not len(fixed.arms):
        raise ValueError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
    rng = np.random.default_rng(seed)
    weights: Iterable[FloatArray] = (rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(resamples))
    ones = np.ones(n)
    value = _all_figures(found, fixed, ones)
    draws = [_all_figures(found, fixed, w) for w in weights]
    cost, quality = fixed.points(ones)
    best = _best(cost, quality)
    figures = {m: {f: _figure(f, value[m][i], [d[m][i] for d in draws], n) for i, f in enumerate(NAMES)} for m in found}
    differences = {
        m: {f: _figure(f, value["router"][i] - value[m][i], [d["router"][i] - d[m][i] for d in draws], n) for i, f in enumerate(NAMES)}
        for m in found
        if m != "router" and "router" in found
    }
    return Comparison(
        n=n,
        figures=figures,
        differences=differences,
        points={m: method.points(ones) for m, method in found.items()},
        best_arm=outcomes.arms[fixed.arms[best]],
        best=(float(cost[best]), float(quality[best])),
        low=float(cost.min()),
        high=float(cost.max()),
    )


def _all_figures(found: Mapping[str, Method], fixed: FixedArms, weight: FloatArray) -> dict[str, tuple[float, ...]]:
    cost, quality = fixed.points(weight)
    best = _best(cost, quality)
    return {m: _figures(*method.points(weight), cost, float(cost[best]), float(quality[best])) for m, method in found.items()}


def _figures(cost: FloatArray, quality: FloatArray, fixed_cost: FloatArray, best_cost: float, best_quality: float) -> tuple[float, ...]:
    low, high = float(fixed_cost.min()), float(fixed_cost.max())
    hull = upper_envelope(cost, quality)  # once for all figures: on these few points they are quick
    cost, quality = cost[hull], quality[hull]
    reach = least_cost(cost, quality, KEEP * best_quality)
    area = area_over_log_cost(cost, quality, low, high) if 0 < low < high else float("nan")
    audc = area_over_cost(cost, quality, low, high) if low < high else float("nan")
    return area, audc, float(quality.max()), reach, reach / best_cost if best_cost > 0 else float("nan")


def _best(cost: FloatArray, quality: FloatArray) -> int:
    return int(np.lexsort((cost, -quality))[0])


def _figure(name: str, value: float, draws: list[float], n: int) -> Figure:
    known = np.array([d for d in draws if np.isfinite(d)])
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) >= 0.5 * max(len(draws), 1) and len(known) else (np.nan, np.nan)
    return Figure(name, float(value), float(low), float(high), n)
