"""One request from its plan to its end: recorded in the ledger, sent to one arm after another, relayed, settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from r2router.errors import Refused
from r2router.gateway.attempt import Attempts, BegunReply, FailedAttempt
from r2router.gateway.billing import Bill, cost_headers, nanos, reserve, usage_from
from r2router.gateway.books import Books
from r2router.gateway.cascade import CascadeOutcome, GatewayCascade
from r2router.gateway.cut_answers import CUT, cut_by_us, joined, second
from r2router.gateway.error_bodies import error_headers
from r2router.gateway.failover import Breaker
from r2router.gateway.incoming import Gone, Incoming
from r2router.gateway.keep_alive import KeepAlive
from r2router.gateway.ledger import Charge, Ledger, Opened, Settled
from r2router.gateway.ledger.entries import MAX_AMOUNT
from r2router.gateway.outgoing import Aborted, Headers, Outgoing, Presence
from r2router.gateway.request import Call
from r2router.gateway.setting import REPLAY, Setting
from r2router.gateway.splice import NotJson
from r2router.gateway.step import CascadeSetup, Plan, PlannedStep, larger_context
from r2router.gateway.tap import Tap
from r2router.gateway.traces import NOTHING, Span
from r2router.gateway.upstreams import BrokenOff, Caller, reply_headers
from r2router.upstream.usage import Usage

_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


@dataclass
class RequestSummary:
    """What is known of a request when it has ended: for the ledger, the metrics and the logs."""

    state: Literal["done", "cut", "cancelled", "failed"] = "failed"
    status: int = 0
    served: str | None = None
    attempts: int = 0
    bill: Bill = field(default_factory=Bill)
    ttft_s: float | None = None
    finish: str | None = None
    note: str = ""


class Relay:
    """Serves one request.

    began: when the request came, by the loop's clock.
    """

    def __init__(
        self, call: Call, plan: Plan, setting: Setting, incoming: Incoming, out: Outgoing, began: float
    ) -> None:
        self.call = call
        self.plan = plan
        self.setting = setting
        self.incoming = incoming
        self.out = out
        self.began = began
        self.told = RequestSummary()
        self._bounds = setting.config.limits
        wish = setting.config.server.reply_model
        shows_asked = wish == "asked" or (not wish and call.dialect.shows_asked)
        self._shown = call.asked if shows_asked and call.dialect.routed else None
        self._tap: Tap | None = None
        ping = call.dialect.ping if call.stream else b""
        self._signs = KeepAlive(out, setting.config.limits, ping, began, self._head)
        self._session = self._reason = ""
        self.trace: Callable[[PlannedStep], Span] = lambda step: NOTHING
        self._written: asyncio.Future[Any] | None = None
        self.charge: Charge | None = None
        """What the ledger made of it."""

    async def run(self, books: Books, breaker: Breaker, caller: Caller, key: str | None, session: str) -> None:
        """Answer the client. Raises `Refused` where nothing has been sent to it, `Gone` where it left."""
        self._session = session
        opened = self._opened(key, session)
        ticket = await (books.begin(opened) if isinstance(books, Ledger) else books.open(opened))
        self._written = ticket.written
        try:
            async with Presence(self.incoming) as presence:
                self._signs.begin(presence)
                await self._serve(breaker, caller)
        except Gone as gone:
            self.told.state, self.told.note = "cancelled", str(gone)
            raise
        except Refused as refused:
            self.told.status, self.told.note = refused.status, refused.code
            raise
        finally:
            self._signs.end()
            told = self.told
            settled = Settled(
                state=told.state,
                cost=told.bill.cost,
                usage=told.bill.usage,
                estimated=told.bill.estimated,
                latency_s=self._elapsed(),
                ttft_s=told.ttft_s,
                served=told.served,
                attempts=told.attempts,
                note=told.note,
            )
            self.charge = await books.settle(ticket, settled)

    # -- the attempts -------------------------------------------------------------------------------------------------

    async def _serve(self, breaker: Breaker, caller: Caller) -> None:
        attempts = Attempts(self.call, self.plan, self.setting, caller, self.incoming.headers, self._shown)
        attempts.trace = self.trace
        deadline = self.began + self._bounds.deadline_s
        if self.plan.looks is not None:
            await self._look(attempts, self.plan.looks, deadline, breaker)
            return
        order = self._order(breaker)
        usage, lost, at = True, None, 0
        while at < len(order) and self.told.attempts < self._bounds.attempts:
            step = self.plan.steps[order[at]]
            self.told.attempts += 1
            try:
                found = await attempts.make(step, deadline, usage=usage)
            except asyncio.CancelledError:
                self._bill_unseen(step)
                raise
            if isinstance(found, BegunReply):
                breaker.succeeded(step.model.provider, step.model.id)
                self.told.served = step.arm
                if cut_by_us(self.call, self.plan, step, found):
                    found = await self._mend(attempts, found, step, deadline)
                await self._relay(found, step, lost)
                return
            lost = found
            if lost.action == "plain" and usage:
                usage = False
                continue
            usage = True
            self._note_failure(lost, step, breaker)
            if lost.action == "return":
                break
            if lost.action == "larger":
                larger = larger_context(self.plan, step).steps
                order = [i for i in order[at + 1 :] if self.plan.steps[i] in larger]
                at = -1
            at += 1
        await self._fail(lost or FailedAttempt("return", 503, "no model can be asked now"))

    async def _mend(self, attempts: Attempts, held: BegunReply, step: PlannedStep, deadline: float) -> BegunReply:
        """Continue a cut answer or ask again; both calls are paid. Where that fails, the answer stays as it is."""
        again = second(self.call, self.plan, step, held)
        if again is None:
            return held
        self.told.attempts += 1
        try:
            found = await attempts.make(again, deadline, usage=True)
        except asyncio.CancelledError:
            self._bill(step, held.tap, held.sent_bytes)
            self._bill_unseen(again)
            raise
        if isinstance(found, FailedAttempt):
            if found.maybe_billed:
                self._bill_unseen(again) if found.tap is None else self._bill(again, found.tap, found.sent_bytes)
            return held
        self._reason = f"{self.plan.reason}; cut by its budget, and {'continued' if again.said else 'asked again'}"
        if not again.said:
            self._bill(step, held.tap, held.sent_bytes)
            return found
        try:
            both = Bill()
            for of, tap, sent in ((step, held.tap, held.sent_bytes), (again, found.tap, found.sent_bytes)):
                usage, estimated = usage_from(self.plan, of, tap.watch, sent)
                both.add(self.plan, of, usage, estimated=estimated)
            found.first = joined(held.first, found, both.usage or Usage(0, 0))
        except (NotJson, IndexError):
            self._bill(again, found.tap, found.sent_bytes)
            return held
        self._bill(step, held.tap, held.sent_bytes)
        return found

    async def _look(self, attempts: Attempts, looks: CascadeSetup, deadline: float, breaker: Breaker) -> None:
        """Run a cascade and relay the accepted answer; all others are paid as well."""
        cascade = GatewayCascade(self.plan, _healthy(looks, breaker), attempts, self._bounds.attempts)
        asked: list[PlannedStep] = []

        def began(step: PlannedStep) -> None:
            asked.append(step)
            self.told.attempts += 1

        def failed(lost: FailedAttempt, step: PlannedStep) -> None:
            asked.clear()
            self._note_failure(lost, step, breaker)

        outcome = CascadeOutcome(None)
        try:
            outcome = await cascade.run(deadline, began, failed)
        except asyncio.CancelledError:
            if attempts.abandoned is not None:
                self._bill(attempts.abandoned[1], attempts.abandoned[0].tap, attempts.abandoned[0].sent_bytes)
            elif asked and (not cascade.seen or cascade.seen[-1].step is not asked[-1]):
                self._bill_unseen(asked[-1])
            raise
        finally:
            for seen in cascade.seen:
                breaker.succeeded(seen.step.model.provider, seen.step.model.id)
                if seen is not outcome.accepted:
                    self._bill(seen.step, seen.held.tap, seen.held.sent_bytes)
        if outcome.accepted is None:
            await self._fail(outcome.lost or FailedAttempt("return", 503, "no model can be asked now"))
            return
        self.told.served, self._reason = outcome.accepted.step.arm, outcome.reason
        await self._relay(outcome.accepted.held, outcome.accepted.step, None)

    def _order(self, breaker: Breaker) -> list[int]:
        """Put the steps that are known to fail now last."""
        numbers = list(range(len(self.plan.steps)))
        if len(numbers) == 1:
            return numbers
        return sorted(
            numbers, key=lambda i: breaker.open(self.plan.steps[i].model.provider, self.plan.steps[i].model.id)
        )

    def _note_failure(self, lost: FailedAttempt, step: PlannedStep, breaker: Breaker) -> None:
        if lost.action == "next":
            breaker.failed(step.model.provider, step.model.id, wait=lost.wait, whole=lost.whole_provider)
        if lost.maybe_billed:
            self._bill_unseen(step) if lost.tap is None else self._bill(step, lost.tap, lost.sent_bytes)

    async def _fail(self, lost: FailedAttempt) -> None:
        """Send the error to the client: the provider's own body where there is one, byte for byte."""
        self.told.status = lost.status
        self.told.note = lost.message
        code = _CODES.get(lost.status, "provider_error")
        refused = Refused(
            lost.words or lost.message,
            status=lost.status,
            code=code,
            retry_after=lost.wait,
            retry=not lost.maybe_billed,
        )
        if self.out.started:
            await self.out.write(self.call.dialect.broken(refused, self.incoming.id, self._observed()))
            await self.out.end()
            return
        headers = self._headers(self.plan.steps[0])
        if lost.body and lost.headers is not None:
            given = reply_headers(lost.headers, self.setting.keys.values())
            headers += [(name, value) for name, value in given if name != b"content-encoding"]  # it is unpacked by now
            if lost.wait is not None and not any(name == b"retry-after" for name, _ in headers):
                headers += error_headers(refused)
            await self.out.whole(lost.status, headers, lost.body)
            return
        headers += [(b"content-type", b"application/json"), *error_headers(refused)]
        await self.out.whole(lost.status, headers, self.call.dialect.error(refused, self.incoming.id))

    # -- the reply ----------------------------------------------------------------------------------------------------

    async def _relay(self, held: BegunReply, step: PlannedStep, before: FailedAttempt | None) -> None:
        tap = self._tap = self._signs.tap = held.tap
        whole, counted = held.done, None
        try:
            headers = self._headers(step, before)
            given = reply_headers(held.exchange.headers, self.setting.keys.values())
            if tap.unpacks:
                given = [(k, v) for k, v in given if k != b"content-encoding"]
            self.told.status = held.exchange.status
            if held.done and not self.out.started and not tap.streamed:
                counted = usage_from(self.plan, step, tap.watch, held.sent_bytes)
                cost = Bill()
                cost.add(self.plan, step, counted[0], estimated=counted[1])
                await self._wait_for_row()
                await self.out.whole(
                    held.exchange.status, headers + cost_headers(cost, self.told.bill) + given, held.first
                )
            else:
                if not self.out.started:
                    await self.out.start(
                        held.exchange.status, headers + self._forecast_headers() + given + _STREAM_HEADERS
                    )
                await self.out.write(held.first)
                self._mark_first()
                if not held.done:
                    async for chunk in held.chunks:
                        await self.out.write(tap.feed(chunk))
                    await self.out.write(tap.end())
                await self._wait_for_row()
                whole = True
                await self._finish(tap)
            self._mark_first()
            self.told.finish = tap.shown(tap.watch.finish)
            cut = not tap.watch.whole and tap.watch.finish is None and not tap.blind
            self.told.state = "cut" if cut or tap.watch.error is not None or tap.watch.finish in CUT else "done"
        except BrokenOff as error:
            self.told.state, self.told.note = "cut", f"the provider {error}"
            await self._break(f"the provider {error}")
        finally:
            held.exchange.close(whole=whole)
            self._bill(step, tap, held.sent_bytes, counted)

    async def _finish(self, tap: Tap) -> None:
        """End a stream; an incomplete one is not presented as complete."""
        watch = tap.watch
        if watch.error is not None and tap.translator is not None:
            await self._break("the provider reported an error within its answer")
        elif tap.streamed and not watch.whole and watch.finish is None and watch.error is None:
            await self._break("the provider ended the stream too early")
        else:
            await self.out.end()

    async def _break(self, message: str) -> None:
        refused = Refused(message, status=502, code="upstream_broke_off", retry=False)
        if self._tap is not None and self._tap.streamed is False:
            raise Aborted(message)  # a body that began as JSON cannot say so
        if self._tap is not None and not self._tap.at_end:
            await self.out.write(b"\n\n")
        await self.out.write(self.call.dialect.broken(refused, self.incoming.id, self._observed()))
        await self.out.end()

    async def _wait_for_row(self) -> None:
        """Wait until the request is on the ledger's disk: no client gets its complete answer before. Nearly always it
        is there.
        """
        if self._written is not None and not self._written.done():
            await asyncio.wait([self._written])

    def _mark_first(self) -> None:
        if self.told.ttft_s is None and self.out.first_at is not None:
            self.told.ttft_s = self.out.first_at - self.began

    # -- what is told -------------------------------------------------------------------------------------------------

    def _head(self) -> Headers:
        """The headers of a stream that begins with a keep-alive."""
        kind = (b"content-type", b"text/event-stream; charset=utf-8")
        return [*self._headers(self.plan.steps[0]), *self._forecast_headers(), kind, *_STREAM_HEADERS]

    def _headers(self, step: PlannedStep, before: FailedAttempt | None = None) -> list[tuple[bytes, bytes]]:
        reason = self._reason or self.plan.reason if before is None else f"fallback:{before.status}: {before.message}"
        found = [
            ("arm", step.arm),
            ("reason", reason),
            ("request-id", self.incoming.id),
            ("budget-source", step.source),
        ]
        if self._session:
            found.append(("session", self._session))
        if step.model.provider == REPLAY:
            found.append(("replay", "true"))
        if self.plan.decision is not None:
            found.append(("forecast-quality", f"{self.plan.decision.quality:.4f}"))
        return [(b"x-r2router-" + name.encode(), header_text(value)) for name, value in found]

    def _forecast_headers(self) -> list[tuple[bytes, bytes]]:
        decision = self.plan.decision
        if decision is None:
            return []
        return [(b"x-r2router-cost", f"{decision.cost:.9f}".encode()), (b"x-r2router-cost-source", b"forecast")]

    def _opened(self, key: str | None, session: str) -> Opened:
        plan, call = self.plan, self.call
        hourly = any(b'"1h"' in (call.body.raw(name) or b"") for name in ("system", "messages", "tools"))
        worst, tokens = reserve(plan, call, self._bounds.attempts, hourly=hourly)
        if max(worst or 0, tokens) > MAX_AMOUNT:
            words = "n or max_tokens is beyond what can be counted: lower it"
            raise Refused(words, status=400, code="too_large", retry=False)
        decision = plan.decision
        return Opened(
            id=self.incoming.id,
            asked=call.asked,
            arm=plan.steps[0].arm,
            endpoint=call.dialect.name,
            reserved=worst,
            tokens=tokens,
            key=key,
            session=session or None,
            preset=plan.preset,
            price_version=self.setting.version,
            forecast_quality=None if decision is None else decision.quality,
            forecast=None if decision is None else nanos(decision.cost),
            baseline=plan.baseline and plan.baseline.arm,
            baseline_cost=plan.baseline and nanos(plan.baseline.cost),
            baseline_quality=plan.baseline and plan.baseline.quality,
            pace=plan.pace,
            time=time.time(),
        )

    def _bill(self, step: PlannedStep, tap: Tap, sent_bytes: int, counted: tuple[Usage, bool] | None = None) -> None:
        """counted: as `usage_from` has it, where that is known already."""
        usage, estimated = counted or usage_from(self.plan, step, tap.watch, sent_bytes)
        self.told.bill.add(self.plan, step, usage, estimated=estimated)
        tap.span.used(usage, tap.shown(tap.watch.model), tap.shown(tap.watch.finish))
        if tap.watch.error is not None or not tap.watch.whole:
            tap.span.failed("broken_off")
        tap.span.end()

    def _bill_unseen(self, step: PlannedStep) -> None:
        """Bill an attempt that gave nothing back but that the provider may bill."""
        self._bill(step, Tap(step.dialect), 0)

    def _observed(self) -> Any:
        return self._tap.outer if self._tap is not None else self.call.dialect.watch()

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self.began


_CODES: Mapping[int, str] = {502: "upstream_unavailable", 503: "no_model_available", 504: "upstream_timeout"}


def _healthy(looks: CascadeSetup, breaker: Breaker) -> CascadeSetup:
    """Take the models that are known to fail now out of a cascade, if any other is left."""
    question = looks.question
    for step in looks.steps:
        if breaker.open(step.model.provider, step.model.id):
            question = question.without(step.arm)
    return replace(looks, question=question) if question.left else looks


@lru_cache(maxsize=1024)  # arms and reasons come again and again
def header_text(value: str) -> bytes:
    """Make a value fit for a header: one line of printable ASCII, at most 300 characters."""
    text = " ".join(value.split())
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if " " <= c <= "~" else "?" for c in text)
    return text[:300].encode()
