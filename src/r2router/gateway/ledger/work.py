"""The pieces of work that a transaction of the ledger can do."""

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

    limits: for requests without a key; those of keys are in the database.
    ahead: whether more requests are expected.
    """

    opened: Opened
    limits: Limits
    ahead: bool = False


class Draw(msgspec.Struct, frozen=True):
    """Record a request that has taken its reservation out of this process's advance.

    limits: as in `Open`.
    """

    opened: Opened
    limits: Limits


class Return(msgspec.Struct, frozen=True):
    """Give back the rest of this process's advance."""

    scope: str
    day: str


class Forfeit(msgspec.Struct, frozen=True):
    """Charge the advance of a dead process, as nobody can say what it was used for.

    id: the id of the advance.
    """

    id: str
    scope: str
    day: str
    month: str
    now: float


class Settle(msgspec.Struct, frozen=True):
    """Settle a request. A ticket that was not recorded is opened first, whatever its limits are: the money has been
    spent.
    """

    ticket: Ticket
    settled: Settled
    now: float


class Expire(msgspec.Struct, frozen=True):
    """Charge a request at its reservation: the process that knew its real cost has ended."""

    id: str
    scope: str
    now: float


class Correct(msgspec.Struct, frozen=True):
    """Replace what was charged by the real cost.

    state: the request's state from now on.
    """

    id: str
    scope: str
    cost: int
    state: str
    now: float


class Observe(msgspec.Struct, frozen=True):
    """Update a preset's target with a request's cost or quality.

    pace: its initial state.
    observed: None only reads it.
    """

    name: str
    pace: Pace
    observed: float | None
    at: float = 0.0


class RecordScore(msgspec.Struct, frozen=True):
    """Keep a client's score of an answer, 0 to 1.

    key: the key that the request must belong to; None for any.
    paces: initial states of the presets with a quality target.
    expected: what their answers are forecast to score now.
    """

    id: str
    key: str | None
    score: float
    paces: Mapping[str, Pace]
    expected: Mapping[str, float]
    now: float


class Elsewhere(msgspec.Struct, frozen=True):
    """Count a preset's requests that are under way in other gateways on this ledger."""

    preset: str


Work = Open | Draw | Return | Forfeit | Settle | Expire | Correct | Observe | Elsewhere | RecordScore


def scope_of(work: Work) -> str | None:
    """Return the scope whose windows the work needs; None for none."""
    match work:
        case Open(opened=opened) | Draw(opened=opened) | Settle(ticket=Ticket(opened=opened)):
            return opened.key or NO_KEY
        case Expire() | Correct() | Return() | Forfeit():
            return work.scope
        case _:
            return None


def id_of(work: Work) -> str | None:
    """Return the id of the request that the work needs; None for none."""
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
    """Raise `UsageError` for impossible values, which must not get into the ledger."""
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
    """Raise `UsageError` for an impossible cost."""
    if cost is not None and not (type(cost) is int and 0 <= cost <= MAX_AMOUNT):
        raise UsageError(
            f"cost of request {name!r} is {cost!r}; it is a whole number of nano-dollars from 0 to {MAX_AMOUNT:,}"
        )
