"""The exact sweep over all trade-offs, against a search at single values and a hull by brute force."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r2router.metrics.frontier import (
    area_over_cost,
    area_over_log_cost,
    envelope_at,
    min_cost,
    sweep,
    upper_envelope,
)
from r2router.types import FloatArray

Grid = tuple[FloatArray, FloatArray]
FINE = (st.floats(0.0, 1.0).map(lambda q: round(q, 9)), st.floats(1e-6, 10.0))
COARSE = (
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan]),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0, math.inf, math.nan]),
)
# many points on one line, up to rounding
LINE = st.integers(0, 10).map(lambda k: k / 10), st.integers(0, 10).map(lambda k: k / 10 * 0.007)


@st.composite
def grids(draw: st.DrawFn, most: int = 5) -> Grid:
    """(n, arms) quality and cost, of which every row has one arm at least that can be chosen."""
    quality, cost = draw(st.sampled_from([FINE, COARSE, LINE]))
    n, arms = draw(st.integers(1, most)), draw(st.integers(1, 7))
    q = np.array(draw(st.lists(st.lists(quality, min_size=arms, max_size=arms), min_size=n, max_size=n)))
    c = np.array(draw(st.lists(st.lists(cost, min_size=arms, max_size=arms), min_size=n, max_size=n)))
    some = draw(st.integers(0, arms - 1))
    q[:, some], c[:, some] = np.nan_to_num(q[:, some]), np.where(np.isfinite(c[:, some]), c[:, some], 1.0)
    return q, c


def worth(value: float, q: float, c: float) -> Fraction | None:
    return None if math.isnan(q) or not math.isfinite(c) else Fraction(value) * Fraction(q) - Fraction(c)


def best_worth(value: float, quality: FloatArray, cost: FloatArray) -> Fraction:
    return max(w for q, c in zip(quality, cost, strict=True) if (w := worth(value, q, c)) is not None)


@given(grids(), st.floats(0.0, 50.0))
def test_at_a_value_the_sweep_takes_the_arm_of_most_worth(grid: Grid, value: float) -> None:
    quality, cost = grid
    for row, arm in enumerate(sweep(quality, cost).at(value).tolist()):
        got = worth(value, quality[row, arm], cost[row, arm])
        assert got is not None, "an arm was chosen that cannot be"
        assert float(best_worth(value, quality[row], cost[row]) - got) <= 1e-12 * (value + 10)


@given(grids())
def test_beside_every_step_both_its_arms_are_of_most_worth(grid: Grid) -> None:
    quality, cost = grid
    steps = sweep(quality, cost)
    for row, before, after, value in zip(steps.row, steps.before, steps.after, steps.value, strict=True):
        best = best_worth(float(value), quality[row], cost[row])
        for arm in (before, after):
            got = worth(float(value), quality[row, arm], cost[row, arm])
            assert got is not None and float(best - got) <= 1e-12 * (value + 10)
        assert quality[row, after] > quality[row, before] and cost[row, after] > cost[row, before]


@given(grids())
@example((np.array([[0.0, 0.1, 0.2, 0.3]]), np.array([[0.0, 0.1, 0.2, 0.30000000000000004]]) * 0.007))
@example((np.array([[0.0, 0.3, 0.6, 0.9]]), np.array([[0.0, 0.1, 0.2, 0.3]])))
def test_every_query_starts_cheapest_ends_best_and_goes_step_by_step(grid: Grid) -> None:
    quality, cost = grid
    steps = sweep(quality, cost)
    assert (np.diff(steps.value) >= 0).all() and (steps.value >= 0).all() and np.isfinite(steps.value).all()
    for row in range(len(quality)):
        usable = [i for i in range(quality.shape[1]) if worth(0.0, quality[row, i], cost[row, i]) is not None]
        arm = int(steps.start[row])
        assert (cost[row, arm], -quality[row, arm]) == min((cost[row, i], -quality[row, i]) for i in usable)
        for k in np.flatnonzero(steps.row == row):
            assert steps.before[k] == arm, "the steps of a query do not hang together"
            arm = int(steps.after[k])
        top = max(quality[row, i] for i in usable)
        assert quality[row, arm] == top
        assert cost[row, arm] == min(cost[row, i] for i in usable if quality[row, i] == top)
        assert steps.at(math.inf)[row] == arm


def test_rounding_does_not_put_a_later_step_first() -> None:
    """Points on one line: every slope is the same but for rounding, and sorting by it must keep a query's steps in
    their order.
    """
    rng = np.random.default_rng(0)
    for _ in range(400):
        at = np.sort(rng.choice(30, rng.integers(3, 9), replace=False))
        quality, cost = (
            (rng.random() * 1e-3 + rng.random() * 1e-2 * at)[None],
            (rng.random() * 1e-2 + rng.random() * at)[None],
        )
        steps = sweep(quality, cost)
        assert steps.before.tolist() == [int(steps.start[0]), *steps.after.tolist()][:-1]
        assert steps.at(math.inf).tolist() == [quality.argmax()]


@given(grids())
def test_the_path_is_the_upper_concave_hull(grid: Grid) -> None:
    quality, cost = (a[:1] for a in grid)
    steps = sweep(quality, cost)
    path = [int(steps.start[0]), *steps.after.tolist()]
    hull = brute_force_hull(cost[0], quality[0])
    size = 1e-12 * float(np.nanmax(np.where(np.isfinite(cost), cost, 0.0)) + 1)
    ours = [(cost[0, a], quality[0, a]) for a in path]
    # every corner lies on the path, up to rounding: within `size` of the line between two of its points
    for point in hull:
        assert distance_below(ours, point) >= -size and distance_below([*ours, (math.inf, ours[-1][1])], point) <= size
    for point in ours:
        assert abs(distance_below([*hull, (math.inf, hull[-1][1])], point)) <= size


def distance_below(line: list[tuple[float, float]], point: tuple[float, float]) -> float:
    """How far the point lies below a line of points with rising cost."""
    x = [c for c, _ in line]
    if point[0] < x[0]:
        return -math.inf
    finite = [(c, q) for c, q in line if math.isfinite(c)]
    return float(np.interp(point[0], [c for c, _ in finite], [q for _, q in finite])) - point[1]


def brute_force_hull(cost: FloatArray, quality: FloatArray) -> list[tuple[float, float]]:
    """The corners of the upper concave envelope: points that no point and no mixture of two others reaches. Exact,
    O(n^3).
    """
    points = sorted(
        {(Fraction(c), Fraction(q)) for c, q in zip(cost, quality, strict=True) if worth(0.0, q, c) is not None}
    )
    corners = []
    for x, y in points:
        below = any(c <= x and q >= y and (c, q) != (x, y) for c, q in points)
        mixed = any(
            a < x < b and y <= p + (q - p) * (x - a) / (b - a) for a, p in points for b, q in points if a < x < b
        )
        if not below and not mixed:
            corners.append((float(x), float(y)))
    return corners


@given(grids(), st.integers(0, 5))
def test_totals_are_what_deciding_anew_at_each_value_gives(grid: Grid, seed: int) -> None:
    quality, cost = grid
    rng = np.random.default_rng(seed)
    outcome, weight = rng.random(quality.shape), rng.integers(0, 4, len(quality)) + 0.5
    steps = sweep(quality, cost)
    rows = np.arange(len(quality))
    plain, weighted = steps.totals(outcome), steps.totals(outcome, weight)
    assert plain.shape == weighted.shape == (len(steps.value) + 1,)
    ends = [
        k for k in range(len(steps.value) + 1) if k == len(steps.value) or k == 0 or steps.value[k] > steps.value[k - 1]
    ]
    for k in ends:  # after the first k steps, where a value lies between the k-th and the next
        chosen = outcome[rows, steps.at(float(steps.value[k]) if k < len(steps.value) else math.inf)]
        assert plain[k] == pytest.approx(chosen.mean(), abs=1e-12)
        assert weighted[k] == pytest.approx(np.average(chosen, weights=weight), abs=1e-12)


def test_a_bootstrap_weight_counts_a_query_so_many_times() -> None:
    quality, cost = np.array([[0.1, 0.9], [0.2, 0.4], [0.5, 0.6]]), np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 9.0]])
    outcome = np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    twice = [0, 0, 0, 2]
    weighted = sweep(quality, cost).totals(outcome, np.array([3.0, 0.0, 1.0]))
    repeated = sweep(quality[twice], cost[twice]).totals(outcome[twice])
    assert set(np.round(repeated, 12)) >= set(np.round(weighted, 12)[[0, -1]])
    assert weighted[0] == repeated[0] and weighted[-1] == repeated[-1]


@pytest.mark.parametrize(
    ("quality", "cost", "path"),
    [
        ([0.5], [1.0], [0]),
        ([0.2, 0.8, 0.5], [1.0, 1.0, 1.0], [1]),
        ([0.5, 0.5, 0.5], [3.0, 1.0, 2.0], [1]),
        ([0.2, 0.8], [0.0, 0.0], [1]),
        ([0.0, 0.0], [0.0, 0.0], [0]),
        ([0.3, 0.3, 0.9, 0.9], [1.0, 1.0, 2.0, 2.0], [0, 2]),
        ([0.2, 0.5, 0.8], [1.0, 2.0, 3.0], [0, 2]),
        ([0.2, 0.6, 0.8], [1.0, 2.0, 3.0], [0, 1, 2]),
        ([0.2, 0.4, 0.8], [1.0, 2.0, 3.0], [0, 2]),
        ([0.9, 0.1, math.nan, 0.95], [1.0, 0.5, 0.1, math.inf], [1, 0]),
    ],
    ids=["one arm", "equal costs", "equal quality", "free", "nothing", "twins", "a line", "a hull", "a dent", "barred"],
)
def test_paths_by_hand(quality: list[float], cost: list[float], path: list[int]) -> None:
    steps = sweep(np.array([quality]), np.array([cost]))
    assert [int(steps.start[0]), *steps.after.tolist()] == path


def test_a_value_of_zero_takes_the_cheapest_and_a_step_belongs_to_the_cheaper_arm() -> None:
    steps = sweep(np.array([[0.25, 0.75]]), np.array([[1.0, 2.0]]))
    assert steps.value.tolist() == [2.0]  # 0.5 of quality for a dollar: from two dollars for a whole point
    assert steps.at(0.0).tolist() == [0] and steps.at(2.0).tolist() == [0] and steps.at(2.0001).tolist() == [1]


def test_a_gain_next_to_nothing_is_never_worth_its_price() -> None:
    assert len(sweep(np.array([[0.0, 2.3e-309]]), np.array([[1.0, 5.0]])).value) == 0


@pytest.mark.parametrize(
    "barred", [([[math.nan, 0.5]], [[1.0, math.inf]]), ([[math.nan]], [[1.0]]), ([[0.5]], [[math.nan]])]
)
def test_a_query_without_any_arm_is_an_error(barred: Any) -> None:
    with pytest.raises(ValueError, match="no arm"):
        sweep(np.array(barred[0]), np.array(barred[1]))


# -- mixtures of points -----------------------------------------------------------------------------------------------

POINTS = st.lists(st.tuples(st.floats(1e-4, 10.0), st.floats(0.0, 1.0, allow_subnormal=False)), min_size=1, max_size=12)
ROUGH = st.lists(
    st.tuples(st.integers(0, 6).map(float), st.integers(0, 4).map(lambda k: k / 4)), min_size=1, max_size=12
)


def arrays(points: list[tuple[float, float]]) -> Grid:
    return np.array([c for c, _ in points]), np.array([q for _, q in points])


def best_mixture(points: list[tuple[float, float]], at: float) -> float:
    """The most quality that one point, or a mixture of two, has for a mean cost of at most `at`. Brute force."""
    found = [q for c, q in points if c <= at]
    for a, p in points:
        found += [p + (q - p) * (at - a) / (b - a) for b, q in points if a <= at < b]
    return max(found, default=math.nan)


@given(st.one_of(POINTS, ROUGH))
def test_the_envelope_has_exactly_the_corners_of_the_hull(points: list[tuple[float, float]]) -> None:
    cost, quality = arrays(points)
    found = upper_envelope(cost, quality)
    assert (np.diff(cost[found]) > 0).all() and (np.diff(quality[found]) > 0).all()
    corners = brute_force_hull(cost, quality)
    ours = list(zip(cost[found].tolist(), quality[found].tolist(), strict=True))
    assert ours[0] == corners[0] and ours[-1] == corners[-1]
    for point in corners:
        assert abs(distance_below(ours, point)) <= 1e-12
    for point in ours:
        assert abs(distance_below(corners, point)) <= 1e-12


@given(ROUGH)
def test_the_envelope_of_exact_numbers_is_the_hull_to_the_letter(points: list[tuple[float, float]]) -> None:
    cost, quality = arrays(points)
    found = upper_envelope(cost, quality)
    assert list(zip(cost[found].tolist(), quality[found].tolist(), strict=True)) == brute_force_hull(cost, quality)


@given(st.one_of(POINTS, ROUGH), st.lists(st.floats(0.0, 12.0), min_size=1, max_size=5))
def test_the_envelope_gives_what_the_best_mixture_has(points: list[tuple[float, float]], at: list[float]) -> None:
    got = envelope_at(*arrays(points), np.array(at))
    np.testing.assert_allclose(got, [best_mixture(points, x) for x in at], atol=1e-9)


@given(st.one_of(POINTS, ROUGH), st.floats(1e-3, 5.0), st.floats(1.01, 100.0))
def test_areas_agree_with_numeric_integration(points: list[tuple[float, float]], low: float, times: float) -> None:
    cost, quality = arrays(points)
    high = low * times
    for area, grid in (
        (area_over_log_cost, np.exp(np.linspace(math.log(low), math.log(high), 20_001))),
        (area_over_cost, np.linspace(low, high, 20_001)),
    ):
        middle = np.sqrt(grid[1:] * grid[:-1]) if area is area_over_log_cost else (grid[1:] + grid[:-1]) / 2
        # below the cheapest point nothing can be had
        numeric = float(np.nan_to_num(envelope_at(cost, quality, middle)).mean())
        assert area(cost, quality, low, high) == pytest.approx(numeric, abs=2e-4)


def test_areas_by_hand() -> None:
    flat = (np.array([1.0]), np.array([0.6]))
    assert area_over_log_cost(*flat, 1.0, 100.0) == pytest.approx(0.6)
    assert area_over_log_cost(*flat, 0.1, 10.0) == pytest.approx(0.3)  # half of the (log) way nothing can be had
    assert area_over_log_cost(*flat, 0.01, 0.1) == 0.0
    assert area_over_cost(*flat, 0.0, 2.0) == pytest.approx(0.3)
    line = (np.array([1.0, math.e]), np.array([0.0, 1.0]))
    # quality (c - 1) / (e - 1) over log cost from 1 to e: the integral of (e^t - 1) / (e - 1) over t in [0, 1]
    assert area_over_log_cost(*line, 1.0, math.e) == pytest.approx((math.e - 2) / (math.e - 1))
    assert area_over_cost(*line, 1.0, math.e) == pytest.approx(0.5)
    assert area_over_log_cost(np.array([0.0]), np.array([0.4]), 1.0, 2.0) == pytest.approx(0.4)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 2.0), (3.0, 2.0), (math.nan, 1.0)])
def test_an_area_over_log_cost_needs_two_costs_above_zero(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="0 < low < high"):
        area_over_log_cost(np.array([1.0]), np.array([0.5]), low, high)


@pytest.mark.parametrize(("low", "high"), [(2.0, 2.0), (3.0, 2.0), (math.nan, 1.0)])
def test_an_area_over_cost_needs_two_costs(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low < high"):
        area_over_cost(np.array([1.0]), np.array([0.5]), low, high)


@given(st.one_of(POINTS, ROUGH), st.floats(0.0, 1.0))
def test_least_cost_is_where_the_envelope_first_reaches_the_target(
    points: list[tuple[float, float]], target: float
) -> None:
    cost, quality = arrays(points)
    got = min_cost(cost, quality, target)
    if target > quality.max():
        assert math.isnan(got)
        return
    assert best_mixture(points, got * (1 + 1e-9)) >= target - 1e-7
    cheaper = best_mixture(points, got - 1e-3)
    assert math.isnan(cheaper) or cheaper < target


def test_least_cost_by_hand() -> None:
    cost, quality = np.array([1.0, 3.0, 2.0]), np.array([0.2, 0.8, 0.1])
    assert min_cost(cost, quality, 0.5) == pytest.approx(2.0)  # half of the requests to each of the first two
    assert min_cost(cost, quality, 0.1) == 1.0
    assert min_cost(cost, quality, 0.8) == 3.0
    assert math.isnan(min_cost(cost, quality, 0.81))
