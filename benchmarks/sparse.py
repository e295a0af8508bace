"""The learner for sparse tables on the public record: splits by text, sources that were left out, coverage of the spreads, time.

Needs the record (`../shared/data/record`), which is no part of the project. Each split holds out 30 % of the texts; the router of the rest
is compared on each task with the mixture of fixed arms that its training answers choose (`r2router.evaluate`). A source that is left out
is compared with the mixture of fixed arms that all other sources choose. Coverage: how often the mean of an arm over the held-out queries
of a task lies within 1.96 standard errors of the forecast, of spread and sampling together.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import measure

RECORD = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "record"
MIN = 25


def judge(args: argparse.Namespace) -> measure.Figures:
    import numpy as np
    import polars as pl

    import r2router as r2
    from r2router.encode import embed, load_encoder
    from r2router.predict.domains import Domains

    files = sorted(RECORD.glob("*.parquet"))[: 3 if args.small else None]
    table = r2.Table.read(files, prices=RECORD / "prices.csv", unpriced="teach")
    kept = Path(args.vectors) if args.vectors else None
    x = np.load(kept) if kept is not None and kept.exists() else embed(load_encoder("minilm"), table.queries)
    if kept is not None and not kept.exists():
        np.save(kept, x)
    figures: measure.Figures = {}
    for seed in range(1 if args.small else args.seeds):
        rng = np.random.default_rng(seed)
        texts = sorted(set(table.queries))
        gone = set(np.array(texts, dtype=object)[rng.permutation(len(texts))[: int(0.3 * len(texts))]])
        held = np.array([text in gone for text in table.queries])
        train, test = table.take(np.flatnonzero(~held)), table.take(np.flatnonzero(held))
        begin = time.perf_counter()
        router = r2.Recipe(learner=Domains(), folds=0).fit(train, x[~held])
        seconds = time.perf_counter() - begin
        report: Any = r2.evaluate(router, test, vectors=x[held], train=train, resamples=200)
        gains = np.array([task.over_mixture.value for task in report.gaps.tasks])
        row = {"error": report.error, "tasks": len(gains), "worst": gains.min(), "below_02": int((gains < -0.02).sum())}
        row |= {name: getattr(report.gaps.mean, name) for name in ("value", "low", "high")} | {"fit_s": seconds}
        figures[f"split {seed}"] = row | coverage(router, train, test, x[held])
    for path in files:
        if args.without and path.stem not in args.without.split(","):
            continue
        ids = set(pl.read_parquet(path, columns=["query_id"])["query_id"].unique())
        figures[f"without {path.stem}"] = left_out(table, x, np.array([query in ids for query in table.query_ids]))
    return figures | {"peak_rss_mib": measure.peak_rss_mib()}


def coverage(router: Any, train: Any, test: Any, x: Any) -> dict[str, float]:
    """Shares of (task, arm) means within their intervals: all, and those of arms that training saw at most 20 times on the task."""
    import numpy as np

    forecast = router.forecast_vectors(x)
    labels, known = np.array(test.tasks), np.array(train.tasks)
    inside: dict[bool, list[bool]] = {True: [], False: []}
    for task in sorted(set(test.tasks)):
        rows = np.flatnonzero(labels == task)
        y = test.quality[rows]
        count = np.isfinite(train.quality[known == task]).sum(axis=0)
        for arm in np.flatnonzero(np.isfinite(y).sum(axis=0) >= MIN):
            seen = np.isfinite(y[:, arm])
            own = y[seen, arm]
            error = np.hypot(forecast.spread[rows[seen], arm].mean(), own.std() / np.sqrt(len(own)))
            inside[bool(count[arm] <= 20)].append(abs(own.mean() - forecast.quality[rows[seen], arm].mean()) <= 1.96 * error)
    return {f"covered_{name}": float(np.mean(inside[few])) for name, few in (("seldom", True), ("often", False)) if inside[few]}


def left_out(table: Any, x: Any, own: Any) -> dict[str, float]:
    """The router of all other sources on one source, over the mixture of fixed arms that the other sources choose."""
    import numpy as np

    from r2router.metrics.by_task import gaps
    from r2router.metrics.methods import Means, Outcomes
    from r2router.predict.domain_parts import balanced_means
    from r2router.predict.domains import Domains

    train, test = table.take(np.flatnonzero(~own)), table.take(np.flatnonzero(own))
    forecast = Domains().fit(x[~own], train).predict(x[own])
    inputs = np.zeros(1)
    quality, tokens = balanced_means(train.quality, train.output_tokens, train.tasks)
    means = Means(*(np.tile(v, (len(test), 1)) for v in (quality, table.pool.cost(inputs, tokens[None])[0])))
    outcomes = Outcomes.of(test.arms, test.quality, test.cost())
    found = gaps(test.tasks, forecast.quality, table.pool.cost(inputs, forecast.tokens), outcomes, means, 200, 0)
    return {name: getattr(found.mean, name) for name in ("value", "low", "high")} | {"tasks": len(found.tasks), "queries": len(test)}


def drive(run: measure.Run) -> measure.Figures:
    if not RECORD.is_dir():
        print("the record (../shared/data/record) is not here: nothing is measured")
        return {}
    given = (("--vectors", run.args.vectors), ("--seeds", run.args.seeds), ("--without", run.args.without))
    figures = run.case("judge", *(word for pair in given if pair[1] for word in pair), timeout=3600)
    head = ("", "error", "over mixture", "from", "to", "worst", "below", "tasks", "fit s", "covered, seldom", "often")
    keys = ("error", "value", "low", "high", "worst", "below_02", "tasks", "fit_s", "covered_seldom", "covered_often")
    forms = ("{:.3f}", "{:+.4f}", "{:+.4f}", "{:+.4f}", "{:+.3f}", "{:d}", "{:d}", "{:.0f}", "{:.0%}", "{:.0%}")
    rows = [
        [name, *(measure.show(row, k, f) for k, f in zip(keys, forms, strict=True))]
        for name, row in figures.items()
        if isinstance(row, dict)
    ]
    measure.table(head, rows)
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="how many splits")
    parser.add_argument("--without", default="", help="which sources are left out in turn, by comma; all by default")
    parser.add_argument("--vectors", default="", help="where the embeddings are kept between runs (.npy)")


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"judge": judge}, drive, configure)
