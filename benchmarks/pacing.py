"""A spend target on live traffic: how far the mean cost is from it while the mix of requests changes, for several ways of holding it.

Real outcomes are replayed: 5,000 requests drawn from a recorded table, each with its recorded cost and quality under every arm. The first
half draws from one half of the table's tasks, the second half from the other (in a table of one task, ten classes of length stand in for
tasks). Half of the queries are set aside: their means per (task, arm) are all that the router forecasts. Of the rest, requests are drawn
with replacement.

The target is the geometric mean of the cheapest and the most expensive mean cost that any value of a correct answer reaches on the first
half, by the forecasts. The starting value is the one that meets it on all tasks of the half set aside. Ways: `paced`, the dual update of
r2router.gateway.pacing; `fixed`, the calibrated value and nothing else; `proportional`, value = start * (target / mean cost of the last
200 requests), the usual controller. Errors are those of the mean cost from the first request on; the worst of the seeds is shown too.
The tables lie in `../shared/data` and are no part of the project.
"""

from __future__ import annotations

import argparse
from collections import deque
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

TABLES = ("jhu_concise_cot",)
WAYS = ("paced", "fixed", "proportional")
REQUESTS, SEEDS, WINDOW = 5000, 10, 200
AT = (500, 2500, 3000, 5000)


def hold(args: argparse.Namespace) -> measure.Figures:
    """One table under every way."""
    import numpy as np

    quality, cost, task = outcomes(args.table)
    requests, seeds = (600, 2) if args.small else (REQUESTS, SEEDS)
    at = [n for n in AT if n <= requests]
    errors: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    quality_of: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        known = rng.random(len(task)) < 0.5
        tasks = rng.permutation(np.unique(task))
        q, c = (np.array([rows[known & (task == t)].mean(axis=0) for t in tasks]) for rows in (quality, cost))
        first, second = tasks[: len(tasks) // 2], tasks[len(tasks) // 2 :]
        place = {t: i for i, t in enumerate(tasks)}
        halves = [np.flatnonzero(~known & np.isin(task, part)) for part in (first, second)]
        drawn = np.concatenate([rng.choice(rows, requests // 2) for rows in halves])
        target, start = calibrated(q, c, len(first))
        for way in WAYS:
            spent, right = replay(way, drawn, [place[t] for t in task[drawn]], (q, c), (quality, cost), (target, start))
            running = np.cumsum(spent) / np.arange(1, requests + 1) / target - 1
            errors[way].append([float(running[n - 1]) for n in at])
            quality_of[way].append(float(np.mean(right)))
    return {
        "requests": requests,
        "seeds": seeds,
        "queries": len(task),
        "at": at,
        "mean_abs_error": {way: np.abs(e).mean(axis=0).tolist() for way, e in errors.items()},
        "worst_abs_error": {way: np.abs(e).max(axis=0).tolist() for way, e in errors.items()},
        "quality": {way: float(np.mean(v)) for way, v in quality_of.items()},
    }


def outcomes(name: str) -> tuple[Floats, Floats, Any]:
    """(n, arms) quality and cost of the queries that all arms have answered, and (n,) their tasks."""
    import numpy as np

    from r2router.table.table import Table

    data = measure.SHARED / "data"
    table = Table.read(data / f"{name}.parquet", prices=data / "prices.csv")
    quality, cost = np.asarray(table.quality), table.cost()
    whole = np.isfinite(quality).all(axis=1) & np.isfinite(cost).all(axis=1)
    task = np.array(table.tasks)[whole]
    if len(np.unique(task)) == 1:  # then the length of the question stands in for it
        lengths = np.array([len(text) for text in table.queries])[whole]
        task = np.searchsorted(np.quantile(lengths, np.linspace(0, 1, 11)[1:-1]), lengths)
    return quality[whole], cost[whole], task


def calibrated(q: Floats, c: Floats, first: int) -> tuple[float, float]:
    """(target, starting value), from the forecasts of the tasks."""
    import numpy as np

    values = np.geomspace(1e-7, 10, 2000)

    def means(rows: slice) -> Floats:
        chosen = np.argmax(values[:, None, None] * q[rows] - c[rows], axis=2)
        return np.take_along_axis(c[rows].T[None].repeat(len(values), 0), chosen[:, None, :], axis=1)[:, 0].mean(axis=1)

    reached, overall = means(slice(0, first)), means(slice(None))
    target = float(np.sqrt(reached[0] * reached[-1]))
    return target, float(values[int(np.argmin(np.abs(overall - target)))])


def replay(way: str, drawn: Any, rows: list[int], forecast: Any, real: Any, aim: tuple[float, float]) -> tuple[list[float], list[float]]:
    """US dollars and quality of each request."""
    import numpy as np

    from r2router.gateway.pacing import Pace

    (q, c), (quality, cost), (target, start) = forecast, real, aim
    pace = Pace.of("cost", target, start)
    recent: deque[float] = deque(maxlen=WINDOW)
    spent, right = [], []
    for query, row in zip(drawn, rows, strict=True):
        value = start
        if way == "paced":
            value = pace.value
        elif way == "proportional" and recent:
            value = start * target / max(float(np.mean(recent)), 1e-12)
        arm = int(np.argmax(value * q[row] - c[row]))
        usd = float(cost[query, arm])
        pace = pace.after(usd)
        recent.append(usd)
        spent.append(usd)
        right.append(float(quality[query, arm]))
    return spent, right


def drive(run: measure.Run) -> measure.Figures:
    found = {}
    for name in TABLES:
        if not (measure.SHARED / "data" / f"{name}.parquet").exists():
            print(f"{name}: ../shared/data is not there; left out")
            continue
        found[name] = figures = run.case("hold", "--table", name)
        if "failed" in figures:
            print(f"{name}: {figures['failed']}")
            continue
        print(f"\n{name}: {figures['requests']:,} requests, {figures['seeds']} seeds; error of the mean cost: mean (worst)")
        rows = [
            (way, *(f"{m:.2%} ({w:.2%})" for m, w in zip(figures["mean_abs_error"][way], figures["worst_abs_error"][way], strict=True)),
             f"{figures['quality'][way]:.4f}")
            for way in WAYS
        ]  # fmt: skip
        measure.table(("", *(f"after {n:,}" for n in figures["at"]), "quality"), rows)
    return found


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"hold": hold}, drive, lambda p: p.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS))
