"""Two ways to enforce a budget, beside each other: cutting one long answer, and telling the model and cutting what is
too long.

R2-Bench-mini has both on the same queries, models and budgets. For each arm: mean quality, tokens used, the share of
answers that the budget cut, and the share that kept to it (tokens used <= 1.1 x budget, as in the paper); intervals are
95 % percentiles of a bootstrap over queries, of differences paired by query. Then whether the two rank arms alike:
Spearman's correlation of the arms' mean qualities.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

DRAWS = 2000
COLUMNS = ("quality", "output_tokens", "truncated", "kept")


def compare(args: argparse.Namespace) -> measure.Figures:
    """All arms that both tables have."""
    import numpy as np
    import polars as pl

    from r2router.bench.judging.agreement import spearman
    from r2router.mini import TABLES

    ways = {
        way: rows_of(pl.read_parquet(TABLES[name]))
        for way, name in (("shared", "r2bench-mini"), ("told", "r2bench-mini-instruction"))
    }
    both = ways["shared"].join(ways["told"], on=("query_id", "model", "budget_tokens"), suffix="_told").sort("query_id")
    rng, draws = np.random.default_rng(0), 50 if args.small else DRAWS
    arms = {}
    for (model, budget), part in both.group_by("model", "budget_tokens", maintain_order=True):
        n = len(part)
        pick = rng.integers(n, size=(draws, n))
        shared, told = (part.select(c + end for c in COLUMNS).to_numpy().astype(float) for end in ("", "_told"))
        gap = told[:, 0] - shared[:, 0]
        low, high = np.quantile(gap[pick].mean(axis=1), (0.025, 0.975))
        arms[f"{model}@{budget}"] = {
            "queries": n,
            "shared": dict(zip(COLUMNS, shared.mean(axis=0).tolist(), strict=True)),
            "told": dict(zip(COLUMNS, told.mean(axis=0).tolist(), strict=True)),
            "told_minus_shared_quality": [float(gap.mean()), float(low), float(high)],
        }
    shared, told = (np.array([arm[way]["quality"] for arm in arms.values()]) for way in ("shared", "told"))
    return {"arms": arms, "rank_correlation": spearman(shared, told)}


def rows_of(table: pl.DataFrame) -> pl.DataFrame:
    """Quality, tokens used, cut or not, kept to the budget or not."""
    import polars as pl

    kept = (pl.col("output_tokens") <= 1.1 * pl.col("budget_tokens")).alias("kept")
    return table.select("query_id", "model", "budget_tokens", "quality", "output_tokens", "truncated", kept)


def drive(run: measure.Run) -> measure.Figures:
    """One case, and its table."""
    figures = run.case("compare", threads=1)
    rows = []
    for arm, f in figures.get("arms", {}).items():
        told, shared = f["told"], f["shared"]
        pairs = [
            (f"{told[c]:{form}}", f"{shared[c]:{form}}")
            for c, form in zip(COLUMNS, (".3f", ".0f", ".0%", ".0%"), strict=True)
        ]
        gap, low, high = f["told_minus_shared_quality"]
        rows.append(
            (arm, str(f["queries"]), *(" / ".join(pair) for pair in pairs), f"{gap:+.3f} [{low:+.3f}, {high:+.3f}]")
        )
    measure.table(
        (
            "told / cut",
            "queries",
            "quality",
            "tokens used",
            "cut by the budget",
            "kept to it",
            "quality, told minus cut",
        ),
        rows,
    )
    print(f"\nrank correlation of the arms' mean qualities: {measure.show(figures, 'rank_correlation', '{:.2f}')}")
    return figures


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"compare": compare}, drive)
