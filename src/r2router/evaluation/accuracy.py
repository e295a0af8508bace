"""How good are the forecasts themselves, apart from the decisions made on them? And did the models keep to their
budgets?
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2router.figure import Figure
from r2router.metrics.intervals import interval, share, weights
from r2router.metrics.score import Outcomes
from r2router.table.table import Table
from r2router.types import Arm, FloatArray, Forecast

BINS = 10
NAMES = ("ece", "rmse", "token_factor", "token_bias")
"""ece: expected calibration error of quality, over all (query, arm) cells in ten bins of forecasts, as equally filled
as they can be: mean over cells of |mean forecast - mean outcome| of their bin. rmse: root mean square error of quality.
token_factor: exp of the mean |log(forecast tokens / used tokens)|: forecasts are typically off by this factor.
token_bias: tokens forecast over tokens used, in total.
"""
COMPLIES = 1.1
"""An answer keeps to its budget when it has at most so many times the tokens (the paper's compliance)."""


def accuracy(
    forecasts: Sequence[Forecast], outcomes: Outcomes, tokens: FloatArray, resamples: int, seed: int
) -> dict[str, Figure]:
    """Return the figures of `NAMES`, averaged over repeated forecasts, with 95 % intervals by bootstrap over queries.

    tokens: (n, arms) output tokens used. Cells that were not observed, or that a forecast leaves out, do not count.
    """
    n = len(outcomes.quality)
    sums = [_sums(forecast, outcomes.quality, tokens) for forecast in forecasts]
    values = np.array([np.mean([_figures(part, w) for part in sums], axis=0) for w in weights(n, resamples, seed)])
    return {name: interval(name, values[0, i], values[1:, i], n) for i, name in enumerate(NAMES)}


def _sums(forecast: Forecast, quality: FloatArray, tokens: FloatArray) -> tuple[FloatArray, ...]:
    """Return what the figures are made of, summed for each query, so that a bootstrap need not look at cells again."""
    seen = ~np.isnan(forecast.quality) & ~np.isnan(quality)
    edges = np.quantile(forecast.quality[seen], np.linspace(0, 1, BINS + 1)[1:-1]) if seen.any() else np.empty(0)
    cell = np.searchsorted(edges, np.where(seen, forecast.quality, 0.0), side="right")
    off = np.where(seen, forecast.quality - quality, 0.0)
    gap = np.stack([np.where(cell == b, off, 0.0).sum(axis=1) for b in range(BINS)], axis=1)
    known = ~np.isnan(forecast.tokens) & ~np.isnan(tokens) & (tokens >= 1)
    made, used = np.where(known, forecast.tokens, 1.0), np.where(known, tokens, 1.0)
    per_query = [seen.sum(axis=1), (off**2).sum(axis=1), known.sum(axis=1), np.abs(np.log(made / used)).sum(axis=1)]
    totals = [np.where(known, made, 0.0).sum(axis=1), np.where(known, used, 0.0).sum(axis=1)]
    return gap, *(np.asarray(a, dtype=np.float64) for a in (*per_query, *totals))


def _figures(sums: tuple[FloatArray, ...], weight: FloatArray) -> list[float]:
    gap, cells, square, known, log_off, made, used = (weight @ a for a in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        return [np.abs(gap).sum() / cells, np.sqrt(square / cells), np.exp(log_off / known), made / used]


def compliance(table: Table) -> list[tuple[Arm, Figure]]:
    """Measure, for each arm with a budget in tokens, the share of answers that keep to it, with a Wilson 95 % interval.

    An arm that was never observed has no figure. Thinking counts where the source's output tokens include it. A cell
    with fewer than one used token is not an answer and does not count; `skipped` says how many there are.
    """
    found = []
    for column, (arm, budget) in enumerate(zip(table.arms, table.pool.budgets, strict=True)):
        used = table.output_tokens[:, column]
        used = used[used >= 1]
        if not budget.tokens or not len(used):
            continue
        found.append((arm, share("compliance", float((used <= COMPLIES * budget.tokens).mean()), len(used))))
    return found


def skipped(table: Table) -> list[str]:
    """Return a note on cells with fewer than one used token, which count neither in compliance nor in the error of
    tokens.
    """
    few = int((table.output_tokens < 1).sum())
    return (
        [f"{few:,} cells with fewer than one used token are left out of compliance and of the error of tokens"]
        if few
        else []
    )
