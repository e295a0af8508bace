"""Why calls fail, and what endpoints mean by an error."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

FailureKind = Literal[
    "key", "credit", "model", "context", "refused", "rate_limit", "server", "timeout", "connection", "malformed", "cut",
    "interrupted"
]  # fmt: skip
"""Why a call failed. key, credit: nothing will work at this provider; model: nothing with this model; context, refused:
this request never will; interrupted: the user stopped the run before another attempt; the others may pass.
"""

TRANSIENT: frozenset[FailureKind] = frozenset({"rate_limit", "server", "timeout", "connection", "malformed", "cut"})
"""Failures that another attempt may not meet."""

ASKED_AGAIN: frozenset[FailureKind] = TRANSIENT | {"key", "credit", "model", "refused"}
"""Recorded failures that may pass once the pool, the account or the endpoint is fixed: all but a prompt that is too
long.
"""

MAYBE_BILLED: frozenset[FailureKind] = frozenset({"timeout", "malformed", "cut"})
"""Failures after which the provider may bill for an answer that never arrived whole."""

_CONTEXT = re.compile(
    r"context[ _-]?(length|size|window)|maximum context|max(imum)?_(model|seq|context)_len|prompt is too long|too many"
    r" tokens|"
    r"input (is )?too long|reduce the length|exceeds the maximum number of tokens|range of input length|max_new_tokens."
    r" must be",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|model[ _]not[ _](found|exist)|no such model|unknown model|not a valid model|invalid[ _]model["
    r" _](id|name)|"
    r"\bmodel\b.{0,100}\b(does not exist|doesn't exist|is not found)|access to (the )?model",
    re.IGNORECASE,
)
_FLAGGED = re.compile(r"moderation|flagged|content[ _](policy|filter)", re.IGNORECASE)
_CREDIT = re.compile(r"insufficient[_ ](quota|credit|balance|funds)|billing|exceeded your current quota", re.IGNORECASE)


def kind_of(status: int, words: str) -> FailureKind:
    """Return what an HTTP error means."""
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
    """Return what an error reply says, in one line of at most 300 characters."""
    try:
        words = in_words(msgspec.json.decode(reply))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        words = ""
    return words or one_line(reply.decode("utf-8", "replace"))


def in_words(reported: Any) -> str:
    """Return the words of an error that an endpoint reports in one of the usual shapes, in one line; empty where it has
    none of them.
    """
    detail = reported[0] if isinstance(reported, list) and reported else reported  # Gemini wraps its errors in a list
    if isinstance(detail, dict):
        detail = detail.get("error") or detail
    if isinstance(detail, dict):
        parts = [
            one_line(str(v))
            for k in ("message", "code", "type")
            if isinstance(v := detail.get(k), (str, int, float)) and v != ""
        ]
        return one_line(f"{parts[0]} ({', '.join(parts[1:])})" if len(parts) > 1 else "".join(parts))
    return one_line(detail) if isinstance(detail, str) else ""


def one_line(words: str, longest: int = 300) -> str:
    """Words of an endpoint in one line of at most so many characters, without anything that a terminal would obey."""
    line = " ".join("".join(c if c.isprintable() else " " for c in words[: 20 * longest]).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."
