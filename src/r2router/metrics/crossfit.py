"""Mean quality over log cost that no choice on the scored outcomes can flatter.

Of the few settings of a method, those worth keeping lie on the upper envelope of their (cost, quality). Chosen on the
outcomes that score them, an envelope picks lucky points, and a router that knows nothing comes out above the fixed
arms. So what to keep is chosen on one half of the queries and scored on the other half, both ways round, for two
divisions into halves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from r2router.metrics.frontier import upper_envelope
from r2router.metrics.methods import Method, Outcomes
from r2router.types import BoolArray, FloatArray, IntArray

Path = tuple[FloatArray, FloatArray]
"""(cost, quality) of operating points; between two neighbours their mixtures."""
_MIN = 4


def halves_of(outcomes: Outcomes, rows: IntArray) -> list[BoolArray]:
    """Four halves of the queries `rows` as (n,) masks: two divisions, each half with its counterpart. None on fewer
    than four queries.

    A query's half follows from a hash of its outcomes, never from where its row stands.
    """
    if len(rows) < _MIN:
        return []
    content = np.concatenate([outcomes.quality[rows], outcomes.cost[rows]], axis=1)
    digests = [int.from_bytes(blake2b(row.tobytes(), digest_size=8).digest()) for row in content]
    place = np.argsort(np.argsort(np.array(digests, dtype=np.uint64), kind="stable"))
    found = []
    for half in (place % 2, place // 2 % 2):
        for side in (0, 1):
            mask = np.zeros(len(outcomes.quality), dtype=np.bool_)
            mask[rows[half == side]] = True
            found.append(mask)
    return found


def paths_of(method: Method, weight: FloatArray, halves: Sequence[BoolArray]) -> list[Path]:
    """Return the method's curve as each half shows it, of the settings that the other half keeps, where queries count
    `weight` times.

    A method that knows the outcomes has one, its envelope on all queries; so has any method where there are no halves.
    """
    if method.knows or not halves:
        cost, quality = method.points(weight)
        kept = upper_envelope(cost, quality)
        return [(cost[kept], quality[kept])]
    shown = []
    for half in halves:
        part = np.where(half, weight, 0.0)
        shown.append(method.points(part) if part.any() else None)
    paths = []
    for at, own in enumerate(shown):
        other = shown[at ^ 1]  # halves come in pairs
        if own is not None and other is not None:
            cost, quality = other
            # rounded, so that the order in which rows are summed decides no tie
            kept = upper_envelope(np.round(cost / max(float(np.abs(cost).max()), 1e-300), 12), np.round(quality, 12))
            paths.append((own[0][kept], own[1][kept]))
    return paths


def mean_quality(paths: Sequence[Path], low: float, high: float) -> float:
    """Mean quality over log cost from `low` to `high` US dollars along the paths, on average over them; NaN unless 0 <
    low < high.

    Before its first point a path counts that point's quality, and beyond its last one that one's. Where a setting that
    was kept for the other half costs more than the next one, the way back counts against the way there.
    """
    if not (0 < low < high and paths):
        return float("nan")
    return float(np.mean([_along(cost, quality, low, high) for cost, quality in paths])) / math.log(high / low)


def _along(cost: FloatArray, quality: FloatArray, low: float, high: float) -> float:
    """Return the integral of quality over log cost along one path, exactly: on a piece quality = a + b cost."""
    total, at, level = 0.0, low, float(quality[0])
    for to, value in zip([*cost.tolist(), high], [*quality.tolist(), float(quality[-1])], strict=True):
        left, right = min(max(at, low), high), min(max(to, low), high)
        if left != right:
            slope = (value - level) / (to - at)
            total += (level - slope * at) * math.log(right / left) + slope * (right - left)
        at, level = to, value
    return total
