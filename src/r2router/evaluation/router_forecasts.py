"""A router's forecasts beside what really happened: what evaluation and calibration both look at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec
import numpy as np

from r2router.decide import Value
from r2router.encode import count_tokens
from r2router.errors import DataError, UsageError, expect
from r2router.figure import Figure
from r2router.metrics.calibrate import for_quality, for_spend
from r2router.metrics.crossfit import halves_of
from r2router.metrics.intervals import mean
from r2router.metrics.score import Outcomes, Routed
from r2router.router.router import Router
from r2router.table.table import ARRAYS, Table
from r2router.text import listing
from r2router.types import FloatArray, Forecast, IntArray, Progress

_BATCH = 512
_DRAWS = 200


@dataclass(frozen=True, slots=True, eq=False)
class EvaluatedTable:
    """The queries of a table that a router can be tested on.

    table: those queries on the router's arms and prices.
    rows: (n,) which of the table's queries they are.
    input_tokens: (n, arms) estimates where none were recorded.
    notes: what a reader must know.
    """

    forecast: Forecast
    outcomes: Outcomes
    table: Table
    rows: IntArray
    input_tokens: FloatArray
    notes: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """(n,) the tasks of the queries."""
        return self.table.tasks


def forecast_table(
    router: Router, table: Table, vectors: FloatArray | None = None, progress: Progress | None = None
) -> EvaluatedTable:
    """Forecasts and outcomes of a table's queries on the router's arms, with the tokens really used.

    Arms that only one of the two knows are left out, and said so. Raises `DataError` where nothing is left.
    """
    table.check_vectors(vectors)
    seen, notes = align(table, router)
    counts = count_tokens(seen.queries)
    if np.isnan(seen.input_tokens[np.isfinite(seen.output_tokens)]).any():
        notes.append("input tokens that the table does not record are estimated by the router's tokenizer")
    estimates = router.input_tokens.estimate(counts)
    outcomes = Outcomes.of(seen.arms, seen.quality, seen.cost(estimates))
    parts = []
    for at in range(0, len(seen), _BATCH):
        rows = slice(at, at + _BATCH)
        given = None if vectors is None else vectors[rows]
        parts.append(
            router.forecast(seen.queries[rows]) if given is None else router.forecast_vectors(given, counts[rows])
        )
        if progress is not None:
            progress("forecasting", min(at + _BATCH, len(seen)), len(seen))
    arrays = {
        k: np.concatenate([getattr(p, k) for p in parts]) for k in ("quality", "tokens", "spread", "familiar", "cost")
    }
    # what may not be chosen costs infinitely much, here as in `decide`
    if (usable := router.usable(counts=estimates)) is not None:
        arrays["cost"] = np.where(usable, arrays["cost"], np.inf)
    kept = np.flatnonzero((outcomes.seen & np.isfinite(arrays["quality"]) & np.isfinite(arrays["cost"])).any(axis=1))
    if not len(kept):
        known = np.isfinite(seen.quality).any()
        why = ": without output tokens (or what was paid) an answer has no cost" if known else ""
        raise DataError(f"no query of the table has an outcome on an arm that the router knows{why}")
    if len(kept) < len(seen):
        notes.append(f"{len(seen) - len(kept)} queries without any usable outcome are left out")
    return EvaluatedTable(
        Forecast(seen.arms, **{k: a[kept] for k, a in arrays.items()}),
        outcomes.take(kept),
        seen.take(kept),
        kept,
        estimates[kept],
        (*seen.notes, *notes),
    )


class Calibration(msgspec.Struct, frozen=True):
    """A policy that meets a target on a table.

    quality, cost: what it gives on the n queries that it was set on, mean quality and mean US dollars per request.
    expected: the same two on other queries of the kind, with 95 % intervals: each half is measured at what the other
        half sets. None where a half cannot meet the target.
    """

    policy: Value
    quality: float
    cost: float
    n: int
    notes: tuple[str, ...]
    expected: tuple[Figure, Figure] | None = None


def calibrate(
    router: Router,
    table: Table,
    *,
    spend: float | None = None,
    quality: float | None = None,
    vectors: FloatArray | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Return the policy that spends at most `spend` US dollars per 1,000 requests, or reaches a mean `quality`, on a
    table.

    Give exactly one of the two. `router.with_policy(found.policy)` is the router that decides so. Raises `UsageError`
    where the target is out of reach, naming what is possible, and `DataError` as `forecast_table` does.
    """
    expect("router", router, Router, "a Router: calibrate(router, table, spend=...)")
    expect("table", table, Table, "a Table: calibrate(router, table, spend=...)")
    for name, value in (("spend", spend), ("quality", quality)):
        if value is not None:
            expect(name, value, (int, float), "a number")
    if (spend is None) == (quality is None):
        raise UsageError("calibrate to either a spend or a quality: give one of the two")
    evaluated = forecast_table(router, table, vectors, progress)
    outcomes, forecast = evaluated.outcomes, evaluated.forecast
    gained, paid = np.nan_to_num(outcomes.quality), np.nan_to_num(outcomes.cost)

    def routed(rows: IntArray) -> Routed:
        return Routed.of(forecast.quality[rows], forecast.cost[rows], outcomes.take(rows))

    def policy(rows: IntArray) -> Value:
        steps = routed(rows).sweep
        return (
            for_quality(steps, gained[rows], quality)
            if quality is not None
            else for_spend(steps, paid[rows], (spend or 0.0) / 1000)
        )

    every = np.arange(len(outcomes.quality))
    found, measured = policy(every), np.full((2, len(every)), np.nan)
    arm = routed(every).sweep.at(found.usd)
    halves = [np.flatnonzero(half) for half in halves_of(outcomes, every)[:2]]
    try:
        for own, other in zip(halves, halves[::-1], strict=True):
            there = routed(own).sweep.at(policy(other).usd)
            measured[:, own] = gained[own, there], paid[own, there]
    except UsageError:
        measured[:] = np.nan
    expected = tuple(mean(name, row, _DRAWS, 0) for name, row in zip(("quality", "cost"), measured, strict=True))
    return Calibration(
        found,
        float(gained[every, arm].mean()),
        float(paid[every, arm].mean()),
        len(every),
        evaluated.notes,
        (expected[0], expected[1]) if np.isfinite(measured).all() else None,
    )


def align(table: Table, router: Router) -> tuple[Table, list[str]]:
    """Return the table with the router's arms and prices as columns, and notes on arms that only one of the two has.

    Models that are not available count as not in the table: nobody can choose them, neither the router nor what it is
    compared with.
    """
    column = {arm: i for i, arm in enumerate(table.arms)}
    source = np.array([column.get(arm, -1) for arm in router.arms])
    missing = [arm for arm, at in zip(router.arms, source, strict=True) if at < 0]
    if len(missing) == len(source):
        known = ", ".join(table.arms[:5])
        raise DataError(f"the table has none of the router's arms (it has {known}, ...): take a table of its models")
    notes = []
    if strange := [arm for arm in table.arms if arm not in router.pool.index]:
        notes.append(
            f"{len(strange)} arms of the table are unknown to the router and left out: {', '.join(strange[:6])}"
        )
    if missing:
        notes.append(f"{len(missing)} arms of the router are not in the table: {', '.join(missing[:6])}")
    off = ~router.pool.usable()
    if (off & (source >= 0)).any():
        notes.append(
            "models that are not available are left out:"
            f" {listing(m.id for m in router.pool.models if not m.available)}"
        )
    source = np.where(off, -1, source)
    if (source < 0).all():
        raise DataError(
            "all models that the table and the router share are not available: set `available = true` in the router's"
            " pool"
        )
    arrays = {}
    for name in ARRAYS:
        values = getattr(table, name)[:, source]
        values[:, source < 0] = np.nan
        arrays[name] = values
    responses = None if table.responses is None else table.responses.with_arms(source)
    return replace(table, pool=router.pool, **arrays, responses=responses), notes
