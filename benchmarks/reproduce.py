"""Every experiment of the paper on the real outcome tables, as `r2router reproduce` runs them: five seeds, five folds,
300 draws.

`main` is timed as a user runs it: nothing remembered from before, embeddings and robustness included, one table after
the other. The other experiments share a file of embeddings and run for both tables at once; `predictor` has one seed,
as its neural heads take long. `judge` is left out: neither table has a second judge. The answers stand in the result;
the whole reports are written to `docs/reports/`. The tables lie in `../shared/data` and are no part of the project.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import measure

TABLES = ("tts_knowledge", "jhu_concise_cot")
EXPERIMENTS = (
    "main",
    "curves",
    "oracle",
    "ood",
    "anchors",
    "encoder",
    "prices",
    "queries",
    "new-llms",
    "concise",
    "predictor",
)
REPORTS = measure.ROOT / "docs" / "reports"
CACHE = measure.ROOT / "build" / "benchmarks" / "embeddings.cache"


def timed_main(args: argparse.Namespace) -> measure.Figures:
    """`main` on one table, with nothing remembered."""
    found, seconds = _run("main", args.table, args.small, cache=None)
    _keep(args, "main", found)
    return {"s": seconds, "answers": list(found.answers), "verdict": _words(found)}


def frames(args: argparse.Namespace) -> measure.Figures:
    """`main` on the FRAMES questions alone."""
    found, seconds = _run("main", "tts_knowledge", args.small, cache=CACHE, task="frames")
    _keep(args, "main-frames", found)
    return {"s": seconds, "answers": list(found.answers), "verdict": _words(found)}


def experiment(args: argparse.Namespace) -> measure.Figures:
    """One of the others on one table."""
    from r2router.errors import R2Error

    try:
        found, seconds = _run(args.name, args.table, args.small, cache=CACHE)
    except R2Error as error:
        return {"not available": str(error)}
    _keep(args, args.name, found)
    return {"s": seconds, "answers": list(found.answers), "notes": list(found.notes)}


def _run(name: str, table: str, small: bool, *, cache: Any, task: str | None = None) -> tuple[Any, float]:
    import numpy as np

    from r2router.evaluation.contenders import HoldOutPlan
    from r2router.evaluation.experiments import reproduce
    from r2router.table.table import Table

    data = measure.SHARED / "data"
    begin = time.perf_counter()
    outcomes = Table.read(data / f"{table}.parquet", prices=data / "prices.csv")
    if task is not None:
        outcomes = outcomes.take(np.flatnonzero(np.array(outcomes.tasks) == task))
    if small:
        outcomes = outcomes.take(np.random.default_rng(0).permutation(len(outcomes))[:80])
    if cache is not None:
        cache.parent.mkdir(parents=True, exist_ok=True)
    plan = (
        HoldOutPlan(seeds=(0,), folds=2, resamples=5)
        if small
        else HoldOutPlan(seeds=(0,))
        if name == "predictor"
        else HoldOutPlan()
    )
    only = f" --task {task}" if task else ""
    command = f"r2router reproduce {name} {table}.parquet --prices prices.csv{only}"
    found = reproduce(name, outcomes, plan=plan, cache=cache, command=command)
    return found, time.perf_counter() - begin


def _words(found: Any) -> list[str]:
    """What a report says of ours against the baselines, in sentences."""
    from r2router.report.findings import Paragraph

    return [
        part.text
        for section in found.sections
        for part in section.parts
        if isinstance(part, Paragraph) and "ahead" in part.text
    ]


def _keep(args: argparse.Namespace, name: str, found: Any) -> None:
    """Write the report."""
    from r2router.report.file import write_report

    if not args.small:
        REPORTS.mkdir(parents=True, exist_ok=True)
        write_report(found, REPORTS / f"{args.table}-{name}.html")


def drive(run: measure.Run) -> measure.Figures:
    """`main` on each table, then the rest."""
    if not (measure.SHARED / "data").is_dir():
        print("reproduce: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    figures: measure.Figures = {}
    for table in TABLES:
        figures[table] = {"main": run.case("main", "--table", table, threads=1)}
        print(
            "\n".join(
                [
                    f"\n{table}: {measure.show(figures[table], 'main.s', '{:.0f} s')}",
                    *figures[table]["main"].get("answers", []),
                ]
            )
        )
    figures["main_s"] = sum(figures[table]["main"].get("s", float("nan")) for table in TABLES)
    with ThreadPoolExecutor(2) as pool:
        for table, found in zip(TABLES, pool.map(lambda table: _others(run, table), TABLES), strict=True):
            figures[table] |= found
    return figures


def _others(run: measure.Run, table: str) -> measure.Figures:
    figures: measure.Figures = {}
    if table == "tts_knowledge":
        figures["main, frames"] = run.case("frames", "--table", table, threads=1)
    for name in EXPERIMENTS[1:]:
        figures[name] = run.case("experiment", "--table", table, "--name", name, threads=1)
        print("\n".join([f"\n{table}, {name}", *figures[name].get("answers", [str(figures[name])])]), file=sys.stderr)
    return figures


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS)
    parser.add_argument("--name", choices=EXPERIMENTS, help=argparse.SUPPRESS)


if __name__ == "__main__":
    cases = {"main": timed_main, "frames": frames, "experiment": experiment}
    measure.run(__file__, __doc__, cases, drive, _options)
