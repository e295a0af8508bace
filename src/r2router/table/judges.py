"""Tables that several judges scored: whose quality counts.

A row may name its `judge`. A cell that two judges scored has two qualities, and which of them counts is for the user to
say: their mean would be a judge whom nobody chose.
"""

from __future__ import annotations

import polars as pl

from r2router.errors import DataError
from r2router.text import suggest

_CELL = ("query_id", "model", "budget")


def count_judges(rows: pl.DataFrame) -> dict[str, int]:
    """Scored rows of each judge, the most first; `""` stands for rows that name none."""
    scored = rows.filter(pl.col("quality").is_not_null()).select(pl.col("judge").fill_null(""))
    counts = scored.group_by("judge", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
    return dict(counts.iter_rows())


def rows_of_judge(rows: pl.DataFrame, judge: str, name: str) -> tuple[pl.DataFrame, list[str]]:
    """Return (the rows of one judge, a note on the others). `""` is for rows that name none. Raises `DataError` for one
    who scored nothing.
    """
    there = count_judges(rows)
    if judge not in there:
        known = [j for j in there if j]
        raise DataError(f"{name}: no row was scored by judge {judge!r}{suggest(judge, known)}; {_listed(there)}")
    own = rows.filter(pl.col("judge").fill_null("") == judge)
    others = [j for j in there if j != judge]
    return own, [
        f"{name}: quality as scored by {_called(judge)}; rows of {_names(others)} are left out"
    ] if others else []


def check_one_judge(rows: pl.DataFrame, name: str) -> None:
    """Raise `DataError` where a cell has rows of several judges, those that failed among them."""
    if rows["judge"].n_unique() < 2:
        return
    named = rows.filter(pl.col("quality").is_not_null() | pl.col("judge").is_not_null()).with_columns(
        pl.col("judge").fill_null("")
    )
    several = (
        named.group_by(_CELL, maintain_order=True).agg(pl.col("judge").n_unique().alias("n")).filter(pl.col("n") > 1)
    )
    if len(several):
        query, model, budget, _ = several.row(0)
        failed = named.filter(pl.col("quality").is_null() & (pl.col("judge") != ""))["judge"].value_counts(
            sort=True, name="n"
        )
        gaps = ", ".join(f"{_called(judge)} gave no score for {n:,} answers" for judge, n in failed.iter_rows())
        raise DataError(
            f"{name}: query {query!r} on {model}@{budget} has rows of several judges ({len(several)} cells so); "
            f"{_listed(count_judges(rows))}{f'; {gaps}' if gaps else ''}: choose one (judge=NAME, --judge NAME)"
            + (", or ask again those that failed (r2router judge DIR --retry-failed)" if gaps else "")
        )


def _listed(there: dict[str, int]) -> str:
    if set(there) <= {""}:
        return "no row names a judge"
    return "the judges are " + ", ".join(f"{_called(j)} ({n:,} rows)" for j, n in there.items())


def _called(judge: str) -> str:
    return repr(judge) if judge else "'' (rows that name none)"


def _names(judges: list[str]) -> str:
    return ", ".join(map(_called, judges))
