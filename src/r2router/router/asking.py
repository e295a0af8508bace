"""Runs a cascade with the caller's function that asks an arm."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from r2router.cascade.answers import Answer, Step
from r2router.cascade.checks import SECONDS, verdict
from r2router.cascade.spec import Check
from r2router.errors import NoAnswer, QueryError, UsageError, expect
from r2router.router.steps import Question
from r2router.text import says_nothing
from r2router.types import Decision

Call = Callable[[Decision], Answer | str | Awaitable[Answer | str]]
"""Asks an arm: a decision -> its answer, or the text of it."""

GoOn = Callable[[Decision, Answer], Answer | Awaitable[Answer]]
"""Asks an arm to continue an answer of the same model: a decision and that answer -> the whole answer."""


def expect_function(what: str, value: object) -> None:
    """Raise `UsageError` where an argument cannot be called."""
    if not callable(value):
        raise UsageError(f"{what} is {value!r:.60}, of type {type(value).__name__}; give a function")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a cascade.

    answer: the accepted one.
    seen: all answers, in the order of asking.
    steps: the decisions; the last one accepts.
    failed: (arm, why) of calls that failed.
    notes: anything unusual: a check that could not tell, a deadline.
    seconds: the duration of the whole cascade.
    """

    answer: Answer
    seen: tuple[Answer, ...]
    steps: tuple[Step, ...]
    failed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def paid(self) -> float:
        """US dollars for all answers."""
        return self.steps[-1].paid


@dataclass(eq=False)
class Answering:
    """One run of a cascade: await it for its `Result`, or iterate over its steps (`async for step, answer in ...`).

    The step that accepts comes with the accepted answer. It runs once: whoever awaits it again gets the
    same result.
    """

    question: Question
    call: Call
    check: Check | None = None
    deadline_s: float | None = None
    check_seconds: float = SECONDS
    go_on: GoOn | None = None
    _seen: list[Answer] = field(default_factory=list)
    _steps: list[Step] = field(default_factory=list)
    _failed: list[tuple[str, str]] = field(default_factory=list)
    _notes: list[str] = field(default_factory=list)

    def __await__(self) -> Generator[Any, None, Result]:
        return self._run().__await__()

    def __post_init__(self) -> None:
        """Raises `UsageError`: before anything was asked, and paid."""
        expect_function("call", self.call)
        for name in ("check", "go_on"):
            if getattr(self, name) is not None:
                expect_function(name, getattr(self, name))
        if self.deadline_s is not None:
            expect("deadline_s", self.deadline_s, (int, float), "seconds, or None")
            if not self.deadline_s >= 0:
                raise UsageError(f"deadline_s is {self.deadline_s!r}; give seconds, at least 0")

    async def __aiter__(self) -> AsyncIterator[tuple[Step, Answer]]:
        if self._steps and self._steps[-1].call is None:  # it has run: nothing is asked and paid a second time
            for taken, said in zip(self._steps, [*self._seen, self._accepted], strict=True):
                yield taken, said
            return
        ends = None if self.deadline_s is None else time.monotonic() + self.deadline_s
        question = self.question
        while True:
            step = question.step(self._seen)
            late = ends is not None and time.monotonic() >= ends
            if step.call is not None and late:
                step = self._stop(question, "the deadline has passed")
            if step.call is None:
                self._steps.append(step)
                yield step, self._accepted
                return
            answer = await self._ask(step.call, step.continues, ends)
            if answer is None:
                question = question.without(step.call.arm)
                if not self._seen and not question.left:
                    raise NoAnswer(f"no arm answered: {'; '.join(f'{arm}: {why}' for arm, why in self._failed)}")
                continue
            self._seen.append(answer)
            self._steps.append(step)
            yield step, answer

    async def _run(self) -> Result:
        began = time.monotonic()
        async for _ in self:
            pass
        return Result(
            answer=self._accepted,
            seen=tuple(self._seen),
            steps=tuple(self._steps),
            failed=tuple(self._failed),
            notes=tuple(self._notes),
            seconds=time.monotonic() - began,
        )

    @property
    def _accepted(self) -> Answer:
        return self._seen[self._steps[-1].accept or 0]

    async def _ask(self, decision: Decision, continues: int | None, ends: float | None) -> Answer | None:
        """Ask an arm and check its answer; None where the call failed or did not end in time."""
        left = None if ends is None else max(ends - time.monotonic(), 0.0)
        try:
            said = (
                self.call(decision)
                if continues is None or self.go_on is None
                else self.go_on(decision, self._seen[continues])
            )
            if inspect.isawaitable(said):
                said = await asyncio.wait_for(said, left)
        except TimeoutError:
            self._failed.append((str(decision.arm), "did not answer in time"))
            return None
        except Exception as error:  # noqa: BLE001 - one call that failed is no failed cascade
            self._failed.append((str(decision.arm), f"{type(error).__name__}: {str(error)[:200]}"))
            return None
        answer = Answer(str(decision.arm), said) if isinstance(said, str) else said
        if not isinstance(answer, Answer):
            raise QueryError(f"call({decision.arm}) gave {type(answer).__name__}; it must give an Answer or its text")
        if continues is not None:
            answer = msgspec.structs.replace(answer, continues=continues)
        if self.check is None or answer.check is not None or says_nothing(answer.text):
            return answer
        left = self.check_seconds if ends is None else min(self.check_seconds, max(ends - time.monotonic(), 0.0))
        found, why = await asyncio.to_thread(verdict, self.check, self.question.text, answer.text, left)
        if why:
            self._notes.append(f"{answer.arm}: {why}")
        return answer if math.isnan(found) else msgspec.structs.replace(answer, check=found)

    def _stop(self, question: Question, why: str) -> Step:
        if not self._seen:
            raise NoAnswer(f"{why}, and no arm has answered")
        self._notes.append(why)
        return question.accept_best(self._seen, why)
