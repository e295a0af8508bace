"""Nearest neighbours: a query is expected to go as the training queries most like it (by cosine) went.

Where an arm was seen on few of the neighbours, its own mean counts as some more of them: a single lucky neighbour must
not make an arm the best one. Fitting forecasts every training query from the others, which sets the scale of the tokens
and, if asked, k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import msgspec
import numpy as np

from r2router.encode.rows import unit_rows
from r2router.errors import ArtifactError, ConfigError
from r2router.predict.linear import check_shapes
from r2router.predict.tokens import log_smearing, log_tokens
from r2router.predict.variance import with_one_unknown
from r2router.types import Arm, FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_CANDIDATES = (8, 16, 32, 64, 128, 256)  # for k=None
_SCORED = 4_000  # about as many queries choose k; more do not move the choice
_FLOATS = 1 << 22  # numbers of the widest block held at once: 16 MB


class KNN(msgspec.Struct, frozen=True, tag="knn", tag_field="learner", forbid_unknown_fields=True):
    """The k training queries of highest cosine, on which quality and log tokens are averaged.

    k: how many; with fewer training queries all of them. None: the k of 8, 16, ... 256 that best forecasts the quality
        of each training query from the others.
    weights: `uniform`, or `similarity`: by the cosine, and nothing where it is negative.
    shrink: the arm's mean counts as so many neighbours. 0 is plain KNN, with the mean only where no neighbour saw the
        arm.
    """

    k: int | None = None
    weights: Literal["uniform", "similarity"] = "uniform"
    shrink: float = 5.0

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise ConfigError(f"KNN(k={self.k}): k must be at least 1, or None to choose it")
        if self.weights not in ("uniform", "similarity"):
            raise ConfigError(f"KNN(weights={self.weights!r}): weights must be 'uniform' or 'similarity'")
        if not 0 <= self.shrink < math.inf:
            raise ConfigError(f"KNN(shrink={self.shrink}): shrink must be a finite number of at least 0")

    def fit(self, x: FloatArray, table: Table) -> KNNPredictor:
        """Takes n^2 d operations, in blocks: the neighbours of every training query among the others are needed."""
        logs = log_tokens(table.output_tokens)
        predictor = KNNPredictor.of(x, table, logs, (self.k or 1, self.weights == "similarity", self.shrink))
        arrays = predictor.arrays()
        settings, low, high = arrays["settings"], arrays["low"], arrays["high"]
        if self.k is None:
            # so that the order of the rows does not matter
            by_id = np.argsort(np.array(table.query_ids), kind="stable")
            settings[0] = _best_k(predictor, by_id[:: 1 + len(x) // _SCORED])
        # Each arm's mean of tokens is set on forecasts that a query's own answer is no part of.
        others = np.empty(logs.shape)
        for rows, near, weight in predictor.neighbours(arrays["unit"], int(settings[0]), own=np.arange(len(x))):
            others[rows] = arrays["log_mean"] + predictor.average(arrays["log_tokens"][near], weight)
        arrays["log_mean"] = arrays["log_mean"] + log_smearing(np.clip(others, low, high), table.output_tokens)
        return KNNPredictor(table.arms, arrays)


class KNNPredictor:
    """The training queries with their outcomes, and what is known of each arm as a whole.

    unit: (n, d) float32, rows of norm 1.
    quality, log_tokens: (n, arms) float32, minus the arm's mean; NaN where not observed.
    mean, variance: (arms,) of quality.
    log_mean: (arms,) mean of log tokens, moved so that the mean of tokens is right.
    low, high: (arms,) bounds of log tokens.
    settings: (3,) k, 1 for weights by similarity, shrink.
    """

    kind: ClassVar[str] = "knn"
    lengths: ClassVar[tuple[str, str]] = ("log_tokens", "log_mean")

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n, (length, length_mean) = len(arms), self.lengths
        shapes: dict[str, tuple[int | None, ...]] = {
            "unit": (None, None),
            "quality": (None, n),
            length: (None, n),
            "settings": (3,),
        }
        check_shapes(arrays, shapes | dict.fromkeys(("mean", "variance", length_mean, "low", "high"), (n,)))
        if not len(arrays["unit"]) == len(arrays["quality"]) == len(arrays[length]):
            raise ArtifactError(f"weights: unit, quality and {length} differ in length: the artifact is damaged")
        self.arms, self._arrays = arms, arrays

    @classmethod
    def of(cls, x: FloatArray, table: Table, lengths: FloatArray, settings: tuple[float, float, float]) -> Self:
        """Make it from (n, d) embeddings, their outcomes, and their tokens on the scale on which they are averaged."""
        seen = ~np.isnan(lengths)
        arrays = {
            "unit": unit_rows(x),
            "settings": np.array(settings, dtype=np.float64),
            "variance": _variance(table.quality),
        }
        arrays["low"] = np.where(seen.any(axis=0), np.min(lengths, axis=0, where=seen, initial=np.inf), 0.0)
        arrays["high"] = np.max(lengths, axis=0, where=seen, initial=0.0)
        for name, mean, cells in (("quality", "mean", table.quality), (*cls.lengths, lengths)):
            arrays[mean] = _means(cells)
            arrays[name] = (cells - arrays[mean]).astype(np.float32)
        return cls(table.arms, arrays)

    def predict(self, x: FloatArray) -> Forecast:
        """Spread: the standard deviation among the neighbours / sqrt(their number), where the
        variance of the arm as a whole counts as one neighbour more; with no neighbour that saw the arm, the arm's
        standard deviation.
        """
        a = self._arrays
        quality, tokens, spread = (np.empty((len(x), len(self.arms))) for _ in range(3))
        length, length_mean = self.lengths
        for rows, near, weight in self.neighbours(unit_rows(x), int(a["settings"][0])):
            cells = a["quality"][near]
            quality[rows] = a["mean"] + self.average(cells, weight)
            spread[rows] = _spread(cells, weight, a["variance"])
            tokens[rows] = a[length_mean] + self.average(a[length][near], weight)
        return Forecast.of(
            self.arms, np.clip(quality, 0.0, 1.0), self._tokens(np.clip(tokens, a["low"], a["high"])), spread
        )

    def _tokens(self, lengths: FloatArray) -> FloatArray:
        """Tokens of forecast lengths."""
        return np.exp(lengths)

    def neighbours(
        self, unit: FloatArray, k: int, own: IntArray | None = None
    ) -> Iterator[tuple[slice, IntArray, FloatArray]]:
        """Return (rows, neighbours (m, k), weights (m, k)), nearest first, block by block; fewer than k where there are
        fewer queries.

        own: where in the training set the queries of `unit` themselves are, none of which is to be its own neighbour.
        """
        a = self._arrays
        n = len(a["unit"])
        k = min(k, n if own is None else n - 1)
        block = max(1, _FLOATS // max(n, k * len(self.arms)))
        for first in range(0, len(unit), block):
            rows = slice(first, min(first + block, len(unit)))
            cosine = unit[rows] @ a["unit"].T
            if own is not None:
                cosine[np.arange(len(cosine)), own[rows]] = -np.inf
            near = (
                np.argpartition(cosine, n - k, axis=1)[:, n - k :]
                if 0 < k < n
                else np.tile(np.arange(k), (len(cosine), 1))
            )
            near = np.take_along_axis(
                near, np.argsort(-np.take_along_axis(cosine, near, axis=1), axis=1, kind="stable"), axis=1
            )
            weight = (
                np.maximum(np.take_along_axis(cosine, near, axis=1), 0)
                if a["settings"][1]
                else np.ones(near.shape, np.float32)
            )
            yield rows, near, weight

    def average(self, cells: FloatArray, weight: FloatArray) -> FloatArray:
        """Return (m, arms) shrunk mean of (m, k, arms) deviations from the arm's mean, where they were observed;
        weights are (m, k).
        """
        total = _weighted(weight, ~np.isnan(cells)) + self._arrays["settings"][2]
        return np.asarray(
            np.divide(_weighted(weight, np.nan_to_num(cells)), total, out=np.zeros(total.shape), where=total > 0)
        )

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))


def _best_k(predictor: KNNPredictor, scored: IntArray) -> int:
    """Return the candidate of the lowest squared error of quality, each of these training queries forecast from all
    others.
    """
    unit, quality = (predictor.arrays()[name] for name in ("unit", "quality"))
    candidates = [k for k in _CANDIDATES if k < len(unit)] or [_CANDIDATES[0]]
    errors = np.zeros(len(candidates))
    for rows, near, weight in predictor.neighbours(unit[scored], candidates[-1], own=scored):
        cells = quality[near]
        for i, k in enumerate(candidates):
            errors[i] += np.nansum(np.square(quality[scored[rows]] - predictor.average(cells[:, :k], weight[:, :k])))
    return candidates[int(errors.argmin())]


def _spread(cells: FloatArray, weight: FloatArray, variance: FloatArray) -> FloatArray:
    """Return (m, arms) standard error of the mean of the observed neighbours; see `KNNPredictor.predict`."""
    seen, filled = ~np.isnan(cells), np.nan_to_num(cells)
    total, squares = _weighted(weight, seen), _weighted(weight**2, seen)
    some = total > 0
    first, second = (
        np.divide(_weighted(weight, v), total, out=np.zeros(total.shape), where=some) for v in (filled, filled**2)
    )
    # of neighbours, were they weighted alike
    number = np.divide(total**2, squares, out=np.zeros(total.shape), where=some)
    within = np.maximum(second - first**2, 0)
    return np.asarray(np.sqrt((number * within + variance) / (number + 1) / (number + 1)))


def _weighted(weight: FloatArray, cells: Any) -> FloatArray:
    return np.asarray(np.matmul(weight[:, None], cells.astype(np.float32, copy=False))[:, 0], dtype=np.float64)


def _means(y: FloatArray) -> FloatArray:
    """Return (arms,) mean of the observed cells; NaN without any."""
    seen = ~np.isnan(y)
    return np.asarray(
        np.divide(np.nansum(y, axis=0), seen.sum(axis=0), out=np.full(y.shape[1], np.nan), where=seen.any(axis=0))
    )


def _variance(quality: FloatArray) -> FloatArray:
    """Return (arms,) variance of the observed cells, with one pseudo-answer of variance 1/12 so that one answer is not
    certainty.
    """
    seen = (~np.isnan(quality)).sum(axis=0)
    squares = np.nansum(np.square(quality - _means(quality)), axis=0)
    return np.where(seen > 0, with_one_unknown(squares, seen), np.nan)
