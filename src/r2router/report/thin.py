"""Fewer points for the same picture."""

from __future__ import annotations

import heapq

import numpy as np

from r2router.types import FloatArray, IntArray


def thin(x: FloatArray, y: FloatArray, tolerance: float = 0.3, maximum: int = 400) -> IntArray:
    """Indices of the points that a line needs, so that no other is further than `tolerance` (in the units of x and y)
    from it.

    Both ends stay. Of a line that would need more than `maximum` points, those are kept that matter most. The
    Ramer-Douglas-Peucker algorithm, the worst stretch first: it is split at the point that is furthest from its chord.
    """
    kept = [0, len(x) - 1] if len(x) > 1 else [0]
    worst = [_furthest(x, y, 0, len(x) - 1)]
    while len(kept) < maximum and -worst[0][0] > tolerance:
        _, first, far, last = heapq.heappop(worst)
        kept.append(far)
        heapq.heappush(worst, _furthest(x, y, first, far))
        heapq.heappush(worst, _furthest(x, y, far, last))
    return np.sort(np.array(kept, dtype=np.intp))


def _furthest(x: FloatArray, y: FloatArray, first: int, last: int) -> tuple[float, int, int, int]:
    """Return (minus the distance, first, index, last) of the point of a stretch that is furthest from the chord between
    its ends.
    """
    if last - first < 2:
        return 0.0, first, first, last
    px, py = x[first : last + 1] - x[first], y[first : last + 1] - y[first]
    dx, dy = px[-1], py[-1]
    length = dx * dx + dy * dy
    along = np.minimum(np.maximum((px * dx + py * dy) / length, 0.0), 1.0) if length > 0 else np.zeros(len(px))
    away = np.hypot(px - along * dx, py - along * dy)
    far = int(away.argmax())
    return -float(away[far]), first, first + far, last
