"""Linear heads: one ridge regression an arm for quality and one for log tokens, all solved at once.

Targets and embeddings are centred, so a head shrinks to its arm's mean as alpha grows; at alpha = inf the router knows
fixed arms only. Cells may be missing: arms that were observed on the same queries share one factorisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.errors import ArtifactError, ConfigError
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.predict.variance import with_one_unknown
from r2router.types import Arm, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table


class Ridge(msgspec.Struct, frozen=True, tag="ridge", tag_field="learner", forbid_unknown_fields=True):
    """Plain ridge heads in closed form.

    alpha: strength of the penalty on the squared weights, for embeddings of norm 1.
    """

    alpha: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise ConfigError(f"Ridge(alpha={self.alpha}): alpha must be a finite number above 0")

    def fit(self, x: FloatArray, table: Table) -> LinearPredictor:
        """Takes (n, d) float32, and computes one Gram matrix for each distinct set of observed queries."""
        arms = len(table.arms)
        targets = np.concatenate([table.quality, log_tokens(table.output_tokens)], axis=1)
        weight, bias = solve_ridge(x, targets, self.alpha)
        bias[arms:] += log_smearing(_forecast(x, weight[:, arms:], bias[arms:]), table.output_tokens)
        low, high = log_bounds(table.output_tokens)
        residual = table.quality - _forecast(x, weight[:, :arms], bias[:arms])
        seen = (~np.isnan(residual)).sum(axis=0)
        variance = with_one_unknown(np.nansum(residual**2, axis=0), seen)
        spread = np.where(seen, np.sqrt(variance * effective_parameters(x, self.alpha) / np.maximum(seen, 1)), np.nan)
        return LinearPredictor(table.arms, weight.astype(np.float32), bias, spread, low, high)


class LinearPredictor:
    """Stacked linear heads; one product gives every forecast.

    weight: (d, 2 arms) float32, quality heads first, then log-token heads.
    bias: (2 arms,) float64, NaN where never observed.
    spread: (arms,).
    low, high: (arms,) bounds of log tokens.
    """

    kind: ClassVar[str] = "linear"

    def __init__(
        self,
        arms: tuple[Arm, ...],
        weight: FloatArray,
        bias: FloatArray,
        spread: FloatArray,
        low: FloatArray,
        high: FloatArray,
    ) -> None:
        self.arms = arms
        self.weight = weight
        self.bias = bias
        self.spread = spread
        self.low = low
        self.high = high
        # seven digits of a length are plenty, and float32 exponentials take a third of the time
        self._length_bias, self._low, self._high = (a.astype(np.float32) for a in (bias[len(arms) :], low, high))

    def predict(self, x: FloatArray) -> Forecast:
        arms = len(self.arms)
        y = x @ self.weight
        # np.clip costs several times as much on one row
        quality = np.minimum(np.maximum(y[:, :arms] + self.bias[:arms], 0.0), 1.0)
        tokens = np.exp(np.minimum(np.maximum(y[:, arms:] + self._length_bias, self._low), self._high))
        return Forecast.of(self.arms, quality, tokens, rows_of(self.spread, len(y)))

    def arrays(self) -> dict[str, Any]:
        return {"weight": self.weight, "bias": self.bias, "spread": self.spread, "low": self.low, "high": self.high}

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        n = len(arms)
        shapes = {"weight": (None, 2 * n), "bias": (2 * n,), "spread": (n,), "low": (n,), "high": (n,)}
        check_shapes(arrays, shapes)
        return cls(arms, **{name: arrays[name] for name in shapes})


def rows_of(values: FloatArray, n: int) -> FloatArray:
    """Return (n, k) view that repeats (k,) values; like `np.broadcast_to`, which takes a tenth of a whole decision's
    time.
    """
    return np.ndarray((n, len(values)), values.dtype, values, strides=(0, values.strides[0]))


def solve_ridge(x: FloatArray, y: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray]:
    """Return (weights (d, k) float64, intercepts (k,)) of ridge regressions of each column of y (n, k) on x (n, d); NaN
    cells are left out.

    A column without any value gets weights 0 and intercept NaN.
    """
    d, k = x.shape[1], y.shape[1]
    weight, bias = np.zeros((d, k)), np.full(k, np.nan)
    seen = ~np.isnan(y)
    patterns, which = np.unique(seen.T, axis=0, return_inverse=True)
    for p, rows in enumerate(patterns):
        columns = np.flatnonzero(which.ravel() == p)
        if not rows.any():
            continue
        xs, ys = x[rows], y[np.ix_(rows, columns)]
        x_mean, y_mean = xs.mean(axis=0, dtype=np.float64), ys.mean(axis=0)
        xc = xs - x_mean.astype(x.dtype)
        yc = (ys - y_mean).astype(x.dtype)
        if len(xc) >= d:
            gram = (xc.T @ xc).astype(np.float64)
            gram[np.diag_indices(d)] += alpha
            weight[:, columns] = np.linalg.solve(gram, (xc.T @ yc).astype(np.float64))
        else:  # fewer queries than dimensions: the dual system is the smaller one
            gram = (xc @ xc.T).astype(np.float64)
            gram[np.diag_indices(len(xc))] += alpha
            weight[:, columns] = xc.T @ np.linalg.solve(gram, yc.astype(np.float64))
        bias[columns] = y_mean - x_mean @ weight[:, columns]
    return weight, bias


def effective_parameters(x: FloatArray, alpha: float) -> float:
    """Trace of the ridge's hat matrix, the intercept included: how many parameters the fit really spends."""
    xc = x - x.mean(axis=0)
    gram = xc.T @ xc if len(xc) >= x.shape[1] else xc @ xc.T
    eigenvalues = np.maximum(np.linalg.eigvalsh(gram.astype(np.float64)), 0.0)
    return float(1.0 + (eigenvalues / (eigenvalues + alpha)).sum())


def check_shapes(arrays: dict[str, Any], shapes: dict[str, tuple[int | None, ...]]) -> None:
    """Raise `ArtifactError` unless `arrays` holds exactly these names with these shapes (None: any length)."""
    if set(arrays) != set(shapes):
        raise ArtifactError(
            f"weights hold {sorted(arrays)}, expected {sorted(shapes)}: the artifact is damaged or of another kind"
        )
    for name, shape in shapes.items():
        got = arrays[name].shape
        if len(got) != len(shape) or any(
            want is not None and want != have for want, have in zip(shape, got, strict=True)
        ):
            raise ArtifactError(f"weights: {name} has shape {got}, expected {shape} (None: any)")


def _forecast(x: FloatArray, weight: FloatArray, bias: FloatArray) -> FloatArray:
    return np.asarray(x @ weight.astype(x.dtype) + bias)
