"""95 % intervals: the bootstrap over queries, and the interval of a share.

Percentile intervals (Efron, 1979) over queries, or over groups of rows that belong together; Wilson's interval for
shares (JASA 1927), since a bootstrap of a share of 1 would be sure of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from r2router.figure import Figure
from r2router.types import FloatArray, IntArray

LEVELS = (0.025, 0.975)
"""The quantiles at the ends of an interval."""
Z = 1.959964
"""The 97.5 % quantile of the normal distribution."""
_KNOWN = 0.5  # a value that fewer draws have gets no interval


def draw(rng: np.random.Generator, n: int) -> FloatArray:
    """Return (n,) how often one draw of n queries, with replacement, takes each of them."""
    return rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64)


def weights(n: int, resamples: int, seed: int) -> FloatArray:
    """Return (1 + resamples, n) weights: all ones, that is the data as they are, then the draws."""
    rng = np.random.default_rng(seed)
    return np.array([np.ones(n), *(draw(rng, n) for _ in range(resamples))])


def interval(name: str, value: float, draws: FloatArray, n: int) -> Figure:
    """Return the figure of a value and its bootstrap draws: the 2.5 and 97.5 percentiles of those that exist (half of
    them at least).

    A draw may be infinite (a quality that is never reached), and so may then be an end of the interval.
    """
    known = draws[~np.isnan(draws)]
    if not len(known) or len(known) < _KNOWN * len(draws):
        return Figure(name, float(value), n=n)
    if np.isfinite(known).all():
        low, high = np.quantile(known, LEVELS)
    else:
        low = np.quantile(known, LEVELS[0], method="lower")
        high = np.quantile(known, LEVELS[1], method="higher")
    return Figure(name, float(value), float(low), float(high), n)


def mean(name: str, values: FloatArray, resamples: int, seed: int) -> Figure:
    """Return the mean of (n,) values with its interval; NaN of none."""
    if not len(values):
        return Figure(name)
    drawn = weights(len(values), resamples, seed) @ values / len(values)
    return interval(name, float(values.mean()), drawn[1:], len(values))


def of_rows(name: str, statistic: Callable[[IntArray], float], groups: IntArray, resamples: int, seed: int) -> Figure:
    """Return a statistic of row numbers, with its interval by draws of whole groups.

    groups: (rows,) the group of each row.

    The figure's n is the number of groups.
    """
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    value = statistic(np.arange(len(groups)))
    if not np.isfinite(value) or len(members) < 2:
        return Figure(name, value, n=len(members))
    return interval(
        name, value, np.array([statistic(rows) for rows in _drawn_rows(members, resamples, seed)]), len(members)
    )


def _drawn_rows(members: Sequence[IntArray], resamples: int, seed: int) -> Iterator[IntArray]:
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        times = draw(rng, len(members)).astype(np.int64)
        yield np.concatenate([np.tile(rows, k) for rows, k in zip(members, times, strict=True) if k])


def share(name: str, value: float, n: int) -> Figure:
    """Return a share of n cases, with Wilson's interval."""
    middle = (value + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * np.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return Figure(name, value, float(max(middle - half, 0.0)), float(min(middle + half, 1.0)), n)
