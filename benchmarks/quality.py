"""Routing quality on the real outcome tables, by repeated cross-validation by query: 5 seeds x 5 folds, MiniLM embeddings.

Out-of-fold forecasts of each learner are scored with the tokens really used, beside the best mixture of fixed arms (which knows the
means of the very queries it is scored on), one budget an LLM, and the oracle. `area` is mean quality over log cost between the
cheapest and the dearest fixed arm, mixtures allowed; `qnc` the cost at 95 % of the best fixed arm's quality over that arm's cost,
or never where its curve does not get there; `gap_closed` the share of the way from the mixture to the oracle, by area.

A method's figure is its mean over the seeds; intervals are 95 % percentiles of a bootstrap over queries in which all methods and seeds
see the same draws, so that differences are paired. The tables lie in `../shared/data` and are no part of the project.
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

    from r2router.metrics.score import Method, Outcomes
    from r2router.pool.pool import Pool
    from r2router.table.table import Table

    Floats = NDArray[np.floating[Any]]

TABLES = ("tts_knowledge", "jhu_concise_cot")
SEEDS, FOLDS, DRAWS = 5, 5, 500
FIGURES = ("area", "qnc", "peak", "gap_closed")
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

    return {"default": Recipe().learner, "ridge": Ridge(alpha=30.0), "knn": KNN(), "gbdt": GBDT(rounds=10) if small else GBDT()}


def judge(args: argparse.Namespace) -> measure.Figures:
    """One table."""
    import numpy as np

    from r2router.encode import count_tokens, load_encoder
    from r2router.metrics.score import FixedArms, Outcomes
    from r2router.predict.input_tokens import InputTokens

    table = read(args.table)
    if args.small:
        table = table.take(np.random.default_rng(0).permutation(len(table))[:150])
    x, counts = load_encoder("minilm").encode(table.queries), count_tokens(table.queries).astype(np.float64)
    estimates = InputTokens.fit(counts, table).estimate(counts)
    outcomes = Outcomes.of(table.arms, table.quality, table.cost(estimates))
    made = _forecasts(x, table, estimates, args.small)
    draws = 20 if args.small else DRAWS
    figures = _compare(_methods(outcomes, made), outcomes, draws)
    figures |= {"queries": len(table), "arms": len(table.arms), "folds": FOLDS, "draws": draws}
    figures["learners"] = {
        name: {"spec": m.spec, "seeds": len(m.forecasts), "s_a_seed": m.fit_s / len(m.forecasts)} for name, m in made.items()
    }
    fixed = FixedArms(outcomes, outcomes.fixed_arms())
    cost, quality = fixed.points(np.ones(len(table)))
    best = int(np.lexsort((cost, -quality))[0])
    figures["best_fixed_arm"] = {"arm": outcomes.arms[fixed.arms[best]], "quality": float(quality[best]), "cost_usd": float(cost[best])}
    figures["tasks"] = _by_task(table, outcomes, made, draws)
    return figures


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


def _methods(outcomes: Outcomes, made: dict[str, Made], rows: Any = slice(None)) -> dict[str, list[Method]]:
    """What is compared: name -> one method a seed. rows: of the forecasts, that the outcomes are."""
    from r2router.metrics.score import FixedArms, Routed, one_budget_each

    found: dict[str, list[Method]] = {name: [Routed.of(q[rows], c[rows], outcomes) for q, c in m.forecasts] for name, m in made.items()}
    one = one_budget_each(outcomes)
    if len(one) and outcomes.seen[:, one].any(axis=1).all():
        found["one budget"] = [Routed.of(q[rows], c[rows], outcomes, one) for q, c in made["default"].forecasts]
    found["mixture"] = [FixedArms(outcomes, outcomes.fixed_arms())]
    found["oracle"] = [Routed.of(outcomes.quality, outcomes.cost, outcomes)]
    return found


def _compare(found: dict[str, list[Method]], outcomes: Outcomes, draws: int) -> measure.Figures:
    """Every figure of every method and the paired differences of the default, each with its interval."""
    import numpy as np

    n = len(outcomes.quality)
    rng = np.random.default_rng(0)
    weights = [np.ones(n), *(rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(draws))]
    values = {name: np.array([figures_of(seeds, found["mixture"][0], w) for w in weights]) for name, seeds in found.items()}
    low, gap = values["mixture"][:, :1], values["oracle"][:, :1] - values["mixture"][:, :1]
    for name, v in values.items():
        closed = np.divide(v[:, :1] - low, gap, out=np.full_like(gap, np.nan), where=gap > 0)
        values[name] = np.concatenate([v, closed], axis=1)
    others = [name for name in found if name != "default"]
    return {
        "methods": {name: _intervals(v) for name, v in values.items()},
        "default_minus": {name: _intervals(_difference(values["default"], values[name])) for name in others},
    }


def _difference(one: Floats, other: Floats) -> Floats:
    """one - other; 0 where both are infinite (neither reaches the quality)."""
    import numpy as np

    return np.subtract(one, other, out=np.zeros_like(one), where=~(np.isinf(one) & np.isinf(other)))


def figures_of(seeds: Sequence[Method], fixed: Method, weight: Floats) -> list[float]:
    """(area, qnc, peak) where queries count `weight` times, as the mean over seeds; qnc is infinite where a seed never gets there."""
    import numpy as np

    from r2router.metrics.frontier import area_over_log_cost, least_cost, upper_envelope
    from r2router.metrics.score import KEEP

    fixed_cost, fixed_quality = fixed.points(weight)
    best = int(np.lexsort((fixed_cost, -fixed_quality))[0])
    rows = []
    for method in seeds:
        cost, quality = method.points(weight)
        hull = upper_envelope(cost, quality)
        cost, quality = cost[hull], quality[hull]
        area = area_over_log_cost(cost, quality, float(fixed_cost.min()), float(fixed_cost.max()))
        reach = least_cost(cost, quality, KEEP * float(fixed_quality[best]))
        rows.append((area, np.inf if math.isnan(reach) else reach / float(fixed_cost[best]), float(quality.max())))
    return [float(v) for v in np.mean(rows, axis=0)]


def _intervals(values: Floats) -> measure.Figures:
    """Figures of (1 + draws, figures) values, the first row of which is the data's own. An infinite one becomes null: never reached."""
    import numpy as np

    found: measure.Figures = {}
    for i, name in enumerate(FIGURES):
        drawn = values[1:, i][~np.isnan(values[1:, i])]  # a draw without a gap between mixture and oracle has no share of it
        low, high = math.nan, math.nan
        if len(drawn):
            low, high = float(np.quantile(drawn, 0.025, method="lower")), float(np.quantile(drawn, 0.975, method="higher"))
        found[name] = {"value": float(values[0, i]), "low": low, "high": high}
    return found


def _by_task(table: Table, outcomes: Outcomes, made: dict[str, Made], draws: int) -> measure.Figures:
    """The same for each task of the table, on which nothing is fitted anew."""
    import numpy as np

    from r2router.metrics.score import Outcomes

    tasks = np.array(table.tasks)
    few = {name: made[name] for name in ("default", "ridge")}
    figures: measure.Figures = {}
    for task in sorted(set(table.tasks)):
        rows = np.flatnonzero(tasks == task)
        part = Outcomes(outcomes.arms, outcomes.quality[rows], outcomes.cost[rows])
        figures[task] = {"queries": len(rows), **_compare(_methods(part, few, rows), part, draws)}
    return figures


def drive(run: measure.Run) -> measure.Figures:
    """Both tables at the same time, one thread each, and what they show."""
    if not (measure.SHARED / "data").is_dir():
        print("quality: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    with ThreadPoolExecutor(2) as pool:
        figures = dict(zip(TABLES, pool.map(lambda name: run.case("judge", "--table", name, threads=1), TABLES), strict=True))
    for name in TABLES:
        _show(name, figures[name])
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
    rows += [(f"default - {m}", *(interval(row[f], "+.3f") for f in FIGURES)) for m, row in figures["default_minus"].items()]
    measure.table(("", *FIGURES), rows)
    for part in ("ridge", "mixture"):
        rows = [(t, str(f["queries"]), interval(f["default_minus"][part]["area"], "+.3f")) for t, f in figures["tasks"].items()]
        measure.table((f"area, default - {part}", "queries", "difference"), rows)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"judge": judge}, drive, lambda p: p.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS))
