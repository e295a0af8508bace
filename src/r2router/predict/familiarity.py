"""Is a query like anything the router was trained on?

The training embeddings are summed up by a few centres (spherical k-means); a query is familiar where its cosine to the nearest one
is not lower than for all but the last percent of training queries that the centres had not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.types import BoolArray, FloatArray

_MOST_CENTRES = 64
_MOST_QUERIES = 20_000  # more do not move the centres
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
        """Centres of all queries; the threshold from a tenth of them (at least one) that was held out for it."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(x))[:_MOST_QUERIES]
        held_out, rest = order[: max(len(order) // 10, 1)], order[max(len(order) // 10, 1) :]
        if len(rest) == 0:
            return cls(x[order].astype(np.float32), -1.0)
        unseen = cls(_centres(x[rest], rng), 0.0).similarity(x[held_out])
        return cls(_centres(x[order], rng), float(np.quantile(unseen, _ODD_SHARE)))


def _centres(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    k = int(np.clip(len(x) // 10, 1, _MOST_CENTRES))
    centres = x[rng.choice(len(x), k, replace=False)]
    for _ in range(20):
        nearest = (x @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, x)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.where(norms > 0, norms, 1.0), centres)
    return np.ascontiguousarray(centres, dtype=np.float32)
