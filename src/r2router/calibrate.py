"""Setting a policy's dial to a target: what is an answer worth, so that spending or quality comes out as wished?

The dial is `Value`: the choices of a whole table are swept over all its values at once (exactly, see `frontier`), and the value is
taken where the mean outcome meets the target. Sums of real outcomes wobble, so quality is first made monotone in the value.
"""

from __future__ import annotations

import numpy as np

from r2router.decide import Value
from r2router.errors import UsageError
from r2router.frontier import Sweep
from r2router.types import FloatArray


def for_quality(choices: Sweep, quality: FloatArray, target: float) -> Value:
    """The least value at which the mean of the (n, arms) quality reaches `target`. Raises `UsageError` naming the most there is."""
    reached = isotonic(choices.totals(quality))
    if reached[-1] < target:
        raise UsageError(f"quality {target:.3g} is out of reach: on this table the router gets to {reached[-1]:.3g} at most")
    return Value(_between(choices.value, int(np.argmax(reached >= target))))


def for_spend(choices: Sweep, cost: FloatArray, usd_per_request: float) -> Value:
    """The largest value at which the mean of the (n, arms) cost stays within the target. Raises `UsageError` naming the least."""
    spent = isotonic(choices.totals(cost))
    if spent[0] > usd_per_request:
        raise UsageError(
            f"${1000 * usd_per_request:.4g} per 1,000 requests is too little: the cheapest decisions already cost ${1000 * spent[0]:.4g}"
        )
    return Value(_between(choices.value, int(np.flatnonzero(spent <= usd_per_request)[-1])))


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


def _between(values: FloatArray, steps: int) -> float:
    """A value after which exactly the first `steps` steps have been taken, in the middle of where that holds."""
    if len(values) == 0:
        return 0.0
    if steps == 0:
        return float(values[0]) / 2
    if steps == len(values):
        return float(values[-1]) * 1.0001
    return float(np.sqrt(values[steps - 1] * values[steps])) if values[steps - 1] > 0 else float(values[steps]) / 2
