"""The spend limit: a call is made only while the most that it may cost is still there.

Money is counted in whole nano-dollars (1e-9 US dollars), every amount rounded up, so that sums are exact and never
below what was billed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import Protocol

import msgspec

from r2router.text import money

NANOS = 1_000_000_000
"""Nano-dollars per US dollar."""


def nanos(usd: float) -> int:
    """US dollars as nano-dollars, rounded up; what rounding of the float itself adds is no nano-dollar."""
    return max(0, math.ceil(usd * NANOS - 1e-6))


class Hold(msgspec.Struct, frozen=True):
    """Money set aside for a call. maximum: nano-dollars of one attempt at its maximum cost; attempts: so many of them
    may be billed.
    """

    maximum: int = 0
    attempts: int = 0

    @property
    def total(self) -> int:
        """Nano-dollars in all."""
        return self.maximum * self.attempts


class SpendRecord(Protocol):
    """A record of what has been charged; it also remembers money under way if the process is killed."""

    spent_nanos: int

    def in_flight(self, nano: int) -> None:
        """Write down how much is set aside for running calls; if the process is killed it counts as spent."""
        ...


class SpendLimit:
    """Holds back calls whose maximum cost would exceed a limit in US dollars.

    limit_usd: US dollars, or None for no limit.
    ledger: what was spent, and where the money under way is written down.
    """

    def __init__(self, limit_usd: float | None, ledger: SpendRecord) -> None:
        self.limit = None if limit_usd is None else math.floor(limit_usd * NANOS + 1e-6)
        self.ledger = ledger
        self._held = 0
        self._holders = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, maximum: int, attempts: int = 1) -> Hold | None:
        """Set aside what a call may cost, in nano-dollars; None if that is not there.

        It waits while calls under way may still leave enough for one attempt. The further attempts, of a call that
        fails after its endpoint may have billed it, are set aside only as far as there is money for them now.
        """
        while not self._has(maximum):
            if not self._holders:
                return None
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        affordable = next(n for n in range(attempts, 0, -1) if n == 1 or self._has(n * maximum))
        hold = Hold(maximum, affordable)
        self._holders += 1
        self._held += hold.total
        self.ledger.in_flight(self._held)
        return hold

    def give_back(self, hold: Hold) -> None:
        """The call is over and charged."""
        if not hold.attempts:
            return
        self._holders -= 1
        self._held -= hold.total
        self.ledger.in_flight(self._held)
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _has(self, nano: int) -> bool:
        return self.limit is None or self.ledger.spent_nanos + self._held + nano <= self.limit


def dollars(amount: float) -> str:
    """Dollars for a person: finer where they are few, and 0 only for what is 0."""
    if amount >= 10:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.01 else money(amount)
