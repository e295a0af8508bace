"""What OpenAI-compatible endpoints send back: whole replies, streams, usage, and what an error means."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

FailureKind = Literal[
    "key", "credit", "model", "context", "refused", "rate_limit", "server", "timeout", "connection", "malformed", "cut", "interrupted"
]  # fmt: skip
"""Why a call failed. key, credit: nothing will work at this provider; model: nothing with this model; context, refused: this request
never will; interrupted: the user stopped the run before another attempt; the others may pass."""

TRANSIENT: frozenset[FailureKind] = frozenset({"rate_limit", "server", "timeout", "connection", "malformed", "cut"})
"""Failures that another attempt may not meet."""

ASKED_AGAIN: frozenset[FailureKind] = TRANSIENT | {"key", "credit", "model", "refused"}
"""Recorded failures that may pass once the pool, the account or the endpoint is mended: all but a prompt that is too long."""

MAYBE_BILLED: frozenset[FailureKind] = frozenset({"timeout", "malformed", "cut"})
"""Failures after which the provider may bill for an answer that never arrived whole."""

_CONTEXT = re.compile(
    r"context[ _-]?(length|size|window)|maximum context|max(imum)?_(model|seq|context)_len|prompt is too long|too many tokens|"
    r"input (is )?too long|reduce the length|exceeds the maximum number of tokens|range of input length|max_new_tokens. must be",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|model[ _]not[ _](found|exist)|no such model|unknown model|not a valid model|invalid[ _]model[ _](id|name)|"
    r"\bmodel\b.{0,100}\b(does not exist|doesn't exist|is not found)|access to (the )?model",
    re.IGNORECASE,
)
_FLAGGED = re.compile(r"moderation|flagged|content[ _](policy|filter)", re.IGNORECASE)
_CREDIT = re.compile(r"insufficient[_ ](quota|credit|balance|funds)|billing|exceeded your current quota", re.IGNORECASE)


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call as the provider counted them; None: not reported.

    cached, cache_write: parts of input that were read from the provider's prompt cache, and written to it. reasoning: part of output.
    cache_write_1h: part of cache_write that is kept for an hour.
    """

    input: int
    output: int
    cached: int | None = None
    reasoning: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None


def sum_usage(*usages: Usage | None) -> Usage | None:
    """The tokens of several calls, of those that are known; None where none is."""
    known = [u for u in usages if u is not None]
    if not known:
        return None
    return Usage(*(sum(getattr(u, name) or 0 for u in known) for name in Usage.__struct_fields__))


class Message(msgspec.Struct):
    """What the model said; reasoning models put their thinking beside it, under either name."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class Token(msgspec.Struct):
    """One token of an answer, as it comes with log-probabilities."""

    token: str
    bytes: list[int] | None = None


class Logprobs(msgspec.Struct):
    """The tokens of an answer."""

    content: list[Token] | None = None


class Choice(msgspec.Struct):
    """One of the answers; only the first is used."""

    message: Message | None = None
    delta: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class Body(msgspec.Struct):
    """A reply, or one chunk of a stream."""

    choices: list[Choice] = []
    usage: Any = None
    model: str | None = None
    error: Any = None


_body = msgspec.json.Decoder(Body)


class Answer:
    """Collects a reply, whole or chunk by chunk."""

    __slots__ = ("finish_reason", "model", "pieces", "reasoning", "tokens", "usage")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.reasoning: list[str] = []
        self.tokens: list[bytes] = []
        self.finish_reason: str | None = None
        self.usage: Any = None
        self.model: str | None = None

    def add(self, data: bytes) -> Any:
        """Take in a whole reply or a chunk; gives the error it reports instead, or None. Raises `msgspec.DecodeError`."""
        body = _body.decode(data)
        if body.error is not None:
            return body.error
        self.usage = body.usage if body.usage is not None else self.usage
        self.model = self.model or body.model
        for choice in body.choices:
            if choice.index != 0:
                continue
            self.finish_reason = choice.finish_reason or self.finish_reason
            if choice.logprobs is not None:
                tokens = choice.logprobs.content or ()
                self.tokens += [bytes(t.bytes) if t.bytes is not None else t.token.encode() for t in tokens]
            message = choice.message or choice.delta
            text = choice.text if message is None else message.content or message.refusal
            if text:
                self.pieces.append(text)
            if message is not None and (thought := message.reasoning_content or message.reasoning):
                self.reasoning.append(thought)
        return None


def usage_of(reported: Any, _most_output: int | None = None, *, spoke: bool) -> tuple[Usage | None, str]:
    """(usage, "") from a provider's report, or (None, what is wrong with it): a wrong count is no count.

    More than the `max_tokens` that was sent is what the provider bills, and no wrong count. spoke: whether the reply holds any text.
    """
    if not isinstance(reported, dict):
        return None, "the reply reports no usage"
    details_in = reported.get("prompt_tokens_details") or {}
    details_out = reported.get("completion_tokens_details") or {}
    cached = details_in.get("cached_tokens") if isinstance(details_in, dict) else None
    cached = reported.get("prompt_cache_hit_tokens") if cached is None else cached  # DeepSeek's name for it
    reasoning = details_out.get("reasoning_tokens") if isinstance(details_out, dict) else None
    try:
        usage = msgspec.convert((reported.get("prompt_tokens"), reported.get("completion_tokens"), cached, reasoning), _Counts)
    except msgspec.ValidationError:
        return None, f"the reply reports impossible usage: {str(reported)[:120]}"
    given, made, cached, reasoning = usage
    sound = given > 0 and min(made, cached or 0, reasoning or 0) >= 0 and (cached or 0) <= given
    total = reported.get("total_tokens")
    beside = total - given - made if type(total) is int and sound else 0
    if beside > 0 and (reasoning or 0) in (0, beside):  # Gemini and xAI count thinking in the total alone, and bill it as output
        made, reasoning = made + beside, beside
    elif reasoning is not None and reasoning > made:  # others do not say a total that tells
        made += reasoning
    if not sound or max(given, made) > _MOST_TOKENS or (spoke and made == 0):
        return None, f"the reply reports impossible usage: {str(reported)[:120]}"
    return Usage(given, made, cached, reasoning), ""


_Counts = tuple[int, int, int | None, int | None]
_MOST_TOKENS = 20_000_000  # of one call: more than any model reads or writes, so a slip of the endpoint


def kind_of(status: int, words: str) -> FailureKind:
    """What an HTTP error means."""
    if status == 403 and _FLAGGED.search(words):  # OpenRouter, of this prompt
        return "refused"
    if status in (400, 403) and _NO_MODEL.search(words):
        return "model"
    if status in (401, 403):
        return "key"
    if status == 402 or (status == 429 and _CREDIT.search(words)):
        return "credit"
    if status == 413 or (status in (400, 422, 500) and _CONTEXT.search(words)):
        return "context"
    if status == 404:
        return "model"
    if status == 429:
        return "rate_limit"
    if status in (408, 409, 425) or status >= 500:
        return "server"
    return "refused"


def said(reply: bytes) -> str:
    """What an error reply says, in one line of at most 300 characters."""
    words = reply.decode("utf-8", "replace")
    try:
        detail = msgspec.json.decode(reply)
        detail = detail[0] if isinstance(detail, list) and detail else detail  # Gemini wraps its errors in a list
        detail = detail.get("error", detail)
        if isinstance(detail, dict):
            parts = [str(detail[k]) for k in ("message", "code", "type") if detail.get(k) not in (None, "")]
            words = f"{parts[0]} ({', '.join(parts[1:])})" if len(parts) > 1 else "".join(parts) or words
        else:
            words = str(detail)
    except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, RecursionError):
        pass
    line = " ".join("".join(c if c.isprintable() else " " for c in words).split())
    return line if len(line) <= 300 else line[:297] + "..."
