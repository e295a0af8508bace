"""Data frames and tables into files: Parquet, CSV or JSON lines, as the file's name ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from r2router.errors import DataError
from r2router.files import whole_file
from r2router.table.responses import NUMBERS, TEXTS

if TYPE_CHECKING:
    from r2router.table.table import Table

FORMATS = (".parquet", ".csv", ".jsonl", ".ndjson")
_NUMBERS = ("quality", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")


def check_format(path: str | Path) -> None:
    """Raise `DataError` where a file's name does not end as one of `FORMATS`."""
    if Path(path).suffix.lower() not in FORMATS:
        raise DataError(f"{path}: cannot tell its format from {Path(path).suffix!r}: name it {', '.join(FORMATS)}")


def write_frame(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a data frame. Lists and structs become JSON in CSV. Raises `DataError`, and `SaveError`: what was at `path`
    then stays.
    """
    check_format(path)
    kind = Path(path).suffix.lower()
    with whole_file(path) as file, polars_errors():
        if kind == ".parquet":
            frame.write_parquet(file)
        elif kind == ".csv":
            nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
            frame.with_columns(_as_json(frame[name]) for name in nested).write_csv(file)
        else:
            frame.write_ndjson(file)


@contextmanager
def polars_errors() -> Iterator[None]:
    """What polars could not write, say for a full disk, becomes the `OSError` that it is."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error).splitlines()[0]) from None


def _as_json(column: pl.Series) -> pl.Series:
    import msgspec

    texts = [None if value is None else msgspec.json.encode(value, enc_hook=str).decode() for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)


def _answers(table: Table, at_row: np.ndarray, at_arm: np.ndarray) -> dict[str, pl.Series]:
    """Return the columns of the observed cells' answers, read from where they stand; numbers only where some
    are known.
    """
    number = {cell: i for i, cell in enumerate(zip(at_row.tolist(), at_arm.tolist(), strict=True))}
    texts: dict[str, list[Any]] = {name: [None] * len(number) for name in TEXTS}
    numbers = {name: np.full(len(number), np.nan) for name in NUMBERS}
    for reply in () if table.responses is None else table.responses.replies():
        at = number.get(reply[:2])
        if at is not None:
            texts["response"][at], texts["finish_reason"][at] = reply.text, reply.finish_reason or None
            for name, column in numbers.items():
                column[at] = getattr(reply, name)
    found = {name: pl.Series(column, dtype=pl.String) for name, column in texts.items()}
    return found | {
        name: pl.Series(column).fill_nan(None) for name, column in numbers.items() if np.isfinite(column).any()
    }


def write_table(table: Table, path: str | Path) -> None:
    """Write a table's observed cells in the long format. Raises `DataError`, `SaveError`."""
    seen = np.zeros((len(table), len(table.arms)), dtype=np.bool_)
    for name in _NUMBERS:
        seen |= ~np.isnan(getattr(table, name))
    at_row, at_arm = np.nonzero(seen)
    arms, budgets = table.arms, table.pool.budgets
    words = {"query_id": table.query_ids, "task": table.tasks, "query": table.queries}
    arm_words = {"model": [a.model for a in arms], "budget": [a.budget for a in arms]}
    columns = {
        **{c: pl.Series(values, dtype=pl.String).gather(at_row) for c, values in words.items()},
        **{c: pl.Series(values, dtype=pl.String).gather(at_arm) for c, values in arm_words.items()},
        "budget_tokens": pl.Series([b.tokens for b in budgets], dtype=pl.Int64).gather(at_arm),
        **{name: pl.Series(getattr(table, name)[seen]).fill_nan(None) for name in _NUMBERS},
    }
    if table.responses is not None:
        columns |= _answers(table, at_row, at_arm)
    if table.controls:
        columns["control"] = pl.Series([table.controls.get(arm) for arm in arms], dtype=pl.String).gather(at_arm)
    if table.simulated:  # a column, and not metadata of the file: it also outlives filters, joins and other formats
        columns["simulated"] = pl.repeat("; ".join(table.simulations), len(at_row), dtype=pl.String, eager=True)
    write_frame(pl.DataFrame(columns), path)
