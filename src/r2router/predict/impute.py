"""Imputing the cells that were not observed, so that arms seen on different queries can be learned together."""

from __future__ import annotations

import numpy as np

from r2router.predict.means import additive
from r2router.types import FloatArray

_STRENGTH = 5.0  # of the ridge inside; imputed cells agree with the embeddings too well, so it is a strong one
_FLOOR = 0.1  # noise added to the arms' covariance, as a share of its mean variance
_ROUNDS, _STEPS = 4, 10  # more rounds forecast hidden cells no better, and on noisy outcomes worse
_MAX_ARMS = 500  # beyond, the covariance of the arms costs more than it tells


def impute(u: FloatArray, prior: FloatArray, y: FloatArray) -> FloatArray:
    """Return (n, arms) y with every missing cell replaced by what is expected there; the observed cells stay.

    u: (n, r) orthonormal coordinates of the queries' embeddings.
    prior: (r,) prior variances of their weights.

    Starts from an additive model (arm + query). Then, in turn: a ridge forecast of all cells from the embeddings, and a
    joint normal of the arms' residuals, under which each missing residual moves towards its mean given the observed
    ones of the same query. A column that was never observed is filled with the additive model's query effects alone.
    """
    missing = np.isnan(y)
    if not missing.any():
        return y
    if missing.all():
        return np.zeros_like(y)
    arm, query = additive(y)
    arm = np.where(np.isnan(arm), np.nanmean(arm), arm)
    z = np.where(missing, arm + query[:, None], y)
    if y.shape[1] > _MAX_ARMS:
        return z
    gain = prior / (prior + _STRENGTH)
    for _ in range(_ROUNDS):
        mean = z.mean(axis=0)
        expected = mean + u @ (gain[:, None] * (u.T @ (z - mean)))
        residual = z - expected
        covariance = residual.T @ residual / len(z)
        variance = float(np.diag(covariance).mean())
        if variance <= 1e-12:
            break
        precision = np.linalg.inv(covariance + _FLOOR * variance * np.eye(len(covariance)))
        scale = np.diag(precision)
        step = 1.0 / float(np.linalg.eigvalsh(precision / np.sqrt(np.outer(scale, scale)))[-1])
        for _ in range(_STEPS):
            residual = np.where(missing, residual - step * (residual @ precision) / scale, residual)
        z = np.where(missing, expected + residual, y)
    return z
