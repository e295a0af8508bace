"""What a router of a sparse table is measured against: on each task, the best of the arms that were seen there.

No arm was seen everywhere, and means of different tasks are not compared. So a query's reference is the arm that is
best on its task among those that were seen on nearly all of the task's queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2router.metrics.score import Outcomes
from r2router.types import FloatArray, IntArray

_MOSTLY = 0.9
_MAX_QUERIES = 300  # of a task, so that a source of many queries does not decide for all


def is_sparse(outcomes: Outcomes) -> bool:
    """Return whether no arm was seen on nearly every query, so that there is no fixed arm to compare with."""
    return not len(outcomes.fixed_arms())


def task_references(tasks: Sequence[str], outcomes: Outcomes, seed: int) -> tuple[IntArray, FloatArray, float]:
    """Return ((m,) queries that have a reference, (m,) its quality on each, its mean cost in US dollars).

    tasks: (n,) of the outcomes' queries; at most 300 of each are taken.
    """
    labels, rng = np.array(tasks), np.random.default_rng(seed)
    chosen, quality, cost = list[IntArray](), list[FloatArray](), list[FloatArray]()
    for task in sorted(set(tasks)):
        rows = np.flatnonzero(labels == task)
        rows = rows[outcomes.seen[rows].any(axis=1)]
        arms = np.flatnonzero(outcomes.seen[rows].mean(axis=0) >= _MOSTLY) if len(rows) else rows
        if not len(arms):
            continue
        there = outcomes.quality[np.ix_(rows, arms)]
        best = arms[int(np.nanmean(there, axis=0).argmax())]
        taken = np.sort(rng.permutation(rows)[:_MAX_QUERIES])
        chosen.append(taken)
        for found, values in ((quality, outcomes.quality), (cost, outcomes.cost)):
            own = values[taken, best]
            known = own[np.isfinite(own)]
            found.append(np.where(np.isfinite(own), own, known.mean() if len(known) else np.nan))
    if not chosen:
        return np.empty(0, dtype=np.intp), np.empty(0), np.nan
    spent = np.concatenate(cost)
    return (
        np.concatenate(chosen),
        np.concatenate(quality),
        float(np.nanmean(spent)) if np.isfinite(spent).any() else np.nan,
    )
