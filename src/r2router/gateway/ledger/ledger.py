"""The ledger as the gateway uses it: open a request before it is sent upstream, settle it when it is over."""

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
    """One row per request, and limits that hold: at every moment what is spent and reserved is at most the limit.

    A request is opened before it is sent upstream, with the most that it may cost; it is then durable, and counts. It
    is settled with what it did cost. Safe to use from several event loops and threads; several processes may write to
    one ledger.
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
        """The ledger in a file, which is made where there is none, or at a `postgresql://` address.

        zone: the time zone in which days, months and minutes begin, by default that of the ledger, or UTC for a new
            one; it cannot be changed later, as what was counted is counted.
        limits: of requests without a key.
        lease_s: seconds after which the requests of a process that died are charged at their reservations.
        longest_s: as that, for one that lives and never settles.
        when_down: `refuse` requests while the database is down; `allow` lets those through that have no key and no
            limit.

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
        """Write the request down and set aside the most it may cost; it is on the disk before this returns.

        Raises a `Refused`: `OverBudget`, `OverRate`, `KeyRefused` or `LedgerDown`. Then nothing must be sent upstream.
        """
        check_opened(opened)
        return await self._open(Open(opened, self.limits))

    async def begin(self, opened: Opened) -> Ticket:
        """As `open`; but where money for the request was set aside before, it does not wait for its row to be written
        (`Ticket.written`).

        For callers that have many requests: it sets money aside for the next ones, which counts against the limits.
        """
        check_opened(opened)
        scope, day = opened.key or NO_KEY, Period.at(opened.time, self.zone).day
        if opened.reserved is not None and self._writer.advances.take(scope, day, opened.reserved):
            return Ticket(opened.id, opened, written=self._job(Draw(opened, self.limits), patient=True).future)  # type: ignore[arg-type]
        return await self._open(Open(opened, self.limits, ahead=True))

    async def settle(self, ticket: Ticket, settled: Settled) -> Charge:
        """Put what the request cost in place of its reservation, in the windows that it was opened in. Once: a second
        time changes nothing.

        While the database is down it is kept, and written when it is back; it never raises for that.
        """
        check_cost(ticket.id, settled.cost)
        return await asyncio.shield(self._job(Settle(ticket, settled, self.clock()), patient=True).future)  # type: ignore[arg-type]

    async def observe(self, name: str, pace: Pace, observed: float | None = None) -> Pace:
        """Move the pace of a preset, which all gateways on this ledger share, by what a request cost (US dollars) or
        how good it was.

        pace: as it begins, where there is none yet, or one with another target.
        observed: None only reads it.
        """
        return await asyncio.shield(self._job(Observe(name, pace, observed, self.clock())).future)  # type: ignore[arg-type]

    async def score(self, name: str, key: str | None, score: float, paces: Mapping[str, Pace]) -> ScoreResult:
        """Keep how good a client found the answer to a request, 0 to 1; again: in place of what it said before.

        key: whose request it must be; None: anybody's.
        paces: of the presets that hold a quality.

        Raises `UsageError` where the key has no such request.
        """
        return await asyncio.shield(self._job(RecordScore(name, key, score, paces, self.clock())).future)  # type: ignore[arg-type]

    def observe_now(self, name: str, pace: Pace, observed: float | None = None) -> Pace:
        """As `observe`, from a thread without an event loop."""
        return self._now(Observe(name, pace, observed, self.clock()))

    def open_now(self, opened: Opened) -> Ticket:
        """As `open`, from a thread without an event loop."""
        check_opened(opened)
        return self._now(Open(opened, self.limits))

    def settle_now(self, ticket: Ticket, settled: Settled) -> Charge:
        """As `settle`, from a thread without an event loop."""
        check_cost(ticket.id, settled.cost)
        return self._now(Settle(ticket, settled, self.clock()))

    def correct_now(self, name: str, key: str | None, cost: int, state: str = "done") -> Charge:
        """Put what a request really cost, in nano-dollars, in place of what was charged for it."""
        check_cost(name, cost)
        return self._now(Correct(name, key or NO_KEY, cost, state, self.clock()))

    @property
    def waiting(self) -> int:
        """Requests that are settled, and wait for the database to come back."""
        return self._writer.kept

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and end; what is still open is charged at its reservation by whoever uses the ledger
        next.
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
    """The ledger's time zone, which a new one is given. Raises `LedgerError` where it is another than the one asked
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
