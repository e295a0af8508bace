"""Decisions in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from r2router.decide import NO_ARM, Best, Cheapest, Policy, Tradeoff, Value
from r2router.errors import NoFeasibleArm
from r2router.predict.domain_stats import THIN
from r2router.text import money, request_cost, written
from r2router.types import Arm, BoolArray, Choices, Forecast

if TYPE_CHECKING:
    from r2router.router.router import Router


def reason(
    policy: Policy, forecast: Forecast, at: int, arm: Arm, choice: Choices, order: list[int], arms: tuple[Arm, ...]
) -> str:
    """Return one to three sentences: what the arm is good for, against what it won, and what to be careful about."""
    quality, cost = float(choice.quality[0]), float(choice.cost[0])
    aim = _aim(policy, bool(choice.met[0]))
    if forecast.familiar[0]:
        words = [f"{aim}: {arm} is forecast at quality {quality:.2f} for {request_cost(cost)}."]
    else:
        words = ["The query is unlike the training data, so how well it will be answered is not known."]
        words.append(
            f"The safe choice goes by the arms' averages over the training queries. {aim}: {arm}, {quality:.2f} for"
            f" {request_cost(cost)}."
        )
    if arm != arms[at]:
        words.append(
            f"The cap falls between two budgets of {arm.model}, so the answer may be {arm.budget} tokens long."
        )
    if others := [i for i in order if i not in (at, NO_ARM)]:
        other = others[0]
        gap = float(forecast.quality[0, other]) - quality
        ratio = float(forecast.cost[0, other]) / cost if cost > 0 else np.inf
        price = f"{ratio:.2g}x the cost" if np.isfinite(ratio) else request_cost(float(forecast.cost[0, other]))
        words.append(f"Next best is {arms[other]}: {written(gap, '+.2f')} quality at {price}.")
    return " ".join(words)


def doubts(router: Router, forecast: Forecast, at: int) -> str:
    """Return what is to be said of how little is known of such a query or arm, in sentences that follow a reason;
    mostly nothing.
    """
    model = router.arms[at].model
    stand_in = dict(router.facts.like).get(model)
    words = f" Nobody measured {model}: {stand_in} stands in for it." if stand_in else ""
    evidence = router.domain_stats
    if evidence is None or not len(forecast.domain):
        return words
    domain = int(forecast.domain[0])
    name, graded = evidence.domains[domain], int(evidence.graded[domain])
    if not forecast.familiar[0]:
        if graded < THIN and evidence.spreads.level is not None:
            words += f" Little was graded of its kind ({name}), so the arms count as less different than on average."
        return words
    own = np.flatnonzero(router.pool.model_of_arm == router.pool.model_of_arm[at])
    if not graded:
        words += f" Nothing like it ({name}) was graded, so the qualities are guesses from other kinds of queries."
    elif graded < THIN:
        words += f" Little is known of such queries: {graded} of {name} were graded, so qualities may be off by a lot."
    elif not evidence.seen[domain, own].any():
        words += (
            f" {stand_in or model} was not graded on {name}, so its quality is a guess from other kinds of queries."
        )
    return words


def _aim(policy: Policy, met: bool) -> str:
    match policy:
        case Value(usd):
            return f"Best value where a correct answer is worth {money(usd)}"
        case Tradeoff(lam):
            return f"Best trade-off at lambda {lam:g}"
        case Cheapest(floor):
            return (
                f"Cheapest arm forecast to reach quality {floor:g}"
                if met
                else f"No arm is forecast to reach quality {floor:g}, so the best one"
            )
        case Best(cap):
            return f"Best arm forecast to cost at most {money(cap)}"
        case _:
            return f"By {type(policy).__name__}"


def infeasible(
    arms: tuple[Arm, ...], forecast: Forecast, policy: Policy | None, usable: BoolArray | None
) -> NoFeasibleArm:
    """Return why no arm was chosen for the first query; policy: None where any would do."""
    cost = forecast.cost[0] if usable is None else np.where(np.atleast_2d(usable)[0], forecast.cost[0], np.nan)
    cost = np.where(np.isnan(forecast.quality[0]) | ~np.isfinite(cost), np.nan, cost)
    what = (
        f"no arm costs at most {money(policy.max_cost)}"
        if isinstance(policy, Best)
        else "no arm is available for this request"
    )
    if np.isnan(cost).all():
        why = "is unavailable, excluded, lacks a required capability, has too small a context or was never observed"
        return NoFeasibleArm(f"{what}: every model {why}")
    if not isinstance(policy, Best):
        return NoFeasibleArm(
            f"{type(policy).__name__} chose no arm that may be used, though there are {int(np.isfinite(cost).sum())}"
        )
    cheapest = int(np.nanargmin(cost))
    minimum = money(float(cost[cheapest]), up=True)
    return NoFeasibleArm(f"{what}; the cheapest is {arms[cheapest]} at {minimum}: raise the cap to at least that")
