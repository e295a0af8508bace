"""Are forecasts to be used at all, or the arms' means? Judged by decisions on queries that the fit left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from r2router.metrics.frontier import area_over_log_cost, sweep
from r2router.types import FloatArray, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_SHUFFLES = 20
_MIN_QUERIES = 10


def passes_permutation_test(
    shifts: tuple[FloatArray, FloatArray],
    scored: IntArray,
    outcomes: tuple[FloatArray, FloatArray],
    table: Table,
    seed: int,
) -> bool:
    """Do left-out forecasts decide better than arm means, and better than forecasts that were dealt to the wrong
    queries?

    shifts: (scored, arms) left-out forecasts of quality and log tokens, less the arms' means, of the table's rows
        `scored`.
    outcomes: (n, arms) quality and log tokens without gaps. Better is a higher mean quality over log cost.
    """
    y, log_length = outcomes
    if (
        len(y) < _MIN_QUERIES
        or not any(shift.any() for shift in shifts)
        or any(m.usd_per_million is None for m in table.pool.models)
    ):
        return False
    inputs = np.nan_to_num(table.input_tokens[scored])
    known = np.isfinite(y).all(axis=0) & np.isfinite(log_length).all(axis=0)
    cost = table.pool.cost(inputs, np.exp(log_length[scored]))[:, known]
    mean_cost = cost.mean(axis=0)
    low, high = float(mean_cost.min(initial=np.inf)), float(mean_cost.max(initial=0.0))
    if not 0 < low < high:
        return False
    mean_quality, mean_length = y.mean(axis=0), log_length.mean(axis=0)
    tokens = np.exp(log_length[scored]).mean(axis=0)

    def area(rows: IntArray | None) -> float:
        shift_q, shift_t = (np.zeros_like(s) if rows is None else s[rows] for s in shifts)
        lengths = np.exp(mean_length + shift_t)
        lengths *= tokens / lengths.mean(axis=0)
        steps = sweep((mean_quality + shift_q)[:, known], table.pool.cost(inputs, lengths)[:, known])
        at = steps.stops  # queries of the same forecast change together, whatever the order of their rows
        return area_over_log_cost(steps.totals(cost)[at], steps.totals(y[scored][:, known])[at], low, high)

    rows = np.arange(len(scored))
    ours = area(rows)
    if ours <= area(None):
        return False
    rng = np.random.default_rng(seed)
    dealt = np.array([area(rng.permutation(rows)) for _ in range(_SHUFFLES)])
    return bool(ours > dealt.mean() + 2 * dealt.std())
