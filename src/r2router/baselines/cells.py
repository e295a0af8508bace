"""The cells of a table as baselines take them: in an order of their own, with means and errors over what was
observed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from r2router.predict.variance import with_one_unknown
from r2router.types import FloatArray, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table


class Cells(NamedTuple):
    """Outcomes with queries sorted by id and arms by name, so that what is drawn at random does not depend on their
    order.

    x: (n, d) float32.
    quality, tokens: (n, arms), NaN where not observed; an empty answer counts as one token.
    back: (arms,) where each of the table's arms is; `values[..., back]` has the table's order again.
    """

    x: FloatArray
    quality: FloatArray
    tokens: FloatArray
    back: IntArray

    @classmethod
    def of(cls, x: FloatArray, table: Table) -> Cells:
        rows = np.argsort(np.array(table.query_ids), kind="stable")
        columns = np.argsort(np.array(table.arms), kind="stable")
        quality, tokens = (
            np.asarray(a[np.ix_(rows, columns)], dtype=np.float64) for a in (table.quality, table.output_tokens)
        )
        return cls(np.asarray(x, dtype=np.float32)[rows], quality, np.maximum(tokens, 1.0), np.argsort(columns))


def column_means(y: FloatArray) -> FloatArray:
    """Return (arms,) mean of the observed cells of (n, arms); NaN without any."""
    seen = ~np.isnan(y)
    return np.asarray(
        np.divide(np.nansum(y, axis=0), seen.sum(axis=0), out=np.full(y.shape[1], np.nan), where=seen.any(axis=0))
    )


def standard_error(residual: FloatArray, parameters: int) -> FloatArray:
    """Return (arms,) standard error of forecasts that spend so many parameters per arm, from (n, arms) training
    residuals; NaN without any.

    One answer more than was seen, of variance 1/12, keeps a few lucky ones from claiming certainty.
    """
    seen = (~np.isnan(residual)).sum(axis=0)
    variance = with_one_unknown(np.nansum(np.square(residual), axis=0), np.maximum(seen - parameters, 0))
    return np.where(seen > 0, np.sqrt(variance * np.minimum(parameters, seen) / np.maximum(seen, 1)), np.nan)


def with_ones(x: FloatArray) -> FloatArray:
    """Return (n, d + 1) float32: x and a column of ones, whose weights are the intercepts."""
    return np.concatenate([np.asarray(x, dtype=np.float32), np.ones((len(x), 1), np.float32)], axis=1)


def sigmoid(z: FloatArray) -> FloatArray:
    """1 / (1 + exp(-z)), without overflow."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))


def cross_entropy(z: FloatArray, target: FloatArray) -> tuple[float, int, FloatArray]:
    """Return (sum, cells, slope of their mean by z) of the binary cross-entropy of logits z and targets in [0, 1]; NaN
    targets do not count.
    """
    seen = ~np.isnan(target)
    y, cells = np.where(seen, target, 0.0).astype(z.dtype), int(seen.sum())
    loss = (np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))))[seen].sum(dtype=np.float64)
    return float(loss), cells, (sigmoid(z) - y) * seen.astype(z.dtype) / z.dtype.type(max(cells, 1))


def levels(quality: FloatArray) -> FloatArray:
    """Return (arms,) logits of the arms' mean quality, where training starts; 0 for an arm that was never observed."""
    mean = np.clip(column_means(quality), 1e-3, 1 - 1e-3)
    return np.nan_to_num(np.log(mean / (1 - mean)))
