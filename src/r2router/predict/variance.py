"""How much an answer's quality varies when few answers, or none, were seen."""

from __future__ import annotations

from r2router.types import FloatArray

UNKNOWN_VARIANCE = 1 / 12
"""Variance of a quality of which nothing is known: uniform on [0, 1]."""


def with_one_unknown(squares: FloatArray, seen: FloatArray | int) -> FloatArray:
    """Variance from the sum of squared errors of `seen` answers and of one more that is unknown.

    The one more keeps a few answers that happen to be equal from claiming certainty.
    """
    return (squares + UNKNOWN_VARIANCE) / (seen + 1)
