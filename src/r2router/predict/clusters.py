"""Clusters of queries, and how outcomes differ between them.

Spherical k-means (Dhillon and Modha, Machine Learning 42, 2001) on the embeddings. A query belongs to the centres near
it softly, by a softmax of its cosines, so that a small change of its text changes a forecast a little and never by a
jump.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.encode.rows import unit_rows
from r2router.predict.kmeans import MAX_QUERIES, spherical_centres
from r2router.types import FloatArray, IntArray

_CLUSTERS, _PARTITIONS = 20, 5
_QUERIES_A_CLUSTER = 10
_SOFTNESS = 0.06  # of the softmax, as a share of the variance of the embeddings: how wide cosines spread differs between encoders
_PRIOR_QUERIES = 5.0  # a cluster's mean is shrunk as if so many more queries at the arm's mean lay in it


@dataclass(frozen=True, slots=True, eq=False)
class SoftClusters:
    """Several partitions of the queries, each into the same number of clusters.

    centres: (partitions, clusters, d) float32, norm 1.
    temperature: of the softmax over cosines, above 0.
    """

    centres: FloatArray
    temperature: float

    @classmethod
    def of(cls, x: FloatArray, order: IntArray, seed: int) -> SoftClusters:
        """Centres of (n, d) embeddings.

        order: (n,) the rows in an order that does not depend on how the table was sorted.
        """
        unit = unit_rows(np.asarray(x, dtype=np.float32)[order])
        rng = np.random.default_rng(seed)
        k = int(np.clip(len(unit) // _QUERIES_A_CLUSTER, 1, _CLUSTERS))
        rows = unit[rng.permutation(len(unit))[:MAX_QUERIES]]
        centres = np.stack([spherical_centres(rows, k, rng) for _ in range(_PARTITIONS)])
        variance = float(rows.var(axis=0, dtype=np.float64).sum())
        return cls(centres, _SOFTNESS * max(variance, 1e-3))

    def membership(self, x: FloatArray) -> FloatArray:
        """Return (n, partitions x clusters) shares of (n, d) embeddings; each row sums to 1, each partition has the
        same part of it.
        """
        partitions, clusters, d = self.centres.shape
        cosine = unit_rows(x) @ self.centres.reshape(-1, d).T
        score = cosine.reshape(len(x), partitions, clusters) / np.float32(self.temperature)
        share = np.exp(score - np.maximum.reduce(score, axis=2, keepdims=True))
        share /= np.add.reduce(share, axis=2, keepdims=True) * partitions
        return share.reshape(len(x), partitions * clusters)


def cluster_means(
    share: FloatArray, y: FloatArray, scored: IntArray, partitions: int, seen: float
) -> tuple[FloatArray, FloatArray]:
    """Return ((clusters, arms) means of (n, arms) y in each cluster, (scored, arms) forecasts `share @ means` that
    leave the query itself out).

    share: (n, clusters of all partitions) memberships.
    y: less the arm's mean.
    seen: the share of y that was measured.
    """
    prior = _PRIOR_QUERIES / max(seen, 1e-9)
    member = share * partitions  # each partition's shares sum to 1
    total, size = member.T @ y, member.sum(axis=0)
    means = total / (size + prior)[:, None]
    own = member[scored]
    rest = own / (size - own + prior)
    return means, (rest @ total - (rest * own).sum(axis=1, keepdims=True) * y[scored]) / partitions
