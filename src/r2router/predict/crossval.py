"""Out-of-fold forecasts: what a learner says of queries it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2router.predict import Learner
from r2router.predict.means import fair_means
from r2router.table.table import Table
from r2router.table.twins import groups_of
from r2router.types import FloatArray, Forecast, IntArray, Progress


def fold_of(texts: Sequence[str], folds: int, seed: int) -> IntArray:
    """(n,) the fold of each query, seeded; near-duplicates share one (`groups_of`), so that no query is forecast from its own twin."""
    group = groups_of(texts)
    fold = np.arange(int(group.max(initial=-1)) + 1) % folds
    return np.random.default_rng(seed).permutation(fold)[group]


def fold_means(values: FloatArray, fold: IntArray) -> FloatArray:
    """(n, arms) mean of each arm over the queries of the other folds, made comparable (see `fair_means`); NaN where it has none.

    fold: (n,) as by `fold_of`; a query of fold -1 is learned from, and its own row is NaN.
    """
    means = np.full(values.shape, np.nan)
    for number in range(int(fold.max(initial=-1)) + 1):
        if (own := fold == number).any() and not own.all():
            means[own] = fair_means(values[~own])
    return means


def out_of_fold(learner: Learner, x: FloatArray, table: Table, folds: int, seed: int, progress: Progress | None = None) -> Forecast:
    """Forecasts of a table's queries, each by a predictor fitted on the other folds. Needs two distinct queries."""
    fold = fold_of(table.queries, folds, seed)
    quality, tokens, spread = (np.full(table.quality.shape, np.nan) for _ in range(3))
    for number in range(folds):
        rest, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(own) and len(rest):
            forecast = learner.fit(x[rest], table.take(rest)).predict(x[own])
            quality[own], tokens[own], spread[own] = forecast.quality, forecast.tokens, forecast.spread
        if progress is not None:
            progress("cross-validating", number + 1, folds)
    return Forecast.of(table.arms, quality, tokens, spread)
