"""How good are decisions on a table where no arm was seen everywhere? A task at a time, on the arms that were seen
there.

Means of different tasks are not compared. On each task a router is compared with the mixture of fixed arms that
somebody would choose who knows the task and other answers to it, and with the task's best fixed arm at equal cost.
Curves have at most twelve settings, chosen without the outcomes that score them, on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2router.figure import Figure
from r2router.metrics.frontier import area_over_log_cost, envelope_at
from r2router.metrics.intervals import interval, weights
from r2router.metrics.methods import Means, Outcomes, Routed
from r2router.types import FloatArray, IntArray

MIN_QUERIES, MIN_ARMS = 25, 4
"""Of a task that is compared."""


@dataclass(frozen=True, slots=True, eq=False)
class TaskGap:
    """One task.

    arms: how many were seen on nearly all its queries.
    best: the best fixed arm of them by other answers.
    area: the router's mean quality over log cost.
    over_mixture: that less the mixture's.
    over_best: the router's quality less the best fixed arm's, at that arm's cost.
    """

    task: str
    queries: int
    arms: int
    best: str
    area: Figure
    over_mixture: Figure
    over_best: Figure


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """All tasks that could be compared, and the mean over them (each with the same weight).

    skipped: tasks with too little to compare.
    """

    tasks: tuple[TaskGap, ...]
    mean: Figure
    mean_over_best: Figure
    skipped: tuple[str, ...]


def gaps(
    tasks: Sequence[str],
    quality: FloatArray,
    cost: FloatArray,
    outcomes: Outcomes,
    means: Means,
    resamples: int,
    seed: int,
) -> Gaps:
    """Compare (n, arms) forecasts of quality and cost with the outcomes, task by task.

    means: (n, arms) of each query's task, from answers that do not score it; NaN where there are none.
    """
    labels = np.array(tasks)
    found, drawn, skipped = list[TaskGap](), list[FloatArray](), list[str]()
    for task in sorted(set(tasks)):
        rows = np.flatnonzero(labels == task)
        one = _gap(task, rows, quality, cost, outcomes, means, resamples, seed)
        if one is None:
            skipped.append(task)
        else:
            found.append(one[0])
            drawn.append(one[1])
    if not found:
        return Gaps((), Figure("over mixture"), Figure("over best fixed arm"), tuple(skipped))
    over = np.mean(drawn, axis=0)  # (2, 1 + resamples)
    names = ("over mixture", "over best fixed arm")
    mixture, best = (interval(name, float(row[0]), row[1:], len(found)) for name, row in zip(names, over, strict=True))
    return Gaps(tuple(found), mixture, best, tuple(skipped))


def pooled(
    quality: FloatArray, cost: FloatArray, outcomes: Outcomes, means: Means, resamples: int, seed: int
) -> Figure:
    """Mixed traffic: the router's mean quality over log cost on all queries together, less that of the mixture of fixed
    arms by `means`.

    Both choose for each query among the arms that were seen on it.

    quality, cost: (n, arms) forecasts.
    means: (arms,) averages over all tasks, from answers that do not score it. The range of costs is the one that both
        reach.
    """
    mean_quality, mean_cost = (np.broadcast_to(a, quality.shape) for a in (means.quality, means.cost))
    known = (
        outcomes.seen & np.isfinite(quality) & np.isfinite(cost) & np.isfinite(mean_quality) & np.isfinite(mean_cost)
    )
    rows = np.flatnonzero(known.any(axis=1))
    name = "over mixture, all tasks pooled"
    if len(rows) < MIN_QUERIES:
        return Figure(name)
    there = Outcomes(outcomes.arms, *(np.where(known, a, np.nan)[rows] for a in (outcomes.quality, outcomes.cost)))
    router = Routed.of(quality[rows], cost[rows], there)
    mixture = Routed.mixture(Means(mean_quality[rows], mean_cost[rows]), there)
    values = list[float]()
    low = high = 0.0
    for at, weight in enumerate(weights(len(rows), resamples, seed)):
        ours, theirs = router.points(weight), mixture.points(weight)
        if at == 0:
            low, high = (max(float(ours[0].min()), float(theirs[0].min())), float(theirs[0].max()))
            if not 0 < low < high:
                return Figure(name, n=len(rows))
        values.append(area_over_log_cost(*ours, low, high) - area_over_log_cost(*theirs, low, high))
    return interval(name, values[0], np.array(values[1:]), len(rows))


def _gap(
    task: str,
    rows: IntArray,
    quality: FloatArray,
    cost: FloatArray,
    outcomes: Outcomes,
    means: Means,
    resamples: int,
    seed: int,
) -> tuple[TaskGap, FloatArray] | None:
    """Return (the comparison, (2, 1 + resamples) its two differences and their draws); None where there is too little
    to compare.
    """
    part = outcomes.take(rows)
    known = (
        np.isfinite(quality[rows])
        & np.isfinite(cost[rows])
        & np.isfinite(means.quality[rows])
        & np.isfinite(means.cost[rows])
    )
    arms = np.intersect1d(part.fixed_arms(), np.flatnonzero(known.all(axis=0)))
    if len(rows) < MIN_QUERIES or len(arms) < MIN_ARMS:
        return None
    whole = (part.seen[:, arms] & np.isfinite(part.cost[:, arms])).all(axis=1)
    rows = rows[whole]
    if len(rows) < MIN_QUERIES:
        return None
    there = Outcomes(
        tuple(outcomes.arms[a] for a in arms), outcomes.quality[np.ix_(rows, arms)], outcomes.cost[np.ix_(rows, arms)]
    )
    spent = there.cost.mean(axis=0)
    low, high = float(spent.min()), float(spent.max())
    if not 0 < low < high:
        return None
    router = Routed.of(quality[np.ix_(rows, arms)], cost[np.ix_(rows, arms)], there)
    mean_quality, mean_cost = means.quality[np.ix_(rows, arms)], means.cost[np.ix_(rows, arms)]
    mixture = Routed.mixture(Means(mean_quality, mean_cost), there)
    best = int(mean_quality.mean(axis=0).argmax())
    values = np.empty((3, 1 + resamples))
    for at, weight in enumerate(weights(len(rows), resamples, seed)):
        ours, theirs = router.points(weight), mixture.points(weight)
        area = area_over_log_cost(*ours, low, high)
        total = weight.sum()
        price = float(weight @ there.cost[:, best] / total)
        level = float(weight @ there.quality[:, best] / total)
        values[:, at] = area, area - area_over_log_cost(*theirs, low, high), _at(*ours, price) - level
    names = ("area over log cost", "over mixture", "over best fixed arm")
    figures = [interval(name, float(row[0]), row[1:], len(rows)) for name, row in zip(names, values, strict=True)]
    return TaskGap(task, len(rows), len(arms), str(there.arms[best]), *figures), values[1:]


def _at(cost: FloatArray, quality: FloatArray, price: float) -> float:
    """Return the quality of the best mixture of the points at a price; of the cheapest point where all cost more."""
    return float(envelope_at(cost, quality, np.array([max(price, float(cost.min()))]))[0])


def task_means(values: FloatArray, tasks: Sequence[str], known: FloatArray, known_tasks: Sequence[str]) -> FloatArray:
    """Return (n, arms) the mean of each arm on each query's task, over (m, arms) `known` values of other queries; NaN
    where it has none.

    values: (n, arms), only for its shape.
    """
    found = np.full(values.shape, np.nan)
    labels = np.array(tasks)
    others = np.array(known_tasks)
    for task in set(tasks):
        there = known[others == task]
        seen = np.isfinite(there).sum(axis=0)
        found[labels == task] = np.where(seen > 0, np.nansum(there, axis=0) / np.maximum(seen, 1), np.nan)
    return found


def means_of_other_half(values: FloatArray, tasks: Sequence[str], half: IntArray) -> FloatArray:
    """Return (n, arms) the mean of each arm on each query's task over the queries of the other half; half:
    (n,) 0 or 1.
    """
    found, labels = np.full(values.shape, np.nan), np.array(tasks)
    for number in (0, 1):
        own, rest = half == number, half != number
        found[own] = task_means(values[own], labels[own].tolist(), values[rest], labels[rest].tolist())
    return found
