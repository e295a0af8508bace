"""`/v1/completions` and `/v1/embeddings`: counted and billed, but never routed."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from r2router.gateway.conversation import Ceilings, Conversation
from r2router.gateway.dialects.chat import Chat, ChatWatch
from r2router.gateway.dialects.dialect import ReplyWatch, Speaks, count
from r2router.gateway.splice import Members
from r2router.types import Enforcement, Provider

_DEFAULT_CAP = 16  # what their documentation has for none


class Completions(Chat):
    """OpenAI's legacy text completions."""

    name: ClassVar[Speaks] = "completions"
    path = "/completions"
    routed = False

    def read(self, body: Members) -> Conversation:
        found = Conversation()
        prompt = body.get("prompt")
        found.human(
            [prompt]
            if isinstance(prompt, str)
            else [p for p in prompt if isinstance(p, str)]
            if isinstance(prompt, list)
            else []
        )
        return found

    def ceilings(self, body: Members) -> Ceilings:
        said, prompt = Chat.ceilings(self, body), body.get("prompt")
        many = isinstance(prompt, list) and prompt and not isinstance(prompt[0], int)  # texts, or lists of tokens
        return Ceilings(
            max_tokens=said.max_tokens or _DEFAULT_CAP,
            largest=said.largest or _DEFAULT_CAP,
            answers=max(said.answers, count(body.get("best_of")) or 0) * (len(prompt) if many else 1),
        )

    def enforce(self, body: Members, sent: Enforcement, provider: Provider) -> None:
        """Do nothing: budgets were never measured for this endpoint."""


class EmbeddingsWatch(ChatWatch):
    """Reads replies that report only input tokens."""

    def reply_bytes(self, data: bytes) -> None:
        """Read a whole reply, without its vectors."""
        try:
            found = _embeddings.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if found.error:
            self.error = found.error
            return
        if found.usage is not None:
            self.usage = {"completion_tokens": 0, **found.usage}
        self.model, self.whole = found.model, True


class _EmbeddingsReport(msgspec.Struct):
    usage: dict[str, Any] | None = None
    model: str | None = None
    error: Any = None


_embeddings = msgspec.json.Decoder(_EmbeddingsReport)


class Embeddings(Completions):
    """OpenAI's embeddings."""

    name: ClassVar[Speaks] = "embeddings"
    path = "/embeddings"

    def read(self, body: Members) -> Conversation:
        return Conversation()

    def ceilings(self, body: Members) -> Ceilings:
        return Ceilings(max_tokens=0, largest=0)

    def watch(self) -> ReplyWatch:
        return EmbeddingsWatch()
