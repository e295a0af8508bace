"""A spend target: the mean is held whatever the traffic does, and all gateways on a ledger share one pace."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import ConfigError
from r2router.gateway.ledger import Ledger
from r2router.gateway.pacing import FURTHEST, RATE, Pace

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


@given(st.lists(st.floats(0, 3.9), min_size=1, max_size=200))
def test_the_error_is_how_far_the_value_had_to_move(observed: list[float]) -> None:
    """The promise of the module: it holds for any costs, as long as the value is within its range and nothing is pending."""
    pace = Pace.of("cost", 1.0, 1.0)
    for usd in observed:
        pace = pace.after(usd)
    moved = pace.log_value / RATE + pace.pending
    assert -moved / pace.n == pytest.approx(pace.error, abs=1e-9)


def test_one_expensive_request_is_made_up_for_step_by_step() -> None:
    pace = Pace.of("cost", 1.0, 1.0).after(41.0)
    assert pace.value == pytest.approx(math.exp(-3 * RATE)) and pace.pending == pytest.approx(-37)


def test_a_target_that_cannot_be_held_does_not_run_away() -> None:
    pace = Pace.of("cost", 1.0, 1.0)
    for _ in range(5000):
        pace = pace.after(10.0)
    assert pace.log_value == pytest.approx(-FURTHEST) and pace.error == pytest.approx(9)
    for _ in range(500):
        pace = pace.after(0.1)
    assert pace.log_value > -FURTHEST + 5  # it finds its way back


def test_a_quality_is_held_in_the_same_way() -> None:
    rng = np.random.default_rng(3)
    pace = Pace.of("quality", 0.55, 0.5)
    for _ in range(5000):
        arm = int(np.argmax(pace.value * QUALITY - COST))
        pace = pace.after(float(rng.random() < QUALITY[arm]))
    assert abs(pace.error) < 0.02


@pytest.mark.parametrize("observed", [math.nan, math.inf, -1.0])
def test_nonsense_says_nothing(observed: float) -> None:
    pace = Pace.of("cost", 1.0, 1.0)
    assert pace.after(observed) == pace


@pytest.mark.parametrize(
    ("kind", "target", "start"), [("cost", 0.0, 1.0), ("quality", 1.0, 1.0), ("cost", 1.0, 0.0), ("cost", math.nan, 1.0)]
)
def test_an_impossible_target_is_refused(kind: str, target: float, start: float) -> None:
    with pytest.raises(ConfigError):
        Pace.of(kind, target, start)  # type: ignore[arg-type]


def test_gateways_on_one_ledger_share_a_pace_and_it_survives_them(tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    begun = Pace.of("cost", 1.0, 2.0)
    with Ledger.at(where) as one, Ledger.at(where) as two:
        threads = [
            threading.Thread(target=lambda at=at: [at.observe_now("auto:cheap", begun, 1.5) for _ in range(20)]) for at in (one, two)
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
