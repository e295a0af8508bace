"""A call and what comes of it: the request, the reply or the failure."""

from __future__ import annotations

from typing import Any

import msgspec

from r2router.upstream.limits import LONGEST_ASKED_S
from r2router.upstream.usage import Usage
from r2router.upstream.wire import FailureKind, kind_of

BILLED_ATTEMPTS = 3
"""Attempts of one call that may be billed without an answer: more of them cost more than they are likely to bring."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call to make.

    body: the JSON to send to `/chat/completions`, whole but for streaming.
    billable: how many attempts of it there may be that could be billed; none above `BILLED_ATTEMPTS`.
    """

    provider: str
    body: dict[str, Any]
    billable: int = BILLED_ATTEMPTS


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave.

    text: the answer.
    reasoning: the thinking, where the endpoint shows it.
    pieces: the text token by token where the endpoint told them apart, else as it was streamed.
    finish_reason: the endpoint's word for why the answer ended.
    usage: None where it was absent or impossible.
    usage_error: which of the two; empty where there is a usage.
    latency_s: seconds from sending to the end, of the attempt that worked.
    ttft_s: seconds from sending to the first piece, of the same.
    model: the name that the endpoint gave.
    attempts: how many it took.
    maybe_billed: how many of the failed attempts the provider may have billed.
    lost: the tokens that those reported.
    note: what else is to be recorded of it.
    """

    text: str
    reasoning: str
    pieces: list[str]
    finish_reason: str | None
    usage: Usage | None
    usage_error: str
    latency_s: float
    ttft_s: float | None
    model: str | None
    attempts: int = 1
    maybe_billed: int = 0
    lost: Usage | None = None
    note: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call gave nothing.

    kind: what to act on.
    message: one line for a person; it holds no key.
    attempts, maybe_billed, lost: as of a `Reply`.
    """

    kind: FailureKind
    message: str
    attempts: int = 1
    maybe_billed: int = 0
    lost: Usage | None = None


class AttemptFailed(Exception):
    """Carries a failure to the retries; nobody else sees it. usage: what the attempt reported before it failed."""

    usage: Usage | None = None

    def __init__(self, kind: FailureKind, message: str, wait: float | None = None) -> None:
        super().__init__(kind, message)
        self.kind: FailureKind = kind
        self.message = message
        self.wait = wait


def http_failure(status: int, words: str, *, keyed: bool = True, wait: float | None = None) -> AttemptFailed:
    """What is said about a key is not repeated: some endpoints quote it."""
    kind = kind_of(status, words)
    if kind == "rate_limit" and wait is not None and wait > LONGEST_ASKED_S:
        return AttemptFailed(
            "credit", f"answered {status}, and asks to wait {wait / 60:,.0f} minutes; rerun after that"
        )
    if kind == "key":
        fix = (
            "check the key, and that it is for this endpoint"
            if keyed
            else "name its key's environment variable in the pool"
        )
        return AttemptFailed(kind, f"refused the key ({status}): {fix}")
    fix = (
        "; check base_url, which stands without /chat/completions"
        if status == 404 and "model" not in words.lower()
        else ""
    )
    return AttemptFailed(kind, f"answered {status}{f': {words}' if words else ''}{fix}", wait)
