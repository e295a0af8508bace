"""Is routing worth it on this table? `evaluate` answers with figures, intervals and the arms to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2router.decide import NO_ARM, AnyPolicy, Value, decide
from r2router.encode import load_encoder
from r2router.errors import DataError
from r2router.evaluation.accuracy import accuracy, compliance
from r2router.evaluation.baselines import fit_baselines, noise_lines
from r2router.evaluation.contenders import Tried, embed
from r2router.evaluation.experiment import failures, few
from r2router.evaluation.operating_points import asked_cost
from r2router.evaluation.report import Report, TaskLine
from r2router.evaluation.router_forecasts import Judged, judge
from r2router.evaluation.router_forecasts import calibrate as calibrate
from r2router.evaluation.tables_and_plots import LEAST_QUERIES
from r2router.figure import Figure
from r2router.metrics.score import Comparison, Means, Method, Outcomes, Routed, compare, methods
from r2router.router.card import policy_words
from r2router.router.router import Router
from r2router.table.table import Table
from r2router.types import FloatArray, Forecast, Progress


def evaluate(  # noqa: PLR0913 - what is asked for, by name
    router: Router,
    table: Table,
    *,
    vectors: FloatArray | None = None,
    baselines: bool = False,
    train: Table | None = None,
    noise: bool = False,
    resamples: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report:
    """Score a router on outcomes it was not trained on.

    table: any arms; those that the router does not know are left out (and said so), those it knows and the table lacks count as not
    observed. vectors: (n, d) embeddings of the table's queries, where they exist. baselines: fit the published routers too, on `train`
    (outcomes of the same arms), or else by five-fold cross-validation on the table itself. noise: also count the decisions that stay
    when the queries are typed in another way, for which they are embedded four times more. resamples: bootstrap draws.

    The router, the best fixed arm, the mixture of fixed arms that the router's training outcomes choose and the one that knows these
    outcomes, the same forecasts with one budget per LLM, and the oracle are scored on the same queries with the tokens really used;
    see `r2router.metrics.score` for what each figure is. The verdict is against the mixture that the training outcomes choose.
    Raises `DataError` where nothing can be compared.
    """
    if baselines and vectors is None:
        vectors = embed(load_encoder(router.encoder), table.queries, progress)
    judged = judge(router, table, vectors, progress)
    outcomes, forecast = judged.outcomes, judged.forecast
    if not len(outcomes.fixed_arms()):
        raise DataError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
    if progress is not None:
        progress("scoring", 0, 1)
    means = _means(router, judged)
    found: dict[str, Method | Sequence[Method]] = {**methods(outcomes, forecast.quality, forecast.cost, means)}
    tried = fit_baselines(router, judged, train, vectors, seed, progress) if baselines and vectors is not None else []
    found |= {t.contender.name: t.routed for t in tried if not t.failed}
    comparison = compare(found, outcomes, resamples, seed)
    return Report(
        queries=len(judged.tasks),
        arms=router.arms,
        fixed_arms=tuple(str(outcomes.arms[i]) for i in outcomes.fixed_arms()),
        comparison=comparison,
        own_policy=policy_words(router.policy),
        own=_own_point(router, forecast, outcomes, resamples, seed),
        own_costs=_own_costs(router, judged, resamples, seed),
        shares=_shares(router, forecast, outcomes),
        tasks=_by_task(judged, means, resamples, seed),
        unfamiliar=float(1 - forecast.familiar.mean()),
        sources=table.sources,
        seed=seed,
        resamples=resamples,
        notes=(*judged.notes, *few(len(judged.tasks)), *failures(tried), *_how_fitted(tried, train)),
        accuracy=accuracy([forecast], outcomes, judged.table.output_tokens, min(resamples, 200), seed),
        compliance=tuple((str(arm), figure) for arm, figure in compliance(judged.table)),
        regret=_regret(router, forecast, outcomes, resamples, seed),
        noise=tuple(noise_lines(router, judged, resamples, seed, progress)) if noise else (),
        simulated=table.simulated,
        trained_on=trained_on(router, table),
    )


def _means(router: Router, judged: Judged) -> Means | None:
    """What the router's training outcomes say of each arm, whatever the query; None where it knows of none that could be scored."""
    cost = router.pool.cost(judged.input_tokens.mean(axis=0, keepdims=True), router.prior_tokens[None])[0]
    known = np.isfinite(router.prior_quality) & np.isfinite(cost)
    return Means(router.prior_quality, cost) if (judged.outcomes.seen & known).any(axis=1).all() else None


def _how_fitted(tried: Sequence[Tried], train: Table | None) -> list[str]:
    if not tried:
        return []
    how = "by five-fold cross-validation on these very queries, each forecast without itself" if train is None else "on the training table"
    return [f"the baselines are fitted {how}; those of one budget an LLM have each LLM at its best budget there"]


def _regret(router: Router, forecast: Forecast, outcomes: Outcomes, resamples: int, seed: int) -> Figure | None:
    """US dollars a request by which the oracle does better at the same value of an answer; None where the policy has no such value."""
    if not isinstance(router.policy, Value):
        return None
    value, rows = router.policy.usd, np.arange(len(outcomes.quality))
    own = _choose(router.policy, forecast, outcomes)
    best = Routed.oracle(outcomes).sweep.at(value)
    known = np.flatnonzero(own != NO_ARM)
    worth = [value * outcomes.quality[rows, arm] - outcomes.cost[rows, arm] for arm in (best, own)]
    return _mean("regret", (worth[0] - worth[1])[known], resamples, seed)


def trained_on(router: Router, table: Table) -> tuple[str, ...]:
    """The table's files that the router was trained on: on them it looks better than it is. The test part of a split is not among them."""
    if table.held_out:
        return ()
    own = {digest for _, digest in router.facts.sources if digest}
    return tuple(name for name, digest in table.sources if digest in own)


def _own_point(router: Router, forecast: Forecast, outcomes: Outcomes, resamples: int, seed: int) -> tuple[Figure, Figure]:
    """Mean quality and cost of the router's own policy."""
    choice = _choose(router.policy, forecast, outcomes)
    chosen = choice != NO_ARM
    rows = np.flatnonzero(chosen)
    quality, cost = outcomes.quality[rows, choice[rows]], outcomes.cost[rows, choice[rows]]
    return _mean("quality", quality, resamples, seed), _mean("cost", cost, resamples, seed)


def _own_costs(router: Router, judged: Judged, resamples: int, seed: int) -> dict[str, Figure]:
    """The same decisions as they were forecast, and if answers had the tokens asked for; NaN where a budget is no number of tokens."""
    choice = _choose(router.policy, judged.forecast, judged.outcomes)
    rows = np.flatnonzero(choice != NO_ARM)
    costs = {"forecast": judged.forecast.cost, "asked": asked_cost(router.pool, judged.input_tokens)}
    return {name: _mean(name, cost[rows, choice[rows]], resamples, seed) for name, cost in costs.items()}


def _choose(policy: AnyPolicy, forecast: Forecast, outcomes: Outcomes) -> Any:
    arms = len(outcomes.arms)
    return decide(policy, forecast, outcomes.seen, np.full(arms, np.nan), np.empty((0, 2), dtype=np.intp)).arm


def _shares(router: Router, forecast: Forecast, outcomes: Outcomes) -> tuple[tuple[str, float], ...]:
    """(arm, share of decisions) under the router's own policy, the most used first."""
    choice = _choose(router.policy, forecast, outcomes)
    count = np.bincount(choice[choice != NO_ARM], minlength=len(outcomes.arms))
    order = np.argsort(-count, kind="stable")
    return tuple((str(outcomes.arms[i]), float(count[i] / max(count.sum(), 1))) for i in order if count[i])


def _by_task(judged: Judged, means: Means | None, resamples: int, seed: int) -> tuple[TaskLine, ...]:
    names = sorted(set(judged.tasks))
    if len(names) < 2:
        return ()
    lines = []
    for name in names:
        rows = np.flatnonzero(np.array(judged.tasks) == name)
        part, forecast = judged.outcomes.take(rows), judged.forecast
        if len(rows) < LEAST_QUERIES or not len(part.fixed_arms()):
            lines.append(TaskLine(name, len(rows), None))
            continue
        found = methods(part, forecast.quality[rows], forecast.cost[rows], means)
        found.pop("one budget", None)
        result: Comparison = compare(found, part, min(resamples, 200), seed)
        lines.append(TaskLine(name, len(rows), result))
    return tuple(lines)


def _mean(name: str, values: FloatArray, resamples: int, seed: int) -> Figure:
    rng = np.random.default_rng(seed)
    draws = [float(values[rng.integers(len(values), size=len(values))].mean()) for _ in range(resamples)]
    low, high = np.quantile(draws, [0.025, 0.975]) if draws else (np.nan, np.nan)
    return Figure(name, float(values.mean()), float(low), float(high), len(values))
