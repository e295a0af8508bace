"""One attempt: ask one arm, and hold its reply back until it is known whether it is an answer or an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from r2router.gateway.config import Bounds
from r2router.gateway.failover import Action, action_of, wait_of, within_200
from r2router.gateway.request import Call
from r2router.gateway.setting import Setting
from r2router.gateway.splice import encoded
from r2router.gateway.step import Plan, PlannedStep, body_for
from r2router.gateway.tap import ReplyBounds, Tap
from r2router.gateway.traces import NOTHING, Span
from r2router.gateway.translate import reply_translator
from r2router.gateway.upstreams import BrokenOff, Caller, Exchange, Unreached, request_headers
from r2router.upstream.endpoint import LONGEST_ANSWER, Inflate, TooMuch, quotes
from r2router.upstream.wire import said

_MAX_HELD = 1 << 20
_MAX_WHOLE = 16 << 20
_MAX_ERROR = 1 << 20


@dataclass
class BegunReply:
    """A reply that has begun; from here on it goes to the client.

    first: the bytes to send first.
    done: whether these are all of it.
    """

    exchange: Exchange
    chunks: AsyncIterator[bytes]
    tap: Tap
    first: bytes
    done: bool
    sent_bytes: int


@dataclass
class WholeReply:
    """A reply that has arrived completely, in `held.first`.

    fits: false where it is too long to be kept, so that the rest is still to come.
    """

    held: BegunReply
    fits: bool = True


@dataclass
class FailedAttempt:
    """An attempt that gave no answer.

    status: the HTTP status, or one of ours where none came.
    body, headers: the provider's; empty where none came.
    wait: seconds that the provider asks to wait; None where it asks for none.
    maybe_billed: whether the provider may bill for it.
    ours: whether our key or our account is the cause.
    whole_provider: whether all models of the provider are affected.
    words: the provider's message, for the client alone.
    """

    action: Action
    status: int
    message: str
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    wait: float | None = None
    maybe_billed: bool = False
    ours: bool = False
    whole_provider: bool = False
    tap: Tap | None = None
    sent_bytes: int = 0
    words: str = ""


class Attempts:
    """Makes attempts for one call under one setting."""

    def __init__(
        self, call: Call, plan: Plan, setting: Setting, caller: Caller, client: Mapping[bytes, bytes], shown: str | None
    ) -> None:
        self._call, self._plan, self._setting, self._caller = call, plan, setting, caller
        self._client, self._shown = client, shown
        self.trace: Callable[[PlannedStep], Span] = lambda step: NOTHING
        self._bounds: Bounds = setting.config.limits
        self.abandoned: tuple[BegunReply, PlannedStep] | None = None
        """A reply that had begun when its client left."""

    async def make(self, step: PlannedStep, deadline: float, *, usage: bool) -> BegunReply | FailedAttempt:
        """Ask the arm of a step.

        deadline: for the first byte, by the loop's clock.
        usage: whether a stream should report token counts.
        """
        span = self.trace(step)
        try:
            found = await self._make(step, deadline, usage=usage)
        except BaseException:
            span.failed("cancelled")
            span.end()
            raise
        if isinstance(found, BegunReply):
            found.tap.span = span  # which ends when the answer is billed
        else:
            span.failed(str(found.status), found.message)
            span.end()
        return found

    async def _make(self, step: PlannedStep, deadline: float, *, usage: bool) -> BegunReply | FailedAttempt:
        body, surplus = body_for(self._call, step, usage=usage)
        headers = request_headers(
            self._client,
            step.provider,
            self._setting.keys.get(step.model.provider, ""),
            native=step.speaks == "messages",
        )
        url = step.provider.base_url.rstrip("/") + step.dialect.path
        wait_s = min(step.provider.first_byte_s, deadline - asyncio.get_running_loop().time())
        if wait_s <= 0:
            return FailedAttempt("return", 504, "no model answered in time (limits.deadline_s)")
        try:
            exchange = await self._caller.post(url, body, headers, step.provider, wait_s)
        except Unreached as error:
            status = 504 if error.timeout else 502
            name = step.model.provider
            return FailedAttempt(
                "next",
                status,
                f"provider {name!r} {error.message}",
                maybe_billed=error.sent,
                whole_provider=not error.sent,
            )
        try:
            if not 200 <= exchange.status < 300:
                return await self._refused(exchange, step, asked_usage=surplus)
            return await self._begin(exchange, step, deadline, surplus=surplus, sent_bytes=len(body))
        except BaseException:
            exchange.close(whole=False)
            raise

    async def whole(self, step: PlannedStep, deadline: float) -> WholeReply | FailedAttempt:
        """Ask the arm of a step and read its whole reply before anything goes to the client."""
        found = await self.make(step, deadline, usage=True)
        if isinstance(found, FailedAttempt) and found.action == "plain":
            found = await self.make(step, deadline, usage=False)
        if isinstance(found, FailedAttempt):
            return found
        held, tap = found, found.tap
        try:
            first = bytearray(held.first)
            if not held.done:
                async with asyncio.timeout(self._bounds.longest_s):
                    async for chunk in held.chunks:
                        first += tap.feed(chunk)
                        if len(first) > _MAX_WHOLE:
                            held.first = bytes(first)
                            return WholeReply(held, fits=False)
                first += tap.end()
                held.exchange.close(whole=True)
            held.first, held.done = bytes(first), True
        except (BrokenOff, TimeoutError) as error:
            return self._lost(held.exchange, tap, 502, str(error) or "took too long to answer", held.sent_bytes)
        except BaseException:
            held.exchange.close(whole=False)
            self.abandoned = held, step
            raise
        watch = tap.watch
        if watch.error is not None or (tap.streamed and not watch.whole and watch.finish is None):
            lost = self._lost(held.exchange, tap, 502, "did not finish its answer", held.sent_bytes)
            lost.status = lost.status if watch.error is None else within_200(watch.error)
            return lost
        return WholeReply(held)

    async def _refused(self, exchange: Exchange, step: PlannedStep, *, asked_usage: bool) -> FailedAttempt:
        words = await _error_body(exchange)
        exchange.close(whole=False)
        status = exchange.status if 300 <= exchange.status < 600 else 502
        quoted = quotes(words, self._setting.keys.get(step.model.provider, ""))  # which nobody else may see
        action = action_of(status, words, asked_usage=asked_usage)
        ours = status in (401, 402, 403)
        moved = 300 <= status < 400
        message = (
            "points elsewhere, which is not followed" if moved else "refused our key" if ours else f"answered {status}"
        )
        foreign = step.speaks != self._call.dialect.name  # in a shape that the client does not know
        return FailedAttempt(
            action,
            502 if moved or ours else status,
            f"provider {step.model.provider!r} {message}",
            b"" if moved or ours or quoted or foreign else words,
            exchange.headers,
            wait_of(exchange.headers, words),
            ours=ours,
            whole_provider=status in (401, 402),
            words=said(words) if foreign and not (moved or ours or quoted) else "",
        )

    def _tap(self, step: PlannedStep, coding: str, *, surplus: bool) -> Tap:
        call, foreign = self._call, step.speaks != self._call.dialect.name
        translator = (
            reply_translator(call, step.speaks, shown=self._shown, input_tokens=self._plan.input_tokens)
            if foreign
            else None
        )
        secret = self._setting.keys.get(step.model.provider, "").encode()
        cap = step.sent.max_tokens if step.sent.max_tokens is not None else call.ceilings.max_tokens
        tap = Tap(
            step.dialect,
            surplus=surplus,
            shown=self._shown,
            coding=coding,
            translator=translator,
            outer=call.dialect,
            secret=secret,
            bounds=_reply_bounds(call, step, cap),
        )
        tap.watch.most_tokens = max(1, call.ceilings.answers) * max(LONGEST_ANSWER, 2 * (cap or 0))
        return tap

    async def _begin(
        self, exchange: Exchange, step: PlannedStep, deadline: float, *, surplus: bool, sent_bytes: int
    ) -> BegunReply | FailedAttempt:
        tap = self._tap(step, exchange.headers.get("Content-Encoding", ""), surplus=surplus)
        tap.watch.keeps = self._plan.looks is not None or self._plan.cut != "return"
        chunks = exchange.chunks()
        first, raw, came = bytearray(), bytearray(), 0
        if tap.translator is not None and tap.blind:
            return self._lost(exchange, tap, 502, "packed its answer, so that it cannot be translated", sent_bytes)
        try:
            async with asyncio.timeout_at(deadline if self._call.stream else deadline + self._bounds.longest_s):
                async for chunk in chunks:
                    raw += chunk if len(raw) < _MAX_ERROR else b""
                    came += len(chunk)
                    first += tap.feed(chunk)
                    if tap.watch.error is not None and not tap.watch.begun:
                        break
                    if came > _MAX_HELD or (tap.real and tap.streamed is not False and first):
                        return BegunReply(exchange, chunks, tap, bytes(first), False, sent_bytes)
                else:
                    first += tap.end()
                    if tap.watch.error is None or tap.watch.begun:
                        if not raw:
                            return self._lost(exchange, tap, 502, "answered with nothing", sent_bytes)
                        exchange.close(whole=True)
                        return BegunReply(exchange, chunks, tap, bytes(first), True, sent_bytes)
        except TimeoutError:
            return self._lost(exchange, tap, 504, "did not begin to answer in time", sent_bytes)
        except BrokenOff as error:
            if tap.streamed is False:  # its first bytes have come: it is not asked of another
                lost = self._lost(exchange, tap, 502, str(error), sent_bytes)
                lost.action = "return"
                return lost
            return self._lost(exchange, tap, 502, str(error), sent_bytes)
        return await self._within_200(exchange, chunks, tap, raw, asked_usage=surplus, sent_bytes=sent_bytes)

    async def _within_200(
        self,
        exchange: Exchange,
        chunks: AsyncIterator[bytes],
        tap: Tap,
        raw: bytearray,
        *,
        asked_usage: bool,
        sent_bytes: int,
    ) -> FailedAttempt:
        """Read an error that a provider reports under a successful status."""
        with suppress(BrokenOff, TimeoutError):  # the rest of it, so that it goes on whole
            async with asyncio.timeout(1.0):
                async for chunk in chunks:
                    raw += chunk
                    if len(raw) > _MAX_ERROR:
                        break
        exchange.close(whole=False)
        status, report = within_200(tap.watch.error), encoded({"error": tap.watch.error})
        ours = status in (401, 402, 403)
        keys = [key for key in self._setting.keys.values() if key]
        hidden = ours or tap.streamed or tap.translator is not None or any(quotes(bytes(raw), key) for key in keys)
        body = b"" if hidden else bytes(raw)
        action = action_of(status, report, asked_usage=asked_usage)
        message = "the provider refused our key" if ours else "the provider reported an error within 200"
        lost = FailedAttempt(
            action,
            502 if ours else status,
            message,
            body,
            exchange.headers,
            wait_of(exchange.headers, report),
            ours=ours,
        )
        if not ours and not any(quotes(report, key) for key in keys):
            lost.words = said(report)
        lost.maybe_billed, lost.tap, lost.sent_bytes = status >= 500, tap, sent_bytes
        return lost

    def _lost(self, exchange: Exchange, tap: Tap, status: int, message: str, sent_bytes: int) -> FailedAttempt:
        exchange.close(whole=False)
        return FailedAttempt(
            "next", status, f"the provider {message}", maybe_billed=True, tap=tap, sent_bytes=sent_bytes
        )


async def _error_body(exchange: Exchange) -> bytes:
    """The beginning of what a provider says of an error, unpacked where it came packed; empty where it cannot be
    read.
    """
    body = bytearray()
    try:
        inflate = Inflate(_MAX_ERROR, exchange.headers.get("Content-Encoding", ""))
        async with asyncio.timeout(10.0):
            async for chunk in exchange.chunks():
                for part in inflate.feed(chunk):
                    body += part
    except ValueError:  # packed in another way than was asked for
        return b""
    except (BrokenOff, TimeoutError, TooMuch):
        pass
    return bytes(body)


def _reply_bounds(call: Call, step: PlannedStep, cap: int | None) -> ReplyBounds:
    """What a reply may have at most. cap: tokens of an answer; None where none is sent."""
    if call.dialect.name == "embeddings":
        given = call.body.get("input")
        texts = len(given) if isinstance(given, list) and any(type(one) is not int for one in given) else 1
        return ReplyBounds.of_vectors(texts)
    return ReplyBounds.of_tokens(
        max(1, call.ceilings.answers) * (cap or step.model.max_output_tokens or LONGEST_ANSWER)
    )
