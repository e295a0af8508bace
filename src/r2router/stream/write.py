"""Rows of decisions into a file, by its extension; what is half written never stands under the file's name."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from r2router.errors import DataError
from r2router.files import whole_file

COLUMNS = ("row", "id", "arm", "model", "budget", "quality", "tokens", "cost", "met", "familiar", "error")
_WORDS = {True: "true", False: "false", None: ""}
_PART = 100_000  # rows of a part: few enough to hold, enough that a long output has few parts

Columns = Mapping[str, Sequence[Any]]
"""Name of a column -> its values; all of `COLUMNS`, all of one length."""


class Writer(Protocol):
    """Takes rows as they come."""

    def write(self, columns: Columns) -> None: ...

    def close(self) -> None:
        """Write what is still held back."""
        ...


class JsonLines:
    """One JSON object a row, without the fields that it has no value for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._encoder = file, msgspec.json.Encoder(enc_hook=str)

    def write(self, columns: Columns) -> None:
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
        lines = self._encoder.encode_lines([{k: v for k, v in zip(COLUMNS, row, strict=True) if v is not None} for row in rows])
        left = memoryview(lines)
        while left:  # standard output without a buffer (PYTHONUNBUFFERED) may take a part only
            left = left[self._file.write(left) :]

    def close(self) -> None:
        self._file.flush()


class Csv:
    """A header and a line a row; an empty field where there is no value."""

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow(COLUMNS)

    def write(self, columns: Columns) -> None:
        plain = {**columns, **{name: [_WORDS[v] for v in columns[name]] for name in ("met", "familiar")}}
        self._rows.writerows(zip(*(plain[name] for name in COLUMNS), strict=True))

    def close(self) -> None:
        self._text.flush()
        self._text.detach()  # the file is closed by whoever opened it


class Parquet:
    """Parquet cannot be added to, so the batches are collected in files of their own and joined at the end, without holding them all."""

    def __init__(self, path: Path) -> None:
        self._path, self._parts, self._count = path, path.with_name(path.name + ".parts"), 0
        self._held: list[Any] = []
        self._parts.mkdir()

    def write(self, columns: Columns) -> None:
        import polars as pl

        numbers, flags = dict.fromkeys(("quality", "tokens", "cost"), pl.Float64), dict.fromkeys(("met", "familiar"), pl.Boolean)
        types = {"row": pl.Int64, **numbers, **flags}
        values = {k: [None if v is None else str(v) for v in columns[k]] if k not in types else columns[k] for k in COLUMNS}
        self._held.append(pl.DataFrame(values, schema={k: types.get(k, pl.String) for k in COLUMNS}))
        if sum(map(len, self._held)) >= _PART:
            self._flush()

    def close(self) -> None:
        import polars as pl

        self.write({name: [] for name in COLUMNS})  # so that there is at least one part, also of an empty input
        self._flush()
        from r2router.table.write import polars_errors

        with polars_errors():
            pl.scan_parquet(sorted(self._parts.iterdir()), glob=False).sink_parquet(self._path)

    def _flush(self) -> None:
        import polars as pl

        from r2router.table.write import polars_errors

        with polars_errors():
            pl.concat(self._held).write_parquet(self._parts / f"{self._count:09}.parquet")
        self._held.clear()
        self._count += 1

    def discard(self) -> None:
        """Remove the parts."""
        shutil.rmtree(self._parts, ignore_errors=True)


FORMATS = (".jsonl", ".ndjson", ".csv", ".parquet")


@contextmanager
def writer(target: Path | BinaryIO) -> Iterator[Writer]:
    """A writer to a path (by its extension) or of JSON lines to an open file. Raises `DataError`, `SaveError`."""
    if not isinstance(target, Path):
        lines = JsonLines(target)
        yield lines
        lines.close()
        return
    kind = target.suffix.lower()
    if kind not in FORMATS:
        raise DataError(f"{target}: cannot tell the output's format from {kind!r}: name it {', '.join(FORMATS)}")
    with whole_file(target) as file:
        if kind == ".parquet":
            parquet = Parquet(Path(file.name))
            try:
                yield parquet
                parquet.close()
            finally:
                parquet.discard()
        else:
            rows = Csv(file) if kind == ".csv" else JsonLines(file)
            yield rows
            rows.close()
