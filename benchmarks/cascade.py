"""What looking at answers is worth: cascades through `Router.step`, all calls paid, beside the same router without a
look.

70 % of the queries teach, 30 % are scored; two splits of each table: public outcomes with answers, one without any
(`jhu_concise_cot`: the cascade is the router there), and R2-Bench-mini, once more with answers that are continued under
larger budgets, so that only what is added is paid. Twelve values of a correct answer are asked of both, spread evenly
on a log scale between 3 times the cost of the cheapest arm and 30 times that of the most expensive one. Beside them:
the mixture of fixed arms that the training outcomes choose, and the oracle that knows each outcome. Areas are of mean
quality over log cost. `gap` is the share of the way from the mixture to the oracle; the interval of the difference is
by bootstrap over the scored queries. `rivals` is the cascade's area less that of other ways to ask several arms, which
choose their lists and thresholds on the other half of the scored queries (`r2router.evaluation.cascade_rivals`). Tables
but the last lie in `../shared/data` and are no part of the project.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    import r2router as r2

    Floats = NDArray[np.floating[Any]]

TABLES = ("tts_knowledge", "simpleqa_verified", "jhu_concise_cot", "r2bench-mini", "r2bench-mini continued")
SEEDS, SETTINGS, DRAWS = (0, 1), 12, 300
LOOK = " ".join(["the river flows north through old towns and says little of it"] * 25)  # some 300 tokens


def scored(args: argparse.Namespace) -> measure.Figures:
    """One split of one table."""
    import numpy as np

    import r2router as r2

    table = table_of(args.table)
    train, test = table.split(test=0.3, seed=args.seed)
    begin = time.perf_counter()
    router = r2.Recipe(cascade=_spec(args.table), resamples=0).fit(train)
    fitted = time.perf_counter() - begin
    cost = test.cost() * 1e3
    usable = np.isfinite(test.quality).mean(axis=0) > 0.97
    rows = np.flatnonzero((np.isfinite(test.quality) & np.isfinite(cost))[:, usable].all(axis=1))[
        : 12 if args.small else None
    ]
    away = [str(arm) for arm, use in zip(test.arms, usable, strict=True) if not use]
    usd = train.cost()[:, usable]
    values = np.geomspace(3 * np.nanmean(usd, axis=0).min(), 30 * np.nanmean(usd, axis=0).max(), SETTINGS)
    texts = {(row, arm): text for row, arm, text, _ in test.responses.cells()} if test.responses is not None else {}
    ways = (("routing", 1), ("cascade", None))
    paths = {name: _paths(router, test, texts, (rows, values, away, cost), most) for name, most in ways}
    own, spent = test.quality[np.ix_(rows, usable)], cost[np.ix_(rows, usable)]
    means = (np.nanmean(train.quality[:, usable], axis=0), 1e3 * np.nanmean(usd, axis=0))
    paths["mixture"] = _fixed(*means, own, spent)
    paths["oracle"] = _oracle(own, spent)
    edges = np.sort(spent.mean(axis=0))[[0, -1]]
    best, keep = float(own.mean(axis=0).max()), 0.95
    rng, n = np.random.default_rng(0), len(rows)
    weights = [np.ones(n), *(np.bincount(rng.integers(n, size=n), minlength=n).astype(float) for _ in range(DRAWS))]
    areas = {name: np.array([_area(path, w, edges) for w in weights]) for name, path in paths.items()}
    more = areas["cascade"] - areas["routing"]
    return {
        "queries": n,
        "arms": int(usable.sum()),
        "looks": router.looks is not None and router.looks.plan.active,
        "fit_s": fitted,
        "best_quality": best,
        "gap": {name: _gap(areas, name) for name in ("routing", "cascade")},
        "area": {name: float(area[0]) for name, area in areas.items()},
        "more": {
            "value": float(more[0]),
            "low": float(np.quantile(more[1:], 0.025)),
            "high": float(np.quantile(more[1:], 0.975)),
        },
        "usd_at_95": {name: _min(path, keep * best) for name, path in paths.items()},
        "calls": [float(calls) for calls in paths["cascade"][2]],
    }


def rivals(args: argparse.Namespace) -> measure.Figures:
    """One split of one table: the cascade's area less that of each other way to ask, paired, and the areas."""
    import r2router as r2
    from r2router.evaluation.report import Report

    train, test = table_of(args.table).split(test=0.3, seed=args.seed)
    router = r2.Recipe(cascade=_spec(args.table), resamples=0).fit(train)
    report = r2.evaluate(router, test, cascade=True, resamples=10 if args.small else DRAWS)
    if not isinstance(report, Report) or report.cascade is None:
        return {"skipped": "; ".join(note for note in report.notes if "answers" in note)}
    found = report.cascade.comparison
    less = {name: found.differences[name]["area"] for name in found.differences}
    return {
        name: {"area": found.figures[name]["area"].value, "value": gap.value, "low": gap.low, "high": gap.high}
        for name, gap in less.items()
    } | {
        "cascade": {
            "area": found.figures["cascade"]["area"].value,
            "gap_closed": found.figures["cascade"]["gap_closed"].value,
        }
    }


def _spec(name: str) -> r2.Cascade | bool:
    import r2router as r2

    return r2.Cascade(continue_answers=True) if name.endswith("continued") else True


def step(args: argparse.Namespace) -> measure.Figures:
    """Milliseconds of processor time of a step that looks at an answer of some 300 tokens: of a new question, and of
    one just seen.
    """
    import numpy as np

    import r2router as r2

    train, test = table_of(args.table).split(test=0.3, seed=0)
    router = r2.Recipe(cascade=True, resamples=0).fit(train)
    times: dict[str, list[float]] = {"new": [], "seen": []}
    for found in times.values():
        for i in range(5 if args.small else 60):
            seen = [r2.Answer(str(test.arms[3]), f"{LOOK} {i}", output_tokens=300)]
            begin = time.process_time()
            router.step(test.queries[i], seen, r2.Value(0.05))
            found.append(1e3 * (time.process_time() - begin))
    return {kind: {"p50": float(np.median(ms)), "p90": float(np.quantile(ms, 0.9))} for kind, ms in times.items()} | {
        "arms": len(test.arms)
    }


def table_of(name: str) -> r2.Table:
    """A table of `TABLES`."""
    import numpy as np

    import r2router as r2

    data = measure.SHARED / "data"
    if name.startswith("r2bench-mini"):
        from r2router.mini import mini

        return mini()
    if name in ("tts_knowledge", "jhu_concise_cot"):
        return r2.Table.read(data / f"{name}.parquet", prices=data / "prices.csv")
    logs = r2.Table.read(data / "record" / "epoch_logs.parquet", prices=data / "record" / "prices.csv", unpriced="drop")
    own = logs.take(np.flatnonzero(np.array(logs.tasks) == name))
    return own.with_arms([own.arms[i] for i in np.flatnonzero(np.isfinite(own.quality).any(axis=0))])


def _paths(
    router: r2.Router,
    test: r2.Table,
    texts: dict[tuple[int, int], str],
    scored_by: tuple[Any, Floats, list[str], Floats],
    most: int | None,
) -> tuple[Floats, Floats, Floats]:
    """(settings, n) dollars paid per 1,000 requests and quality of the accepted answers; (settings,) calls per query.

    scored_by: the rows, the values of a correct answer, the arms that are not asked, and what each answer cost. An answer
    that goes on from another one costs what it adds: what was written already is paid as input.
    """
    import numpy as np

    import r2router as r2

    rows, values, away, cost = scored_by
    at = {str(arm): i for i, arm in enumerate(test.arms)}
    paid, got, calls = (np.zeros((len(values), len(rows))) for _ in range(3))
    for s, value in enumerate(values.tolist()):
        for j, i in enumerate(rows.tolist()):
            seen: list[r2.Answer] = []
            while (
                then := router.step(test.queries[i], seen, r2.Value(value), exclude=away, max_steps=most)
            ).call is not None:
                arm = at[str(then.call.arm)]
                paid[s, j] += cost[i, arm]
                if then.continues is not None and router.resumes is not None:
                    before = np.arange(len(test.arms))[None] == at[seen[then.continues].arm]
                    paid[s, j] -= 1e3 * router.resumes.saved(before, test.output_tokens[i : i + 1])[0, arm]
                used = float(test.output_tokens[i, arm])
                seen.append(
                    r2.Answer(str(then.call.arm), texts.get((i, arm), ""), output_tokens=used, continues=then.continues)
                )
            assert then.accept is not None
            got[s, j], calls[s, j] = test.quality[i, at[str(seen[then.accept].arm)]], len(seen)
    return paid, got, calls.mean(axis=1)


def _fixed(quality: Floats, cost: Floats, own: Floats, spent: Floats) -> tuple[Floats, Floats, Floats]:
    """The arms on the envelope of the training means, with what they gave and cost on the scored queries."""
    import numpy as np

    from r2router.metrics.frontier import upper_envelope

    hull = upper_envelope(cost, quality)
    return spent[:, hull].T, own[:, hull].T, np.ones(len(hull))


def _oracle(own: Floats, spent: Floats) -> tuple[Floats, Floats, Floats]:
    import numpy as np

    each = np.arange(len(own))
    chosen = [np.argmax(value * own - spent, axis=1) for value in np.geomspace(1e-3, 1e5, 200).tolist()]
    return np.stack([spent[each, c] for c in chosen]), np.stack([own[each, c] for c in chosen]), np.ones(len(chosen))


def _area(path: tuple[Floats, Floats, Floats], weight: Floats, edges: Floats) -> float:
    from r2router.metrics.frontier import area_over_log_cost, upper_envelope

    cost, quality = path[0] @ weight / weight.sum(), path[1] @ weight / weight.sum()
    hull = upper_envelope(cost, quality)
    return float(area_over_log_cost(cost[hull], quality[hull], float(edges[0]), float(edges[1])))


def _gap(areas: dict[str, Floats], name: str) -> float:
    return float((areas[name][0] - areas["mixture"][0]) / (areas["oracle"][0] - areas["mixture"][0]))


def _min(path: tuple[Floats, Floats, Floats], quality: float) -> float:
    from r2router.metrics.frontier import min_cost, upper_envelope

    cost, gained = path[0].mean(axis=1), path[1].mean(axis=1)
    hull = upper_envelope(cost, gained)
    return float(min_cost(cost[hull], gained[hull], quality))


def drive(run: measure.Run) -> measure.Figures:
    """All tables and splits, and the time of a step."""
    if not (measure.SHARED / "data").is_dir():
        print("cascade: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    figures: measure.Figures = {}
    for table in TABLES:
        for seed in SEEDS[: 1 if run.args.small else None]:
            found = figures[f"{table}, split {seed}"] = run.case("scored", "--table", table, "--seed", seed, threads=1)
            found["rivals"] = run.case("rivals", "--table", table, "--seed", seed, threads=1)
            if "failed" not in found:
                print(f"{table}, split {seed}: gap {found['gap']}, at 95 % {found['usd_at_95']}, more {found['more']}")
    figures["step"] = run.case("step", "--table", TABLES[1], threads=1)
    print(f"a step: {figures['step']}")
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """What a case is of."""
    parser.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"scored": scored, "rivals": rivals, "step": step}, drive, configure)
