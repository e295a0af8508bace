"""Choosing what to ask: the router's quality against the dollars spent on its table, for several ways of spending them.

A real outcome table is replayed as if it were unknown: 20 % of the queries are held out (5 seeds, each a split and an
order of its own), and of the others cells are revealed at their recorded cost until a share of the full grid's cost is
spent. The default learner is trained on what was revealed and scored on the held-out queries, whose outcomes are all
known: `area` is mean quality over log cost between the cheapest and the most expensive fixed arm, mixtures allowed.

`decision`: the adaptive way with its default settings. `price`: the same with explore = 1: by price alone, without
forecasts. `queries`: random queries with all arms, the usual grid on fewer of them. `cells`: random cells. `coarse`:
ends and middle of each model's budgets first.

Intervals are 95 % percentiles of a bootstrap that draws seeds and queries; all strategies see the same draws, so
differences are paired. The tables lie in `../shared/data` and are no part of the project.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r2router.metrics.score import Method

    Floats = NDArray[np.floating[Any]]

TABLES = ("tts_knowledge", "jhu_concise_cot")
SEEDS, DRAWS = 5, 200
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SIMPLE = ("queries", "cells", "coarse")


def spend(args: argparse.Namespace) -> measure.Figures:
    """One table under every strategy."""
    import numpy as np

    from r2router.bench.adaptive import Settings
    from r2router.bench.replay import hide, replay
    from r2router.encode import count_tokens, load_encoder
    from r2router.metrics.score import FixedArms, Outcomes, Routed
    from r2router.predict.input_tokens import InputTokens
    from r2router.table.table import Table

    data = measure.SHARED / "data"
    table = Table.read(data / f"{args.table}.parquet", prices=data / "prices.csv")
    if args.small:
        table = table.take(np.random.default_rng(0).permutation(len(table))[:150])
    seeds, draws, shares = (1, 20, (0.05, 0.5)) if args.small else (SEEDS, DRAWS, SHARES)
    x, counts = load_encoder("minilm").encode(table.queries), count_tokens(table.queries).astype(np.float64)
    estimates = InputTokens.fit(counts, table).estimate(counts)
    cost = np.where(np.isnan(table.quality), np.nan, table.cost(estimates))
    learner = Settings().learner
    weights = _weights(len(table), seeds, draws)
    areas: dict[str, list[Floats]] = {}
    usd: dict[str, list[list[float]]] = {}
    cells: dict[str, list[list[float]]] = {}
    full = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(table))
        test, train = order[: len(order) // 5], order[len(order) // 5 :]
        part, outcomes = table.take(train), Outcomes.of(table.arms, table.quality[test], cost[test])
        full.append(float(np.nansum(cost[train])))
        whole: Floats | None = None
        strategies = {"decision": Settings(seed=seed), "price": Settings(seed=seed, explore=1.0)} | {
            name: name for name in SIMPLE
        }
        for name, strategy in strategies.items():
            bought = replay(part, x[train], estimates[train], [share * full[-1] for share in shares], strategy, seed)
            rows = []
            for one in bought:
                if whole is not None and one.seen.sum() == np.isfinite(cost[train]).sum():
                    rows.append(whole)  # the full grid is the same whoever bought it
                    continue
                asked = np.flatnonzero(one.seen.any(axis=1))
                forecast = learner.fit(x[train][asked], hide(part, one.seen).take(asked)).predict(x[test])
                routed = Routed.of(forecast.quality, table.pool.cost(estimates[test], forecast.tokens), outcomes)
                fixed = FixedArms(outcomes, outcomes.fixed_arms())
                rows.append(np.array([_area(routed, fixed, w[test]) for w in weights]))
                if one.seen.sum() == np.isfinite(cost[train]).sum():
                    whole = rows[-1]
            areas.setdefault(name, []).append(np.array(rows))
            usd.setdefault(name, []).append([one.usd for one in bought])
            cells.setdefault(name, []).append([float(one.seen.sum()) for one in bought])
    return {
        "queries": len(table),
        "held_out": len(table) // 5,
        "arms": len(table.arms),
        "seeds": seeds,
        "draws": draws,
        "shares": shares,
        "full_grid_usd": float(np.mean(full)),
        "spent_usd": {name: np.mean(v, axis=0).tolist() for name, v in usd.items()},
        "cells": {name: np.mean(v, axis=0).tolist() for name, v in cells.items()},
        **_summary({name: np.array(v) for name, v in areas.items()}, shares),
    }


def _weights(n: int, seeds: int, draws: int) -> list[Floats]:
    """(n,) how often each query counts: once, and in each draw of a bootstrap."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [np.ones(n), *(rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(draws))]


def _area(method: Method, fixed: Method, weight: Floats) -> float:
    from r2router.metrics.frontier import area_over_log_cost, upper_envelope

    fixed_cost = fixed.points(weight)[0]
    cost, quality = method.points(weight)
    hull = upper_envelope(cost, quality)
    return area_over_log_cost(cost[hull], quality[hull], float(fixed_cost.min()), float(fixed_cost.max()))


def _summary(areas: dict[str, Floats], shares: tuple[float, ...]) -> measure.Figures:
    """Areas of each strategy and the paired differences, from (seeds, levels, 1 + draws) areas."""
    import numpy as np

    seeds, _, draws = next(iter(areas.values())).shape
    chosen = np.random.default_rng(1).integers(seeds, size=(seeds, draws))
    chosen[:, 0] = np.arange(seeds)  # the first is no draw
    mean = {name: np.take_along_axis(v, chosen[:, None, :], axis=0).mean(axis=0) for name, v in areas.items()}
    best = [max(SIMPLE, key=lambda name: mean[name][i, 0]) for i in range(len(shares))]
    simple = np.array([mean[name][i] for i, name in enumerate(best)])
    differences = {
        "decision - best simple": mean["decision"] - simple,
        "price - best simple": mean["price"] - simple,
        "decision - queries": mean["decision"] - mean["queries"],
        "decision - price": mean["decision"] - mean["price"],
    }
    return {
        "area": {name: [_interval(row) for row in v] for name, v in mean.items()},
        "best_simple": best,
        "difference": {name: [_interval(row) for row in v] for name, v in differences.items()},
    }


def _interval(values: Floats) -> dict[str, float]:
    import numpy as np

    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def drive(run: measure.Run) -> measure.Figures:
    """Both tables, one after the other, in one thread."""
    if not (measure.SHARED / "data").is_dir():
        print("adaptive: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    figures = {}
    for name in reversed(TABLES):
        figures[name] = run.case("spend", "--table", name, threads=1)
        _show(name, figures[name])
    if not run.args.small:
        draw(figures)
    return figures


def draw(figures: measure.Figures) -> None:
    """docs/adaptive.png: area against the share of the full grid's dollars, with its interval."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("adaptive: matplotlib is not here; docs/adaptive.png stays as it was")
        return
    whole = Figure(figsize=(10, 4), layout="constrained")
    for place, (name, found) in enumerate(figures.items()):
        axes = whole.add_subplot(1, 2, place + 1)
        for method, row in found["area"].items():
            usd, value = found["spent_usd"][method], [f["value"] for f in row]
            (line,) = axes.plot(usd, value, marker="o", markersize=3, label=method)
            if method in ("decision", "queries"):
                axes.fill_between(
                    usd, [f["low"] for f in row], [f["high"] for f in row], alpha=0.12, color=line.get_color()
                )
        axes.axhline(found["area"]["queries"][-1]["value"], color="grey", linewidth=0.8, linestyle=":")
        axes.set(
            xscale="log", xlabel="US dollars spent on the table", ylabel="area over log cost, held out", title=name
        )
        axes.legend()
    whole.savefig(measure.ROOT / "docs" / "adaptive.png", dpi=90)


def _show(name: str, figures: measure.Figures) -> None:
    if "failed" in figures:
        print(f"{name}: {figures['failed']}")
        return
    full = figures["full_grid_usd"]
    print(f"\n{name}: full grid ${full:.2f}; {figures['seeds']} seeds; {figures['cpu_s']:.0f} s of CPU")
    heads = ("area", *(f"{share:.0%} ${share * full:.2f}" for share in figures["shares"]))
    rows = [
        (m, *(f"{f['value']:.4f} [{f['low']:.3f}, {f['high']:.3f}]" for f in row)) for m, row in figures["area"].items()
    ]
    rows += [
        (m, *(f"{f['value']:+.4f} [{f['low']:+.3f}, {f['high']:+.3f}]" for f in row))
        for m, row in figures["difference"].items()
    ]
    rows.append(("best simple", *figures["best_simple"]))
    measure.table(heads, rows)


if __name__ == "__main__":
    measure.run(
        __file__,
        __doc__,
        {"spend": spend},
        drive,
        lambda p: p.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS),
    )
