"""Policies: pure functions from arrays of forecasts and costs to arms.

A policy sees (n, arms) forecasts of quality and of cost. An arm cannot be chosen where its quality is NaN (never
observed) or its cost is not finite (excluded). Ties go to the cheaper arm, then to the pool's order.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, Protocol

import msgspec
import numpy as np

from r2router.errors import PolicyError
from r2router.types import BoolArray, Choices, FloatArray, Forecast, IntArray

NO_ARM = -1
"""What a policy answers for a query on which no arm meets a hard limit."""


class Policy(Protocol):
    """What the user wants. Any object with this method is a policy."""

    def choose(self, forecast: Forecast, cost: FloatArray) -> IntArray:
        """Return (n,) the index of each query's arm, `NO_ARM` where a hard limit leaves none.

        cost: (n, arms) US dollars, infinite where an arm must not be chosen. Such a choice, or one of unknown quality
            (NaN), counts as `NO_ARM`.
        """
        ...


class Tradeoff(msgspec.Struct, frozen=True, tag="tradeoff", tag_field="policy", forbid_unknown_fields=True):
    """Maximise (1 - lam) quality - lam cost / scale (the paper's objective, Section 3).

    lam: 0 counts quality only, 1 counts cost only.
    scale: the US dollars that weigh as much as one full point of quality at lam = 0.5. By default the router's own
        scale (the mean cost of its best fixed arm); 1.0 is the paper's raw dollars.
    ties: how to choose among equal arms; `"first"`, in the pool's order, is how the paper's released code does it.

    Raises `PolicyError` unless lam is in [0, 1] and scale is a finite number above 0.
    """

    lam: float
    scale: float | None = None
    ties: Literal["cheaper", "first"] = "cheaper"

    def __post_init__(self) -> None:
        _check(self, "lam", "Tradeoff: lambda", 0.0, 1.0)
        if self.scale is not None:
            _check(self, "scale", "Tradeoff: scale in US dollars", 0.0, math.inf)
            if self.scale == 0:
                raise PolicyError(
                    f"Tradeoff: scale in US dollars is {self.scale}; it must be above 0, as cost is divided by it"
                )
        if self.ties not in ("cheaper", "first"):
            raise PolicyError(f"Tradeoff: ties is {self.ties!r}; it must be 'cheaper' or 'first'")

    def choose(self, forecast: Forecast, cost: FloatArray) -> IntArray:
        """Raises `PolicyError` without a scale (a router fills in its own)."""
        if self.scale is None:
            raise PolicyError(
                "Tradeoff: no scale; give Tradeoff(lam, scale=...) or decide through a Router, which has its own"
            )
        score = (1.0 - self.lam) * forecast.quality
        if self.lam > 0:  # an excluded arm costs infinitely much, and 0 x infinity is nothing
            score -= (self.lam / self.scale) * cost
        return _argmax(score, cost if self.ties == "cheaper" else np.where(np.isfinite(cost), 0.0, np.inf))


class Value(msgspec.Struct, frozen=True, tag="value", tag_field="policy", forbid_unknown_fields=True):
    """Maximise usd * quality - cost: a correct answer is worth `usd` US dollars.

    This is `Tradeoff` with usd = scale (1 - lam) / lam. Raises `PolicyError` unless usd is finite and at least 0.
    """

    usd: float

    def __post_init__(self) -> None:
        _check(self, "usd", "Value: usd", 0.0, math.inf)

    def choose(self, forecast: Forecast, cost: FloatArray) -> IntArray:
        return _argmax(self.usd * forecast.quality - cost, cost)


class Cheapest(msgspec.Struct, frozen=True, tag="cheapest", tag_field="policy", forbid_unknown_fields=True):
    """Choose the cheapest arm whose forecast quality is at least `min_quality`; where there is none, the arm of the
    best forecast.

    Raises `PolicyError` unless min_quality is in [0, 1].
    """

    min_quality: float

    def __post_init__(self) -> None:
        _check(self, "min_quality", "Cheapest: min_quality", 0.0, 1.0)

    def choose(self, forecast: Forecast, cost: FloatArray) -> IntArray:
        reached = np.where(forecast.quality >= self.min_quality, cost, np.inf)
        cheapest = _argmax(-reached, reached)
        return np.where(cheapest == NO_ARM, _argmax(forecast.quality, cost), cheapest)


class Best(msgspec.Struct, frozen=True, tag="best", tag_field="policy", forbid_unknown_fields=True):
    """Choose the best forecast quality among the arms with a forecast cost of at most `max_cost` US dollars for this
    request.

    Raises `PolicyError` unless max_cost is finite and at least 0.
    """

    max_cost: float

    def __post_init__(self) -> None:
        _check(self, "max_cost", "Best: max_cost", 0.0, math.inf)

    def choose(self, forecast: Forecast, cost: FloatArray) -> IntArray:
        return _argmax(forecast.quality, np.where(cost <= self.max_cost, cost, np.inf))


AnyPolicy = Tradeoff | Value | Cheapest | Best
"""The policies that a router can be saved with."""

_OURS: frozenset[type] = frozenset({Tradeoff, Value, Cheapest, Best})


def decide(
    policy: Policy, forecast: Forecast, usable: BoolArray | None, budget_tokens: FloatArray, anchors: IntArray
) -> Choices:
    """Make decisions for n forecasts with their cost. Only `Router.choose` calls this; it knows the other arguments.

    usable: (arms,) or (n, arms), false where an arm must not be chosen; None allows all.
    budget_tokens: (arms,) budgets in tokens, NaN where a budget is not a number.
    anchors: (pairs, 2) arms with neighbouring numeric budgets of one model, the smaller first. Where a `Best` cap falls
        between the two, the budget between them that just meets the cap is considered too (the paper's Eq. 9).

    Raises `PolicyError` where a user's policy returns anything but one arm per query.
    """
    cost = forecast.cost if usable is None else np.where(usable, forecast.cost, np.inf)
    arm = _choice(policy, forecast, cost)
    at = _flat(arm, cost.shape[1])
    quality = forecast.quality.take(at)
    tokens = forecast.tokens.take(at)
    spent = cost.take(at)
    asked = budget_tokens.take(arm)
    met = arm != NO_ARM
    if not met.all():
        quality, tokens, spent, asked = (np.where(met, a, np.nan) for a in (quality, tokens, spent, asked))
    if isinstance(policy, Cheapest):
        met &= quality >= policy.min_quality
    chosen = Choices(arm, quality, tokens, spent, asked, met, forecast.familiar)
    if isinstance(policy, Best) and len(anchors):
        return _between_anchors(chosen, policy.max_cost, forecast, cost, budget_tokens, anchors)
    return chosen


def anchor_pairs(model_of_arm: IntArray, budget_tokens: FloatArray) -> IntArray:
    """Return (pairs, 2) neighbouring numeric budgets of each model, by size.

    A budget of 0 switches thinking off, so it has no neighbour.
    """
    order = np.lexsort((budget_tokens, model_of_arm))
    low, high = order[:-1], order[1:]
    same = (model_of_arm[low] == model_of_arm[high]) & (budget_tokens[low] > 0) & ~np.isnan(budget_tokens[high])
    return np.stack([low[same], high[same]], axis=1)


def ranked(
    policy: Policy, forecast: Forecast, usable: BoolArray | None, model_of_arm: IntArray, maximum: int
) -> IntArray:
    """Return (n, up to `maximum`) the policy's choice, then its choice without that model, and so on: the fallbacks.

    usable: as in `decide`.

    `NO_ARM` follows the last one.
    """
    cost = forecast.cost.copy() if usable is None else np.where(usable, forecast.cost, np.inf)
    order: list[IntArray] = []
    while len(order) < maximum:
        arm = _choice(policy, forecast, cost)
        if (arm == NO_ARM).all():
            break
        order.append(arm)
        cost[(model_of_arm == model_of_arm[arm][:, None]) & (arm != NO_ARM)[:, None]] = np.inf
    return np.stack(order, axis=1) if order else np.empty((len(cost), 0), dtype=np.intp)


def _between_anchors(
    chosen: Choices, cap: float, forecast: Forecast, cost: FloatArray, budget_tokens: FloatArray, anchors: IntArray
) -> Choices:
    low, high = anchors.T
    q_low = forecast.quality[:, low]
    q_high = forecast.quality[:, high]
    c_low = cost[:, low]
    c_high = cost[:, high]
    b_low, b_step = budget_tokens[low], budget_tokens[high] - budget_tokens[low]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        binds = (c_low <= cap) & (cap < c_high) & np.isfinite(c_high) & (q_high > q_low)
        budget = np.where(binds, np.floor(b_low + b_step * (cap - c_low) / (c_high - c_low)), b_low)
        share = (budget - b_low) / b_step
        quality = np.where(binds & (share > 0), q_low + share * (q_high - q_low), -np.inf)
    pair = quality.argmax(axis=1)
    rows = np.arange(len(pair))
    better = quality[rows, pair] > np.where(np.isnan(chosen.quality), -np.inf, chosen.quality)
    if not better.any():
        return chosen
    share, low, high = share[rows, pair], low[pair], high[pair]

    def mixed(values: FloatArray) -> FloatArray:
        return values[rows, low] + share * (values[rows, high] - values[rows, low])

    return Choices(
        arm=np.where(better, low, chosen.arm),
        quality=np.where(better, quality[rows, pair], chosen.quality),
        tokens=np.where(better, mixed(forecast.tokens), chosen.tokens),
        cost=np.where(better, np.minimum(mixed(forecast.cost), cap), chosen.cost),
        budget_tokens=np.where(better, budget[rows, pair], chosen.budget_tokens),
        met=chosen.met | better,
        familiar=chosen.familiar,
    )


def is_ours(policy: Policy) -> bool:
    """Tell whether it is a policy of this module: they look at quality and cost alone, and need no check."""
    return type(policy) in _OURS


def _choice(policy: Policy, forecast: Forecast, cost: FloatArray) -> IntArray:
    """Return a policy's choice; that of a user's own policy is checked."""
    if is_ours(policy):
        return policy.choose(forecast, cost)
    name, (n, arms) = type(policy).__name__, cost.shape
    try:
        arm = np.asarray(policy.choose(forecast, cost))
    except ValueError as error:  # lists of unequal length among them
        raise PolicyError(f"{name}.choose failed: {error}") from error
    if arm.shape != (n,) or arm.dtype.kind not in "iu":
        raise PolicyError(
            f"{name}.choose gave {arm.dtype} of shape {arm.shape}; it must give one arm index per query, integers of"
            f" shape ({n},)"
        )
    arm = arm.astype(np.intp)
    if ((arm < NO_ARM) | (arm >= arms)).any():
        raise PolicyError(
            f"{name}.choose gave the arm indices {arm.min()} to {arm.max()}; there are 0 to {arms - 1}, and {NO_ARM}"
            " for none"
        )
    at = _flat(arm, arms)
    return np.where(np.isfinite(cost.take(at)) & ~np.isnan(forecast.quality.take(at)), arm, NO_ARM)


def _flat(arm: IntArray, arms: int) -> IntArray:
    """Return (n,) indices of each query's arm in a flattened (n, arms) array."""
    return arm if len(arm) == 1 else arm + np.arange(len(arm)) * arms


def _argmax(score: FloatArray, cost: FloatArray) -> IntArray:
    """Return (n,) the best score; among equals the cheapest, then the first. `NO_ARM` where nothing can be chosen."""
    arm = score.argmax(axis=1)
    at = _flat(arm, score.shape[1])
    top = score.take(at)
    # nearly always: one best arm per query, and all of them may be chosen (a NaN score would be the argmax, and equal
    # nothing)
    if np.count_nonzero(score == top[:, None]) == len(score) and np.isfinite(top - cost.take(at)).all():
        return arm
    score = np.where(np.isfinite(score) & np.isfinite(cost), score, -np.inf)
    best = score.max(axis=1, keepdims=True)
    return np.where(np.isneginf(best[:, 0]), NO_ARM, np.where(score == best, cost, np.inf).argmin(axis=1))


def _check(policy: msgspec.Struct, field: str, name: str, low: float, high: float) -> None:
    """Raise `PolicyError` unless the field is a number in range; other number types (numpy's, say) become floats."""
    value = getattr(policy, field)
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not (math.isfinite(number) and low <= number <= high):
        span = f"a number from {low:g} to {high:g}" if math.isfinite(high) else f"a finite number of at least {low:g}"
        raise PolicyError(f"{name} is {value}; it must be {span}")
    if type(value) is not float:
        msgspec.structs.force_setattr(policy, field, number)
