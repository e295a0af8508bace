"""What a collection still costs: arm by arm, from the journal's own calls, or from tokens before there are any."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import numpy as np

from r2router.bench.call_cost import INPUT_SPREAD, max_usd
from r2router.bench.call_key import chain_budget
from r2router.bench.journal import Journal
from r2router.bench.plan import CollectionPlan
from r2router.metrics.intervals import Z
from r2router.types import Budget, Model
from r2router.upstream.controls import Controls

UNCAPPED = (100.0, 800.0)
"""Output tokens of an answer that only the safety cap cuts: low, expected. A guess until the journal has seen some."""
MEASURED_FROM = 5
"""Calls of an arm in the journal before their dollars tell more than a guess from tokens."""


class Estimate(msgspec.Struct, frozen=True):
    """What one arm of a plan still costs: calls to make, and US dollars low, expected and high."""

    model: str
    budget: str
    calls: int
    low_usd: float
    usd: float
    high_usd: float
    measured: int = 0


def estimate(plan: CollectionPlan, journal: Journal) -> list[Estimate]:
    """Return what is left of a plan, arm by arm; chains that several arms share stand by themselves.

    Where the journal has at least `MEASURED_FROM` calls of an arm, their mean, with a 95 % interval for the sum of the
    calls to come. Before that from tokens: output from a tenth of the cap over half of it to all of it, or from
    `UNCAPPED` to the safety cap; input by the embedded tokenizer's count, give or take `INPUT_SPREAD`.
    """
    left: dict[tuple[str, str], list[int]] = {}  # input tokens of each call
    arms: dict[tuple[str, str], tuple[Model, Budget]] = {}
    for work in plan.work():
        missing = [b for b in work.budgets if not journal.has(plan.key(work, b))]
        if work.shared and missing and not journal.has(plan.chain_key(work)):
            missing.append(chain_budget(work.budgets))
        for budget in missing:
            arm = work.model.id, budget.id
            arms[arm] = work.model, budget
            left.setdefault(arm, []).append(plan.input_tokens(work.query_key))
    order = {m.id: i for i, m in enumerate(plan.models)}
    return [_of_arm(plan, journal, *arms[arm], left[arm]) for arm in sorted(left, key=lambda arm: order[arm[0]])]


def _of_arm(plan: CollectionPlan, journal: Journal, model: Model, budget: Budget, inputs: list[int]) -> Estimate:
    calls = len(inputs)
    n, total, squares = journal.charged.get((model.id, budget.id), (0.0, 0.0, 0.0))
    if n >= MEASURED_FROM:
        mean = total / n
        half = Z * math.sqrt(max(squares / n - mean**2, 0.0) * calls * (1 + calls / n))
        return Estimate(
            model.id, budget.id, calls, max(0.0, calls * mean - half), calls * mean, calls * mean + half, int(n)
        )
    factors, more = (1 - INPUT_SPREAD, 1.0, 1 + INPUT_SPREAD), 0
    # prompt and cut again, and a short answer; nothing at all where the chain has ended before
    if "prefix_sharing" in budget.control:
        factors, more = (0.0, *factors[1:]), budget.tokens or 0
    sums = np.zeros(3)
    for tokens, count in Counter(inputs).items():  # call by call: a long prompt may have other prices
        cases = zip(factors, _outputs(plan.controls, model, budget), strict=True)
        sums += [count * max_usd(model, factor * (tokens + more), output) for factor, output in cases]
    low, middle, high = sums.tolist()
    return Estimate(model.id, budget.id, calls, low, middle, high)


def _outputs(controls: Controls, model: Model, budget: Budget) -> tuple[float, float, float]:
    """Output tokens of a call, before any is known: low, expected, high."""
    if "prefix_sharing" in budget.control:
        return 0.0, controls.answer_tokens, controls.answer_tokens
    cap = controls.cap(model, budget)
    if controls.is_safety_cap(budget):
        return min(UNCAPPED[0], cap), min(UNCAPPED[1], cap), cap
    return 0.1 * cap, 0.5 * cap, cap
