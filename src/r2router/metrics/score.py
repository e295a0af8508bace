"""How good are decisions? The figures of a deferral curve, each with a bootstrap interval over queries and seeds.

Costs are US dollars per request, of the tokens really used. A (query, arm) cell that was not observed cannot be scored,
so no method may choose it there. Curves are compared with mixtures allowed (a share of requests to one setting, the
rest to another). What settings a curve has: `r2router.metrics.methods`. How two curves are compared so that chance wins
nothing: `r2router.metrics.crossfit`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from r2router.figure import Figure
from r2router.metrics.crossfit import Path, halves_of, mean_quality, paths_of
from r2router.metrics.frontier import area_over_cost, area_over_log_cost, envelope_at, min_cost, upper_envelope
from r2router.metrics.intervals import LEVELS, draw, interval
from r2router.metrics.methods import (
    KEEP,
    SETTINGS,
    FixedArms,
    Means,
    Method,
    Outcomes,
    Routed,
    methods,
    one_budget_each,
)
from r2router.text import html_table
from r2router.types import Arm, BoolArray, FloatArray, IntArray, Progress

__all__ = (
    "KEEP",
    "NAMES",
    "SETTINGS",
    "Band",
    "Comparison",
    "FixedArms",
    "Means",
    "Method",
    "Outcomes",
    "Routed",
    "compare",
    "methods",
    "one_budget_each",
)

NAMES = (
    "area",
    "covers",
    "gap_closed",
    "audc",
    "audc_points",
    "peak",
    "cost_at_90",
    "cost_at_keep",
    "cost_at_100",
    "qnc",
    "qnc_100",
    "qnc_points",
)
"""The figures of one method; all but those in `_points` are of the best mixtures of its settings.

area: mean quality over log cost between the cheapest and the most expensive fixed arm, 0 below the method's cheapest
setting. covers: the share of that range that lies above its cheapest setting. gap_closed: the share of the way from the
best mixture of fixed arms that knows the outcomes to the oracle that its area goes. audc: area under the deferral curve
over linear cost, from the smallest to the largest cost of all compared methods, 0 below the method's cheapest setting.
audc_points: the same by trapezoids from setting to setting by rising cost, without mixtures, and 0 below the first.
peak: highest mean quality of any setting. cost_at_90, cost_at_keep,
cost_at_100: lowest US dollars per request that reach 90, 95, 100 % of the best fixed arm's quality; infinite where it
never does. qnc,
qnc_100: the 95 and 100 % ones over the cost of that best fixed arm. qnc_points: the 100 % one without mixtures: the
cheapest setting that matches the best fixed arm, over its cost.

In differences `area` is over the range of cost that both methods have, with settings kept by the other half of the
queries; `area_zero` is the same with 0 below a method's cheapest setting; `cheaper` is the other's cost at 95 % over
the base's, where a draw in which only the base never reaches it counts as 0.
"""
_SHARES = (0.9, KEEP, 1.0)
_GRID = 64
_NOTHING = 1e-9  # areas that differ by less are rounded differently and no more

Verdict = Literal["above", "below", "not clear", "not known"]


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A deferral curve on a grid of costs: quality of the best mixture, with its pointwise 95 % interval. NaN below its
    first point.
    """

    cost: FloatArray
    quality: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Figures of several methods on the same queries.

    figures: method -> figure name -> Figure.
    differences: method -> figure name -> the base minus that method, paired; see `NAMES`.
    best_of: group -> (its best member on the data, differences of the base to the best, which is found again in every
        draw).
    points: method -> (cost, quality) of its settings, of the first repetition.
    bands: method -> its curve.
    best_arm: the best fixed arm.
    best: its (cost, quality).
    low, high: the cost range of the areas.
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
    best_of: dict[str, tuple[str, dict[str, Figure]]] = field(default_factory=dict)

    @property
    def mixture(self) -> str:
        """The mixture of fixed arms that verdicts are against: the one that other queries chose, where there is one."""
        return "fixed" if "fixed" in self.figures else "fixed known"

    @property
    def verdict(self) -> Verdict:
        """Is the base better than the mixture of fixed arms that other queries chose, by the interval of the difference
        of areas?

        Against the mixture that knows the outcomes only where there is no other: on few queries that one wins over
        everything.
        """
        gap = self.differences.get(self.mixture, {}).get("area")
        if gap is None or np.isnan(gap.value):
            return "not known"
        if gap.low > _NOTHING:
            return "above"
        return "below" if gap.high < -_NOTHING else "not clear"

    def __repr__(self) -> str:
        return f"Comparison({self.n} queries, base {self.base!r}, methods {', '.join(self.figures)})"

    def _repr_html_(self) -> str:
        names = list(dict.fromkeys(name for row in self.figures.values() for name in row))
        rows = ((method, *(row.get(name, "") for name in names)) for method, row in self.figures.items())
        return html_table(repr(self), ("method", *names), rows)


def compare(  # noqa: PLR0913 - what is compared, by name
    found: Mapping[str, Method | Sequence[Method]],
    outcomes: Outcomes,
    resamples: int,
    seed: int,
    *,
    base: str = "router",
    rows: IntArray | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    cases: bool = False,
    progress: Progress | None = None,
) -> Comparison:
    """Figures with 95 % percentile intervals from `resamples` bootstrap draws, the same draws for all methods.

    found: name -> a method, or several repetitions of it (one per seed), whose figures are averaged. A draw takes as
        many queries, with replacement, and one of the seeds.
    cases: repetitions are no seeds but cases to average over, in every draw.
    base: the method that the others are subtracted from.
    rows: the queries to score; all by default.
    groups: name -> methods, of which the one with the lowest cost at 95 % (by area where none reaches it) is compared
        with the base; as the best fixed arm, it is found again in every draw.
    progress: called as draws are made. Where `fixed known` is among the methods, its arms are those observed on nearly
        all of the rows.

    Raises `ValueError` where no arm was observed on nearly all queries, so that nothing can be compared with.
    """
    fixed = FixedArms(outcomes, outcomes.fixed_arms(rows))
    if not len(fixed.arms):
        raise ValueError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
    repeated = {name: list(m) if isinstance(m, Sequence) else [m] for name, m in found.items()}
    if "fixed known" in repeated:
        repeated["fixed known"] = [fixed]
    index = np.arange(len(outcomes.quality)) if rows is None else rows
    ones = _spread_out(np.ones(len(index)), index, len(outcomes.quality))
    cost, quality = fixed.points(ones)
    best = _best(cost, quality)
    points = {m: several[0].points(ones) for m, several in repeated.items()}
    low, high = float(cost.min()), float(cost.max())
    maximum = max(high, *(float(c.max()) for c, _ in points.values()))
    grid = np.geomspace(low, maximum, _GRID) if 0 < low < maximum else np.linspace(low, maximum, _GRID)
    groups = {name: [m for m in members if m in found] for name, members in (groups or {}).items()}
    look = _DrawInputs(
        repeated, fixed, base, grid, halves_of(outcomes, index), {name: m for name, m in groups.items() if m}
    )
    value = look.at(ones)
    rng, draws = np.random.default_rng(seed), []
    for done in range(resamples):
        if progress is not None:
            progress("bootstrap", done, resamples)
        drawn = draw(rng, len(index))
        chosen = None if cases else int(rng.integers(look.repetitions))
        draws.append(look.at(_spread_out(drawn, index, len(outcomes.quality)), chosen))
    n = len(index)
    return Comparison(
        n=n,
        base=base,
        figures={m: _figures(NAMES, value.figures[m], np.array([d.figures[m] for d in draws]), n) for m in found},
        differences={m: _differences(value.less[m], [d.less[m] for d in draws], n) for m in value.less},
        points=points,
        bands={m: _band(grid, value.curves[m], [d.curves[m] for d in draws]) for m in found},
        best_arm=outcomes.arms[fixed.arms[best]],
        best=(float(cost[best]), float(quality[best])),
        low=low,
        high=high,
        best_of={
            g: (value.best[g], _differences(value.of_best(g), [d.of_best(g) for d in draws], n)) for g in value.best
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _DrawFigures:
    """One look at all methods.

    figures: as `NAMES`.
    less: the base less each other method, as `_LESS`.
    best: group -> its best.
    """

    figures: dict[str, FloatArray]
    less: dict[str, FloatArray]
    curves: dict[str, FloatArray]
    best: dict[str, str]

    def of_best(self, group: str) -> FloatArray:
        return self.less[self.best[group]]


_LESS = (*NAMES, "area_zero", "cheaper")
_REACH = NAMES.index("cost_at_keep")


@dataclass(frozen=True, slots=True, eq=False)
class _DrawInputs:
    """What every draw of queries and seeds looks at again."""

    found: Mapping[str, Sequence[Method]]
    fixed: FixedArms
    base: str
    grid: FloatArray
    halves: Sequence[BoolArray]
    groups: Mapping[str, Sequence[str]]

    @property
    def repetitions(self) -> int:
        return max(len(several) for several in self.found.values())

    def at(self, weight: FloatArray, repetition: int | None = None) -> _DrawFigures:
        """Compute the figures where queries count `weight` times: of one repetition, or the mean over all."""
        if repetition is not None or self.repetitions == 1:
            chosen = {m: several[(repetition or 0) % len(several)] for m, several in self.found.items()}
            return self._with_best(*self._one(chosen, weight))
        parts = [
            self._one({m: several[i % len(several)] for m, several in self.found.items()}, weight)
            for i in range(self.repetitions)
        ]
        # ours never gets there with one seed, the other with another: no mean difference
        with np.errstate(invalid="ignore"):
            figures, less, curves = (
                {m: np.mean([part[k][m] for part in parts], axis=0) for m in parts[0][k]} for k in range(3)
            )
        for m, row in less.items():  # a ratio of mean costs, no mean of ratios
            row[-1] = _ratio(figures[m][_REACH], figures[self.base][_REACH])
        return self._with_best(figures, less, curves)

    def _with_best(
        self, figures: dict[str, FloatArray], less: dict[str, FloatArray], curves: dict[str, FloatArray]
    ) -> _DrawFigures:
        best = {}
        for group, members in self.groups.items():
            best[group] = min(members, key=lambda m: (figures[m][_REACH], -figures[m][0]))
        return _DrawFigures(figures, less, curves, {g: m for g, m in best.items() if m in less})

    def _one(
        self, methods: Mapping[str, Method], weight: FloatArray
    ) -> tuple[dict[str, FloatArray], dict[str, FloatArray], dict[str, FloatArray]]:
        """Return (figures, differences, curves on the grid) of one repetition."""
        points = {m: method.points(weight) for m, method in methods.items()}
        fixed_cost, fixed_quality = self.fixed.points(weight)
        best = _best(fixed_cost, fixed_quality)
        best_cost, best_quality = float(fixed_cost[best]), float(fixed_quality[best])
        low, high = float(fixed_cost.min()), float(fixed_cost.max())
        minimum = min(float(c.min()) for c, _ in points.values())
        maximum = max(float(c.max()) for c, _ in points.values())
        figures, curves = {}, {}
        for m, (all_cost, all_quality) in points.items():
            kept = upper_envelope(all_cost, all_quality)  # once for all figures: on these few points they are quick
            cost, quality = all_cost[kept], all_quality[kept]
            reach = [_never_is_infinite(min_cost(cost, quality, share * best_quality)) for share in _SHARES]
            matching = float(all_cost[all_quality >= best_quality - _NOTHING].min(initial=np.inf))
            spans, ranged = minimum < maximum, 0 < low < high
            figures[m] = np.array(
                [
                    area_over_log_cost(cost, quality, low, high) if ranged else np.nan,
                    _covers(float(all_cost.min()), low, high) if ranged else np.nan,
                    np.nan,
                    area_over_cost(cost, quality, minimum, maximum) if spans else np.nan,
                    _trapezoids(all_cost, all_quality, minimum, maximum) if spans else np.nan,
                    float(quality[-1]),
                    *reach,
                    *(c / best_cost if best_cost > 0 else np.nan for c in (*reach[1:], matching)),
                ]
            )
            curves[m] = envelope_at(cost, quality, self.grid)
        if "fixed known" in figures and "oracle" in figures:
            gap = figures["oracle"][0] - figures["fixed known"][0]
            for row in figures.values():
                row[2] = (row[0] - figures["fixed known"][0]) / gap if gap > 0 else np.nan
        starts = {m: max(low, float(cost.min())) for m, (cost, _) in points.items()}
        return figures, self._less(methods, weight, figures, starts, (low, high)), curves

    def _less(
        self,
        methods: Mapping[str, Method],
        weight: FloatArray,
        figures: Mapping[str, FloatArray],
        starts: Mapping[str, float],
        ends: tuple[float, float],
    ) -> dict[str, FloatArray]:
        """Return the base less each other method.

        starts: method -> where in the range of costs, which is `ends`, its curve begins.
        """
        if self.base not in methods:
            return {}
        paths = {m: paths_of(method, weight, self.halves) for m, method in methods.items()}
        low, high = ends
        zero = {
            m: _covers(starts[m], low, high) * mean_quality(paths[m], starts[m], high) if starts[m] < high else 0.0
            for m in methods
        }
        less = {}
        for m in methods:
            if m == self.base:
                continue
            with np.errstate(invalid="ignore"):  # neither ever gets there
                row = figures[self.base] - figures[m]
            row[0] = _common(paths[self.base], paths[m], max(starts[self.base], starts[m]), high)
            missing = np.isnan(figures[m][0])
            ratio = _ratio(figures[m][_REACH], figures[self.base][_REACH])
            less[m] = np.array([*row, np.nan if missing else zero[self.base] - zero[m], ratio])
        return less


def _common(base: Sequence[Path], other: Sequence[Path], low: float, high: float) -> float:
    """Return the difference of mean quality over a range of costs that both have."""
    return mean_quality(base, low, high) - mean_quality(other, low, high)


def _covers(start: float, low: float, high: float) -> float:
    """Return the share of log cost from `low` to `high` that lies above `start`."""
    if not 0 < low < high:
        return float("nan")
    return float(np.log(high / min(max(start, low), high)) / np.log(high / low))


def _trapezoids(cost: FloatArray, quality: FloatArray, low: float, high: float) -> float:
    """Area under the settings by rising cost, as they are: no mixtures, nothing left out; flat after the most
    expensive.
    """
    order = np.lexsort((quality, cost))
    c, q = np.append(cost[order], high), np.append(quality[order], quality[order][-1])
    return float(((q[1:] + q[:-1]) / 2 @ np.diff(c)) / (high - low))


def _spread_out(weight: FloatArray, rows: IntArray, n: int) -> FloatArray:
    """Return (n,) weights of all queries from those of some."""
    full = np.zeros(n)
    full[rows] = weight
    return full


def _never_is_infinite(cost: float) -> float:
    return np.inf if np.isnan(cost) else cost


def _best(cost: FloatArray, quality: FloatArray) -> int:
    return int(np.lexsort((cost, -quality))[0])


def _figures(names: Sequence[str], value: FloatArray, draws: FloatArray, n: int) -> dict[str, Figure]:
    return {name: interval(name, value[i], draws[:, i] if len(draws) else draws, n) for i, name in enumerate(names)}


def _differences(value: FloatArray, draws: Sequence[FloatArray], n: int) -> dict[str, Figure]:
    found = _figures(_LESS, value, np.array(draws), n)
    if value[_REACH] < np.inf:
        return found
    return found | {"cheaper": Figure("cheaper", float("nan"), n=n)}  # no ratio to a cost that the base never pays


def _ratio(other: float, base: float) -> float:
    """other / base: 0 where only the base never reaches it, infinite where only the other never does, NaN where neither
    does.
    """
    with np.errstate(invalid="ignore"):
        return float(np.divide(other, base)) if base > 0 else float("nan")


def _band(grid: FloatArray, curve: FloatArray, draws: Sequence[FloatArray]) -> Band:
    if not draws:
        nothing = np.full(len(grid), np.nan)
        return Band(grid, curve, nothing, nothing)
    # what a draw does not reach tells nothing of the band there
    drawn = np.where(np.isnan(draws), curve, np.array(draws))
    low, high = np.quantile(drawn, LEVELS, axis=0)
    return Band(grid, curve, np.where(np.isnan(curve), np.nan, low), np.where(np.isnan(curve), np.nan, high))
