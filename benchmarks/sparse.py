"""The learner for sparse tables on the public record: splits by text, sources that were left out, coverage of the
spreads, time.

Needs the record (`../shared/data/record`), which is no part of the project. Each split holds out 30 % of the texts; the
router of the rest is compared on each task with the mixture of fixed arms that its training answers choose, and on all
tasks together with the mixture that the arms' averages choose (`r2router.evaluate`). A source that is left out is
compared with the mixture of fixed arms that all other sources choose; the router of the others decides.

Coverage: in training most cells of 30 % of the (task, arm) pairs are held back, so that there are arms of every number
of cells. Of the answers of an arm to at least four held-out queries that lie nearest to one group, the mean must lie
within 1.96 standard errors of the mean forecast, of spread and sampling together. Beside it the variance of what the
errors of two such queries share, over the one that the spread says: 1 is right.

Time: of `Recipe().fit` on the whole record on two threads, without embedding; and of embedding a thirtieth of its
texts, times thirty.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import measure

RECORD = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "record"
LEAST = 4
BINS = (0, 1, 6, 21, 61, 1_000_000)
HELD_BACK, KEPT = 0.3, (0, 1, 3, 10, 30)
SAMPLE = 30


def read(small: bool) -> Any:
    import r2router as r2

    files = sorted(RECORD.glob("*.parquet"))[: 3 if small else None]
    return r2.Table.read(files, prices=RECORD / "prices.csv", unpriced="teach")


def vectors(args: argparse.Namespace, texts: Any) -> Any:
    """Embeddings of the texts, kept between runs where a file is named for it."""
    import numpy as np

    from r2router.encode import embed, load_encoder

    kept = Path(args.vectors) if args.vectors else None
    x = np.load(kept) if kept is not None and kept.exists() else embed(load_encoder("minilm"), texts)
    if kept is not None and not kept.exists():
        np.save(kept, x)
    return x


def judge(args: argparse.Namespace) -> measure.Figures:
    import numpy as np

    import r2router as r2
    from r2router.evaluation.sources_left_out import sources_left_out
    from r2router.predict.domains import Domains

    table = read(args.small)
    x = vectors(args, table.queries)
    figures: measure.Figures = {}
    for seed in range(1 if args.small else args.seeds):
        rng = np.random.default_rng(seed)
        texts = sorted(set(table.queries))
        gone = set(np.array(texts, dtype=object)[rng.permutation(len(texts))[: int(0.3 * len(texts))]])
        held = np.array([text in gone for text in table.queries])
        train, test = table.take(np.flatnonzero(~held)), table.take(np.flatnonzero(held))
        begin = time.process_time()
        router = r2.Recipe(learner=Domains(), folds=0).fit(train, x[~held])
        seconds = time.process_time() - begin
        report: Any = r2.evaluate(router, test, vectors=x[held], train=train, resamples=200)
        gains = np.array([task.over_mixture.value for task in report.gaps.tasks])
        row = {"error": report.error, "tasks": len(gains), "worst": gains.min(), "below_02": int((gains < -0.02).sum())}
        row |= {name: getattr(report.gaps.mean, name) for name in ("value", "low", "high")} | {"fit_cpu_s": seconds}
        row |= {"pooled": {name: getattr(report.pooled, name) for name in ("value", "low", "high", "n")}}
        figures[f"split {seed}"] = row
        if seed == 0:
            figures["coverage"] = coverage(train, test, x[~held], x[held])
    only = args.without.split(",") if args.without else None
    names = None if only is None else [name for name, _ in table.sources if Path(name).stem in only]
    for one in sources_left_out(table, x, Domains(), resamples=200, seed=0, only=names):
        gap = {name: getattr(one.over_mixture, name) for name in ("value", "low", "high")}
        figures[f"without {Path(one.source).stem}"] = gap | {
            "queries": one.queries,
            "tasks": one.tasks,
            "unfamiliar": one.unfamiliar,
        }
    return figures | {"peak_rss_mib": measure.peak_rss_mib()}


def coverage(train: Any, test: Any, x_train: Any, x: Any) -> measure.Figures:
    """By cells of the (task, arm) pair in training: the share of groups whose mean is covered, and variance found over
    variance said.
    """
    import dataclasses

    import numpy as np

    from r2router.predict.domain_stats import deviations
    from r2router.predict.domains import Domains

    rng = np.random.default_rng(0)
    quality, tasks = train.quality.copy(), np.array(train.tasks)
    for task in sorted(set(train.tasks)):
        rows = rng.permutation(np.flatnonzero(tasks == task))
        for arm in np.flatnonzero(rng.random(quality.shape[1]) < HELD_BACK):
            seen = rows[np.isfinite(quality[rows, arm])]
            quality[seen[int(rng.choice(KEPT)) :], arm] = np.nan
    count = {task: np.isfinite(quality[tasks == task]).sum(axis=0) for task in set(train.tasks)}
    fitted = Domains().fit(x_train, dataclasses.replace(train, quality=quality))
    forecast, nearest = fitted.predict(x), fitted.groups_of(x)
    place: dict[tuple[str, int], list[int]] = {}
    for row, key in enumerate(zip(test.tasks, nearest.tolist(), strict=True)):
        place.setdefault(key, []).append(row)
    scatter = {task: deviations(test.quality[np.array(test.tasks) == task]) ** 2 for task in count}
    found: dict[int, list[tuple[float, float, float, bool]]] = {low: [] for low in BINS[:-1]}
    for (task, _), own in place.items():
        if task not in count:
            continue
        off, spread = test.quality[own] - forecast.quality[own], forecast.spread[own]
        n = np.isfinite(off).sum(axis=0)
        for arm in np.flatnonzero(n >= 2):
            seen = np.isfinite(off[:, arm])
            error, said, m = off[seen, arm], float(np.square(spread[seen, arm]).mean()), int(n[arm])
            shared = float((error.sum() ** 2 - np.square(error).sum()) / (m * (m - 1)))
            sampling = float(scatter[task][arm]) / m
            bin_of = next(low for low, high in pairwise(BINS) if low <= count[task][arm] < high)
            found[bin_of].append(
                (m - 1, shared, said, abs(error.mean()) <= 1.96 * np.sqrt(said + sampling) if m >= LEAST else None)
            )
    figures: measure.Figures = {}
    for low, high in pairwise(BINS):
        rows = found[low]
        judged = [inside for *_, inside in rows if inside is not None]
        if judged:
            weight, shared, said = (np.array([row[k] for row in rows]) for k in range(3))
            name = (
                f"{low} cells"
                if high == low + 1
                else f"{low} to {high - 1} cells"
                if high < BINS[-1]
                else f"{low} cells or more"
            )
            ratio = float((weight @ shared) / (weight @ said))
            figures[name] = {"covered": float(np.mean(judged)), "groups": len(judged), "variance_over_said": ratio}
    return figures


def speed(args: argparse.Namespace) -> measure.Figures:
    """Seconds of training on the whole record."""
    import r2router as r2
    from r2router.encode import embed, load_encoder

    table = read(args.small)
    encoder, some = load_encoder("minilm"), table.queries[::SAMPLE]
    encoder.encode(some[:8])
    begin = time.perf_counter()
    embed(encoder, some)
    embedding = (time.perf_counter() - begin) * len(table) / len(some)
    x = vectors(args, table.queries)
    begin, cpu = time.perf_counter(), time.process_time()
    r2.Recipe().fit(table, x)
    spent = {"fit_s": time.perf_counter() - begin, "fit_cpu_s": time.process_time() - cpu}
    return {"texts": len(table), "embedding_s": embedding, **spent, "peak_rss_mib": measure.peak_rss_mib()}


def drive(run: measure.Run) -> measure.Figures:
    if not RECORD.is_dir():
        print("the record (../shared/data/record) is not here: nothing is measured")
        return {}
    given = (("--vectors", run.args.vectors), ("--seeds", run.args.seeds), ("--without", run.args.without))
    words = [word for pair in given if pair[1] for word in pair]
    figures = run.case("judge", *words, timeout=5400)
    figures["training"] = run.case("speed", *words, threads=2, timeout=3600)
    splits = {name: row for name, row in figures.items() if name.startswith("split")}
    keys, forms = (
        ("error", "value", "low", "high", "worst", "below_02", "tasks"),
        ("{:.3f}", *["{:+.4f}"] * 3, "{:+.3f}", "{:d}", "{:d}"),
    )
    pooled = [
        [measure.show(row, f"pooled.{k}", "{:+.4f}") for k in ("value", "low", "high")] for row in splits.values()
    ]
    rows = [
        [name, *(measure.show(row, k, f) for k, f in zip(keys, forms, strict=True)), *p]
        for (name, row), p in zip(splits.items(), pooled, strict=True)
    ]
    measure.table(("", "error", "over mixture", "from", "to", "worst", "below", "tasks", "pooled", "from", "to"), rows)
    alone = [
        [
            name,
            *(
                measure.show(row, k, f)
                for k, f in zip(("value", "low", "high", "unfamiliar"), (*["{:+.4f}"] * 3, "{:.0%}"), strict=True)
            ),
        ]
        for name, row in figures.items()
        if name.startswith("without")
    ]
    measure.table(("", "over mixture", "from", "to", "unfamiliar"), alone)
    covered = [
        [
            name,
            *(
                measure.show(row, k, f)
                for k, f in (("covered", "{:.1%}"), ("groups", "{:,d}"), ("variance_over_said", "{:.2f}"))
            ),
        ]
        for name, row in figures.get("coverage", {}).items()
    ]
    measure.table(("cells seen", "covered", "groups", "variance over said"), covered)
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="how many splits")
    parser.add_argument("--without", default="", help="which sources are left out in turn, by comma; all by default")
    parser.add_argument("--vectors", default="", help="where the embeddings are kept between runs (.npy)")


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"judge": judge, "speed": speed}, drive, configure)
