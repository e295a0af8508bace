"""Operating points: what a user gets who sets the dial to keep 90, 95 or 100 % of the best LLM's quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2router.errors import UsageError
from r2router.evaluation.contenders import EmbeddedTable, Tried
from r2router.evaluation.tables_and_plots import REQUESTS
from r2router.figure import Figure
from r2router.metrics.calibrate import for_quality
from r2router.metrics.intervals import mean
from r2router.metrics.score import Routed
from r2router.pool.pool import Pool
from r2router.report.findings import Grid, GridRow
from r2router.types import FloatArray, IntArray

SHARES = (0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class OperatingPoint:
    """One setting of the dial, averaged over the repetitions.

    share: of the best fixed arm's quality that is kept.
    quality, used, forecast, asked: mean quality, and US dollars per request by the tokens used, by those forecast, and
        by the budgets asked for (NaN where a chosen budget is no number of tokens).
    regret: US dollars a request by which the oracle at the same value of an answer does better.
    arms: (repetitions, n) what was chosen.
    """

    share: float
    quality: Figure
    used: Figure
    forecast: Figure
    asked: Figure
    regret: Figure
    arms: IntArray
    values: tuple[float, ...]


def operating_point(
    tried: Tried, data: EmbeddedTable, share: float, resamples: int, seed: int
) -> OperatingPoint | None:
    """Return the cheapest setting that keeps that share of the best fixed arm's quality on these queries; None where
    none does.
    """
    outcomes = data.outcomes
    best = float(np.nanmax(np.nanmean(outcomes.quality[:, outcomes.fixed_arms()], axis=0)))
    oracle, rows = Routed.oracle(outcomes).sweep, np.arange(len(data))
    asked = asked_cost(data.table.pool, data.input_tokens)
    parts: list[list[FloatArray]] = []
    arms, settings = [], []
    for routed, forecast in zip(tried.routed, tried.forecasts, strict=True):
        try:
            value = for_quality(routed.sweep, np.nan_to_num(outcomes.quality), share * best).usd
        except UsageError:
            return None
        arm, perfect = routed.sweep.at(value), oracle.at(value)
        quality, used = outcomes.quality[rows, arm], outcomes.cost[rows, arm]
        worth = value * (outcomes.quality[rows, perfect] - quality) - (outcomes.cost[rows, perfect] - used)
        parts.append([quality, used, forecast.cost[rows, arm], asked[rows, arm], worth])
        arms.append(arm)
        settings.append(value)
    means = np.mean(parts, axis=0)
    names = ("quality", "used", "forecast", "asked", "regret")
    figures = {name: mean(name, values, resamples, seed) for name, values in zip(names, means, strict=True)}
    return OperatingPoint(share, **figures, arms=np.array(arms), values=tuple(settings))


def asked_cost(pool: Pool, input_tokens: FloatArray) -> FloatArray:
    """Return (n, arms) US dollars if every answer had the tokens its budget asks for; NaN where a budget is no number
    of tokens.
    """
    tokens = np.array([np.nan if not b.tokens else float(b.tokens) for b in pool.budgets])
    return pool.cost(input_tokens, np.broadcast_to(tokens, input_tokens.shape))


def points_grid(points: Sequence[tuple[str, OperatingPoint | None]]) -> Grid:
    """Return what each setting gives, in dollars per 1,000 requests."""
    rows = []
    for label, point in points:
        if point is None:
            rows.append(GridRow(label, ("never reached", None, None, None, None)))
            continue
        asked = None if np.isnan(point.asked.value) else point.asked.scaled(REQUESTS)
        rows.append(
            GridRow(
                label,
                (
                    point.quality,
                    point.used.scaled(REQUESTS),
                    point.forecast.scaled(REQUESTS),
                    asked,
                    point.regret.scaled(REQUESTS),
                ),
            )
        )
    columns = ("quality", "by tokens used", "by tokens forecast", "by budget asked", "regret to the oracle")
    about = (
        "In US dollars per 1,000 requests, three ways: what the tokens used cost (which counts), what was forecast, and"
        " what it would be if answers had the tokens asked for (not available where a chosen budget is no number of"
        " tokens). Regret: how much better the oracle does for the same value of an answer. The dial is set on these"
        " very queries, without mixing settings, and intervals hold it there."
    )
    return Grid("Operating points", columns, tuple(rows), (".3f", "money", "money", "money", "money"), about=about)


def shares_grid(arms: Sequence[str], chosen: IntArray, maximum: int = 12) -> Grid:
    """Return how often each arm was chosen, the most used first, and how many arms that comes to."""
    count = np.bincount(chosen.ravel(), minlength=len(arms)) / chosen.size
    order = np.argsort(-count, kind="stable")
    rows = [GridRow(str(arms[i]), (float(count[i]),)) for i in order[:maximum] if count[i] > 0]
    used = count[count > 0]
    effective = float(np.exp(-(used * np.log(used)).sum()))
    about = (
        f"{len(used)} of {len(arms)} arms are used at all; by entropy as many as {effective:.1f} used alike. One would"
        " be a collapse."
    )
    return Grid("Which arms it uses at 95 %", ("share of decisions",), tuple(rows), ("share",), ("",), about)
