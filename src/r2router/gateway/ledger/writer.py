"""The one thread of a process that writes to its ledger. Whatever waits is written in one transaction (group commit).

It also renews the process's lease, and charges requests that dead processes left open.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from r2router.errors import LedgerDown, R2Error
from r2router.gateway.ledger.advances import Advances
from r2router.gateway.ledger.batch import Batch
from r2router.gateway.ledger.database import Database, Failed
from r2router.gateway.ledger.entries import Charge, Ticket
from r2router.gateway.ledger.snapshot import Snapshot
from r2router.gateway.ledger.work import NO_KEY, Draw, Expire, Forfeit, Open, Return, Settle, Work

log = logging.getLogger("r2router.ledger")

MAX_AT_ONCE = 500
_GATHER_S = 0.003  # for which work that no client waits for is gathered: one transaction costs less than many
_LOOK_S = 0.001
_BUSY = 8  # pieces of work in one transaction
_RETRY_S = (0.1, 0.3, 1.0, 3.0)  # waits between tries while the database is down; the last one again and again


class Job(msgspec.Struct):
    """Work, and who waits for it: a task of an event loop, or a thread.

    patient: no client waits, so that the work may wait for a larger batch.
    """

    work: Work
    future: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None = None
    patient: bool = False


class LedgerWriter(threading.Thread):
    """The thread that runs all work on the database, in batches.

    opener: opens a connection whenever there is none.
    lease_s: seconds after which a silent process counts as dead.
    longest_s: seconds after which an open request is charged, whatever its process does.
    through: while the database is down, whether to allow requests without a budget; they are written when they settle.
    clock: seconds since 1970.
    """

    def __init__(
        self,
        opener: Callable[[], Database],
        zone: ZoneInfo,
        *,
        lease_s: float,
        longest_s: float,
        through: bool,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(name="r2router-ledger", daemon=True)
        self._opener, self._zone, self._clock = opener, zone, clock
        self._lease_s, self._longest_s, self._through = lease_s, longest_s, through
        self._database: Database | None = opener()
        self.id = f"w_{secrets.token_hex(8)}"
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._kept: list[Settle | Draw] = []  # of what came while the database was down
        self.advances = Advances()
        self._known = Snapshot()
        self._failures = 0
        self._next_try = 0.0
        self._next_lease = 0.0
        self.batches = self.written = self._together = 0
        self.stopped = False

    # -- from other threads -------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Add a job."""
        if self.stopped:
            raise LedgerDown("the ledger is closed")
        self._jobs.put(job)

    def finish(self, timeout_s: float) -> None:
        """Write what waits, give up the lease, and end."""
        self.stopped = True
        self._jobs.put(None)
        self.join(timeout_s)

    @property
    def busy(self) -> bool:
        """Whether much comes at once, so that it is cheaper to gather it than to write each piece when it comes."""
        return self._together >= _BUSY

    @property
    def kept(self) -> int:
        """Requests that wait until the database is back."""
        return len(self._kept)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until `finish` is called."""
        last = False
        while not last:
            jobs, last = self._wait()
            if jobs:
                self._together = len(jobs)
                self._serve(jobs)
            self._give_back(every=last)
            with suppress(Failed):
                if self._kept and (last or time.monotonic() >= self._next_try):
                    self._write_kept()
                if not last and time.monotonic() >= self._next_lease:
                    self._renew()
        with suppress(Failed):
            self._transaction(lambda database: database.rows("DELETE FROM writers WHERE id = ?", (self.id,)))
        if self._database is not None:
            self._database.close()

    def _wait(self) -> tuple[list[Job], bool]:
        """Return the jobs that wait, and whether the thread should end after them."""
        until = min(self._next_lease, self._next_try) if self._kept else self._next_lease
        if self.advances.idle(every=True):
            until = min(until, time.monotonic() + 1.0)
        wait, gathered = max(0.0, until - time.monotonic()), 0.0
        jobs: list[Job] = []
        while True:
            try:
                job = self._jobs.get_nowait() if jobs else self._jobs.get(timeout=wait)
            except queue.Empty:
                if not jobs or time.monotonic() >= gathered:
                    return jobs, False
                time.sleep(_LOOK_S)  # to wait in the queue would cost both threads more: it wakes up for each piece
                continue
            if job is None:
                return jobs, True
            if not job.patient:
                gathered = 0.0
            elif not jobs:
                gathered = time.monotonic() + _GATHER_S
            jobs.append(job)
            if len(jobs) >= MAX_AT_ONCE:
                return jobs, False

    def _serve(self, jobs: list[Job]) -> None:
        """Do jobs together; if one of them makes that fail, do each by itself."""
        try:
            given = self._run([job.work for job in jobs])
        except Failed as failed:
            if failed.down or len(jobs) == 1:
                _answer([(job, self._without(job.work, failed)) for job in jobs])
            else:
                for job in jobs:
                    self._serve([job])
            return
        except Exception as error:
            log.exception("the ledger failed")
            if len(jobs) == 1:
                _answer([(jobs[0], error)])
            else:
                for job in jobs:
                    self._serve([job])
            return
        _answer(list(zip(jobs, given, strict=True)))

    def _without(self, work: Work, failed: Failed) -> Any:
        """Return the result of a job while the database is down."""
        match work:
            case Settle(settled=settled) if failed.down:
                self._kept.append(work)
                return Charge(settled.cost or 0, later=True)
            case Draw(opened=opened) if failed.down:
                self._kept.append(work)
                return Ticket(opened.id, opened)
            case Open(opened=opened, limits=limits) if self._through and opened.key is None and not limits.limited:
                return Ticket(opened.id, opened, recorded=False)
        return LedgerDown(f"the ledger cannot be written to ({failed}); nothing was sent upstream", retry_after=1)

    def _run(self, work: list[Work]) -> list[Any]:
        released: list[tuple[str, str, int]] = []

        def act(database: Database) -> tuple[Batch, list[Any]]:
            batch = Batch(database, self.id, self._zone, self.advances, self._known)
            try:
                return batch, batch.run(work)
            finally:
                released.extend(batch.released)

        try:
            batch, given = self._transaction(act)
        except BaseException:
            self._known.forget()
            for scope, day, nanos in released:
                self.advances.put(scope, day, nanos)
            raise
        for scope, day, nanos, usable in batch.granted:
            self.advances.put(scope, day, nanos, usable=usable)
        self.batches += 1
        self.written += len(work)
        for one, charge in zip(work, given, strict=True):
            if isinstance(charge, Charge) and charge.over and isinstance(one, Settle):
                log.warning(
                    "request %s cost %d nano-dollars more than its bound: its provider billed more than was asked for; the limits of %s "
                    "may be exceeded by that", one.ticket.id, charge.over, one.ticket.opened.key or "this gateway",
                )  # fmt: skip
        return given

    def _transaction(self, act: Callable[[Database], Any]) -> Any:
        """Do work within a transaction. Raises `Failed`; then nothing was written."""
        try:
            if self._database is None:
                self._database = self._opener()
            database = self._database
            database.begin()
            given = act(database)
            database.commit()
        except R2Error as error:  # the opener's
            self._broken()
            raise Failed(str(error), down=True) from None
        except Failed as failed:
            if self._database is not None:
                self._database.rollback()
            if failed.down:
                self._broken()
            raise
        except BaseException:
            if self._database is not None:
                self._database.rollback()
            raise
        self._failures = 0
        return given

    def _broken(self) -> None:
        if not self._failures:
            log.error("the ledger cannot be written to")
        if time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + _RETRY_S[min(self._failures, len(_RETRY_S) - 1)]
            self._failures += 1
        if self._database is not None and self._database.kind == "postgresql":
            self._database.close()
            self._database = None

    def _write_kept(self) -> None:
        waiting = self._kept[:MAX_AT_ONCE]
        self._run(list(waiting))
        del self._kept[: len(waiting)]

    def _give_back(self, *, every: bool) -> None:
        """Give back advances that are no longer used."""
        for scope, day in self.advances.idle(every=every):
            with suppress(Failed):
                self._run([Return(scope, day)])

    # -- leases -------------------------------------------------------------------------------------------------------

    def _renew(self) -> None:
        """Renew this process's lease, and charge what dead processes left open."""
        self._next_lease = time.monotonic() + self._lease_s / 3
        self._known.forget()  # as windows of minutes that are long over are deleted
        self._transaction(self._lease)
        for name, scope, day, month in self._transaction(partial(self._left_ahead, self._clock())):
            self._run([Forfeit(name, scope, day, month, self._clock())])
        self._transaction(
            lambda database: database.rows("DELETE FROM advances WHERE nanos = 0 AND writer <> ?", (self.id,))
        )
        while True:
            now = self._clock()
            found = self._transaction(partial(self._left_open, now))
            if not found:
                return
            self._run([Expire(name, key or NO_KEY, now) for name, key in found])
            log.warning(
                "requests left open by a process that is gone: %d; each is charged at its reservation", len(found)
            )

    def _lease(self, database: Database) -> None:
        now = self._clock()
        values = (self.id, socket.gethostname(), os.getpid(), round((now + self._lease_s) * 1e6))
        database.rows(
            "INSERT INTO writers (id, host, pid, leased_until) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET leased_until = excluded.leased_until",
            values,
        )
        database.rows(
            "DELETE FROM writers WHERE leased_until < ? "
            "AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.writer = writers.id AND r.state = 'open')",
            (round((now - 86400) * 1e6),),
        )
        database.rows(
            "DELETE FROM windows WHERE length(period) > 10 AND open = 0 AND period < ?", (_minute(now - 2 * 86400),)
        )

    def _left_ahead(self, now: float, database: Database) -> list[tuple[Any, ...]]:
        return database.rows(
            "SELECT a.id, a.scope, a.day, a.month FROM advances a LEFT JOIN writers w ON w.id = a.writer WHERE a.nanos"
            " > 0 AND (w.leased_until IS NULL OR w.leased_until < ?) ORDER BY a.id",
            (round(now * 1e6),),
        )

    def _left_open(self, now: float, database: Database) -> list[tuple[Any, ...]]:
        return database.rows(
            "SELECT r.id, r.key_id FROM requests r LEFT JOIN writers w ON w.id = r.writer WHERE r.state = 'open' "
            "AND (w.leased_until IS NULL OR w.leased_until < ? OR r.time < ?) ORDER BY r.id LIMIT ?",
            (round(now * 1e6), round((now - self._longest_s) * 1e6), MAX_AT_ONCE),
        )


def _minute(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(seconds))


def _answer(answers: list[tuple[Job, Any]]) -> None:
    """Hand the results to those who wait, with one call per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Any, Any]]] = {}
    for job, given in answers:
        if job.loop is None:
            _deliver([(job.future, given)])
        else:
            by_loop.setdefault(job.loop, []).append((job.future, given))
    for loop, given in by_loop.items():
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_deliver, given)


def _deliver(answers: list[tuple[Any, Any]]) -> None:
    for future, given in answers:
        if future.done():
            continue
        if isinstance(given, Exception):
            future.set_exception(given)
        else:
            future.set_result(given)
