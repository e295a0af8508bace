"""What a `Router` does with answers: `step`, `answer`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

from r2router.cascade.answers import Answer, Step
from r2router.cascade.evidence import Evidence
from r2router.cascade.spec import Check
from r2router.decide import Policy
from r2router.router.asking import Answering, Call
from r2router.router.steps import Question

if TYPE_CHECKING:
    from r2router.router.router import Router
    from r2router.types import Arm


class Cascading:
    """The part of `Router` that looks at answers."""

    if TYPE_CHECKING:
        evidence: Evidence | None

        @property
        def arms(self) -> tuple[Arm, ...]: ...

    @cached_property
    def looks(self) -> Evidence | None:
        """The evidence for the arms that the router has now; None where it has no cascade."""
        return None if self.evidence is None else self.evidence.aligned(self.arms)

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
        """The next step of a cascade: an arm to ask, or the answer to accept.

        seen: the answers so far, in the order of asking; what they cost counts. policy, require, exclude: as in `route`; `Best` is a cap
        on the whole, `Cheapest` a floor on the accepted answer. max_steps: the most answers; by default the recipe's.
        Where the router has no cascade, or looking did not pay in training, the first step is `route`'s choice, and its answer is accepted.
        Raises `QueryError` for an empty text or an answer of an arm that the router does not have, and what `route` raises.
        """
        return Question.of(cast("Router", self), text, policy, require, exclude, max_steps).step(seen)

    def answer(
        self,
        text: str,
        call: Call,
        policy: Policy | None = None,
        *,
        check: Check | None = None,
        max_steps: int | None = None,
        deadline_s: float | None = None,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Answering:
        """Run a cascade: `result = await router.answer(text, call)`, or `async for step, answer in router.answer(text, call)`.

        call: asks an arm: a `Decision` -> an `Answer` or its text, or an awaitable of one. A call that raises is one arm less. check: see
        `r2router.cascade.checks`. deadline_s: seconds for all calls; then the best answer seen is accepted. The rest is as in `step`.
        Raises `NoAnswer` where no arm answered, and what `step` raises.
        """
        return Answering(Question.of(cast("Router", self), text, policy, require, exclude, max_steps), call, check, deadline_s)
