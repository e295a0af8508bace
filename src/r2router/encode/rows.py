"""Rows of norm 1: of vectors that are ours, and of those from code that is not, which are checked first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from r2router.errors import EncoderError
from r2router.types import FloatArray


def unit_rows(x: FloatArray) -> FloatArray:
    """Return (n, d) rows scaled to norm 1; a row of zeros stays. The type of float stays too."""
    norm = np.sqrt(np.vecdot(x, x))
    return np.asarray(x / np.maximum(norm, 1e-12)[:, None])


def checked_unit_rows(values: ArrayLike, count: int, source: str) -> FloatArray:
    """Return (count, d) float32 rows of norm 1.

    source: who made them, for the message.

    Raises `EncoderError` for another shape, values that are not finite, and rows of zeros (they point nowhere).
    """
    try:
        x: FloatArray = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"{source} gave something that is not {count} vectors of numbers of one length") from error
    if x.ndim != 2 or len(x) != count or x.shape[1] == 0:
        raise EncoderError(f"{source} gave an array of shape {x.shape} for {count} texts; expected ({count}, dim)")
    if not np.isfinite(x).all():
        raise EncoderError(f"{source} gave vectors with NaN or infinite values")
    peak: Any = np.abs(x).max(axis=1, keepdims=True)
    if (peak == 0).any():
        raise EncoderError(f"{source} gave a vector of zeros for text {int(np.argmin(peak))}")
    x = x / peak  # first, so that squaring cannot overflow or vanish
    rows: FloatArray = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return rows
