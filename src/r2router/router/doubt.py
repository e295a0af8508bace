"""What a router does not know, put into a forecast: unfamiliar queries, and domains of which little was graded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from r2router.types import FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.router.router import Router

UNKNOWN_SPREAD = math.sqrt(1 / 12)
"""Of a quality of which nothing is known: uniform on [0, 1]."""


def doubted(router: Router, forecast: Forecast, x: FloatArray) -> Forecast:
    """A predictor's forecast of (n, d) embeddings with the arms' means where a query is unfamiliar; no surer than the evidence allows."""
    quality, tokens, spread, familiar, domain = forecast.quality, forecast.tokens, forecast.spread, forecast.familiar, forecast.domain
    stats, like = router.domain_stats, None
    if stats is not None:
        domain, like = stats.domain_and_kind(x)
        spread = np.maximum(spread, stats.least_spread[domain])
    if router.familiarity is not None:
        familiar = router.familiarity.knows(x)
        if stats is not None and like is not None and like.any():  # of a kind that is known, in words that are not
            spread = np.where((like & ~familiar)[:, None], np.maximum(spread, stats.spreads.domain), spread)
            familiar = familiar | like
        if not familiar.all():
            quality = np.where(familiar[:, None], quality, router.prior_quality)
            tokens = np.where(familiar[:, None], tokens, router.prior_tokens)
            spread = np.where(familiar[:, None], spread, UNKNOWN_SPREAD)
    return Forecast(router.arms, quality, tokens, spread, familiar, forecast.cost, domain)
