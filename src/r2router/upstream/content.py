"""The words in what endpoints send: JSON as some encoders write it, content in parts, thinking under several names."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from typing import Any

import msgspec

_DEPTH = 6  # of content in parts
_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "reasoning_details")
_WORDS = ("text", "thinking", "reasoning", "content", "summary", "refusal", "value")


class Token(msgspec.Struct):
    """One token of an answer, as it comes with log-probabilities."""

    token: str
    bytes: list[int] | None = None


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


def joined_pieces(pieces: list[str]) -> list[str]:
    """Pieces in which a character that was sent in two halves stands whole, with its second half; half a one becomes a
    question mark.
    """
    try:
        for piece in pieces:
            piece.encode()
    except UnicodeEncodeError:
        decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
        whole = [decoder.decode(piece.encode("utf-16-le", "surrogatepass")) for piece in pieces]
        rest = decoder.decode(b"", final=True)
        return [*whole[:-1], whole[-1] + rest]
    return pieces


def words_of(said: dict[str, Any]) -> tuple[str, str]:
    """Return (text, thinking) of a message or a delta."""
    content = said.get("content")
    thoughts = [said[name] for name in _REASONING if said.get(name)]
    words, thought = (content, "") if isinstance(content, str) else _parts(content, thinks=False, depth=_DEPTH)
    if not words and isinstance(refusal := said.get("refusal"), str):
        words = refusal
    if thoughts:  # under several names it is the same
        first = thoughts[0]
        thought = first if isinstance(first, str) else "".join(_parts(first, thinks=True, depth=_DEPTH))
    return words, thought


def _parts(content: Any, *, thinks: bool, depth: int) -> tuple[str, str]:
    """Return (text, thinking) of content in parts, as Mistral, Cohere, Databricks and others give it."""
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


def tokens_of(content: Any) -> list[bytes]:
    """Tokens of log-probabilities; none where they are not of the usual shape."""
    try:
        found: Iterable[Token] = msgspec.convert(content or (), list[Token])
        return [bytes(t.bytes) if t.bytes is not None else t.token.encode() for t in found]
    except (msgspec.ValidationError, ValueError, UnicodeEncodeError):
        return []
