"""How much memory a Parquet file unpacks to, read from its own page headers before any of it is unpacked.

A file of some kilobytes can hold gigabytes: a run of one value, a page of zeros, a dictionary entry that a million rows
point to. The footer says how large things are, but a hostile one may lie; the header in front of each page is what a
reader allocates by, so those are summed. Format: https://parquet.apache.org/docs/file-format (Thrift, compact
protocol).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, BinaryIO

from r2router.errors import DataError

SAFE = 1 << 30
"""Bytes that any file may unpack to; only a larger one is compared with the size of the file."""

_RATIO = 200  # unpacked bytes for each byte of the file: real tables, full of repeated prompts, stay below
_LARGEST_FOOTER = 32 << 20
_DEEPEST = 32
_LONGEST_HEADER = 64 << 10
_TEXTS = frozenset({3, 6, 7})  # physical types INT96, BYTE_ARRAY and FIXED_LEN_BYTE_ARRAY: 16 bytes per value in memory


def check_unpacked(path: str | Path, columns: Collection[str] | None = None, *, in_parts: bool = False) -> None:
    """Raise `DataError` where the columns (None: all) of a Parquet file unpack to far more than such a file should, or
    memory has.

    in_parts: it is read a row group at a time, so that only the largest counts. A file that is no whole Parquet file
        raises nothing: whoever reads it says what is wrong.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            groups = _unpacked(file, size, columns)
    except (_DamagedError, OverflowError, MemoryError, OSError):
        groups = None
    if groups is None:
        raise DataError(f"{path}: cannot be read as parquet (its footer or page headers are damaged)")
    unpacked = (max(groups, default=0)) if in_parts else sum(groups)
    if unpacked > max(SAFE, min(_RATIO * size, _memory() // 2)):
        raise DataError(
            f"{path}: has {size:,} bytes and would take {unpacked / 1e9:,.1f} GB of memory; where that is meant, write"
            " it as several files (a folder of them reads as one table)"
        )


class _DamagedError(Exception):
    """The file does not follow its format."""


def _memory() -> int:
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 16 << 30


def _unpacked(file: BinaryIO, size: int, columns: Collection[str] | None) -> list[int]:
    """Bytes in memory of each row group."""
    footer = _footer(file, size)
    rows, left = [], size  # no byte belongs to two columns
    for group in _items(footer, 4):
        total = 0
        for chunk in _items(group, 1):
            meta = _struct(chunk, 3)
            path = _items(meta, 3)
            if columns is None or (path and isinstance(path[0], bytes) and path[0].decode(errors="replace") in columns):
                left -= min(_number(meta, 7), size)
                if left < 0:
                    raise _DamagedError
                total += _of_chunk(file, size, meta, _number(group, 3))
        rows.append(total)
    return rows


def _footer(file: BinaryIO, size: int) -> dict[int, Any]:
    if size < 12:
        raise _DamagedError
    file.seek(size - 8)
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or not 0 < length <= min(size - 8, _LARGEST_FOOTER):
        raise _DamagedError
    file.seek(size - 8 - length)
    return _Compact(file.read(length)).struct()


def _of_chunk(file: BinaryIO, size: int, meta: dict[int, Any], group_rows: int) -> int:
    """Bytes of one column in one row group: its pages unpacked, and a slot for each value."""
    width = 16 if _number(meta, 1) in _TEXTS else 8
    values, data, dictionary = _number(meta, 5), _number(meta, 9), _number(meta, 11)
    at = dictionary if 0 < dictionary < data else data
    end = min(at + _number(meta, 7), size)
    pages = told = 0
    while at < end:
        page, length = _page(file, at)
        if 1 not in page:  # every page says of which kind it is
            raise _DamagedError
        pages += _number(page, 2)
        told += max(_number(_struct(page, kind), 1) for kind in (5, 8))
        at += length + _number(page, 3)
    return max(pages, _number(meta, 6)) + width * max(values, told, group_rows)


def _page(file: BinaryIO, at: int) -> tuple[dict[int, Any], int]:
    """Return (the header of the page at an offset, its length)."""
    for maximum in (512, _LONGEST_HEADER):
        file.seek(at)
        header = _Compact(file.read(maximum))
        try:
            return header.struct(), header.at
        except _DamagedError:  # cut off: some headers hold long texts
            continue
    raise _DamagedError


def _number(struct: Any, field: int) -> int:
    value = struct.get(field, 0) if isinstance(struct, dict) else None
    if not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise _DamagedError
    return value


def _struct(struct: Any, field: int) -> dict[int, Any]:
    value = struct.get(field, {}) if isinstance(struct, dict) else None
    if not isinstance(value, dict):
        raise _DamagedError
    return value


def _items(struct: Any, field: int) -> list[Any]:
    value = struct.get(field, []) if isinstance(struct, dict) else None
    if not isinstance(value, list):
        raise _DamagedError
    return value


class _Compact:
    """Thrift's compact protocol: a struct is a dict from field number to value, unknown fields included."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            found[number] = self._value(head & 15, depth + 1)
        return found

    def _value(self, kind: int, depth: int, *, in_list: bool = False) -> Any:
        if depth > _DEEPEST:
            raise _DamagedError
        if kind in {1, 2}:
            return self._byte() == 1 if in_list else kind == 1
        if kind in {3, 4, 5, 6}:
            return self._byte() if kind == 3 else self._zigzag()
        if kind in {7, 8}:
            return self._take(8 if kind == 7 else self._varint())
        if kind in {9, 10}:
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._varint()
            self._fits(count)
            return [self._value(head & 15, depth + 1, in_list=True) for _ in range(count)]
        if kind == 12:
            return self.struct(depth)
        raise _DamagedError  # maps: Parquet has none

    def _byte(self) -> int:
        if self.at >= len(self.data):
            raise _DamagedError
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise _DamagedError

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _take(self, count: int) -> bytes:
        self._fits(count)
        self.at += count
        return self.data[self.at - count : self.at]

    def _fits(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise _DamagedError
