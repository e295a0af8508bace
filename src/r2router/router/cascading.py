"""The part of `Router` that works with answers: `step` and `answer`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, cast

from r2router.cascade.answers import Answer, CascadePlan, Step
from r2router.cascade.evidence import Evidence
from r2router.cascade.resume import Resumes
from r2router.cascade.spec import Check
from r2router.decide import Policy
from r2router.router.asking import Answering, Call, GoOn
from r2router.router.steps import Question

if TYPE_CHECKING:
    from r2router.router.router import Router
    from r2router.types import Arm, Choices, FloatArray, NumberArray


class Cascading:
    """The part of `Router` that looks at answers."""

    if TYPE_CHECKING:
        evidence: Evidence | None

        @property
        def arms(self) -> tuple[Arm, ...]: ...

    @cached_property
    def looks(self) -> Evidence | None:
        """The evidence for the arms that the router has now; None without a cascade."""
        like = dict(cast("Router", self).facts.like)
        return None if self.evidence is None else self.evidence.aligned(self.arms, like)

    @cached_property
    def resumes(self) -> Resumes | None:
        """Which arms can continue whose answer; None where none can, or the cascade was not trained to continue
        answers.
        """
        if self.evidence is None or not self.evidence.plan.continue_answers:
            return None
        router = cast("Router", self)
        return Resumes.of(router.pool, router.controls)

    def step(
        self,
        text: str,
        seen: Sequence[Answer] = (),
        policy: Policy | None = None,
        *,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_steps: int | None = None,
    ) -> Step:
        """Return the next step of a cascade: an arm to ask, or the answer to accept.

        seen: the answers so far, in the order of asking; their cost is counted.
        policy, require, exclude: as in `route`; `Best` caps the cost of all calls, `Cheapest` sets a minimum for the
            accepted answer.
        max_steps: the maximum number of answers; by default the recipe's.

        Where the router has no cascade, or looking at answers did not pay in training, the first step is `route`'s
        choice, and its answer is accepted. Raises `QueryError` for an empty text or an answer of an unknown arm, and
        what `route` raises.
        """
        return Question.of(cast("Router", self), text, policy, require, exclude, max_steps).step(seen)

    def plan(
        self,
        text: str,
        policy: Policy | None = None,
        *,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_steps: int | None = None,
    ) -> CascadePlan:
        """Return what the cascade is expected to do with a text: the first arm, when it asks another, calls, cost.

        Nothing is asked. The arguments are those of `step`. Raises as `step` does.
        """
        from r2router.router.planning import plan_of

        return plan_of(Question.of(cast("Router", self), text, policy, require, exclude, max_steps))

    def first_steps(
        self,
        vectors: FloatArray,
        policy: Policy | None = None,
        input_tokens: NumberArray | float | None = None,
        *,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Choices:
        """Return the arms that `step` asks first, for (n, dim) embeddings, as arrays. The arguments are those of
        `decide`.

        Where the router has no cascade, or the policy is of another kind, these are the choices of `Router.decide`.
        Raises as `decide` does.
        """
        from r2router.router.planning import first_steps

        return first_steps(cast("Router", self), vectors, policy, input_tokens, require, exclude)

    def answer(  # noqa: PLR0913 - what is asked for, by name
        self,
        text: str,
        call: Call,
        policy: Policy | None = None,
        *,
        check: Check | None = None,
        go_on: GoOn | None = None,
        max_steps: int | None = None,
        deadline_s: float | None = None,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Answering:
        """Run a cascade: `result = await router.answer(text, call)`, or `async for step, answer in router.answer(text,
        call)`.

        call: asks an arm: takes a `Decision`; returns an `Answer` or its text, or an awaitable of one. Where a call
            raises, that arm is left out.
        check: see `r2router.cascade.checks`. Where its reliability was not learned, its verdict is taken as the truth,
            and the cheapest answer that passes wins.
        go_on: asks an arm to continue an answer of the same model: takes a `Decision` and an `Answer`; returns the
            whole `Answer`. Used where the router was trained with `Cascade(continue_answers=True)`; without it every
            arm answers from the beginning.
        deadline_s: seconds for all calls and checks; then the best answer so far is accepted. A call that is no
            coroutine blocks, and the deadline is looked at after it.

        The other arguments are those of `step`. Raises `UsageError` where an argument is of another kind, `NoAnswer`
        where no arm answered, and what `step` raises.
        """
        question = Question.of(cast("Router", self), text, policy, require, exclude, max_steps)
        question = question if check is None else question.checked()
        return Answering(question if go_on else replace(question, resumes=None), call, check, deadline_s, go_on=go_on)
