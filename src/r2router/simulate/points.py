"""Embeddings of queries that were never asked: real ones, mixtures of neighbours, or draws around what a router
remembers.
"""

from __future__ import annotations

import numpy as np

from r2router.encode.rows import unit_rows
from r2router.predict.in_distribution import InDistribution
from r2router.types import FloatArray, IntArray

_NEIGHBOURS = 5
_MAX_SOUGHT = 5_000  # neighbours are looked for among so many: more do not make them much nearer
_AT_CENTRE = 1 - 1e-6
_BLOCK = 1_024


def among(base: FloatArray, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """Return ((n, d) float32, (n,) row of `base` that each comes from).

    Up to as many as there are: a random choice of them. Beyond, also mixtures of one with one of its 5 nearest
    neighbours, nearer to the first, and as long as the two are (embeddings of norm 1 stay of norm 1).
    """
    base = np.asarray(base, dtype=np.float32)
    if n <= len(base):
        rows = rng.permutation(len(base))[:n]
        return base[rows], rows
    rows = np.concatenate([np.arange(len(base)), rng.integers(len(base), size=n - len(base))])
    first = rows[len(base) :]
    other = _a_neighbour(base, first, rng)
    weight = rng.uniform(0.0, 0.5, (len(first), 1)).astype(np.float32)
    mixed = (1 - weight) * base[first] + weight * base[other]
    norms = np.linalg.norm(base, axis=1, keepdims=True)
    length = (1 - weight) * norms[first] + weight * norms[other]
    mixed *= length / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-12)
    return np.concatenate([base, mixed]), rows


def remembered(in_distribution: InDistribution, n: int, rng: np.random.Generator) -> FloatArray:
    """Return (n, d) float32 of norm 1, all familiar: around a router's centres, as far off as the queries that it was
    trained on.

    A router keeps no queries. Half of the way off a centre is along the differences between centres, where queries
    really differ.
    """
    centres = in_distribution.centres.astype(np.float64)
    # with a background, the threshold is no cosine
    low = 0.0 if len(in_distribution.background) else max(in_distribution.threshold, 0.0)
    cosine = rng.uniform(low, (2 + low) / 3, (n, 1))
    centre = centres[rng.integers(len(centres), size=n)]
    along = rng.standard_normal((n, len(centres))) @ (centres - centres.mean(axis=0))
    anywhere = rng.standard_normal(centre.shape)
    off = unit_rows(along) + unit_rows(anywhere)
    off -= (off * centre).sum(axis=1, keepdims=True) * centre
    outward = unit_rows(off)
    while True:
        x = (cosine * centre + np.sqrt(1 - cosine**2) * outward).astype(np.float32)
        strange = ~in_distribution.knows(x) & (cosine[:, 0] < _AT_CENTRE)
        if not strange.any():
            return x
        cosine[strange] = (1 + cosine[strange]) / 2


def _a_neighbour(base: FloatArray, rows: IntArray, rng: np.random.Generator) -> IntArray:
    """Return one of the nearest neighbours of each of the rows; the row itself where it is alone."""
    if len(base) < 2:
        return rows
    unit = unit_rows(base)
    sought = rng.permutation(len(base))[:_MAX_SOUGHT]
    k = min(_NEIGHBOURS, len(sought) - 1)
    which = rng.integers(k, size=len(rows))
    found = np.empty(len(rows), dtype=np.intp)
    for at in range(0, len(rows), _BLOCK):
        block = rows[at : at + _BLOCK]
        cosine = unit[block] @ unit[sought].T
        cosine[block[:, None] == sought] = -np.inf
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        found[at : at + _BLOCK] = sought[nearest[np.arange(len(block)), which[at : at + _BLOCK]]]
    return found
