"""A call and what comes of it: the request, the reply or the failure, and reading them off a response."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from r2router.upstream.limits import LONGEST_ASKED_S, retry_after
from r2router.upstream.wire import Answer, FailureKind, Usage, kind_of, said, usage_of

if TYPE_CHECKING:
    import aiohttp


BILLED_ATTEMPTS = 3
"""Attempts of one call that may be billed without an answer: more of them cost more than they are likely to bring."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call to make. body: the JSON to send to `/chat/completions`, whole but for streaming.

    billable: how many attempts of it there may be that could be billed; none above `BILLED_ATTEMPTS`.
    """

    provider: str
    body: dict[str, Any]
    billable: int = BILLED_ATTEMPTS


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave.

    text, reasoning: the answer, and the thinking where the endpoint shows it. pieces: the text token by token where the endpoint
    told them apart, else as it was streamed. usage: None where it was absent or impossible; usage_error then says which.
    latency_s, ttft_s: seconds from sending to the end and to the first piece, of the attempt that worked.
    attempts: how many it took. unsure: how many of the failed ones the provider may have billed; lost: the tokens that those reported.
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
    unsure: int = 0
    lost: Usage | None = None
    note: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a call gave nothing: a kind to act on, and one line for a person, which holds no key. attempts, unsure, lost: as of a `Reply`."""

    kind: FailureKind
    message: str
    attempts: int = 1
    unsure: int = 0
    lost: Usage | None = None


class Failed(Exception):
    """Carries a failure to the retries; nobody else sees it. usage: what the attempt reported before it failed."""

    usage: Usage | None = None

    def __init__(self, kind: FailureKind, message: str, wait: float | None = None) -> None:
        super().__init__(kind, message)
        self.kind: FailureKind = kind
        self.message = message
        self.wait = wait


async def refusal(response: aiohttp.ClientResponse) -> Failed:
    """What an HTTP error means."""
    words = said(await response.content.read(65_536))
    if 300 <= response.status < 400:
        return Failed("model", f"points elsewhere ({response.status}); give the final URL")
    return _failed(response.status, words, keyed="Authorization" in response.request_info.headers, wait=retry_after(response.headers))


def _failed(status: int, words: str, *, keyed: bool = True, wait: float | None = None) -> Failed:
    """What is said about a key is not repeated: some endpoints quote it."""
    kind = kind_of(status, words)
    if kind == "rate_limit" and wait is not None and wait > LONGEST_ASKED_S:
        return Failed("credit", f"answered {status}, and asks to wait {wait / 60:,.0f} minutes: go on then")
    if kind == "key":
        mend = "check the key, and that it is for this endpoint" if keyed else "name its key's environment variable in the pool"
        return Failed(kind, f"refused the key ({status}): {mend}")
    mend = "; check base_url, which stands without /chat/completions" if status == 404 and "model" not in words.lower() else ""
    return Failed(kind, f"answered {status}{f': {words}' if words else ''}{mend}", wait)


async def read_reply(response: aiohttp.ClientResponse, begin: float) -> Reply:
    """The reply of a successful request, whole or streamed. Raises `Failed`."""
    answer = Answer()
    try:
        return await _read(answer, response, begin)
    except Failed as failed:
        failed.usage = usage_of(answer.usage, spoke=False)[0]
        raise


async def _read(answer: Answer, response: aiohttp.ClientResponse, begin: float) -> Reply:
    first: float | None = None
    if response.content_type == "text/event-stream":
        rest = b""
        async for data in response.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line[:5] == b"data:":  # comments and empty lines say nothing
                    _add_event(answer, line)
            if first is None and (answer.pieces or answer.reasoning):
                first = time.perf_counter() - begin
        if rest[:5] == b"data:":
            _add_event(answer, rest)
        if answer.finish_reason is None:
            raise Failed("cut", "broke off in the middle of an answer")
    else:
        _add(answer, await response.read())
        if answer.finish_reason is None and not answer.pieces:
            raise Failed("malformed", "answered without a choice")
    text, reasoning = "".join(answer.pieces), "".join(answer.reasoning)
    usage, wrong = usage_of(answer.usage, spoke=bool(text or reasoning))
    return Reply(
        text=text,
        reasoning=reasoning,
        pieces=_pieces(answer, text),
        finish_reason=answer.finish_reason,
        usage=usage,
        usage_error=wrong,
        latency_s=time.perf_counter() - begin,
        ttft_s=first,
        model=answer.model,
    )


def _add_event(answer: Answer, line: bytes) -> None:
    data = line[5:].strip()
    if data and data != b"[DONE]":
        _add(answer, data)


def _add(answer: Answer, data: bytes) -> None:
    try:
        error = answer.add(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Failed("malformed", f"answered with what is no reply: {said(data[:80])!r}") from None
    if error is not None:  # behind a status of 200: as relays do, and engines that fail on the way
        code = error.get("code") if isinstance(error, dict) else None
        if isinstance(code, int) and 400 <= code < 600 and not answer.pieces:
            raise _failed(code, said(data))
        raise Failed("cut", f"reported an error within an answer: {said(data)}")


def _pieces(answer: Answer, text: str) -> list[str]:
    """The text token by token, from the tokens that came with log-probabilities where those make up the text."""
    if not answer.tokens or b"".join(answer.tokens).decode("utf-8", "replace") != text:
        return answer.pieces
    pieces, rest = [], b""
    for token in answer.tokens:
        rest += token
        try:
            pieces.append(rest.decode())
            rest = b""
        except UnicodeDecodeError:  # a character of several tokens: it is there with the last of them
            pieces.append("")
    return pieces
