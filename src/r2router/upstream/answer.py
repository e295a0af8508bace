"""One answer out of what an OpenAI-compatible endpoint sends, whole or chunk by chunk, in the shapes that endpoints really use."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from typing import Any

import msgspec

from r2router.upstream.endpoint import TooMuch
from r2router.upstream.usage import larger, reports_in

BROKEN_OFF = frozenset(
    {
        *("abort", "aborted", "error", "failed", "failure", "cancel", "cancelled", "canceled", "interrupted", "timeout", "timed_out"),
        *("network_error", "server_error", "internal_error", "engine_error", "engine_overloaded", "overloaded", "user_cancel"),
        *("insufficient_system_resource", "service_unavailable"),
    }
)
"""Finish reasons (in lower case) of an answer that the endpoint did not end by itself: a failure that may pass, and no outcome."""

_NO_REASON = frozenset({"", "null", "none"})  # DashScope and others say so while they are not done
_MOST_CHOICES = 8
_DEPTH = 6  # of content in parts
_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "reasoning_details")
_WORDS = ("text", "thinking", "reasoning", "content", "summary", "refusal", "value")


class Token(msgspec.Struct):
    """One token of an answer, as it comes with log-probabilities."""

    token: str
    bytes: list[int] | None = None


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
        """As `add`, where each message may repeat all that was said before it, as Perplexity's do."""
        grown = 0
        for kept, said in ((self.pieces, words), (self.reasoning, thought)):
            if len(kept) == 1 and said.startswith(kept[0]):
                grown += len(said) - len(kept[0])
                kept[0] = said
            elif said:
                grown += len(said)
                kept.append(said)
        return grown


class _Choice:
    __slots__ = ("deltas", "finish_reason", "messages", "plain", "tokens")

    def __init__(self) -> None:
        self.deltas, self.messages, self.plain = _Said(), _Said(), _Said()
        self.tokens: list[bytes] = []
        self.finish_reason: str | None = None


class Answer:
    """Collects a reply, whole or chunk by chunk. Of several choices the one with the lowest index counts.

    most: characters that are kept of it. usage: the report as it came. seen: whether anything came that is a reply, or a part of one.
    """

    def __init__(self, most: int) -> None:
        self._left = self._most = most
        self._choices: dict[int, _Choice] = {}
        self.usage: Any = None
        self.model: str | None = None
        self.seen = False

    def add(self, body: Any) -> Any:
        """Take in a whole reply or a chunk; gives the error that it reports instead, or None.

        Raises TypeError for what is no reply, `TooMuch` where more was said than asked for can be.
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
        for position, choice in enumerate([choices] if isinstance(choices, dict) else choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict):
                if error := choice.get("error"):
                    return error
                self._add_choice(choice, position)
        return None

    def _add_choice(self, choice: dict[str, Any], position: int) -> None:
        index = choice.get("index")
        index = index if type(index) is int else position
        if index not in self._choices and len(self._choices) >= _MOST_CHOICES:
            return
        mine = self._choices.setdefault(index, _Choice())
        delta, message, text = choice.get("delta"), choice.get("message"), choice.get("text")
        if isinstance(delta, dict):
            self._left -= mine.deltas.add(*_words_of(delta))
        if isinstance(message, dict):
            self._left -= mine.messages.repeat(*_words_of(message))
        if isinstance(text, str):
            self._left -= mine.plain.add(text, "")
        for name in ("finish_reason", "finishReason", "finish_details"):  # Gemini at times, vision models of old
            reason = choice.get(name)
            reason = reason.get("type") if isinstance(reason, dict) else reason
            if isinstance(reason, str) and reason.strip().lower() not in _NO_REASON:
                mine.finish_reason = "".join(c for c in reason[:64] if c.isprintable())
                break
        if isinstance(logprobs := choice.get("logprobs"), dict):
            mine.tokens += (found := _tokens(logprobs.get("content")))
            self._left -= sum(map(len, found))
        if self._left < 0:
            raise TooMuch(f"said more than {self._most:,} characters, far more than what was asked for can be")

    # -- what it came to ------------------------------------------------------------------------------------------------

    @property
    def _choice(self) -> _Choice:
        return self._choices[min(self._choices)] if self._choices else _Choice()

    @property
    def finish_reason(self) -> str | None:
        return self._choice.finish_reason

    @property
    def begun(self) -> bool:
        """Whether anything has been said, or thought."""
        return any(way.pieces or way.reasoning for c in self._choices.values() for way in (c.deltas, c.messages, c.plain))

    @property
    def broken_off(self) -> bool:
        """Whether the endpoint says that it did not finish the answer."""
        return (self.finish_reason or "").lower() in BROKEN_OFF

    def pieces(self) -> list[str]:
        """The text token by token, from the tokens that came with log-probabilities where those make up the text; else as it came."""
        choice = self._choice
        text = mended(choice.deltas.pieces or choice.messages.pieces or choice.plain.pieces)
        if not choice.tokens or b"".join(choice.tokens).decode("utf-8", "replace") != "".join(text):
            return text
        decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character of several tokens is there with the last of them
        return [decoder.decode(token) for token in choice.tokens]

    def reasoning(self) -> str:
        """The thinking, where the endpoint shows it."""
        choice = self._choice
        return "".join(mended(choice.deltas.reasoning or choice.messages.reasoning))


def decoded(data: bytes) -> Any:
    """JSON, also with what only some encoders write: a character in two escaped halves, `NaN`, raw control characters.

    Raises ValueError for everything else, however deep.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        raise ValueError("nested too deeply") from None
    try:
        return json.loads(data, strict=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def mended(pieces: list[str]) -> list[str]:
    """Pieces in which a character that was sent in two halves stands whole, with its second half; half a one becomes a question mark."""
    try:
        for piece in pieces:
            piece.encode()
    except UnicodeEncodeError:
        decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
        whole = [decoder.decode(piece.encode("utf-16-le", "surrogatepass")) for piece in pieces]
        rest = decoder.decode(b"", final=True)
        return [*whole[:-1], whole[-1] + rest]
    return pieces


def _words_of(said: dict[str, Any]) -> tuple[str, str]:
    """(text, thinking) of a message or a delta."""
    content, thoughts = said.get("content"), [said[name] for name in _REASONING if said.get(name)]
    words, thought = (content, "") if isinstance(content, str) else _parts(content, thinks=False, depth=_DEPTH)
    if not words and isinstance(refusal := said.get("refusal"), str):
        words = refusal
    if thoughts:  # under several names it is the same
        first = thoughts[0]
        thought = first if isinstance(first, str) else "".join(_parts(first, thinks=True, depth=_DEPTH))
    return words, thought


def _parts(content: Any, *, thinks: bool, depth: int) -> tuple[str, str]:
    """(text, thinking) of content in parts, as Mistral, Cohere, Databricks and others give it."""
    if isinstance(content, str):
        return ("", content) if thinks else (content, "")
    words, thoughts = [], []
    for part in [content] if isinstance(content, dict) else content if isinstance(content, list) and depth else ():
        kind, inner, mind = "", part, thinks
        if isinstance(part, dict):
            kind = str(part.get("type") or "").lower()
            if kind.startswith(("tool", "function", "image", "audio", "video", "input", "file")):
                continue
            mind = thinks or "think" in kind or "reason" in kind or part.get("thought") is True
            inner = next((part[name] for name in _WORDS if part.get(name)), None)
        if depth:
            text, thought = _parts(inner, thinks=mind, depth=depth - 1)
            words.append(text)
            thoughts.append(thought)
    return "".join(words), "".join(thoughts)


def _tokens(content: Any) -> list[bytes]:
    """Tokens of log-probabilities; none where they are not of the usual shape."""
    try:
        found: Iterable[Token] = msgspec.convert(content or (), list[Token])
        return [bytes(t.bytes) if t.bytes is not None else t.token.encode() for t in found]
    except (msgspec.ValidationError, ValueError, UnicodeEncodeError):
        return []
