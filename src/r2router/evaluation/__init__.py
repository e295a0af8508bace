"""Is routing worth it on this table? `evaluate` answers with figures, intervals and the arms to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from r2router.card import Figure, policy_words
from r2router.decide import NO_ARM, AnyPolicy, decide
from r2router.encode import count_tokens
from r2router.errors import DataError
from r2router.evaluation.report import Report, TaskLine
from r2router.router import Router
from r2router.score import Comparison, Outcomes, compare, methods
from r2router.table import ARRAYS, Table
from r2router.types import FloatArray, Forecast

Progress = Callable[[str, int, int], None]


def evaluate(
    router: Router,
    table: Table,
    *,
    vectors: FloatArray | None = None,
    resamples: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Score a router on outcomes it was not trained on.

    table: any arms; those that the router does not know are left out (and said so), those it knows and the table lacks count as not
    observed. vectors: (n, d) embeddings of the table's queries, where they exist. resamples: bootstrap draws behind the intervals.

    The router, the best fixed arm, the best mixture of fixed arms, the same forecasts with one budget an LLM, and the oracle are
    scored on the same queries with the tokens really used; see `r2router.score` for what each figure is.
    Raises `DataError` where nothing can be compared.
    """
    seen, notes = align(table, router)
    counts = count_tokens(seen.queries)
    estimates = router.input_tokens.estimate(counts)
    if np.isnan(seen.input_tokens[np.isfinite(seen.output_tokens)]).any():
        notes.append("input tokens that the table does not record are estimated by the router's tokenizer")
    outcomes = Outcomes.of(seen.arms, seen.quality, seen.cost(estimates))
    if progress is not None:
        progress("forecasting", 0, 1)
    forecast = _in_batches(router, seen, counts, vectors)
    kept = np.flatnonzero((outcomes.seen & np.isfinite(forecast.quality) & np.isfinite(forecast.cost)).any(axis=1))
    if not len(kept):
        raise DataError("no query of the table has an outcome on an arm that the router knows")
    if len(kept) < len(seen):
        notes.append(f"{len(seen) - len(kept)} queries without any usable outcome are left out")
    outcomes = Outcomes(outcomes.arms, outcomes.quality[kept], outcomes.cost[kept])
    forecast = msgspec.structs.replace(
        forecast, **{k: getattr(forecast, k)[kept] for k in ("quality", "tokens", "spread", "familiar", "cost")}
    )
    tasks = [seen.tasks[i] for i in kept]
    if not len(outcomes.fixed_arms()):
        raise DataError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
    if progress is not None:
        progress("scoring", 0, 1)
    found = methods(outcomes, forecast.quality, forecast.cost)
    comparison = compare(found, outcomes, resamples, seed)
    return Report(
        queries=len(kept),
        arms=seen.arms,
        comparison=comparison,
        own_policy=policy_words(router.policy),
        own=_own_point(router, forecast, outcomes, resamples, seed),
        shares=_shares(router, forecast, outcomes),
        tasks=_by_task(tasks, outcomes, forecast, resamples, seed),
        unfamiliar=float(1 - forecast.familiar.mean()),
        sources=table.sources,
        seed=seed,
        resamples=resamples,
        notes=(*seen.notes, *notes),
    )


def align(table: Table, router: Router) -> tuple[Table, list[str]]:
    """The table with the router's arms and prices as columns, and notes on arms that only one of the two has."""
    column = {arm: i for i, arm in enumerate(table.arms)}
    source = np.array([column.get(arm, -1) for arm in router.arms])
    missing = [arm for arm, at in zip(router.arms, source, strict=True) if at < 0]
    if len(missing) == len(source):
        raise DataError(
            f"the table has none of the router's arms (it has {', '.join(table.arms[:5])}, ...): evaluate on a table of its models"
        )
    notes = []
    if strange := [arm for arm in table.arms if arm not in router.pool.index]:
        notes.append(f"{len(strange)} arms of the table are unknown to the router and left out: {', '.join(strange[:6])}")
    if missing:
        notes.append(f"{len(missing)} arms of the router are not in the table: {', '.join(missing[:6])}")
    arrays = {}
    for name in ARRAYS:
        values = getattr(table, name)[:, source]
        values[:, source < 0] = np.nan
        arrays[name] = values
    return replace(table, pool=router.pool, **arrays), notes


def _in_batches(router: Router, table: Table, counts: Any, vectors: FloatArray | None, size: int = 4096) -> Forecast:
    parts = []
    for at in range(0, len(table), size):
        rows = slice(at, at + size)
        if vectors is None:
            parts.append(router.forecast(table.queries[rows]))
        else:
            parts.append(router.forecast_vectors(vectors[rows], counts[rows]))
    arrays = {k: np.concatenate([getattr(p, k) for p in parts]) for k in ("quality", "tokens", "spread", "familiar", "cost")}
    return Forecast(table.arms, **arrays)


def _own_point(router: Router, forecast: Forecast, outcomes: Outcomes, resamples: int, seed: int) -> tuple[Figure, Figure]:
    """Mean quality and cost of the router's own policy."""
    choice = _choose(router.policy, forecast, outcomes)
    chosen = choice != NO_ARM
    rows = np.flatnonzero(chosen)
    quality, cost = outcomes.quality[rows, choice[rows]], outcomes.cost[rows, choice[rows]]
    return _mean("quality", quality, resamples, seed), _mean("cost", cost, resamples, seed)


def _choose(policy: AnyPolicy, forecast: Forecast, outcomes: Outcomes) -> Any:
    arms = len(outcomes.arms)
    return decide(policy, forecast, outcomes.seen, np.full(arms, np.nan), np.empty((0, 2), dtype=np.intp)).arm


def _shares(router: Router, forecast: Forecast, outcomes: Outcomes) -> tuple[tuple[str, float], ...]:
    """(arm, share of decisions) under the router's own policy, the most used first."""
    choice = _choose(router.policy, forecast, outcomes)
    count = np.bincount(choice[choice != NO_ARM], minlength=len(outcomes.arms))
    order = np.argsort(-count, kind="stable")
    return tuple((str(outcomes.arms[i]), float(count[i] / max(count.sum(), 1))) for i in order if count[i])


def _by_task(tasks: list[str], outcomes: Outcomes, forecast: Forecast, resamples: int, seed: int) -> tuple[TaskLine, ...]:
    names = sorted(set(tasks))
    if len(names) < 2:
        return ()
    lines = []
    for name in names:
        rows = np.flatnonzero(np.array(tasks) == name)
        part = Outcomes(outcomes.arms, outcomes.quality[rows], outcomes.cost[rows])
        if not len(part.fixed_arms()):
            lines.append(TaskLine(name, len(rows), None))
            continue
        found = methods(part, forecast.quality[rows], forecast.cost[rows])
        result: Comparison = compare({k: found[k] for k in ("router", "fixed", "oracle")}, part, min(resamples, 200), seed)
        lines.append(TaskLine(name, len(rows), result))
    return tuple(lines)


def _mean(name: str, values: FloatArray, resamples: int, seed: int) -> Figure:
    rng = np.random.default_rng(seed)
    draws = [float(values[rng.integers(len(values), size=len(values))].mean()) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    return Figure(name, float(values.mean()), float(low), float(high), len(values))
