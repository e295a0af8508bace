"""The wide layout of the released R2-Bench: one file per LLM, named after it.

Its columns are the query and `10_score`, `10_count`, ... `unlimited_score`, `unlimited_count`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from r2router.errors import ConfigError, DataError
from r2router.pool.pool import budget_order
from r2router.table.cells import column_of
from r2router.table.sources import FORMATS, Source
from r2router.types import Budget

_WIDE = re.compile(r"(unlimited|[+.\d-]\S*)_(score|count)")
QUERY_NAMES = ("query", "question", "prompt", "input", "text")


def is_wide(column: str) -> bool:
    """Return whether a column of this name is one of the wide layout."""
    return _WIDE.fullmatch(column) is not None


def from_wide(source: Source, columns: Mapping[str, str], scale: float) -> pl.DataFrame:
    """Return the long form of one LLM's wide file. Raises `DataError`."""
    name, frame = source.name, source.frame
    if "://" in name and (Path(name).suffix.lower() not in FORMATS or any(c in name for c in "*?[")):
        raise DataError(
            f"{name}: wide files take the model name from the file name: give the files one by one, or their folder"
        )
    query = columns.get("query") or next((c for c in QUERY_NAMES if c in frame.columns), None)
    if query is None or query not in frame.columns:
        raise DataError(
            f"{name}: no column with the query's text; name it: --column query=NAME (columns={{'query': 'NAME'}})"
        )
    words = {"query": query, "query_id": columns.get("query_id", "query_id"), "task": columns.get("task", "task")}
    fixed = [column_of(frame, theirs, pl.String, theirs, name).alias(ours) for ours, theirs in words.items()]
    if words["query_id"] not in frame.columns:
        fixed[1] = pl.Series("query_id", range(len(frame))).cast(pl.String)
    parts = []
    for budget, spelled in sorted(_budgets(source).items(), key=lambda pair: budget_order(pair[0])):
        score = column_of(frame, f"{spelled}_score", pl.Float64, f"{spelled}_score", name, scale).alias("quality")
        count = column_of(frame, f"{spelled}_count", pl.Float64, f"{spelled}_count", name).alias("output_tokens")
        parts.append(
            pl.DataFrame([*fixed, score, count]).with_columns(model=pl.lit(source.stem), budget=pl.lit(budget.id))
        )
    return pl.concat(parts)


def _budgets(source: Source) -> dict[Budget, str]:
    """Return each budget, and how it is spelled in the names of its columns."""
    found: dict[Budget, str] = {}
    for column in source.frame.columns:
        match = _WIDE.fullmatch(column)
        if match is None:
            continue
        try:
            budget = Budget.of(match[1])
        except ConfigError as error:
            raise DataError(f"{source.name}: column {column!r}: {error}") from None
        if found.setdefault(budget, match[1]) != match[1]:
            raise DataError(
                f"{source.name}: columns {found[budget]}_... and {match[1]}_... are one budget, {budget.id}; keep one"
            )
    return found
