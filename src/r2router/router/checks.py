"""What a router is asked, checked: texts, embeddings, token counts, masks, forecasts. Everything raises
`QueryError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from r2router.errors import QueryError
from r2router.types import HUGE, Arm, BoolArray, FloatArray, Forecast, NumberArray


def check_query(text: object, number: int | None) -> None:
    """Check that a query is text and not empty. Raises `QueryError`.

    number: which of several queries it is; None for the only one.
    """
    which = "the query" if number is None else f"query {number}"
    if not isinstance(text, str):
        raise QueryError(f"{which} is {type(text).__name__}, not text")
    if not text.strip():
        raise QueryError(f"{which} is empty: there is nothing to route")


def checked_texts(texts: object) -> list[str]:
    """Return one text or several, none of them empty."""
    if not isinstance(texts, (str, Iterable)) or isinstance(texts, (bytes, Mapping)):
        raise QueryError(f"the queries are {type(texts).__name__}, not text: give one text or a list of them")
    checked = [texts] if isinstance(texts, str) else list(texts)
    for number, text in enumerate(checked):
        check_query(text, number if len(checked) > 1 else None)
    return checked


def checked_counts(given: NumberArray | float, n: int, arms: int) -> FloatArray:
    """Return (n,) counts of the embedded tokenizer, or (n, arms) tokens as each model counts them."""
    if isinstance(given, (int, float)):
        if not 0 <= given < math.inf:
            raise QueryError(f"input_tokens is {given}; it must be finite and at least 0")
        return np.full(n, float(given))
    try:
        counts = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise QueryError("input_tokens must be numbers") from None
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise QueryError("input_tokens must be finite and at least 0")
    if counts.shape == (n, arms):
        return counts
    if counts.shape not in ((), (n,)):
        raise QueryError(f"input_tokens has shape {counts.shape}; expected one number, ({n},) or ({n}, {arms})")
    return np.full(n, float(counts)) if counts.ndim == 0 else counts


def checked_vectors(vectors: FloatArray, dim: int, encoder: str) -> FloatArray:
    """Return (n, dim) float32 embeddings of n queries, or of one."""
    x = vectors
    if not (isinstance(x, np.ndarray) and x.dtype == np.float32):
        try:
            with np.errstate(over="ignore"):
                x = np.asarray(vectors, dtype=np.float32)
        except (TypeError, ValueError):
            raise QueryError(f"embeddings must be numbers, {dim} for each query") from None
    if x.ndim == 1:
        x = x[None]
    if x.ndim != 2 or x.shape[1] != dim:
        raise QueryError(f"embeddings have shape {np.shape(vectors)}; this router ({encoder}) needs (n, {dim})")
    # one cheap pass: a NaN or infinity anywhere makes the product one; so may very large values, hence the second look
    with np.errstate(over="ignore", invalid="ignore"):
        doubtful = not np.vdot(x, x) <= HUGE
    if doubtful and not np.isfinite(x).all():
        raise QueryError("embeddings hold NaN or infinite values; check the encoder that made them")
    # the direction is what counts, and squares must not overflow
    if doubtful and (odd := np.abs(x).max(axis=1) > HUGE).any():
        x, large = x.copy(), x[odd].astype(np.float64)
        x[odd] = large / np.linalg.norm(large, axis=1, keepdims=True)
    return x


def check_forecast(forecast: Forecast, arms: tuple[Arm, ...]) -> None:
    """Check that a forecast is of these arms and has prices. Raises `QueryError`."""
    if forecast.arms is not arms and forecast.arms != arms:
        raise QueryError(
            "the forecast has other arms than the router: take it from router.forecast or forecast_vectors"
        )
    if forecast.cost.shape != (len(forecast), len(arms)):
        raise QueryError(
            "the forecast has no cost: take it from router.forecast or forecast_vectors, which put prices on it"
        )


def checked_mask(usable: BoolArray, shape: tuple[int, ...]) -> BoolArray:
    """Return (arms,) or (n, arms) booleans.

    shape: (n, arms).
    """
    mask = np.asarray(usable)
    if mask.dtype != np.bool_ or mask.shape not in (shape, shape[1:]):
        raise QueryError(
            f"usable is {mask.dtype} of shape {mask.shape}; expected booleans of shape {shape} or {shape[1:]}"
        )
    return mask
