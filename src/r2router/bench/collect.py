"""The collection itself: every cell of a plan that the journal does not have is asked, recorded, and counts when it is
on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import time
from collections.abc import Iterable, Iterator

import msgspec

from r2router.bench.call_key import chain_budget
from r2router.bench.engine import Engine
from r2router.bench.first_calls import FIRST, FirstCalls
from r2router.bench.journal import Journal
from r2router.bench.outcome import (
    ABOVE_CAP,
    OVER_ALLOWANCE,
    answer_record,
    chain_record,
    failure_record,
    forced_record,
    is_cut,
    natural_record,
)
from r2router.bench.plan import CollectionPlan, Work
from r2router.bench.record import Record
from r2router.bench.spend_limit import NANOS, Hold, SpendLimit, dollars, nanos
from r2router.bench.status import PACE_FROM, Report, Status
from r2router.errors import R2Error
from r2router.types import Budget
from r2router.upstream.reply import BILLED_ATTEMPTS, Failure, Reply, Request
from r2router.upstream.wire import FailureKind

_TELLS_NOTHING: tuple[FailureKind, ...] = ("context", "interrupted")
"""Failures that say nothing of the model: the prompt was too long, or there was no call."""
_CAP = re.compile(r"max_(completion_|new_|output_)?tokens|completion tokens|output tokens", re.IGNORECASE)
_UNCUT = 3
"""Paid chains of a model that cannot be cut, before any could: with so many it is stopped, as all others would be paid
for nothing.
"""


async def collect(
    plan: CollectionPlan,
    journal: Journal,
    engine: Engine,
    *,
    max_spend: float | None = None,
    to_come_usd: float = 0.0,
    report: Report | None = None,
    stop: asyncio.Event | None = None,
    first_calls: dict[str, FirstCalls] | None = None,
) -> Status:
    """Ask what the journal does not have yet; gives how far it came.

    max_spend: US dollars that the journal's calls may come to in all, earlier runs included. A call is made, and made
        again after a failure that may be billed, only if its maximum cost fits. Every call has a cap, so the limit
        holds wherever an endpoint keeps to it; where one does not, what it reports is counted in full, and its model
        stops after the first few answers.
    to_come_usd: the estimate, for the status.
    stop: once it is set no attempt begins, and those in flight are waited for.
    first_calls: what is known of each model already, by id; a model that is not in it begins with a single call. What a
        provider or a model refuses is no exception but in `Status.stopped`.

    Raises `SaveError` where the journal cannot be written.
    """
    run = _Collection(
        plan,
        journal,
        engine,
        max_spend,
        to_come_usd,
        report,
        stop or asyncio.Event(),
        {} if first_calls is None else first_calls,
    )
    await run.probe()
    queues = [(iter(plan.work(name)), provider.concurrency) for name, provider in plan.providers.items()]
    stopping = asyncio.create_task(run.stop_attempts())
    try:
        async with asyncio.TaskGroup() as group:
            for queue, concurrency in queues:
                for _ in range(concurrency):
                    group.create_task(run.worker(queue))
    except BaseExceptionGroup as errors:  # every worker met the same full disk
        ours = [e for e in errors.exceptions if isinstance(e, R2Error)]
        raise (ours or errors.exceptions)[0] from None
    finally:
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping
    for queue, _ in queues:
        run.count_there(queue)
    run.tell()
    return run.status


class _Collection:
    def __init__(
        self,
        plan: CollectionPlan,
        journal: Journal,
        engine: Engine,
        max_spend: float | None,
        to_come_usd: float,
        report: Report | None,
        stop: asyncio.Event,
        first_calls: dict[str, FirstCalls],
    ) -> None:
        self.plan = plan
        self.journal = journal
        self.engine = engine
        self.report = report
        self.stop = stop
        self.limit = SpendLimit(max_spend, journal)
        self.status = Status(planned=len(plan), spent_usd=journal.spent, limit_usd=max_spend, to_come_usd=to_come_usd)
        self._first = first_calls
        for model in plan.models:
            first_calls.setdefault(model.id, FirstCalls())
        self._answered: dict[str, float] = {}  # model or provider -> when it last gave an answer
        self._failed: dict[str, int] = {}
        self._uncut: dict[str, float] = {}  # model -> its chains that could not be cut; far below 0 once one could
        self._estimate, self._spent_before = to_come_usd, journal.spent
        self._under_way: set[str] = set()

    async def probe(self) -> None:
        """Find out at once which providers are down or refuse the key."""
        names = list(self.plan.providers)
        for name, failure in zip(names, await asyncio.gather(*map(self.engine.probe, names)), strict=True):
            if failure is not None:
                self._stop(_provider(name), failure.message)

    async def stop_attempts(self) -> None:
        """Tell the engine once the run is to stop."""
        await self.stop.wait()
        self.engine.stop()

    def count_there(self, queue: Iterable[Work]) -> None:
        """Count what earlier runs have done of work that was not come to."""
        for work in queue:
            for budget in work.budgets:
                if self.journal.has(self.plan.key(work, budget)):
                    self._count_done()

    async def worker(self, queue: Iterator[Work]) -> None:
        """Do work until there is none, or none that can be done."""
        for work in queue:
            # a queue is of one provider
            if self.stop.is_set() or {"", _provider(work.model.provider)} & self.status.stopped.keys():
                self.count_there([work])
                return
            if self._stopped(work):
                self.count_there([work])
            else:
                await (self._shared(work) if work.shared else self._single(work))

    # -- one piece of work -------------------------------------------------------------------------------------------

    async def _single(self, work: Work) -> None:
        """One arm on one query, in one call."""
        (budget,) = work.budgets
        key = self.plan.key(work, budget)
        if not self._claim(key):
            return
        provider = self.plan.providers[work.model.provider]
        request = self.plan.controls.request(work.model, provider, work.query, budget)
        cap = self.plan.cap(work.model, budget)
        result, held = await self._call(work, request, cap)
        if isinstance(result, Reply):
            await self._keep(answer_record(self.plan, work, budget, key, result, held.maximum), held)
            self.status.cut += is_cut(result) and self.plan.controls.is_safety_cap(budget)
            if (
                why := self._first[work.model.id].judge(result, self.plan.calls_per_answer * cap, cut=is_cut(result))
            ) is not None:
                self._stop(_model(work), why)
        elif result is not None:
            await self._keep(failure_record(self.plan, work, budget, key, result, held.maximum), held)

    async def _shared(self, work: Work) -> None:
        """Several budgets of a query: one long answer, cut at each of them."""
        keys = {b: self.plan.key(work, b) for b in work.budgets}
        # each cut is then a prefix of what was read last
        longest = sorted(work.budgets, key=lambda b: b.tokens or 0, reverse=True)
        missing = [b for b in longest if self._claim(keys[b])]
        if not missing or (chain := await self._chain(work)) is None:
            return
        for budget in missing:
            if not await self._cut(work, budget, keys[budget], chain):
                return

    async def _chain(self, work: Work) -> Record | None:
        """Return the long answer, from the journal where it was paid for already; with an error where there is none to
        be had.
        """
        key = self.plan.chain_key(work)
        if (known := self.journal.chain(key)) is not None:
            return known
        provider = self.plan.providers[work.model.provider]
        maximum = max(1, chain_budget(work.budgets).tokens or 0)
        result, held = await self._call(
            work, self.plan.controls.chain(work.model, provider, work.query, maximum), maximum
        )
        if result is None:
            return None
        record = chain_record(self.plan, work, key, result, held.maximum)
        await self._keep(record, held)
        if isinstance(result, Reply):
            self._judge_chain(_model(work), record.error)
        return record

    def _judge_chain(self, model: str, problem: str | None) -> None:
        """Stop a model whose chains are paid for and cannot be cut: the next ones would be no better."""
        if problem is None:
            self._uncut[model] = -math.inf
        elif self._uncut.get(model, 0) >= _UNCUT - 1:
            self._stop(model, problem)
        else:
            self._uncut[model] = self._uncut.get(model, 0) + 1

    async def _cut(self, work: Work, budget: Budget, key: str, chain: Record) -> bool:
        """Return one budget of a chain; false where nothing more can be asked."""
        tokens = budget.tokens or 0
        if chain.error is not None:
            failure = Failure(kind=msgspec.convert(chain.error_kind, FailureKind), message=chain.error)
            await self._keep(failure_record(self.plan, work, budget, key, failure, 0), Hold())
            return True
        if not chain.truncated and chain.output_tokens is not None and chain.output_tokens <= tokens:
            await self._keep(natural_record(self.plan, work, budget, key, chain), Hold())
            return True
        cut = (chain.response or "")[: sum((chain.pieces or [])[:tokens])]
        provider = self.plan.providers[work.model.provider]
        request = self.plan.controls.forced(work.model, provider, work.query, cut)
        result, held = await self._call(work, request, self.plan.controls.answer_tokens, more_input=tokens)
        if isinstance(result, Reply):
            await self._keep(forced_record(self.plan, work, budget, key, chain, cut, result, held.maximum), held)
        elif result is not None:
            await self._keep(failure_record(self.plan, work, budget, key, result, held.maximum), held)
        return result is not None

    # -- one call ----------------------------------------------------------------------------------------------------

    async def _call(
        self, work: Work, request: Request, cap: int, more_input: int = 0
    ) -> tuple[Reply | Failure | None, Hold]:
        """Return (what came of it, money set aside for it until it is kept); None where it was not made, or its failure
        is not the cell's.
        """
        first = self._first[work.model.id]
        await first.enter()
        result, held = await self._paid_call(work, request, cap, more_input)
        if result is None:
            first.leave(tells=False)
        return result, held

    async def _paid_call(
        self, work: Work, request: Request, cap: int, more_input: int
    ) -> tuple[Reply | Failure | None, Hold]:
        """Do `_call` once the model's first calls allow it."""
        if self.stop.is_set() or self._stopped(work):
            return None, Hold()
        maximum = nanos(self.plan.ceiling_usd(work, cap, more_input) * self._first[work.model.id].over_max)
        held = await self.limit.take(maximum, BILLED_ATTEMPTS)
        if held is None:
            arm = f"{work.model.id}@{work.budgets[0].id}"
            spent = (
                f"{dollars(self.journal.spent)} are spent, and the next call ({arm}) may cost"
                f" {dollars(maximum / NANOS)}"
            )
            self._stop("", f"the spend limit of ${self.status.limit_usd:g} is reached: {spent}; raise it to go on")
            return None, Hold()
        if self.stop.is_set() or self._stopped(work):  # while it waited for its money
            self.limit.give_back(held)
            return None, Hold()
        began = time.monotonic()
        result = await self.engine.call(msgspec.structs.replace(request, billable=held.attempts))
        if isinstance(result, Reply):
            self.status.calls += 1
            self._answered[_model(work)] = self._answered[_provider(work.model.provider)] = time.monotonic()
            return result, held
        self.status.calls += result.attempts > 0
        result = self._about_safety_cap(result, work, cap)
        whose = self._blame(result, work, began)
        if whose is not None:
            self._stop(whose, result.message)
        if (whose is not None or result.kind == "interrupted") and not result.maybe_billed:
            # else an attempt before may have been billed: that is recorded, as an error of the cell
            self.limit.give_back(held)
            return None, Hold()
        return result, held

    def _blame(self, failure: Failure, work: Work, began: float) -> str | None:
        """Whom a failure stops: a provider or a model that nothing can be asked of; None where it is the cell's own."""
        model, provider = _model(work), _provider(work.model.provider)
        if failure.kind in ("key", "credit"):
            return provider
        if failure.kind == "model":
            return model
        if failure.kind == "connection" and self._answered.get(provider, 0.0) < began:
            return provider
        if failure.kind not in _TELLS_NOTHING and model not in self._answered:
            self._failed[model] = self._failed.get(model, 0) + 1
            # those before it are recorded: --retry-failed asks them again
            return model if self._failed[model] >= FIRST else None
        return None

    def _about_safety_cap(self, failure: Failure, work: Work, cap: int) -> Failure:
        """A refusal that is about a cap which no budget asked for says how to set it."""
        if not (
            failure.kind in ("context", "refused")
            and self.plan.controls.is_safety_cap(work.budgets[0])
            and _CAP.search(failure.message)
        ):
            return failure
        fix = f"the safety cap of {cap:,} tokens is more than it allows: set max_output_tokens of the model in the pool"
        return msgspec.structs.replace(failure, kind="refused", message=f"{failure.message}; {fix}")

    def _stop(self, whose: str, why: str) -> None:
        self.status.stopped.setdefault(whose, f"{whose} stopped: {why}" if whose else why)
        self.tell()

    def _stopped(self, work: Work) -> bool:
        stopped = self.status.stopped
        return bool(stopped) and bool({"", _model(work), _provider(work.model.provider)} & stopped.keys())

    # -- keeping count -----------------------------------------------------------------------------------------------

    def _claim(self, key: str) -> bool:
        """Return whether a cell is still to be asked; two queries of the same words are asked once."""
        if self.journal.has(key) or key in self._under_way:
            self._count_done()
            return False
        self._under_way.add(key)
        return True

    def _count_done(self) -> None:
        self.status.done += 1
        self.status.there += 1

    async def _keep(self, record: Record, held: Hold) -> None:
        """Record it; from then on it counts, and the money set aside for it is free again."""
        await self.journal.append(record)
        self.limit.give_back(held)
        if held.attempts:
            if record.error is None:
                self._first[record.model].charged(nanos(record.charged_usd), self.plan.calls_per_answer * held.maximum)
            self._first[record.model].leave(tells=record.error_kind not in _TELLS_NOTHING)
        self._under_way.discard(record.key)
        if record.kind == "cell" and record.error_kind == "interrupted":
            self.tell()
            return
        if record.kind == "cell":
            self.status.done += 1
            self.status.failed += record.error is not None
            self.status.over_allowance += OVER_ALLOWANCE in record.note
            self.status.above_cap += ABOVE_CAP in record.note
            if record.error is not None:
                count, words = self.status.errors.get(record.error_kind or "", (0, record.error))
                self.status.errors[record.error_kind or ""] = count + 1, words
        self.tell()

    def tell(self) -> None:
        """Report how far it is."""
        status = self.status
        status.spent_usd = self.journal.spent
        fresh, spent = status.done - status.there, self.journal.spent - self._spent_before
        measured = fresh >= PACE_FROM
        left = status.planned - status.done
        status.to_come_usd = spent / fresh * left if measured else max(0.0, self._estimate - spent) if left else 0.0
        if self.report is not None:
            self.report(status)


def _model(work: Work) -> str:
    return f"model {work.model.id!r}"


def _provider(name: str) -> str:
    return f"provider {name!r}"
