"""A cascade within one request: arms are asked one by one, and the accepted answer goes to the client unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from r2router.cascade.answers import Answer
from r2router.gateway.attempt import Attempts, BegunReply, FailedAttempt
from r2router.gateway.billing import Bill, usage_from
from r2router.gateway.step import CascadeSetup, Plan, PlannedStep
from r2router.router.steps import Question

if TYPE_CHECKING:
    from r2router.cascade.answers import Step as Next


@dataclass
class CascadeAnswer:
    """An answer that was looked at.

    held: the whole reply.
    """

    step: PlannedStep
    held: BegunReply
    answer: Answer


@dataclass
class CascadeOutcome:
    """How a cascade ended.

    accepted: what goes to the client; None where no arm answered.
    reason: why it was accepted.
    lost: the last failure.
    """

    accepted: CascadeAnswer | None
    reason: str = ""
    lost: FailedAttempt | None = None


class GatewayCascade:
    """One run of a cascade.

    maximum: the maximum number of calls.

    Each call is billed when it ends; the accepted one when it has been relayed.
    """

    def __init__(self, plan: Plan, looks: CascadeSetup, attempts: Attempts, maximum: int) -> None:
        self._plan, self._looks, self._attempts, self._max = plan, looks, attempts, maximum
        self.seen: list[CascadeAnswer] = []

    async def run(
        self,
        deadline: float,
        began: Callable[[PlannedStep], None],
        failed: Callable[[FailedAttempt, PlannedStep], None],
    ) -> CascadeOutcome:
        """Ask arms until an answer is accepted.

        deadline: by the loop's clock; then the best answer so far is taken.
        began: called with each step that is asked.
        failed: called with each failure.
        """
        question, lost, loop = self._looks.question, None, asyncio.get_running_loop()
        calls = 0
        while True:
            left = question.left or bool(self.seen)
            if not left or (not self.seen and calls >= self._max):
                return CascadeOutcome(None, lost=lost)
            found = await self._next(question, stop=loop.time() >= deadline or calls >= self._max)
            if found.call is None:
                return CascadeOutcome(self.seen[found.accept or 0], f"cascade: {found.reason}", lost)
            calls += 1
            step = self._looks.make(found.call)
            began(step)
            held = await self._attempts.whole(step, deadline)
            if isinstance(held, FailedAttempt):
                lost = held
                failed(held, step)
                if held.action == "return":
                    return CascadeOutcome(None, lost=held) if not self.seen else await self._best(question, held)
                question = question.without(step.arm)
                continue
            self.seen.append(CascadeAnswer(step, held.held, self._answer(step, held.held)))
            # too long to look at, or calls of tools, which only the client can judge
            if not held.fits or held.held.tap.watch.calls:
                return CascadeOutcome(self.seen[-1], "cascade: it is relayed unseen", lost)

    async def _next(self, question: Question, *, stop: bool) -> Next:
        answers = [seen.answer for seen in self.seen]
        if stop and answers:
            return await asyncio.to_thread(question.accept_best, answers, "no further call is made")
        return await asyncio.to_thread(question.step, answers)

    async def _best(self, question: Question, lost: FailedAttempt) -> CascadeOutcome:
        found = await self._next(question, stop=True)
        return CascadeOutcome(self.seen[found.accept or 0], f"cascade: {found.reason}", lost)

    def _answer(self, step: PlannedStep, held: BegunReply) -> Answer:
        watch, bill = held.tap.watch, Bill()
        usage, estimated = usage_from(self._plan, step, watch, held.sent_bytes)
        bill.add(self._plan, step, usage, estimated=estimated)
        usd = None if bill.cost is None else bill.cost / 1e9
        return Answer(step.arm, watch.words, float(usage.output), float(usage.input), watch.finish, usd=usd)
