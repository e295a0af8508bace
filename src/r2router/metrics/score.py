"""How good are decisions? The figures of a deferral curve, each with a bootstrap interval over queries.

Costs are US dollars a request, of the tokens really used. A (query, arm) cell that was not observed cannot be scored, so no method
may choose it there. Curves are compared with mixtures allowed (a share of requests to one operating point, the rest to another):
nobody has to settle for a point below the line between two others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from r2router.figure import Figure
from r2router.metrics.frontier import Sweep, area_over_cost, area_over_log_cost, envelope_at, least_cost, sweep, upper_envelope
from r2router.text import html_table
from r2router.types import Arm, BoolArray, FloatArray, IntArray, Progress

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

    def fixed_arms(self, rows: IntArray | None = None) -> IntArray:
        """The arms that can be scored as "always this one": those observed on nearly every query (of `rows`; all by default)."""
        seen = self.seen if rows is None else self.seen[rows]
        return np.flatnonzero(seen.mean(axis=0) >= _MOSTLY_SEEN)

    def take(self, rows: IntArray) -> Outcomes:
        """The outcomes of some queries."""
        return Outcomes(self.arms, self.quality[rows], self.cost[rows])


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


def one_budget_each(outcomes: Outcomes, choose: Literal["best", "cheapest", "thrifty"] = "best") -> IntArray:
    """For each LLM the arm of its highest mean quality (the cheaper one of equals), or its cheapest arm, or the cheapest that keeps 95 %
    of that highest quality: what a router sees that knows points only.
    """
    found: dict[str, list[tuple[float, float, int]]] = {}
    for arm in outcomes.fixed_arms().tolist():
        quality, cost = float(np.nanmean(outcomes.quality[:, arm])), float(np.nanmean(outcomes.cost[:, arm]))
        found.setdefault(outcomes.arms[arm].model, []).append((quality, cost, arm))
    least = {"best": 1.0, "cheapest": 0.0, "thrifty": KEEP}[choose]
    chosen = []
    for arms in found.values():
        top = max(quality for quality, _, _ in arms)
        enough = [(cost, -quality, arm) for quality, cost, arm in arms if quality >= least * top]
        chosen.append(min(enough)[2])
    return np.array(sorted(chosen), dtype=np.intp)


NAMES = ("area", "gap_closed", "audc", "peak", "cost_at_90", "cost_at_keep", "cost_at_100", "qnc", "qnc_100")
"""The figures of one method; every one is computed from the best mixtures of its operating points.

area: mean quality over log cost, between the cheapest and the dearest fixed arm. gap_closed: the share of the way from the best
mixture of fixed arms to the oracle that its area goes. audc: area under the deferral curve over linear cost, normalised by the
smallest and the largest cost of all compared methods; below a method's own cheapest point quality counts 0, beyond its peak the
peak (the paper's Section 5; of the variants in its scripts the one its text describes). peak: highest mean quality of any point.
cost_at_90, cost_at_keep, cost_at_100: least US dollars a request that reach 90, 95, 100 % of the best fixed arm's quality; infinite
where it never does. qnc, qnc_100: the 95 and 100 % ones over the cost of that best fixed arm (the paper's QNC).
"""
_SHARES = (0.9, KEEP, 1.0)
_GRID = 64


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A deferral curve on a grid of costs: quality of the best mixture, with its pointwise 95 % interval. NaN below its first point."""

    cost: FloatArray
    quality: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Figures of several methods on the same queries.

    figures: method -> figure name -> Figure. differences: method -> figure name -> the base minus that method, paired; `cheaper` there
    is that method's cost at 95 % over the base's, where a draw in which only the base never gets there counts as 0. points: method ->
    (cost, quality) operating points, of the first repetition. bands: method -> its curve. best_arm: the best fixed arm. best: its
    (cost, quality). low, high: the cost range of the areas.
    """

    n: int
    base: str
    figures: dict[str, dict[str, Figure]]
    differences: dict[str, dict[str, Figure]]
    points: dict[str, tuple[FloatArray, FloatArray]]
    bands: dict[str, Band]
    best_arm: Arm
    best: tuple[float, float]
    low: float
    high: float

    def __repr__(self) -> str:
        return f"Comparison({self.n} queries, base {self.base!r}, methods {', '.join(self.figures)})"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for row in self.figures.values() for name in row))
        rows = ((method, *(row.get(name, "") for name in names)) for method, row in self.figures.items())
        return html_table(repr(self), ("method", *names), rows)


def compare(
    found: Mapping[str, Method | Sequence[Method]],
    outcomes: Outcomes,
    resamples: int,
    seed: int,
    *,
    base: str = "router",
    rows: IntArray | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Figures with 95 % percentile intervals from `resamples` bootstrap draws of queries, the same draws for all methods.

    found: name -> a method, or several repetitions of it (one a seed), whose figures are averaged. base: the method that the others
    are subtracted from. rows: the queries to score; all by default. progress: called as draws are made. Where `fixed` is among the
    methods, its arms are those observed on nearly all of the rows.

    Raises `ValueError` where no arm was observed on nearly all queries, so that nothing can be compared with.
    """
    fixed = FixedArms(outcomes, outcomes.fixed_arms(rows))
    if not len(fixed.arms):
        raise ValueError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
    repeated = {name: list(m) if isinstance(m, Sequence) else [m] for name, m in found.items()}
    if "fixed" in repeated:
        repeated["fixed"] = [fixed]
    index = np.arange(len(outcomes.quality)) if rows is None else rows
    ones = _spread_out(np.ones(len(index)), index, len(outcomes.quality))
    cost, quality = fixed.points(ones)
    low, high = float(cost.min()), float(cost.max())
    best = _best(cost, quality)
    points = {m: methods[0].points(ones) for m, methods in repeated.items()}
    most = max(high, *(float(c.max()) for c, _ in points.values()))
    grid = np.geomspace(low, most, _GRID) if 0 < low < most else np.linspace(low, most, _GRID)
    value, curve = _look(repeated, fixed, best, ones, grid)
    rng, draws, curves = np.random.default_rng(seed), [], []
    for draw in range(resamples):
        if progress is not None:
            progress("bootstrap", draw, resamples)
        drawn = rng.multinomial(len(index), np.full(len(index), 1 / len(index))).astype(np.float64)
        figures, lines = _look(repeated, fixed, best, _spread_out(drawn, index, len(outcomes.quality)), grid)
        draws.append(figures)
        curves.append(lines)
    n = len(index)
    others = [m for m in found if m != base and base in found]
    return Comparison(
        n=n,
        base=base,
        figures={m: _figures(value[m], np.array([d[m] for d in draws]), n) for m in found},
        differences={m: _differences(value[base], value[m], [(d[base], d[m]) for d in draws], n) for m in others},
        points=points,
        bands={m: _band(grid, curve[m], [c[m] for c in curves]) for m in found},
        best_arm=outcomes.arms[fixed.arms[best]],
        best=(float(cost[best]), float(quality[best])),
        low=low,
        high=high,
    )


def _spread_out(weight: FloatArray, rows: IntArray, n: int) -> FloatArray:
    """(n,) weights of all queries from those of some."""
    full = np.zeros(n)
    full[rows] = weight
    return full


def _look(
    found: Mapping[str, Sequence[Method]], fixed: FixedArms, best: int, weight: FloatArray, grid: FloatArray
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Every method's figures (in the order of `NAMES`) and curve on the grid, as means over its repetitions.

    best: which fixed arm is the best on the data. It stays that one in every draw: two arms of nearly the same quality and very
    different cost would else change places, and every normalised cost with them.
    """
    points = {m: [_hull(*method.points(weight)) for method in methods] for m, methods in found.items()}
    fixed_cost, fixed_quality = fixed.points(weight)
    best_cost, best_quality = float(fixed_cost[best]), float(fixed_quality[best])
    low, high = float(fixed_cost.min()), float(fixed_cost.max())
    least = min(c[0] for hulls in points.values() for c, _, _ in hulls)
    most = max(top for hulls in points.values() for _, _, top in hulls)
    figures, curves = {}, {}
    for m, hulls in points.items():
        rows = []
        for cost, quality, _ in hulls:
            reach = [_never_is_infinite(least_cost(cost, quality, share * best_quality)) for share in _SHARES]
            area = area_over_log_cost(cost, quality, low, high) if 0 < low < high else np.nan
            audc = area_over_cost(cost, quality, least, most) if least < most else np.nan
            qnc, qnc_100 = (reach[i] / best_cost if best_cost > 0 else np.nan for i in (1, 2))
            rows.append((area, np.nan, audc, float(quality[-1]), *reach, qnc, qnc_100))
        figures[m] = np.array(rows).mean(axis=0)
        curves[m] = np.mean([envelope_at(cost, quality, grid) for cost, quality, _ in hulls], axis=0)
    if "fixed" in figures and "oracle" in figures:
        gap = figures["oracle"][0] - figures["fixed"][0]
        for row in figures.values():
            row[1] = (row[0] - figures["fixed"][0]) / gap if gap > 0 else np.nan
    return figures, curves


def _hull(cost: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """The envelope's cost and quality, once for all figures: on these few points they are quick; and the largest cost of any point."""
    kept = upper_envelope(cost, quality)
    return cost[kept], quality[kept], float(cost.max())


def _never_is_infinite(cost: float) -> float:
    return np.inf if np.isnan(cost) else cost


def _best(cost: FloatArray, quality: FloatArray) -> int:
    return int(np.lexsort((cost, -quality))[0])


def _figures(value: FloatArray, draws: FloatArray, n: int) -> dict[str, Figure]:
    return {name: interval(name, value[i], draws[:, i] if len(draws) else draws, n) for i, name in enumerate(NAMES)}


def _differences(base: FloatArray, other: FloatArray, draws: Sequence[tuple[FloatArray, FloatArray]], n: int) -> dict[str, Figure]:
    value, drawn = _less(base, other), np.array([_less(*pair) for pair in draws])
    figures = _figures(value, drawn, n)
    keep = NAMES.index("cost_at_keep")
    ratios = np.array([_ratio(o[keep], b[keep]) for b, o in draws])
    if not np.isfinite(base[keep]):  # no ratio to a cost that is not there
        return figures | {"cheaper": Figure("cheaper", float("nan"), n=n)}
    return figures | {"cheaper": interval("cheaper", _ratio(other[keep], base[keep]), ratios, n)}


def _less(base: FloatArray, other: FloatArray) -> FloatArray:
    """base - other; NaN where neither ever gets there."""
    with np.errstate(invalid="ignore"):
        return base - other


def _ratio(other: float, base: float) -> float:
    """other / base: 0 where only the base never gets there, infinite where only the other never does, NaN where neither does."""
    with np.errstate(invalid="ignore"):
        return float(np.divide(other, base)) if base > 0 else float("nan")


def _band(grid: FloatArray, curve: FloatArray, draws: Sequence[FloatArray]) -> Band:
    if not draws:
        nothing = np.full(len(grid), np.nan)
        return Band(grid, curve, nothing, nothing)
    drawn = np.where(np.isnan(draws), curve, np.array(draws))  # what a draw does not reach tells nothing of the band there
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Band(grid, curve, np.where(np.isnan(curve), np.nan, low), np.where(np.isnan(curve), np.nan, high))


def interval(name: str, value: float, draws: FloatArray, n: int) -> Figure:
    """The figure of a value and its bootstrap draws: the 2.5 and 97.5 percentiles of those that exist (half of them at least).

    A draw may be infinite (a quality that is never reached), and so may then be an end of the interval.
    """
    known = draws[~np.isnan(draws)]
    if not len(known) or len(known) < 0.5 * len(draws):
        return Figure(name, float(value), n=n)
    if np.isfinite(known).all():
        low, high = np.quantile(known, [0.025, 0.975])
    else:
        low, high = np.quantile(known, 0.025, method="lower"), np.quantile(known, 0.975, method="higher")
    return Figure(name, float(value), float(low), float(high), n)
