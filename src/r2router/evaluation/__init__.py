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
from r2router.evaluation.report import Report, TaskLine, leak
from r2router.evaluation.router_forecasts import Judged, judge
from r2router.evaluation.router_forecasts import calibrate as calibrate
from r2router.evaluation.sources_left_out import LeftOut, sources_left_out
from r2router.evaluation.sparse import SparseReport as SparseReport
from r2router.evaluation.sparse import sparse_report
from r2router.evaluation.tables_and_plots import LEAST_QUERIES
from r2router.metrics.score import Comparison, Means, Method, compare, methods
from r2router.router.card import policy_words
from r2router.router.learners import learner_of
from r2router.router.router import Router
from r2router.table.table import Table
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
    """Score a router on outcomes it was not trained on.

    table: any arms; those that the router does not know are left out (and said so), those it knows and the table lacks count as not
    observed. vectors: (n, d) embeddings of the table's queries, where they exist. baselines: fit the published routers too, on `train`
    (outcomes of the same arms), or else by five-fold cross-validation on the table itself. noise: also count the decisions that stay
    when the queries are typed in another way, for which they are embedded four times more. resamples: bootstrap draws. cascade: also score
    the router's cascade, all calls paid, beside other ways to ask several arms and an oracle that looks; the table must have answers.
    leave_out: on a sparse table of several files, also leave each file out in turn: a router that is learned from the others decides on it.

    The router, the best fixed arm, the mixture of fixed arms that the router's training outcomes choose and the one that knows these
    outcomes, the same forecasts with one budget per LLM, and the oracle are scored on the same queries with the tokens really used;
    see `r2router.metrics.score` for what each figure is. The verdict is against the mixture that the training outcomes choose.
    A table where no arm was seen nearly everywhere is compared task by task instead (`SparseReport`): `train`, where it is given, then
    chooses the mixture that knows each task. Raises `DataError` where nothing can be compared.
    """
    expect("router", router, Router, "a Router: evaluate(router, table)")
    expect("table", table, Table, "a Table: evaluate(router, table)")
    if train is not None:
        expect("train", train, Table, "a Table")
    for name, value in (("resamples", resamples), ("seed", seed)):
        expect(name, value, int, "a whole number")
    if (baselines or cascade or leave_out) and vectors is None:
        vectors = embed(load_encoder(router.encoder), table.queries, progress)
    judged = judge(router, table, vectors, progress)
    outcomes, forecast = judged.outcomes, judged.forecast
    if not len(outcomes.fixed_arms()):
        if len(set(judged.tasks)) < 2:
            raise DataError("no arm was observed on 95 % of the queries: there is no fixed arm to compare with")
        trained = trained_on(router, table), trained_share(router, table)
        without: tuple[LeftOut, ...] = ()
        if leave_out and vectors is not None:
            x = np.asarray(vectors, dtype=np.float32)[judged.rows]
            without = sources_left_out(judged.table, x, learner_of(router.facts.learner), resamples=resamples, seed=seed, progress=progress)
        asked: dict[str, Any] = {"resamples": resamples, "seed": seed, "trained": trained, "left_out": without}
        return sparse_report(judged, table, train, _means(router, judged), **asked)
    if progress is not None:
        progress("scoring", 0, 1)
    means = _means(router, judged)
    found: dict[str, Method | Sequence[Method]] = {**methods(outcomes, forecast.quality, forecast.cost, means)}
    tried = fit_baselines(router, judged, train, vectors, seed, progress) if baselines and vectors is not None else []
    found |= {t.contender.name: t.routed for t in tried if not t.failed}
    looked, figures = tuple[str, ...](), None
    if cascade and vectors is not None:
        more, figures, looked = cascades(router, judged, np.asarray(vectors, dtype=np.float32)[judged.rows], found, resamples, seed)
        found |= more
    comparison = compare(found, outcomes, resamples, seed)
    own = OwnDecisions.of(router, judged)
    return Report(
        queries=len(judged.tasks),
        arms=router.arms,
        fixed_arms=tuple(str(outcomes.arms[i]) for i in outcomes.fixed_arms()),
        comparison=comparison,
        own_policy=policy_words(router.policy),
        own=own.point(resamples, seed),
        own_costs=own.other_costs(resamples, seed),
        shares=own.shares(),
        tasks=_by_task(judged, means, resamples, seed),
        unfamiliar=float(1 - forecast.familiar.mean()),
        sources=table.sources,
        seed=seed,
        resamples=resamples,
        notes=(
            *judged.notes,
            *looked,
            *_gain(comparison),
            *own.notes(),
            *left_out(outcomes),
            *few(len(judged.tasks)),
            *failures(tried),
            *_how_fitted(tried, train),
            *skipped(judged.table),
        ),
        accuracy=accuracy([forecast], outcomes, judged.table.output_tokens, min(resamples, 200), seed),
        compliance=tuple((str(arm), figure) for arm, figure in compliance(judged.table)),
        regret=own.regret(resamples, seed),
        noise=tuple(noise_lines(router, judged, resamples, seed, progress)) if noise else (),
        simulated=table.simulated,
        cascade=figures,
        trained_on=trained_on(router, table),
        trained_share=trained_share(router, table),
    )


def _gain(comparison: Comparison) -> list[str]:
    """What the cascade gains over routing alone, in words; the differences are the router's less the cascade's."""
    if CASCADE not in comparison.differences:
        return []
    area, figures = comparison.differences[CASCADE]["area"], comparison.figures
    gaps = [f"{figures[m]['gap_closed'].value:.1%} ({name})" for m, name in ((CASCADE, "cascade"), ("router", "alone")) if m in figures]
    return [
        (
            f"cascade less routing alone, all calls paid: mean quality over log cost {-area.value:+.4f} "
            f"({-area.high:+.4f} to {-area.low:+.4f}, n = {area.n:,}); of the gap to the oracle closed: {', '.join(gaps)}"
        )
    ]


def _means(router: Router, judged: Judged) -> Means | None:
    """What the router's training outcomes say of each arm, whatever the query; None where it knows of none that could be scored."""
    cost = router.pool.cost(judged.input_tokens.mean(axis=0, keepdims=True), router.prior_tokens[None])[0]
    known = np.isfinite(router.prior_quality) & np.isfinite(cost)
    return Means(router.prior_quality, cost) if (judged.outcomes.seen & known).any(axis=1).all() else None


def _how_fitted(tried: Sequence[Tried], train: Table | None) -> list[str]:
    if not tried:
        return []
    how = "by five-fold cross-validation on these very queries, each forecast without itself" if train is None else "on the training table"
    return [f"the baselines are fitted {how}; those of one budget per LLM have each LLM at its best budget there"]


def trained_on(router: Router, table: Table) -> tuple[str, ...]:
    """The table's files that the router was trained on: on them it looks better than it is. The test part of a split is not among them."""
    if table.held_out or trained_share(router, table) == 0:
        return ()
    own = {digest for _, digest in router.facts.sources if digest}
    return tuple(name for name, digest in table.sources if digest in own)


def trained_share(router: Router, table: Table) -> float | None:
    """The share of the table's queries whose text the router was trained on; None where that is not known.

    A router without a digest (older, or of made-up texts) knows its files only, see `trained_on`.
    """
    share = np.nan if router.trained is None or table.simulated else router.trained.share(table.queries)
    return None if np.isnan(share) else float(share)


def leak_words(router: Router, table: Table) -> str:
    """What to say where a router meets its own training queries; empty where it does not."""
    return leak(trained_on(router, table), trained_share(router, table))


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
