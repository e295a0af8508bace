"""What a router is worth on a source of queries that it was not trained on: each file of a sparse table is left out in
turn.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from r2router.figure import Figure
from r2router.metrics.by_task import MIN_QUERIES, gaps
from r2router.metrics.methods import Means, Outcomes
from r2router.predict import Learner
from r2router.router.recipe import Recipe
from r2router.table.table import Table
from r2router.types import FloatArray, Progress


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One source.

    over_mixture: mean over its tasks of the router's mean quality over log cost, less that of the mixture of fixed arms
        that all other sources choose.
    unfamiliar: share of its queries that got the safe choice.
    """

    source: str
    queries: int
    tasks: int
    over_mixture: Figure
    unfamiliar: float


def sources_left_out(
    table: Table,
    x: FloatArray,
    learner: Learner,
    *,
    resamples: int,
    seed: int,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
) -> tuple[LeftOut, ...]:
    """Train on all other sources, decide on each; sources with too little to compare are not among them.

    x: (n, d) embeddings of the table's queries.
    only: names of the sources that are left out in turn; by default all.
    """
    found = list[LeftOut]()
    if table.source_of is None:
        return ()
    for number, (name, _) in enumerate(table.sources):
        if progress is not None:
            progress("leaving out sources", number, len(table.sources))
        own = table.source_of == number
        if int(own.sum()) < MIN_QUERIES or own.all() or (only is not None and name not in only):
            continue
        rest, asked = table.take(np.flatnonzero(~own)), table.take(np.flatnonzero(own))
        router = Recipe(learner=learner, folds=0, digest=False, seed=seed).fit(rest, x[~own])
        forecast = router.forecast_vectors(x[own])
        inputs = np.nan_to_num(asked.input_tokens)
        means = Means(*(np.tile(v, (len(asked), 1)) for v in (router.prior_quality, router.prior_tokens)))
        means = Means(means.quality, asked.pool.cost(inputs, means.cost))
        outcomes = Outcomes.of(asked.arms, asked.quality, asked.cost())
        gap = gaps(
            asked.tasks, forecast.quality, asked.pool.cost(inputs, forecast.tokens), outcomes, means, resamples, seed
        )
        if gap.tasks:
            found.append(LeftOut(name, len(asked), len(gap.tasks), gap.mean, float(1 - forecast.familiar.mean())))
    return tuple(found)
