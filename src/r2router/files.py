"""Files: written so that nothing is lost, and looked at before they are read.

A file that is written is there as a whole, or what was there before stays. What is read must be a file: a pipe that
nobody writes to or a device would be waited on, or read, for ever. What an output must not replace stands here too
(`check_output`).
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from r2router.errors import ConfigError, DataError, R2Error, SaveError

try:
    import fcntl

    _FLOCK = True
except ImportError:  # Windows
    _FLOCK = False

_LONGEST_NAME = 200  # bytes of the target's name within that of the partial file: names end at 255 on most file systems


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when all of it is on the disk; otherwise what was there before stays.

    Until then it is called `.NAME.<16 hex digits>.partial`, in the same folder. It is created exclusively and its name
    cannot be guessed, so that nobody else's link or file is ever written to. It keeps the permissions of the file that
    it replaces. What killed writers of the same file left behind is cleared away. Raises `SaveError` where that does
    not work.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file():
        raise SaveError(f"{path}: is not a file that can be replaced")
    partial = _partial(path)
    try:
        file = partial.open("xb")
        _mark_as_used(file.fileno())
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


@contextmanager
def scratch_folder(path: str | Path) -> Iterator[Path]:
    """A folder beside `path` for parts of it, which is gone afterwards; what killed writers left is cleared away.
    Raises `SaveError`.
    """
    path = Path(os.path.realpath(path))
    folder = _partial(path)
    try:
        folder.mkdir(mode=0o700)
        fd = os.open(folder, os.O_RDONLY) if _FLOCK else -1
    except OSError as error:
        raise _unsaved(path, error) from None
    try:
        if fd >= 0:
            _mark_as_used(fd)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if fd >= 0:
            os.close(fd)


def leftovers(path: str | Path) -> list[Path]:
    """Return the partial files and folders that killed writers of `path` left behind; also those of a writer that is
    still at work.
    """
    path = Path(os.path.realpath(path))
    name = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{16}\.partial")
    return sorted(p for p in path.parent.iterdir() if name.fullmatch(p.name)) if path.parent.is_dir() else []


def _partial(path: Path) -> Path:
    """Return a name for a partial file or folder; what killed writers left under such names is cleared away first."""
    for left in leftovers(path):
        with contextlib.suppress(OSError):
            _clear(left)
    return path.with_name(f"{_prefix(path)}{secrets.token_hex(8)}.partial")


def _clear(left: Path) -> None:
    """Remove what a killed writer left; one that is at work holds a lock on it."""
    if not _FLOCK:  # Windows itself keeps an open file from being removed
        if left.is_file():
            left.unlink()
        return
    fd = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
            shutil.rmtree(f"{left}.parts", ignore_errors=True)
    finally:
        os.close(fd)


def _mark_as_used(fd: int) -> None:
    """Lock a partial file or folder for as long as this process has it open."""
    if _FLOCK:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _prefix(path: Path) -> str:
    return f".{os.fsdecode(os.fsencode(path.name)[:_LONGEST_NAME])}."


def _through(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _unsaved(path: Path, error: OSError) -> SaveError:
    return SaveError(f"{path}: cannot be written ({error.strerror or error}); what was there before is untouched")


# -- what an output must not replace --------------------------------------------------------------------------------

_COLLECTION = ("journal.jsonl", "judgements.jsonl")  # whose folder is a collection
_OF_COLLECTION = (*_COLLECTION, *(f"{name}.in-flight" for name in _COLLECTION), "queries.jsonl", "outcomes.parquet")
_ROUTER = "router.json"  # whose folder is a saved router
_JOURNAL_MARK = b'{"format":"r2router-'


def check_output(path: str | Path, endings: Sequence[str] = (), reads: Iterable[str | Path] = ()) -> None:
    """Refuse a file that must not be written: the one rule of every command that writes one.

    endings: the formats that can be written, as `.csv`; the name must end in one of them.
    reads: files that the same command reads. A file of a collection or of a saved router belongs to its folder, and is
        never replaced by anything else.

    Raises `ConfigError`.
    """
    path = Path(path)
    if endings and path.suffix.lower() not in endings:
        kind = repr(path.suffix) if path.suffix else "a file without an ending"
        raise ConfigError(f"{path}: {kind} is not a format that is written here; name it {', '.join(endings)}")
    for read in reads:
        if _same(path, read):
            raise ConfigError(
                f"{path}: is read by this command, and would be replaced by its own output; choose another name"
            )
    if whose := _owner(Path(os.path.realpath(path))):
        raise ConfigError(f"{path}: belongs to {whose} and must not be replaced; choose another name")


def _same(a: str | Path, b: str | Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False


def _owner(path: Path) -> str:
    """Return what a file belongs to, of what cannot be made again; nothing where it may be replaced."""
    collected = any((path.parent / name).exists() for name in _COLLECTION)
    if collected and path.name in _OF_COLLECTION:
        return f"the collection {path.parent}"
    if (path.parent / _ROUTER).exists() and path.exists():
        return f"the saved router {path.parent}"
    try:
        with path.open("rb") as file:
            return (
                "a collection: it is a journal"
                if path.is_file() and file.read(len(_JOURNAL_MARK)) == _JOURNAL_MARK
                else ""
            )
    except OSError:
        return ""


# -- what is read ---------------------------------------------------------------------------------------------------

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)
_MARKS = (  # first bytes -> what such a file is; UTF-32 begins as UTF-16 does
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "zip"),
)


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


@contextmanager
def readable(path: str | Path, kind: type[R2Error] = DataError) -> Iterator[None]:
    """Raise an error of this kind, naming the file, where it cannot be read within the block."""
    try:
        yield
    except FileNotFoundError:
        raise kind(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise kind(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


def open_file(path: str | Path) -> BinaryIO:
    """Return a file or pipe to read. Raises `DataError` where it is a device or the like, or a pipe that nothing comes
    from for a while.
    """
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
    """Check a text file like `check_file`; also raise where it is compressed, or text in UTF-16 or UTF-32.

    Reading such a file would otherwise fail with an unclear message.
    """
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
