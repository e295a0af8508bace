"""Routing quality on the real outcome tables, by repeated cross-validation by query: 5 seeds x 5 folds, MiniLM
embeddings.

Out-of-fold forecasts of each learner are scored with the tokens really used, beside the best mixture of fixed arms that
the other folds choose, the one that knows the means of the very queries it is scored on, one budget per LLM, and the
oracle. Figures, settings and intervals are those of `r2router.metrics.score`: a curve has at most twelve settings,
fixed by its forecasts; `area` of a difference is over the costs that both methods have, with the settings that the
other half of the queries keeps; a bootstrap draw takes queries and one of the seeds. `kept` is how often a router's own
policy keeps 95 % of the best fixed arm's quality on held-out queries (40 % of the table, one split per seed), and at
which share of that arm's cost. The tables lie in `../shared/data` and are no part of the project.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r2router.figure import Figure
    from r2router.metrics.score import Comparison, Method, Outcomes
    from r2router.pool.pool import Pool
    from r2router.table.table import Table

    Floats = NDArray[np.floating[Any]]

TABLES = ("tts_knowledge", "jhu_concise_cot")
SEEDS, FOLDS, DRAWS = 5, 5, 500
FIGURES = ("area", "qnc", "peak", "gap_closed")
SPLITS = 30
SLOW = 150.0
"""Seconds that a learner may take on a table, apart from the two that the target is about; it then gets fewer seeds."""


@dataclass(frozen=True)
class Made:
    """Out-of-fold forecasts of one learner: (quality, cost) of each seed, and how long they took."""

    spec: str
    forecasts: list[tuple[Floats, Floats]]
    fit_s: float


def learners(small: bool) -> dict[str, Any]:
    """The learners to compare: name -> spec. The first two are what the target is about."""
    from r2router.predict.gbdt import GBDT
    from r2router.predict.knn import KNN
    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    return {
        "default": Recipe().learner,
        "ridge": Ridge(alpha=30.0),
        "knn": KNN(),
        "gbdt": GBDT(rounds=10) if small else GBDT(),
    }


def judge(args: argparse.Namespace) -> measure.Figures:
    """One table."""
    import numpy as np

    from r2router.encode import count_tokens, load_encoder
    from r2router.metrics.score import Outcomes
    from r2router.predict.input_tokens import InputTokens

    table = read(args.table)
    if args.small:
        table = table.take(np.random.default_rng(0).permutation(len(table))[:150])
    x, counts = load_encoder("minilm").encode(table.queries), count_tokens(table.queries).astype(np.float64)
    estimates = InputTokens.fit(counts, table).estimate(counts)
    outcomes = Outcomes.of(table.arms, table.quality, table.cost(estimates))
    made = _forecasts(x, table, estimates, args.small)
    draws = 20 if args.small else DRAWS
    found = _methods(table, outcomes, made)
    result = _compare(found, outcomes, draws)
    figures = _figures(result) | {"queries": len(table), "arms": len(table.arms), "folds": FOLDS, "draws": draws}
    figures["learners"] = {
        name: {"spec": m.spec, "seeds": len(m.forecasts), "s_a_seed": m.fit_s / len(m.forecasts)}
        for name, m in made.items()
    }
    figures["best_fixed_arm"] = {"arm": result.best_arm, "quality": result.best[1], "cost_usd": result.best[0]}
    figures["tasks"] = _by_task(table, outcomes, found, draws)
    return figures


def kept(args: argparse.Namespace) -> measure.Figures:
    """How often the own policy keeps its share, over splits of one table."""
    import numpy as np

    from r2router.encode import load_encoder
    from r2router.evaluation.own_policy import OwnDecisions
    from r2router.evaluation.router_forecasts import forecast_table
    from r2router.metrics.score import KEEP, FixedArms
    from r2router.router.recipe import Recipe

    table = read(args.table)
    at = {query: i for i, query in enumerate(table.query_ids)}
    x = load_encoder("minilm").encode(table.queries)
    rows, promises = [], []
    for seed in range(2 if args.small else SPLITS):
        train, test = table.split(test=0.4, seed=seed)
        mine, theirs = ([at[q] for q in part.query_ids] for part in (train, test))
        router = Recipe(resamples=0, digest=False).fit(train, x[mine])
        found = forecast_table(router, test, x[theirs])
        own = OwnDecisions.of(router, found)
        fixed = FixedArms(found.outcomes, found.outcomes.fixed_arms())
        cost, quality = fixed.points(np.ones(len(found.tasks)))
        best = int(np.lexsort((cost, -quality))[0])
        rows.append((own.quality.mean() / quality[best], own.cost.mean() / cost[best]))
        promises.append(router.facts.promise)
    ratio, share = np.array(rows).T
    return {
        "splits": len(rows),
        "kept": float((ratio >= KEEP - 1e-9).mean()),
        "quality_share": {
            "value": float(ratio.mean()),
            "low": float(np.quantile(ratio, 0.05)),
            "high": float(np.quantile(ratio, 0.95)),
        },
        "cost_share": {
            "value": float(share.mean()),
            "low": float(np.quantile(share, 0.05)),
            "high": float(np.quantile(share, 0.95)),
        },
        "promises": {
            promise: {
                "splits": promises.count(promise),
                "kept": float((ratio[np.array(promises) == promise] >= KEEP - 1e-9).mean()),
            }
            for promise in sorted(set(promises))
        },
    }


def read(name: str) -> Table:
    from r2router.table.table import Table

    data = measure.SHARED / "data"
    return Table.read(data / f"{name}.parquet", prices=data / "prices.csv")


def _forecasts(x: Floats, table: Table, estimates: Floats, small: bool) -> dict[str, Made]:
    """Out-of-fold forecasts of every learner under every seed."""
    from r2router.errors import MissingExtra
    from r2router.predict.crossval import out_of_fold

    pool: Pool = table.pool
    made = {}
    for number, (name, learner) in enumerate(learners(small).items()):
        forecasts: list[tuple[Floats, Floats]] = []
        begin, longest = time.monotonic(), 5.0 if small else SLOW
        try:
            for seed in range(2 if small else SEEDS):
                forecast = out_of_fold(learner, x, table, FOLDS, seed)
                forecasts.append((forecast.quality, pool.cost(estimates, forecast.tokens)))
                spent = time.monotonic() - begin
                if number >= 2 and spent * (seed + 2) / (seed + 1) > longest:
                    break
        except MissingExtra as error:
            print(f"quality: {name} is left out: {error}", file=sys.stderr)
            continue
        made[name] = Made(repr(learner), forecasts, time.monotonic() - begin)
    return made


def _methods(table: Table, outcomes: Outcomes, made: dict[str, Made]) -> dict[str, Sequence[Method]]:
    """What is compared: name -> one method per seed."""
    from r2router.metrics.score import FixedArms, Means, Routed, one_budget_each
    from r2router.predict.crossval import fold_means, fold_of

    found: dict[str, Sequence[Method]] = {
        name: [Routed.of(q, c, outcomes) for q, c in m.forecasts] for name, m in made.items()
    }
    one, mixtures = [], []
    for seed, (quality, cost) in enumerate(made["default"].forecasts):
        fold = fold_of(table.queries, FOLDS, seed)
        means = Means(fold_means(outcomes.quality, fold), fold_means(outcomes.cost, fold))
        mixtures.append(Routed.mixture(means, outcomes))
        one.append(Routed.of(quality, cost, outcomes, one_budget_each(outcomes, means=means)))
    found |= {"one budget": one, "fixed": mixtures}
    return found | {"fixed known": [FixedArms(outcomes, outcomes.fixed_arms())], "oracle": [Routed.oracle(outcomes)]}


def _compare(found: dict[str, Sequence[Method]], outcomes: Outcomes, draws: int, rows: Any = None) -> Comparison:
    from r2router.metrics.score import compare

    return compare(found, outcomes, draws, 0, base="default", rows=rows)


def _figures(result: Comparison) -> measure.Figures:
    """Every figure of every method and the paired differences of the default, each with its interval."""
    return {
        "methods": {m: {name: _figure(row[name]) for name in FIGURES} for m, row in result.figures.items()},
        "default_minus": {
            m: {name: _figure(row[name]) for name in (*FIGURES, "area_zero")} for m, row in result.differences.items()
        },
    }


def _figure(figure: Figure) -> dict[str, float]:
    return {"value": figure.value, "low": figure.low, "high": figure.high}


def figures_of(seeds: Sequence[Method], fixed: Method, weight: Floats) -> list[float]:
    """(area, qnc, peak) where queries count `weight` times, as the mean over seeds; qnc is infinite where a seed never
    gets there.
    """
    import numpy as np

    from r2router.metrics.frontier import area_over_log_cost, min_cost, upper_envelope
    from r2router.metrics.score import KEEP

    fixed_cost, fixed_quality = fixed.points(weight)
    best = int(np.lexsort((fixed_cost, -fixed_quality))[0])
    rows = []
    for method in seeds:
        cost, quality = method.points(weight)
        hull = upper_envelope(cost, quality)
        cost, quality = cost[hull], quality[hull]
        area = area_over_log_cost(cost, quality, float(fixed_cost.min()), float(fixed_cost.max()))
        reach = min_cost(cost, quality, KEEP * float(fixed_quality[best]))
        rows.append((area, np.inf if math.isnan(reach) else reach / float(fixed_cost[best]), float(quality.max())))
    return [float(v) for v in np.mean(rows, axis=0)]


def _by_task(table: Table, outcomes: Outcomes, found: dict[str, Sequence[Method]], draws: int) -> measure.Figures:
    """The same for each task of the table, on which nothing is fitted anew."""
    import numpy as np

    tasks = np.array(table.tasks)
    few = {name: found[name] for name in ("default", "ridge", "fixed", "fixed known", "oracle")}
    figures: measure.Figures = {}
    for task in sorted(set(table.tasks)):
        rows = np.flatnonzero(tasks == task)
        figures[task] = {"queries": len(rows), **_figures(_compare(few, outcomes, draws, rows))}
    return figures


def drive(run: measure.Run) -> measure.Figures:
    """Both tables at the same time, one thread each, and what they show."""
    if not (measure.SHARED / "data").is_dir():
        print("quality: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    with ThreadPoolExecutor(2) as pool:
        figures = dict(
            zip(TABLES, pool.map(lambda name: run.case("judge", "--table", name, threads=1), TABLES), strict=True)
        )
        splits = list(pool.map(lambda name: run.case("kept", "--table", name, threads=1), TABLES))
    for name, part in zip(TABLES, splits, strict=True):
        figures[name]["kept"] = part
        _show(name, figures[name])
        if "splits" in part:
            print(
                f"own policy: kept in {part['kept']:.0%} of {part['splits']} splits, at"
                f" {interval(part['cost_share'], '.2f')} of the cost"
            )
    return figures


def interval(figure: dict[str, float | None], form: str) -> str:
    """A figure with its interval."""
    unknown = "-" if form.startswith("+") else "never"  # a difference with what never gets there is no number
    value, low, high = (unknown if v is None or not math.isfinite(v) else format(v, form) for v in figure.values())
    return f"{value} [{low}, {high}]"


def _show(name: str, figures: measure.Figures) -> None:
    if "failed" in figures:
        print(f"{name}: {figures['failed']}")
        return
    print(f"\n{name}: {figures['queries']:,} queries, {figures['arms']} arms; {figures['wall_s']:.0f} s")
    rows = [(m, *(interval(row[f], ".3f") for f in FIGURES)) for m, row in figures["methods"].items()]
    rows += [
        (f"default - {m}", *(interval(row[f], "+.3f") for f in FIGURES)) for m, row in figures["default_minus"].items()
    ]
    measure.table(("", *FIGURES), rows)
    for part in ("ridge", "fixed", "fixed known"):
        rows = [
            (t, str(f["queries"]), interval(f["default_minus"][part]["area"], "+.3f"))
            for t, f in figures["tasks"].items()
        ]
        measure.table((f"area, default - {part}", "queries", "difference"), rows)


if __name__ == "__main__":
    measure.run(
        __file__,
        __doc__,
        {"judge": judge, "kept": kept},
        drive,
        lambda p: p.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS),
    )
