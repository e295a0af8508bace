"""A wire format: how its requests are read and edited, how its replies are read, and how its errors look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import msgspec

from r2router.errors import Refused
from r2router.gateway.conversation import Ceilings, Conversation
from r2router.gateway.error_bodies import openai_error
from r2router.gateway.splice import Items, Members, with_words
from r2router.types import Enforcement, Provider
from r2router.upstream.content import decoded
from r2router.upstream.endpoint import LONGEST_ANSWER

Speaks = Literal["chat", "responses", "messages", "completions", "embeddings"]
"""The endpoints that a provider has: what stands behind its base URL."""


class ReplyWatch:
    """Reads a reply while it is relayed. It skips what it cannot read rather than delay the reply.

    usage: the provider's token report, merged from all events.
    finish: why the answer ended.
    error: the error that the provider reported under status 200.
    begun: whether any part of the answer has come.
    whole: whether its end has come.
    characters: number of text characters relayed.
    model: the model that the reply names.
    keeps: whether to keep the answer's text, without thinking.
    calls: whether the answer calls tools.
    most_tokens: the most output tokens that are counted for what was relayed, whatever its length.
    """

    def __init__(self) -> None:
        self.usage: Any = None
        self.finish: str | None = None
        self.error: Any = None
        self.begun = self.whole = False
        self.characters = 0
        self.model: str | None = None
        self.keeps = self.calls = False
        self.most_tokens = LONGEST_ANSWER
        self._words: list[str] = []

    @property
    def words(self) -> str:
        return "".join(self._words)

    def heard(self, words: str) -> None:
        """Add a piece of the answer."""
        if self.keeps and words:
            self._words.append(words)

    def event(self, name: bytes, data: bytes) -> None:
        """Read an event of a stream."""
        if not data or data[:1] not in b"{[":
            return
        try:
            body = decoded(data)
        except ValueError:
            return
        if isinstance(body, dict):
            self.take(name, body)

    def take(self, name: bytes, body: dict[str, Any]) -> None:
        """Read the data of an event."""

    def reply(self, body: dict[str, Any]) -> None:
        """Read a whole reply."""

    def reply_bytes(self, data: bytes) -> None:
        """Read the bytes of a whole reply; do nothing where they cannot be read."""
        try:
            body = decoded(data)
        except ValueError:
            return
        if isinstance(body, list) and len(body) == 1:  # Gemini wraps its errors in a list
            body = body[0]
        if isinstance(body, dict):
            self.reply(body)

    def surplus(self, data: bytes) -> bool:
        """Whether the event came only because the gateway asked for it, so that the client must not see it."""
        return False


class Dialect(ABC):
    """One wire format. It has no state.

    name: its name, also in a provider's `speaks`.
    path: the path after `/v1` at the gateway, and after the provider's base URL.
    cap: the field for the maximum number of output tokens.
    ping: the bytes that keep a silent stream alive; empty where the format has none.
    routed: whether clients may ask for `auto`.
    """

    name: ClassVar[Speaks]
    path: ClassVar[str]
    cap: ClassVar[str]
    ping: ClassVar[bytes] = b": keep-alive\n\n"
    routed: ClassVar[bool] = True
    shows_asked: ClassVar[bool] = False
    """Whether replies show the model that was asked for where no setting says otherwise; else the one that served."""

    def error(self, refused: Refused, request_id: str) -> bytes:
        """Make the body of an error."""
        return msgspec.json.encode(openai_error(refused))

    @abstractmethod
    def read(self, body: Members) -> Conversation:
        """Read what routing needs from a request. Content that cannot be read never raises: the provider judges it."""

    @abstractmethod
    def ceilings(self, body: Members) -> Ceilings:
        """Read the limits that the caller sets."""

    @abstractmethod
    def enforce(self, body: Members, sent: Enforcement, provider: Provider) -> None:
        """Write a budget into the request, in the provider's field names."""

    @abstractmethod
    def watch(self) -> ReplyWatch:
        """Make a reader for one reply."""

    @abstractmethod
    def broken(self, refused: Refused, request_id: str, watch: ReplyWatch) -> bytes:
        """Make the events that end a broken stream, so that no client takes it for complete."""

    @abstractmethod
    def renamed(self, data: bytes, model: str) -> bytes:
        """Replace the model's name in an event or a whole reply; unchanged where there is none."""

    def ask_usage(self, body: Members) -> bool:
        """Ask for token counts in a streamed reply. Returns whether that adds an event that the client did not
        ask for.
        """
        return False


def append_words(body: Members, key: str, words: str, *, role: str, kind: str) -> None:
    """Append text to the last message of that role in a list of messages; do nothing where there is none.

    kind: the type of a text part.
    """
    raw = body.raw(key)
    if raw is None or raw[:1] != b"[":
        return
    messages = Items(raw)
    for at in reversed(range(len(messages))):
        if messages[at][:1] != b"{":
            continue
        message = Members(messages[at])
        if message.get("role") != role:
            continue
        content = message.raw("content")
        if content is not None and content[:1] == b'"':
            message.set("content", with_words(content, f"\n\n{words}"))
        elif content is not None and content[:1] == b"[":
            parts = Items(content)
            parts.append(msgspec.json.encode({"type": kind, "text": words}))
            message.set("content", parts.render())
        else:
            return
        messages.set(at, message.render())
        body.set(key, messages.render())
        return


_DIGITS = 20


def count(value: Any) -> int | None:
    """Return the token count that a caller gave; None for anything else."""
    digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def minimum(*values: int | None) -> int | None:
    """Return the smallest of the given numbers; None counts as not given."""
    return min((v for v in values if v is not None), default=None)


def maximum(*values: int | None) -> int | None:
    """The largest of those that are given."""
    return max((v for v in values if v is not None), default=None)
