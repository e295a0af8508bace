"""LLMs that arrive later: what a router gains from one that was added on a few graded queries, without retraining.

Each LLM of the real outcome tables in turn is kept from the training part (4/5 of the queries, 5 seeds), then added on
m graded queries of that part, and the whole router is scored on the held-out fifth with the tokens really used, by the
mean quality over log cost (`area`). Beside `Router.add_model` (on outcomes of the new LLM alone, and on outcomes of the
known ones on the same queries too) stand the router without the new LLM, one that knows the new arms' means only, one
that knows their means in k-means clusters of the graded queries (min(100, m / 5) of them, soft assignment), and a full
retraining on all training queries.

A figure is the mean over LLMs and seeds. Intervals are 95 % percentiles of a bootstrap over queries in which all
methods, LLMs and seeds see the same draws, so that differences are paired; how much a figure owes to which m queries
were graded is in it through the seeds only.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r2router.metrics.score import FixedArms, Routed
    from r2router.router.router import Router
    from r2router.table.table import Table

    Floats = NDArray[np.floating[Any]]
    Ints = NDArray[np.integer[Any]]

TABLES = ("tts_knowledge", "jhu_concise_cot")
GRADED = (10, 25, 50, 100, 200, 400)
SEEDS, DRAWS = 5, 100
SOFTNESS = 0.1
"""Of the clusters: the scale of cosines in the soft assignment."""


@dataclass(frozen=True)
class Data:
    """A table with its embeddings, and the queries' counts of tokens."""

    table: Table
    x: Floats
    counts: Floats
    estimates: Floats


def judge(args: argparse.Namespace) -> measure.Figures:
    """One table."""
    import numpy as np

    from r2router.encode import count_tokens, load_encoder
    from r2router.predict.input_tokens import InputTokens
    from r2router.table.table import Table

    folder = measure.SHARED / "data"
    table = Table.read(folder / f"{args.table}.parquet", prices=folder / "prices.csv")
    if args.small:
        table = table.take(np.random.default_rng(0).permutation(len(table))[:200])
    counts = count_tokens(table.queries).astype(np.float64)
    data = Data(
        table, load_encoder("minilm").encode(table.queries), counts, InputTokens.fit(counts, table).estimate(counts)
    )
    draws = 5 if args.small else DRAWS
    rng, n = np.random.default_rng(0), len(table)
    weights = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), draws)])
    models = table.pool.models[:2] if args.small else table.pool.models
    areas: dict[str, dict[tuple[str, int], Floats]] = {}
    for seed in range(1 if args.small else SEEDS):
        order = np.random.default_rng(seed).permutation(n)
        test, train = order[: n // 5], order[n // 5 :]
        retrained = _train(data, train, table.arms)
        for model in models:
            for name, area in _one(data, model.id, train, test, retrained, weights):
                areas.setdefault(name, {})[model.id, seed] = area
    return _summed_up(areas) | {"queries": n, "arms": len(table.arms), "held_out": n // 5, "draws": draws}


def _train(data: Data, rows: Ints, arms: Any) -> Router:
    from r2router.router.recipe import Recipe

    return Recipe(folds=0).fit(data.table.take(rows).with_arms(arms), data.x[rows])


def _one(data: Data, model: str, train: Ints, test: Ints, retrained: Router, weights: Floats) -> Any:
    """(method, (1 + draws,) areas on the held-out queries) for one LLM and seed."""
    import numpy as np

    from r2router.metrics.score import FixedArms, Outcomes

    table = data.table
    outcomes = Outcomes.of(table.arms, table.quality[test], table.cost(data.estimates)[test])
    fixed = FixedArms(outcomes, outcomes.fixed_arms())
    own = [arm for arm in table.arms if arm.model == model]
    known = _train(data, train, [arm for arm in table.arms if arm.model != model])

    def area(router: Router, columns: tuple[Floats, Floats] | None = None) -> Floats:
        return _areas(data, router, test, (fixed, weights[:, test]), own if columns is not None else [], columns)

    yield "without it", area(known)
    yield "retrained on all", area(retrained)
    for m in (g for g in GRADED if g <= len(train)):
        graded, x = table.take(train[:m]), data.x[train[:m]]
        alone = graded.with_arms(own)
        if np.isfinite(alone.quality).any(axis=1).sum() < 10:  # some arms were asked half of the queries only
            continue
        yield f"its means, {m}", area(known, _means(alone, len(test)))
        yield f"cluster means, {m}", area(known, _clusters(alone, x, data.x[test]))
        yield f"add_model, {m}", area(known.add_model(model, alone, x))
        yield f"add_model with known outcomes, {m}", area(known.add_model(model, graded, x))


def _areas(
    data: Data,
    router: Router,
    test: Ints,
    scored: tuple[FixedArms, Floats],
    own: Any,
    columns: tuple[Floats, Floats] | None,
) -> Floats:
    """(1 + draws,) areas of a router, with forecasts of quality and tokens for the arms `own` put beside its own."""
    import numpy as np

    from r2router.metrics.score import Routed

    table, (fixed, weights) = data.table, scored
    forecast = router.forecast_vectors(data.x[test], data.counts[test])
    quality, tokens = (np.full((len(test), len(table.arms)), np.nan) for _ in range(2))
    at = [table.pool.index[arm] for arm in router.arms]
    quality[:, at], tokens[:, at] = forecast.quality, forecast.tokens
    if columns is not None:
        at = [table.pool.index[arm] for arm in own]
        quality[:, at], tokens[:, at] = columns
    cost = table.pool.cost(data.estimates[test], tokens)
    method = Routed.of(
        np.where(np.isnan(cost), np.nan, quality), np.where(np.isnan(cost), np.inf, cost), fixed.outcomes
    )
    return np.array([_area(method, fixed, w) for w in weights])


def _area(method: Routed, fixed: FixedArms, weight: Floats) -> float:
    from r2router.metrics.frontier import area_over_log_cost

    cost, _ = fixed.points(weight)
    return area_over_log_cost(*method.points(weight), float(cost.min()), float(cost.max()))


def _means(graded: Table, n: int) -> tuple[Floats, Floats]:
    """(n, arms) mean quality and tokens of each arm."""
    import numpy as np

    from r2router.predict.means import fair_means

    quality, tokens = np.clip(fair_means(graded.quality), 0, 1), np.maximum(fair_means(graded.output_tokens), 1)
    return np.tile(quality, (n, 1)), np.tile(tokens, (n, 1))


def _clusters(graded: Table, x: Floats, queries: Floats) -> tuple[Floats, Floats]:
    """(n, arms) mean quality and tokens in the clusters of the graded queries, softly assigned."""
    import numpy as np

    rng, k = np.random.default_rng(0), max(1, min(100, len(x) // 5))
    centres = x[rng.choice(len(x), k, replace=False)].astype(np.float64)
    for _ in range(25):
        nearest = (x @ centres.T).argmax(axis=1)
        for c in np.unique(nearest):
            mean = x[nearest == c].mean(axis=0)
            centres[c] = mean / np.linalg.norm(mean)

    def share(z: Floats) -> Floats:
        score = np.exp((z @ centres.T - 1) / SOFTNESS)
        return score / score.sum(axis=1, keepdims=True)

    def mean_at(y: Floats, overall: Floats) -> Floats:
        seen, own = np.isfinite(y), share(x)
        return share(queries) @ ((own.T @ np.nan_to_num(y) + 1e-3 * overall) / (own.T @ seen + 1e-3))

    quality, tokens = _means(graded, 1)
    return np.clip(mean_at(graded.quality, quality[0]), 0, 1), np.maximum(mean_at(graded.output_tokens, tokens[0]), 1)


def _summed_up(areas: dict[str, dict[tuple[str, int], Floats]]) -> measure.Figures:
    """Each method's mean area, and its gain over the router without the new LLM on the same LLMs and seeds; also for
    each LLM.
    """
    import numpy as np

    base = areas["without it"]

    def gain(name: str, model: str | None = None) -> measure.Figures:
        return _interval(
            np.mean([area - base[key] for key, area in areas[name].items() if model in (None, key[0])], axis=0)
        )

    methods = {
        name: {"area": _interval(np.mean(list(found.values()), axis=0)), "gain": gain(name), "cases": len(found)}
        for name, found in areas.items()
    }
    models = dict.fromkeys(model for model, _ in base)
    return {
        "methods": methods,
        "models": {m: {n: gain(n, m) for n in areas if any(k == m for k, _ in areas[n])} for m in models},
    }


def _interval(values: Floats) -> measure.Figures:
    """Of (1 + draws,) values, the first of which is the data's own."""
    import numpy as np

    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def drive(run: measure.Run) -> measure.Figures:
    """Both tables at the same time, one thread each, and what they show."""
    if not (measure.SHARED / "data").is_dir():
        print("new_models: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    with ThreadPoolExecutor(2) as pool:
        figures = dict(
            zip(TABLES, pool.map(lambda name: run.case("judge", "--table", name, threads=1), TABLES), strict=True)
        )
    for name in TABLES:
        _show(name, figures[name])
    return figures


def _show(name: str, figures: measure.Figures) -> None:
    if "failed" in figures:
        print(f"{name}: {figures['failed']}")
        return
    print(
        f"\n{name}: {figures['held_out']:,} of {figures['queries']:,} queries held out, {figures['arms']} arms;"
        f" {figures['wall_s']:.0f} s"
    )
    rows = [
        (method, *(_words(row[f], form) for f, form in (("area", ".4f"), ("gain", "+.4f"))))
        for method, row in figures["methods"].items()
    ]
    measure.table(("", "area", "gain over the router without it"), rows)


def _words(figure: dict[str, float], form: str) -> str:
    return "{} [{}, {}]".format(*(format(figure[k], form) for k in ("value", "low", "high")))


if __name__ == "__main__":
    measure.run(
        __file__,
        __doc__,
        {"judge": judge},
        drive,
        lambda p: p.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS),
    )
