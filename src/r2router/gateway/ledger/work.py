"""What is to be done in a ledger: each of these is one piece of a transaction."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from r2router.errors import UsageError
from r2router.gateway.ledger.entries import MAX_AMOUNT, Limits, Opened, Settled, Ticket
from r2router.gateway.pacing import Pace

NO_KEY = "-"
"""The scope of requests without a key."""


class Open(msgspec.Struct, frozen=True):
    """Open a request.

    limits: of requests without a key; those of keys stand in the database.
    ahead: whether more are expected.
    """

    opened: Opened
    limits: Limits
    ahead: bool = False


class Draw(msgspec.Struct, frozen=True):
    """Write down a request that has taken its reservation out of this process's advance. limits: as of `Open`."""

    opened: Opened
    limits: Limits


class Return(msgspec.Struct, frozen=True):
    """Give back what is left of this process's advance."""

    scope: str
    day: str


class Forfeit(msgspec.Struct, frozen=True):
    """Charge an advance of a process that is gone, as nobody can say what it was used for. id: of the advance."""

    id: str
    scope: str
    day: str
    month: str
    now: float


class Settle(msgspec.Struct, frozen=True):
    """Settle a request. A ticket that was not recorded is opened first, whatever its limits are: it has been spent."""

    ticket: Ticket
    settled: Settled
    now: float


class Expire(msgspec.Struct, frozen=True):
    """Charge a request at its reservation: the process that knew its real cost has ended."""

    id: str
    scope: str
    now: float


class Correct(msgspec.Struct, frozen=True):
    """Put what a request really cost in place of what was charged. state: what it is called from now on."""

    id: str
    scope: str
    cost: int
    state: str
    now: float


class Observe(msgspec.Struct, frozen=True):
    """Move a preset's pace by what a request cost, or how good it was. pace: as it begins; observed None: only read
    it.
    """

    name: str
    pace: Pace
    observed: float | None
    at: float = 0.0


class RecordScore(msgspec.Struct, frozen=True):
    """Keep how good a client found an answer, 0 to 1.

    key: whose request it must be; None: anybody's.
    paces: what presets hold, as it begins, of those that hold a quality.
    """

    id: str
    key: str | None
    score: float
    paces: Mapping[str, Pace]
    now: float


Work = Open | Draw | Return | Forfeit | Settle | Expire | Correct | Observe | RecordScore


def scope_of(work: Work) -> str | None:
    """Whose windows are concerned, if any are."""
    match work:
        case Open(opened=opened) | Draw(opened=opened) | Settle(ticket=Ticket(opened=opened)):
            return opened.key or NO_KEY
        case Expire() | Correct() | Return() | Forfeit():
            return work.scope
        case _:
            return None


def id_of(work: Work) -> str | None:
    """The request that is concerned, if one is."""
    match work:
        case Open(opened=opened) | Draw(opened=opened):
            return opened.id
        case Settle(ticket=ticket):
            return ticket.id
        case Expire() | Correct() | RecordScore():
            return work.id
        case _:
            return None


def check_opened(opened: Opened) -> None:
    """Raise `UsageError` for what no request can be: such a row must not reach the books."""
    if not opened.id or len(opened.id) > 200 or not opened.id.isprintable():
        raise UsageError(f"request id {opened.id[:40]!r} must have 1 to 200 printable characters")
    for name in ("reserved", "tokens", "forecast", "baseline_cost"):
        value = getattr(opened, name)
        if value is not None and not (type(value) is int and 0 <= value <= MAX_AMOUNT):
            raise UsageError(
                f"{name} of request {opened.id!r} is {value!r}; it is a whole number from 0 to {MAX_AMOUNT:,}"
            )
    if not 0 <= opened.time < 1e11:
        raise UsageError(f"time of request {opened.id!r} is {opened.time!r}; it is in seconds since 1970")


def check_cost(name: str, cost: int | None) -> None:
    """Raise `UsageError` for what no request can cost."""
    if cost is not None and not (type(cost) is int and 0 <= cost <= MAX_AMOUNT):
        raise UsageError(
            f"cost of request {name!r} is {cost!r}; it is a whole number of nano-dollars from 0 to {MAX_AMOUNT:,}"
        )
