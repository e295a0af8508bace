"""Arms that cannot stand as fixed arms because a sparse table lacks them on some queries: named, and compared on what
they share.
"""

from __future__ import annotations

import numpy as np

from r2router.metrics.intervals import Z
from r2router.metrics.score import Outcomes
from r2router.text import listing

_MIN_SHARED = 20


def left_out(outcomes: Outcomes) -> list[str]:
    """Notes on the arms that were observed on too few queries to be scored as "always this one"; empty where there are
    none.
    """
    fixed, seen = outcomes.fixed_arms(), outcomes.seen
    share = seen.mean(axis=0)
    others = np.setdiff1d(np.flatnonzero(share > 0), fixed)
    if not len(others) or not len(fixed):
        return []
    best = int(fixed[np.nanargmax(np.nanmean(outcomes.quality[:, fixed], axis=0))])
    notes = [
        f"{len(others)} arms are no fixed arms here, as they were observed on less than 95 % of the queries: "
        + listing(f"{outcomes.arms[i]} ({share[i]:.0%})" for i in others[np.argsort(-share[others], kind="stable")])
    ]
    for arm in others.tolist():
        shared = seen[:, arm] & seen[:, best]
        if shared.sum() < _MIN_SHARED:
            continue
        gap = outcomes.quality[shared, arm] - outcomes.quality[shared, best]
        error = float(gap.std(ddof=1)) / np.sqrt(len(gap))
        if gap.mean() > 0:
            low, high = gap.mean() - Z * error, gap.mean() + Z * error
            notes.append(
                f"on the {len(gap):,} queries that both answered, {outcomes.arms[arm]} is {gap.mean():.3f} [{low:.3f},"
                f" {high:.3f}] better than {outcomes.arms[best]}, the best fixed arm here: routing is compared with"
                " less than the best"
            )
    return notes
