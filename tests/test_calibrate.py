"""A policy's dial, set to a target: the target is met by real decisions, and an impossible one names what is
possible.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.decide import Value
from r2router.errors import UsageError
from r2router.metrics.calibrate import for_quality, for_spend, isotonic
from r2router.metrics.frontier import sweep
from r2router.types import Arm, FloatArray, Forecast

# -- the nearest rising sequence --------------------------------------------------------------------------------------

NUMBERS = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=1, max_size=12)


def nearest_rising(y: list[float]) -> FloatArray:
    """By the min-max formula: the largest, over where a stretch begins, of its least mean over where it ends."""
    n = len(y)
    return np.array([max(min(np.mean(y[a : b + 1]) for b in range(i, n)) for a in range(i + 1)) for i in range(n)])


@given(NUMBERS)
def test_isotonic_is_the_nearest_rising_sequence(y: list[float]) -> None:
    got = isotonic(np.array(y))
    np.testing.assert_allclose(got, nearest_rising(y), atol=1e-9)
    assert (np.diff(got) >= -1e-12).all()
    assert got.mean() == pytest.approx(np.mean(y), abs=1e-9)


@given(NUMBERS, st.integers(0, 1000))
def test_nothing_that_rises_is_nearer(y: list[float], seed: int) -> None:
    other = np.sort(np.array(y) + np.random.default_rng(seed).normal(scale=0.5, size=len(y)))
    assert ((isotonic(np.array(y)) - y) ** 2).sum() <= ((other - y) ** 2).sum() + 1e-9


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([3.0, 1.0, 2.0], [2.0, 2.0, 2.0]),
        ([1.0, 3.0, 2.0, 4.0], [1.0, 2.5, 2.5, 4.0]),
        ([5.0], [5.0]),
        ([1.0, 1.0], [1.0, 1.0]),
    ],
)
def test_isotonic_by_hand(y: list[float], expected: list[float]) -> None:
    assert isotonic(np.array(y)).tolist() == expected


# -- targets ----------------------------------------------------------------------------------------------------------


@st.composite
def tables(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Forecast quality and cost, and what came of it: forecasts of few values, so that many queries step at once."""
    n, arms = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    kind = draw(st.sampled_from(["fine", "coarse", "all alike"]))
    quality, cost = rng.random((n, arms)), rng.random((n, arms)) + 0.01
    if kind == "coarse":
        quality, cost = np.round(quality * 4) / 4, np.round(cost * 4) / 4 + 0.25
    if kind == "all alike":
        quality, cost = (np.repeat(a[:1], n, axis=0) for a in (quality, cost))
    return quality, cost, np.round(rng.random((n, arms))), rng.random((n, arms)) * 3


def decided(value: Value, quality: FloatArray, cost: FloatArray) -> Any:
    names = tuple(Arm.of(f"m{i}", "1") for i in range(quality.shape[1]))
    blank = np.zeros(quality.shape)
    arm = value.choose(Forecast(names, quality, blank, blank, np.ones(len(quality), bool), cost), cost)
    return np.arange(len(quality)), arm


@given(tables(), st.floats(0.0, 1.0))
def test_a_quality_target_is_met_by_the_decisions_themselves(table: Any, target: float) -> None:
    quality, cost, real, _ = table
    steps = sweep(quality, cost)
    try:
        value = for_quality(steps, real, target)
    except UsageError as error:
        named = float(re.findall(r"[0-9.]+(?:e-\d+)?", str(error))[-1])
        assert named < target, "what it gets to is less than what was asked for"
        met = for_quality(steps, real, named)  # and can be had
        assert real[decided(met, quality, cost)].mean() >= named - 1e-6
        return
    assert real[decided(value, quality, cost)].mean() >= target - 1e-6


@given(tables(), st.floats(0.0, 3.0))
def test_a_spend_target_is_kept_by_the_decisions_themselves(table: Any, target: float) -> None:
    quality, cost, _, paid = table
    steps = sweep(quality, cost)
    try:
        value = for_spend(steps, paid, target)
    except UsageError as error:
        named = float(re.findall(r"\$([0-9.,]+)", str(error))[-1].replace(",", "")) / 1000
        assert named > target
        met = for_spend(steps, paid, named)
        assert paid[decided(met, quality, cost)].mean() <= named * (1 + 1e-6)
        return
    assert paid[decided(value, quality, cost)].mean() <= target * (1 + 1e-6)


@given(tables())
def test_with_true_forecasts_the_dial_stops_where_it_should(table: Any) -> None:
    """Quality and cost then rise with the value: the step before falls short of the quality, the step after breaks the
    budget.
    """
    quality, cost, _, _ = table
    steps = sweep(quality, cost)
    qualities, costs = steps.totals(quality), steps.totals(cost)
    for share in (0.0, 0.3, 0.5, 1.0):
        target = float(qualities[0] + share * (qualities[-1] - qualities[0]))
        value = for_quality(steps, quality, target).usd
        assert quality[decided(Value(value), quality, cost)].mean() >= target - 1e-9
        less = steps.value[steps.value < value]
        if len(less):  # just below the last step that was taken
            below = Value(float(less[-1]) * (1 - 1e-6))
            assert quality[decided(below, quality, cost)].mean() < target + 1e-9
        spend = float(costs[0] + share * (costs[-1] - costs[0]))
        value = for_spend(steps, cost, spend).usd
        assert cost[decided(Value(value), quality, cost)].mean() <= spend + 1e-9
        more = steps.value[steps.value > value]
        if len(more):
            above = Value(float(more[0]) * (1 + 1e-6))
            assert cost[decided(above, quality, cost)].mean() > spend - 1e-9


def test_queries_that_are_all_alike_move_together() -> None:
    """A router that falls back on fixed arms has one forecast for all: no value can split them."""
    quality, cost = np.tile([0.5, 0.8], (10, 1)), np.tile([1.0, 2.0], (10, 1))
    steps = sweep(quality, cost)
    assert decided(for_quality(steps, quality, 0.65), quality, cost)[1].tolist() == [1] * 10
    assert decided(for_spend(steps, cost, 1.5), quality, cost)[1].tolist() == [0] * 10


def test_the_ends_of_the_dial() -> None:
    quality, cost = np.array([[0.25, 0.75], [0.5, 0.75]]), np.array([[1.0, 2.0], [1.0, 3.0]])
    steps = sweep(quality, cost)  # steps at 2 and 8
    assert (
        0
        <= for_quality(steps, quality, 0.0).usd
        < 2
        <= for_quality(steps, quality, 0.5).usd
        < 8
        <= for_quality(steps, quality, 0.75).usd
    )
    assert (
        0
        <= for_spend(steps, cost, 1.0).usd
        < 2
        <= for_spend(steps, cost, 1.5).usd
        < 8
        <= for_spend(steps, cost, 99.0).usd
    )


def test_a_target_that_is_met_exactly_is_met() -> None:
    quality, cost = np.tile([0.1, 0.7], (30, 1)), np.tile([0.1, 0.7], (30, 1)) * np.linspace(1, 1.1, 30)[:, None]
    steps = sweep(quality, cost)
    assert decided(for_quality(steps, quality, 0.7), quality, cost)[1].min() == 1, (
        "0.7 thirty times over is 0.7, whatever the sum says"
    )
    assert decided(for_spend(steps, cost, float(cost[:, 1].mean())), quality, cost)[1].min() == 1


def test_a_dial_with_one_arm_only() -> None:
    steps = sweep(np.array([[0.5]]), np.array([[1.0]]))
    assert for_quality(steps, np.array([[1.0]]), 1.0) == for_spend(steps, np.array([[2.0]]), 2.0)


def test_arms_of_one_price_are_told_apart_by_quality() -> None:
    quality, cost = np.array([[0.1, 0.9]]), np.zeros((1, 2))
    for value in (for_quality(sweep(quality, cost), quality, 0.9), for_spend(sweep(quality, cost), cost, 0.0)):
        assert decided(value, quality, cost)[1].tolist() == [1]


def test_impossible_targets_name_what_is_possible() -> None:
    quality, cost = np.array([[0.5, 0.83456]]), np.array([[0.0012344, 2.0]])
    steps = sweep(quality, cost)
    with pytest.raises(UsageError, match=r"quality 0\.9 cannot be reached.*0\.834"):
        for_quality(steps, quality, 0.9)
    with pytest.raises(UsageError, match=r"\$1\.00 per 1,000 requests is too little.*\$1\.24"):
        for_spend(steps, cost, 0.001)


@pytest.mark.parametrize("target", [math.nan, math.inf, -math.inf, -0.1])
def test_targets_that_are_no_targets(target: float) -> None:
    steps = sweep(np.array([[0.5, 0.8]]), np.array([[1.0, 2.0]]))
    with pytest.raises(UsageError, match=str(target)):
        for_quality(steps, np.array([[0.5, 0.8]]), target)
    with pytest.raises(UsageError, match=str(target)):
        for_spend(steps, np.array([[1.0, 2.0]]), target)
