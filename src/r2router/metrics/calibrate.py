"""Setting a policy's dial to a target: what is an answer worth, so that spending or quality comes out as wished?

The dial is `Value`: the choices of a whole table are swept over all its values at once (exactly, see `frontier`), and the value is
taken where the mean outcome meets the target. Sums of real outcomes wobble, so they are first made monotone in the value; what is
then met by the smoothed mean is met by the real one too, as a step of the smoothed curve begins above and ends below its own level.
"""

from __future__ import annotations

import math

import numpy as np

from r2router.decide import Value
from r2router.errors import UsageError
from r2router.metrics.frontier import Sweep
from r2router.text import money
from r2router.types import FloatArray, IntArray

LEAST_VALUE = 1e-6
"""US dollars. A value of zero would not tell a good arm from a bad one where both cost the same, such as nothing."""

_ROUNDING = 1e-9  # what sums over many queries may be off by


def for_quality(choices: Sweep, quality: FloatArray, target: float) -> Value:
    """The least value at which the mean of the (n, arms) quality reaches `target`. Raises `UsageError` naming the most there is."""
    _check("quality", target)
    stops = _stops(choices.value)
    reached = isotonic(choices.totals(quality)[stops])
    enough = reached >= target - _ROUNDING
    if not enough[-1]:
        most = math.floor(1e4 * (reached[-1] + _ROUNDING)) / 1e4
        raise UsageError(f"quality {target:.4g} is out of reach: on this table the router gets to {most:.4g} at most")
    return Value(_between(choices.value, int(stops[np.argmax(enough)])))


def for_spend(choices: Sweep, cost: FloatArray, usd_per_request: float) -> Value:
    """The largest value at which the mean of the (n, arms) cost stays within the target. Raises `UsageError` naming the least."""
    _check("US dollars a request", usd_per_request)
    stops = _stops(choices.value)
    spent = isotonic(choices.totals(cost)[stops])
    within = spent <= usd_per_request * (1 + _ROUNDING)
    if not within[0]:
        asked, least = money(1000 * usd_per_request), money(1000 * float(spent[0]), up=True)
        raise UsageError(f"{asked} per 1,000 requests is too little: the cheapest decisions already cost {least}")
    return Value(_between(choices.value, int(stops[np.flatnonzero(within)[-1]])))


def isotonic(y: FloatArray) -> FloatArray:
    """The non-decreasing sequence nearest to y in least squares (pool adjacent violators)."""
    means: list[float] = []
    counts: list[int] = []
    for value in y.tolist():
        means.append(value)
        counts.append(1)
        while len(means) > 1 and means[-2] >= means[-1]:
            merged = counts[-2] + counts[-1]
            means[-2] = (means[-2] * counts[-2] + means[-1] * counts[-1]) / merged
            counts[-2] = merged
            means.pop()
            counts.pop()
    return np.repeat(means, counts)


def _check(what: str, target: float) -> None:
    if not 0 <= target < math.inf:
        raise UsageError(f"the target is {target} ({what}); it must be a finite number of at least 0")


def _stops(values: FloatArray) -> IntArray:
    """Numbers of steps after which a value can stop: queries that step together cannot be parted."""
    apart = values[1:] > values[:-1] * (1 + _ROUNDING)
    return np.flatnonzero(np.concatenate([[True], apart, [True]])) if len(values) else np.zeros(1, dtype=np.intp)


def _between(values: FloatArray, steps: int) -> float:
    """A value after which exactly the first `steps` steps have been taken, in the middle of where that holds."""
    if len(values) == 0:
        return LEAST_VALUE
    if steps == 0:
        return float(values[0]) / 2
    if steps == len(values):
        return float(values[-1]) * 1.0001
    return float(np.sqrt(values[steps - 1]) * np.sqrt(values[steps])) if values[steps - 1] > 0 else float(values[steps]) / 2
