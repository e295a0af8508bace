"""Batches: some rows of an input, whatever file they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2router.errors import DataError
from r2router.types import FloatArray

TEXT_COLUMNS = ("query", "prompt", "text")
VECTOR_COLUMNS = ("vector", "embedding")
ID_COLUMNS = ("query_id", "id")
TEXTS = 256  # a batch: enough to embed well, few enough to show progress
TEXT_CHARACTERS = 8 << 20  # of a batch of long texts, which then has fewer rows


@dataclass(frozen=True, slots=True)
class QueryBatch:
    """Some rows of the input.

    start: number of the first row, from 0.
    queries: m texts, or (m, d) embeddings.
    ids: the source's own names, None where it has none.
    problems: row within the batch -> why it cannot be routed.
    done: the share of the input read so far.
    input_tokens: (m,) where the source counts them.
    own: the source's columns, lists (or polars series) of m values, without the embeddings.
    """

    start: int
    queries: list[str] | FloatArray
    ids: list[Any]
    problems: dict[int, str]
    done: float
    input_tokens: FloatArray | None = None
    own: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One query as read: a text, or what is wrong.

    done: the share of the file before and with it.
    own: the source's fields.
    size: characters of all its fields, about.
    """

    text: str
    problem: str | None
    done: float
    id: Any = None
    own: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0


def grouped(rows: Iterator[QueryRow]) -> Iterator[QueryBatch]:
    """Batches of `TEXTS` rows, or fewer where they are long."""
    group: list[QueryRow] = []
    start = size = 0
    for row in rows:
        group.append(row)
        size += row.size
        if len(group) == TEXTS or size >= TEXT_CHARACTERS:
            yield text_batch(start, group)
            start, size, group = start + len(group), 0, []
    if group:
        yield text_batch(start, group)


def text_batch(start: int, rows: Sequence[QueryRow]) -> QueryBatch:
    """Return a batch of texts; what cannot be routed among them becomes a problem."""
    problems = {}
    for i, row in enumerate(rows):
        if problem := row.problem or unreadable(row.text) or (None if row.text.strip() else "empty"):
            problems[i] = problem
    names = dict.fromkeys(name for row in rows for name in row.own)
    own = {name: [row.own.get(name) for row in rows] for name in names}
    return QueryBatch(start, [row.text for row in rows], [row.id for row in rows], problems, rows[-1].done, own=own)


def unreadable(text: str) -> str | None:
    """Return what is wrong with a text that was not read as UTF-8; None where nothing is."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that is no UTF-8 came in as a surrogate
        return "not valid UTF-8"
    return None


def chosen(path: Path | str, there: Sequence[str], known: Sequence[str], column: str | None) -> str:
    """Return the column to read. Raises `DataError` naming those there are."""
    found = column if column is not None else next((c for c in known if c in there), None)
    if found is None or found not in there:
        wanted = repr(column) if column is not None else ", ".join((*TEXT_COLUMNS, *VECTOR_COLUMNS))
        raise DataError(f"{path}: no column {wanted} (there are: {', '.join(there[:12])}); name it with --column")
    return found
