"""The spending limit: a call is made only while what it may cost at most is still there."""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from r2router.text import money


class Hold(msgspec.Struct, frozen=True):
    """Money set aside for a call. most: US dollars of one attempt at its dearest; attempts: so many of them may be billed."""

    most: float = 0.0
    attempts: int = 0


class Purse:
    """limit: US dollars, or None. spent: what has been charged; set by whoever keeps the journal."""

    def __init__(self, limit: float | None, spent: float) -> None:
        self.limit, self.spent = limit, spent
        self._held = 0.0
        self._holders = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, most: float, attempts: int = 1) -> Hold | None:
        """Set aside what a call may cost; None if that is not there.

        It waits while calls under way may still leave enough for one attempt. The further attempts, of a call that fails after its
        endpoint may have billed it, are set aside only as far as there is money for them now.
        """
        if self.limit is None:
            return Hold(most, attempts)
        while not self._has(most):
            if not self._holders:
                return None
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        affordable = next(n for n in range(attempts, 0, -1) if n == 1 or self._has(n * most))
        self._holders += 1
        self._held += affordable * most
        return Hold(most, affordable)

    def give_back(self, hold: Hold) -> None:
        """The call is over and charged."""
        if self.limit is None or not hold.attempts:
            return
        self._holders -= 1
        self._held = self._held - hold.attempts * hold.most if self._holders else 0.0
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _has(self, usd: float) -> bool:
        return self.limit is None or self.spent + self._held + usd <= self.limit


def dollars(amount: float) -> str:
    """Dollars for a person: finer where they are few, and 0 only for what is 0."""
    if amount >= 10:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.01 else money(amount)
