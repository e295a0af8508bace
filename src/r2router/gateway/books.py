"""What the request path asks of a ledger; and one that keeps nothing."""

from __future__ import annotations

from typing import Any, Protocol

from r2router.gateway.ledger import Opened, Settled, Ticket


class Books(Protocol):
    """Where requests are written down: `Ledger` is one."""

    async def open(self, opened: Opened) -> Ticket:
        """Before anything is sent upstream. Raises a `Refused`."""
        ...

    async def settle(self, ticket: Ticket, settled: Settled) -> Any:
        """When it is over, once."""
        ...


class NoBooks:
    """Keeps nothing, and so holds no limit."""

    async def open(self, opened: Opened) -> Ticket:
        return Ticket(opened.id, opened, recorded=False)

    async def settle(self, ticket: Ticket, settled: Settled) -> None:
        pass
