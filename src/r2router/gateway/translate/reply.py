"""A reply between two formats: read into events, of a stream or of a whole reply alike, and written from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from r2router.gateway.splice import NotJson, encoded
from r2router.upstream.content import decoded
from r2router.upstream.usage import Usage, usage_of

Ending = Literal["stop", "length", "tools", "refusal"]
"""Why an answer ended: by itself or at a stop sequence, at a limit, with calls of tools, with a refusal."""


class Begin(msgspec.Struct, frozen=True):
    """The reply begins. id, model: the provider's."""

    id: str
    model: str


class Words(msgspec.Struct, frozen=True):
    """A piece of the answer. kind: whether it is the answer, thinking, or the words of a refusal."""

    kind: Literal["text", "thinking", "refusal"]
    text: str


class Calling(msgspec.Struct, frozen=True):
    """A call of a tool begins. key: which one; pieces of its arguments name it."""

    key: int
    id: str
    name: str


class Arguments(msgspec.Struct, frozen=True):
    """A piece of the arguments of a call."""

    key: int
    text: str


class Ended(msgspec.Struct, frozen=True):
    """The answer is over. usage may come behind it."""

    ending: Ending
    sequence: str | None = None


class Spent(msgspec.Struct, frozen=True):
    """What the provider reports, in whatever names it has; later ones go before."""

    usage: Usage


class Closed(msgspec.Struct, frozen=True):
    """The end of the stream, as its format marks it."""


Event = Begin | Words | Calling | Arguments | Ended | Spent | Closed


class Reader(ABC):
    """Reads the replies of a provider. It holds what of a stream must be known later."""

    @abstractmethod
    def event(self, name: bytes, body: dict[str, Any]) -> Iterator[Event]:
        """Of an event of a stream."""

    @abstractmethod
    def whole(self, body: dict[str, Any]) -> Iterator[Event]:
        """Of a whole reply."""

    def done(self) -> Iterator[Event]:
        """Of `[DONE]`."""
        yield Closed()


class Writer(ABC):
    """Writes replies for a client. shown: the name of the model; None for the one that served. usage: whether a stream
    is to report it.
    """

    def __init__(self, *, shown: str | None, input_tokens: int, usage: bool) -> None:
        self.shown, self.input_tokens, self.reports = shown, input_tokens, usage
        self.id, self.model = "", ""
        self.usage: Usage | None = None
        self.ended: Ended | None = None

    @abstractmethod
    def stream(self, event: Event) -> Iterator[bytes]:
        """What of a stream goes out for an event."""

    @abstractmethod
    def reply(self, events: Iterable[Event]) -> dict[str, Any]:
        """A whole reply."""

    def note(self, event: Event) -> None:
        """Keep what is needed later."""
        if isinstance(event, Begin):
            self.id, self.model = event.id or self.id, self.shown or event.model or self.model
        elif isinstance(event, Spent):
            self.usage = event.usage
        elif isinstance(event, Ended):
            self.ended = event


class Turning:
    """Turns one reply. What is not understood is left out, never passed on."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader, self._writer = reader, writer
        self._closed = False

    def event(self, name: bytes, data: bytes) -> bytes:
        """An event of the provider's stream, as those of the client's."""
        if data == b"[DONE]":
            found = self._reader.done()
        else:
            try:
                body = decoded(data)
            except ValueError:
                return b""
            if not isinstance(body, dict):
                return b""
            found = self._reader.event(name, body)
        return self._written(found)

    def end(self) -> bytes:
        """The end of a stream whose answer ended, and whose format's own end did not come."""
        return self._written((Closed(),))

    def _written(self, events: Iterable[Event]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            if not self._closed:
                self._closed = isinstance(event, Closed)
                parts += self._writer.stream(event)
        return b"".join(parts)

    def whole(self, data: bytes) -> bytes:
        """A whole reply. Raises `NotJson`."""
        try:
            body = decoded(data)
        except ValueError as error:
            raise NotJson(str(error)) from None
        if not isinstance(body, dict):
            raise NotJson("not a JSON object")
        return encoded(self._writer.reply(self._reader.whole(body)))


def spent(reported: Any) -> Iterator[Event]:
    """The usage of a report, where it can be read."""
    usage, _ = usage_of(reported, spoke=False)
    if usage is not None:
        yield Spent(usage)


def sse(body: dict[str, Any], name: str = "") -> bytes:
    """An event of a stream."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + encoded(body) + b"\n\n"
