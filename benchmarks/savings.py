"""Promised against real savings: held-out queries of the public record, and whole tasks that the router never saw.

Needs the record (`../shared/data/record`), which is no part of the project. *Tasks*: the tasks are left out in four
groups, so that to the router their queries are what a person's prompts are: of kinds that it may know, from places that
it does not. *Queries*: 30 % of the texts are held out, of all tasks. On each task, the arms that were seen on 95 % of
its held-out queries stand for the models of a person, and three of them in turn for the model that is used now: by list
price the most expensive one, the median one and the one in between. What `savings` promises for each is compared with
the real answers and lengths; inputs were not recorded and are estimated on both sides.

`--write` puts the bias and the deviations of *tasks* into src/r2router/prompts/promise.json, from which the intervals
come. In the figures, the interval of a promise comes from other tasks: each eighth of the tasks is judged by the errors
on the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import measure

RECORD = measure.ROOT.parent / "shared" / "data" / "record"
KEPT = measure.ROOT / "src" / "r2router" / "prompts" / "promise.json"
MIN, GROUPS = 25, 4
SCALES = ("quality", "cost", "gain", "ratio")
FOLDS = 8


def judge(args: argparse.Namespace) -> measure.Figures:
    import numpy as np

    import r2router as r2
    from r2router.predict.domains import Domains
    from r2router.starter.domains import with_domain_stats

    files = sorted(RECORD.glob("*.parquet"))[: 3 if args.small else None]
    table = r2.Table.read(files, prices=RECORD / "prices.csv", unpriced="teach")
    x = (
        np.load(args.vectors)
        if args.vectors and not args.small
        else r2.encode.embed(r2.encode.load_encoder("minilm"), table.queries)
    )
    recipe = r2.Recipe(learner=Domains(), folds=0)
    rows: list[dict[str, Any]] = []
    for regime, held in splits(table, 1 if args.small else GROUPS):
        train, test = table.take(np.flatnonzero(~held)), table.take(np.flatnonzero(held))
        router = with_domain_stats(recipe.fit(train, x[~held]), train, x[~held])
        rows += promised(router, test, x[held], regime)
        if args.promises:
            Path(args.promises).write_text(json.dumps(rows), encoding="utf-8")
        print(f"{regime}: {len(rows)} promises", file=sys.stderr, flush=True)
    return figures_of(rows, args.write)


def again(args: argparse.Namespace) -> measure.Figures:
    """The same from promises that were kept: for another look at the intervals."""
    return figures_of(json.loads(Path(args.promises).read_text(encoding="utf-8")), args.write)


def splits(table: Any, groups: int) -> list[tuple[str, Any]]:
    """(regime, (n,) which queries are held out). A text of a task that is left out is not learned from elsewhere
    either.
    """
    import numpy as np

    tasks, texts = np.array(table.tasks), np.array(table.queries, dtype=object)
    names = np.random.default_rng(0).permutation(sorted(set(table.tasks)))
    found = []
    for group in range(groups):
        own = set(texts[np.isin(tasks, names[group::GROUPS])])
        found.append(("tasks", np.isin(tasks, names[group::GROUPS]) | np.array([text in own for text in texts])))
    every = sorted(set(texts))
    gone = set(np.array(every, dtype=object)[np.random.default_rng(1).permutation(len(every))[: int(0.3 * len(every))]])
    return [*found, ("queries", np.array([text in gone for text in texts]))]


def promised(router: Any, test: Any, x: Any, regime: str) -> list[dict[str, Any]]:
    """Promises and what came of them, one per (task, arm of now, way)."""
    import numpy as np

    from r2router.encode import count_tokens

    counts = np.asarray(count_tokens(test.queries), dtype=np.float64)
    forecast = router.forecast_vectors(x, counts)
    cost = test.cost(router.input_tokens.estimate(counts))
    labels, found = np.array(test.tasks), []
    for task in sorted(set(test.tasks)):
        rows = np.flatnonzero(labels == task)
        both = np.isfinite(test.quality[rows]) & np.isfinite(cost[rows])
        arms = np.flatnonzero((both.mean(axis=0) >= 0.95) & np.isfinite(forecast.cost[rows]).all(axis=0))
        rows = rows[both[:, arms].all(axis=1)]
        if len(arms) < 4 or len(rows) < MIN:
            continue
        real = (test.quality[np.ix_(rows, arms)], cost[np.ix_(rows, arms)])
        found += of_task(router, forecast, rows, arms, real, {"regime": regime, "task": task})
        if regime == "tasks":  # as if all of it were unlike anything known
            blank = averages(router, forecast, counts)
            found += of_task(router, blank, rows, arms, real, {"regime": "unknown", "task": task})
    return found


def averages(router: Any, forecast: Any, counts: Any) -> Any:
    """The forecast of queries that are unlike everything."""
    import msgspec
    import numpy as np

    n = len(forecast.quality)
    quality, tokens = (np.tile(v, (n, 1)) for v in (router.prior_quality, router.prior_tokens))
    cost = router.pool.cost(router.input_tokens.estimate(counts), tokens)
    return msgspec.structs.replace(
        forecast, quality=quality, tokens=tokens, cost=cost, familiar=np.zeros(n, dtype=bool)
    )


def of_task(
    router: Any, forecast: Any, rows: Any, arms: Any, real: tuple[Any, Any], said: dict[str, str]
) -> list[dict[str, Any]]:
    """The promises on one task, with the arms that were seen there."""
    import numpy as np

    from r2router.prompts.savings import ALL, PromptForecasts, domains_of
    from r2router.types import Forecast

    part = Forecast(
        tuple(forecast.arms[a] for a in arms),
        *(getattr(forecast, name)[np.ix_(rows, arms)] for name in ("quality", "tokens", "spread")),
        forecast.familiar[rows],
        forecast.cost[np.ix_(rows, arms)],
        forecast.domain[rows],
    )
    domains, graded = domains_of(router, part)
    price = router.pool.usd_per_token[1][arms]
    order = np.argsort(price, kind="stable")
    index, found = np.arange(len(rows)), []
    for now in dict.fromkeys(int(order[int(at * (len(order) - 1))]) for at in (1.0, 0.75, 0.5)):
        given = PromptForecasts(part, now, {ALL: np.arange(len(arms))}, domains, graded, kept=none())
        for way in given.ways():
            q, c = part.quality[index, way.arm], part.cost[index, way.arm]
            y, d = real[0][index, way.arm], real[1][index, way.arm]
            other = way.arm != now
            found.append(
                {
                    **said,
                    "domain": max(set(domains), key=domains.count),
                    "now": str(part.arms[now]),
                    "way": way.name,
                    "n": len(rows),
                    "moved": float(max(other.mean(), part.cost[other, now].sum() / part.cost[:, now].sum())),
                    "mix": {name: domains.count(name) / len(domains) for name in sorted(set(domains))},
                    "promised": [
                        float(q.mean()),
                        float(c.mean()),
                        float(part.quality[:, now].mean()),
                        float(part.cost[:, now].mean()),
                    ],
                    "real": [
                        float(y.mean()),
                        float(d.mean()),
                        float(real[0][:, now].mean()),
                        float(real[1][:, now].mean()),
                    ],
                    "noise": [float(np.var(y - q) / len(rows)), float(np.var(d) / d.mean() ** 2 / len(rows))],
                }
            )
    return found


def none() -> Any:
    """Promises that are never off."""
    from r2router.prompts.promise import Promise, PromiseDeviation, Promises

    off = PromiseDeviation(0.0, {"": 0.0}, 0.0)
    return Promises(Promise(off, off, off, off), Promise(off, off, off, off), 0.0, 0.0)


# -- from promises to figures
# --------------------------------------------------------------------------------------------------


def errors(row: dict[str, Any]) -> dict[str, float]:
    """Real minus promised, as `Promise` has it."""
    import math

    (q, c, q_now, c_now), (y, d, y_now, d_now) = row["promised"], row["real"]
    return {
        "quality": y - q,
        "cost": math.log(d / c),
        "gain": (y - y_now) - (q - q_now),
        "ratio": math.log(d / d_now) - math.log(c / c_now),
    }


def kept_of(rows: list[dict[str, Any]]) -> Any:
    """What these promises show of how far promises are off; z from tasks that were left out of it in turn."""
    import msgspec
    import numpy as np

    found = offs(rows)
    ratios: dict[tuple[str, str], list[float]] = {(way, kind): [] for way in ("fixed", "routed") for kind in SCALES}
    weights: dict[tuple[str, str], list[float]] = {key: [] for key in ratios}
    used = [row for row in rows if row["regime"] in {"tasks", "unknown"}]
    for task in sorted({row["task"] for row in used}):
        rest = offs([row for row in used if row["task"] != task])
        own = [row for row in used if row["task"] == task]
        for row in own:
            for kind, (off, half) in distances(row, rest).items():
                key = "fixed" if row["way"] == "now" else "routed", kind
                ratios[key].append(off / half)
                weights[key].append(1 / len(own))

    # so many tasks say no more of the last percents
    level = min(0.95 * (1 + 1 / max(len({row["task"] for row in used}), 1)), 1.0)

    def with_z(way: str) -> Any:
        promise = getattr(found, way)
        parts = {}
        for kind in SCALES:
            key = way, kind
            z = max(quantile(np.array(ratios[key]), np.array(weights[key]), level), 1.96) if ratios[key] else 1.96
            parts[kind] = msgspec.structs.replace(getattr(promise, kind), z=z)
        return msgspec.structs.replace(promise, **parts)

    return msgspec.structs.replace(found, fixed=with_z("fixed"), routed=with_z("routed"))


def quantile(values: Any, weight: Any, level: float) -> float:
    """The least value at or below which so large a share of the weight lies."""
    import numpy as np

    order = np.argsort(values)
    share = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(share, level)), len(order) - 1)])


def offs(rows: list[dict[str, Any]]) -> Any:
    """Biases and deviations, without z."""
    import numpy as np

    from r2router.prompts.promise import UNKNOWN, Promise, PromiseDeviation, Promises, deviations

    def promise(own: list[dict[str, Any]], blank: list[dict[str, Any]]) -> Any:
        parts = {}
        for name in SCALES:
            at = 0 if name in {"quality", "gain"} else 1
            twice = 1.0 if name in {"quality", "cost"} else 2.0
            noise, tasks = np.array([twice * row["noise"][at] for row in own]), [row["task"] for row in own]
            off = deviations(np.array([errors(row)[name] for row in own]), noise, [row["domain"] for row in own], tasks)
            unlike = np.array([errors(row)[name] - off.bias for row in blank])
            parts[name] = PromiseDeviation(off.bias, off.deviation | {UNKNOWN: float(np.sqrt(np.mean(unlike**2)))}, 1.0)
        return Promise(**parts)

    known = [row for row in rows if row["regime"] == "tasks"]
    blank = [row for row in rows if row["regime"] == "unknown"]

    def changed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in found if row["way"] != "now" and row["moved"] > 0]

    def still(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [row for row in found if row["way"] == "now"]

    answer, length = (float(np.sqrt(np.mean([row["noise"][at] * row["n"] for row in known]))) for at in (0, 1))
    return Promises(promise(still(known), still(blank)), promise(changed(known), changed(blank)), answer, length)


def distances(row: dict[str, Any], kept: Any) -> dict[str, tuple[float, float]]:
    """kind -> (how far the real figure is from the promised one, half of the interval), on the scale of `Promise`."""
    from r2router.prompts import promise as p

    mix = p.Mix(row["n"], tuple(row["mix"]), tuple(row["mix"].values()))
    own = p.promise_of(kept, row["moved"], routed=row["way"] != "now")
    found = {}
    for kind, error in errors(row).items():
        single = kind in {"quality", "cost"}
        if not single and (row["way"] == "now" or row["moved"] <= 0):
            continue
        bias = getattr(own, kind).bias * (1.0 if single else row["moved"])
        found[kind] = (abs(error - bias), max(p.half_of(kind, own, mix, row["moved"], kept), 1e-9))
    return found


def promises_of(row: dict[str, Any], kept: Any) -> dict[str, Any]:
    """The figures that `savings` would give."""
    from r2router.prompts import promise as p

    q, c, q_now, c_now = row["promised"]
    mix = p.Mix(row["n"], tuple(row["mix"]), tuple(row["mix"].values()))
    own = p.promise_of(kept, row["moved"], routed=row["way"] != "now")
    return {
        "quality": p.quality_figure("", q, own, mix, kept),
        "cost": p.cost_figure("", c, own, mix, kept),
        "gain": p.gain_figure("", q - q_now, row["moved"], own, mix, kept),
        "saving": p.saving_figure("", c / c_now, row["moved"], own, mix, kept),
    }


def figures_of(rows: list[dict[str, Any]], write: bool) -> measure.Figures:
    """Coverage of the intervals, and what was promised and real, by regime and by domain."""
    import msgspec

    tasks = sorted({row["task"] for row in rows})
    parts = {task: number % FOLDS for number, task in enumerate(tasks)}
    kept = {part: kept_of([row for row in rows if parts[row["task"]] != part]) for part in range(FOLDS)}
    whole = kept_of(rows)
    if write:
        KEPT.write_bytes(msgspec.json.format(msgspec.json.encode(rounded(msgspec.to_builtins(whole)))) + b"\n")
    figures: measure.Figures = {"answer": whole.answer, "length": whole.length}
    for regime in ("tasks", "queries", "unknown"):
        own = [(row, kept[parts[row["task"]]]) for row in rows if row["regime"] == regime]
        if not own:
            continue
        figures[regime] = {"all": summary(own)}
        for domain in sorted({row["domain"] for row, _ in own}):
            figures[regime][domain] = summary([(row, k) for row, k in own if row["domain"] == domain])
        for way in ("all models", *(f"best pool of {k}" for k in range(1, 6))):
            if some := [(row, k) for row, k in own if row["way"] == way]:
                figures[regime][way] = summary(some)
    return figures


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def summary(own: list[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    """Of some promises: how many, shares of the real figures within the intervals, and the mean promised and real
    saving.
    """
    import numpy as np

    inside: dict[str, list[bool]] = {kind: [] for kind in SCALES}
    promised, real, wide = [], [], []
    for row, kept in own:
        for kind, (off, half) in distances(row, kept).items():
            inside[kind].append(off <= half + 1e-12)
        if row["way"] != "now":
            figure = promises_of(row, kept)["saving"]
            promised.append(figure.value)
            real.append(1 - row["real"][1] / row["real"][3])
            wide.append(figure.high - figure.low)
    found: dict[str, Any] = {f"covered_{kind}": float(np.mean(inside[kind])) for kind in SCALES if inside[kind]}
    names = {"promised_saving": promised, "real_saving": real, "interval_width": wide}
    medians = {name: float(np.median(v)) for name, v in names.items() if v}
    gains = [row["real"][0] - row["real"][2] for row, _ in own if row["way"] != "now"]
    return (
        {"tasks": len({row["task"] for row, _ in own}), "promises": len(own)}
        | found
        | medians
        | ({"real_gain": float(np.mean(gains))} if gains else {})
    )


def drive(run: measure.Run) -> measure.Figures:
    if not RECORD.is_dir():
        print("the record (../shared/data/record) is not here: nothing is measured")
        return {}
    given = [
        word
        for pair in (("--vectors", run.args.vectors), ("--promises", run.args.promises))
        if pair[1]
        for word in pair
    ]
    if run.args.write:
        given.append("--write")
    figures = run.case("again" if run.args.again else "judge", *given, timeout=5400)
    keys = (
        "tasks",
        "promises",
        *(f"covered_{kind}" for kind in SCALES),
        "promised_saving",
        "real_saving",
        "interval_width",
        "real_gain",
    )
    forms = ("{:d}", "{:d}", *("{:.0%}",) * 4, "{:.0%}", "{:.0%}", "{:.0%}", "{:+.3f}")
    rows = [
        [f"{regime}: {name}", *(measure.show(row, k, f) for k, f in zip(keys, forms, strict=True))]
        for regime, parts in figures.items()
        if isinstance(parts, dict)
        for name, row in parts.items()
        if isinstance(row, dict)
    ]
    measure.table(("", "tasks", "n", *SCALES, "promised", "real", "width", "gain"), rows)
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vectors", default="", help="the embeddings of the record's queries (.npy), where they exist")
    parser.add_argument("--promises", default="", help="where every single promise is kept (.json)")
    parser.add_argument("--again", action="store_true", help="take the promises that were kept, train nothing")
    parser.add_argument("--write", action="store_true", help="write src/r2router/prompts/promise.json")


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"judge": judge, "again": again}, drive, configure)
