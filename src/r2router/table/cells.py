"""Columns of foreign tables as numbers and texts: spellings of "nothing", percentages, decimal commas."""

from __future__ import annotations

import re
from typing import Any

import polars as pl

from r2router.errors import DataError

_WORDS = "na n/a #n/a #na nan -nan +nan null none nil <na> -1.#ind 1.#ind -1.#qnan 1.#qnan - -- \u2013 \u2014 ."
NOTHING = frozenset({"", "#n/a n/a", *_WORDS.split()})
"""What people and programs write where there is no value, in lower case."""

_PERCENT = re.compile(r"[+-]?[\d.,]+\s*%")
_COMMA = re.compile(r"[+-]?\d*,\d+")


def column_of(frame: pl.DataFrame, column: str, kind: Any, known_as: str, name: str, scale: float = 1.0) -> pl.Series:
    """Return a column as text or numbers; nulls where the frame does not have it.

    scale: what the numbers are divided by.

    Raises `DataError`.
    """
    if column not in frame.columns:
        return pl.repeat(None, len(frame), dtype=kind, eager=True)
    try:
        return _numbers(frame[column], known_as, name, scale) if kind == pl.Float64 else _text(frame[column])
    except pl.exceptions.PolarsError:
        raise DataError(
            f"{name}: column {column!r} cannot be read as {'numbers' if kind == pl.Float64 else 'text'}"
        ) from None


def without_nothing(column: pl.Expr, but: frozenset[str] = frozenset()) -> pl.Expr:
    """Return a column of texts with null where a text says that there is nothing."""
    return pl.when(~column.str.strip_chars().str.to_lowercase().is_in(sorted(NOTHING - but))).then(column)


def _text(column: pl.Series) -> pl.Series:
    """Read a column as text; 150.0 is 150, as whole numbers become fractions wherever a column has a gap."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() == column.drop_nulls().round()).all() and not column.is_infinite().any():
            column = column.cast(pl.Int64)
    return column.cast(pl.String)


def _numbers(column: pl.Series, ours: str, name: str, scale: float) -> pl.Series:
    """Read a column as numbers; NaN is null, as nothing was observed either way.

    Raises `DataError` naming the first row that is no number.
    """
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() > column.null_count():
        words = column.cast(pl.String).str.strip_chars().str.to_lowercase()
        words = words.replace({"true": "1", "false": "0", **dict.fromkeys(NOTHING)})
        if scale == 100:
            words = words.str.replace(r"\s*%$", "")
        numbers = words.cast(pl.Float64, strict=False)
        if numbers.null_count() > words.null_count():
            row = int((numbers.is_null() & words.is_not_null()).arg_max() or 0)
            raise DataError(
                f"{name}, row {row + 1}: {ours} is {column[row]!r}; it must be a"
                f" number{_mend(str(column[row]).strip(), ours)}"
            )
    numbers = numbers.fill_nan(None)
    return numbers if scale == 1 else numbers / scale


def _mend(value: str, ours: str) -> str:
    if _PERCENT.fullmatch(value):
        way = "give --scale 100 (scale=100)" if ours == "quality" else "write it without the sign"
        return f" and not a percentage: {way}"
    if _COMMA.fullmatch(value):
        return (
            f" with a decimal point and without separators of thousands: write {value.replace(',', '.')} or"
            f" {value.replace(',', '')}"
        )
    return ""
