"""What a router does not know, put into a forecast: queries out of distribution, and domains of which little was
graded.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from r2router.predict.domain_stats import THIN, DomainStats
from r2router.types import FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.router.router import Router

UNKNOWN_SPREAD = math.sqrt(1 / 12)
"""Of a quality of which nothing is known: uniform on [0, 1]."""


def doubted(router: Router, forecast: Forecast, x: FloatArray, *, spreads: bool = True) -> Forecast:
    """Return a predictor's forecast of (n, d) embeddings, with the arms' means where a query is out of distribution.

    Its spread is never below what the number of graded answers of the domain allows. spreads: false where nobody looks
    at spreads and domains; where all queries are in distribution, a decision is then quicker.
    """
    quality = forecast.quality
    tokens = forecast.tokens
    spread = forecast.spread
    known = forecast.familiar
    domain = forecast.domain
    if router.in_distribution is not None:
        known = router.in_distribution.knows(x)
    all_known = bool(known.all())
    if all_known and not spreads:
        return forecast
    stats = router.domain_stats
    if stats is not None:
        domain, like = stats.domain_and_kind(x)
        spread = np.maximum(spread, stats.min_spread[domain])
        if not all_known and like.any():  # of a kind that is known, in words that are not
            spread = np.where((like & ~known)[:, None], np.maximum(spread, stats.spreads.domain), spread)
            known = known | like
            all_known = bool(known.all())
    if not all_known:
        prior = router.prior_quality if stats is None else _prior(router, stats, domain)
        quality = np.where(known[:, None], quality, prior)
        tokens = np.where(known[:, None], tokens, router.prior_tokens)
        spread = np.where(known[:, None], spread, UNKNOWN_SPREAD)
    return Forecast(router.arms, quality, tokens, spread, known, forecast.cost, domain)


def _prior(router: Router, stats: DomainStats, domain: IntArray) -> FloatArray:
    """Return (arms,) or (n, arms) the arms' means, and on domains of which little was graded what to expect there."""
    thin = stats.graded[domain] < THIN
    if not thin.any():
        return router.prior_quality
    return np.where(thin[:, None], stats.where_thin(router.prior_quality), router.prior_quality)
