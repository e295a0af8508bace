"""Batches: some rows of an input, whatever file they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2router.errors import DataError
from r2router.types import FloatArray

TEXT_COLUMNS = ("query", "prompt", "text")
VECTOR_COLUMNS = ("vector", "embedding")
ID_COLUMNS = ("query_id", "id")
TEXTS = 256  # a batch: enough to embed well, few enough to show progress


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
class Row:
    """One query as read: a text, or what is wrong. done: the share of the file before and with it."""

    text: str
    problem: str | None
    done: float
    id: Any = None


def grouped(rows: Iterator[Row]) -> Iterator[Batch]:
    """Batches of `TEXTS` rows."""
    group: list[Row] = []
    start = 0
    for row in rows:
        group.append(row)
        if len(group) == TEXTS:
            yield text_batch(start, group)
            start, group = start + len(group), []
    if group:
        yield text_batch(start, group)


def text_batch(start: int, rows: Sequence[Row]) -> Batch:
    """A batch of texts; what cannot be routed among them becomes a problem."""
    problems = {}
    for i, row in enumerate(rows):
        if problem := row.problem or unreadable(row.text) or (None if row.text.strip() else "empty"):
            problems[i] = problem
    return Batch(start, [row.text for row in rows], [row.id for row in rows], problems, rows[-1].done)


def unreadable(text: str) -> str | None:
    """What is wrong with a text that was not read as UTF-8; None where nothing is."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that is no UTF-8 came in as a surrogate
        return "not valid UTF-8"
    return None


def chosen(path: Path, there: Sequence[str], known: Sequence[str], column: str | None) -> str:
    """The column to read. Raises `DataError` naming those there are."""
    found = column if column is not None else next((c for c in known if c in there), None)
    if found is None or found not in there:
        wanted = repr(column) if column is not None else ", ".join((*TEXT_COLUMNS, *VECTOR_COLUMNS))
        raise DataError(f"{path}: no column {wanted} (there are: {', '.join(there[:12])}); name it with --column")
    return found
