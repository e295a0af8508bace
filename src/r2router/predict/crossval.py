"""Out-of-fold forecasts: what a learner says of queries it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from r2router.predict import Learner, Predictor
from r2router.predict.means import fair_means
from r2router.table.table import Table
from r2router.table.twins import groups_of
from r2router.types import Arm, FloatArray, Forecast, IntArray, Progress


def fold_of(texts: Sequence[str], folds: int, seed: int) -> IntArray:
    """Return (n,) the fold of each query, seeded; near-duplicates share one (`groups_of`), so that no query is forecast
    from its own twin.
    """
    group = groups_of(texts)
    fold = np.arange(int(group.max(initial=-1)) + 1) % folds
    return np.random.default_rng(seed).permutation(fold)[group]


def fold_means(values: FloatArray, fold: IntArray) -> FloatArray:
    """Return (n, arms) mean of each arm over the queries of the other folds, made comparable (see `fair_means`); NaN
    where it has none.

    fold: (n,) as by `fold_of`; a query of fold -1 is learned from, and its own row is NaN.
    """
    means = np.full(values.shape, np.nan)
    for number in range(int(fold.max(initial=-1)) + 1):
        if (own := fold == number).any() and not own.all():
            means[own] = fair_means(values[~own])
    return means


def out_of_fold(
    learner: Learner, x: FloatArray, table: Table, folds: int, seed: int, progress: Progress | None = None
) -> Forecast:
    """Forecasts of a table's queries, each by a predictor fitted on the other folds. Needs two distinct queries."""
    done, columns = 0, np.arange(len(table.arms))

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress("cross-validating", done, folds)

    def fit(rest: IntArray) -> tuple[Predictor, IntArray]:
        return learner.fit(x[rest], table.take(rest)), columns

    return held_out(fit, {"": x}, fold_of(table.queries, folds, seed), table.arms, step)[""]


def held_out(
    fit: Callable[[IntArray], tuple[Predictor, IntArray]],
    views: Mapping[str, FloatArray],
    fold: IntArray,
    arms: tuple[Arm, ...],
    step: Callable[[], object] = int,
) -> dict[str, Forecast]:
    """Return, for each view of the queries, forecasts by predictors that were fitted on the other folds.

    fit: takes the rows to learn from; returns a predictor, and which of `arms` its columns are. Other arms stay NaN.
    views: name -> (n, d) embeddings of the same queries.
    fold: (n,) from `fold_of`; a query of fold -1 is always learned from, and its own row is NaN.
    step: called after each fold.
    """
    parts = {name: [np.full((len(fold), len(arms)), np.nan) for _ in range(3)] for name in views}
    for number in range(int(fold.max(initial=-1)) + 1):
        rest, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if len(own) and len(rest):
            predictor, columns = fit(rest)
            for name, x in views.items():
                made = predictor.predict(x[own])
                for full, part in zip(parts[name], (made.quality, made.tokens, made.spread), strict=True):
                    full[np.ix_(own, columns)] = part
        step()
    return {name: Forecast.of(arms, *arrays) for name, arrays in parts.items()}
