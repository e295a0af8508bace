"""Routers that know each arm by its means in clusters of queries: UniRouter, which is Uni-R2Router on budgets, and
Avengers-Pro.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.baselines.cells import Cells, column_means
from r2router.encode.rows import unit_rows
from r2router.errors import ArtifactError, ConfigError
from r2router.predict.kmeans import kmeans
from r2router.predict.linear import check_shapes
from r2router.predict.variance import with_one_unknown
from r2router.types import Arm, FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_QUERIES_A_CLUSTER = 5  # at least, on average; as many as 500 queries in 100 clusters


class UniRouter(msgspec.Struct, frozen=True, tag="unirouter", tag_field="learner", forbid_unknown_fields=True):
    """k-means clusters of queries; an arm is the vector of its mean quality in each (Jitkrittum et al., arXiv
    2502.08773).

    A query's forecast is the mean over the clusters, weighted by the softmax of `sharpness` times its cosine to their
    centres: the soft assignment of the R2-Router comparison (in the first paper a query belongs to its nearest
    cluster). Tokens are one constant per arm. On (model, budget) arms this is that paper's Uni-R2Router: an arm that comes
    later needs graded queries, not training.

    clusters: how many; fewer on small tables, where each would have fewer than five queries.
    queries: of how many training queries, drawn at random. The comparison used 500; None is all, as every other learner
        gets.
    sharpness: of the assignment.
    seed: of that draw and of k-means.
    """

    clusters: int = 100
    queries: int | None = None
    sharpness: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, ("clusters", "queries"))

    def fit(self, x: FloatArray, table: Table) -> ClusterPredictor:
        cells = Cells.of(x, table)
        n = len(cells.x) if self.queries is None else min(self.queries, len(cells.x))
        used = np.random.default_rng(self.seed).permutation(len(cells.x))[:n]
        unit = unit_rows(cells.x[used])
        centres, member = kmeans(unit, _how_many(self.clusters, n), self.seed)
        graded = cells.quality[used]
        quality = cluster_means(member, graded, len(centres), column_means(cells.quality))
        tokens = np.tile(column_means(cells.tokens), (len(centres), 1))
        columns = {"quality": quality, "error": mean_errors(member, graded, quality), "tokens": tokens}
        settings = np.array([self.sharpness, len(centres)])
        return ClusterPredictor(
            table.arms, {"centres": unit_rows(centres), "settings": settings, **_sorted(columns, cells.back)}
        )


class Clusters(msgspec.Struct, frozen=True, tag="clusters", tag_field="learner", forbid_unknown_fields=True):
    """Means of quality and of tokens in k-means clusters, over the few nearest of the query (Avengers-Pro, arXiv
    2508.12631).

    The nearest are weighted by the softmax of `sharpness` times the similarity, as its code does. Its score (accuracy
    and cost, each scaled to [0, 1] within a cluster, mixed by alpha) is one fixed way to trade them; here a policy does
    that.

    clusters, nearest: how many, and how many of them count (its top-p). 60 and 4 stand in its configuration files at
        commit 1875e94 of ZhangYiqun018/AvengersPro, 25 and 3 at commit 2b3b3ab of giteehubby/Avengers-pro. Fewer on
        small tables, where each cluster would have fewer than five queries.
    restarts: of k-means.
    seed: of k-means.
    """

    clusters: int = 60
    nearest: int = 4
    sharpness: float = 9.0
    restarts: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, ("clusters", "nearest", "restarts"))

    def fit(self, x: FloatArray, table: Table) -> ClusterPredictor:
        cells = Cells.of(x, table)
        centres, member = kmeans(unit_rows(cells.x), _how_many(self.clusters, len(cells.x)), self.seed, self.restarts)
        quality, tokens = (
            cluster_means(member, a, len(centres), column_means(a)) for a in (cells.quality, cells.tokens)
        )
        columns = {"quality": quality, "error": mean_errors(member, cells.quality, quality), "tokens": tokens}
        settings = np.array([self.sharpness, min(self.nearest, len(centres))])
        return ClusterPredictor(table.arms, {"centres": centres, "settings": settings, **_sorted(columns, cells.back)})


class ClusterPredictor:
    """What is known of each arm in each cluster; an arm is one column of `quality`, `error` and `tokens`, and needs no
    other.

    centres: (k, d) float32. quality, error, tokens: (k, arms) float64: mean, variance of that mean, mean tokens; NaN
    for an arm that was never observed. settings: (2,) sharpness, and how many of the nearest clusters count.
    """

    kind: ClassVar[str] = "clusters"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        shapes: dict[str, tuple[int | None, ...]] = {"centres": (None, None), "settings": (2,)}
        check_shapes(arrays, shapes | dict.fromkeys(("quality", "error", "tokens"), (None, n)))
        if len({len(arrays[name]) for name in ("centres", "quality", "error", "tokens")}) != 1:
            raise ArtifactError("weights: centres, quality, error and tokens differ in length: the artifact is damaged")
        self.arms, self._arrays = arms, arrays

    def predict(self, x: FloatArray) -> Forecast:
        a, weight = self._arrays, self.assign(x)
        # sums of weights that are 1 but for rounding: a mean of equal values must not leave what was seen
        quality = np.clip(weight @ a["quality"], 0.0, 1.0)
        return Forecast.of(self.arms, quality, weight @ a["tokens"], np.sqrt(np.square(weight) @ a["error"]))

    def assign(self, x: FloatArray) -> FloatArray:
        """Return (n, k) float64 weight of each cluster for each query; rows sum to 1."""
        sharpness, top = float(self._arrays["settings"][0]), int(self._arrays["settings"][1])
        power = sharpness * (unit_rows(x) @ self._arrays["centres"].T).astype(np.float64)
        if top < power.shape[1]:
            minimum = np.partition(power, power.shape[1] - top, axis=1)[:, power.shape[1] - top, None]
            power = np.where(power >= minimum, power, -np.inf)
        weight = np.exp(power - power.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(weight / weight.sum(axis=1, keepdims=True))

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))


def cluster_means(member: IntArray, cells: FloatArray, k: int, otherwise: FloatArray) -> FloatArray:
    """Return (k, arms) mean of the observed cells of (n, arms) in each of k clusters; `otherwise` (arms,) where a
    cluster saw none of an arm.
    """
    seen = ~np.isnan(cells)
    count, total = (_sums(member, values, k) for values in (seen.astype(np.float64), np.where(seen, cells, 0.0)))
    return np.asarray(np.divide(total, count, out=np.tile(otherwise, (k, 1)), where=count > 0))


def mean_errors(member: IntArray, cells: FloatArray, means: FloatArray) -> FloatArray:
    """Return (k, arms) variance of those means of quality: the arm's variance within clusters, over the answers and one
    more.
    """
    seen = ~np.isnan(cells)
    within = np.where(seen, np.square(cells - means[member]), 0.0).sum(axis=0)
    variance = with_one_unknown(within, seen.sum(axis=0))
    return np.where(np.isnan(means), np.nan, variance / (_sums(member, seen.astype(np.float64), len(means)) + 1))


def _sums(member: IntArray, values: FloatArray, k: int) -> FloatArray:
    one_hot = np.zeros((k, len(member)))
    one_hot[member, np.arange(len(member))] = 1.0
    return np.asarray(one_hot @ values)


def _sorted(columns: dict[str, FloatArray], back: IntArray) -> dict[str, FloatArray]:
    return {name: np.ascontiguousarray(value[:, back]) for name, value in columns.items()}


def _how_many(clusters: int, n: int) -> int:
    return max(1, min(clusters, n // _QUERIES_A_CLUSTER))


def _check(spec: UniRouter | Clusters, counts: tuple[str, ...]) -> None:
    name = type(spec).__name__
    for field in counts:
        value = getattr(spec, field)
        if value is not None and value < 1:
            raise ConfigError(f"{name}({field}={value}): {field} must be at least 1")
    if spec.seed < 0:
        raise ConfigError(f"{name}(seed={spec.seed}): seed must be at least 0")
    if not 0 <= spec.sharpness < math.inf:
        raise ConfigError(f"{name}(sharpness={spec.sharpness}): sharpness must be a finite number of at least 0")
