"""The steps of a cascade: ask an arm, look at its answer, accept it or ask another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from r2router.cascade.answers import Answer, Step
from r2router.cascade.evidence import Beliefs, Evidence
from r2router.cascade.resume import Resumes
from r2router.cascade.signals import WORDS, key_words, numbers_of, question_words, value_of
from r2router.cascade.value import STOP, Terms, may_ask, next_arm
from r2router.decide import Best, Cheapest, Policy, Tradeoff, Value
from r2router.encode.embed import vector_of
from r2router.encode.tokens import count_tokens
from r2router.errors import PolicyError
from r2router.router.checks import check_query
from r2router.router.seen import check_seen, terms_of, verdict_of
from r2router.text import money, says_nothing
from r2router.types import BoolArray, Decision, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.router.router import Router


@dataclass(frozen=True, eq=False)
class Question:
    """One question under one policy, with everything that does not change while answers come in.

    cost: (arms,) expected US dollars, infinite where an arm must not be asked.
    terms: None for a policy that cascades do not know.
    given_steps: the maximum number of arms, where the caller sets one.
    resumes: which arms can continue answers; None where none can.
    """

    router: Router
    evidence: Evidence | None
    text: str
    x: FloatArray
    forecast: Forecast
    usable: BoolArray | None
    cost: FloatArray
    policy: Policy
    terms: Terms | None
    given_steps: int | None = None
    resumes: Resumes | None = None

    @classmethod
    def of(
        cls,
        router: Router,
        text: str,
        policy: Policy | None,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
        max_steps: int | None = None,
    ) -> Question:
        """Prepare a question. Raises `QueryError` for an empty text, `PolicyError`."""
        check_query(text, None)
        policy = router.resolve(policy)
        counts = count_tokens([text])
        x = vector_of(router.encoder, text)
        forecast = router.forecast_vectors(x, counts)
        found = cls.on(router, text, x, forecast, router.usable(require, exclude, counts), policy, max_steps)
        return replace(found, resumes=router.resumes)

    @classmethod
    def on(
        cls,
        router: Router,
        text: str,
        x: FloatArray,
        forecast: Forecast,
        usable: BoolArray | None,
        policy: Policy | None,
        max_steps: int | None = None,
    ) -> Question:
        """Prepare a question from the caller's embedding (1, dim), forecast and mask, (arms,) or (1, arms).

        Answers are then not continued.
        """
        if max_steps is not None and (isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1):
            raise PolicyError(f"max_steps is {max_steps!r}; it is a whole number of at least 1")
        policy = router.resolve(policy)
        row = None if usable is None else np.atleast_2d(usable)[0]
        cost = np.where(np.isnan(forecast.quality[0]) | ~np.isfinite(forecast.cost[0]), np.inf, forecast.cost[0])
        cost = cost if row is None else np.where(row, cost, np.inf)
        return cls(router, router.looks, text, x, forecast, row, cost, policy, terms_of(policy, cost), max_steps)

    @property
    def max_steps(self) -> int:
        """The maximum number of arms that are asked."""
        own = self.evidence.plan.max_steps if self.looking and self.evidence is not None else 1
        return own if self.given_steps is None else self.given_steps

    @property
    def truth(self) -> bool:
        """Whether every answer is checked and the check is taken as the truth."""
        return self.terms is not None and self.terms.truth

    def checked(self) -> Question:
        """Return the same question where the user's check decides whether an answer is right: the cheapest answer that
        passes wins.

        Where the check's reliability was learned, its verdict is evidence, and nothing changes here.
        """
        if self.truth or self.terms is None or (self.evidence is not None and len(self.evidence.verdict)):
            return self
        found = self.evidence or Evidence.empty(self.router.arms, self.x.shape[1])
        plan = msgspec.structs.replace(found.plan, active=True)
        return replace(self, evidence=replace(found, plan=plan), terms=replace(self.terms, truth=True))

    @property
    def looking(self) -> bool:
        """Whether the cascade looks at answers."""
        return self.evidence is not None and self.evidence.plan.active

    def step(self, seen: Sequence[Answer]) -> Step:
        arms = check_seen(self.router, seen)
        if not self.truth and any(answer.check is not None for answer in seen):
            checked = self.checked()
            if checked.truth:
                return checked.step(seen)
        paid = self.paid(seen, arms)
        if not seen and (not self.looking or self.max_steps == 1):
            decision = self.router.explain(self.forecast, self.policy, self.usable)
            return Step(
                call=decision, accept=None, value=self._worth(decision), reason=f"{decision.reason}{self._alone}"
            )
        beliefs = self.believe(seen, arms)
        return self._accept(beliefs, paid) or self._next(beliefs, arms, paid)

    def believe(self, seen: Sequence[Answer], arms: Sequence[int]) -> Beliefs:
        """Return the probabilities after these answers."""
        evidence = self.evidence or Evidence.empty(self.router.arms, self.x.shape[1])
        beliefs = Beliefs.of(evidence, self.forecast.quality, max(len(seen), 1), WORDS)
        asked, row = question_words(self.text), np.zeros(1, dtype=np.intp)
        for slot, (answer, arm) in enumerate(zip(seen, arms, strict=True)):
            used = np.nan if answer.output_tokens is None else float(answer.output_tokens)
            at = np.array([arm])
            if says_nothing(answer.text):
                ratio = np.array([-np.inf])
            elif self.evidence is None:
                ratio = evidence.verdicts(verdict_of(answer))
            else:
                expected, why = float(self.forecast.tokens[0, arm]), answer.finish_reason or ""
                numbers = np.array([numbers_of(asked, answer.text, used, expected, why, answer.logprob)])
                ratio = evidence.ratio(self.x, at, numbers, beliefs.prior[:, arm]) + evidence.verdicts(
                    verdict_of(answer)
                )
            words, value = key_words(asked, answer.text)[None], np.array([value_of(answer.text)])
            beliefs.see(row, at, ratio, words, value, slot)
        return beliefs

    def without(self, arm: str) -> Question:
        """Return the same question without an arm."""
        keep = np.array([str(own) != arm for own in self.router.arms])
        usable: BoolArray = keep if self.usable is None else self.usable & keep
        return replace(self, usable=usable, cost=np.where(keep, self.cost, np.inf))

    @property
    def left(self) -> bool:
        """Whether any arm may be asked."""
        return bool(np.isfinite(self.cost).any())

    def accept_best(self, seen: Sequence[Answer], why: str) -> Step:
        """Accept the best of these answers, whatever another call would be worth."""
        arms = check_seen(self.router, seen)
        return self._accepted(self.believe(seen, arms), self.paid(seen, arms), why)

    def paid(self, seen: Sequence[Answer], arms: Sequence[int]) -> float:
        """US dollars of answers, by their tokens, or by the forecast tokens where those are not known."""
        return sum((self._paid(answer, arm, seen, arms) for answer, arm in zip(seen, arms, strict=True)), 0.0)

    def _paid(self, answer: Answer, arm: int, seen: Sequence[Answer], arms: Sequence[int]) -> float:
        if answer.usd is not None:
            return float(answer.usd)
        inputs = self.router.input_tokens.estimate(count_tokens([self.text]))
        if answer.input_tokens is not None:
            inputs = np.full_like(inputs, float(answer.input_tokens))
        outputs = (
            self.forecast.tokens if answer.output_tokens is None else np.full_like(inputs, float(answer.output_tokens))
        )
        cost = float(self.router.pool.cost(inputs, outputs)[0, arm])
        if answer.continues is not None and self.resumes is not None and self.resumes.goes[arms[answer.continues], arm]:
            before = seen[answer.continues].output_tokens
            tokens = self.forecast.tokens if before is None else np.full_like(inputs, float(before))
            asked = np.arange(len(self.router.arms))[None] == arms[answer.continues]
            cost = max(cost - float(self.resumes.saved(asked, np.minimum(tokens, outputs))[0, arm]), 0.0)
        return cost if math.isfinite(cost) else 0.0

    def affordable(self, paid: FloatArray | float, asked: BoolArray) -> FloatArray:
        """Return (n, arms) expected US dollars of asking each arm.

        paid: (n,) US dollars paid so far.
        asked: (n, arms) which arms were asked.

        Infinite where an arm must not be asked, or where a cap on all calls leaves too little.
        """
        spent = np.atleast_1d(np.asarray(paid, dtype=np.float64))[:, None]
        cost = np.broadcast_to(self.cost, (len(spent), len(self.cost)))
        if self.resumes is not None and asked.any():
            cost = np.maximum(cost - self.resumes.saved(asked, np.broadcast_to(self.forecast.tokens, cost.shape)), 0.0)
        return np.where(cost + spent <= self.policy.max_cost, cost, np.inf) if isinstance(self.policy, Best) else cost

    # -- inside --------------------------------------------------------------------------------------------------

    def _accept(self, beliefs: Beliefs, paid: float) -> Step | None:
        """Accept the best answer, where no arm may be asked or none is worth it."""
        count = int((~np.isnan(beliefs.chance[0])).sum())
        if not count:
            return None
        why = ""
        if isinstance(self.policy, Best) and paid > self.policy.max_cost:
            why = f"{money(paid, up=True)} was paid, more than the cap of {money(self.policy.max_cost)}"
        elif not self.looking and count >= self.max_steps:
            why = "No further arm is asked" + self._alone
        elif count >= self.max_steps:
            why = f"{count} arm{'' if count == 1 else 's'} asked, and {self.max_steps} is the most"
        elif not np.isfinite(
            may_ask(beliefs, np.zeros(1, dtype=np.intp), self.affordable(paid, beliefs.asked), None)
        ).any():
            why = "no other arm may be asked" if not isinstance(self.policy, Best) else "the cap leaves no other arm"
        return self._accepted(beliefs, paid, why) if why else None

    def _next(self, beliefs: Beliefs, arms: Sequence[int], paid: float) -> Step:
        """Ask another arm, or accept the best answer where that is worth more."""
        row, count = np.zeros(1, dtype=np.intp), len(arms)
        cost = may_ask(beliefs, row, self.affordable(paid, beliefs.asked), None)
        if self.terms is None:
            return self._by_policy(beliefs, cost, arms, paid)
        arm, worth = next_arm(beliefs, row, cost, self.terms, max(self.max_steps - count - 1, 0))
        at = int(arm[0])
        if at == STOP:
            if not count:  # nothing may be asked: the router says why
                self.router.explain(self.forecast, self.policy, self.usable)
            reached = not math.isnan(self.terms.floor) and float(beliefs.best(row)[0]) >= self.terms.floor
            passed = self.truth and float(beliefs.chance[0].max(initial=0.0)) >= 1
            why = (
                "it passes the check"
                if passed
                else "it reaches the floor"
                if reached
                else "asking on is not worth its price"
            )
            return self._accepted(beliefs, paid, why)
        return self._ask(beliefs, at, (worth, cost), arms, paid)

    def _by_policy(self, beliefs: Beliefs, cost: FloatArray, arms: Sequence[int], paid: float) -> Step:
        """Decide by a user's own policy: it chooses among the arms, where the best answer so far costs nothing more."""
        quality, count, asking = beliefs.now.copy(), len(arms), cost
        best = int(np.nan_to_num(beliefs.chance[0], nan=-1.0).argmax()) if count else -1
        had = np.flatnonzero(beliefs.asked[0])
        if count:
            cost = cost.copy()
            cost[0, had] = np.inf
            keep = int(had[np.argmax(quality[0, had])])
            cost[0, keep], quality[0, keep] = 0.0, float(beliefs.chance[0, best])
        forecast = msgspec.structs.replace(self.forecast, quality=quality, cost=cost)
        at = int(self.router.choose(forecast, self.policy, np.isfinite(cost)).arm[0])
        if count and (at < 0 or at in had):
            return self._accepted(beliefs, paid, "the policy asks for no other arm")
        if at < 0:
            self.router.explain(self.forecast, self.policy, self.usable)
        return self._ask(beliefs, at, (quality - cost, asking), arms, paid)

    def _ask(
        self, beliefs: Beliefs, at: int, worth_and_cost: tuple[FloatArray, FloatArray], arms: Sequence[int], paid: float
    ) -> Step:
        (worth, asking), count, arm = worth_and_cost, len(arms), self.router.arms[at]
        source = None if self.resumes is None else self.resumes.source(at, arms)
        only = np.arange(len(self.router.arms)) == at
        forecast = msgspec.structs.replace(self.forecast, quality=beliefs.now)
        policy = Best(max(self.policy.max_cost - paid, 0.0)) if isinstance(self.policy, Best) else self.policy
        found = self.router.explain(forecast, policy, only)
        best = float(beliefs.best(np.zeros(1, dtype=np.intp))[0])
        if source is not None:
            found = msgspec.structs.replace(found, cost=float(asking[0, at]))
        if count:
            how = "asked" if source is None else f"to go on from answer {source}"
            reason = (
                f"The best of {count} answers is {best:.0%} likely right, so {arm} is {how}, at {money(found.cost)}."
            )
        else:
            reason = f"First {arm}: forecast {found.quality:.0%} right at {money(found.cost)}; its answer is looked at."
        found = msgspec.structs.replace(found, reason=reason, fallbacks=self._fallbacks(at, worth, beliefs))
        return Step(
            call=found,
            accept=None,
            value=float(worth[0, at]),
            quality=best if count else math.nan,
            paid=paid,
            met=found.met,
            reason=reason,
            continues=source,
        )

    def _fallbacks(self, at: int, worth: FloatArray, beliefs: Beliefs) -> Any:
        """Return the next best arms, one per model."""
        model, found = self.router.pool.model_of_arm, list[int]()
        for other in np.argsort(-worth[0], kind="stable").tolist():
            may = np.isfinite(worth[0, other]) and np.isfinite(self.cost[other]) and not beliefs.asked[0, other]
            if may and model[other] not in {model[at], *(model[f] for f in found)}:
                found.append(other)
        return tuple(self.router.arms[f] for f in found[:_MAX_FALLBACKS])

    def _accepted(self, beliefs: Beliefs, paid: float, why: str) -> Step:
        chance = np.nan_to_num(beliefs.chance[0], nan=-1.0)
        at = int(chance.argmax())
        best = float(chance[at])
        met = not (isinstance(self.policy, Best) and paid > self.policy.max_cost)
        if isinstance(self.policy, Cheapest):
            met = best >= self.policy.min_quality
            why = why if met else f"{why}; the floor of {self.policy.min_quality:g} is not reached"
        usd = self.terms.usd if isinstance(self.policy, (Value, Tradeoff)) and self.terms is not None else 1.0
        reason = f"Answer {at} of {int((chance >= 0).sum())} is accepted, {best:.0%} likely right: {why}."
        return Step(call=None, accept=at, value=usd * best, quality=best, paid=paid, met=met, reason=reason)

    def _worth(self, decision: Decision) -> float:
        usd = self.terms.usd if isinstance(self.policy, (Value, Tradeoff)) and self.terms is not None else None
        return decision.quality if usd is None else usd * decision.quality - decision.cost

    @property
    def alone(self) -> str:
        """Why answers are not looked at; empty where they are."""
        if self.evidence is None:
            return "This router has no cascade: its table had no answers to learn from, or it was trained without one."
        return "" if self.looking else "Looking at answers did not pay in training, so this cascade does not look."

    @property
    def _alone(self) -> str:
        return f" ({self.alone})" if self.alone else ""


_MAX_FALLBACKS = 5
