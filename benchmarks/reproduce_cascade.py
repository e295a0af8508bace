"""`r2router reproduce cascade` on the two public tables with answers: two seeds of five folds, a cascade trained without
each fold, 300 draws.

Everything that a training chooses (whether to look, how carefully) it chooses on the other four folds. The whole
reports are written to `docs/reports/`. The tables lie in `../shared/data` and are no part of the project; SimpleQA is
a part of `record/epoch_logs.parquet`.
"""

from __future__ import annotations

import argparse
import time

import measure
from cascade import table_of

TABLES = ("tts_knowledge", "simpleqa_verified")
COMMANDS = {
    "tts_knowledge": "r2router reproduce cascade tts_knowledge.parquet --prices prices.csv",
    "simpleqa_verified": "r2router reproduce cascade epoch_logs.parquet --prices prices.csv --unpriced drop --task"
    " simpleqa_verified",
}


def experiment(args: argparse.Namespace) -> measure.Figures:
    """One table."""
    import numpy as np

    from r2router.evaluation.contenders import HoldOutPlan
    from r2router.evaluation.experiments import reproduce
    from r2router.report.file import write_report

    table, begin = table_of(args.table), time.perf_counter()
    if args.small:
        table = table.take(np.random.default_rng(0).permutation(len(table))[:150])
    plan = HoldOutPlan(seeds=(0,), folds=2, resamples=5) if args.small else HoldOutPlan()
    found = reproduce("cascade", table, plan=plan, command=COMMANDS[args.table])
    seconds = time.perf_counter() - begin
    if not args.small:
        write_report(found, measure.ROOT / "docs" / "reports" / f"{args.table}-cascade.html")
    return {"s": seconds, "queries": len(table), "answers": list(found.answers), "notes": list(found.notes)}


def drive(run: measure.Run) -> measure.Figures:
    """Both tables."""
    if not (measure.SHARED / "data").is_dir():
        print("reproduce_cascade: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    figures: measure.Figures = {}
    for table in TABLES:
        figures[table] = run.case("experiment", "--table", table, threads=1)
        print("\n".join([f"\n{table}: {measure.show(figures[table], 's', '{:.0f} s')}", *figures[table]["answers"]]))
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """What a case is of."""
    parser.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"experiment": experiment}, drive, configure)
