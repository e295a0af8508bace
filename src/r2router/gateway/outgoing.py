"""The response to the client: sent at the client's pace, with keep-alives while nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from r2router.gateway.incoming import Gone, Incoming, Send

Headers = Sequence[tuple[bytes, bytes]]


class Aborted(Exception):
    """The response cannot be completed; its connection must be closed."""


class Outgoing:
    """The response to one request.

    started: whether the status has gone out.
    sent: bytes of the body so far.
    first_at: when the first of them was sent, by the loop's clock.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self.sent = 0
        self.first_at: float | None = None
        self._sending_since: float | None = None
        self._idle_since = 0.0

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a response in one piece."""
        self.started = True
        sized = [(k, v) for k, v in headers if k != b"content-length"]
        sized.append((b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": sized})
        self.first_at = asyncio.get_running_loop().time()
        self.sent += len(body)
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of a response whose body comes in pieces."""
        self.started = True
        self._idle_since = asyncio.get_running_loop().time()
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})

    async def write(self, data: bytes) -> None:
        """Send a piece; waits until the client has taken the earlier ones."""
        if not data:
            return
        loop = asyncio.get_running_loop()
        self._sending_since = loop.time()
        if self.first_at is None:
            self.first_at = self._sending_since
        self.sent += len(data)
        try:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            self._sending_since = None
            self._idle_since = loop.time()

    async def end(self) -> None:
        """End the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def idle(self) -> float:
        """Seconds since the last piece; 0 while one is being sent."""
        return 0.0 if self._sending_since is not None else asyncio.get_running_loop().time() - self._idle_since

    def stalled(self) -> float:
        """Seconds for which the client has not taken a piece."""
        return 0.0 if self._sending_since is None else asyncio.get_running_loop().time() - self._sending_since


class Presence:
    """Cancels the current task when its client leaves: `async with Presence(incoming): ...` then raises `Gone`."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._task: asyncio.Task[None] | None = None
        self._worker: asyncio.Task[object] | None = None
        self.gone = ""

    async def __aenter__(self) -> Presence:
        self._worker = asyncio.current_task()
        self._task = asyncio.get_running_loop().create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        task = self._task
        if task is not None and not task.done():
            task.cancel()
        if not self.gone or self._worker is None:
            return False
        if kind is None:  # it left as the work ended; what it was cancelled with is still to come
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        self._worker.uncancel()
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            raise Gone(self.gone) from None
        return False

    def leave(self, why: str) -> None:
        """Cancel the work as if the client had left."""
        if not self.gone and self._worker is not None:
            self.gone = why
            self._worker.cancel()

    async def _watch(self) -> None:
        with suppress(asyncio.CancelledError):
            while (await self._incoming.receive())["type"] != "http.disconnect":
                pass
            self.leave("its client left")
