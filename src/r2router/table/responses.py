"""What the arms answered, read from the table's files when it is asked for: a table holds the place of each answer, and
no text.

A place is the number of the source and the row there, so that parts of a table (`Table.take`) share the sources.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from r2router.errors import DataError
from r2router.text import says_nothing
from r2router.types import IntArray

TEXTS = ("response", "finish_reason")
"""Columns of a source that a table does not hold."""
NUMBERS = ("logprob", "latency_s")
"""The same, numbers: mean log-probability of the answer's tokens (natural logarithm), and seconds that the call took.
"""

NOWHERE = -1
_FILE = 1 << 32  # rows of one source
_ROWS = 8_192  # of a source that are in memory at once


class RecordedReply(NamedTuple):
    """One answer of a table.

    row, arm: its cell.
    logprob, latency_s: as `NUMBERS`, NaN where not recorded.
    """

    row: int
    arm: int
    text: str
    finish_reason: str
    logprob: float
    latency_s: float


@dataclass(frozen=True, slots=True, eq=False)
class AnswerSource:
    """Where the answers of a source are.

    frame: the caller's data frame, or None for a file at `path`.
    columns: our name -> the source's name.
    stamp: size and time of the file when it was read, so that a changed file is noticed.
    """

    name: str
    path: str
    columns: dict[str, str]
    frame: pl.DataFrame | None = None
    stamp: tuple[int, int] = (0, 0)

    @classmethod
    def of(
        cls, name: str, path: str, there: Sequence[str], columns: dict[str, str], frame: pl.DataFrame | None
    ) -> AnswerSource | None:
        """Find the answers of a source; None where it has none, or is not on this machine."""
        found = {ours: theirs for ours in (*TEXTS, *NUMBERS) if (theirs := columns.get(ours, ours)) in there}
        if "response" not in found or (frame is None and not path):
            return None
        return cls(name, path, found, frame, _stamp(path))

    def parts(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Return (number of its first row, rows) of one part after the other, with our names and as text."""
        kinds = {ours: pl.Float64 if ours in NUMBERS else pl.String for ours in self.columns}
        wanted = [pl.col(theirs).cast(kinds[ours], strict=False).alias(ours) for ours, theirs in self.columns.items()]
        if self.frame is not None:
            for at in range(0, len(self.frame), _ROWS):
                yield at, self.frame[at : at + _ROWS].select(wanted)
            return
        if _stamp(self.path) != self.stamp:
            raise DataError(f"{self.name}: the file was changed after the table was read; read the table again")
        at = 0
        for part in _scan(self.path, list(self.columns.values())):
            yield at, part.select(wanted)
            at += len(part)


@dataclass(frozen=True, slots=True, eq=False)
class ResponseIndex:
    """The answers of a table.

    at: (n, arms) the place of each, `NOWHERE` where there is none.
    """

    sources: tuple[AnswerSource | None, ...]
    at: IntArray

    def take(self, rows: IntArray) -> ResponseIndex:
        """Take some queries."""
        return replace(self, at=self.at[rows])

    def with_arms(self, arms: IntArray) -> ResponseIndex:
        """Take some arms, by their numbers; a number below 0 stands for an arm without answers."""
        return replace(self, at=np.where(arms >= 0, self.at[:, arms], NOWHERE))

    def cells(self) -> Iterator[tuple[int, int, str, str]]:
        """Return (query, arm, answer, finish reason) of every answer that is not empty, in the order of the sources.
        Raises `DataError`.
        """
        return (reply[:4] for reply in self.replies())

    def replies(self) -> Iterator[RecordedReply]:
        """Read the answers of `cells`, with the numbers that go with each."""
        rows, arms = np.nonzero(self.at >= 0)
        places = self.at[rows, arms]
        order = np.argsort(places, kind="stable")
        places, rows, arms = places[order], rows[order], arms[order]
        for number, source in enumerate(self.sources):
            begin, end = np.searchsorted(places, (number * _FILE, (number + 1) * _FILE))
            if source is None or begin == end:
                continue
            for first, part in source.parts():
                low, high = (
                    np.searchsorted(places[begin:end], (number * _FILE + first, number * _FILE + first + len(part)))
                    + begin
                )
                here = part[places[low:high] - number * _FILE - first]
                blank: list[Any] = [None] * len(here)
                columns = [here[name].to_list() if name in here.columns else blank for name in (*TEXTS, *NUMBERS)]
                for row, arm, text, why, logprob, seconds in zip(
                    rows[low:high].tolist(), arms[low:high].tolist(), *columns, strict=True
                ):
                    if text and not says_nothing(text):
                        yield RecordedReply(row, arm, text, why or "", _number(logprob), _number(seconds))

    def __len__(self) -> int:
        return int((self.at >= 0).sum())


def place(files: pl.Expr, rows: pl.Expr) -> pl.Expr:
    """Return the place of a checked row: its source, and its row there, which is counted from 1."""
    return files.cast(pl.Int64) * _FILE + rows.cast(pl.Int64) - 1


def _number(value: float | None) -> float:
    return math.nan if value is None or not math.isfinite(value) else value


def _stamp(path: str) -> tuple[int, int]:
    if not path:
        return 0, 0
    try:
        found = Path(path).stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read again for its answers ({error.strerror})") from None
    return found.st_size, found.st_mtime_ns


def _scan(path: str, columns: list[str]) -> Iterator[pl.DataFrame]:
    kind = Path(path).suffix.lower()
    try:
        if kind == ".parquet":
            scan = pl.scan_parquet(path, glob=False).select(columns)
            at = 0
            while len(part := scan.slice(at, _ROWS).collect()):
                yield part
                at += len(part)
        elif kind == ".csv":  # text files cannot be entered in the middle
            yield pl.scan_csv(path, infer_schema=False, glob=False).select(columns).collect()
        else:
            yield (
                pl.scan_ndjson(io.BytesIO(Path(path).read_bytes()), infer_schema_length=None).select(columns).collect()
            )
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: its answers cannot be read ({str(error).splitlines()[0][:200]})") from None
