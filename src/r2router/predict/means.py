"""The arms' means, made comparable where arms were observed on different queries."""

from __future__ import annotations

import numpy as np

from r2router.types import FloatArray

_ROUNDS = 200
_PRIOR_CELLS = 1.0  # a query's level is shrunk as if one more cell of it had been seen, at the average


def fair_means(y: FloatArray) -> FloatArray:
    """(arms,) the mean each arm would have over all queries; NaN for an arm that was never observed.

    Takes arm + mean(query) of the additive model, fitted by alternating least squares. For an arm
    that was observed everywhere this is its plain mean; one that only saw easy queries is not flattered by them.
    """
    if not np.isnan(y).any():
        return np.asarray(y.mean(axis=0))
    arm, query = additive(y)
    return arm + query.mean()


def additive(y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """((arms,), (n,)) effects of y = arm + query over the observed cells of (n, arms) y; NaN for an arm that was never observed."""
    seen = ~np.isnan(y)
    filled, count = np.where(seen, y, 0.0), seen.sum(axis=0)
    query = np.zeros(len(y))
    arm = np.zeros(y.shape[1])
    for _ in range(_ROUNDS):
        before = arm
        arm = (filled - np.where(seen, query[:, None], 0.0)).sum(axis=0) / np.maximum(count, 1)
        query = (filled - np.where(seen, arm, 0.0)).sum(axis=1) / (seen.sum(axis=1) + _PRIOR_CELLS)
        if np.abs(arm - before).max() < 1e-10:
            break
    return np.where(count == 0, np.nan, arm), query
