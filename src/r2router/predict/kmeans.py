"""k-means: centres of groups of queries, by distance (Lloyd's algorithm from k-means++ starts) or by cosine."""

from __future__ import annotations

import numpy as np

from r2router.types import FloatArray, IntArray

_ROUNDS, _STILL = 100, 1e-4
_COSINE_ROUNDS = 20
MAX_QUERIES = 10_000
"""Of a larger table so many rows, drawn at random, give the centres: more do not move them."""
_FLOATS = 1 << 23  # numbers of the widest block held at once: 32 MB


def kmeans(x: FloatArray, k: int, seed: int, restarts: int = 1) -> tuple[FloatArray, IntArray]:
    """Return ((k, d) float32 centres, (n,) the nearest of each row) of the least squared distances among so many
    starts; k is at most n.

    Of a large table the centres are those of 10,000 rows, drawn at random.
    """
    x = np.asarray(x, dtype=np.float32)
    rng = np.random.default_rng(seed)
    some = x if len(x) <= MAX_QUERIES else x[rng.permutation(len(x))[:MAX_QUERIES]]
    tries = [_lloyd(some, _plus_plus(some, k, rng)) for _ in range(restarts)]
    centres = min(tries, key=lambda found: found[1])[0]
    return centres, nearest(x, centres)[0]


def nearest(x: FloatArray, centres: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return ((n,) the nearest centre of each row, (n,) squared distance to it)."""
    member, distance = np.empty(len(x), dtype=np.intp), np.empty(len(x), dtype=np.float32)
    half = 0.5 * np.square(centres).sum(axis=1)
    block = max(1, _FLOATS // max(len(centres), 1))
    for at in range(0, len(x), block):
        part = x[at : at + block]
        far = half - part @ centres.T
        member[at : at + block] = far.argmin(axis=1)
        distance[at : at + block] = 2 * far.min(axis=1) + np.square(part).sum(axis=1)
    return member, np.maximum(distance, 0.0)


def spherical_centres(x: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """Return (k, d) float32 centres of norm 1 of (n, d) embeddings of norm 1; at most k distinct ones.

    Spherical k-means (Dhillon and Modha, Machine Learning 42, 2001) from randomly drawn rows.
    """
    centres = x[rng.choice(len(x), k, replace=False)]
    for _ in range(_COSINE_ROUNDS):
        nearest = (x @ centres.T).argmax(axis=1)
        sums = (nearest == np.arange(k)[:, None]).astype(x.dtype) @ x
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(norms > 0, sums / np.where(norms > 0, norms, 1.0), centres)
    return np.ascontiguousarray(centres, dtype=np.float32)


def _plus_plus(x: FloatArray, k: int, rng: np.random.Generator) -> FloatArray:
    """Return (k, d) rows of x, each drawn with a chance proportional to its squared distance to those before it; the
    best of a few draws.
    """
    draws = 2 + int(np.log(k))
    chosen = [int(rng.integers(len(x)))]
    distance = np.square(x - x[chosen[0]]).sum(axis=1)
    squares = np.square(x).sum(axis=1)
    for _ in range(k - 1):
        total = distance.cumsum(dtype=np.float64)
        if total[-1] <= 0:  # fewer distinct rows than centres
            chosen.append(int(rng.integers(len(x))))
            continue
        candidates = np.minimum(np.searchsorted(total, rng.random(draws) * total[-1], side="right"), len(x) - 1)
        closer = np.minimum(distance, np.maximum(squares + squares[candidates, None] - 2 * (x[candidates] @ x.T), 0.0))
        pick = int(closer.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(candidates[pick]))
        distance = closer[pick]
    return x[chosen]


def _lloyd(x: FloatArray, centres: FloatArray) -> tuple[FloatArray, float]:
    """Return (centres, sum of squared distances) after centres moved to the means of their members until they stand
    still.

    A centre without members goes to the row that is farthest from its own.
    """
    tolerance = _STILL * float(x.var(axis=0).mean())
    member, distance = nearest(x, centres)
    for _ in range(_ROUNDS):
        count = np.bincount(member, minlength=len(centres))
        order = np.argsort(member, kind="stable")
        starts = np.concatenate([[0], count.cumsum()[:-1]])
        sums = np.add.reduceat(x[order], np.minimum(starts, len(x) - 1), axis=0)
        moved = (sums / np.maximum(count, 1)[:, None]).astype(np.float32)
        empty = np.flatnonzero(count == 0)
        moved[empty] = x[np.argsort(-distance, kind="stable")[: len(empty)]]
        shift = float(np.square(moved - centres).sum())
        centres = moved
        member, distance = nearest(x, centres)
        if shift <= tolerance:
            break
    return centres, float(distance.sum(dtype=np.float64))
