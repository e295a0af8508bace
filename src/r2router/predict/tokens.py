"""Output tokens on a log scale, with the right mean.

Lengths are positive and skewed, so they are regressed as log(tokens). The exponential of a mean of logs is too small a
mean of tokens; each arm's forecast is therefore scaled so that its mean over the training queries is the mean of the
tokens used there (the ratio form of Duan's smearing estimate, JASA 1983).
"""

from __future__ import annotations

import numpy as np

from r2router.types import FloatArray


def log_tokens(tokens: FloatArray) -> FloatArray:
    """log of (n, arms) tokens; an answer of less than one token (an empty one) counts as one."""
    return np.log(np.maximum(tokens, 1.0))


def log_smearing(log_forecast: FloatArray, tokens: FloatArray) -> FloatArray:
    """Return (arms,) what to add to (n, arms) forecasts of log tokens so that the means of tokens agree; 0 where
    nothing was observed.
    """
    seen = ~np.isnan(tokens)
    used = np.where(seen, np.maximum(tokens, 1.0), 0.0).sum(axis=0)
    forecast = np.where(seen, np.exp(log_forecast), 0.0).sum(axis=0)
    ratio = np.divide(used, forecast, out=np.ones_like(used), where=forecast > 0)
    return np.log(np.maximum(ratio, 1e-12))


def log_bounds(tokens: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ((arms,), (arms,)) log of the fewest and most tokens seen of each arm; forecasts are held between them."""
    seen = ~np.isnan(tokens)
    low = np.min(np.where(seen, np.maximum(tokens, 1.0), np.inf), axis=0, initial=np.inf)
    high = np.max(np.where(seen, np.maximum(tokens, 1.0), 1.0), axis=0, initial=1.0)
    return np.log(np.where(np.isfinite(low), low, 1.0)), np.log(high)
