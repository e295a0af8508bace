"""What a learner of domains does not know, measured on queries that were held out: how far to believe the network, and
spreads.

A spread is the standard deviation of a forecast of expected quality, and expected qualities are not observed: one
answer, right or wrong, says nothing of it. But what a forecast gets wrong on one query it gets wrong on those like it,
so that the products of two queries' errors show the variance of what they share. The variances are scaled to agree with
them, by how often an arm was seen in the domain; most cells of some arms are held back in some domains for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.predict.domain_means import UNSEEN, Shrunk, quality_means
from r2router.predict.domain_parts import HELD, Groups, observed
from r2router.predict.factor_net import FactorNet, log_odds
from r2router.types import BoolArray, FloatArray, IntArray

_MOST_HELD = 4_000
_THINNED = 0.3  # share of the (domain, arm) pairs of which most cells are held back
_KEPT = (0, 1, 3, 10, 30)  # cells that are left of them
_OF_NET = (0.0, 0.2, 0.4, 0.6, 0.8)
_OF_GROUPS = np.float32(0.6)  # how far the groups move the log odds of an arm in its domain
_LEAST_QUALITY = np.float32(0.005)
BINS = (0, 3, 12, 40, 120, 400)
"""Cells of an arm in a domain."""
_PRIOR_PAIRS = 60.0  # of all bins together at the factor 1, and of each bin at the factor of all
_FACTORS = (0.1, 10.0)


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """How uncertain the forecasts of a domain are.

    of_net: how far the network is believed.
    factors: (len(BINS),) of the variances of arms that were seen about so often in a domain.
    """

    of_net: float
    factors: FloatArray

    def scaled(self, part: Shrunk, groups: Groups) -> FloatArray:
        """Return (groups + 1, arms) the variances of a part, scaled."""
        factor = np.exp(np.interp(np.log1p(part.cells), np.log1p(BINS), np.log(self.factors)))
        return np.asarray(part.variance * factor[np.append(groups.domain, len(groups.bias))])


def doubt_of(x: FloatArray, domain: IntArray, groups: Groups, y: FloatArray, seed: int) -> Doubt:
    """Measured on every fifth of the queries, with what the others tell of (n, arms) qualities."""
    held = np.flatnonzero(np.arange(len(x)) % HELD == 0)
    rest = np.setdiff1d(np.arange(len(x)), held)
    if not len(rest):
        return Doubt(0.0, np.ones(len(BINS)))
    rng = np.random.default_rng(seed)
    held = np.sort(rng.permutation(held)[:_MOST_HELD])
    kept, thin = _thinned(y[rest], domain[rest], len(groups.bias), rng)
    part = quality_means(x[rest], domain[rest], groups, kept)
    net = FactorNet.fit(x[rest], kept, domain[rest], part.level[:-1], seed)
    odds, share = groups.membership(x[held])
    weight = odds @ part.weight.astype(np.float32)
    level = (odds @ (part.weight * np.vstack([net.level, log_odds(part.level[-1])])).astype(np.float32)) / weight
    mean = (share @ (part.weight[np.append(groups.domain, len(groups.bias))] * part.value).astype(np.float32)) / weight
    factors = where_seen(np.maximum(x[held] @ net.hidden + net.shift, 0) @ net.head, weight, odds[:, -1:])
    seen, y = observed(y[held])
    domain = domain[held]
    best, forecast, lowest = 0.0, mean, np.inf
    alike = np.where(seen & ~thin[domain], 1.0, 0.0)
    alike /= np.maximum(np.bincount(domain, alike.sum(axis=1), len(groups.bias)), 1.0)[domain][:, None]
    for of_net in _OF_NET:
        tried = blended(level, mean, np.float32(of_net) * factors)
        if (loss := float((alike * np.square(np.where(seen, y - tried, 0.0))).sum())) < lowest - 1e-9:
            best, forecast, lowest = of_net, tried, loss
    off = np.where(seen, y - forecast, 0.0)
    said = np.where(seen, share @ part.variance.astype(np.float32), 0.0)
    return Doubt(
        best, _factors(off, said, seen, part.cells[domain], domain * len(groups.domain) + share[:, :-1].argmax(axis=1))
    )


def where_seen(net: FloatArray, weight: FloatArray, unknown: FloatArray) -> FloatArray:
    """Return (n, arms) what a network adds: of what is peculiar to an arm as much as it was seen in the likely domains,
    by its weight there.

    What it says of an arm that was not seen on such queries is guessed from others, and ranks arms worse than their
    means do.

    unknown: (n, 1) how likely a text is of no known domain, of which a network knows nothing.
    """
    known = np.float32(1.0) - unknown
    trust = weight - (unknown + np.float32(UNSEEN) * known)
    common = (np.vecdot(trust, net) / np.maximum(np.add.reduce(trust, axis=1), np.float32(1e-6)))[:, None]
    added = net - common  # in place from here: a decision is many small steps
    added *= trust
    added += common
    added *= known
    return added


def blended(level: FloatArray, mean: FloatArray, net: FloatArray) -> FloatArray:
    """Return (n, arms) forecasts from the log odds of the domain's level, the mean of groups, and what a network adds
    in log odds.
    """
    held = np.minimum(np.maximum(mean, _LEAST_QUALITY), np.float32(1.0) - _LEAST_QUALITY)
    right = np.log(held / (np.float32(1.0) - held))
    right *= np.float32(0.5) * _OF_GROUPS
    right += (np.float32(0.5) - np.float32(0.5) * _OF_GROUPS) * level
    right += np.float32(0.5) * net
    quality = np.tanh(right, out=right)
    quality *= np.float32(0.5)
    quality += np.float32(0.5)
    return quality


def _thinned(y: FloatArray, domain: IntArray, count: int, rng: np.random.Generator) -> tuple[FloatArray, BoolArray]:
    """Return (y with most cells of some (domain, arm) pairs left out, (domains, arms) which pairs)."""
    y, thin = y.copy(), rng.random((count, y.shape[1])) < _THINNED
    order = rng.random(len(y))
    for number in range(count):
        rows = np.flatnonzero(domain == number)
        rows = rows[np.argsort(order[rows])]
        own = y[rows]
        place = np.cumsum(np.isfinite(own), axis=0)
        kept = np.where(thin[number], rng.choice(_KEPT, y.shape[1]), len(y))
        y[rows] = np.where(place > kept, np.nan, own)
    return y, thin


def _factors(off: FloatArray, said: FloatArray, seen: BoolArray, cells: FloatArray, place: IntArray) -> FloatArray:
    """Return (len(BINS),) the products of two queries' errors over the variance that was said, of arms that were seen
    about so often.

    off, said: (n, arms) errors and variances, 0 where not seen.
    cells: (n, arms) of the arm in the query's domain.
    place: (n,) queries of one place are alike.
    """
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    count, error, square, variance = (
        np.add.reduceat(v[order].astype(np.float64), starts, axis=0) for v in (seen, off, off**2, said)
    )
    weight = np.maximum(count - 1, 0.0)
    pairs = weight * (error**2 - square) / np.maximum(count * (count - 1), 1.0)
    expected = weight * variance / np.maximum(count, 1.0)
    near = np.abs(np.log1p(cells[order[starts]])[..., None] - np.log1p(BINS)).argmin(axis=-1)
    pairs, expected, number = (np.bincount(near.ravel(), v.ravel(), len(BINS)) for v in (pairs, expected, weight))
    if expected.sum() <= 0:
        return np.ones(len(BINS))
    typical = expected.sum() / number.sum()
    overall = (pairs.sum() + _PRIOR_PAIRS * typical) / (expected.sum() + _PRIOR_PAIRS * typical)
    of_bin = np.where(number > 0, expected / np.maximum(number, 1.0), typical)
    return np.clip((pairs + _PRIOR_PAIRS * overall * of_bin) / (expected + _PRIOR_PAIRS * of_bin), *_FACTORS)
