"""What a way of choosing would have bought: a full table is revealed cell by cell, at its recorded cost, as if it were
unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from r2router.bench.adaptive import RoundState, Settings, asking_order, next_round
from r2router.errors import DataError
from r2router.table.table import ARRAYS, Table
from r2router.types import BoolArray, FloatArray, IntArray

Simple = Literal["cells", "queries", "coarse"]
"""Random cells; random queries with all their arms; the ends and the middle of each model's budgets first, on random
queries.
"""

_ENOUGH = 0.99  # of a sum: what is left buys less than a round is worth


@dataclass(frozen=True, slots=True, eq=False)
class ReplayedCollection:
    """What a replayed collection bought.

    usd: US dollars that were spent.
    seen: (n, arms) the cells that they bought.
    """

    usd: float
    seen: BoolArray


def replay(
    table: Table,
    vectors: FloatArray,
    input_tokens: FloatArray,
    budgets_usd: Sequence[float],
    strategy: Simple | Settings,
    seed: int = 0,
) -> list[ReplayedCollection]:
    """Return what each budget, in rising order, buys. No budget is ever exceeded.

    vectors: (n, d) embeddings.
    input_tokens: (n, arms) estimates where the table has none.
    strategy: a simple one, with `seed`, or settings of the adaptive one, with their own; a budget then ends a round
        that would go beyond it. Cells that the table does not have cannot be asked.

    Raises `DataError`.
    """
    if list(budgets_usd) != sorted(budgets_usd):
        raise DataError("budgets_usd must rise: what a smaller one has bought, a larger one has too")
    cost = table.cost(input_tokens)
    cost = np.where(np.isnan(table.quality), np.nan, cost)
    if isinstance(strategy, Settings):
        return _adaptive(table, vectors, input_tokens, cost, budgets_usd, strategy)
    cells = _cells(table, cost, strategy, seed)
    total = np.cumsum(cost[cells[:, 0], cells[:, 1]])
    found = []
    for budget in budgets_usd:
        upto = int(np.searchsorted(total, budget, side="right"))
        seen = np.zeros(cost.shape, dtype=np.bool_)
        seen[cells[:upto, 0], cells[:upto, 1]] = True
        found.append(ReplayedCollection(float(total[upto - 1]) if upto else 0.0, seen))
    return found


def hide(table: Table, seen: BoolArray) -> Table:
    """Return the table with NaN wherever a cell is not seen."""
    columns: dict[str, Any] = {name: np.where(seen, getattr(table, name), np.nan) for name in ARRAYS}
    return replace(table, **columns)


def _cells(table: Table, cost: FloatArray, strategy: Simple, seed: int) -> IntArray:
    """Return (cells, 2) all (query, arm) that there are, in the order of a simple strategy."""
    rng = np.random.default_rng(seed)
    cells = np.argwhere(~np.isnan(cost))
    if strategy == "cells":
        return rng.permutation(cells)
    place = rng.permutation(len(table))[cells[:, 0]]
    late = np.zeros(len(cells)) if strategy == "queries" else ~_coarse(table)[cells[:, 1]]
    return cells[np.lexsort((cells[:, 1], place, late))]


def _coarse(table: Table) -> BoolArray:
    """Return (arms,) the first, the middle and the last budget of each model."""
    keep = np.zeros(len(table.arms), dtype=np.bool_)
    for model in range(len(table.pool.models)):
        arms = np.flatnonzero(table.pool.model_of_arm == model)
        keep[arms[[0, len(arms) // 2, -1]]] = True
    return keep


def _adaptive(
    table: Table,
    vectors: FloatArray,
    input_tokens: FloatArray,
    cost: FloatArray,
    budgets_usd: Sequence[float],
    settings: Settings,
) -> list[ReplayedCollection]:
    askable, arms = ~np.isnan(cost), np.arange(len(table.arms))
    seen = np.zeros_like(askable)
    spent = 0.0
    order = asking_order(table.tasks, settings.seed)
    found, under_way = list[ReplayedCollection](), cast(IntArray, np.empty((0, 2), dtype=np.intp))
    for budget in budgets_usd:
        while spent < _ENOUGH * budget:
            if not len(under_way):
                usd = _mean_cost(np.where(seen, cost, np.nan))
                known = RoundState(hide(table, seen), vectors, input_tokens, arms, seen.copy(), askable, usd, order)
                under_way = next_round(known, spent, budget, settings)
            total = spent + np.cumsum(cost[under_way[:, 0], under_way[:, 1]])
            upto = int(np.searchsorted(total, budget, side="right"))
            if not upto:
                break
            seen[under_way[:upto, 0], under_way[:upto, 1]] = True
            spent, under_way = float(total[upto - 1]), under_way[upto:]
        found.append(ReplayedCollection(spent, seen.copy()))
    return found


def _mean_cost(cost: FloatArray) -> FloatArray:
    """Return (arms,) the mean of what was paid; for an arm not asked yet, that of the most expensive."""
    known = ~np.isnan(cost)
    mean = np.where(known, cost, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0), mean, mean.max(initial=0.0))
