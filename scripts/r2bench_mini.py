"""Make a table of R2-Bench-mini (src/r2router/mini) out of finished collections.

usage: r2bench_mini.py OUT.parquet RUN...

The collections are those of docs/r2bench-mini.md: `r2router collect --suite 'reasoning-gym:mini?size=40' ...`, a folder
a model or one for all. Each is compacted again, so that today's scorers judge. Only queries that every model was asked
are kept, so that all arms are compared on the same ones; a call that failed stays, with its error and without a
quality. Left out: what was paid (nobody was; prices are nominal and in the pool), and times (other work shared the
machine).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import polars as pl

from r2router.bench.folder import compact

KEPT = (
    *("query_id", "task", "query", "reference", "model", "budget", "budget_tokens", "control", "quality"),
    *("input_tokens", "output_tokens", "response", "finish_reason", "truncated", "judge", "error"),
)


def main(out: str, *runs: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for number, run in enumerate(runs):
            compact(run, table := Path(folder) / f"{number}.parquet")
            parts.append(pl.read_parquet(table))
    rows = pl.concat(parts)
    arms = rows.select("model", "budget").n_unique()
    whole = rows.group_by("query_id").len().filter(pl.col("len") == arms)["query_id"]
    rows = rows.filter(pl.col("query_id").is_in(whole.implode()))
    ordered = pl.struct("model", "budget_tokens")
    rows = rows.select(KEPT).sort(pl.col("query_id").str.tail(3), "task", ordered, maintain_order=True)
    rows.write_parquet(out, compression="zstd", compression_level=19)
    tasks, size = rows["task"].n_unique(), Path(out).stat().st_size
    print(
        f"{out}: {len(whole)} queries of {tasks} tasks x {arms} arms, {len(rows):,} rows, {rows['error'].count()}"
        f" errors, {size:,} bytes"
    )
    means = (pl.col("quality").mean(), pl.col("output_tokens").mean(), pl.len())
    with pl.Config(tbl_rows=-1):
        print(rows.group_by("model", "budget_tokens").agg(means).sort("model", "budget_tokens"))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
