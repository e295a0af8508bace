"""Is a query like anything the router was trained on?

The training embeddings are summed up by a few centres (spherical k-means); a query is familiar where its cosine to the nearest one
is not lower than for all but the last percent of training queries that the centres had not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.predict.kmeans import spherical_centres
from r2router.types import BoolArray, FloatArray

_MOST_CENTRES = 64
_MOST_QUERIES = 20_000  # more do not move the centres
_FEW_QUERIES = 2_000  # up to here one tenth is too few to tell where the last percent begins
_ODD_SHARE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """centres: (k, d) float32, rows of norm 1. threshold: the least cosine to one of them that counts as familiar."""

    centres: FloatArray
    threshold: float

    def similarity(self, x: FloatArray) -> FloatArray:
        """(n,) cosine of (n, d) embeddings of norm 1 to their nearest centre."""
        return np.maximum.reduce(x @ self.centres.T, axis=1)

    def knows(self, x: FloatArray) -> BoolArray:
        """(n,) true where familiar."""
        return self.similarity(x) >= self.threshold

    @classmethod
    def fit(cls, x: FloatArray, seed: int) -> Familiarity:
        """Centres of all queries; the threshold from queries held out for it: each tenth in turn, or one tenth of a large table."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(x))[:_MOST_QUERIES]
        if len(order) < 2:
            return cls(x[order].astype(np.float32), -1.0)
        tenths = np.array_split(order, min(10, len(order)))
        judged = tenths if len(order) <= _FEW_QUERIES else tenths[:1]
        unseen = [cls(_centres(x[np.setdiff1d(order, own)], rng), 0.0).similarity(x[own]) for own in judged]
        return cls(_centres(x[order], rng), float(np.quantile(np.concatenate(unseen), _ODD_SHARE)))


def _centres(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    return spherical_centres(x, int(np.clip(len(x) // 10, 1, _MOST_CENTRES)), rng)
