"""Files of queries, read in batches: JSON lines, CSV, plain lines, Parquet, and embeddings as `.npy` or in Parquet.

Every line (or row) of the input is one row of a batch, also a blank or a broken one: the n-th answer is that of the n-th question.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from r2router.errors import DataError, UsageError
from r2router.types import FloatArray

TEXT_COLUMNS = ("query", "prompt", "text")
VECTOR_COLUMNS = ("vector", "embedding")
_ID_COLUMNS = ("query_id", "id")
_TEXTS = 256  # a batch: enough to embed well, few enough to show progress
_VECTOR_BYTES = 16 << 20
_LONGEST = 32 << 20  # bytes of one line or field; a longer one is no query, and reading it whole could fill the memory


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of the input.

    start: number of the first row, from 0. queries: m texts, or (m, d) embeddings. ids: the source's own names, None where it has
    none. problems: row within the batch -> why it cannot be routed. done: the share of the input read so far. input_tokens: (m,)
    where the source counts them.
    """

    start: int
    queries: list[str] | FloatArray
    ids: list[Any]
    problems: dict[int, str]
    done: float
    input_tokens: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class _Row:
    """One query as read: a text, or what is wrong. done: the share of the file before and with it."""

    text: str
    problem: str | None
    done: float
    id: Any = None


def batches(path: str | Path, dim: int, column: str | None = None) -> Iterator[Batch]:
    """The rows of a file, by its extension. dim: the length that an embedding must have.

    column: where the text or the embedding stands; by default the first of query, prompt, text, or vector, embedding.
    Raises `DataError` where the file as a whole is of no use.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in READERS:
        raise DataError(f"{path}: cannot tell its format from {kind!r}: name it {', '.join(READERS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file")
    if column is not None and kind in (".npy", ".txt"):
        raise UsageError(f"{path}: {kind} has no columns, so that column {column!r} means nothing")
    try:
        yield from READERS[kind](path, dim, column)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


# -- texts ----------------------------------------------------------------------------------------------------------


def _text_lines(path: Path, dim: int, column: str | None) -> Iterator[Batch]:
    return _grouped(_Row(*_decoded(raw), done) for raw, done in _raw_lines(path))


def _json_lines(path: Path, dim: int, column: str | None) -> Iterator[Batch]:
    return _grouped(_json_row(raw, done, column) for raw, done in _raw_lines(path))


def _json_row(raw: bytes | None, done: float, column: str | None) -> _Row:
    text, problem = _decoded(raw)
    if problem:
        return _Row("", problem, done)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return _Row("", f"malformed JSON: {error}", done)
    if isinstance(value, str):
        return _Row(value, None, done)
    if not isinstance(value, dict):
        return _Row("", "a line must be a JSON object or string", done)
    name = column or next((c for c in TEXT_COLUMNS if c in value), None)
    key = next((value[c] for c in _ID_COLUMNS if isinstance(value.get(c), (str, int))), None)
    if name is None or name not in value:
        return _Row("", f"no field {column or ', '.join(TEXT_COLUMNS)}", done, key)
    if not isinstance(value[name], str):
        return _Row("", f"field {name!r} is not text", done, key)
    return _Row(value[name], None, done, key)


def _csv(path: Path, dim: int, column: str | None) -> Iterator[Batch]:
    return _grouped(_csv_rows(path, column))


def _csv_rows(path: Path, column: str | None) -> Iterator[_Row]:
    csv.field_size_limit(_LONGEST)  # the limit is the csv module's, for the whole process; its 128 kB are less than a long prompt
    size = max(path.stat().st_size, 1)
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(_counted(file, position := [0]))
        try:
            head = next(reader, None)
            if head is None:
                raise DataError(f"{path}: the file is empty; a CSV needs a header with one of {', '.join(TEXT_COLUMNS)}")
            at = head.index(_chosen(path, head, TEXT_COLUMNS, column))
            id_at = next((head.index(c) for c in _ID_COLUMNS if c in head), None)
            for fields in reader:
                done = position[0] / size
                key = fields[id_at] if id_at is not None and id_at < len(fields) else None
                if at >= len(fields):
                    yield _Row("", f"line {reader.line_num} has {len(fields)} of {len(head)} fields", done, key)
                else:
                    yield _Row(fields[at], _unreadable(fields[at]), done, key)
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error}); is a quote left open?") from None


def _counted(lines: Iterator[str], position: list[int]) -> Iterator[str]:
    """The lines as they are, with the characters read so far (about the bytes) in `position`: a text file cannot tell while iterated."""
    for line in lines:
        position[0] += len(line)
        yield line


def _raw_lines(path: Path) -> Iterator[tuple[bytes | None, float]]:
    """(each line without its end, the share read); None for a line that is too long to be kept."""
    size = max(path.stat().st_size, 1)
    with path.open("rb") as file:
        first = True
        while raw := file.readline(_LONGEST):
            whole = len(raw) < _LONGEST or raw.endswith(b"\n")
            if not whole:
                _skip_line(file)
            if first:
                raw, first = raw.removeprefix(b"\xef\xbb\xbf"), False
            yield raw.rstrip(b"\r\n") if whole else None, min(file.tell() / size, 1.0)


def _skip_line(file: BinaryIO) -> None:
    while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
        pass


def _decoded(raw: bytes | None) -> tuple[str, str | None]:
    """(text, problem) of a line."""
    if raw is None:
        return "", f"the line is longer than {_LONGEST >> 20} MiB"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "", "not valid UTF-8"
    return text, None if text.strip() else "empty"


def _unreadable(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that is no UTF-8 came in as a surrogate
        return "not valid UTF-8"
    return None


def _grouped(rows: Iterator[_Row]) -> Iterator[Batch]:
    group: list[_Row] = []
    start = 0
    for row in rows:
        group.append(row)
        if len(group) == _TEXTS:
            yield _text_batch(start, group)
            start, group = start + len(group), []
    if group:
        yield _text_batch(start, group)


def _text_batch(start: int, rows: Sequence[_Row]) -> Batch:
    problems = {}
    for i, row in enumerate(rows):
        if problem := row.problem or _unreadable(row.text) or (None if row.text.strip() else "empty"):
            problems[i] = problem
    return Batch(start, [row.text for row in rows], [row.id for row in rows], problems, rows[-1].done)


# -- embeddings -----------------------------------------------------------------------------------------------------


def _npy(path: Path, dim: int, column: str | None) -> Iterator[Batch]:
    """Mapped anew for each batch: pages of a map that stays open count as this process's memory until it is closed."""
    shape, dtype = _mapped(path).shape, _mapped(path).dtype
    if len(shape) != 2 or dtype.kind != "f":
        raise DataError(f"{path}: holds {dtype} of shape {shape}; embeddings are floats of shape (n, {dim})")
    if shape[1] != dim:
        raise DataError(f"{path}: the embeddings have {shape[1]} numbers each; this router needs {dim}, of its own encoder")
    step = max(_VECTOR_BYTES // (4 * dim), 1)
    for start in range(0, shape[0], step):
        x = np.array(_mapped(path)[start : start + step], dtype=np.float32, order="C")
        problems = _clean(x, {})
        yield Batch(start, x, [None] * len(x), problems, min((start + step) / shape[0], 1.0))


def _mapped(path: Path) -> FloatArray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole .npy file of numbers ({str(error).splitlines()[0]})") from None


def _clean(x: FloatArray, problems: dict[int, str]) -> dict[int, str]:
    """The problems, with those of rows that are not finite; these become zeros, so that the others can be routed with them."""
    odd = ~np.isfinite(x).all(axis=1)
    for i in np.flatnonzero(odd):
        problems.setdefault(int(i), "the embedding holds NaN or infinite values")
    x[odd] = 0.0
    return problems


def _parquet(path: Path, dim: int, column: str | None) -> Iterator[Batch]:
    import polars as pl

    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema, total = scan.collect_schema(), int(scan.select(pl.len()).collect().item())
        vectors = [n for n, t in schema.items() if isinstance(t, (pl.List, pl.Array)) and t.inner is not None and t.inner.is_numeric()]
        known = VECTOR_COLUMNS if any(c in vectors for c in VECTOR_COLUMNS) else TEXT_COLUMNS
        name = _chosen(path, list(schema), known, column)
        names = [name, *[c for c in (*_ID_COLUMNS, "input_tokens") if c in schema and c != name]]
        step = max(_VECTOR_BYTES // (4 * dim), 1) if name in vectors else _TEXTS
        start = 0
        for frame in _frames(scan.select(names), step, total):
            done = min((start + len(frame)) / max(total, 1), 1.0)
            ids = next((frame[c].to_list() for c in _ID_COLUMNS if c in names), [None] * len(frame))
            if name in vectors:
                x, problems = _matrix(frame[name], dim, path)
                yield Batch(start, x, ids, _clean(x, problems), done, _tokens(frame, problems))
            else:
                texts = frame[name].cast(pl.String).to_list()
                yield _text_batch(start, [_Row(t or "", None, done, i) for t, i in zip(texts, ids, strict=True)])
            start += len(frame)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None


def _frames(scan: Any, step: int, total: int) -> Iterator[Any]:
    """A lazy frame in pieces. Before polars 1.34 there was no other way than to begin anew for each, slow in long row groups."""
    if hasattr(scan, "collect_batches"):
        yield from scan.collect_batches(chunk_size=step, maintain_order=True)
    else:
        yield from (scan.slice(start, step).collect() for start in range(0, total, step))


def _matrix(column: Any, dim: int, path: Path) -> tuple[FloatArray, dict[int, str]]:
    """((m, dim) float32, problems) of a list or array column."""
    import polars as pl

    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len().fill_null(0).to_numpy()
    fits = lengths == dim
    if not fits.any() and len(fits):
        raise DataError(f"{path}: the embeddings have {lengths.max()} numbers each; this router needs {dim}, of its own encoder")
    x = np.zeros((len(column), dim), dtype=np.float32)
    x[fits] = lists.filter(pl.Series(fits)).explode().cast(pl.Float32).fill_null(np.nan).to_numpy().reshape(-1, dim)
    wrong = {int(i): f"the embedding has {lengths[i]} numbers, not {dim}" for i in np.flatnonzero(~fits)}
    return x, wrong


def _tokens(frame: Any, problems: dict[int, str]) -> FloatArray | None:
    """The counts of a column `input_tokens`; an impossible one is that row's problem."""
    if "input_tokens" not in frame.columns:
        return None
    import polars as pl

    tokens = frame["input_tokens"].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy().copy()
    odd = ~(np.isfinite(tokens) & (tokens >= 0))
    for i in np.flatnonzero(odd):
        problems.setdefault(int(i), "input_tokens is not a number of at least 0")
    tokens[odd] = 0.0
    return tokens


def _chosen(path: Path, there: Sequence[str], known: Sequence[str], column: str | None) -> str:
    """The column to read. Raises `DataError` naming those there are."""
    found = column if column is not None else next((c for c in known if c in there), None)
    if found is None or found not in there:
        wanted = repr(column) if column is not None else ", ".join((*TEXT_COLUMNS, *VECTOR_COLUMNS))
        raise DataError(f"{path}: no column {wanted} (there are: {', '.join(there[:12])}); name it with --column")
    return found


READERS = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv, ".txt": _text_lines, ".parquet": _parquet, ".npy": _npy}


def same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two paths lead to one existing file."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
