"""The ledger as the gateway uses it: open a request before it is sent upstream, settle it when it has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from zoneinfo import ZoneInfo

from r2router.errors import ConfigError, LedgerDown, LedgerError
from r2router.gateway.ledger.database import Database, Failed, connect, migrate
from r2router.gateway.ledger.entries import Charge, Limits, Opened, ScoreResult, Settled, Ticket
from r2router.gateway.ledger.windows import Period
from r2router.gateway.ledger.work import (
    NO_KEY,
    Correct,
    Draw,
    Elsewhere,
    Observe,
    Open,
    RecordScore,
    Settle,
    Work,
    check_cost,
    check_opened,
)
from r2router.gateway.ledger.writer import Job, LedgerWriter
from r2router.gateway.pacing import Pace

UTC = "UTC"


class Ledger:
    """One row per request, and limits that always hold: what is spent and reserved is never above the limit.

    A request is opened before it is sent upstream, with its maximum cost; from then on it is on the disk and counts.
    When it has ended it is settled with its real cost. Safe to use from several event loops and threads; several
    processes may write to one ledger.
    """

    def __init__(self, writer: LedgerWriter, where: str, zone: ZoneInfo, limits: Limits) -> None:
        self._writer = writer
        self.where = where
        self.zone = zone
        self.limits = limits

    @classmethod
    def at(
        cls,
        where: str | Path,
        *,
        zone: str | None = None,
        limits: Limits | None = None,
        lease_s: float = 15.0,
        longest_s: float = 3600.0,
        when_down: str = "refuse",
        clock: Callable[[], float] = time.time,
    ) -> Ledger:
        """Open the ledger in a file (created if missing) or at a `postgresql://` address.

        zone: the time zone in which days, months and minutes begin; by default the ledger's, or UTC for a new one. It
            cannot be changed later, as sums already use it.
        limits: for requests without a key.
        lease_s: seconds after which the requests of a dead process are charged at their reservations.
        longest_s: seconds after which a request that is never settled is charged at its reservation.
        when_down: while the database is down, `refuse` requests, or `allow` those without a key and without a limit.

        Raises `LedgerError`.
        """
        if when_down not in ("refuse", "allow"):
            raise ConfigError(f"when_down is {when_down!r}; give 'refuse' or 'allow'")
        database = connect(where)
        try:
            migrate(database)
            found = ZoneInfo(_zone(database, zone))
        except Failed as failed:
            raise LedgerError(f"{where}: cannot be used as a ledger ({failed})") from None
        finally:
            database.close()
        writer = LedgerWriter(
            lambda: connect(where), found, lease_s=lease_s, longest_s=longest_s, through=when_down == "allow",
            clock=clock
        )  # fmt: skip
        writer.start()
        ledger = cls(writer, str(where), found, limits or Limits())
        ledger.clock = clock
        return ledger

    clock: Callable[[], float] = staticmethod(time.time)

    async def open(self, opened: Opened) -> Ticket:
        """Record a request and set its maximum cost aside; both are on the disk before this returns.

        Raises a `Refused`: `OverBudget`, `OverRate`, `KeyRefused` or `LedgerDown`. Then nothing must be sent upstream.
        """
        check_opened(opened)
        return await self._open(Open(opened, self.limits))

    async def begin(self, opened: Opened) -> Ticket:
        """Open a request like `open`, but without waiting for its row where an advance covers it (`Ticket.written`).

        For callers with many requests: it sets money aside for the next ones, which counts against the limits.
        """
        check_opened(opened)
        scope, day = opened.key or NO_KEY, Period.at(opened.time, self.zone).day
        if opened.reserved is not None and self._writer.advances.take(scope, day, opened.reserved):
            job = self._job(Draw(opened, self.limits), patient=self._writer.busy)
            return Ticket(opened.id, opened, written=job.future)  # type: ignore[arg-type]
        return await self._open(Open(opened, self.limits, ahead=True))

    async def settle(self, ticket: Ticket, settled: Settled) -> Charge:
        """Replace the reservation by the real cost, in the windows in which the request was opened.

        A second call changes nothing. While the database is down the cost is kept and written later; this never raises.
        """
        check_cost(ticket.id, settled.cost)
        return await asyncio.shield(self._job(Settle(ticket, settled, self.clock()), patient=True).future)  # type: ignore[arg-type]

    async def observe(self, name: str, pace: Pace, observed: float | None = None) -> Pace:
        """Update a preset's target, which all gateways on this ledger share, with a request's cost (US dollars) or
        quality.

        pace: the initial state, where there is none yet or the target has changed.
        observed: None only reads the state.
        """
        return await asyncio.shield(self._job(Observe(name, pace, observed, self.clock())).future)  # type: ignore[arg-type]

    async def elsewhere(self, preset: str) -> tuple[int, float]:
        """Return (number, forecast cost in US dollars) of a preset's requests under way in other gateways."""
        return await asyncio.shield(self._job(Elsewhere(preset)).future)  # type: ignore[arg-type]

    async def score(
        self, name: str, key: str | None, score: float, paces: Mapping[str, Pace], expected: Mapping[str, float]
    ) -> ScoreResult:
        """Keep a client's score of an answer, 0 to 1; a second score replaces the first.

        key: the key that the request must belong to; None for any.
        paces: initial states of the presets with a quality target.
        expected: what their answers are forecast to score now.

        Raises `UsageError` where the key has no such request.
        """
        return await asyncio.shield(self._job(RecordScore(name, key, score, paces, expected, self.clock())).future)  # type: ignore[arg-type]

    def observe_now(self, name: str, pace: Pace, observed: float | None = None) -> Pace:
        """Do `observe` from a thread without an event loop."""
        return self._now(Observe(name, pace, observed, self.clock()))

    def open_now(self, opened: Opened) -> Ticket:
        """Do `open` from a thread without an event loop."""
        check_opened(opened)
        return self._now(Open(opened, self.limits))

    def settle_now(self, ticket: Ticket, settled: Settled) -> Charge:
        """Do `settle` from a thread without an event loop."""
        check_cost(ticket.id, settled.cost)
        return self._now(Settle(ticket, settled, self.clock()))

    def correct_now(self, name: str, key: str | None, cost: int, state: str = "done") -> Charge:
        """Replace what was charged for a request by its real cost, in nano-dollars."""
        check_cost(name, cost)
        return self._now(Correct(name, key or NO_KEY, cost, state, self.clock()))

    @property
    def waiting(self) -> int:
        """Settled requests that wait until the database is back."""
        return self._writer.kept

    def close(self, timeout_s: float = 10.0) -> None:
        """Write everything that waits, and end. The next user of the ledger charges open requests at their
        reservations.
        """
        self._writer.finish(timeout_s)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- within -------------------------------------------------------------------------------------------------------

    async def _open(self, work: Open) -> Ticket:
        job = self._job(work)
        try:
            return await asyncio.shield(job.future)  # type: ignore[arg-type]
        except asyncio.CancelledError:  # its client has gone; the row may be there by now, and nothing was sent
            job.future.add_done_callback(lambda done: self._undo(done, work.opened))  # type: ignore[arg-type]
            raise

    def _job(self, work: Work, *, patient: bool = False) -> Job:
        loop = asyncio.get_running_loop()
        job = Job(work, loop.create_future(), loop, patient)
        self._writer.put(job)
        return job

    def _now(self, work: Work) -> Any:
        job = Job(work, Future())
        self._writer.put(job)
        return job.future.result()

    def _undo(self, done: asyncio.Future[Ticket], opened: Opened) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        settled = Settled(state="cancelled", cost=0, attempts=0, note="its client left before it was sent")
        with suppress(LedgerDown):
            self._writer.put(Job(Settle(done.result(), settled, self.clock()), Future()))


def _zone(database: Database, asked: str | None) -> str:
    """Return the ledger's time zone; a new ledger gets one. Raises `LedgerError` where it differs from the one asked
    for.
    """
    if asked is not None:
        try:
            ZoneInfo(asked)
        except (KeyError, ValueError, OSError):
            raise ConfigError(f"time zone {asked!r} is not known; give one as Europe/Berlin or UTC") from None
    database.begin()
    try:
        database.rows("INSERT INTO settings (name, value) VALUES ('zone', ?) ON CONFLICT DO NOTHING", (asked or UTC,))
        found = str(database.rows("SELECT value FROM settings WHERE name = 'zone'")[0][0])
        database.commit()
    except BaseException:
        database.rollback()
        raise
    if asked is not None and found != asked:
        raise LedgerError(
            f"{database.where}: this ledger counts days in {found}, not in {asked}: keep {found}, or begin a new ledger"
        )
    return found
