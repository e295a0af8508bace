"""Every policy against a search in plain Python loops over the words of the design."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.decide import NO_ARM, Best, Cheapest, Policy, Tradeoff, Value, anchor_pairs, decide, ranked
from r2router.errors import PolicyError
from r2router.types import Arm, Choices, FloatArray, Forecast

COARSE_QUALITY = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan])
COARSE_COST = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, math.inf, math.nan])
FINE_QUALITY = st.floats(0.0, 1.0, allow_subnormal=False)
FINE_COST = st.floats(1e-7, 10.0)


def forecast_of(quality: FloatArray, cost: FloatArray, tokens: FloatArray | None = None) -> Forecast:
    quality, cost = np.atleast_2d(np.asarray(quality, float)), np.atleast_2d(np.asarray(cost, float))
    n, arms = quality.shape
    names = tuple(Arm.of(f"m{i}", "unlimited") for i in range(arms))
    tokens = np.full((n, arms), 100.0) if tokens is None else np.atleast_2d(tokens)
    return Forecast(names, quality, tokens, np.zeros((n, arms)), np.ones(n, dtype=bool), cost)


@st.composite
def grids(draw: st.DrawFn, quality: Any = COARSE_QUALITY, cost: Any = COARSE_COST) -> tuple[FloatArray, FloatArray]:
    """(n, arms) quality and cost; coarse values, so that ties, NaN and infinite costs are common."""
    n, arms = draw(st.integers(1, 4)), draw(st.integers(1, 7))

    def cells(values: Any) -> FloatArray:
        return np.array(draw(st.lists(st.lists(values, min_size=arms, max_size=arms), min_size=n, max_size=n)))

    return cells(quality), cells(cost)


def either(*of: Any) -> Any:
    return st.one_of(grids(), grids(FINE_QUALITY, FINE_COST), *of)


def best_by(score: Any, quality: Any, cost: Any, allowed: Any = lambda q, c: True) -> int:
    """The arm of the best score; ties go to the cheaper arm, then to the pool's order. Exact arithmetic, plain
    loops.
    """
    winner, key = NO_ARM, None
    for i, (q, c) in enumerate(zip(quality, cost, strict=True)):
        if math.isnan(q) or not math.isfinite(c) or not allowed(q, c):
            continue
        mine = (score(Fraction(q), Fraction(c)), -c)
        if key is None or mine > key:
            winner, key = i, mine
    return winner


def assert_equally_good(found: int, expected: int, score: Any, quality: Any, cost: Any) -> None:
    """`found` is `expected`, or differs by no more than rounding can make of the exact score."""
    if found == expected:
        return
    assert found != NO_ARM and expected != NO_ARM
    a, b = score(quality[found], cost[found]), score(quality[expected], cost[expected])
    size = max(abs(score(quality[i], 0.0)) + abs(score(0.0, cost[i])) for i in (found, expected))
    assert a == pytest.approx(b, rel=0, abs=1e-14 * size + 1e-300), (found, expected)


# -- the trade-off family ---------------------------------------------------------------------------------------------


@given(either(), st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]))
def test_tradeoff_is_the_best_score(grid: Any, lam: float) -> None:
    quality, cost = grid
    chosen = Tradeoff(lam, scale=1.0).choose(forecast_of(quality, cost), cost)
    for row, arm in enumerate(chosen.tolist()):
        exact = best_by(lambda q, c: (1 - Fraction(lam)) * q - Fraction(lam) * c, quality[row], cost[row])
        assert_equally_good(arm, exact, lambda q, c: (1 - lam) * q - lam * c, quality[row], cost[row])


@given(grids(), st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from([0.25, 1.0, 4.0]))
def test_tradeoff_ties_are_exact_on_coarse_numbers(grid: Any, lam: float, scale: float) -> None:
    quality, cost = grid  # all of these are sums of powers of two: no rounding, so the tie rule must hold to the letter
    chosen = Tradeoff(lam, scale).choose(forecast_of(quality, cost), cost)
    for row, arm in enumerate(chosen.tolist()):
        assert arm == best_by(
            lambda q, c: (1 - Fraction(lam)) * q - Fraction(lam) * c / Fraction(scale), quality[row], cost[row]
        )


@given(either())
def test_lambda_zero_asks_for_quality_only(grid: Any) -> None:
    quality, cost = grid
    chosen = Tradeoff(0.0, scale=1e-9).choose(forecast_of(quality, cost), cost)
    assert chosen.tolist() == [best_by(lambda q, c: q, q, c) for q, c in zip(quality, cost, strict=True)]


@given(either())
def test_lambda_one_asks_for_cost_only(grid: Any) -> None:
    quality, cost = grid
    chosen = Tradeoff(1.0, scale=1e9).choose(forecast_of(quality, cost), cost)
    assert chosen.tolist() == [best_by(lambda q, c: -c, q, c) for q, c in zip(quality, cost, strict=True)]


@given(grids(FINE_QUALITY, st.floats(1e-7, 1e-2)), st.sampled_from([0.999999, 0.99999, 1 - 2**-40, 1e-9]))
def test_a_lambda_beside_its_ends_keeps_its_digits(grid: Any, lam: float) -> None:
    quality, cost = grid
    chosen = Tradeoff(lam, scale=1.0).choose(forecast_of(quality, cost), cost)
    for row, arm in enumerate(chosen.tolist()):
        exact = best_by(lambda q, c: (1 - Fraction(lam)) * q - Fraction(lam) * c, quality[row], cost[row])
        assert_equally_good(arm, exact, lambda q, c: (1 - lam) * q - lam * c, quality[row], cost[row])


@given(grids(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_ties_may_go_to_the_first_arm_instead(grid: Any, lam: float) -> None:
    quality, cost = grid  # how the paper's released code has it
    chosen = Tradeoff(lam, 1.0, ties="first").choose(forecast_of(quality, cost), cost)
    for row, arm in enumerate(chosen.tolist()):
        scores = [
            (
                None
                if math.isnan(q) or not math.isfinite(c)
                else (1 - Fraction(lam)) * Fraction(q) - Fraction(lam) * Fraction(c)
            )
            for q, c in zip(quality[row], cost[row], strict=True)
        ]
        known = [s for s in scores if s is not None]
        assert arm == (scores.index(max(known)) if known else NO_ARM)


def test_a_lambda_of_0_999999_weighs_a_point_of_quality_as_a_millionth_of_a_dollar() -> None:
    forecast = forecast_of([0.2, 0.9], [1e-7, 1e-7 + 0.69e-6])
    assert Tradeoff(0.999999, 1.0).choose(forecast, forecast.cost).tolist() == [1]
    forecast = forecast_of([0.2, 0.9], [1e-7, 1e-7 + 0.71e-6])
    assert Tradeoff(0.999999, 1.0).choose(forecast, forecast.cost).tolist() == [0]


@given(either(), st.floats(0.0, 100.0))
def test_value_is_the_best_net_worth(grid: Any, usd: float) -> None:
    quality, cost = grid
    chosen = Value(usd).choose(forecast_of(quality, cost), cost)
    for row, arm in enumerate(chosen.tolist()):
        exact = best_by(lambda q, c: Fraction(usd) * q - c, quality[row], cost[row])
        assert_equally_good(arm, exact, lambda q, c: usd * q - c, quality[row], cost[row])


@given(grids(FINE_QUALITY, FINE_COST), st.floats(0.01, 0.99), st.floats(1e-6, 100.0))
def test_tradeoff_and_value_are_one_family(grid: Any, lam: float, scale: float) -> None:
    quality, cost = grid
    usd = scale * (1 - lam) / lam
    forecast = forecast_of(quality, cost)
    by_lambda, by_value = Tradeoff(lam, scale).choose(forecast, cost), Value(usd).choose(forecast, cost)
    for row, (a, b) in enumerate(zip(by_lambda.tolist(), by_value.tolist(), strict=True)):
        assert_equally_good(a, b, lambda q, c: usd * q - c, quality[row], cost[row])


@given(grids(FINE_QUALITY, FINE_COST), st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6))
def test_a_higher_lambda_never_costs_more(grid: Any, lams: list[float]) -> None:
    quality, cost = grid
    rows, forecast = np.arange(len(quality)), forecast_of(quality, cost)
    spent = [cost[rows, Tradeoff(lam, 1.0).choose(forecast, cost)] for lam in sorted(lams)]
    for cheaper, dearer in zip(spent[1:], spent, strict=False):
        assert (cheaper <= dearer * (1 + 1e-9)).all()


# -- limits -----------------------------------------------------------------------------------------------------------


@given(either(), st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0]))
def test_cheapest_is_the_least_cost_that_reaches_the_floor(grid: Any, floor: float) -> None:
    quality, cost = grid
    chosen = Cheapest(floor).choose(forecast_of(quality, cost), cost)
    for arm, q, c in zip(chosen.tolist(), quality, cost, strict=True):
        expected = best_by(lambda q, c: -c, q, c, allowed=lambda q, c: q >= floor)
        assert arm == (best_by(lambda q, c: q, q, c) if expected == NO_ARM else expected)


@given(either(), st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0, 7.0]))
def test_best_is_the_best_quality_under_the_cap(grid: Any, cap: float) -> None:
    quality, cost = grid
    chosen = Best(cap).choose(forecast_of(quality, cost), cost)
    for arm, q, c in zip(chosen.tolist(), quality, cost, strict=True):
        assert arm == best_by(lambda q, c: q, q, c, allowed=lambda q, c: c <= cap)


@given(either(), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_met_says_whether_the_floor_is_forecast_to_be_met(grid: Any, floor: float) -> None:
    quality, cost = grid
    choices = choose(Cheapest(floor), quality, cost)
    for row, arm in enumerate(choices.arm.tolist()):
        assert choices.met[row] == (arm != NO_ARM and quality[row, arm] >= floor)


# -- masks and batches ------------------------------------------------------------------------------------------------

POLICIES = st.one_of(
    st.builds(Tradeoff, st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([0.5, 1.0])),
    st.builds(Value, st.sampled_from([0.0, 0.5, 3.0])),
    st.builds(Cheapest, st.sampled_from([0.0, 0.5, 0.9])),
    st.builds(Best, st.sampled_from([0.0, 0.3, 0.5, 1.5])),
)


def choose(
    policy: Policy,
    quality: FloatArray,
    cost: FloatArray,
    usable: Any = None,
    budgets: Any = None,
    model_of_arm: Any = None,
) -> Choices:
    arms = quality.shape[1]
    budgets = np.full(arms, np.nan) if budgets is None else np.asarray(budgets, float)
    model_of_arm = np.arange(arms) if model_of_arm is None else np.asarray(model_of_arm)
    return decide(policy, forecast_of(quality, cost), usable, budgets, anchor_pairs(model_of_arm, budgets))


@st.composite
def masked_grids(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, Any]:
    quality, cost = draw(either())
    shape = draw(st.sampled_from([quality.shape[1:], quality.shape]))
    mask = np.array(draw(st.lists(st.booleans(), min_size=math.prod(shape), max_size=math.prod(shape)))).reshape(shape)
    return quality, cost, mask


@given(masked_grids(), POLICIES)
def test_a_masked_arm_is_as_good_as_absent(grid: Any, policy: Policy) -> None:
    quality, cost, mask = grid
    got = choose(policy, quality, cost, mask)
    full = np.broadcast_to(mask, quality.shape)
    for row in range(len(quality)):
        left = np.flatnonzero(full[row])
        if not len(left):
            assert got.arm[row] == NO_ARM
            continue
        alone = choose(policy, quality[row : row + 1, left], cost[row : row + 1, left])
        assert got.arm[row] == (NO_ARM if alone.arm[0] == NO_ARM else left[alone.arm[0]])


@given(masked_grids(), POLICIES)
def test_what_is_reported_is_the_chosen_arms_forecast(grid: Any, policy: Policy) -> None:
    quality, cost, mask = grid
    tokens = np.arange(quality.size, dtype=float).reshape(quality.shape)
    forecast = forecast_of(quality, cost, tokens)
    arms = quality.shape[1]
    got = decide(policy, forecast, mask, np.arange(arms) * 10.0, np.empty((0, 2), dtype=int))
    for row, arm in enumerate(got.arm.tolist()):
        mine = [got.quality[row], got.tokens[row], got.cost[row], got.budget_tokens[row]]
        if arm == NO_ARM:
            assert np.isnan(mine).all() and not got.met[row]
        else:
            assert mine == [quality[row, arm], tokens[row, arm], cost[row, arm], 10.0 * arm]


@given(masked_grids(), POLICIES, st.randoms(use_true_random=False))
def test_a_batch_decides_as_its_rows_one_by_one(grid: Any, policy: Policy, random: Any) -> None:
    quality, cost, mask = grid
    arms = quality.shape[1]
    budgets = [float(random.choice([50, 100, 200, 400, math.nan])) for _ in range(arms)]
    model_of_arm = sorted(random.randrange(3) for _ in range(arms))
    whole = choose(policy, quality, cost, mask, budgets, model_of_arm)
    for row in range(len(quality)):
        own = mask if mask.ndim == 1 else mask[row : row + 1]
        one = choose(policy, quality[row : row + 1], cost[row : row + 1], own, budgets, model_of_arm)
        for name in ("arm", "quality", "tokens", "cost", "budget_tokens", "met", "familiar"):
            np.testing.assert_array_equal(getattr(whole, name)[row : row + 1], getattr(one, name))


def test_no_query_gives_no_decision() -> None:
    assert len(choose(Tradeoff(0.5, 1.0), np.empty((0, 3)), np.empty((0, 3)))) == 0


# -- fallbacks --------------------------------------------------------------------------------------------------------


@given(either(), POLICIES, st.randoms(use_true_random=False))
def test_fallbacks_are_the_next_best_choices_one_a_model(grid: Any, policy: Policy, random: Any) -> None:
    quality, cost = (a[:1] for a in grid)
    model_of_arm = np.array(sorted(random.randrange(3) for _ in range(quality.shape[1])))
    mask = np.array([random.random() < 0.8 for _ in model_of_arm])
    expected, left = [], mask.copy()
    while (arm := int(choose(policy, quality, cost, left).arm[0])) != NO_ARM:
        expected.append(arm)
        left = left & (model_of_arm != model_of_arm[arm])
    before = mask.copy()
    order = ranked(policy, forecast_of(quality, cost), mask, model_of_arm, 9)[0].tolist()
    assert order == expected
    assert ranked(policy, forecast_of(quality, cost), mask, model_of_arm, 1)[0].tolist() == expected[:1]
    assert len({int(model_of_arm[a]) for a in order}) == len(order)
    assert (mask == before).all(), "the caller's mask was changed"


@given(either(), POLICIES)
def test_fallbacks_of_many_queries_are_those_of_each(grid: Any, policy: Policy) -> None:
    quality, cost = grid
    model_of_arm = np.arange(quality.shape[1]) // 2
    whole = ranked(policy, forecast_of(quality, cost), None, model_of_arm, 9)
    for row in range(len(quality)):
        one = ranked(policy, forecast_of(quality[row : row + 1], cost[row : row + 1]), None, model_of_arm, 9)[
            0
        ].tolist()
        assert whole[row].tolist() == one + [NO_ARM] * (whole.shape[1] - len(one))


# -- a cap between two budgets ----------------------------------------------------------------------------------------


@st.composite
def ladders(draw: st.DrawFn) -> tuple[FloatArray, FloatArray, list[float], list[int], float]:
    """One query; models with numeric budgets whose cost rises with the budget, and a cap somewhere among the costs."""
    quality, cost, budgets, model_of_arm = [], [], [], []
    for model in range(draw(st.integers(1, 3))):
        sizes = sorted(draw(st.sets(st.integers(1, 60), min_size=1, max_size=4)))
        rising = sorted(draw(st.lists(st.integers(1, 400), min_size=len(sizes), max_size=len(sizes), unique=True)))
        for size, dollars in zip(sizes, rising, strict=True):
            quality.append(draw(st.integers(0, 100)) / 100)
            cost.append(dollars / 64)
            budgets.append(float(size))
            model_of_arm.append(model)
    if draw(st.booleans()):
        quality, cost, budgets, model_of_arm = (
            [*quality, 0.5],
            [*cost, 2.0],
            [*budgets, math.nan],
            [*model_of_arm, model_of_arm[-1]],
        )
    cap = draw(st.integers(0, 450)) / 64
    return np.array([quality]), np.array([cost]), budgets, model_of_arm, cap


def best_between(quality: Any, cost: Any, budgets: Any, model_of_arm: Any, cap: float) -> Fraction | None:
    """The best quality under the cap over every arm and every whole budget between two neighbours (Eq. 9), exactly."""
    top = max((Fraction(q) for q, c in zip(quality, cost, strict=True) if c <= cap), default=None)
    for model in set(model_of_arm):
        steps = sorted((b, i) for i, b in enumerate(budgets) if model_of_arm[i] == model and not math.isnan(b))
        for (b_low, low), (b_high, high) in pairwise(steps):
            for budget in range(int(b_low) + 1, int(b_high)):
                share = Fraction(budget - int(b_low), int(b_high - b_low))
                c = Fraction(cost[low]) + share * (Fraction(cost[high]) - Fraction(cost[low]))
                q = Fraction(quality[low]) + share * (Fraction(quality[high]) - Fraction(quality[low]))
                if c <= Fraction(cap) and (top is None or q > top):
                    top = q
    return top


@given(ladders())
def test_a_cap_between_two_budgets_buys_the_best_whole_budget_that_meets_it(ladder: Any) -> None:
    quality, cost, budgets, model_of_arm, cap = ladder
    got = choose(Best(cap), quality, cost, None, budgets, model_of_arm)
    exact = best_between(quality[0], cost[0], budgets, model_of_arm, cap)
    if exact is None:
        assert got.arm[0] == NO_ARM and not got.met[0]
        return
    assert got.met[0]
    assert got.cost[0] <= cap
    assert got.quality[0] == pytest.approx(float(exact), abs=1e-9)


@given(
    st.integers(1, 99),
    st.integers(200, 4000),
    st.floats(0.01, 0.9),
    st.floats(1e-5, 1.0),
    st.floats(1.5, 9.0),
    st.floats(0.2, 0.9),
)
def test_a_budget_between_two_anchors_carries_what_lies_between_them(
    small: int, large: int, quality: float, dollars: float, times: float, where: float
) -> None:
    q, c, t = np.array([[quality, quality + 0.1]]), np.array([[dollars, dollars * times]]), np.array([[30.0, 300.0]])
    cap = dollars * (1 + where * (times - 1))
    got = decide(Best(cap), forecast_of(q, c, t), None, np.array([small, large]), np.array([[0, 1]]))
    budget = float(got.budget_tokens[0])
    assert got.arm[0] == 0 and small < budget < large and budget == int(budget)
    assert budget == pytest.approx(small + where * (large - small), abs=1.0 + 1e-6)
    share = (budget - small) / (large - small)
    for name, values in (("quality", q), ("tokens", t), ("cost", c)):
        assert getattr(got, name)[0] == pytest.approx((1 - share) * values[0, 0] + share * values[0, 1], rel=1e-9)


def test_a_cap_between_two_budgets_by_hand() -> None:
    # 100 tokens: 0.4 for $1, 300 tokens: 0.8 for $2. $1.75 buys three quarters of the way: 250 tokens, 0.7
    got = choose(Best(1.75), np.array([[0.4, 0.8]]), np.array([[1.0, 2.0]]), None, [100, 300], [0, 0])
    assert (got.arm[0], got.budget_tokens[0]) == (0, 250)
    assert got.quality[0] == pytest.approx(0.7) and got.cost[0] == pytest.approx(1.75)


def test_nothing_is_bought_between_budgets_of_different_models_or_beside_a_masked_arm() -> None:
    quality, cost = np.array([[0.4, 0.8]]), np.array([[1.0, 2.0]])
    assert choose(Best(1.75), quality, cost, None, [100, 300], [0, 1]).budget_tokens[0] == 100
    assert choose(Best(1.75), quality, cost, np.array([True, False]), [100, 300], [0, 0]).budget_tokens[0] == 100
    assert choose(Best(1.75), quality, cost, np.array([False, True]), [100, 300], [0, 0]).arm[0] == NO_ARM


def test_no_budget_lies_between_thinking_off_and_on() -> None:
    got = choose(Best(1.75), np.array([[0.4, 0.8]]), np.array([[1.0, 2.0]]), None, [0, 300], [0, 0])
    assert (got.arm[0], got.budget_tokens[0]) == (0, 0)


def test_without_a_cap_the_best_budget_is_always_an_anchor() -> None:
    quality, cost, budgets = np.array([[0.4, 0.8]]), np.array([[1.0, 2.0]]), [100, 300]
    for policy in (Tradeoff(0.2, 1.0), Value(3.0), Cheapest(0.6)):
        got = choose(policy, quality, cost, None, budgets, [0, 0])
        assert got.budget_tokens[0] == budgets[got.arm[0]]


def test_neighbours_are_the_numeric_budgets_of_one_model_by_size() -> None:
    pairs = anchor_pairs(np.array([0, 0, 0, 0, 1, 1, 2]), np.array([300.0, math.nan, 100.0, 200.0, 5.0, math.nan, 7.0]))
    assert {tuple(p) for p in pairs.tolist()} == {(2, 3), (3, 0)}


# -- bad numbers ------------------------------------------------------------------------------------------------------

NOT_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, -0.1, True, False, "0.3", None, 1j, [0.5]]


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("policy", [Tradeoff, Value, Cheapest, Best])
def test_a_policy_refuses_what_is_not_a_number_in_range(policy: Any, value: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(value)
    assert policy.__name__ in str(caught.value) and str(value) in str(caught.value)


@pytest.mark.parametrize("policy", [Tradeoff, Cheapest])
@pytest.mark.parametrize("value", [1.0000001, 2, 80, 1e300])
def test_a_share_above_one_is_refused(policy: Any, value: float) -> None:
    with pytest.raises(PolicyError, match="from 0 to 1"):
        policy(value)


@pytest.mark.parametrize("scale", [0, 0.0, *(v for v in NOT_NUMBERS if v is not None)], ids=repr)
def test_a_scale_is_a_finite_number_above_zero(scale: Any) -> None:
    with pytest.raises(PolicyError) as caught:
        Tradeoff(0.3, scale=scale)
    assert "scale" in str(caught.value) and str(scale) in str(caught.value)


def test_ties_go_one_of_two_ways() -> None:
    with pytest.raises(PolicyError, match="'dearest'"):
        Tradeoff(0.3, ties="dearest")  # type: ignore[arg-type]


def test_a_tradeoff_without_a_scale_says_where_to_get_one() -> None:
    with pytest.raises(PolicyError, match="scale"):
        Tradeoff(0.3).choose(forecast_of([0.5], [1.0]), np.array([[1.0]]))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64, int])
def test_numbers_of_numpy_are_numbers(kind: Any) -> None:
    assert Tradeoff(kind(1), kind(2)) == Tradeoff(1.0, 2.0)
    assert Value(kind(3)) == Value(3.0)
    assert Cheapest(kind(1)) == Cheapest(1.0)
    assert Best(kind(0)) == Best(0.0)


@pytest.mark.parametrize(
    "policy",
    [
        Tradeoff(0.0, 1e-300),
        Tradeoff(1.0, 1e-300),
        Tradeoff(0.5, 1e-300),
        Tradeoff(0.5, 1e308),
        Value(1e308),
        Best(1e308),
    ],
    ids=repr,
)
def test_extreme_numbers_stay_exact(policy: Policy) -> None:
    quality, cost = np.array([[0.2, 0.9, 0.5, math.nan]]), np.array([[0.001, 0.002, math.inf, 0.0]])
    arm = int(choose(policy, quality, cost).arm[0])
    by_cost = isinstance(policy, Tradeoff) and (policy.lam == 1.0 or policy == Tradeoff(0.5, 1e-300))
    assert arm == (0 if by_cost else 1)


def test_policies_are_values() -> None:
    assert Tradeoff(0.3) == Tradeoff(0.3) != Tradeoff(0.4)
    assert len({Value(1.0), Value(1.0), Best(1.0)}) == 2
    with pytest.raises(AttributeError):
        Value(1.0).usd = 2.0  # type: ignore[misc]
