"""Decide for a file of prompts at once, and say what they would cost.

    python batch.py prompts.csv decisions.csv

prompts.csv has a column `prompt`. The same from the shell, for files of any size:

    r2router route --input prompts.csv --output decisions.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from r2router.starter import starter


def main(source: str, target: str) -> None:
    """One row per prompt: the arm, the forecast quality and cost, and whether the router knows such prompts."""
    router = starter()
    table = pl.read_csv(source)
    decisions = [router.route(prompt) for prompt in table["prompt"]]
    table = table.with_columns(
        pl.Series("arm", [str(d.arm) for d in decisions]),
        pl.Series("quality", [d.quality for d in decisions]),
        pl.Series("cost_usd", [d.cost for d in decisions]),
        pl.Series("familiar", [d.familiar for d in decisions]),
    )
    table.write_csv(Path(target))
    print(
        f"{len(table)} prompts, ${table['cost_usd'].sum():.4f} in all; {table['familiar'].mean():.0%} like the training"
        " data"
    )
    print(table.group_by("arm").len().sort("len", descending=True))


if __name__ == "__main__":
    main(*(sys.argv[1:3] if len(sys.argv) > 2 else ("prompts.csv", "decisions.csv")))
