"""Tables as files hold them: Parquet, CSV, JSON lines, here or at `hf://`; bounded before they are unpacked."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from r2router.errors import DataError
from r2router.files import check_file, check_text
from r2router.table.bundled import shown_name
from r2router.table.parquet_size import check_unpacked
from r2router.table.refused import refuse_address, refuse_json
from r2router.text import clean

Wanted = Callable[[str], bool]
"""Whether a column of this name is to be read."""

_MAX_COLUMNS = 10_000
_LONGEST_HEADER = 1 << 20  # bytes of a CSV's first line


@dataclass(frozen=True, slots=True)
class Source:
    """A file or frame that was read.

    name: for people.
    columns: all that it has; `frame` holds those that were wanted.
    path: empty for a data frame and for what is not on this machine.
    bytes: of the file, 0 where it is none.
    """

    name: str
    frame: pl.DataFrame
    columns: tuple[str, ...]
    path: str = ""
    notes: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def stem(self) -> str:
        return Path(self.name).stem


def files_of(entry: Any) -> list[Any]:
    """Return the data frame, or the paths that a path stands for. Raises `DataError`."""
    if isinstance(entry, (pl.DataFrame, pl.LazyFrame)):
        return [entry.collect() if isinstance(entry, pl.LazyFrame) else entry]
    if not isinstance(entry, (str, os.PathLike)):
        raise DataError(f"a table is read from paths or data frames, not from {type(entry).__name__}")
    text = os.fspath(entry)
    if "://" in text:
        return [text]
    path = Path(text)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in _READERS)
        if not found:
            raise DataError(f"{path}: the folder holds no table ({', '.join(_READERS)})")
        return found
    if not path.exists():
        raise DataError(f"{path}: no such file")
    return [path]


def read_source(one: Any, wanted: Wanted) -> Source:
    """Return one entry of `files_of`, with the columns that are wanted. Raises `DataError` naming the file."""
    if isinstance(one, pl.DataFrame):
        return Source("the data frame", one, tuple(one.columns))
    path = str(one)
    suffix = Path(path).suffix.lower()
    remote = "://" in path
    reader = _READERS.get(suffix) or (_parquet if remote else None)
    refuse_address(path)
    if reader is None:
        if suffix == ".json":
            check_file(path)
            refuse_json(path)
        raise DataError(f"{path}: cannot tell its format from {suffix!r}: name it {', '.join(_READERS)}")
    if not remote:
        check_file(path)
    try:
        frame, columns, notes = reader(path, wanted)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
    ) as error:  # a damaged Parquet file makes polars panic
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: cannot be read as {suffix.lstrip('.') or 'Parquet'} ({why})") from None
    name = shown_name(path)
    return Source(
        name, frame, tuple(columns), "" if remote else path, notes, 0 if remote else Path(path).stat().st_size
    )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_Read = tuple[pl.DataFrame, Iterable[str], tuple[str, ...]]
"""The frame, all columns of the file, and what was unusual."""


def _parquet(path: str, wanted: Wanted) -> _Read:
    scan = pl.scan_parquet(path, glob="://" in path)  # a file of ours may be called a[1].parquet
    names = scan.collect_schema().names()
    chosen = [name for name in names if wanted(name)]
    if "://" not in path:
        check_unpacked(path, chosen)
    return scan.select(chosen).collect(), names, ()


def _csv(path: str, wanted: Wanted) -> _Read:
    """Read a CSV as text: a query "1.10" stays what it is, and numbers are read once."""
    if "://" in path:
        return _chosen(pl.scan_csv(path, infer_schema=False), wanted, ())
    check_text(path)
    with Path(path).open("rb") as file:
        head = file.readline(_LONGEST_HEADER)
    _check_columns(path, _MAX_COLUMNS + 1 if len(head) == _LONGEST_HEADER else head.count(b",") + 1)
    try:
        return _chosen(pl.scan_csv(path, infer_schema=False, glob=False), wanted, ())
    except pl.exceptions.ComputeError as error:
        if "utf-8" not in str(error).lower():
            raise
    text = Path(path).read_bytes().decode("latin-1")
    odd = next((line for line in text.splitlines() if not line.isascii()), "")
    first = next(i for i, c in enumerate(odd) if not c.isascii())
    seen = clean(odd[max(first - 20, 0) : first + 20])
    note = f"{path}: is not UTF-8 and was read as Latin-1 (first: {seen!r}); if that is wrong, save it as UTF-8"
    return _chosen(pl.read_csv(io.BytesIO(text.encode()), infer_schema=False).lazy(), wanted, (note,))


def _json_lines(path: str, wanted: Wanted) -> _Read:
    source: Any = path
    if "://" not in path:
        check_text(path)
        _check_lines(path)
        if set(path) & set("*?["):  # which polars would take for a pattern
            source = io.BytesIO(Path(path).read_bytes())
    return _chosen(pl.scan_ndjson(source, infer_schema_length=None), wanted, ())


def _chosen(scan: pl.LazyFrame, wanted: Wanted, notes: tuple[str, ...]) -> _Read:
    names = scan.collect_schema().names()
    return scan.select(name for name in names if wanted(name)).collect(), names, notes


def _check_columns(path: str, count: int) -> None:
    if count > _MAX_COLUMNS:
        raise DataError(f"{path}: has more than {_MAX_COLUMNS:,} columns, which no outcome table has")


def _check_lines(path: str) -> None:
    """Refuse JSON lines that are nested too deeply or have so many different fields that a frame of them would not
    end.
    """
    fields = set[str]()
    decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                fields |= decoder.decode(line).keys()
            except RecursionError:
                raise DataError(f"{path}, line {number}: nested too deeply to be a row of a table") from None
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # polars, which reads it next, says what is wrong
            _check_columns(path, len(fields))


_READERS = {".parquet": _parquet, ".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines}
FORMATS = tuple(_READERS)
