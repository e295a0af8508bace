"""What each arm does in each domain and in each group of like queries: means that are shrunk, with their variances.

Each step is shrunk towards the one before by the number of cells behind it. The last row of every result is for a query
of no known
domain: there an arm is expected to do what it does on average over the domains, all domains alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from r2router.predict.domain_parts import (
    DOMAIN_CELLS,
    Groups,
    length_of,
    level_of,
    observed,
    sensitivity,
    sums_by_domain,
)
from r2router.predict.variance import UNKNOWN_VARIANCE
from r2router.types import FloatArray, IntArray

_GROUP_CELLS = 6.0  # as `DOMAIN_CELLS`, for an arm's own deviation in a group
_LENGTH_CELLS = 10.0  # as `DOMAIN_CELLS`, for its lengths there
_GROUP_QUERIES = 2.0  # and for how hard a group is
_QUERY_NOISE = 1.5  # how little one query tells of its own difficulty, in cells of full sensitivity
_SEEN = 20.0
UNSEEN = 0.02
"""An arm's mean of n cells in a domain weighs n / (n + 20) + .02 among the likely domains."""
_LEAST_VARIANCE = 0.001


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """One outcome.

    level: (domains + 1, arms) means.
    value: (groups + 1, arms).
    variance: of the values, or empty.
    cells: (domains + 1, arms) how many were seen.
    weight: (domains + 1, arms) of an arm among domains.
    """

    level: FloatArray
    value: FloatArray
    variance: FloatArray
    cells: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, level: FloatArray, value: FloatArray, variance: FloatArray, cells: FloatArray) -> Self:
        """Add the row for texts of no known domain.

        level, cells: (domains, arms).
        value: (groups, arms).
        variance: (groups + 1, arms), or empty.
        """
        none, everywhere = np.zeros((1, cells.shape[1])), level.mean(axis=0)
        weight = np.vstack([cells / (cells + _SEEN) + UNSEEN, none + 1.0])
        return cls(
            np.vstack([level, everywhere]), np.vstack([value, everywhere]), variance, np.vstack([cells, none]), weight
        )


def quality_means(x: FloatArray, domain: IntArray, groups: Groups, y: FloatArray) -> Shrunk:
    """Shrink (n, arms) qualities; NaN is not observed."""
    count = len(groups.bias)
    total, cells = sums_by_domain(y, domain, count)
    expected = level_of(total, cells)
    mean = (total + DOMAIN_CELLS * expected) / (cells + DOMAIN_CELLS)
    value, variance = (np.empty((len(groups.domain), y.shape[1])) for _ in range(2))
    between = _between_domains(total, cells, expected)
    for number in range(count):
        rows, own = np.flatnonzero(domain == number), groups.domain == number
        share, moves = groups.within(x[rows], number).astype(np.float64), sensitivity(mean[number])
        seen, residual = observed(y[rows] - mean[number])
        known = seen @ np.square(moves)
        level, trust = (residual @ moves) / (known + _QUERY_NOISE), known / (known + _QUERY_NOISE)
        hard = (share.T @ level) / (share.T @ trust + _GROUP_QUERIES)
        peculiar = np.where(seen, residual - (share @ hard)[:, None] * moves, 0.0)
        size = share.T @ seen
        value[own] = np.clip(
            mean[number] + hard[:, None] * moves + share.T @ peculiar / (size + _GROUP_CELLS), 0.0, 1.0
        )
        noise = (np.square(peculiar).sum(axis=0) + UNKNOWN_VARIANCE) / (seen.sum(axis=0) + 1)
        # of the arm's mean in the domain, and of what is peculiar to the group: each shrinks with the cells that were
        # seen
        variance[own] = between / (cells[number] + DOMAIN_CELLS) * DOMAIN_CELLS + noise / (size + _GROUP_CELLS)
    # in a domain that is not known an arm differs from its average as its domains do
    apart = np.maximum(np.square(mean - mean.mean(axis=0)).mean(axis=0), between)
    return Shrunk.of(mean, value, np.vstack([variance, apart]), cells)


def length_means(x: FloatArray, domain: IntArray, groups: Groups, tokens: FloatArray) -> Shrunk:
    """Shrink (n, arms) tokens, without variances.

    Where an arm was not measured: half-way between its mean elsewhere and that with the domain's effect.
    """
    count = len(groups.bias)
    total, cells = sums_by_domain(tokens, domain, count)
    mean = (total + DOMAIN_CELLS * length_of(total, cells)) / (cells + DOMAIN_CELLS)
    value = np.empty((len(groups.domain), tokens.shape[1]))
    for number in range(count):
        rows, own = np.flatnonzero(domain == number), groups.domain == number
        share = groups.within(x[rows], number).astype(np.float64)
        seen, ratio = observed(tokens[rows] / mean[number])
        value[own] = mean[number] * (share.T @ ratio + _LENGTH_CELLS) / (share.T @ seen + _LENGTH_CELLS)
    return Shrunk.of(mean, value, np.zeros(0), cells)


def _between_domains(total: FloatArray, cells: FloatArray, expected: FloatArray) -> float:
    """Variance of an arm's true mean in a domain around what is common to domains."""
    enough = cells >= _SEEN
    if not enough.any():
        return UNKNOWN_VARIANCE
    mean = total[enough] / cells[enough]
    sampled = mean * (1 - mean) / cells[enough]
    return float(np.clip((np.square(mean - expected[enough]) - sampled).mean(), _LEAST_VARIANCE, UNKNOWN_VARIANCE))
