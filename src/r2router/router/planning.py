"""What a cascade is expected to do before anything is asked: in words for one question, as arrays of first arms for
many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from r2router.cascade.answers import CascadePlan
from r2router.cascade.evidence import BINS, Beliefs, log_odds
from r2router.cascade.signals import WORDS
from r2router.cascade.value import STOP, may_ask, next_arm
from r2router.decide import NO_ARM, Policy
from r2router.router.seen import terms_of
from r2router.router.steps import Question
from r2router.text import money
from r2router.types import Choices, FloatArray, IntArray, NumberArray

if TYPE_CHECKING:
    from r2router.router.router import Router

_MAX_WAYS = 4_000  # ways through a cascade that are followed at once; the least likely ones end there
_GRID = np.linspace(0.01, 0.99, 99)
_BLOCK = 128  # questions whose first arm is chosen at once


def plan_of(question: Question) -> CascadePlan:
    """Compute the plan of a cascade by summing over all sizes of evidence that the answers may give, one after the
    other.

    Agreement between answers is not known beforehand, and not counted.
    """
    step = question.step(())
    first = step.call
    assert first is not None  # noqa: S101 - nothing was asked yet, and a router without any arm to ask has raised
    alone = CascadePlan(first=first, looks=False, cost=first.cost, quality=first.quality, reason=_words_alone(question))
    if not question.looking or question.terms is None or question.max_steps == 1:
        return alone
    ways = _Ways(question.max_steps)
    beliefs = Beliefs.of(question.evidence, question.forecast.quality, question.max_steps, WORDS)  # type: ignore[arg-type]
    _follow(question, beliefs, ways)
    at = question.router.pool.index[first.arm]
    second = {str(question.router.arms[arm]): share for arm, share in ways.second.items()}
    shares = tuple(float(share) for share in np.trim_zeros(ways.share[1:], "b"))
    found = CascadePlan(
        first=first,
        looks=True,
        accept_from=_accept_from(question, at),
        second=tuple(sorted(second.items(), key=lambda pair: -pair[1])),
        calls=float(ways.share @ np.arange(len(ways.share))),
        calls_share=shares,
        cost=ways.cost,
        quality=ways.quality,
    )
    return _with_words(found)


@dataclass(slots=True)
class _Ways:
    """Sums over the possible courses of a cascade.

    share: (steps + 1,) the probability of that many calls.
    second: arm -> the probability that it is asked second.
    """

    steps: int
    share: FloatArray = field(init=False)
    cost: float = 0.0
    quality: float = 0.0
    second: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.share = np.zeros(self.steps + 1)

    def end(self, count: int, weight: FloatArray, best: FloatArray) -> None:
        """Count courses that accept their best answer after `count` calls."""
        self.share[count] += float(weight.sum())
        self.quality += float(weight @ best)


def _follow(question: Question, beliefs: Beliefs, ways: _Ways) -> None:
    evidence = beliefs.evidence
    weight, paid = np.ones(1), np.zeros(1)
    for count in range(question.max_steps):
        rows = np.arange(len(weight))
        prices = may_ask(beliefs, rows, question.affordable(paid, beliefs.asked), None)
        arm, _ = next_arm(beliefs, rows, prices, question.terms, question.max_steps - count - 1)  # type: ignore[arg-type]
        go = arm != STOP
        if len(weight) > _MAX_WAYS // BINS:  # nothing of any size is lost: what ends early is the least likely
            go &= weight >= np.sort(weight)[-_MAX_WAYS // BINS]
        ways.end(count, weight[~go], beliefs.best(rows)[~go])
        rows, arm, weight, paid = rows[go], arm[go], weight[go], paid[go]
        if not len(rows):
            return
        asking = prices[go][np.arange(len(arm)), arm]
        ways.cost += float(weight @ asking)
        if count == 1:
            for one in np.unique(arm).tolist():
                ways.second[one] = float(weight[arm == one].sum())
        chance = beliefs.now[rows, arm, None]
        joint = chance * evidence.right[arm]
        size = joint + (1 - chance) * evidence.wrong[arm]  # (ways, BINS)
        each, bins = np.repeat(np.arange(len(rows)), BINS), np.tile(np.arange(BINS), len(rows))
        beliefs = beliefs.take(rows[each])
        after = (joint / size)[each, bins]
        nothing = np.zeros((len(each), WORDS), dtype=np.uint32), np.zeros(len(each), dtype=np.int64)
        beliefs.see(np.arange(len(each)), arm[each], log_odds(after) - log_odds(chance[each, 0]), *nothing, count)
        weight, paid = weight[each] * size[each, bins], paid[each] + asking[each]
    ways.end(question.max_steps, weight, beliefs.best(np.arange(len(weight))))


def _accept_from(question: Question, at: int) -> float:
    """Return the probability of being right from which the first answer is accepted."""
    rows = np.arange(len(_GRID))
    beliefs = Beliefs.of(question.evidence, np.repeat(question.forecast.quality, len(rows), axis=0), 1, WORDS)  # type: ignore[arg-type]
    ratio = log_odds(_GRID) - log_odds(beliefs.now[rows, at])
    beliefs.see(
        rows, np.full(len(rows), at), ratio, np.zeros((len(rows), WORDS), np.uint32), np.zeros(len(rows), np.int64), 0
    )
    paid = np.full(len(rows), question.cost[at])
    prices = may_ask(beliefs, rows, question.affordable(paid, beliefs.asked), None)
    arm, _ = next_arm(beliefs, rows, prices, question.terms, question.max_steps - 2)  # type: ignore[arg-type]
    asked_on = np.flatnonzero(arm != STOP)
    if not len(asked_on):
        return 0.0
    return float(_GRID[asked_on[-1] + 1]) if asked_on[-1] + 1 < len(_GRID) else 1.0


def _words_alone(question: Question) -> str:
    if not question.looking:
        return question.alone
    if question.max_steps == 1:
        return "One arm may be asked, so its answer is accepted."
    return f"How {type(question.policy).__name__} goes on is not known before an answer is there."


def _with_words(plan: CascadePlan) -> CascadePlan:
    import msgspec

    if plan.accept_from == 0:
        words = "The first answer is accepted, whatever it is: at its price no other arm is worth asking."
    elif plan.accept_from == 1:
        words = "No first answer is sure enough to be accepted at once."
    else:
        words = f"The first answer is accepted where it is at least {plan.accept_from:.0%} likely right."
    named = [f"{arm} ({share:.0%})" for arm, share in plan.second[:3]]
    if named:
        words += f" Else the next is {', '.join(named)}{', ...' if len(plan.second) > len(named) else ''}."
    expected = f"{plan.calls:.1f} calls, {money(plan.cost)} in all, {plan.quality:.0%} right"
    return msgspec.structs.replace(plan, reason=f"{words} Expected: {expected}.")


def first_steps(
    router: Router,
    vectors: FloatArray,
    policy: Policy | None,
    input_tokens: NumberArray | float | None,
    require: Iterable[str],
    exclude: Iterable[str],
) -> Choices:
    """Do the work of `Router.first_steps`."""
    evidence, policy = router.looks, router.resolve(policy)
    require, exclude = tuple(require), tuple(exclude)
    if (
        evidence is None
        or not evidence.plan.active
        or evidence.plan.max_steps == 1
        or terms_of(policy, np.zeros(1)) is None
    ):
        return router.decide(vectors, policy, input_tokens, require=require, exclude=exclude)
    forecast = router.forecast_vectors(vectors, input_tokens)
    counts = (
        None
        if input_tokens is None
        else np.broadcast_to(np.asarray(input_tokens, dtype=np.float64), len(forecast)).copy()
    )
    usable = router.usable(require, exclude, counts)
    parts = []
    for at in range(0, len(forecast), _BLOCK):
        own = forecast[at : at + _BLOCK]
        mask = usable[at : at + _BLOCK] if usable is not None and usable.ndim == 2 else usable
        known = np.isfinite(own.quality) & np.isfinite(own.cost)
        cost = np.where(known if mask is None else known & mask, own.cost, np.inf)
        arm = _first_arms(Beliefs.of(evidence, own.quality, 1, WORDS), cost, policy)
        chosen = router.choose(own, policy, arm[:, None] == np.arange(len(router.arms)))
        parts.append(chosen)
    return (
        Choices.join(parts) if parts else router.decide(vectors, policy, input_tokens, require=require, exclude=exclude)
    )


def _first_arms(beliefs: Beliefs, cost: FloatArray, policy: Policy) -> IntArray:
    """Return (n,) the arm to ask first, -1 where none may be asked."""
    from r2router.decide import Best

    rows = np.arange(len(cost))
    within = np.where(cost <= policy.max_cost, cost, np.inf) if isinstance(policy, Best) else cost
    terms = terms_of(policy, cost)
    assert terms is not None  # noqa: S101 - looked at before
    arm, _ = next_arm(beliefs, rows, may_ask(beliefs, rows, within, None), terms, beliefs.evidence.plan.max_steps - 1)
    return np.where(arm == STOP, NO_ARM, arm)
