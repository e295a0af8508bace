"""Reading replies off a response, in bounded memory and however they are labelled and cut into packets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, NoReturn

from r2router.upstream.answer import ReplyBuilder
from r2router.upstream.content import decoded
from r2router.upstream.endpoint import (
    LONGEST_ANSWER,
    MB,
    Inflate,
    TooMuch,
    max_kept_bytes,
    max_stream_bytes,
    min_tokens,
)
from r2router.upstream.events import BOM, Lines, field, is_blank, is_json
from r2router.upstream.limits import retry_after
from r2router.upstream.reply import AttemptFailed, Reply, http_failure
from r2router.upstream.usage import usage_of
from r2router.upstream.wire import in_words, one_line, said

if TYPE_CHECKING:
    import aiohttp

_MAX_ERROR_BYTES = 65_536
_DRAIN_S = 1.0
"""How long a connection may stay open behind the end of a stream, before it is closed instead of used again."""


async def refusal(response: aiohttp.ClientResponse) -> AttemptFailed:
    """Return what an HTTP error means."""
    begun = bytearray()
    try:
        inflate = Inflate(_MAX_ERROR_BYTES, response.headers.get("Content-Encoding", ""))
        async for data in response.content.iter_any():
            for part in inflate.feed(data):
                begun += part
    except (TooMuch, ValueError):  # its beginning says enough
        pass
    words = said(bytes(begun))
    if 300 <= response.status < 400:
        return AttemptFailed("model", f"points elsewhere ({response.status}); give the final URL")
    return http_failure(
        response.status,
        words,
        keyed="Authorization" in response.request_info.headers,
        wait=retry_after(response.headers),
    )


async def read_reply(
    response: aiohttp.ClientResponse, begin: float, *, cap: int | None = None, sent: int | None = None
) -> Reply:
    """Return the reply of a successful request, whole or streamed, in bounded memory.

    cap: the `max_tokens` of the request; sent: its bytes. Raises `AttemptFailed`, with the usage that the endpoint
    reported by then.
    """
    tokens = LONGEST_ANSWER if cap is None else cap
    reader = _ReplyParser(tokens, begin)
    try:
        inflate = Inflate(max_stream_bytes(tokens), response.headers.get("Content-Encoding", ""))
        stream = response.content.iter_any()
        async for data in stream:
            for part in inflate.feed(data):
                reader.feed(part)
            if reader.done:
                await _drain(stream)
                break
        reader.end()
        return _reply(reader, cap, sent)
    except (TooMuch, ValueError) as error:
        failed = AttemptFailed("malformed", str(error))
    except AttemptFailed as error:
        failed = error
    failed.usage = usage_of(reader.answer.usage, cap, spoke=False, sent_bytes=sent)[0]
    raise failed


async def _drain(stream: AsyncIterator[bytes]) -> None:
    """Read to the end of a stream that has said that it is over, so that its connection can be used again."""
    left = _MAX_ERROR_BYTES
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for data in stream:
                left -= len(data)
                if left < 0:
                    return


class _ReplyParser:
    """Takes in a reply packet by packet: one JSON, or a stream of events. What it is, its first bytes say; endpoints
    mislabel it.
    """

    def __init__(self, tokens: int, begin: float) -> None:
        self.answer = ReplyBuilder(max_kept_bytes(tokens))
        self.done = False
        self.first: float | None = None
        self.ended_at = begin
        self.begin, self._max = begin, max_kept_bytes(tokens)
        self._lines = Lines(self._max)
        self._start: bytes | None = b""  # what does not tell yet what it is
        self._whole: bytearray | None = None
        self._pending = bytearray()  # of an event whose data stand in several lines
        self._event = b""
        self._strange = b""  # the first thing that was no event

    def feed(self, data: bytes) -> None:
        """Take in a packet. Raises `AttemptFailed`, `TooMuch` and ValueError."""
        if self.done:
            return
        if self._start is not None:
            data = self._start + data
            if is_blank(data) and len(data) < _MAX_ERROR_BYTES:
                self._start = data
                return
            self._start = None
            self._whole = bytearray() if is_json(data) else None
        if self._whole is not None:
            self._whole += data
            if len(self._whole) > self._max:
                raise TooMuch(f"sent more than {self._max / MB:,.0f} MB, far more than the request allows")
            return
        for line in self._lines.feed(data):
            self._line(line)
            if self.done:
                break
        if self.first is None and self.answer.begun:
            self.first = time.perf_counter() - self.begin

    def end(self) -> None:
        """End the reply. Raises `AttemptFailed` where it is incomplete."""
        self.ended_at = time.perf_counter()
        if self._whole is not None:
            self._end_of_json(bytes(self._whole))
        elif not self.done:
            self._line(self._lines.end())
            self._line(b"")
        answer = self.answer
        if answer.broken_off:
            raise AttemptFailed("cut", f"ended the answer with finish_reason {answer.finish_reason!r}")
        if answer.finish_reason is None and not self.done and self._whole is None:
            if not answer.seen and self._strange:
                raise _no_reply(self._strange)
            raise AttemptFailed("cut", "broke off in the middle of an answer")
        if answer.finish_reason is None and not answer.begun:
            raise AttemptFailed("malformed", "answered without a choice")

    def _end_of_json(self, data: bytes) -> None:
        """One JSON, or one in every line."""
        data = data.removeprefix(BOM)
        try:
            body = decoded(data)
        except ValueError:
            lines = [line for line in data.splitlines() if line.strip()]
            if len(lines) < 2:
                raise _no_reply(data) from None
            for line in (*lines, b""):
                self._line(line)
        else:
            self._take(body, data)

    def _line(self, line: bytes) -> None:
        if line[:7] == b"data: {" and not self._pending and not self._event and self.answer.add_plain(line[6:]):
            return  # nearly always
        name, value = field(line) if line else (b"", b"")
        if name == b"data" and value == b"[DONE]":
            self._dispatch()
            self.done = True
        elif name == b"data" and (self._pending or value[:1] in (b"{", b"[")):
            self._data(value)
        elif name == b"event":
            self._event = value
        elif name == b"error":  # llama.cpp's servers of old
            self._report(value)
        elif not line.strip():
            self._dispatch()
            self._event = b""
        elif not self._strange and line[:1] != b":":
            self._strange = value or line

    def _data(self, value: bytes) -> None:
        """A line of an event's data: mostly all of it, else it waits for the others."""
        if not self._pending:
            try:
                body = decoded(value)
            except ValueError:
                pass
            else:
                self._take(body, value)
                return
        self._pending += value + b"\n"
        if len(self._pending) > self._max:
            raise TooMuch("sent an event that does not end")

    def _dispatch(self) -> None:
        if self._pending:
            data, self._pending = bytes(self._pending), bytearray()
            try:
                body = decoded(data)
            except ValueError:
                raise _no_reply(data) from None
            self._take(body, data)

    def _take(self, body: Any, data: bytes) -> None:
        if self._event.startswith(b"error"):
            self._report(data, body)
        try:
            error = self.answer.add(body)
        except TypeError:
            raise _no_reply(data) from None
        if error:  # behind a status of 200: as relays do, and engines that fail on the way
            self._report(data, error)

    def _report(self, data: bytes, error: Any = None) -> NoReturn:
        code = error.get("code") if isinstance(error, dict) else None
        code = int(code) if isinstance(code, str) and re.fullmatch("[45][0-9][0-9]", code) else code
        words = in_words({"error": error}) or said(data)
        if type(code) is int and 400 <= code < 600 and not self.answer.begun:
            raise http_failure(code, words)
        raise AttemptFailed("cut", f"reported an error within an answer: {words}")


def _no_reply(data: bytes) -> AttemptFailed:
    return AttemptFailed(
        "malformed", f"answered with something that is not a reply: {one_line(data[:80].decode('utf-8', 'replace'))!r}"
    )


def _reply(reader: _ReplyParser, cap: int | None, sent: int | None) -> Reply:
    answer, pieces = reader.answer, reader.answer.pieces()
    text, reasoning = "".join(pieces), answer.reasoning()
    usage, wrong = usage_of(
        answer.usage,
        cap,
        spoke=bool(text or reasoning),
        sent_bytes=sent,
        min_output=min_tokens((text, reasoning)),
        read_bytes=len(text) + len(reasoning),
    )
    return Reply(
        text=text,
        reasoning=reasoning,
        pieces=pieces,
        finish_reason=answer.finish_reason,
        usage=usage,
        usage_error=wrong,
        latency_s=reader.ended_at - reader.begin,
        ttft_s=reader.first,
        model=answer.model,
    )
