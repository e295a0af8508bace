"""The arms' means, made comparable where arms were observed on different queries."""

from __future__ import annotations

import numpy as np

from r2router.types import FloatArray

_ROUNDS = 200
_PRIOR_CELLS = 1.0  # a query's level is shrunk as if one more cell of it had been seen, at the average


def fair_means(y: FloatArray) -> FloatArray:
    """(arms,) the mean each arm would have over all queries; NaN for an arm that was never observed.

    Fits y = arm + query by alternating least squares over the observed cells of (n, arms) y and takes arm + mean(query). For an arm
    that was observed everywhere this is its plain mean; one that only saw easy queries is not flattered by them.
    """
    seen = ~np.isnan(y)
    if seen.all():
        return np.asarray(y.mean(axis=0))
    filled, count = np.where(seen, y, 0.0), seen.sum(axis=0)
    never = count == 0
    query = np.zeros(len(y))
    arm = np.zeros(y.shape[1])
    for _ in range(_ROUNDS):
        before = arm
        arm = (filled - np.where(seen, query[:, None], 0.0)).sum(axis=0) / np.maximum(count, 1)
        query = (filled - np.where(seen, arm, 0.0)).sum(axis=1) / (seen.sum(axis=1) + _PRIOR_CELLS)
        if np.abs(arm - before).max() < 1e-10:
            break
    return np.where(never, np.nan, arm + query.mean())
