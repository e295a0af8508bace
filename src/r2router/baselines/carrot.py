"""CARROT: one plug-in regression for quality and one for tokens (Somerstep et al., arXiv 2502.03261).

As in the R2-Router comparison, which runs scikit-learn's `KNeighborsRegressor(256, metric="cosine")` and
`LinearRegression()` on embeddings. CARROT's own code chooses k by cross-validation (`CarrotKNN(k=0)`) and, beside it,
fine-tunes a text model; it has no linear regression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.baselines.cells import Cells, standard_error
from r2router.errors import ConfigError
from r2router.predict.knn import KNNPredictor
from r2router.predict.linear import check_shapes, rows_of, solve_ridge
from r2router.types import Arm, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table

_ALPHA = 1e-8  # of a ridge that is least squares; with fewer queries than dimensions, the one of least norm


class CarrotKNN(msgspec.Struct, frozen=True, tag="carrot-knn", tag_field="learner", forbid_unknown_fields=True):
    """Plain means of quality and of tokens over the k training queries of highest cosine.

    k: how many; with fewer training queries all of them. The R2-Router paper says 5, its code 256; 0 is by
        cross-validation, as in CARROT's own code: of eight numbers from 5 to 512 the one of least squared error of
        quality in five folds. An arm that none of them saw gets its own mean.
    """

    k: int = 256

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"CarrotKNN(k={self.k}): k must be at least 1, or 0 for cross-validation")

    def fit(self, x: FloatArray, table: Table) -> CarrotKNNPredictor:
        return _neighbours(x, table, self.k or _by_cross_validation(x, table))


_NUMBERS = (5, 10, 20, 40, 80, 160, 256, 512)
_FOLDS = 5
_SCORED = 2_000  # queries that are forecast at most, for each number


def _neighbours(x: FloatArray, table: Table, k: int) -> CarrotKNNPredictor:
    return CarrotKNNPredictor.of(x, table, np.maximum(table.output_tokens, 1.0), (k, 0, 0))


def _by_cross_validation(x: FloatArray, table: Table) -> int:
    """Return the number of neighbours with the lowest squared error of quality; the smallest of equals."""
    place = np.empty(len(table), dtype=np.intp)
    place[np.argsort(np.array(table.query_ids), kind="stable")] = np.random.default_rng(0).permutation(len(table))
    fold, error = place % _FOLDS, np.zeros(len(_NUMBERS))
    known = np.isfinite(table.quality).any(axis=1) & np.isfinite(table.output_tokens).any(axis=1)
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    for number in range(_FOLDS):
        own = np.flatnonzero(known & (fold == number) & (place < _SCORED))
        rest = np.flatnonzero(known & (fold != number))
        if not len(own) or not len(rest):
            continue
        nearest = np.argsort(-(unit[own] @ unit[rest].T), axis=1, kind="stable")[:, : _NUMBERS[-1]]
        overall = np.nanmean(table.quality[rest], axis=0) if np.isfinite(table.quality[rest]).any(axis=0).all() else 0.5
        for arm, target in enumerate(table.quality[own].T):
            cells = table.quality[rest, arm][nearest]
            count, total = np.isfinite(cells).cumsum(axis=1), np.nan_to_num(cells).cumsum(axis=1)
            at = np.minimum(_NUMBERS, nearest.shape[1]) - 1
            mean = np.where(
                count[:, at] > 0,
                total[:, at] / np.maximum(count[:, at], 1),
                np.broadcast_to(overall, len(table.arms))[arm],
            )
            error += np.nansum(np.square(mean - target[:, None]), axis=0)
    return _NUMBERS[int(error.argmin())]


class CarrotKNNPredictor(KNNPredictor):
    """A `KNNPredictor` whose tokens are on their own scale instead of the log.

    low, high: (arms,) the lowest and the highest tokens seen.
    """

    kind: ClassVar[str] = "carrot-knn"
    lengths: ClassVar[tuple[str, str]] = ("tokens", "tokens_mean")

    def _tokens(self, lengths: FloatArray) -> FloatArray:
        return lengths


class CarrotLinear(msgspec.Struct, frozen=True, tag="carrot-linear", tag_field="learner", forbid_unknown_fields=True):
    """Ordinary least squares on the embedding, for quality and for tokens, with intercepts.

    Quality is cut to [0, 1], and tokens to what was seen of the arm, as a length below zero would earn money.
    """

    def fit(self, x: FloatArray, table: Table) -> CarrotLinearPredictor:
        cells = Cells.of(x, table)
        wide = cells.x.astype(np.float64)
        weight, bias = solve_ridge(wide, np.concatenate([cells.quality, cells.tokens], axis=1), _ALPHA)
        arms = len(table.arms)
        residual = cells.quality - (wide @ weight[:, :arms] + bias[:arms])
        columns = np.concatenate([cells.back, arms + cells.back])
        seen = ~np.isnan(cells.tokens)
        arrays = {
            "weight": weight[:, columns],
            "bias": bias[columns],
            "spread": standard_error(residual, wide.shape[1] + 1)[cells.back],
            "low": np.min(np.where(seen, cells.tokens, np.inf), axis=0, initial=np.inf)[cells.back],
            "high": np.max(np.where(seen, cells.tokens, 1.0), axis=0, initial=1.0)[cells.back],
        }
        return CarrotLinearPredictor(table.arms, arrays)


class CarrotLinearPredictor:
    """Linear heads. All arrays are float64, NaN where unknown.

    weight: (d, 2 arms), quality heads first, then token heads.
    bias: (2 arms,), in the same order.
    spread, low, high: (arms,).
    """

    kind: ClassVar[str] = "carrot-linear"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        shapes: dict[str, tuple[int | None, ...]] = {"weight": (None, 2 * n), "bias": (2 * n,)}
        check_shapes(arrays, shapes | dict.fromkeys(("spread", "low", "high"), (n,)))
        self.arms, self._arrays = arms, arrays

    def predict(self, x: FloatArray) -> Forecast:
        a, arms = self._arrays, len(self.arms)
        y = np.asarray(x, dtype=np.float64) @ a["weight"] + a["bias"]
        quality, tokens = np.clip(y[:, :arms], 0.0, 1.0), np.clip(y[:, arms:], a["low"], a["high"])
        return Forecast.of(self.arms, quality, tokens, rows_of(a["spread"], len(y)))

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))
