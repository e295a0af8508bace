"""Files of queries, read in batches: JSON lines, CSV, plain lines, Parquet, and embeddings as `.npy` or in Parquet.

Parquet, CSV and JSON lines may be at an address that polars reads, such as `s3://bucket/prompts/*.parquet`.

Every line (or row) of the input is one row of a batch, also a blank or a broken one: the n-th answer is that of the
n-th question.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from r2router.errors import DataError, UsageError
from r2router.files import check_file, check_text
from r2router.stream.batch import QueryBatch
from r2router.stream.columns import npy, parquet, remote
from r2router.stream.texts import csv_lines, json_lines, plain_lines

PIPED = (".jsonl", ".ndjson", ".csv", ".txt")
"""What may also come from a named pipe."""

READERS = {
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".csv": csv_lines,
    ".txt": plain_lines,
    ".parquet": parquet,
    ".npy": npy,
}


def batches(path: str | Path, dim: int, column: str | None = None) -> Iterator[QueryBatch]:
    """Yield the rows of a file, by its extension.

    dim: the length that an embedding must have.
    column: where the text or the embedding stands; by default the first of query, prompt, text, or vector, embedding.

    Raises `DataError` where the file as a whole is of no use.
    """
    if is_address(path):
        yield from remote(str(path), Path(str(path)).suffix.lower(), dim, column)
        return
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(f"{path}: cannot tell its format from {kind!r}: name it {', '.join(READERS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    check_file(path, pipes=kind in PIPED)
    if kind in PIPED and path.is_file():
        check_text(path)
    if column is not None and kind in (".npy", ".txt"):
        raise UsageError(f"{path}: {kind} has no columns, so that column {column!r} means nothing")
    try:
        yield from READERS[kind](path, dim, column)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def is_address(path: str | Path) -> bool:
    """Return whether it is a place that polars reaches, such as s3://bucket/prompts.parquet, and not a path on this
    machine.
    """
    return isinstance(path, str) and "://" in path


def same_file(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths lead to one existing file, or are one address."""
    if is_address(one) or is_address(other):
        return str(one) == str(other)
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
