"""What a wire format is to the gateway: how its requests are read and edited, how its replies are watched, how its
errors look.
"""

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

Speaks = Literal["chat", "responses", "messages", "completions", "embeddings"]
"""The endpoints that a provider has: what stands behind its base URL."""


class ReplyWatch:
    """Reads a reply beside its relay, and gives up rather than hold it up.

    usage: the report as it came, of all events put together.
    finish: why the answer ended.
    error: what the provider reported within a status of 200.
    begun: whether anything of the answer came.
    whole: whether its end came.
    characters: of text that were relayed.
    model: which one says that it answered.
    keeps: whether the words of the answer are kept, without thinking.
    calls: whether it calls tools.
    """

    def __init__(self) -> None:
        self.usage: Any = None
        self.finish: str | None = None
        self.error: Any = None
        self.begun = self.whole = False
        self.characters = 0
        self.model: str | None = None
        self.keeps = self.calls = False
        self._words: list[str] = []

    @property
    def words(self) -> str:
        return "".join(self._words)

    def heard(self, words: str) -> None:
        """A piece of the answer."""
        if self.keeps and words:
            self._words.append(words)

    def event(self, name: bytes, data: bytes) -> None:
        """Take in an event of a stream."""
        if not data or data[:1] not in b"{[":
            return
        try:
            body = decoded(data)
        except ValueError:
            return
        if isinstance(body, dict):
            self.take(name, body)

    def take(self, name: bytes, body: dict[str, Any]) -> None:
        """Take in the data of an event."""

    def reply(self, body: dict[str, Any]) -> None:
        """Take in a whole reply."""

    def reply_bytes(self, data: bytes) -> None:
        """Take in a whole reply as it came; nothing where it is not understood."""
        try:
            body = decoded(data)
        except ValueError:
            return
        if isinstance(body, list) and len(body) == 1:  # Gemini wraps its errors in a list
            body = body[0]
        if isinstance(body, dict):
            self.reply(body)

    def surplus(self, data: bytes) -> bool:
        """Whether the event is there only because the gateway asked for it, so that the client must not see it."""
        return False


class Dialect(ABC):
    """One wire format. It has no state.

    name: also what a provider `speaks`.
    path: of the gateway, behind `/v1`, and of the provider, behind its base URL.
    cap: the field of the most output tokens.
    ping: what keeps a silent stream alive; empty where nothing can.
    routed: whether `auto` may be asked for.
    """

    name: ClassVar[Speaks]
    path: ClassVar[str]
    cap: ClassVar[str]
    ping: ClassVar[bytes] = b": keep-alive\n\n"
    routed: ClassVar[bool] = True
    shows_asked: ClassVar[bool] = False
    """Whether replies show the model that was asked for where no setting says otherwise; else the one that served."""

    def error(self, refused: Refused, request_id: str) -> bytes:
        """The body of an error."""
        return msgspec.json.encode(openai_error(refused))

    @abstractmethod
    def read(self, body: Members) -> Conversation:
        """What a request says. It never raises for content that is not understood: the provider is the judge of
        that.
        """

    @abstractmethod
    def ceilings(self, body: Members) -> Ceilings:
        """What the caller allows at most."""

    @abstractmethod
    def enforce(self, body: Members, sent: Enforcement, provider: Provider) -> None:
        """Write a budget into the request, in the names that the provider has for it."""

    @abstractmethod
    def watch(self) -> ReplyWatch:
        """A new observer of one reply."""

    @abstractmethod
    def broken(self, refused: Refused, request_id: str, watch: ReplyWatch) -> bytes:
        """The events that end a stream which broke off, so that no client takes it for whole."""

    @abstractmethod
    def renamed(self, data: bytes, model: str) -> bytes:
        """The data of an event, or a whole reply, with another name of the model; as they are where they have none."""

    def ask_usage(self, body: Members) -> bool:
        """Have a streamed reply report its usage; whether that adds an event that the client did not ask for."""
        return False


def append_words(body: Members, key: str, words: str, *, role: str, kind: str) -> None:
    """Put words behind the text of the last message of that role in the list of messages; nothing where there is none.

    kind: the type of a part of text.
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
    """A whole number that a caller gave; None for anything else. Some providers also take it as `3.0` or `"3"`."""
    digits = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS
    if digits or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if type(value) is int and value >= 0 else None


def minimum(*values: int | None) -> int | None:
    """The smallest of those that are given."""
    return min((v for v in values if v is not None), default=None)


def maximum(*values: int | None) -> int | None:
    """The largest of those that are given."""
    return max((v for v in values if v is not None), default=None)
