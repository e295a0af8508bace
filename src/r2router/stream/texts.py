"""Texts from JSON lines, CSV and plain lines, without holding more of the file than a batch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from r2router.errors import DataError
from r2router.files import open_file
from r2router.stream.batch import ID_COLUMNS, TEXT_COLUMNS, QueryBatch, QueryRow, chosen, grouped, unreadable

_LONGEST = 32 << 20  # bytes of one line or field; a longer one is no query, and reading it whole could fill the memory


def plain_lines(path: Path, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """Return one text per line."""
    return grouped(QueryRow(*_decoded(raw), done, size=len(raw or b"")) for raw, done in _raw_lines(path))


def json_lines(path: Path, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """Return one JSON object or string per line."""
    return grouped(_json_row(raw, done, column) for raw, done in _raw_lines(path))


def _json_row(raw: bytes | None, done: float, column: str | None) -> QueryRow:
    text, problem = _decoded(raw)
    if problem:
        return QueryRow("", problem, done)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return QueryRow("", f"malformed JSON: {error}", done)
    if isinstance(value, str):
        return QueryRow(value, None, done)
    if not isinstance(value, dict):
        return QueryRow("", "a line must be a JSON object or string", done)
    name = column or next((c for c in TEXT_COLUMNS if c in value), None)
    key = next((value[c] for c in ID_COLUMNS if isinstance(value.get(c), (str, int))), None)
    if name is None or name not in value:
        return QueryRow("", f"no field {column or ', '.join(TEXT_COLUMNS)}", done, key, value, len(text))
    if not isinstance(value[name], str):
        return QueryRow("", f"field {name!r} is not text", done, key, value, len(text))
    return QueryRow(value[name], None, done, key, value, len(text))


def csv_lines(path: Path, dim: int, column: str | None) -> Iterator[QueryBatch]:
    """A header, then a row a text; a quoted text may hold line breaks."""
    return grouped(_csv_rows(path, column))


def _csv_rows(path: Path, column: str | None) -> Iterator[QueryRow]:
    # the limit is the csv module's, for the whole process; its 128 kB are less than a long prompt
    csv.field_size_limit(_LONGEST)
    size = _size(path)
    with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(_counted(path, file, position := [0]))
        try:
            head = next(reader, None)
            if head is None:
                raise DataError(
                    f"{path}: the file is empty; a CSV needs a header with one of {', '.join(TEXT_COLUMNS)}"
                )
            at = head.index(chosen(path, head, TEXT_COLUMNS, column))
            id_at = next((head.index(c) for c in ID_COLUMNS if c in head), None)
            for fields in reader:
                done = min(position[0] / size, 1.0)
                key = fields[id_at] if id_at is not None and id_at < len(fields) else None
                own = dict(zip(head, map(_mended, fields), strict=False))
                length = sum(map(len, fields))
                if at >= len(fields):
                    problem = f"line {reader.line_num} has {len(fields)} of {len(head)} fields"
                    yield QueryRow("", problem, done, key, own, length)
                elif len(fields) > len(head):
                    problem = (
                        f"line {reader.line_num} has {len(fields)} fields, the header {len(head)}: put a text with"
                        " commas in quotes"
                    )
                    yield QueryRow("", problem, done, key, own, length)
                else:
                    yield QueryRow(fields[at], unreadable(fields[at]), done, key, own, length)
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error}); is a quote left open?") from None


def _mended(text: str) -> str:
    """Return a field without the bytes that are not UTF-8, so that it can be written."""
    return text if unreadable(text) is None else text.encode(errors="surrogateescape").decode(errors="replace")


def _counted(path: Path, file: io.TextIOWrapper, position: list[int]) -> Iterator[str]:
    """Yield the lines as they are, with the characters read so far (about the bytes) in `position`: a text file cannot
    tell while iterated. Raises `DataError` for a line that does not end.
    """
    while line := file.readline(_LONGEST):
        position[0] += len(line)
        if len(line) == _LONGEST and not line.endswith(("\n", "\r")):
            raise DataError(f"{path}: a line is longer than {_LONGEST >> 20} MiB")
        yield line


def _raw_lines(path: Path) -> Iterator[tuple[bytes | None, float]]:
    """Return (each line without its end, the share read); None for a line that is too long to be kept."""
    size, read = _size(path), 0
    with open_file(path) as file:
        while raw := file.readline(_LONGEST):
            first, read = not read, read + len(raw)
            whole = len(raw) < _LONGEST or raw.endswith(b"\n")
            if not whole:
                read += _skip_line(file)
            if first:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield raw.rstrip(b"\r\n") if whole else None, min(read / size, 1.0)


def _size(path: Path) -> float:
    """Bytes in a file; infinite for a pipe, of which nobody knows how much is to come, and which cannot tell where it
    is.
    """
    return path.stat().st_size or math.inf


def _skip_line(file: BinaryIO) -> int:
    """Go to the end of the line; the bytes that were there."""
    skipped = 0
    while rest := file.readline(1 << 20):
        skipped += len(rest)
        if rest.endswith(b"\n"):
            break
    return skipped


def _decoded(raw: bytes | None) -> tuple[str, str | None]:
    """Return (text, problem) of a line."""
    if raw is None:
        return "", f"the line is longer than {_LONGEST >> 20} MiB"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "", "not valid UTF-8"
    return text, None if text.strip() else "empty"
