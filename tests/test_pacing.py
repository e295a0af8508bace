"""A spend target: the mean is held whatever the traffic does, and all gateways on a ledger share one pace."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import ConfigError
from r2router.gateway.ledger import Ledger
from r2router.gateway.pacing import DAY_S, FURTHEST, NONE_IN_FLIGHT, RATE, REPAY, STEP, InFlight, Pace
from r2router.gateway.targets import Targets

QUALITY = np.array([0.3, 0.6, 0.8])
COST = np.array([0.1, 1.0, 6.0])


def serve(pace: Pace, rng: np.random.Generator, n: int, scale: float) -> Pace:
    """n requests whose answers cost `scale` times as much, each with a heavy tail."""
    for _ in range(n):
        arm = int(np.argmax(pace.value * QUALITY * rng.uniform(0.5, 1.0, 3) - COST * scale))
        pace = pace.after(float(COST[arm] * scale * rng.lognormal(-0.5, 1.0)))
    return pace


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_is_held_when_the_mix_changes_half_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pace = serve(Pace.of("cost", 1.5, 5.0), rng, 2500, 1.0)
    pace = serve(pace, rng, 2500, 2.0)
    assert pace.n == 5000 and abs(pace.error) < 0.01


def crowd(targets: Targets, begun: Pace, rng: np.random.Generator, n: int, scale: float, under_way: int) -> list[float]:
    """As `serve`, with so many requests under way at any time, whose costs are forecast without the scale; the errors
    after each.
    """
    waiting: deque[tuple[InFlight, float, float]] = deque()
    errors = []
    for _ in range(n):
        value = asyncio.run(targets.value("auto:x", begun))
        arm = int(np.argmax(value * QUALITY * rng.uniform(0.5, 1.0, 3) - COST))
        forecast = float(COST[arm])
        cost = forecast * scale * rng.lognormal(-0.5, 1.0)
        waiting.append((targets.begin("auto:x", forecast, 0.5), forecast, cost))
        if len(waiting) > under_way:
            counted, forecast, cost = waiting.popleft()
            targets.spent("auto:x", begun, cost)
            targets.end("auto:x", counted, forecast, cost)
        errors.append(targets.known({"auto:x": begun})["auto:x"].error)
    for counted, forecast, cost in waiting:
        targets.spent("auto:x", begun, cost)
        targets.end("auto:x", counted, forecast, cost)
    return errors


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("under_way", [10, 50])
def test_the_mean_is_held_with_many_requests_under_way(under_way: int, scale: float) -> None:
    """Where costs are not what is forecast, and where half way they change."""
    rng, targets, begun = np.random.default_rng(under_way), Targets(None), Pace.of("cost", 1.5, 5.0)
    first = crowd(targets, begun, rng, 2500, 1.0, under_way)
    second = crowd(targets, begun, rng, 2500, scale, under_way)
    assert abs(first[1000]) < 0.1 and abs(first[-1]) < 0.03 and abs(second[-1]) < 0.02
    assert asyncio.run(targets.value("auto:x", begun)) == targets.known({"auto:x": begun})["auto:x"].value


@given(st.lists(st.floats(0, 20.0), max_size=60))
def test_what_has_cost_its_forecast_moves_the_value_where_it_was_expected(costs: list[float]) -> None:
    """The value with requests under way is the value after them, as long as what is pending changes evenly."""
    for kind in ("cost", "day"):
        pace = Pace.of(kind, 1.0, 1.0)  # type: ignore[arg-type]
        assert pace.value_with(NONE_IN_FLIGHT) == pace.value
    pace = Pace.of("cost", 1.0, 1.0)
    under_way, after = NONE_IN_FLIGHT, pace
    for usd in costs:
        under_way += pace.forecast(usd)
        after = after.after(usd)
    assert under_way.n == len(costs)
    apart = abs(math.log(pace.value_with(under_way) / after.value))
    assert apart <= RATE * sum(abs(1 - usd) for usd in costs) * (len(costs) / REPAY + 1e-9) + 1e-9


@given(st.lists(st.floats(0, 2.0), min_size=1, max_size=200))
def test_the_error_is_what_is_pending(observed: list[float]) -> None:
    """The promise of the module: it holds for any costs, as long as no more is pending than is made up for."""
    pace = Pace.of("cost", 1.0, 1.0)
    for usd in observed:
        pace = pace.after(usd)
    assert -pace.pending / pace.n == pytest.approx(pace.error, abs=1e-9)


@pytest.mark.parametrize("factor", [0.05, 0.3, 4.0, 20.0])
def test_a_value_that_has_to_move_far_leaves_no_error_behind(factor: float) -> None:
    """Where cost grows as the value to the power of 0.4: within 3 % after 500 requests, within 0.1 % after 5,000."""
    pace, at = Pace.of("cost", 1.0, 1.0), {}
    for number in range(1, 5001):
        pace = pace.after((pace.value * factor) ** 0.4)
        at[number] = abs(pace.error)
    assert at[500] < 0.03 and at[5000] < 0.001


def test_one_expensive_request_is_made_up_for_step_by_step() -> None:
    pace = Pace.of("cost", 1.0, 1.0).after(21.0)
    assert pace.value == pytest.approx(math.exp(-STEP * RATE)) and pace.pending == pytest.approx(-20)
    assert pace.after(1.0).value == pytest.approx(pace.value * math.exp(-RATE * 20 / REPAY))


def test_a_target_that_cannot_be_held_does_not_run_away() -> None:
    pace = Pace.of("cost", 1.0, 1.0)
    for _ in range(5000):
        pace = pace.after(10.0)
    assert pace.log_value == pytest.approx(-FURTHEST) and pace.error == pytest.approx(9)
    for _ in range(1000):
        pace = pace.after(0.1)
    assert pace.log_value > -FURTHEST + 5  # it finds its way back


def test_a_quality_is_held_in_the_same_way() -> None:
    rng = np.random.default_rng(3)
    pace = Pace.of("quality", 0.55, 0.5)
    for _ in range(5000):
        arm = int(np.argmax(pace.value * QUALITY - COST))
        pace = pace.after(float(rng.random() < QUALITY[arm]))
    assert abs(pace.error) < 0.02


def scored(late: int, rng: np.random.Generator, n: int = 4000) -> tuple[Pace, float]:
    """The pace and the mean cost where an answer is scored when so many more requests, one per second, have come."""
    pace, costs = Pace.of("quality", 0.55, 0.5), []
    waiting: deque[tuple[float, float, float]] = deque()
    expected = 0.5
    for second in range(n):
        quality = QUALITY ** rng.lognormal(0.0, 1.0)
        arm = int(np.argmax(pace.value * quality - COST * rng.uniform(0.8, 1.2)))
        expected += (quality[arm] - expected) / 50
        costs.append(float(COST[arm]))
        waiting.append((float(rng.random() < quality[arm]), float(quality[arm]), second))
        if len(waiting) > late:
            score, forecast, began = waiting.popleft()
            pace = pace.after(score, 1e9 + second, shift=expected - forecast, late_s=second - began)
    return pace, float(np.mean(costs[n // 4 :]))


@pytest.mark.parametrize("late", [100, 300])
def test_scores_that_come_late_do_not_make_the_value_swing(late: int) -> None:
    """It swung from end to end, which holds the mean and costs 2.5 times as much."""
    prompt = np.mean([scored(0, np.random.default_rng(seed))[1] for seed in range(3)])
    found = [scored(late, np.random.default_rng(seed)) for seed in range(3)]
    assert np.mean([cost for _, cost in found]) < 1.5 * prompt
    assert all(abs(pace.error) < 0.05 for pace, _ in found)


def days(
    pace: Pace, rng: np.random.Generator, n: int, per_day: int, scale: float, at: float
) -> tuple[Pace, list[float]]:
    """So many days, with half of the traffic in a quarter of the day and none at night; what was spent on each."""
    spent = []
    for day in range(n):
        hours = np.sort(np.concatenate([rng.uniform(9, 15, per_day // 2), rng.uniform(7, 22, per_day - per_day // 2)]))
        before = pace.total
        for hour in hours:
            arm = int(np.argmax(pace.value * QUALITY * rng.uniform(0.5, 1.0, 3) - COST * scale))
            pace = pace.after(float(COST[arm] * scale * rng.lognormal(-0.5, 1.0)), at + day * DAY_S + hour * 3600)
        spent.append(pace.total - before)
    return pace, spent


@pytest.mark.parametrize("seed", range(3))
def test_dollars_per_day_are_held_on_average_when_the_traffic_doubles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pace, quiet = days(Pace.of("day", 900.0, 5.0), rng, 7, 500, 1.0, 1.7e9)
    pace, busy = days(pace, rng, 7, 1000, 1.0, 1.7e9 + 7 * DAY_S)
    assert np.mean([*quiet, *busy]) == pytest.approx(900, rel=0.1)
    assert max(busy) < 2 * 900 and np.mean(busy[3:]) == pytest.approx(900, rel=0.15)


def test_a_week_without_traffic_is_not_spent_afterwards() -> None:
    rng = np.random.default_rng(1)
    pace, _ = days(Pace.of("day", 900.0, 5.0), rng, 7, 500, 1.0, 1.7e9)
    _, after = days(pace, rng, 3, 500, 1.0, 1.7e9 + 30 * DAY_S)
    assert max(after) < 2.5 * 900 and sum(after) < 5 * 900


def test_a_clock_that_is_set_back_or_jumps_spends_no_more_than_a_day() -> None:
    pace = Pace.of("day", 10.0, 1.0)
    for at in (1.7e9, 1.7e9 + 60, 1.6e9, 1.7e9 + 61, 1.8e9):
        pace = pace.after(0.01, at)
    assert pace.pending <= 1.0 and math.isfinite(pace.log_value) and pace.last == 1.8e9


def test_a_score_that_is_changed_counts_once() -> None:
    pace = Pace.of("quality", 0.5, 1.0).after(0.2).after(0.4)
    changed = pace.instead(0.2, 1.0)
    assert (changed.n, changed.mean) == (2, pytest.approx(0.7)) and changed.pending == pytest.approx(pace.pending - 1.6)


@pytest.mark.parametrize("observed", [math.nan, math.inf, -1.0])
def test_nonsense_says_nothing(observed: float) -> None:
    pace = Pace.of("cost", 1.0, 1.0)
    assert pace.after(observed) == pace


@pytest.mark.parametrize(
    ("kind", "target", "start"),
    [("cost", 0.0, 1.0), ("quality", 1.0, 1.0), ("cost", 1.0, 0.0), ("cost", math.nan, 1.0)],
)
def test_an_impossible_target_is_refused(kind: str, target: float, start: float) -> None:
    with pytest.raises(ConfigError):
        Pace.of(kind, target, start)  # type: ignore[arg-type]


def test_gateways_on_one_ledger_share_a_pace_and_it_survives_them(tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    begun = Pace.of("cost", 1.0, 2.0)
    with Ledger.at(where) as one, Ledger.at(where) as two:
        threads = [
            threading.Thread(target=lambda at=at: [at.observe_now("auto:cheap", begun, 1.5) for _ in range(20)])
            for at in (one, two)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expected = begun
    for _ in range(40):
        expected = expected.after(1.5)
    with Ledger.at(where) as ledger:
        found = ledger.observe_now("auto:cheap", begun)
        assert (found.n, found.total) == (40, 60.0) and found.log_value == pytest.approx(expected.log_value)
        assert ledger.observe_now("auto:best", begun).n == 0
        assert ledger.observe_now("auto:cheap", Pace.of("cost", 3.0, 2.0)).n == 0  # another target begins anew
