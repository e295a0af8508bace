"""Checked rows as arrays: the arms that they have, and one number per (query, arm)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from r2router.errors import DataError
from r2router.pool.pool import Pool, budget_order
from r2router.table.responses import NOWHERE, AnswerSource, ResponseIndex, place
from r2router.text import listing, suggest
from r2router.types import Budget, FloatArray, Model

FILE, ROW = "__file", "__row"
"""Columns of checked rows beside those of the table: the number of the source, and the row there, counted from 1."""

_CELLS = 1 << 25  # of an array, that any table may have
_CELLS_PER_ROW = 64  # that a larger one may have: blocks of different suites leave most of a table empty, but not all


def arms_of(rows: pl.DataFrame) -> list[Model]:
    """Return the models of the rows in order of appearance, each with its budgets sorted as a person would."""
    seen: dict[str, dict[str, Budget]] = {}
    for model, budget in rows.select("model", "budget").unique(maintain_order=True).iter_rows():
        seen.setdefault(model, {})[budget] = Budget.of(budget)
    return [Model(id=m, upstream=m, budgets=tuple(sorted(b.values(), key=budget_order))) for m, b in seen.items()]


def fit_to_pool(
    rows: pl.DataFrame, pool: Pool, *, drop: bool, teach: bool = False
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Return (the rows whose arm is in the pool, those that only teach, a note on the others).

    drop, teach: what becomes of rows whose arm is not in the pool; where neither is said they raise `DataError`.
    """
    arms = pl.concat_str("model", "budget", separator="@")
    strange = rows.filter(~arms.is_in(list(pool.arms)))
    if strange.is_empty():
        return rows, strange, []
    model, budget = strange.row(0, named=True)["model"], strange.row(0, named=True)["budget"]
    known = {m.id for m in pool.models}
    what = f"budget {budget!r} of model {model!r}" if model in known else f"model {model!r}"
    if not (drop or teach):
        meant = "" if model in known else suggest(model, known)
        raise DataError(
            f"{what} ({len(strange)} rows in all) is not in the pool{meant}: add it there, or leave such rows out "
            "(drop_unknown=True, --drop-unknown)"
        )
    rest = rows.filter(arms.is_in(list(pool.arms)))
    if rest.is_empty():
        raise DataError(
            f"no rows are left: none of the {len(rows)} is of an arm in the pool ({', '.join(pool.arms[:6])})"
        )
    if teach:
        models = listing(strange["model"].unique(maintain_order=True).to_list(), maximum=3)
        return rest, strange, [f"{len(strange):,} rows of arms that are not in the pool teach only ({models})"]
    return rest, strange.clear(), [f"{len(strange)} rows of arms that are not in the pool were left out"]


def pivot(
    rows: pl.DataFrame, pool: Pool, names: Sequence[str], queries: pl.DataFrame
) -> dict[str, tuple[str, ...] | FloatArray]:
    """Return the words of each query and one (n, arms) array a name. Several samples of a cell give their mean; a
    failed call gives nothing.

    queries: one row for each query, in the order of the arrays' rows.
    """
    if len(queries) * len(pool) > max(_CELLS, _CELLS_PER_ROW * len(rows)):
        raise DataError(
            f"{len(queries):,} queries x {len(pool):,} arms for {len(rows):,} rows would be almost empty arrays: read"
            " fewer models, or the sources apart"
        )
    row = {q: i for i, q in enumerate(queries["query_id"])}
    cells = rows.with_columns(pl.when(pl.col("error").is_null()).then(pl.col(n)).alias(n) for n in names)
    if rows["sample"].null_count() < len(rows):
        cells = cells.group_by("query_id", "model", "budget", maintain_order=True).agg(pl.col(n).mean() for n in names)
    at_row = cells["query_id"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
    arms = (cells["model"] + "@" + cells["budget"]).replace_strict(
        {str(a): i for a, i in pool.index.items()}, return_dtype=pl.Int64
    )
    arrays: dict[str, tuple[str, ...] | FloatArray] = {}
    for name in names:
        array = np.full((len(queries), len(pool)), np.nan)
        array[at_row, arms.to_numpy()] = cells[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        arrays[name] = array
    words = {"query_ids": "query_id", "queries": "query", "tasks": "task"}
    return {ours: tuple(queries[theirs]) for ours, theirs in words.items()} | arrays


def responses_of(
    rows: pl.DataFrame, pool: Pool, sources: Sequence[AnswerSource | None], queries: Sequence[str]
) -> ResponseIndex | None:
    """Find the answer of each cell, of its first sample; None where no source has answers.

    queries: the ids of the table's queries.
    """
    if not any(sources):
        return None
    row = {q: i for i, q in enumerate(queries)}
    cells = rows.filter(
        pl.col("error").is_null() & pl.col(FILE).is_in([i for i, one in enumerate(sources) if one is not None])
    )
    cells = cells.unique(["query_id", "model", "budget"], keep="first", maintain_order=True)
    at = np.full((len(queries), len(pool)), NOWHERE, dtype=np.int64)
    arms = (cells["model"] + "@" + cells["budget"]).replace_strict(
        {str(a): i for a, i in pool.index.items()}, return_dtype=pl.Int64
    )
    rows_of = cells["query_id"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
    at[rows_of, arms.to_numpy()] = cells.select(place(pl.col(FILE), pl.col(ROW))).to_series().to_numpy()
    return ResponseIndex(tuple(sources), at)


def controls_of(rows: pl.DataFrame) -> tuple[dict[str, str], list[str]]:
    """Return (arm -> how its budget was enforced, notes on arms with several ways, of which the most frequent
    counts).
    """
    known = rows.filter(pl.col("control").is_not_null() & pl.col("error").is_null())
    arm = pl.concat_str("model", "budget", separator="@").alias("arm")
    counts = known.group_by(arm, "control", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
    mixed = counts.filter(pl.col("arm").is_duplicated())["arm"].unique(maintain_order=True).to_list()
    notes = (
        [f"the budgets of {listing(mixed)} were enforced in several ways; the most frequent one counts"]
        if mixed
        else []
    )
    first = counts.unique("arm", keep="first", maintain_order=True)
    return dict(zip(first["arm"].to_list(), first["control"].to_list(), strict=True)), notes


def simulations_of(rows: pl.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (how the simulated rows were made, the note that says so); both empty where all rows are real."""
    made = rows["simulated"].drop_nulls()
    if not len(made):
        return (), ()
    ways = tuple(made.unique(maintain_order=True))
    share = "all rows" if len(made) == len(rows) else f"{len(made):,} of {len(rows):,} rows"
    return ways, (simulation_note(share, ways),)


def simulation_note(share: str, ways: Sequence[str]) -> str:
    """Return the note of a table with simulated rows."""
    return f"{share} are simulated, nothing may be claimed from them: {'; '.join(ways)}"
