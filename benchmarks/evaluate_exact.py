"""The exact evaluation over all lambdas, without a grid, of 6,194 queries x 176 arms.

`curve` is the deferral curve of given forecasts alone (`score.Routed` and `score.compare`); `compare` adds what a
router is always shown beside (fixed arms, one budget per LLM, the oracle); `evaluate` is the public function with
embeddings given, forecasts and report included; the last one adds the bootstrap of 500 draws that the command makes by
default.
"""

from __future__ import annotations

import argparse

import measure

REPEATS = 5
DRAWS = 500


def exact(args: argparse.Namespace) -> measure.Figures:
    """All of it, in one process."""
    import numpy as np

    from r2router.evaluation import evaluate
    from r2router.metrics.score import Outcomes, Routed, compare, methods
    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    n, trained, draws = (300, 300, 20) if args.small else (measure.TEST, 4000, DRAWS)
    pool = measure.paper_pool()
    x = measure.embeddings(trained + n)
    both = measure.paper_table(x, pool)
    router = Recipe(learner=Ridge(), folds=0).fit(both.take(range(trained)), vectors=x[:trained])
    x, table = x[trained:], both.take(range(trained, trained + n))
    outcomes = Outcomes.of(table.arms, table.quality, table.cost())
    forecast = router.forecast_vectors(x, 100.0)

    def curve() -> int:
        routed = Routed.of(forecast.quality, forecast.cost, outcomes)
        compare({"router": routed}, outcomes, 0, 0)
        return len(routed.sweep.row)

    def beside() -> object:
        return compare(methods(outcomes, forecast.quality, forecast.cost), outcomes, 0, 0)

    def whole(resamples: int) -> object:
        return evaluate(router, table, vectors=x, resamples=resamples)

    figures: measure.Figures = {"queries": n, "arms": len(pool), "operating_points": curve() + 1, "trained_on": trained}
    figures["curve"] = measure.percentiles(measure.times(lambda _: curve(), REPEATS, warm_up=1), 1.0, "s")
    figures["compare"] = measure.percentiles(measure.times(lambda _: beside(), REPEATS, warm_up=1), 1.0, "s")
    figures["evaluate"] = measure.percentiles(measure.times(lambda _: whole(0), REPEATS, warm_up=1), 1.0, "s")
    figures["evaluate_with_intervals"] = {"p50_s": measure.once(lambda: whole(draws)), "draws": draws, "n": 1}
    figures["mean_quality"] = float(np.nanmean(table.quality))
    return figures


def drive(run: measure.Run) -> measure.Figures:
    """The case, and its table."""
    figures = {"exact": run.case("exact")}
    rows = [
        (name, *(measure.show(figures, f"exact.{name}.{key}", "{:.2f} s") for key in ("p50_s", "p90_s")))
        for name in ("curve", "compare", "evaluate", "evaluate_with_intervals")
    ]
    measure.table(("", "p50", "p90"), rows)
    points, memory = (measure.show(figures, f"exact.{key}", "{:,.0f}") for key in ("operating_points", "peak_rss_mib"))
    print(f"\n{points} operating points; peak memory {memory} MiB")
    return figures


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"exact": exact}, drive)
