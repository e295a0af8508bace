"""What a router does not know, put into a forecast: queries out of distribution, and domains of which little was
graded.
"""

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
    """Return a predictor's forecast of (n, d) embeddings, with the arms' means where a query is out of distribution.

    Its spread is never below what the number of graded answers of the domain allows.
    """
    quality = forecast.quality
    tokens = forecast.tokens
    spread = forecast.spread
    known = forecast.familiar
    domain = forecast.domain
    stats, like = router.domain_stats, None
    if stats is not None:
        domain, like = stats.domain_and_kind(x)
        spread = np.maximum(spread, stats.min_spread[domain])
    if router.in_distribution is not None:
        known = router.in_distribution.knows(x)
        if stats is not None and like is not None and like.any():  # of a kind that is known, in words that are not
            spread = np.where((like & ~known)[:, None], np.maximum(spread, stats.spreads.domain), spread)
            known = known | like
        if not known.all():
            quality = np.where(known[:, None], quality, router.prior_quality)
            tokens = np.where(known[:, None], tokens, router.prior_tokens)
            spread = np.where(known[:, None], spread, UNKNOWN_SPREAD)
    return Forecast(router.arms, quality, tokens, spread, known, forecast.cost, domain)
