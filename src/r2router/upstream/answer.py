"""One answer out of what an OpenAI-compatible endpoint sends, whole or chunk by chunk, in the shapes that endpoints
really use.
"""

from __future__ import annotations

import codecs
from typing import Any, Literal

import msgspec

from r2router.upstream.content import joined_pieces, tokens_of, words_of
from r2router.upstream.endpoint import TooMuch
from r2router.upstream.usage import larger, reports_in

BROKEN_OFF = frozenset(
    {
        *(
            "abort",
            "aborted",
            "error",
            "failed",
            "failure",
            "cancel",
            "cancelled",
            "canceled",
            "interrupted",
            "timeout",
            "timed_out",
        ),
        *(
            "network_error",
            "server_error",
            "internal_error",
            "engine_error",
            "engine_overloaded",
            "overloaded",
            "user_cancel",
        ),
        *("insufficient_system_resource", "service_unavailable"),
    }
)
"""Finish reasons (in lower case) of an answer that the endpoint did not end by itself: a failure that may pass, and no
outcome.

So is every other one that speaks of an error.
"""

_NO_REASON = frozenset({"", "null", "none"})  # DashScope and others say so while they are not done
_MAX_CHOICES = 8


class _PlainDelta(msgspec.Struct):
    """A delta that says nothing but text or thinking."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_text: None = None
    thinking: None = None
    reasoning_details: None = None
    refusal: None = None
    usage: None = None


class _PlainChoice(msgspec.Struct):
    """The one choice of a chunk that says nothing but a delta."""

    delta: _PlainDelta
    index: Literal[0] = 0
    finish_reason: None = None
    finishReason: None = None  # noqa: N815  Gemini's
    finish_details: None = None
    message: None = None
    text: None = None
    logprobs: None = None
    error: None = None
    usage: None = None


class _PlainChunk(msgspec.Struct):
    """Nearly every chunk of nearly every stream: every field that means anything has its usual type here, or is
    absent.
    """

    choices: tuple[_PlainChoice]
    model: str | None = None
    object: Literal["chat.completion.chunk"] | None = None
    error: None = None
    usage: None = None
    x_groq: None = None
    timings: None = None


_plain = msgspec.json.Decoder(_PlainChunk)


class _Said:
    """What one choice has said in one way: in deltas, in whole messages, or as a plain completion."""

    __slots__ = ("pieces", "reasoning")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.reasoning: list[str] = []

    def add(self, words: str, thought: str) -> int:
        if words:
            self.pieces.append(words)
        if thought:
            self.reasoning.append(thought)
        return len(words) + len(thought)

    def repeat(self, words: str, thought: str) -> int:
        """Add a message like `add`, where each message may repeat everything before it, as Perplexity's do."""
        grown = 0
        for kept, said in ((self.pieces, words), (self.reasoning, thought)):
            if len(kept) == 1 and said.startswith(kept[0]):
                grown += len(said) - len(kept[0])
                kept[0] = said
            elif said:
                grown += len(said)
                kept.append(said)
        return grown


class _ChoiceText:
    __slots__ = ("deltas", "finish_reason", "messages", "plain", "tokens")

    def __init__(self) -> None:
        self.deltas, self.messages, self.plain = _Said(), _Said(), _Said()
        self.tokens: list[bytes] = []
        self.finish_reason: str | None = None


class ReplyBuilder:
    """Collects a reply, whole or chunk by chunk. Of several choices the one with the lowest index counts.

    maximum: characters that are kept of it.
    usage: the report as it came.
    seen: whether anything came that is a reply, or a part of one.
    """

    def __init__(self, maximum: int) -> None:
        self._left = self._max = maximum
        self._choices: dict[int, _ChoiceText] = {}
        self.usage: Any = None
        self.model: str | None = None
        self.seen = False

    def add_plain(self, data: bytes) -> bool:
        """Take in a chunk of the usual kind, in a tenth of the time of `add`; false where it is of another kind."""
        try:
            chunk = _plain.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if self.model is None and chunk.model:
            return False
        mine = self._choices.get(0)
        if mine is None:
            mine = self._choices[0] = _ChoiceText()
        self.seen = True
        delta = chunk.choices[0].delta
        self._left -= mine.deltas.add(delta.content or "", delta.reasoning_content or delta.reasoning or "")
        self._check()
        return True

    def _check(self) -> None:
        if self._left < 0:
            raise TooMuch(f"said more than {self._max:,} characters, far more than the request allows")

    def add(self, body: Any) -> Any:
        """Take in a whole reply or a chunk; gives the error that it reports instead, or None.

        Raises `TypeError` for anything that is not a reply, `TooMuch` where it is longer than the request allows.
        """
        if isinstance(body, list) and len(body) == 1:  # Gemini wraps its errors in a list
            body = body[0]
        if not isinstance(body, dict):
            raise TypeError("no reply")
        if error := body.get("error") or (body if body.get("object") == "error" else None):
            return error
        self.seen = True
        for reported in reports_in(body):
            self.usage = larger(self.usage, reported)
        if self.model is None and isinstance(model := body.get("model"), str):
            self.model = "".join(c for c in model[:200] if c.isprintable()) or None
        choices = body.get("choices")
        for position, choice in enumerate(
            [choices] if isinstance(choices, dict) else choices if isinstance(choices, list) else ()
        ):
            if isinstance(choice, dict):
                if error := choice.get("error"):
                    return error
                self._add_choice(choice, position)
        return None

    def _add_choice(self, choice: dict[str, Any], position: int) -> None:
        index = choice.get("index")
        index = index if type(index) is int else position
        if index not in self._choices and len(self._choices) >= _MAX_CHOICES:
            return
        mine = self._choices.setdefault(index, _ChoiceText())
        delta, message, text = choice.get("delta"), choice.get("message"), choice.get("text")
        if isinstance(delta, dict):
            self._left -= mine.deltas.add(*words_of(delta))
        if isinstance(message, dict):
            self._left -= mine.messages.repeat(*words_of(message))
        if isinstance(text, str):
            self._left -= mine.plain.add(text, "")
        for name in ("finish_reason", "finishReason", "finish_details"):  # Gemini at times, vision models of old
            reason = choice.get(name)
            reason = reason.get("type") if isinstance(reason, dict) else reason
            if isinstance(reason, str) and reason.strip().lower() not in _NO_REASON:
                mine.finish_reason = "".join(c for c in reason[:64] if c.isprintable())
                break
        if isinstance(logprobs := choice.get("logprobs"), dict):
            mine.tokens += (found := tokens_of(logprobs.get("content")))
            self._left -= sum(map(len, found))
        self._check()

    # -- what it came to
    # ------------------------------------------------------------------------------------------------

    @property
    def _choice(self) -> _ChoiceText:
        return self._choices[min(self._choices)] if self._choices else _ChoiceText()

    @property
    def finish_reason(self) -> str | None:
        return self._choice.finish_reason

    @property
    def begun(self) -> bool:
        """Whether anything has been said, or thought."""
        return any(
            way.pieces or way.reasoning for c in self._choices.values() for way in (c.deltas, c.messages, c.plain)
        )

    @property
    def broken_off(self) -> bool:
        """Whether the endpoint says that it did not finish the answer."""
        reason = (self.finish_reason or "").lower()
        return reason in BROKEN_OFF or "error" in reason

    def pieces(self) -> list[str]:
        """Return the text token by token, from the tokens that came with log-probabilities where those make up the
        text; else as it came.
        """
        choice = self._choice
        text = joined_pieces(choice.deltas.pieces or choice.messages.pieces or choice.plain.pieces)
        if not choice.tokens or b"".join(choice.tokens).decode("utf-8", "replace") != "".join(text):
            return text
        # a character of several tokens is there with the last of them
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return [decoder.decode(token) for token in choice.tokens]

    def reasoning(self) -> str:
        """Return the thinking, where the endpoint shows it."""
        choice = self._choice
        return "".join(joined_pieces(choice.deltas.reasoning or choice.messages.reasoning))
