"""Ways to answer the same prompts: one fixed arm, a router over some arms, and the best small pool; each as the arm of
every prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.metrics.frontier import Sweep, sweep
from r2router.types import FloatArray, IntArray

LARGEST_POOL = 5
_PROMPTS_FOR_POOLS = 600  # by which pools are compared: more do not change which arms are in them
_ROUNDING = 1e-6  # of means of float32


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to answer n prompts.

    arm: (n,) the chosen arm of each.
    met: whether what was aimed at is reached by the forecasts.
    """

    name: str
    arm: IntArray
    met: bool = True


def fixed(name: str, arm: int, n: int) -> Way:
    """Return the same arm for every prompt."""
    return Way(name, np.full(n, arm, dtype=np.intp))


def cheapest(name: str, quality: FloatArray, cost: FloatArray, columns: IntArray, target: float) -> Way:
    """Return a router over some arms at the least mean cost at which the mean of the (n, arms) forecast quality reaches
    `target`.

    Where no arms reach it, the best quality there is.

    columns: (k,) the arms that may be chosen.
    """
    found = sweep(quality[:, columns], cost[:, columns])
    stops, reached = _totals(found, quality[:, columns])
    enough = reached >= target - _ROUNDING
    steps = stops[np.argmax(enough)] if enough.any() else stops[-1]
    return Way(name, columns[found.after_steps(np.array([steps]))[:, 0]], bool(enough.any()))


def best_within(name: str, quality: FloatArray, cost: FloatArray, columns: IntArray, budget: float) -> Way:
    """Return a router over some arms at the best mean quality whose mean cost stays within `budget` US dollars; else
    the cheapest there is.
    """
    found = sweep(quality[:, columns], cost[:, columns])
    stops, spent = _totals(found, cost[:, columns])
    within = np.flatnonzero(spent <= budget * (1 + _ROUNDING))
    steps = stops[within[-1]] if len(within) else stops[0]
    return Way(name, columns[found.after_steps(np.array([steps]))[:, 0]], bool(len(within)))


def small_pools(
    quality: FloatArray, cost: FloatArray, columns: IntArray, target: float, seed: int = 0
) -> list[IntArray]:
    """Return the best pools of 1, 2, ... arms, each the one before and the arm that helps it most (greedy forward
    selection).

    An arm helps where the pool's router then reaches `target` at less cost, or comes nearer to it where it does not
    reach it. Ends where no arm helps, and at `LARGEST_POOL`.
    """
    if len(quality) > _PROMPTS_FOR_POOLS:
        rows = np.random.default_rng(seed).choice(len(quality), _PROMPTS_FOR_POOLS, replace=False)
        quality, cost = quality[rows], cost[rows]
    pools, own, so_far = list[IntArray](), list[int](), (1.0, np.inf)
    while len(own) < min(LARGEST_POOL, len(columns)):
        left = [int(c) for c in columns if int(c) not in own and _everywhere(quality, cost, int(c))]
        rated = [(_worth(quality, cost, [*own, c], target), c) for c in left]
        if not rated or (own and min(rated)[0] >= so_far):
            break
        so_far, chosen = min(rated)
        own.append(chosen)
        pools.append(np.array(own, dtype=np.intp))
    return pools


def _everywhere(quality: FloatArray, cost: FloatArray, arm: int) -> bool:
    return bool(np.isfinite(quality[:, arm]).all() and np.isfinite(cost[:, arm]).all())


def _worth(quality: FloatArray, cost: FloatArray, pool: list[int], target: float) -> tuple[float, float]:
    """Return (0, mean cost) where the pool's router reaches the target, else (1, how far it stays below): the least is
    the best.
    """
    found = sweep(quality[:, pool], cost[:, pool])
    stops, reached = _totals(found, quality[:, pool])
    if reached[-1] < target - _ROUNDING:
        return 1.0, float(target - reached[-1])
    steps = int(np.argmax(reached >= target - _ROUNDING))
    return 0.0, float(found.totals(cost[:, pool])[stops[steps]])


def _totals(found: Sweep, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return (numbers of steps after which it can stop, the mean of (n, k) values there)."""
    return found.stops, found.totals(values)[found.stops]
