"""Every trade-off at once: which arm is best for which value of an answer, exactly and without a grid.

For one query the arms that are best for some trade-off are the upper concave hull of its (cost, quality) points.
Written with the value v of a correct answer in dollars, an arm is best while v quality - cost is largest; going up in
v, the choice steps along the hull from the cheapest arm to the best one. `sweep` finds these steps for many queries
together; summing what the steps really brought gives the deferral curve as an exact step function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.types import FloatArray, IntArray

_ROUNDING = 1e-9
"""Values whose ratio is nearer to 1 are the same value, rounded differently."""


@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """The decisions of n queries for every value v >= 0.

    start: (n,) the arm of each query at v = 0 (its cheapest).
    row, before, after, value: (steps,) sorted by value: above `value` the choice of query `row` is `after` and no
        longer `before`.
    """

    start: IntArray
    row: IntArray
    before: IntArray
    after: IntArray
    value: FloatArray

    @property
    def stops(self) -> IntArray:
        """Numbers of steps after which a value can stop, from 0 to all: queries whose choice changes at one value
        change together.
        """
        apart = self.value[1:] > self.value[:-1] * (1 + _ROUNDING)
        return (
            np.flatnonzero(np.concatenate([[True], apart, [True]])) if len(self.value) else np.zeros(1, dtype=np.intp)
        )

    def totals(self, outcome: FloatArray, weight: FloatArray | None = None) -> FloatArray:
        """Return (steps + 1,) weighted mean over queries of an (n, arms) outcome, before the first step and after each.

        weight: (n,) how often each query counts (for a bootstrap); by default once.
        """
        first, change = self.parts(outcome)
        return self.add_up(first, change, np.ones(len(self.start)) if weight is None else weight)

    def parts(self, outcome: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return what an (n, arms) outcome is before the first step, (n,), and what each step adds to it, (steps,)."""
        return (
            outcome[np.arange(len(self.start)), self.start],
            outcome[self.row, self.after] - outcome[self.row, self.before],
        )

    def add_up(self, first: FloatArray, change: FloatArray, weight: FloatArray) -> FloatArray:
        """`totals` from `parts`, which a bootstrap needs to look up only once."""
        total = float(first @ weight)
        return np.concatenate([[total], total + np.cumsum(change * weight[self.row])]) / weight.sum()

    def at(self, value: float) -> IntArray:
        """Return (n,) the arm of each query at one value; at a step itself the cheaper arm still holds."""
        arm = self.start.copy()
        upto = int(np.searchsorted(self.value, value, side="left"))
        arm[self.row[:upto]] = self.after[:upto]  # a query's steps come in order, so its last assignment stands
        return arm

    def after_steps(self, steps: IntArray) -> IntArray:
        """Return (n, k) the arm of each query after so many steps each; `steps` rises."""
        arm, done = self.start.copy(), 0
        found = np.empty((len(arm), len(steps)), dtype=np.intp)
        for column, upto in enumerate(steps.tolist()):
            # a query's steps come in order, so its last assignment stands
            arm[self.row[done:upto]] = self.after[done:upto]
            found[:, column], done = arm, upto
        return found


def sweep(quality: FloatArray, cost: FloatArray) -> Sweep:
    """Return the sweep of (n, arms) forecasts. Arms with NaN quality or a cost that is not finite are never chosen.

    Raises `ValueError` where a query has no arm at all.
    """
    n = len(quality)
    barred = np.isnan(quality) | ~np.isfinite(cost)
    if stuck := int(barred.all(axis=1).sum()):
        raise ValueError(f"on {stuck:,} of {n:,} queries no arm that can be chosen was observed at a finite cost")
    quality, cost = np.where(barred, -np.inf, quality), np.where(barred, np.inf, cost)
    current = _first_of_best(-cost, quality)
    start, rows, steps = current.copy(), np.arange(n), []
    q_now = quality[rows, current]
    c_now = cost[rows, current]
    last = np.zeros(n)
    while len(rows):
        gain, price = quality - q_now[:, None], cost - c_now[:, None]
        rate = np.full(gain.shape, np.inf)
        with np.errstate(over="ignore"):  # a gain next to nothing, at an endless price
            np.divide(price, gain, out=rate, where=gain > 0)
        step = rate.min(axis=1)
        going = np.isfinite(step)
        if not going.all():
            rows, quality, cost, rate, step, current, last = (
                a[going] for a in (rows, quality, cost, rate, step, current, last)
            )
            if not len(rows):
                break
        # of several arms on one edge of the hull, the far end: the others are best at this single value only
        after = np.where(rate == step[:, None], quality, -np.inf).argmax(axis=1)
        last = np.maximum(step, last)  # rounding must not put a query's next step before this one
        steps.append((rows, current, after, last))
        current = after
        index = np.arange(len(rows))
        q_now, c_now = quality[index, current], cost[index, current]
    if not steps:
        empty = np.empty(0, dtype=np.intp)
        return Sweep(start, empty, empty, empty, np.empty(0))
    row, before, after, value = (np.concatenate(parts) for parts in zip(*steps, strict=True))
    order = np.argsort(value, kind="stable")
    return Sweep(start, row[order], before[order], after[order], value[order])


def upper_envelope(cost: FloatArray, quality: FloatArray) -> IntArray:
    """Indices of the points on the upper concave envelope, by rising cost: the mixtures nothing beats. Quality rises
    along it.
    """
    order = np.lexsort((-quality, cost))
    record = np.maximum.accumulate(quality[order])
    rising = np.concatenate([[True], record[1:] > record[:-1]])  # a point below a cheaper one is never on the envelope
    candidates = order[rising]
    x, y = cost[candidates].tolist(), quality[candidates].tolist()
    hull: list[int] = []
    for i in range(len(x)):
        # the last point goes while it lies on or under the line from the one before it to this one
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) > (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return candidates[hull]


def envelope_at(cost: FloatArray, quality: FloatArray, at: FloatArray) -> FloatArray:
    """Quality that the best mixture of the points buys at each mean cost in `at`; NaN below the cheapest point."""
    hull = upper_envelope(cost, quality)
    value = np.interp(at, cost[hull], quality[hull])
    return np.where(np.asarray(at) < cost[hull[0]], np.nan, value)


def area_over_log_cost(cost: FloatArray, quality: FloatArray, low: float, high: float) -> float:
    """Mean quality over log cost from `low` to `high` US dollars of the best mixtures of the points, integrated
    exactly.

    Below the cheapest point the quality counts as 0, as nothing can be had there. Raises `ValueError` unless 0 < low <
    high.
    """
    if not 0 < low < high:
        raise ValueError(f"the area over log cost needs 0 < low < high, got {low} and {high}")
    left, right, q_left, q_right = _pieces(cost, quality, low, high)
    # on a piece quality = a + b cost, and the integral over log cost is a log(right / left) + b (right - left)
    width = right - left
    slope = np.divide(q_right - q_left, width, out=np.zeros_like(width), where=width > 0)
    pieces = (q_left - slope * left) * np.log(right / left) + slope * width
    return float(pieces.sum() / np.log(high / low))


def area_over_cost(cost: FloatArray, quality: FloatArray, low: float, high: float) -> float:
    """Return the same over linear cost. Raises `ValueError` unless low < high."""
    if not low < high:
        raise ValueError(f"the area over cost needs low < high, got {low} and {high}")
    left, right, q_left, q_right = _pieces(cost, quality, low, high)
    return float(((q_left + q_right) / 2 @ (right - left)) / (high - low))


def _pieces(
    cost: FloatArray, quality: FloatArray, low: float, high: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the linear pieces of the envelope between two costs: left and right end, quality at each."""
    hull = upper_envelope(cost, quality)
    c, q = cost[hull], quality[hull]
    begin = min(max(float(c[0]), low), high)
    knots = np.concatenate([[begin], c[(c > begin) & (c < high)], [high]])
    at = np.interp(knots, c, q)
    return knots[:-1], knots[1:], at[:-1], at[1:]


def min_cost(cost: FloatArray, quality: FloatArray, target: float) -> float:
    """Return the least mean cost at which the best mixture of the points has at least the target quality; NaN where
    none has.
    """
    hull = upper_envelope(cost, quality)
    c, q = cost[hull], quality[hull]
    if q[-1] < target:
        return float("nan")
    return float(c[0] if q[0] >= target else np.interp(target, q, c))


def _first_of_best(score: FloatArray, then: FloatArray) -> IntArray:
    top = score.max(axis=1, keepdims=True)
    return np.where(score == top, then, -np.inf).argmax(axis=1)
