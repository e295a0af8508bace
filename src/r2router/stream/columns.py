"""Embeddings from `.npy` and Parquet, and texts from Parquet, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from r2router.errors import DataError
from r2router.stream.batch import (
    ID_COLUMNS,
    TEXT_COLUMNS,
    TEXTS,
    VECTOR_COLUMNS,
    QueryBatch,
    QueryRow,
    chosen,
    text_batch,
)
from r2router.table.parquet_size import check_unpacked
from r2router.types import FloatArray

_VECTOR_BYTES = 16 << 20  # of a batch


def npy(path: Path, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """Mapped anew for each batch: pages of a map that stays open count as this process's memory until it is closed."""
    shape, dtype = _mapped(path).shape, _mapped(path).dtype
    if len(shape) != 2 or dtype.kind != "f":
        raise DataError(f"{path}: holds {dtype} of shape {shape}; embeddings are floats of shape (n, {dim})")
    if shape[1] != dim:
        raise DataError(
            f"{path}: the embeddings have {shape[1]} numbers each; this router needs {dim}, of its own encoder"
        )
    step = max(_VECTOR_BYTES // (4 * dim), 1)
    for start in range(0, shape[0], step):
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite, and so a problem
            x = np.array(_mapped(path)[start : start + step], dtype=np.float32, order="C")
        problems = _clean(x, {})
        yield QueryBatch(start, x, [None] * len(x), problems, min((start + step) / shape[0], 1.0))


def _mapped(path: Path) -> FloatArray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole .npy file of numbers ({str(error).splitlines()[0]})") from None


def _clean(x: FloatArray, problems: dict[int, str]) -> dict[int, str]:
    """Return the problems, with those of rows that are not finite; these become zeros, so that the others can be routed
    with them.
    """
    odd = ~np.isfinite(x).all(axis=1)
    for i in np.flatnonzero(odd):
        problems.setdefault(int(i), "the embedding holds NaN or infinite values")
    x[odd] = 0.0
    return problems


def parquet(path: Path, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """Yield a column of texts, or of lists of numbers; the other columns are kept."""
    import polars as pl

    check_unpacked(path, in_parts=True)
    try:
        yield from scanned(str(path), pl.scan_parquet(path, glob=False, hive_partitioning=False), dim, column)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None


def remote(address: str, kind: str, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """Yield the files of an address that polars reads (s3://, gs://, az://, https://, ...); it may have wildcards."""
    import polars as pl

    scans: dict[str, Callable[[str], Any]] = {
        ".parquet": pl.scan_parquet,
        ".csv": _scan_csv,
        ".jsonl": pl.scan_ndjson,
        ".ndjson": pl.scan_ndjson,
    }
    if kind not in scans:
        raise DataError(
            f"{address}: at an address there can be {', '.join(scans)}; copy a file of another kind to this machine"
            " first"
        )
    try:
        yield from scanned(address, scans[kind](address), dim, column)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{address}: cannot be read ({(str(error) or repr(error)).splitlines()[0]})") from None


def _scan_csv(address: str) -> Any:
    import polars as pl

    return pl.scan_csv(address, infer_schema=False)


def scanned(path: str, scan: Any, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """Yield the batches of a lazy frame."""
    import polars as pl

    schema, total = scan.collect_schema(), int(scan.select(pl.len()).collect().item())
    vectors = [
        n
        for n, t in schema.items()
        if isinstance(t, (pl.List, pl.Array)) and t.inner is not None and t.inner.is_numeric()
    ]
    known = VECTOR_COLUMNS if any(c in vectors for c in VECTOR_COLUMNS) else TEXT_COLUMNS
    name = chosen(path, list(schema), known, column)
    step = max(_VECTOR_BYTES // (4 * dim), 1) if name in vectors else TEXTS
    start = 0
    for frame in _frames(scan, step, total):
        done = min((start + len(frame)) / max(total, 1), 1.0)
        ids = next((frame[c].to_list() for c in ID_COLUMNS if c in schema and c != name), [None] * len(frame))
        own = {c: frame[c] for c in schema if c != name or name not in vectors}
        if name in vectors:
            x, problems = _matrix(frame[name], dim, path)
            yield QueryBatch(start, x, ids, _clean(x, problems), done, _tokens(frame, problems), own)
        else:
            texts = frame[name].cast(pl.String).to_list()
            batch = text_batch(start, [QueryRow(t or "", None, done, i) for t, i in zip(texts, ids, strict=True)])
            yield replace(batch, own=own)
        start += len(frame)


def _frames(scan: Any, step: int, total: int) -> Iterator[Any]:
    """Yield a lazy frame in pieces. Before polars 1.34 there was no other way than to begin anew for each, slow in long
    row groups.
    """
    if hasattr(scan, "collect_batches"):
        yield from scan.collect_batches(chunk_size=step, maintain_order=True)
    else:
        yield from (scan.slice(start, step).collect() for start in range(0, total, step))


def _matrix(column: Any, dim: int, path: str) -> tuple[FloatArray, dict[int, str]]:
    """Return ((m, dim) float32, problems) of a list or array column."""
    import polars as pl

    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len().fill_null(0).to_numpy()
    fits = lengths == dim
    if not fits.any() and len(fits):
        raise DataError(
            f"{path}: the embeddings have {lengths.max()} numbers each; this router needs {dim}, of its own encoder"
        )
    x = np.zeros((len(column), dim), dtype=np.float32)
    x[fits] = lists.filter(pl.Series(fits)).explode().cast(pl.Float32).fill_null(np.nan).to_numpy().reshape(-1, dim)
    wrong = {int(i): f"the embedding has {lengths[i]} numbers, not {dim}" for i in np.flatnonzero(~fits)}
    return x, wrong


def _tokens(frame: Any, problems: dict[int, str]) -> FloatArray | None:
    """Return the counts of a column `input_tokens`; an impossible one is that row's problem."""
    if "input_tokens" not in frame.columns:
        return None
    import polars as pl

    tokens = frame["input_tokens"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().copy()
    odd = ~(np.isfinite(tokens) & (tokens >= 0))
    for i in np.flatnonzero(odd):
        problems.setdefault(int(i), "input_tokens is not a number of at least 0")
    tokens[odd] = 0.0
    return tokens
