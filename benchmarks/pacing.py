"""A spend target on live traffic: how far the mean cost is from it while the mix of requests changes, for several ways
of holding it.

Real outcomes are replayed: 5,000 requests drawn from a recorded table, each with its recorded cost and quality under
every arm. The first half draws from one half of the tasks, the second half from the other. Half of the queries are set
aside: their means per (task, arm) are all that the router forecasts (in a table of fewer than four tasks, per task and
fifth of the questions' lengths). Of the rest, requests are drawn with replacement.

The target is the geometric mean of the cheapest and the most expensive mean cost that any value of a correct answer
reaches on the first half, by the forecasts. The starting value is the one that meets it on all tasks of the half set
aside. Ways: `paced`, the dual update of r2router.gateway.pacing; `fixed`, the calibrated value and nothing else;
`proportional`, value = start * (target / mean cost of the last 200 requests), the usual controller. `30 under way`:
each request is decided before the costs of the last thirty are known, as on live traffic. Errors are those of the mean
cost from the first request on; the worst of the seeds is shown too. The largest single request is in targets: one of 30
is 6 % of the mean of 500. The tables lie in `../shared/data` and are no part of the project.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

TABLES = ("jhu_concise_cot", "tts_knowledge")
UNDER_WAY = (0, 30, 100)
WAYS = ("paced", "fixed", "proportional")
REQUESTS, SEEDS, WINDOW = 5000, 10, 200
AT = (500, 2500, 3000, 5000)


def hold(args: argparse.Namespace) -> measure.Figures:
    """One table under every way."""
    import numpy as np

    quality, cost, task, kind = outcomes(args.table)
    requests, seeds = (600, 2) if args.small else (REQUESTS, SEEDS)
    at = [n for n in AT if n <= requests]
    errors: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    quality_of: dict[str, list[float]] = {way: [] for way in WAYS}
    largest: dict[str, list[float]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        known = rng.random(len(task)) < 0.5
        tasks = rng.permutation(np.unique(task))
        first, second = tasks[: len(tasks) // 2], tasks[len(tasks) // 2 :]
        kinds = sorted(set(kind), key=lambda k: (list(tasks).index(k[0]), k))  # those of the first half first
        index = np.array([kinds.index(k) for k in kind])
        q, c = (
            np.array([rows[known & (index == i)].mean(axis=0) for i in range(len(kinds))]) for rows in (quality, cost)
        )
        halves = [np.flatnonzero(~known & np.isin(task, part)) for part in (first, second)]
        drawn = np.concatenate([rng.choice(rows, requests // 2) for rows in halves])
        target, start = calibrated(q, c, sum(k[0] in first for k in kinds))
        for way in WAYS:
            spent, right = replay(
                way, drawn, index[drawn].tolist(), (q, c), (quality, cost), (target, start), args.under_way
            )
            running = np.cumsum(spent) / np.arange(1, requests + 1) / target - 1
            errors[way].append([float(running[n - 1]) for n in at])
            quality_of[way].append(float(np.mean(right)))
            largest[way].append(max(spent) / target)
    return {
        "requests": requests,
        "seeds": seeds,
        "queries": len(task),
        "at": at,
        "mean_abs_error": {way: np.abs(e).mean(axis=0).tolist() for way, e in errors.items()},
        "worst_abs_error": {way: np.abs(e).max(axis=0).tolist() for way, e in errors.items()},
        "quality": {way: float(np.mean(v)) for way, v in quality_of.items()},
        "largest_request_in_targets": {way: float(np.median(v)) for way, v in largest.items()},
    }


def outcomes(name: str) -> tuple[Floats, Floats, Any, list[tuple[Any, int]]]:
    """(n, arms) quality and cost of the queries that all arms have answered, (n,) their tasks, and their kinds, which
    are forecast.

    A kind is a task; of a table with few tasks, a task and a fifth of the lengths of questions.

    Arms that lack more than one query in twenty are left out.
    """
    import numpy as np

    from r2router.table.table import Table

    data = measure.SHARED / "data"
    table = Table.read(data / f"{name}.parquet", prices=data / "prices.csv")
    quality, cost = np.asarray(table.quality), table.cost()
    there = np.isfinite(quality) & np.isfinite(cost)
    arms = there.mean(axis=0) >= 0.95
    quality, cost, whole = quality[:, arms], cost[:, arms], there[:, arms].all(axis=1)
    lengths = np.array([len(text) for text in table.queries])[whole]

    def classes(n: int) -> Any:
        return np.searchsorted(np.quantile(lengths, np.linspace(0, 1, n + 1)[1:-1]), lengths)

    task = np.array(table.tasks)[whole]
    if len(np.unique(task)) == 1:  # then the length of the question stands in for it
        task = classes(10)
    few = len(np.unique(task)) < 4
    kind = [(t, int(n)) for t, n in zip(task, classes(5) if few else np.zeros(len(task)), strict=True)]
    return quality[whole], cost[whole], task, kind


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


def replay(
    way: str, drawn: Any, rows: list[int], forecast: Any, real: Any, aim: tuple[float, float], under_way: int
) -> tuple[list[float], list[float]]:
    """US dollars and quality of each request; each is decided before the answers of the last `under_way` are there."""
    import numpy as np

    from r2router.gateway.pacing import Pace
    from r2router.gateway.targets import Targets

    (q, c), (quality, cost), (target, start) = forecast, real, aim
    begun, targets = Pace.of("cost", target, start), Targets(None)
    recent: deque[float] = deque(maxlen=WINDOW)
    waiting: deque[tuple[Any, float, float]] = deque()
    spent, right = [], []
    loop = asyncio.new_event_loop()
    for query, row in zip(drawn, rows, strict=True):
        value = start
        if way == "paced":
            value = loop.run_until_complete(targets.value("x", begun))
        elif way == "proportional" and recent:
            value = start * target / max(float(np.mean(recent)), 1e-12)
        arm = int(np.argmax(value * q[row] - c[row]))
        expected, usd = float(c[row, arm]), float(cost[query, arm])
        waiting.append((targets.begin("x", expected, float(q[row, arm])), expected, usd))
        if len(waiting) > under_way:
            counted, expected, paid = waiting.popleft()
            targets.spent("x", begun, paid)
            targets.end("x", counted, expected, paid)
            recent.append(paid)
        spent.append(usd)
        right.append(float(quality[query, arm]))
    loop.close()
    return spent, right


def drive(run: measure.Run) -> measure.Figures:
    found: dict[str, Any] = {}
    for name in TABLES:
        if not (measure.SHARED / "data" / f"{name}.parquet").exists():
            print(f"{name}: ../shared/data is not there; left out")
            continue
        found[name] = {}
        for under_way in UNDER_WAY:
            figures = run.case("hold", "--table", name, "--under-way", str(under_way))
            found[name][f"{under_way} under way"] = figures
            if "failed" in figures:
                print(f"{name}: {figures['failed']}")
                continue
            print(
                f"\n{name}, {under_way} under way: {figures['requests']:,} requests, {figures['seeds']} seeds; error of the"
                " mean cost: mean (worst)"
            )
            rows = []
            for way in WAYS:
                errors = zip(figures["mean_abs_error"][way], figures["worst_abs_error"][way], strict=True)
                largest = figures["largest_request_in_targets"][way]
                shown = [f"{m:.2%} ({w:.2%})" for m, w in errors]
                rows.append((way, *shown, f"{figures['quality'][way]:.4f}", f"{largest:.1f}"))
            measure.table(("", *(f"after {n:,}" for n in figures["at"]), "quality", "largest request"), rows)
    return found


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS)
    parser.add_argument("--under-way", type=int, default=0, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"hold": hold}, drive, _options)
