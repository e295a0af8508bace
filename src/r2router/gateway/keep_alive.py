"""Keep-alives for a client that waits for a stream.

They also end an answer that takes too long, or whose client does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from r2router.gateway.config import Bounds
from r2router.gateway.outgoing import Headers, Outgoing, Presence
from r2router.gateway.tap import Tap


class KeepAlive:
    """Sends the keep-alives of one request.

    ping: the bytes of a keep-alive; empty where the client takes none.
    began: when the request began, by the loop's clock.
    head: the headers of a stream that begins with a keep-alive.
    tap: reads the answer, once it has come.
    """

    def __init__(self, out: Outgoing, bounds: Bounds, ping: bytes, began: float, head: Callable[[], Headers]) -> None:
        self._out, self._bounds, self._ping, self._began, self._head = out, bounds, ping, began, head
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._presence: Presence | None = None
        self.tap: Tap | None = None

    def begin(self, presence: Presence) -> None:
        """Start watching."""
        self._presence = presence
        every = self._bounds.keepalive_s
        rest = every - self._out.idle() if self._out.started else every
        self._timer = asyncio.get_running_loop().call_later(max(rest, every / 10), self._tick)

    def end(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        loop, bounds, presence, out = asyncio.get_running_loop(), self._bounds, self._presence, self._out
        if presence is None or presence.gone:
            return
        if out.stalled() > bounds.stall_s:
            presence.leave(f"its client took nothing for {bounds.stall_s:g} s")
            return
        if loop.time() - self._began > bounds.longest_s:
            presence.leave(f"it took more than {bounds.longest_s:g} s")
            return
        at_end = self.tap is None or (self.tap.at_end and self.tap.streamed is not False)
        quiet = out.idle() >= 0.9 * bounds.keepalive_s if out.started else True
        if self._ping and quiet and at_end and not out.stalled() and (self._sending is None or self._sending.done()):
            self._sending = loop.create_task(self._send())
        self.begin(presence)

    async def _send(self) -> None:
        if not self._out.started:
            await self._out.start(200, self._head())
        await self._out.write(self._ping)
