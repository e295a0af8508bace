"""What the request path needs of a ledger; and a stand-in that keeps nothing."""

from __future__ import annotations

from typing import Any, Protocol

from r2router.gateway.ledger import Opened, Settled, Ticket


class Books(Protocol):
    """A record of requests; `Ledger` is one."""

    async def open(self, opened: Opened) -> Ticket:
        """Record a request before anything is sent upstream. Raises a `Refused`."""
        ...

    async def settle(self, ticket: Ticket, settled: Settled) -> Any:
        """Record the end of a request, once."""
        ...


class NoBooks:
    """Keeps nothing, so no limit can hold."""

    async def open(self, opened: Opened) -> Ticket:
        return Ticket(opened.id, opened, recorded=False)

    async def settle(self, ticket: Ticket, settled: Settled) -> None:
        pass
