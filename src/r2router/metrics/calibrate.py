"""Setting a policy's dial to a target: what is an answer worth, so that spending or quality comes out as wished?

The dial is `Value`: the choices of a whole table are swept over all its values at once (exactly, see `frontier`), and
the value is taken where the mean outcome meets the target. Sums of real outcomes wobble, so they are first made
monotone in the value; what is then met by the smoothed mean is met by the real one too, as a step of the smoothed curve
begins above and ends below its own level.
"""

from __future__ import annotations

import math

import numpy as np

from r2router.decide import Value
from r2router.errors import UsageError
from r2router.metrics.frontier import Sweep
from r2router.text import money
from r2router.types import FloatArray

MIN_VALUE = 1e-6
"""US dollars. A value of zero would not tell a good arm from a bad one where both cost the same, such as nothing."""

_SURE = 1.645  # standard errors to the lower limit of a one-sided 95 % confidence interval
_ROUNDING = 1e-9  # what sums over many queries may be off by


def for_quality(choices: Sweep, quality: FloatArray, target: float) -> Value:
    """Return the lowest value at which the mean of the (n, arms) quality reaches `target`. Raises `UsageError` naming
    the highest there is.
    """
    _check("quality", target)
    stops = choices.stops
    reached = isotonic(choices.totals(quality)[stops])
    enough = reached >= target - _ROUNDING
    if not enough[-1]:
        maximum = math.floor(1e4 * (reached[-1] + _ROUNDING)) / 1e4
        raise UsageError(
            f"quality {target:.4g} cannot be reached: on this table the router reaches {maximum:.4g} at most"
        )
    return Value(_between(choices.value, int(stops[np.argmax(enough)])))


def for_share(choices: Sweep, gain: FloatArray, cost: FloatArray, maximum: float) -> tuple[Value, bool]:
    """Return the lowest value at which the mean of the (n, arms) gain is surely at least 0, and whether that is sure.

    Sure is what the lower limit of a one-sided 95 % confidence interval reaches, so that it holds for other queries of
    the kind too and not in every second sample of them. Where no value is so sure, or the mean (n, arms) cost would
    then exceed `maximum` US dollars per request, it is the lowest value at which the mean itself reaches 0. Raises
    `UsageError` where none does.
    """
    stops, n = choices.stops, len(gain)
    mean, square = (choices.totals(a)[stops] for a in (gain, gain**2))
    error = np.sqrt(np.maximum(square - mean**2, 0.0) / max(n - 1, 1))
    for sure in (True, False):
        enough = isotonic(mean - sure * _SURE * error) >= -_ROUNDING
        steps = int(stops[np.argmax(enough)])
        if enough[-1] and (not sure or choices.totals(cost)[steps] <= maximum):
            return Value(_between(choices.value, steps)), sure
    raise UsageError("no policy keeps that share of the best fixed arm's quality, not even on average")


def for_spend(choices: Sweep, cost: FloatArray, usd_per_request: float) -> Value:
    """Return the largest value at which the mean of the (n, arms) cost stays within the target. Raises `UsageError`
    naming the lowest.
    """
    _check("US dollars per request", usd_per_request)
    stops = choices.stops
    spent = isotonic(choices.totals(cost)[stops])
    within = spent <= usd_per_request * (1 + _ROUNDING)
    if not within[0]:
        asked, minimum = money(1000 * usd_per_request), money(1000 * float(spent[0]), up=True)
        raise UsageError(f"{asked} per 1,000 requests is too little: the cheapest decisions already cost {minimum}")
    return Value(_between(choices.value, int(stops[np.flatnonzero(within)[-1]])))


def isotonic(y: FloatArray) -> FloatArray:
    """Return the non-decreasing sequence nearest to y in least squares (pool adjacent violators)."""
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


def _between(values: FloatArray, steps: int) -> float:
    """Return a value after which exactly the first `steps` steps have been taken, in the middle of where that holds."""
    if len(values) == 0:
        return MIN_VALUE
    if steps == 0:
        return float(values[0]) / 2
    if steps == len(values):
        return float(values[-1]) * 1.0001
    return (
        float(np.sqrt(values[steps - 1]) * np.sqrt(values[steps]))
        if values[steps - 1] > 0
        else float(values[steps]) / 2
    )
