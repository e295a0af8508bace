"""A vector cache on disk: an SQLite database, safe for several threads and processes, and after a kill.

It is never used unless asked for, and has no default place:

    encoder = CachedEncoder(load_encoder("st:Qwen/Qwen3-Embedding-0.6B"), "vectors.sqlite")
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from r2router.encode.registry import Encoder
from r2router.errors import EncoderError
from r2router.types import FloatArray

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID = 0x72327663  # "r2vc": marks the file as ours, so that no other database is ever written to
LOCK_WAIT_S = 30.0
CHUNK = 512
"""Texts encoded and written in one transaction: what a kill can lose."""

_inherited: list[sqlite3.Connection] = []


class CachedEncoder:
    """An encoder that remembers: a text is encoded once, whatever process asks again.

    The key of a vector is sha256(encoder id, NUL, text), so different encoders share a file without mixing; the text
    itself is not stored. Each vector carries a checksum. Raises `EncoderError` where the file is not a usable cache; it
    is never repaired or overwritten silently. On a network file system SQLite's locks may not work: keep the file on a
    local disk.
    """

    def __init__(self, encoder: Encoder, path: str | Path) -> None:
        self.encoder = encoder
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._close: weakref.finalize[..., CachedEncoder] | None = None
        self._pid = 0
        with self._lock:
            self._connect()

    def __repr__(self) -> str:
        return f"CachedEncoder({self.encoder!r}, {str(self.path)!r})"

    @property
    def id(self) -> str:
        return self.encoder.id

    @property
    def dim(self) -> int:
        return self.encoder.dim

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 rows of norm 1, bit for bit what the encoder gave when it first saw the text."""
        parts = [self._encode_chunk(texts[start : start + CHUNK]) for start in range(0, len(texts), CHUNK)]
        return np.concatenate(parts) if parts else self.encoder.encode([])

    def close(self) -> None:
        """Close the database; encoding again opens it again."""
        with self._lock:
            if self._close is not None:
                self._close()
            self._connection = None

    def _encode_chunk(self, texts: Sequence[str]) -> FloatArray:
        keys = [hashlib.sha256(f"{self.id}\0{text}".encode("utf-8", "surrogatepass")).digest() for text in texts]
        known = self._read(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = np.asarray(self.encoder.encode(list(missing.values())), dtype="<f4")
            blobs = {key: row.tobytes() for key, row in zip(missing, fresh, strict=True)}
            self._write([(key, blob + _checksum(key, blob)) for key, blob in blobs.items()])
            known |= blobs
        if len({len(blob) for blob in known.values()}) > 1:
            raise EncoderError(f"{self.path}: vectors of {self.id!r} have different lengths; delete the file")
        return np.stack([np.frombuffer(known[key], dtype="<f4") for key in keys]).astype(np.float32)

    def _read(self, keys: list[bytes]) -> dict[bytes, bytes]:
        import sqlite3

        known = {}
        with self._lock:
            connection = self._connect()
            try:
                found = {
                    key: connection.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
                    for key in keys
                }
            except sqlite3.Error as error:
                raise self._unusable(error) from error
        for key, row in found.items():
            if row is None:
                continue
            (stored,) = row
            blob, checksum = stored[:-4], stored[-4:]
            if checksum != _checksum(key, blob) or not blob or len(blob) % 4:
                raise EncoderError(
                    f"{self.path}: a stored vector is damaged; delete the file, it is filled again as texts are encoded"
                )
            known[key] = blob
        return known

    def _write(self, rows: list[tuple[bytes, bytes]]) -> None:
        import sqlite3

        with self._lock:
            connection = self._connect()
            try:
                with connection:  # one transaction: all of these rows or none
                    # Another process may have been faster; the first vector stays, so that a text never changes its
                    # own.
                    connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _connect(self) -> sqlite3.Connection:
        """Return the connection of this process: one must not be carried over a fork. Called with the lock held."""
        if self._connection is not None and self._pid == os.getpid():
            return self._connection
        if self._close is not None:
            self._close()
        import sqlite3

        try:
            connection = sqlite3.connect(self.path, timeout=LOCK_WAIT_S, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self._connection, self._pid = connection, os.getpid()
        self._close = weakref.finalize(self, _close, connection, self._pid)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if mark != APPLICATION_ID and (mark or tables):
            raise EncoderError(f"{self.path} is a database of something else; choose another path for the vector cache")
        _use_wal(connection)
        # a power cut may lose the last vectors, never damage the file
        connection.execute("PRAGMA synchronous = NORMAL")
        if mark != APPLICATION_ID:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"
            )

    def _unusable(self, error: sqlite3.Error) -> EncoderError:
        """How to fix it depends on what is wrong: only a damaged file is to be deleted."""
        import sqlite3

        if isinstance(error, sqlite3.OperationalError):
            return EncoderError(
                f"vector cache {self.path}: {error}; check that it can be written and that the disk has room"
            )
        return EncoderError(
            f"{self.path} is not a usable vector cache ({error}); delete it, it is filled again as texts are encoded"
        )


def _checksum(key: bytes, blob: bytes) -> bytes:
    return zlib.crc32(key + blob).to_bytes(4, "little")


def _close(connection: sqlite3.Connection, pid: int) -> None:
    """Close the connection in the process that opened it. After a fork SQLite must not be touched, so there it is only
    kept from the garbage collector.
    """
    if os.getpid() == pid:
        connection.close()
    else:
        _inherited.append(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Readers and a writer at the same time. While other processes do the same SQLite answers 'locked' at once; ask
    again.
    """
    import sqlite3

    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
