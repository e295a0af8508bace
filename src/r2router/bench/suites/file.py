"""Suites in files: JSON lines, CSV or Parquet, here or at `hf://`, one query per row."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from r2router.bench.suite import Query, Suite, json_objects
from r2router.bench.suites.options import ReferenceCell, ReferenceReading, options_of, reading_of
from r2router.bench.suites.registry import check_options, whole_number
from r2router.errors import DataError
from r2router.files import check_file, check_text
from r2router.table.parquet_size import check_unpacked
from r2router.text import suggest

EXTENSIONS = (".jsonl", ".ndjson", ".csv", ".parquet")
FIELDS = ("id", "text", "task", "reference", "system", "scorer", "options", "meta")
_ALIASES = {
    "text": ("query", "question", "prompt"),
    "reference": ("answer", "answerKey"),
    "id": ("query_id",),
    "options": ("choices",),
}


class RowFile:
    """One query per row. Columns are the fields of `Query`; only the text must be there.

    columns: our name -> the file's. Without a mapping `query`, `question` and `prompt` are taken for the text and
        `answer` for the reference. `options` (or `choices`), a list of texts, are put under the text with letters, and
        a reference becomes the letter of its option: see `r2router.bench.suites.options`.
    base: what numbers among the references are counted from, 0 or 1; None: the file shows it. Columns that are nothing
        of ours go into `meta`, where scorers find them.
    """

    def __init__(self, path: str | Path, columns: Mapping[str, str] | None = None, *, base: int | None = None) -> None:
        self.path = str(path)
        self.name = Path(self.path).stem
        self.columns = dict(columns or {})
        self.base = base
        self.notes: list[str] = []
        for ours in self.columns:
            if ours not in FIELDS:
                raise DataError(
                    f"column mapping: {ours!r} is not a field of a query{suggest(ours, FIELDS)}; there are:"
                    f" {', '.join(FIELDS)}"
                )

    def queries(self) -> Iterable[Query]:
        """Yield the queries in file order. Raises `DataError` naming file, line or row, and field."""
        seen: dict[str, str] = {}
        rows = list(self._rows())
        reading = reading_of(
            (cell for where, _, row in rows if (cell := self._cell(row, f"{self.path}, {where}")) is not None),
            self.base,
        )
        self.notes = (
            []
            if reading.shown
            else ["whole numbers among the references are counted from 0; no row shows whether that is so"]
        )
        for where, number, row in rows:
            query = self._query(row, number, f"{self.path}, {where}", reading)
            if query.id in seen:
                raise DataError(
                    f"{self.path}, {where}: id {query.id!r} is taken by {seen[query.id]}; give each query an id of"
                    " its own"
                )
            seen[query.id] = where
            yield query
        if not seen:
            raise DataError(f"{self.path}: no queries; a suite has one query per row, with at least a text")

    def _cell(self, row: Mapping[str, Any], where: str) -> ReferenceCell | None:
        """Return the row's reference, where it has one and options."""
        reference, options = (self._column(name, row) for name in ("reference", "options"))
        if (
            reference is None
            or options is None
            or row[reference] is None
            or (found := options_of(row[options])) is None
        ):
            return None
        return ReferenceCell(where, row[reference], found)

    def _query(self, row: Mapping[str, Any], number: int, where: str, reading: ReferenceReading) -> Query:
        taken = {ours: self._column(ours, row) for ours in FIELDS}
        fields = {ours: row[theirs] for ours, theirs in taken.items() if theirs is not None and row[theirs] is not None}
        used = set(taken.values())
        extra = {k: v for k, v in row.items() if k not in used and v is not None}
        for name in ("id", "reference", "task"):
            if isinstance(fields.get(name), (bool, int, float)):
                fields[name] = msgspec.json.encode(fields[name]).decode()
        meta = fields.pop("meta", {})
        if not isinstance(meta, dict):
            raise DataError(f"{where}: meta must be an object")
        options = fields.pop("options", None)
        if options is not None:
            found = options_of(options)
            if found is None:
                raise DataError(f"{where}: options must be a list of 2 to 26 texts, or an object of them by letter")
            cell = self._cell(row, where)
            fields |= {"text": lettered(str(fields.get("text", "")), found.texts)}
            if cell is not None:
                fields |= {
                    "scorer": fields.get("scorer") or "choice",
                    "reference": reading.letter(cell) or fields["reference"],
                }
            extra["options"] = list(found.texts)
        if "text" not in fields:
            there = ", ".join(sorted(row)[:12])
            raise DataError(f"{where}: no text; there are: {there}; say which is it with --column text=NAME")
        try:
            query = msgspec.convert({"id": str(number), **fields, "meta": {**extra, **meta}}, Query)
        except msgspec.ValidationError as error:
            raise DataError(f"{where}: {error}") from None
        if not query.text.strip() or not query.id:
            raise DataError(f"{where}: text and id must not be empty")
        return query

    def _column(self, ours: str, row: Mapping[str, Any]) -> str | None:
        if ours in self.columns:
            theirs = self.columns[ours]
            if theirs not in row:
                raise DataError(f"{self.path}: no column {theirs!r}, which is mapped to {ours!r}{suggest(theirs, row)}")
            return theirs
        return next((name for name in (ours, *_ALIASES.get(ours, ())) if name in row), None)

    def _rows(self) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
        suffix = Path(self.path.partition("?")[0]).suffix.lower()
        if suffix in (".csv", ".parquet"):
            yield from self._frame(suffix)
            return
        for number, fields in json_objects(self.path):
            yield f"line {number}", number, fields

    def _frame(self, suffix: str) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
        import polars as pl

        if "://" not in self.path:
            if not Path(self.path).exists():
                raise DataError(f"{self.path}: no such file")
            if suffix == ".parquet":
                check_file(self.path)
                check_unpacked(self.path)
            else:
                check_text(self.path)
        try:
            glob = "://" in self.path  # a file of ours may be called a[1].csv
            scan = (
                pl.scan_parquet(self.path, glob=glob)
                if suffix == ".parquet"
                else pl.scan_csv(self.path, infer_schema=False, glob=glob)
            )
            frame = scan.collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"{self.path}: cannot be read ({str(error).splitlines()[0]})") from None
        for number, row in enumerate(frame.iter_rows(named=True), 1):
            yield f"row {number}", number, row


def lettered(text: str, options: Iterable[str]) -> str:
    """Return a question with its options under it, as `A. ...`."""
    return "\n".join(
        [
            text.rstrip(),
            "",
            *(f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)),
        ]
    )


def file_suite(name: str, what: str, options: Mapping[str, str]) -> Suite:
    """`file:PATH?text=prompt&reference=gold`: the options map columns; `base` is 0 or 1, what numbers of options are
    counted from.
    """
    check_options(name, options, (*FIELDS, "base"))
    columns = {ours: theirs for ours, theirs in options.items() if ours != "base"}
    base = whole_number(name, options, "base", 0) if "base" in options else None
    if base not in (None, 0, 1):
        raise DataError(f"suite {name!r}: base={base} must be 0 or 1")
    return RowFile(what, columns, base=base)
