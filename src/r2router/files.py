"""Files: written so that nothing is lost, and looked at before they are read.

A file that is written is there as a whole, or what was there before stays. What is read must be a file: a pipe that nobody writes to
or a device would be waited on, or read, for ever.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from r2router.errors import DataError, R2Error, SaveError

_LONGEST_NAME = 200  # bytes of the target's name within that of the partial file: names end at 255 on most file systems


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when all of it is on the disk; otherwise what was there before stays.

    Until then it is called `.NAME.<16 hex digits>.partial`, in the same folder. It is created exclusively and its name cannot be
    guessed, so that nobody else's link or file is ever written to. It keeps the permissions of the file that it replaces.
    Raises `SaveError` where that does not work.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file():
        raise SaveError(f"{path}: is not a file that can be replaced")
    partial = path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.partial")
    try:
        file = partial.open("xb")
    except OSError as error:
        raise _unsaved(path, error) from None
    try:
        with file:
            yield file
            _through(file)
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except OSError as error:
        raise _unsaved(path, error) from None
    finally:
        partial.unlink(missing_ok=True)


def leftovers(path: str | Path) -> list[Path]:
    """The partial files that killed writers of `path` left behind; also those of a writer that is still at work."""
    path = Path(os.path.realpath(path))
    name = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{16}\.partial")
    return sorted(p for p in path.parent.iterdir() if name.fullmatch(p.name)) if path.parent.is_dir() else []


def _prefix(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])}."


def _through(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _unsaved(path: Path, error: OSError) -> SaveError:
    return SaveError(f"{path}: cannot be written ({error.strerror or error}); what was there before is untouched")


# -- what is read ---------------------------------------------------------------------------------------------------

_KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"))
_MARKS = (  # first bytes -> what such a file is; UTF-32 begins as UTF-16 does
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_PACKED = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"PK\x03\x04", "zip"))


def check_file(path: str | Path, kind: type[R2Error] = DataError, *, pipes: bool = False) -> None:
    """Raise an error of this kind where `path` is a folder, a device, a socket or (unless `pipes` are welcome) a pipe.

    That nothing is there, or that it may not be read, is for whoever opens it to say.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise kind(f"{path}: cannot be read: it is a folder; name a file")
    what = next((what for matches, what in _KINDS if matches(mode)), "")
    if what and not (pipes and stat.S_ISFIFO(mode)):
        raise kind(f"{path}: cannot be read: it is {what}; save what it gives as a file, and name that")


def open_file(path: str | Path) -> BinaryIO:
    """A file or pipe to read. Raises `DataError` where it is a device or the like, or a pipe that nothing comes from for a while."""
    check_file(path, pipes=True)
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")
    if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
        waiting = select.poll()
        waiting.register(file, select.POLLIN)
        if not waiting.poll(1000 * PATIENCE_S):
            file.close()
            raise DataError(f"{path}: is a pipe, and nothing came from it in {PATIENCE_S:g} seconds")
        os.set_blocking(file.fileno(), True)
    return file


PATIENCE_S = 10.0
"""Seconds to wait for the first byte of a pipe."""


def check_text(path: str | Path, kind: type[R2Error] = DataError) -> None:
    """As `check_file`; and raise where the file is packed, or text in UTF-16 or UTF-32, which would otherwise fail with odd words."""
    check_file(path, kind)
    try:
        with Path(path).open("rb") as file:
            head = file.read(64)
    except OSError:
        return
    packed = next((name for mark, name in _PACKED if head.startswith(mark)), "")
    if packed:
        raise kind(f"{path}: is packed with {packed}; unpack it first")
    if wide := _wide_encoding(head):
        raise kind(f"{path}: is text in {wide}; save it as UTF-8 (iconv -f {wide} -t UTF-8 FILE > NEW)")


def _wide_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32 where the first bytes of a text are in that, with or without a mark; else nothing."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    zeros = [head[i::4].count(0) for i in range(4)]
    quarter = len(head) // 4
    if quarter and sum(count == quarter for count in zeros) == 3:
        return "UTF-32"
    halves = zeros[0] + zeros[2], zeros[1] + zeros[3]
    return "UTF-16" if quarter and max(halves) >= quarter and min(halves) == 0 else ""
