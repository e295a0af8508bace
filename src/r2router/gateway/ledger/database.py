"""The database of a ledger: SQL that both SQLite and PostgreSQL know, and the migrations that make its tables."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Protocol

from r2router.errors import LedgerError
from r2router.files import check_file

Parameters = Sequence[Any]


class Failed(Exception):
    """The database did not do what it was asked.

    down: whether a later try may succeed (it cannot be reached, is locked, or its disk is full).
    """

    def __init__(self, message: str, *, down: bool) -> None:
        super().__init__(message)
        self.down = down


class Database(Protocol):
    """A connection, for one thread at a time. Statements have `?` for their parameters. Every method raises
    `Failed`.
    """

    kind: Literal["sqlite", "postgresql"]
    where: str
    locking: str
    """What a SELECT ends with that keeps others from its rows until the transaction ends."""

    def begin(self) -> None:
        """Begin a transaction that may write."""
        ...

    def commit(self) -> None:
        """End the transaction; what was written is on the disk."""
        ...

    def rollback(self) -> None:
        """End the transaction as if nothing had been written. Never fails."""
        ...

    def rows(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        ...

    def reads(self, queries: Sequence[tuple[str, Parameters]]) -> list[list[tuple[Any, ...]]]:
        """Run several statements and return the rows of each, in order."""
        ...

    def many(self, statement: str, parameters: Sequence[Parameters]) -> None:
        """Run a statement once for each set of parameters."""
        ...

    def writes(self, changes: Sequence[tuple[str, Sequence[Parameters]]]) -> None:
        """Run `many` for several statements, in order."""
        ...

    def version(self) -> int | None:
        """Return a number that changes when another connection has written; None where that is not known.

        Call it within a transaction.
        """
        ...

    def close(self) -> None:
        """Close the connection. Never fails."""
        ...


class SQLite:
    """A SQLite file, written with WAL and a full sync per commit.

    It uses `BEGIN IMMEDIATE`, so that several processes may write to one file.
    """

    kind: Literal["sqlite", "postgresql"] = "sqlite"
    locking = ""

    def __init__(self, path: str | Path, *, write: bool = True, busy_s: float = 5.0) -> None:
        self.where = str(path)
        check_file(path, LedgerError)
        if not write and not Path(path).is_file():
            raise LedgerError(f"{path}: no such ledger; `r2router serve` makes one")
        try:
            if write:
                with suppress(FileExistsError):  # what people asked for is nobody else's to read
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            uri = f"{Path(path).absolute().as_uri()}?mode={'rw' if write else 'ro'}"
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._begin(write)
            except sqlite3.Error:
                self._connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            hint = "give a file that this user may write to" if write else "give a ledger's file"
            raise LedgerError(f"{path}: cannot be used as a ledger ({words}); {hint}") from None

    def _begin(self, write: bool) -> None:
        """Set the connection up, so that a file that is no database, or is read-only, is reported now."""
        if write:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("ROLLBACK")
        else:
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def begin(self) -> None:
        self.rows("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.rows("COMMIT")

    def rollback(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def rows(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise _failed(error) from None

    def reads(self, queries: Sequence[tuple[str, Parameters]]) -> list[list[tuple[Any, ...]]]:
        return [self.rows(statement, parameters) for statement, parameters in queries]

    def writes(self, changes: Sequence[tuple[str, Sequence[Parameters]]]) -> None:
        for statement, parameters in changes:
            self.many(statement, parameters)

    def version(self) -> int | None:
        return int(self.rows("PRAGMA data_version")[0][0])

    def many(self, statement: str, parameters: Sequence[Parameters]) -> None:
        try:
            if len(parameters) == 1:
                self._connection.execute(statement, parameters[0])
            else:
                self._connection.executemany(statement, parameters)
        except sqlite3.Error as error:
            raise _failed(error) from None

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()


def _failed(error: sqlite3.Error) -> Failed:
    return Failed(str(error), down=isinstance(error, sqlite3.OperationalError))


def connect(where: str | Path, *, write: bool = True) -> Database:
    """Open the database at a path or a `postgresql://` address. Raises `LedgerError`."""
    address = str(where)
    if address.startswith(("postgresql://", "postgres://")):
        from r2router.gateway.ledger.postgres import PostgreSQL

        return PostgreSQL(address, write=write)
    return SQLite(address.removeprefix("sqlite:///") if address.startswith("sqlite:///") else where, write=write)


# -- migrations -------------------------------------------------------------------------------------------------------


def migrations() -> list[tuple[int, str]]:
    """Return (number, SQL) of every migration, in order."""
    found = [
        file for file in files("r2router.gateway.ledger").joinpath("schema").iterdir() if file.name.endswith(".sql")
    ]
    return sorted((int(file.name.split("_")[0]), file.read_text(encoding="utf-8")) for file in found)


def statements(script: str) -> list[str]:
    """Split a script into its statements."""
    found, begun = [], ""
    for line in script.splitlines(keepends=True):
        begun += line
        if sqlite3.complete_statement(begun):
            found.append(begun.strip())
            begun = ""
    return found


def migrate(database: Database, steps: Iterable[tuple[int, str]] | None = None) -> int:
    """Bring the tables to the newest version in one transaction; returns the version.

    Raises `LedgerError` for a newer version, and for a database that is not a ledger.
    """
    steps = migrations() if steps is None else list(steps)
    newest = steps[-1][0]
    database.begin()
    try:
        if database.kind == "postgresql":
            database.rows("SELECT pg_advisory_xact_lock(720272)")  # two replicas that start at once
        found = version(database, newest)
        for number, script in steps:
            if number > found:
                for statement in statements(script):
                    database.rows(statement)
                database.rows(
                    "INSERT INTO schema_version (version, applied) VALUES (?, ?)", (number, int(time.time() * 1e6))
                )
        database.commit()
    except BaseException:
        database.rollback()
        raise
    return newest


def version(database: Database, newest: int) -> int:
    """Return the version of the tables, 0 where there are none.

    Raises `LedgerError` for one above `newest`, and for a database that is not a ledger.
    """
    tables = {name for (name,) in database.rows(_TABLES[database.kind])}
    if tables and "schema_version" not in tables:
        raise LedgerError(f"{database.where}: is a database but not a ledger: give a path where no file exists")
    if not tables:
        database.rows("CREATE TABLE schema_version (version BIGINT PRIMARY KEY, applied BIGINT NOT NULL)")
    found = int(database.rows("SELECT COALESCE(MAX(version), 0) FROM schema_version")[0][0])
    if found > newest:
        raise LedgerError(
            f"{database.where}: the ledger has version {found}, this r2router knows versions up to {newest}: install a"
            " newer r2router"
        )
    return found


_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
}
