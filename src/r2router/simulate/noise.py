"""How single outcomes scatter around what is expected of them: quality on a grid, lengths lognormal, arms alike on a
query.

Quality is beta-binomial, so that its mean is the expected quality exactly; arms are tied together by one normal factor
a query (a Gaussian copula), because a query that is hard for one model is hard for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from r2router.predict.tokens import log_tokens
from r2router.types import FloatArray

_GRIDS = (1, 2, 4, 5, 10, 20, 100)
_HALVINGS = 8
_ALIKE_BY = 2_000  # queries by which it is found how alike the arms are
_CDF_AT = np.linspace(-6.0, 6.0, 6001)
_CDF = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _CDF_AT])  # linear between: off by less than 2e-7


@dataclass(frozen=True, slots=True)
class Noise:
    """The defaults are typical of two real tables (one of 0 or 1, one of shares of 10 samples; `docs/decisions/0012`).

    steps: quality is one of 0, 1/steps, ..., 1.
    dispersion: of the beta-binomial, from 0 (`steps` independent tries) to 1 (all tries go alike).
    shared: correlation of two arms on a query, on the normal scale.
    log_sd: standard deviation of log tokens around their mean.
    shared_length: as `shared`, of log tokens.
    """

    steps: int = 10
    dispersion: float = 0.5
    shared: float = 0.6
    log_sd: float = 0.5
    shared_length: float = 0.3

    @classmethod
    def measured(
        cls, quality: FloatArray, tokens: FloatArray, expected: FloatArray, expected_tokens: FloatArray
    ) -> Noise:
        """Return the noise of (n, arms) observed quality and tokens (NaN: not observed) around what was expected of
        them.

        Whatever the forecasts miss counts as noise, also what a better router would know. What cannot be measured keeps
        its default.
        """
        seen = ~np.isnan(quality) & ~np.isnan(expected)
        steps = next(
            (s for s in _GRIDS if np.allclose(quality[seen] * s, np.round(quality[seen] * s), atol=1e-6)), _GRIDS[-1]
        )
        spread = (expected * (1 - expected))[seen].sum()
        ratio = ((quality - expected)[seen] ** 2).sum() / spread if spread > 0 else 1.0 / steps
        dispersion = (steps * ratio - 1) / (steps - 1) if steps > 1 else 0.0
        length = log_tokens(tokens) - log_tokens(expected_tokens)
        observed = length[~np.isnan(length)]
        found = cls(
            steps=steps,
            dispersion=float(np.clip(dispersion, 0.0, 0.99)),
            log_sd=float(observed.std()) if len(observed) > 1 else cls().log_sd,
            shared_length=mean_correlation(length),
        )
        return replace(found, shared=found._shared_like(np.where(seen, quality - expected, np.nan), expected))

    def _shared_like(self, residual: FloatArray, expected: FloatArray) -> float:
        """Return the `shared` whose outcomes are as much alike on a query as the residuals are: on a grid they are less
        alike than the normals.
        """
        residual, expected = residual[:_ALIKE_BY], expected[:_ALIKE_BY]
        wanted = mean_correlation(residual)
        unknown = np.isnan(residual)
        low, high = 0.0, 0.999
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            rng = np.random.default_rng(0)  # the same draws each time, so that only `shared` moves the result
            drawn = replace(self, shared=middle).quality(
                np.where(unknown, 0.5, expected), rng.standard_normal(len(expected)), rng
            )
            like = mean_correlation(np.where(unknown, np.nan, drawn - expected))
            low, high = (middle, high) if like < wanted else (low, middle)
        return (low + high) / 2

    def quality(self, expected: FloatArray, common: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return (n, arms) outcomes of which `expected` is the mean.

        common: (n,) standard normal, what the arms share on a query.
        """
        own = rng.standard_normal(expected.shape)
        u = np.interp(math.sqrt(self.shared) * common[:, None] + math.sqrt(1 - self.shared) * own, _CDF_AT, _CDF)
        size = 1.0 / max(self.dispersion, 1e-6) - 1.0  # a + b of the beta distribution
        a, b = expected * size, (1 - expected) * size
        share = np.ones_like(expected)  # probability of k right tries, by recurrence from that of none
        for j in range(self.steps):
            share *= (b + j) / (size + j)
        below, right = share.copy(), np.zeros_like(expected)
        for k in range(self.steps):
            right += u > below
            if k + 1 < self.steps:
                share *= (self.steps - k) / (k + 1) * (a + k) / (b + self.steps - k - 1)
                below += share
        return right / self.steps

    def tokens(self, expected: FloatArray, common: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return (n, arms) whole tokens, at least 1, of mean `expected` before they are rounded.

        common: as in `quality`.
        """
        own = rng.standard_normal(expected.shape)
        z = math.sqrt(self.shared_length) * common[:, None] + math.sqrt(1 - self.shared_length) * own
        return np.maximum(np.rint(expected * np.exp(self.log_sd * z - self.log_sd**2 / 2)), 1.0)


def mean_correlation(residual: FloatArray) -> float:
    """Mean correlation of two columns of an (n, arms) array over the rows where both are known, at least 0; 0 for a
    single column.
    """
    seen = ~np.isnan(residual)
    n = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, residual, 0.0).sum(axis=0) / n
    off = np.where(seen, residual - mean, 0.0)
    sd = np.sqrt((off**2).sum(axis=0) / n)
    kept = (sd > 1e-9) & (n > 2)
    z, both = off[:, kept] / sd[kept], seen[:, kept].astype(np.float64)
    together = both.T @ both
    pairs = np.triu(together > 2, 1)
    if not pairs.any():
        return 0.0
    return float(np.clip(((z.T @ z)[pairs] / together[pairs]).mean(), 0.0, 0.95))
