"""Is a query like anything the router was trained on: is it *in distribution*?

The training embeddings are summed up by a few centres (spherical k-means). How near a query lies to them says little by
itself: short questions of every kind lie near each other. So it is compared with how near it lies to prompts of many
other kinds (`background`; the idea of outlier exposure, Hendrycks et al. 2019, without a network to train): the score
is the log of the ratio of two kernel densities. A query is in distribution where its score is not lower than for all
but the last two percent of training queries (three per thousand of a large table) that neither the centres nor the
threshold had seen. Where no background can be embedded, nearness alone decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from r2router.predict.kmeans import spherical_centres
from r2router.types import BoolArray, FloatArray

_CENTRES, _MAX_CENTRES = 64, 400  # of a table of some thousand queries, and of a large one of many kinds
_MAX_QUERIES = 20_000  # more do not move the centres
_FEW_QUERIES = 2_000  # up to here one tenth is too few to tell where the last percents begin
_ODD_SHARE = 0.02  # of the training queries that count as out of distribution
_ODD_SHARE_OF_MANY = 0.003  # in a large table each kind is a small part: 2 % may be the whole of a kind
_MANY = 4_800
_SOFTNESS = 0.06  # of the kernel, as a share of the variance of the embeddings
_TINY = 1e-30  # a density of nothing
_MOST_LOG = 700.0  # of a ratio; above it no float is left
_OWN_SHARE = (
    0.25  # a background prompt nearer than that share of unseen training queries is of the training data's own kind
)


def _no_background() -> FloatArray:
    return np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class InDistribution:
    """Tells whether a query is like the training queries.

    centres: (k, d) float32, rows of norm 1.
    threshold: the lowest score that counts as in distribution.
    background: (m, d) float32 embeddings of prompts of other kinds, or none of them.
    temperature: of the kernel, above 0; without a background 0, and the score is then the cosine to the nearest centre.
    """

    centres: FloatArray
    threshold: float
    background: FloatArray = field(default_factory=_no_background)
    temperature: float = 0.0

    def score(self, x: FloatArray) -> FloatArray:
        """Return (n,) how much (n, d) embeddings of norm 1 are like the training queries."""
        if not len(self.background):
            return np.asarray(np.maximum.reduce(x @ self.centres.T, axis=1))
        cosine = x @ self._both.T  # one product and one exponential for both: this stands in the way of every decision
        near = np.exp((cosine - np.maximum.reduce(cosine, axis=1)[:, None]) / np.float32(self.temperature))
        own = np.add.reduce(near[:, : len(self.centres)], axis=1) / len(self.centres)
        others = np.add.reduce(near[:, len(self.centres) :], axis=1) / len(self.background)
        return np.asarray(self.temperature * np.log(np.maximum(own, _TINY) / np.maximum(others, _TINY)))

    @cached_property
    def _both(self) -> FloatArray:
        return np.concatenate([self.centres, self.background])

    @cached_property
    def _scaled(self) -> FloatArray:
        return self._both / np.float32(self.temperature)

    @cached_property
    def _least_ratio(self) -> float:
        """The ratio of the two densities at the threshold."""
        return math.exp(min(self.threshold / self.temperature, _MOST_LOG))

    def knows(self, x: FloatArray) -> BoolArray:
        """Return (n,) true where in distribution."""
        if not len(self.background):
            return np.asarray(self.score(x) >= self.threshold)
        # `score` without its logarithms: this stands in the way of every decision
        cosine = x @ self._scaled.T
        near = np.exp(cosine - np.maximum.reduce(cosine, axis=1)[:, None])
        own = np.add.reduce(near[:, : len(self.centres)], axis=1) / len(self.centres)
        others = np.add.reduce(near[:, len(self.centres) :], axis=1) / len(self.background)
        return np.asarray(np.maximum(own, _TINY) >= self._least_ratio * np.maximum(others, _TINY))

    @classmethod
    def fit(cls, x: FloatArray, seed: int, background: FloatArray | None = None) -> InDistribution:
        """Centres of all queries; the threshold from queries held out for it: each tenth in turn, or one tenth of a
        large table.

        background: (m, d) embeddings of norm 1; those that the training data has a kind of are left out.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(x))[:_MAX_QUERIES]
        if len(order) < 2:
            return cls(x[order].astype(np.float32), -1.0)
        tenths = np.array_split(order, min(10, len(order)))
        scored = tenths if len(order) <= _FEW_QUERIES else tenths[:1]
        parts = [(_centres(x[np.setdiff1d(order, own)], rng), x[own]) for own in scored]
        centres = _centres(x[order], rng)
        others, temperature = _no_background(), 0.0
        if background is not None and len(background):
            near = np.concatenate([np.max(own @ c.T, axis=1) for c, own in parts])
            strange = np.max(background @ centres.T, axis=1) < np.quantile(near, _OWN_SHARE)
            others = background[strange].astype(np.float32)
            temperature = (
                _SOFTNESS * max(float(x[order].var(axis=0, dtype=np.float64).sum()), 1e-3) if len(others) else 0.0
            )
        unseen = np.concatenate([cls(c, 0.0, others, temperature).score(own) for c, own in parts])
        return cls(
            centres,
            float(np.quantile(unseen, _ODD_SHARE if len(x) <= _MANY else _ODD_SHARE_OF_MANY)),
            others,
            temperature,
        )


def _centres(x: FloatArray, rng: np.random.Generator) -> FloatArray:
    usual = int(np.clip(len(x) // 10, 1, _CENTRES))
    return spherical_centres(x, int(np.clip(len(x) // 50, usual, _MAX_CENTRES)) if len(x) > _MANY else usual, rng)
