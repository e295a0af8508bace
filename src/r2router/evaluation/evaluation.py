"""Is routing worth it on this table? `evaluate` answers with figures, intervals and the arms to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from r2router.encode import embed, load_encoder
from r2router.errors import DataError, expect
from r2router.evaluation.accuracy import accuracy, compliance, skipped
from r2router.evaluation.baselines import fit_baselines, noise_lines
from r2router.evaluation.cascades import CASCADE, cascades
from r2router.evaluation.contenders import Tried
from r2router.evaluation.experiment import failures, few
from r2router.evaluation.left_out import left_out
from r2router.evaluation.own_policy import OwnDecisions
from r2router.evaluation.report import Report, TaskLine
from r2router.evaluation.router_forecasts import EvaluatedTable, forecast_table
from r2router.evaluation.sources_left_out import LeftOut, sources_left_out
from r2router.evaluation.sparse import SparseReport, sparse_report
from r2router.evaluation.tables_and_plots import MIN_QUERIES, turned
from r2router.evaluation.training_queries import trained_on, trained_share
from r2router.metrics.score import Comparison, Means, Method, compare, methods
from r2router.router.card import policy_words
from r2router.router.learners import learner_of
from r2router.router.router import Router
from r2router.table.table import Table
from r2router.text import written
from r2router.types import FloatArray, Progress


def evaluate(  # noqa: PLR0913 - what is asked for, by name
    router: Router,
    table: Table,
    *,
    vectors: FloatArray | None = None,
    baselines: bool = False,
    train: Table | None = None,
    noise: bool = False,
    cascade: bool = False,
    leave_out: bool = False,
    resamples: int = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> Report | SparseReport:
    """Score a router on outcomes that it was not trained on.

    router: the router.
    table: any arms. Arms that the router does not know are left out, with a note; arms that only the router knows count
        as not observed.
    vectors: (n, d) embeddings of the table's queries, where they exist.
    baselines: also fit the published routers, on `train`, or else by five-fold cross-validation on the table itself.
    train: outcomes of the same arms, from which the baselines learn. On a sparse table it also chooses the mixtures.
    noise: also count the decisions that stay the same when the queries are typed differently; embeds the queries four
        more times.
    cascade: also score the router's cascade with all calls paid, next to other ways to ask several arms and to an
        oracle; the table must have answers.
    leave_out: on a sparse table of several files, also leave out each file in turn: a router trained on the others is
        tested on it.
    resamples: number of bootstrap draws.
    seed: random seed of the bootstrap.
    progress: called as the work goes on.

    All methods are scored on the same queries with the tokens really used: the router, the best fixed arm, the mixture
    of fixed arms that the router's training outcomes choose, the mixture that these outcomes choose, the same forecasts
    with one budget per LLM, and the oracle. `r2router.metrics.score` defines each figure. The verdict compares with the
    mixture that the training outcomes choose.

    A table where no arm was seen nearly everywhere is compared task by task instead (`SparseReport`); `train`, where
    given, then chooses the mixture that knows each task. Raises `DataError` where nothing can be compared.
    """
    expect("router", router, Router, "a Router: evaluate(router, table)")
    expect("table", table, Table, "a Table: evaluate(router, table)")
    if train is not None:
        expect("train", train, Table, "a Table")
    for name, value in (("resamples", resamples), ("seed", seed)):
        expect(name, value, int, "a whole number")
    if (baselines or cascade or leave_out) and vectors is None:
        vectors = embed(load_encoder(router.encoder), table.queries, progress)
    evaluated = forecast_table(router, table, vectors, progress)
    outcomes, forecast = evaluated.outcomes, evaluated.forecast
    if not len(outcomes.fixed_arms()):
        if len(set(evaluated.tasks)) < 2:
            raise DataError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
        trained = trained_on(router, table), trained_share(router, table)
        without: tuple[LeftOut, ...] = ()
        if leave_out and vectors is not None:
            x = np.asarray(vectors, dtype=np.float32)[evaluated.rows]
            learner = learner_of(router.facts.learner)
            without = sources_left_out(evaluated.table, x, learner, resamples=resamples, seed=seed, progress=progress)
        asked: dict[str, Any] = {"resamples": resamples, "seed": seed, "trained": trained, "left_out": without}
        return sparse_report(evaluated, table, train, _means(router, evaluated), **asked)
    if progress is not None:
        progress("scoring", 0, 1)
    means = _means(router, evaluated)
    found: dict[str, Method | Sequence[Method]] = {**methods(outcomes, forecast.quality, forecast.cost, means)}
    tried = (
        fit_baselines(router, evaluated, train, vectors, seed, progress) if baselines and vectors is not None else []
    )
    found |= {t.contender.name: t.routed for t in tried if not t.failed}
    looked, figures = tuple[str, ...](), None
    if cascade and vectors is not None:
        more, figures, looked = cascades(
            router, evaluated, np.asarray(vectors, dtype=np.float32)[evaluated.rows], found, resamples, seed
        )
        found |= more
    comparison = compare(found, outcomes, resamples, seed)
    own = OwnDecisions.of(router, evaluated)
    return Report(
        queries=len(evaluated.tasks),
        arms=router.arms,
        fixed_arms=tuple(str(outcomes.arms[i]) for i in outcomes.fixed_arms()),
        comparison=comparison,
        own_policy=policy_words(router.policy),
        own=own.point(resamples, seed),
        own_costs=own.other_costs(resamples, seed),
        shares=own.shares(),
        tasks=_by_task(evaluated, means, resamples, seed),
        out_of_distribution=float(1 - forecast.familiar.mean()),
        sources=table.sources,
        seed=seed,
        resamples=resamples,
        notes=(
            *evaluated.notes,
            *looked,
            *_gain(comparison),
            *own.notes(),
            *left_out(outcomes),
            *few(len(evaluated.tasks)),
            *failures(tried),
            *_how_fitted(tried, train),
            *skipped(evaluated.table),
        ),
        accuracy=accuracy([forecast], outcomes, evaluated.table.output_tokens, min(resamples, 200), seed),
        compliance=tuple((str(arm), figure) for arm, figure in compliance(evaluated.table)),
        regret=own.regret(resamples, seed),
        noise=tuple(noise_lines(router, evaluated, resamples, seed, progress)) if noise else (),
        simulated=table.simulated,
        cascade=figures,
        trained_on=trained_on(router, table),
        trained_share=trained_share(router, table),
    )


def _gain(comparison: Comparison) -> list[str]:
    """Say what the cascade gains over routing alone; the differences are the router's minus the cascade's."""
    if CASCADE not in comparison.differences:
        return []
    area, figures = turned(comparison.differences[CASCADE]["area"]), comparison.figures
    value, low, high = (written(v, "+.4f") for v in (area.value, area.low, area.high))
    gaps = [
        f"{written(figures[m]['gap_closed'].value, '.1%')} ({name})"
        for m, name in ((CASCADE, "cascade"), ("router", "alone"))
        if m in figures
    ]
    return [
        (
            f"cascade less routing alone, all calls paid: mean quality over log cost {value} "
            f"({low} to {high}, n = {area.n:,}); of the gap to the oracle closed: {', '.join(gaps)}"
        )
    ]


def _means(router: Router, evaluated: EvaluatedTable) -> Means | None:
    """Return the mean of each arm in the router's training outcomes; None where none of these arms can be scored."""
    cost = router.pool.cost(evaluated.input_tokens.mean(axis=0, keepdims=True), router.prior_tokens[None])[0]
    known = np.isfinite(router.prior_quality) & np.isfinite(cost)
    return Means(router.prior_quality, cost) if (evaluated.outcomes.seen & known).any(axis=1).all() else None


def _how_fitted(tried: Sequence[Tried], train: Table | None) -> list[str]:
    if not tried:
        return []
    how = (
        "by five-fold cross-validation on these very queries, each forecast without itself"
        if train is None
        else "on the training table"
    )
    return [f"the baselines are fitted {how}; those of one budget per LLM have each LLM at its best budget there"]


def _by_task(evaluated: EvaluatedTable, means: Means | None, resamples: int, seed: int) -> tuple[TaskLine, ...]:
    names = sorted(set(evaluated.tasks))
    if len(names) < 2:
        return ()
    lines = []
    for name in names:
        rows = np.flatnonzero(np.array(evaluated.tasks) == name)
        part, forecast = evaluated.outcomes.take(rows), evaluated.forecast
        if len(rows) < MIN_QUERIES or not len(part.fixed_arms()):
            lines.append(TaskLine(name, len(rows), None))
            continue
        found = methods(part, forecast.quality[rows], forecast.cost[rows], means)
        found.pop("one budget", None)
        result: Comparison = compare(found, part, min(resamples, 200), seed)
        lines.append(TaskLine(name, len(rows), result))
    return tuple(lines)
