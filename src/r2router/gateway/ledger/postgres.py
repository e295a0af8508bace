"""PostgreSQL under a ledger, for several replicas of the gateway. Needs the `[postgres]` extra."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal

from r2router.errors import LedgerError, MissingExtra
from r2router.gateway.ledger.database import Failed, Parameters

SCHEMA = "r2router"
_OPTIONS = "-c statement_timeout=10000 -c lock_timeout=5000 -c synchronous_commit=on -c search_path=" + SCHEMA


class PostgreSQL:
    """A connection to a PostgreSQL server, in a schema of its own. Commits wait for the server's disk."""

    kind: Literal["sqlite", "postgresql"] = "postgresql"
    locking = " FOR UPDATE"

    def __init__(self, address: str, *, write: bool = True) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtra(
                "a ledger on PostgreSQL needs the [postgres] extra: pip install 'r2router[postgres]'"
            ) from None
        self._psycopg = psycopg
        try:
            self._connection = psycopg.connect(
                address, connect_timeout=5, application_name="r2router", options=_OPTIONS, prepare_threshold=2
            )  # fmt: skip
            info = self._connection.info
            self.where = f"postgresql://{info.host}:{info.port}/{info.dbname}"  # without its password
            if write:
                with suppress(psycopg.errors.UniqueViolation):  # another replica was a moment quicker
                    self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")  # type: ignore[arg-type,unused-ignore]
                self._connection.commit()
            self._connection.read_only = not write
        except psycopg.Error as error:
            words = " ".join(str(error).split())[:300]
            raise LedgerError(
                f"{_named(address)}: cannot be used as a ledger ({words}); check the address and that it runs"
            ) from None

    def begin(self) -> None:
        """Do nothing: psycopg begins a transaction at the first statement."""

    def commit(self) -> None:
        self._run(self._connection.commit)

    def rollback(self) -> None:
        with suppress(self._psycopg.Error):
            self._connection.rollback()

    def rows(self, statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            cursor = self._connection.execute(_theirs(statement), parameters or None)
            return cursor.fetchall() if cursor.description else []

        return self._run(run)

    def reads(self, queries: Sequence[tuple[str, Parameters]]) -> list[list[tuple[Any, ...]]]:
        """Done in one round trip to the server."""

        def run() -> list[list[tuple[Any, ...]]]:
            with self._connection.pipeline():
                cursors = [
                    self._connection.execute(_theirs(statement), parameters or None)
                    for statement, parameters in queries
                ]
                return [cursor.fetchall() for cursor in cursors]

        found: list[list[tuple[Any, ...]]] = self._run(run)
        return found

    def writes(self, changes: Sequence[tuple[str, Sequence[Parameters]]]) -> None:
        """Done in one round trip to the server."""

        def run() -> None:
            with self._connection.pipeline():
                for statement, parameters in changes:
                    for values in parameters:
                        self._connection.execute(_theirs(statement), values)

        self._run(run)

    def version(self) -> int | None:
        """Always None: this class does not know whether somebody else wrote."""
        return None

    def many(self, statement: str, parameters: Sequence[Parameters]) -> None:
        def run() -> None:
            with self._connection.cursor() as cursor:
                if len(parameters) == 1:
                    cursor.execute(_theirs(statement), parameters[0])
                else:
                    cursor.executemany(_theirs(statement), parameters)

        self._run(run)

    def close(self) -> None:
        with suppress(self._psycopg.Error):
            self._connection.close()

    def _run(self, act: Any) -> Any:
        try:
            return act()
        except self._psycopg.Error as error:
            ours = (self._psycopg.IntegrityError, self._psycopg.DataError, self._psycopg.ProgrammingError)
            raise Failed(" ".join(str(error).split())[:300], down=not isinstance(error, ours)) from None


@lru_cache(maxsize=256)
def _theirs(statement: str) -> Any:
    """Write a statement with psycopg's placeholders."""
    return statement.replace("?", "%s")


def _named(address: str) -> str:
    """Return an address without its password."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
