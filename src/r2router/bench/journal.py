"""The journal of a collection: one JSON line per call, on the disk before the call counts as done.

The first line says what the file is and its version; every other line is one `Record`. Lines are only ever added.
Whoever is killed leaves at worst a torn last line, which the next run takes away: it was not on the disk, so its call
did not count. One process writes; a lock keeps others out, and dies with its owner. Beside it, in `NAME.in-flight`,
stands what the calls under way may cost: what a killed run leaves there counts as spent in the next one, as the
endpoint may bill for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import time
from array import array
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from r2router.bench.in_flight import InFlightFile
from r2router.bench.record import (
    FORMAT,
    VERSION,
    Header,
    Record,
    RecordSummary,
    number_of,
    record_of,
    summary_of,
    whole_lines,
)
from r2router.bench.spend_limit import NANOS, dollars
from r2router.errors import JournalError, SaveError
from r2router.files import check_file

_FOLD = 200_000  # keys in a set, of some 100 bytes each, before they join the sorted array, at 8 bytes each


_encoder = msgspec.json.Encoder()


class Journal:
    """An open journal. Only one process at a time has it; `close` (or the process's end) gives it back.

    retry: kinds of recorded errors that count as not done, so that they are asked again; answers in doubt then are,
        too. A call that was interrupted never counts as done.
    spent_nanos: nano-dollars charged so far.
    notes: what was repaired on opening.
    write: false to look at what is there and leave no trace: then nothing need be there, nothing is repaired, and
        another process may have it.

    Raises `JournalError` where it is in use, newer than this version, or damaged; `SaveError` where it cannot be
    written.
    """

    def __init__(self, path: str | Path, *, retry: Iterable[str] = (), write: bool = True) -> None:
        self.path = Path(path)
        self.spent_nanos = 0
        self.records = 0
        self.notes: list[str] = []
        # (model, budget) -> n, sum and sum of squares of the dollars
        self.charged: dict[tuple[str, str], list[float]] = {}
        self._file = _open(self.path) if write else _look(self.path)
        self._mends = write
        self._retry = frozenset(retry)
        self._in_flight = InFlightFile(self.path) if write else None
        self._old = np.empty(0, dtype=np.uint64)
        self._new: set[int] = set()
        self._failed: set[int] = set()
        self._chains: dict[int, int] = {}
        self._waiting: list[tuple[bytes, Record, asyncio.Future[None]]] = []
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._flushing: asyncio.Task[None] | None = None
        self._broken: SaveError | None = None
        self._end = 0
        try:
            self._load()
            if self._in_flight is not None and (lost := self._in_flight.left):
                self._count_lost(lost)
        except BaseException:
            self._file.close()
            raise

    @property
    def spent(self) -> float:
        """US dollars charged so far."""
        return self.spent_nanos / NANOS

    def in_flight(self, nano: int) -> None:
        """What the calls under way may cost: a kill leaves it to the next run. See `SpendLimit`."""
        if self._in_flight is not None:
            self._in_flight.put(nano)

    # -- what is there ----------------------------------------------------------------------------------------------

    def has(self, key: str) -> bool:
        """Return whether a call is done."""
        number = number_of(key)
        if number in self._new:
            return True
        at = int(np.searchsorted(self._old, np.uint64(number)))
        return at < len(self._old) and int(self._old[at]) == number

    def chain(self, key: str) -> Record | None:
        """Return the recorded chain of this key, answer or error, so that it need not be paid for again."""
        offset = self._chains.get(number_of(key))
        if offset is None:
            return None
        with self.path.open("rb") as file:
            file.seek(offset)
            return record_of.decode(file.readline())

    def _load(self) -> None:
        """Read what is done; take a torn tail away."""
        head = _encoder.encode(Header(FORMAT, VERSION)) + b"\n"
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        if size < len(head) and head.startswith(self._file.read(size)):  # new, or killed when it was
            if self._mends:
                self._write(head)
            return
        keys = array("Q")
        self._end = len(head)
        for offset, line in whole_lines(self.path, self._file):
            self._end = offset + len(line)
            seen = summary_of.decode(line)
            self.spent_nanos += round(seen.charged_usd * NANOS)
            self.records += 1
            if seen.kind == "lost" or self._open(seen):
                continue
            self._mark(seen)
            keys.append(number_of(seen.key))
            if seen.kind == "chain":
                self._chains[number_of(seen.key)] = offset
            self._count(seen)
        if self._end < size and self._mends:
            self.notes.append(
                f"{self.path}: its last line was torn by a kill or a full disk; {size - self._end} bytes were taken"
                " away"
            )
            self._file.truncate(self._end)
        if keys:
            self._old = np.unique(np.frombuffer(keys, dtype=np.uint64))

    def _open(self, seen: RecordSummary) -> bool:
        """Return whether a recorded call is to be made again."""
        if seen.error is None:
            return bool(self._retry and seen.doubt)
        return seen.error_kind in self._retry or seen.error_kind == "interrupted"

    def _count_lost(self, nano: int) -> None:
        """Charge what a killed run had under way."""
        key = hashlib.blake2b(f"{self._end} {time.time_ns()}".encode(), digest_size=16).hexdigest()
        why = "calls under way when a run was killed; they may have been billed"
        record = Record(
            key=key,
            query="",
            query_id="",
            model="",
            budget="",
            control="",
            kind="lost",
            charged_usd=nano / NANOS,
            note=why,
        )
        self._write(_encoder.encode(record) + b"\n")
        self.spent_nanos += nano
        self.records += 1
        self.in_flight(0)
        self.notes.append(
            f"the last run was killed with calls in progress; {dollars(nano / NANOS)}, their maximum cost, count as"
            " spent"
        )

    @property
    def errors(self) -> int:
        """Cells that count as done and have an error."""
        return len(self._failed)

    def _mark(self, seen: RecordSummary | Record) -> None:
        if seen.kind != "cell":
            return
        (self._failed.discard if seen.error is None else self._failed.add)(number_of(seen.key))

    def _count(self, seen: RecordSummary | Record) -> None:
        if seen.error is None and seen.kind != "lost":
            sums = self.charged.setdefault((seen.model, seen.budget), [0.0, 0.0, 0.0])
            for i, value in enumerate((1.0, seen.charged_usd, seen.charged_usd**2)):
                sums[i] += value

    # -- adding -----------------------------------------------------------------------------------------------------

    async def append(self, record: Record) -> None:
        """Add a record; returns when it is on the disk. Records that come together are flushed together. Raises
        `SaveError`.
        """
        if self._broken is not None:
            raise self._broken
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((_encoder.encode(record) + b"\n", record, done))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            data = b"".join(line for line, _, _ in batch)
            try:
                # shielded: what a cancelled run has begun to write is written to its end before the journal closes
                offset = await asyncio.shield(
                    asyncio.get_running_loop().run_in_executor(self._writer, self._write, data)
                )
            except SaveError as error:
                self._broken = error
                for _, _, done in [*batch, *self._waiting]:
                    if not done.done():
                        done.set_exception(error)
                self._waiting = []
                return
            for line, record, done in batch:
                self._take(record, offset)
                offset += len(line)
                if not done.done():
                    done.set_result(None)

    def _take(self, record: Record, offset: int) -> None:
        number = number_of(record.key)
        self._new.add(number)
        if len(self._new) >= _FOLD:
            fresh = np.fromiter(self._new, dtype=np.uint64, count=len(self._new))
            self._old = np.union1d(self._old, fresh)
            self._new.clear()
        if record.kind == "chain":
            self._chains[number] = offset
        self.spent_nanos += round(record.charged_usd * NANOS)
        self.records += 1
        self._mark(record)
        self._count(record)

    def _write(self, data: bytes) -> int:
        """Put data on the disk behind the end, whole or not at all; gives its offset. Only the writer's thread comes
        here.
        """
        fd, begin = self._file.fileno(), self._end
        try:
            os.lseek(fd, begin, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, begin)
            raise SaveError(
                f"{self.path}: cannot be written ({error.strerror or error}); every answer recorded before is safe:"
                " make room and run the same command again"
            ) from None
        self._end = begin + len(data)
        return begin

    def close(self) -> None:
        """Write what still waits (after an interrupt), and give the journal back."""
        try:
            if self._waiting and self._broken is None:
                self._writer.submit(self._write, b"".join(line for line, _, _ in self._waiting)).result()
                self._waiting = []
        finally:
            self._writer.shutdown()
            if self._in_flight is not None:
                self._in_flight.close()
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _look(path: Path) -> IO[bytes]:
    """Return the journal to read, or an empty one where there is none."""
    check_file(path, JournalError)
    try:
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return io.BytesIO()
    except OSError as error:
        raise JournalError(f"{path}: cannot be read ({error.strerror or error})") from None


def _open(path: Path) -> IO[bytes]:
    """Return the journal, locked. Raises `JournalError` where another process has it."""
    check_file(path, JournalError)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    except (FileExistsError, NotADirectoryError):
        raise SaveError(f"{path}: cannot be opened for writing: {path.parent} is no folder; give another") from None
    except OSError as error:
        raise SaveError(f"{path}: cannot be opened for writing ({error.strerror or error})") from None
    try:
        _lock(file)
    except OSError:
        file.close()
        raise JournalError(
            f"{path}: another process is collecting into it; wait for it, or choose another folder"
        ) from None
    return file


def _lock(file: IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows; the byte lies far behind any record
        import msvcrt

        file.seek(1 << 62)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
