"""Rows of decisions as Parquet, which cannot be added to: parts on disk that are joined at the end, without holding
them all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from r2router.errors import DataError, SaveError
from r2router.stream.write import COLUMNS, Columns, as_text, enforcement_text, listed
from r2router.table.write import polars_errors

_PART = 100_000  # rows of a part: few enough to hold, enough that a long output has few parts
_PART_BYTES = 64 << 20  # of a part with long texts
_TYPES: dict[str, Any] = dict.fromkeys(COLUMNS, pl.String)
_TYPES |= dict.fromkeys(("quality", "spread", "tokens", "cost"), pl.Float64) | dict.fromkeys(
    ("met", "familiar"), pl.Boolean
)
_TYPES |= {"row": pl.Int64, "max_tokens": pl.Int64, "fallbacks": pl.List(pl.String)}


class Parquet:
    """Takes rows as they come. folder: where the parts go.

    target: a path or an address.
    """

    def __init__(self, beside: Path, target: str) -> None:
        self._target, self._parts, self._count = target, beside.with_name(beside.name + ".parts"), 0
        self._held: list[pl.DataFrame] = []
        self.left_out = set[str]()
        self._parts.mkdir()

    def write(self, columns: Columns) -> None:
        plain: dict[str, Sequence[Any]] = {
            **listed(columns),
            **{k: v for k, v in columns.items() if isinstance(v, pl.Series)},
        }
        plain["id"] = [None if v is None else str(v) for v in plain["id"]]
        plain["enforcement"] = enforcement_text(plain["enforcement"])
        fallbacks = _lists("fallbacks", plain.pop("fallbacks"))
        series = [
            pl.Series(k, v, dtype=_TYPES[k], strict=False) if k in _TYPES else _own(k, v) for k, v in plain.items()
        ]
        series.append(fallbacks)
        self._held.append(pl.DataFrame(series))
        if sum(map(len, self._held)) >= _PART or sum(f.estimated_size() for f in self._held) >= _PART_BYTES:
            self._flush()

    def close(self) -> None:
        self.write({name: [] for name in COLUMNS})  # so that there is at least one part, also of an empty input
        self._flush()
        with polars_errors():
            pl.concat(
                _alike([pl.scan_parquet(path, glob=False) for path in sorted(self._parts.iterdir())])
            ).sink_parquet(self._target)

    def _flush(self) -> None:
        with polars_errors():
            frames = [frame.lazy() for frame in self._held]
            pl.concat(_alike(frames)).collect().write_parquet(self._parts / f"{self._count:09}.parquet")
        self._held.clear()
        self._count += 1

    def discard(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._parts, ignore_errors=True)


def _lists(name: str, values: Sequence[Sequence[str] | None]) -> pl.Series:
    """Return a column of lists of texts. Few different ones recur, and polars makes a series for each that it
    is given.
    """
    at = {value: number for number, value in enumerate(dict.fromkeys(tuple(v) for v in values if v is not None))}
    known = pl.Series(name, list(at), dtype=pl.List(pl.String))
    return known.gather(pl.Series([None if v is None else at[tuple(v)] for v in values], dtype=pl.UInt32))


def _own(name: str, values: Sequence[Any]) -> pl.Series:
    """Return a column of the source: numbers, flags and texts as they are, the rest as JSON."""
    if isinstance(values, pl.Series):
        return values.alias(name)
    kinds = {type(v) for v in values if v is not None}
    if kinds <= {int, float} and all(abs(v) < 2**63 for v in values if v is not None):
        return pl.Series(name, values, dtype=pl.Float64 if float in kinds else pl.Int64 if kinds else pl.Null)
    if kinds <= {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    return pl.Series(name, [None if v is None else as_text(v) for v in values], dtype=pl.String)


def _alike(frames: list[pl.LazyFrame]) -> list[pl.LazyFrame]:
    """Return the frames with the same columns of the same types: a column of several is a number where all are, else
    text.
    """
    schemas = [frame.collect_schema() for frame in frames]
    found: dict[str, set[Any]] = {}
    for schema in schemas:
        for name, kind in schema.items():
            found.setdefault(name, set()).add(kind)
    types = {name: _common(kinds - {pl.Null}) for name, kinds in found.items()}
    own = [name for name in types if name not in COLUMNS]
    order = (*COLUMNS[:2], *own, *COLUMNS[2:])
    return [
        frame.select([(pl.col(n) if n in schema else pl.lit(None)).cast(types[n]).alias(n) for n in order])
        for frame, schema in zip(frames, schemas, strict=True)
    ]


def _common(kinds: set[Any]) -> Any:
    if len(kinds) == 1:
        return next(iter(kinds))
    return pl.Float64 if kinds and kinds <= {pl.Int64, pl.Float64} else pl.String


@contextmanager
def parquet_at(address: str) -> Iterator[Parquet]:
    """A Parquet file at an address that polars writes to (s3://, gs://, az://); the parts are on this machine's disk
    until the end.
    """
    if not address.lower().endswith(".parquet"):
        raise DataError(f"{address}: at an address only .parquet can be written; name it so, or write to this machine")
    with tempfile.TemporaryDirectory(prefix="r2router-") as folder:
        parquet = Parquet(Path(folder) / "out", address)
        try:
            yield parquet
            parquet.close()
        except OSError as error:
            raise SaveError(f"{address}: cannot be written ({error})") from None
