"""The figures of decisions, where the truth is known by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.metrics.frontier import envelope_at
from r2router.metrics.score import KEEP, FixedArms, Means, Outcomes, Routed, compare, methods, one_budget_each
from r2router.types import Arm, FloatArray

NAN = math.nan


def arms(*names: str) -> tuple[Arm, ...]:
    return tuple(Arm(n) for n in names)


def outcomes(quality: Any, cost: Any, names: str = "") -> Outcomes:
    quality, cost = np.array(quality, float), np.array(cost, float)
    return Outcomes.of(
        arms(*(names.split() or [f"m{i}@1" for i in range(quality.shape[1])])),
        quality,
        np.broadcast_to(cost, quality.shape),
    )


@st.composite
def worlds(draw: st.DrawFn, sparse: bool = True) -> tuple[Outcomes, FloatArray, FloatArray]:
    """Outcomes with holes, and forecasts that have something to do with them."""
    n, m = draw(st.integers(2, 30)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 100_000)))
    quality, cost = rng.random((n, m)), np.exp(rng.normal(size=m)) * rng.uniform(0.5, 1.5, (n, m))
    forecast = np.clip(quality + rng.normal(scale=draw(st.sampled_from([0.0, 0.2, 2.0])), size=(n, m)), 0, 1)
    if sparse and draw(st.booleans()):
        hole = rng.random((n, m)) < 0.4
        hole[:, 0] = False
        quality = np.where(hole, NAN, quality)
    return (
        Outcomes.of(arms(*(f"m{i // 2}@{i}" for i in range(m))), quality, cost),
        forecast,
        cost * rng.uniform(0.8, 1.2, (n, m)),
    )


# -- what was observed ------------------------------------------------------------------------------------------------


def test_a_cell_counts_where_both_quality_and_cost_were_observed() -> None:
    found = outcomes([[0.5, NAN, 0.7, 0.0]], [[1.0, 1.0, NAN, 0.0]])
    assert found.seen.tolist() == [[True, False, False, True]]
    assert np.isnan(found.cost[0, 1]) and np.isnan(found.quality[0, 2]) and found.cost[0, 3] == 0.0


def test_fixed_arms_are_those_seen_on_nearly_every_query() -> None:
    quality = np.ones((100, 3))
    quality[:5, 1], quality[:6, 2] = NAN, NAN
    assert outcomes(quality, 1.0).fixed_arms().tolist() == [0, 1]


def test_one_budget_an_llm_is_its_best_and_among_equals_its_cheaper_one() -> None:
    names = "a@1 a@2 a@3 b@1 b@2 c@1"
    quality = np.tile([0.5, 0.9, 0.7, 0.6, 0.6, 0.1], (20, 1))
    assert one_budget_each(outcomes(quality, [1, 2, 3, 5, 4, 1], names)).tolist() == [1, 4, 5]
    quality[:10, 1] = NAN  # seen on half of the queries: it cannot be scored as "always this one"
    assert one_budget_each(outcomes(quality, [1, 2, 3, 5, 4, 1], names)).tolist() == [2, 4, 5]


# -- operating points -------------------------------------------------------------------------------------------------


def test_points_of_fixed_arms_are_means_over_what_was_seen() -> None:
    found = outcomes([[0.0, 1.0], [1.0, 0.5], [1.0, NAN]], [[1.0, 4.0], [2.0, 6.0], [3.0, 9.0]])
    cost, quality = FixedArms(found, np.array([0, 1])).points(np.ones(3))
    assert cost.tolist() == [2.0, 5.0]
    assert quality.tolist() == pytest.approx([2 / 3, 0.75])
    cost, quality = FixedArms(found, np.array([0, 1])).points(np.array([3.0, 1.0, 0.0]))
    assert cost.tolist() == [1.25, 4.5] and quality.tolist() == [0.25, 0.875]


def test_points_of_a_router_are_what_its_decisions_really_gave() -> None:
    # both queries are forecast alike but for the price of the second arm, and the forecast is wrong on the second query
    found = outcomes([[0.0, 1.0], [1.0, 0.0]], [[1.0, 5.0], [1.0, 7.0]])
    routed = Routed.of(np.array([[0.25, 0.75], [0.25, 0.75]]), np.array([[1.0, 2.0], [1.0, 3.0]]), found)
    cost, quality = routed.points(np.ones(2))
    assert cost.tolist() == [1.0, 3.0, 6.0] and quality.tolist() == [0.5, 1.0, 0.5]


@given(worlds())
def test_a_router_is_never_scored_where_nothing_was_observed(world: Any) -> None:
    found, quality, cost = world
    steps = Routed.of(quality, cost, found).sweep
    for value in (0.0, 0.5, 2.0, math.inf):
        assert found.seen[np.arange(len(quality)), steps.at(value)].all()


def test_a_router_may_be_kept_to_some_arms() -> None:
    found = outcomes([[0.1, 0.5, 0.9]], [[1.0, 2.0, 3.0]])
    assert Routed.of(found.quality, found.cost, found, np.array([0, 1])).points(np.ones(1))[1].tolist() == [0.1, 0.5]


def test_a_query_on_which_nothing_was_observed_is_an_error() -> None:
    found = outcomes([[0.1, 0.5], [NAN, NAN]], 1.0)
    with pytest.raises(ValueError, match="no arm"):
        Routed.of(np.ones((2, 2)), np.ones((2, 2)), found)


def test_what_a_router_is_shown_beside() -> None:
    found = outcomes(np.random.default_rng(0).random((20, 4)), [1.0, 2.0, 3.0, 4.0], "a@1 a@2 b@1 b@2")
    assert list(methods(found, found.quality, found.cost)) == ["router", "fixed known", "one budget", "oracle"]
    means = Means(found.quality.mean(axis=0), found.cost.mean(axis=0))
    assert list(methods(found, found.quality, found.cost, means)) == [
        "router",
        "fixed",
        "fixed known",
        "one budget",
        "oracle",
    ]


# -- figures ----------------------------------------------------------------------------------------------------------


def figures(found: Outcomes, quality: FloatArray, cost: FloatArray, resamples: int = 0) -> Any:
    return compare(methods(found, quality, cost), found, resamples, seed=0)


def test_figures_by_hand() -> None:
    """Two queries, two arms: the cheap one is right on the first, the dear one on both."""
    found = outcomes([[1.0, 1.0], [0.0, 1.0]], [[1.0, math.e]] * 2)
    result = figures(found, found.quality, found.cost)
    assert (result.low, result.high, result.best_arm) == (1.0, pytest.approx(math.e), "m1@1")
    assert result.best == (pytest.approx(math.e), 1.0)
    fixed, oracle = result.figures["fixed known"], result.figures["oracle"]
    # fixed arms: a line from (1, 0.5) to (e, 1); its mean over log cost is 0.5 + 0.5 (e - 2) / (e - 1)
    assert fixed["area"].value == pytest.approx(0.5 + 0.5 * (math.e - 2) / (math.e - 1))
    assert fixed["audc"].value == pytest.approx(0.75)
    assert fixed["peak"].value == 1.0
    assert fixed["cost_at_keep"].value == pytest.approx(1 + 0.9 * (math.e - 1))
    assert fixed["qnc"].value == pytest.approx((1 + 0.9 * (math.e - 1)) / math.e)
    # the oracle pays for the dear arm on the second query only: from (1, 0.5) to ((1 + e) / 2, 1), and flat from there
    middle = (1 + math.e) / 2
    assert oracle["audc"].value == pytest.approx((0.75 * (middle - 1) + (math.e - middle)) / (math.e - 1))
    assert oracle["cost_at_keep"].value == pytest.approx(1 + 0.9 * (middle - 1))
    assert oracle["peak"].value == 1.0
    assert result.figures["router"]["area"].value == oracle["area"].value, "true forecasts are the oracle"
    assert result.differences["fixed known"]["area"].value == pytest.approx(oracle["area"].value - fixed["area"].value)
    assert set(result.differences) == {"fixed known", "one budget", "oracle"}


def test_a_cheap_enough_budget_is_the_cheapest_that_is_nearly_as_good() -> None:
    found = outcomes([[0.90, 0.96, 1.0]] * 4, [1.0, 2.0, 9.0], "a@1 a@2 a@3")
    assert [one_budget_each(found, choose).tolist() for choose in ("best", "cheapest", "cheap enough")] == [
        [2],
        [0],
        [1],
    ]


def test_draws_in_which_only_the_router_never_gets_there_count_against_it() -> None:
    """The other costs nothing beside one that never gets there: such draws must not be left out of the interval of the
    ratio.
    """
    n = 12
    quality = np.column_stack([np.zeros(n), np.linspace(0.2, 1.0, n)])
    found = outcomes(quality.tolist(), [1.0, 2.0])
    forecast = np.tile([0.0, 1.0], (n, 1))
    # a query that it never gets right: within 5 % on the data, but not in a draw that has it three times
    forecast[0] = [1.0, 0.0]
    result = compare(
        {"router": Routed.of(forecast, found.cost, found), "fixed known": FixedArms(found, found.fixed_arms())},
        found,
        resamples=400,
        seed=0,
    )
    cost, cheaper = result.figures["router"]["cost_at_keep"], result.differences["fixed known"]["cheaper"]
    assert math.isfinite(cost.value) and math.isinf(cost.high)
    assert cheaper.value > 0 and cheaper.low == 0.0


def test_a_quality_that_is_never_reached_costs_endlessly() -> None:
    found = outcomes([[0.0, 1.0], [0.0, 1.0]], [1.0, 2.0])
    backwards = np.array([[1.0, 0.0], [1.0, 0.0]])
    result = figures(found, backwards, found.cost)
    assert math.isinf(result.figures["router"]["cost_at_keep"].value) and math.isinf(
        result.figures["router"]["qnc"].value
    )
    assert result.differences["fixed known"]["qnc"].value == math.inf and math.isnan(
        result.differences["fixed known"]["cheaper"].value
    )
    assert result.figures["router"]["peak"].value == 0.0


@given(worlds(sparse=False))
def test_the_oracle_is_at_least_the_router_and_the_router_at_least_the_worst(world: Any) -> None:
    found, quality, cost = world
    result = figures(found, quality, cost)
    oracle, router, fixed = (result.figures[m] for m in ("oracle", "router", "fixed known"))
    for name in ("area", "audc", "peak"):
        for other in (router, fixed):
            assert oracle[name].value >= other[name].value - 1e-9, name
    for other in (router, fixed):
        assert oracle["cost_at_keep"].value <= other["cost_at_keep"].value + 1e-9
    worst = Routed.of(-found.quality, found.cost, found).points(np.ones(result.n))
    assert router["peak"].value >= worst[1].min() - 1e-9


@given(worlds())
def test_sparse_outcomes_have_figures_too(world: Any) -> None:
    found, quality, cost = world
    result = figures(found, quality, cost, resamples=3)
    for row in result.figures.values():
        assert 0 <= row["peak"].value <= 1
        assert math.isnan(row["area"].value) or -1e-9 <= row["area"].value <= 1 + 1e-9


def test_forecasts_of_the_arms_means_are_the_mixture_of_fixed_arms() -> None:
    rng = np.random.default_rng(3)
    quality, cost = rng.random((50, 4)), np.array([1.0, 2.0, 4.0, 8.0]) * np.ones((50, 1))
    found = outcomes(quality, cost)
    same = np.broadcast_to(quality.mean(axis=0), quality.shape)
    result = figures(found, same, cost)
    for name in ("area", "audc", "peak", "cost_at_keep", "qnc"):
        assert result.figures["router"][name].value == pytest.approx(result.figures["fixed known"][name].value), name


@pytest.mark.parametrize("scale", [1e-6, 1e3])
def test_the_unit_of_money_does_not_matter_for_areas_and_ratios(scale: float) -> None:
    rng = np.random.default_rng(4)
    quality, cost = rng.random((30, 4)), rng.random((30, 4)) + 0.1
    one, other = (figures(outcomes(quality, cost * s), quality, cost * s) for s in (1.0, scale))
    for method in one.figures:
        for name in ("area", "audc", "peak", "qnc"):
            assert other.figures[method][name].value == pytest.approx(one.figures[method][name].value)
        assert other.figures[method]["cost_at_keep"].value == pytest.approx(
            scale * one.figures[method]["cost_at_keep"].value
        )


def test_one_fixed_arm_leaves_no_range_of_costs() -> None:
    found = outcomes(np.full((5, 1), 0.5), 2.0)
    result = figures(found, found.quality, found.cost, resamples=4)
    row = result.figures["router"]
    assert math.isnan(row["area"].value) and math.isnan(row["audc"].value)
    assert (row["peak"].value, row["cost_at_keep"].value, row["qnc"].value) == (0.5, 2.0, 1.0)


def test_free_arms_have_no_log_cost() -> None:
    found = outcomes(np.tile([0.5, 0.8], (5, 1)), [0.0, 1.0])
    result = figures(found, found.quality, found.cost)
    assert math.isnan(result.figures["router"]["area"].value)
    assert result.figures["router"]["audc"].value == pytest.approx(0.65)
    free = figures(outcomes(np.tile([0.5, 0.8], (5, 1)), 0.0), found.quality, np.zeros((5, 2)))
    assert math.isnan(free.figures["router"]["qnc"].value) and free.figures["router"]["peak"].value == 0.8


def test_without_a_fixed_arm_there_is_nothing_to_compare_with() -> None:
    quality = np.full((10, 2), 0.5)
    quality[:5, 0], quality[5:, 1] = NAN, NAN
    found = outcomes(quality, 1.0)
    with pytest.raises(ValueError, match="no fixed arm"):
        compare({"router": Routed.of(quality, np.ones((10, 2)), found)}, found, 0, 0)


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy() -> tuple[Outcomes, FloatArray, FloatArray]:
    rng = np.random.default_rng(5)
    quality, cost = rng.random((80, 4)), np.array([1.0, 2.0, 4.0, 8.0]) * rng.uniform(0.5, 1.5, (80, 4))
    return outcomes(quality, cost), np.clip(quality + rng.normal(scale=0.3, size=quality.shape), 0, 1), cost


def test_intervals_are_seeded_and_hold_the_value(noisy: Any) -> None:
    found, quality, cost = noisy
    ways = methods(found, quality, cost)
    one, same, other = (compare(ways, found, 60, seed) for seed in (1, 1, 2))
    assert one.figures == same.figures and one.differences == same.differences
    assert one.figures != other.figures
    for row in (*one.figures.values(), *one.differences.values()):
        for figure in row.values():
            assert figure.n == 80
            assert figure.low <= figure.value <= figure.high, figure
    assert one.figures["router"]["area"].value == other.figures["router"]["area"].value, (
        "the figure itself is no matter of chance"
    )


def test_intervals_shrink_as_queries_grow(noisy: Any) -> None:
    found, quality, cost = noisy
    many = Outcomes(found.arms, np.tile(found.quality, (16, 1)), np.tile(found.cost, (16, 1)))

    def width(result: Any) -> float:
        figure = result.figures["router"]["area"]
        return float(figure.high - figure.low)

    few = compare(methods(found, quality, cost), found, 60, 0)
    lots = compare(methods(many, np.tile(quality, (16, 1)), np.tile(cost, (16, 1))), many, 60, 0)
    assert width(lots) < 0.5 * width(few)


def test_a_difference_is_taken_on_the_same_draws(noisy: Any) -> None:
    """A router against its twin is even in every draw, though both swing."""
    found, quality, cost = noisy
    ways = {"router": Routed.of(quality, cost, found), "twin": Routed.of(quality, cost, found)}
    result = compare(ways, found, 30, 0)
    for name, figure in result.differences["twin"].items():
        even = {"cheaper": 1.0, "gap_closed": math.nan}.get(name, 0.0)  # without an oracle there is no gap
        assert (figure.value, figure.low, figure.high) == pytest.approx((even, even, even), nan_ok=True)
    assert result.figures["router"]["area"].high > result.figures["router"]["area"].low


def test_without_draws_there_are_no_intervals(noisy: Any) -> None:
    found, quality, cost = noisy
    figure = compare(methods(found, quality, cost), found, 0, 0).figures["router"]["area"]
    assert math.isfinite(figure.value) and math.isnan(figure.low) and math.isnan(figure.high)


def test_repetitions_are_averaged(noisy: Any) -> None:
    found, quality, cost = noisy
    one, two = Routed.of(quality, cost, found), Routed.of(1 - quality, cost, found)
    alone = [compare({"router": m}, found, 0, 0).figures["router"] for m in (one, two)]
    both = compare({"router": [one, two]}, found, 0, 0).figures["router"]
    for name in ("area", "peak", "cost_at_90"):
        assert both[name].value == pytest.approx((alone[0][name].value + alone[1][name].value) / 2), name


def test_some_rows_are_scored_as_if_there_were_no_others(noisy: Any) -> None:
    found, quality, cost = noisy
    rows = np.arange(10, 40)
    part = found.take(rows)
    whole = compare(methods(found, quality, cost), found, 0, 0, rows=rows)
    alone = compare(methods(part, quality[rows], cost[rows]), part, 0, 0)
    assert whole.n == 30 and (whole.low, whole.high, whole.best_arm) == (alone.low, alone.high, alone.best_arm)
    for method in ("fixed known", "oracle"):  # a router's settings are fixed by its forecasts for all queries
        for name in ("area", "gap_closed", "peak", "cost_at_keep"):
            assert whole.figures[method][name].value == pytest.approx(alone.figures[method][name].value), (method, name)


def test_costs_at_shares_of_the_best_arms_quality(noisy: Any) -> None:
    found, quality, cost = noisy
    for row in figures(found, quality, cost).figures.values():
        assert row["cost_at_90"].value <= row["cost_at_keep"].value <= row["cost_at_100"].value
        assert row["qnc"].value <= row["qnc_100"].value
    fixed = figures(found, quality, cost).figures["fixed known"]
    assert fixed["qnc_100"].value == pytest.approx(1.0) and fixed["gap_closed"].value == 0.0
    assert figures(found, quality, cost).figures["oracle"]["gap_closed"].value == 1.0


def test_the_papers_area_spans_the_costs_of_all_compared_methods() -> None:
    """Two arms at 1 and 2; a third, seen on half of the queries only, at 4: no fixed arm, but a router may use it."""
    quality, cost = np.tile([0.4, 0.6, 1.0], (4, 1)), np.tile([1.0, 2.0, 4.0], (4, 1))
    quality[:2, 2] = NAN
    found = outcomes(quality, cost)
    result = compare(
        {"router": Routed.of(found.quality, found.cost, found), "fixed known": FixedArms(found, found.fixed_arms())},
        found,
        0,
        0,
    )
    # the router's points: (1, .4), (2, .6), (3, .8), a straight line; fixed arms end at (2, .6) and stay there up to
    # cost 3
    assert result.figures["router"]["audc"].value == pytest.approx(0.6)
    assert result.figures["fixed known"]["audc"].value == pytest.approx((0.5 + 0.6) / 2)
    assert (result.low, result.high) == (1.0, 2.0), "the area over log cost stays between the fixed arms"


def test_the_band_is_the_curve_on_a_grid(noisy: Any) -> None:
    found, quality, cost = noisy
    result = compare(methods(found, quality, cost), found, 40, 0)
    for method, band in result.bands.items():
        assert np.all((band.low <= band.high) | np.isnan(band.quality)), method
        seen = ~np.isnan(band.quality)
        assert np.allclose(band.quality[seen], envelope_at(*result.points[method], band.cost[seen])), method
        assert np.isnan(band.low[~seen]).all()


def test_the_share_of_quality_to_keep_is_the_papers() -> None:
    assert KEEP == 0.95
