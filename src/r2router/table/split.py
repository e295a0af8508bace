"""Tables in two parts by query, so that a router is tested on nothing that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from r2router.errors import DataError
from r2router.table.twins import groups_of
from r2router.types import IntArray

if TYPE_CHECKING:
    from r2router.table.rows import Reading


def split_queries(queries: Sequence[str], test: float, seed: int) -> tuple[IntArray, IntArray]:
    """Return (train, test) numbers of queries; near-duplicates stay together (`groups_of`).

    A permutation by `numpy.random.default_rng(seed)`, as in the paper's released code. Raises `DataError` where a part
    would be empty.
    """
    if not 0 < test < 1:
        raise DataError(f"test is {test}; the share of queries held out lies between 0 and 1, for example 0.2")
    group = groups_of(queries)
    groups = int(group.max(initial=-1)) + 1
    order = np.random.default_rng(seed).permutation(groups)
    train_groups = order[: int((1 - test) * groups + 1e-9)]  # 0.9 of 10 is 9, whatever 1 - 0.9 comes to in binary
    in_train = np.isin(group, train_groups)
    if in_train.all() or not in_train.any():
        raise DataError(f"{groups} distinct queries cannot be split {1 - test:g} to {test:g}: one part would be empty")
    if groups == len(queries):  # the permutation's own order, so that rows come as the paper's code has them
        return train_groups, order[len(train_groups) :]
    return np.flatnonzero(in_train), np.flatnonzero(~in_train)


def write_part(rows: pl.DataFrame, query_ids: Sequence[str], path: Path, vectors: Any = None) -> None:
    """Write the rows of some queries, and their embeddings (in the same order) beside them as `.vectors.npy`. Raises
    `SaveError`.
    """
    from r2router.files import whole_file
    from r2router.table.write import write_frame

    write_frame(rows_of(rows, query_ids), path)
    if vectors is not None:
        with whole_file(path.with_suffix(".vectors.npy")) as file:
            np.save(file, vectors)


def rows_of(rows: pl.DataFrame, query_ids: Sequence[str]) -> pl.DataFrame:
    """Return the checked rows of some queries, in their order, as they are written to files: without columns of ours
    that hold nothing.
    """
    from r2router.table.rows import COLUMNS, FILE, ROW

    at = rows["query_id"].replace_strict(list(query_ids), range(len(query_ids)), default=None, return_dtype=pl.Int64)
    part = rows.with_columns(at.alias(ROW)).filter(pl.col(ROW).is_not_null()).sort(ROW, maintain_order=True)
    empty = [name for name in COLUMNS if rows[name].null_count() == len(rows) and name != "quality"]
    return part.drop(FILE, ROW, *empty)


def split_table(
    sources: Any,
    out: str | Path,
    *,
    test: float = 0.2,
    seed: int = 42,
    reading: Reading | None = None,
    vectors: Any = None,
) -> tuple[tuple[Path, int], tuple[Path, int]]:
    """Write `OUT.train.parquet` and `OUT.test.parquet` for `out` = `OUT.parquet` (or .csv, .jsonl); each path and its
    number of queries.

    All columns of the sources are kept, under our names, and all rows of a query, whoever judged them, go the same way.
    The parts are those of `Table.split` with the same share and seed.

    vectors: embeddings of the queries, in the table's order, written as `OUT.train.vectors.npy` and
        `OUT.test.vectors.npy`.

    Raises `DataError`, `SaveError`.
    """
    from dataclasses import replace

    from r2router.table.rows import Reading, read_all_rows
    from r2router.table.write import check_format

    check_format(out)
    rows = read_all_rows(sources, replace(reading or Reading(), keep=True)).frame
    queries = rows.unique("query_id", keep="first", maintain_order=True)
    if vectors is not None and len(vectors) != len(queries):
        raise DataError(f"vectors have {len(vectors)} rows; expected one for each of the {len(queries)} queries")
    written = []
    for name, numbers in zip(("train", "test"), split_queries(queries["query"].to_list(), test, seed), strict=True):
        path = Path(out).with_suffix(f".{name}{Path(out).suffix}")
        write_part(
            rows, queries["query_id"].gather(numbers).to_list(), path, None if vectors is None else vectors[numbers]
        )
        written.append((path, len(numbers)))
    return written[0], written[1]
