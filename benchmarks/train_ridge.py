"""Training on a table of the paper's size: 24,774 x 1,024 embeddings, 176 quality and 176 token heads.

`Ridge` and the default learner, each with every cell observed, with a tenth missing in two patterns (half of the models
were not asked the first tenth of the queries, the others not the last), and with a tenth missing at random (no two arms
on the same queries). Every fit has a process of its own; its peak memory includes the data, Python and the libraries.
"""

from __future__ import annotations

import argparse
from typing import Any

import measure

MISSING = {"full": "none", "two patterns": "two patterns", "random": "random"}
LONGEST = 3600.0


def fit(args: argparse.Namespace) -> measure.Figures:
    """One fit."""
    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    n = 600 if args.small else measure.TRAIN
    x = measure.embeddings(n)
    table = measure.paper_table(
        x, measure.paper_pool(3 if args.small else measure.MODELS), missing=MISSING[args.missing]
    )
    learner: Any = Recipe().learner if args.learner == "default" else Ridge()
    before = measure.peak_rss_mib()
    spent = measure.once(lambda: learner.fit(x, table))
    shape = {"queries": n, "dim": x.shape[1], "heads": 2 * len(table.arms)}
    return {"fit_s": spent, "data_mib": before, **shape, "learner": repr(learner)}


def drive(run: measure.Run) -> measure.Figures:
    """All cases, and their table."""
    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    learners = ["ridge"] if Recipe().learner == Ridge() else ["ridge", "default"]
    figures: measure.Figures = {"threads": measure.usable_cores()}
    rows = []
    for learner in learners:
        for missing in MISSING:
            key = f"{learner}, {missing}"
            figures[key] = run.case("fit", "--learner", learner, "--missing", missing, timeout=LONGEST)
            forms = {"fit_s": "{:.1f} s", "cpu_s": "{:.1f} s", "peak_rss_mib": "{:,.0f} MiB", "data_mib": "{:,.0f} MiB"}
            rows.append((key, *(measure.show(figures, f"{key}.{name}", form) for name, form in forms.items())))
    if len(learners) == 1:
        figures["default"] = "is Ridge()"
    measure.table(
        ("learner, missing cells", "fit", "processor time in all", "peak memory", "of it before the fit"), rows
    )
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Which fit a case is."""
    parser.add_argument("--learner", default="ridge", help=argparse.SUPPRESS)
    parser.add_argument("--missing", default="full", help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"fit": fit}, drive, configure)
