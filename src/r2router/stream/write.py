"""Rows of decisions into a file, by its extension; what is half written never stands under the file's name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from r2router.errors import DataError
from r2router.files import whole_file

FIRST = ("row", "id")
DECIDED = (
    *("arm", "model", "budget", "max_tokens", "enforcement"),
    *("quality", "spread", "tokens", "cost", "met", "familiar", "fallbacks", "error"),
)
COLUMNS = FIRST + DECIDED
_WORDS = {True: "true", False: "false", None: ""}

Columns = Mapping[str, Sequence[Any]]
"""Name of a column -> its values; all of `COLUMNS` and the source's own (see `named`), all of one length."""


def named(own: Iterable[str]) -> dict[str, str]:
    """Return the source's columns -> their names in the output: `input_...` where a column of ours has that name."""
    names: dict[str, str] = {}
    for column in own:
        name = column
        while name in COLUMNS or name in names.values():
            name = f"input_{name}"
        names[column] = name
    return names


class RowWriter(Protocol):
    """Takes rows as they come.

    left_out: columns of the source that came too late to be written.
    """

    left_out: set[str]

    def write(self, columns: Columns) -> None: ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


def listed(columns: Columns) -> dict[str, list[Any]]:
    """Return all columns in the order of the output, as lists."""
    own = [name for name in columns if name not in COLUMNS]
    found = ((name, columns[name]) for name in (*FIRST, *own, *DECIDED))
    return {name: values if isinstance(values, list) else list(values) for name, values in found}


def as_text(value: Any) -> str:
    """Any value of a source as text: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()


def enforcement_text(values: Iterable[Mapping[str, Any] | None]) -> list[str | None]:
    """Return the column `enforcement` where a field is text: JSON objects."""
    values = list(values)
    # few different ones recur
    known = {id(v): None if v is None else as_text(v) for v in {id(v): v for v in values}.values()}
    return [known[id(v)] for v in values]


class JsonLinesWriter:
    """One JSON object per row, without the fields that it has no value for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self.left_out = set[str]()

    def write(self, columns: Columns) -> None:
        plain = listed(columns)
        names, rows = list(plain), zip(*plain.values(), strict=True)
        lines = self._encoder.encode_lines(
            [{k: v for k, v in zip(names, row, strict=True) if v is not None} for row in rows]
        )
        left = memoryview(lines)
        while left:  # standard output without a buffer (PYTHONUNBUFFERED) may take a part only
            left = left[self._file.write(left) :]

    def close(self) -> None:
        self._file.flush()


class CsvWriter:
    """A header and a line a row; an empty field where there is no value. The header has the columns of the first
    batch.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._head: list[str] = []
        self.left_out = set[str]()

    def write(self, columns: Columns) -> None:
        plain: dict[str, list[Any]] = listed(columns)
        if not self._head:
            self._head = list(plain)
            self._rows.writerow(self._head)
        self.left_out.update(plain.keys() - set(self._head))
        n = len(plain["row"])
        plain |= {name: [_WORDS[v] for v in plain[name]] for name in ("met", "familiar")}
        plain["enforcement"] = enforcement_text(plain["enforcement"])
        plain["fallbacks"] = ["" if v is None else " ".join(v) for v in plain["fallbacks"]]
        for name in plain.keys() - set(COLUMNS):
            plain[name] = ["" if v is None else as_text(v) for v in plain[name]]
        self._rows.writerows(zip(*(plain.get(name) or [""] * n for name in self._head), strict=True))

    def close(self) -> None:
        if not self._head:
            self._rows.writerow(COLUMNS)
        self._text.flush()
        self._text.detach()  # the file is closed by whoever opened it


FORMATS = (".jsonl", ".ndjson", ".csv", ".parquet")


@contextmanager
def writer(target: str | Path | BinaryIO) -> Iterator[RowWriter]:
    """A writer to a path or an address (by its extension) or of JSON lines to an open file. Raises `DataError`,
    `SaveError`.
    """
    if not isinstance(target, (str, Path)):
        lines = JsonLinesWriter(target)
        yield lines
        lines.close()
        return
    kind = Path(target).suffix.lower()
    if kind not in FORMATS:
        raise DataError(f"{target}: cannot tell the output's format from {kind!r}: name it {', '.join(FORMATS)}")
    if isinstance(target, str):
        from r2router.stream.parquet import parquet_at

        with parquet_at(target) as remote:
            yield remote
        return
    with whole_file(target) as file:
        if kind == ".parquet":
            from r2router.stream.parquet import Parquet

            parquet = Parquet(Path(file.name), str(file.name))
            try:
                yield parquet
                parquet.close()
            finally:
                parquet.discard()
        else:
            rows = CsvWriter(file) if kind == ".csv" else JsonLinesWriter(file)
            yield rows
            rows.close()
