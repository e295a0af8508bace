"""The arms' means, made comparable where arms were observed on different queries."""

from __future__ import annotations

import numpy as np

from r2router.types import FloatArray

_ROUNDS = 200
_PRIOR_CELLS = 1.0  # a query's level is shrunk as if one more cell of it had been seen, at the average


def fair_means(y: FloatArray) -> FloatArray:
    """Return (arms,) the mean each arm would have over all queries; NaN for an arm that was never observed.

    Takes arm + mean(query) of the additive model, fitted by alternating least squares. For an arm that was observed
    everywhere this is its plain mean; one that only saw easy queries is not flattered by them.
    """
    if not np.isnan(y).any():
        return np.asarray(y.mean(axis=0))
    arm, query = additive(y)
    return arm + query.mean()


def additive(y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ((arms,), (n,)) effects of y = arm + query over the observed cells of (n, arms) y; NaN for an arm that was
    never observed.
    """
    seen = ~np.isnan(y)
    observed, filled = seen.astype(np.float64), np.where(seen, y, 0.0)
    count, cells = seen.sum(axis=0), seen.sum(axis=1) + _PRIOR_CELLS
    of_arm, of_query = filled.sum(axis=0), filled.sum(axis=1)
    query = np.zeros(len(y))
    arm = np.zeros(y.shape[1])
    for _ in range(_ROUNDS):
        before = arm
        arm = (of_arm - query @ observed) / np.maximum(count, 1)
        query = (of_query - observed @ arm) / cells
        if np.abs(arm - before).max() < 1e-10:
            break
    return np.where(count == 0, np.nan, arm), query
