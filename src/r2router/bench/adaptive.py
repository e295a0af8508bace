"""Choosing what to ask: which arms are asked on how many queries, so that a given sum buys the best router.

All queries stand in one random order, mixed by task, and an arm is asked on the first so many of it. Only that number
is chosen, never the query: so outcomes that are missing are missing at random, given the arm, and an arm's mean is not
bent by which queries it saw.

Rounds: a few queries on every arm; then again and again as much as was spent so far (or what the limit leaves). In each
round the numbers n minimise `sum over arms of worth / n` for the money: n goes with sqrt(worth / price), which is
Neyman's allocation. What an arm's next answer is worth: the variance of its outcomes about their forecast, times how
much of the deferral curve it is chosen on.

Arms that are asked by one call (prefix sharing) are one *unit*: they come together and have one price.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from r2router.errors import ConfigError
from r2router.metrics.frontier import sweep
from r2router.predict.principal import PrincipalRidge
from r2router.predict.variance import with_one_unknown
from r2router.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from r2router.predict import Learner
    from r2router.table.table import Table

_DRAWS = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """How rounds spread their calls over arms.

    explore: the share of an arm's weight that it has wherever it stands; the rest is its share of the deferral curve. 1
        goes by price alone, and needs no quality.
    start: queries on which every arm is asked first.
    growth: what a round may bring the sum spent to, as a multiple of what it was.
    seed: of the order of the queries and of the draws.
    learner: what forecasts between rounds.
    """

    explore: float = 0.3
    start: int = 4
    growth: float = 2.0
    seed: int = 0
    learner: Learner = field(default_factory=PrincipalRidge)

    def __post_init__(self) -> None:
        if not 0 < self.explore <= 1:
            raise ConfigError(
                f"explore is {self.explore}; it must be above 0, so that every arm is asked, and at most 1"
            )
        if self.start < 1 or not self.growth > 1:
            raise ConfigError(f"start={self.start}, growth={self.growth}: start must be at least 1, and growth above 1")


@dataclass(frozen=True, slots=True, eq=False)
class RoundState:
    """What is known before a round.

    table: all n queries, with NaN where an arm was not asked.
    vectors: (n, d) embeddings.
    input_tokens: (n, arms) estimates.
    unit: (arms,) the unit that each arm belongs to.
    asked, askable: (n, units); what was asked is askable.
    usd: (units,) what one more query is expected to cost, in US dollars.
    order: (n,) the queries in the order of asking.
    """

    table: Table
    vectors: FloatArray
    input_tokens: FloatArray
    unit: IntArray
    asked: BoolArray
    askable: BoolArray
    usd: FloatArray
    order: IntArray


def asking_order(tasks: Sequence[str], seed: int) -> IntArray:
    """Return (n,) a random order of the queries in which every task is spread evenly, so that any beginning is a
    stratified sample.
    """
    rng = np.random.default_rng(seed)
    labels = np.unique(np.asarray(tasks), return_inverse=True)[1].ravel()
    place = np.empty(len(labels))
    for task in range(int(labels.max(initial=-1)) + 1):
        rows = rng.permutation(np.flatnonzero(labels == task))
        place[rows] = (np.arange(len(rows)) + rng.random()) / len(rows)
    return np.argsort(place, kind="stable")


def next_round(known: RoundState, spent: float, limit: float, settings: Settings) -> IntArray:
    """Return (k, 2) the (query, unit) pairs to ask next, query by query; empty when nothing more fits.

    spent, limit: US dollars, so far and in all. By expected costs they stay within `limit`, but for the first round,
    whose costs are not known: whoever asks stops at the limit.
    """
    if not known.asked.any():
        first = known.order[: settings.start]
        query, unit = np.nonzero(known.askable[first])
        return np.stack([first[query], unit], axis=1)
    worth = _worth(known, settings)
    target = min(settings.growth * spent, limit)
    pairs = _pairs(known, worth, target - spent)
    return pairs if len(pairs) or target >= limit else _pairs(known, worth, limit - spent)


def allocate(worth: FloatArray, usd: FloatArray, minimum: IntArray, maximum: IntArray, spend: float) -> IntArray:
    """Return (units,) numbers n from `minimum` to `maximum` that minimise sum(worth / n).

    spend: US dollars that those beyond `minimum` may cost at most.
    """
    free = usd <= 0
    rate = np.sqrt(worth / np.where(free, 1.0, usd))
    low, high = -80.0, 80.0  # log of the factor that all rates share
    for _ in range(100):
        middle = (low + high) / 2
        counts = np.clip(rate * np.exp(middle), minimum, maximum)
        low, high = (middle, high) if usd @ (counts - minimum) <= spend else (low, middle)
    return np.where(free, maximum, np.clip(np.floor(rate * np.exp(low) + 1e-9), minimum, maximum)).astype(np.intp)


def contention(quality: FloatArray, cost: FloatArray, spread: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return (arms,) the share of the deferral curve, over log cost, on which each arm is chosen; they sum to 1.

    quality, cost: (n, arms) forecasts, NaN for an arm that is not known.
    spread: (arms,) their standard error: the curve is drawn again and again with all of an arm's forecasts shifted by
        as much (Thompson sampling), so an arm counts that may be good. Zeros where costs do not differ, or are none.
    """
    arms = quality.shape[1]
    share = np.zeros(arms)
    known = np.isfinite(quality).all(axis=0) & np.isfinite(cost).all(axis=0)
    means = cost[:, known].mean(axis=0)
    low, high = float(means.min(initial=np.inf)), float(means.max(initial=0.0))
    if not 0 < low < high:
        return share
    low, high = np.log(low), np.log(high)
    cost = np.where(known, cost, np.inf)
    for _ in range(_DRAWS):
        steps = sweep(quality + rng.normal(size=arms) * np.nan_to_num(spread), cost)
        level = np.clip(np.log(steps.totals(np.where(known, cost, 0.0))), low, high)
        left = high - (level[1:] + level[:-1]) / 2  # of the axis, from the middle of each step on
        share += np.bincount(steps.start, minlength=arms) * (high - low)
        share += np.bincount(steps.after, left, arms) - np.bincount(steps.before, left, arms)
    return np.maximum(share, 0.0) / share.sum()


def _worth(known: RoundState, settings: Settings) -> FloatArray:
    """Return (units,) what the variance of a unit's outcomes counts."""
    table = known.table
    arms = len(known.unit)
    units = known.askable.shape[1]
    worth = np.ones(arms)
    seen = np.isfinite(table.quality) & np.isfinite(table.output_tokens)
    if settings.explore < 1 and seen.any():
        rows = np.flatnonzero(np.isfinite(table.quality).any(axis=1))
        forecast = settings.learner.fit(known.vectors[rows], table.take(rows)).predict(known.vectors)
        error = np.where(seen, table.quality - forecast.quality, 0.0)
        variance = with_one_unknown((error**2).sum(axis=0), seen.sum(axis=0))
        rng = np.random.default_rng([settings.seed, int(known.asked.sum())])
        share = contention(
            forecast.quality, table.pool.cost(known.input_tokens, forecast.tokens), forecast.spread[0], rng
        )
        worth = ((1 - settings.explore) * share + settings.explore / arms) * variance
    return np.asarray(np.bincount(known.unit, worth, units), dtype=np.float64)


def _pairs(known: RoundState, worth: FloatArray, spend: float) -> IntArray:
    """Return the pairs that an allocation of so many US dollars adds: of each unit the first queries, in the order of
    asking, not asked yet.
    """
    counts = allocate(worth, known.usd, known.asked.sum(axis=0), known.askable.sum(axis=0), max(spend, 0.0))
    open_ = (known.askable & ~known.asked)[known.order]
    rank, unit = np.nonzero(open_ & (open_.cumsum(axis=0) <= counts - known.asked.sum(axis=0)))
    return np.stack([known.order[rank], unit], axis=1)
