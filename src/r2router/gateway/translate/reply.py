"""Replies between two wire formats. Both streams and whole replies are read into the same events, and written from
them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from r2router.gateway.splice import NotJson, encoded
from r2router.upstream.content import decoded
from r2router.upstream.usage import Usage, usage_of

Ending = Literal["stop", "length", "tools", "refusal"]
"""Why an answer ended: by itself or at a stop sequence, at a token limit, with tool calls, or with a refusal."""


class ReplyStart(msgspec.Struct, frozen=True):
    """The reply begins.

    id: the provider's id of the reply.
    model: the provider's name of the model.
    """

    id: str
    model: str


class TextDelta(msgspec.Struct, frozen=True):
    """A piece of the answer's text.

    kind: the answer itself, thinking, or the text of a refusal.
    """

    kind: Literal["text", "thinking", "refusal"]
    text: str


class ToolCallStart(msgspec.Struct, frozen=True):
    """A tool call begins.

    key: the number of the call within the reply; `ArgumentsDelta` refers to it.
    """

    key: int
    id: str
    name: str


class ArgumentsDelta(msgspec.Struct, frozen=True):
    """A piece of the JSON arguments of the tool call `key`."""

    key: int
    text: str


class AnswerEnd(msgspec.Struct, frozen=True):
    """The answer has ended. A `UsageReport` may still follow.

    sequence: the stop sequence at which it ended.
    """

    ending: Ending
    sequence: str | None = None


class UsageReport(msgspec.Struct, frozen=True):
    """The token counts that the provider reports. A later report replaces an earlier one."""

    usage: Usage


class StreamEnd(msgspec.Struct, frozen=True):
    """The mark with which the format ends a stream."""


Event = ReplyStart | TextDelta | ToolCallStart | ArgumentsDelta | AnswerEnd | UsageReport | StreamEnd


class ReplyReader(ABC):
    """Reads one reply of a provider into events. It keeps the state of a stream."""

    @abstractmethod
    def event(self, name: bytes, body: dict[str, Any]) -> Iterator[Event]:
        """Read one event of a stream."""

    @abstractmethod
    def whole(self, body: dict[str, Any]) -> Iterator[Event]:
        """Read a whole reply."""

    def done(self) -> Iterator[Event]:
        """Read the `[DONE]` mark."""
        yield StreamEnd()


class ReplyWriter(ABC):
    """Writes one reply for a client.

    shown: the model name that the client sees; None shows the provider's.
    input_tokens: an estimate, shown before the provider reports its count.
    usage: whether a stream reports token counts.
    """

    def __init__(self, *, shown: str | None, input_tokens: int, usage: bool) -> None:
        self.shown, self.input_tokens, self.reports = shown, input_tokens, usage
        self.id, self.model = "", ""
        self.usage: Usage | None = None
        self.ended: AnswerEnd | None = None

    @abstractmethod
    def stream(self, event: Event) -> Iterator[bytes]:
        """Write the part of a stream that one event causes."""

    @abstractmethod
    def reply(self, events: Iterable[Event]) -> dict[str, Any]:
        """Write a whole reply."""

    def note(self, event: Event) -> None:
        """Keep what later events need: id, model, usage and ending."""
        if isinstance(event, ReplyStart):
            self.id, self.model = event.id or self.id, self.shown or event.model or self.model
        elif isinstance(event, UsageReport):
            self.usage = event.usage
        elif isinstance(event, AnswerEnd):
            self.ended = event


class ReplyTranslator:
    """Translates one reply. Events that cannot be read are dropped, never passed on."""

    def __init__(self, reader: ReplyReader, writer: ReplyWriter) -> None:
        self._reader, self._writer = reader, writer
        self._closed = False

    def event(self, name: bytes, data: bytes) -> bytes:
        """Translate one event of the provider's stream into events of the client's format."""
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
        """End a stream whose answer is complete but whose end mark did not come."""
        return self._written((StreamEnd(),))

    def _written(self, events: Iterable[Event]) -> bytes:
        parts: list[bytes] = []
        for event in events:
            if not self._closed:
                self._closed = isinstance(event, StreamEnd)
                parts += self._writer.stream(event)
        return b"".join(parts)

    def whole(self, data: bytes) -> bytes:
        """Translate a whole reply. Raises `NotJson`."""
        try:
            body = decoded(data)
        except ValueError as error:
            raise NotJson(str(error)) from None
        if not isinstance(body, dict):
            raise NotJson("not a JSON object")
        return encoded(self._writer.reply(self._reader.whole(body)))


def spent(reported: Any) -> Iterator[Event]:
    """Read token counts from a report; gives nothing where they cannot be read."""
    usage, _ = usage_of(reported, spoke=False)
    if usage is not None:
        yield UsageReport(usage)


def sse(body: dict[str, Any], name: str = "") -> bytes:
    """Format one server-sent event."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + encoded(body) + b"\n\n"
