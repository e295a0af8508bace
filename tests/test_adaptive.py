"""Choosing what to ask: the money goes where the curve is, no budget is exceeded, and a run that was broken off chooses
the same.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.adaptive import RoundState, Settings, allocate, asking_order, contention, next_round
from r2router.bench.replay import hide, replay
from r2router.errors import ConfigError, DataError
from r2router.pool.pool import Pool
from r2router.table.table import Table
from r2router.types import Budget, FloatArray, Model, Prices

STRATEGIES: tuple[Any, ...] = ("cells", "queries", "coarse", Settings(), Settings(explore=1.0))


def made_up(n: int = 300, seed: int = 0) -> tuple[Table, FloatArray]:
    """Two good models, and `hopeless` of the dearer one's price, which is worse than the cheap one everywhere."""
    rng = np.random.default_rng(seed)
    names, prices, right = ("cheap", "good", "hopeless"), (1.0, 10.0, 10.0), (0.5, 0.9, 0.1)
    pool = Pool(
        [
            Model(id=m, budgets=(Budget.of(100),), usd_per_million=Prices(p, p))
            for m, p in zip(names, prices, strict=True)
        ]
    )
    shape = (n, 3)
    table = Table(
        pool=pool,
        query_ids=tuple(f"q{i}" for i in range(n)),
        queries=tuple(f"question {i}" for i in range(n)),
        tasks=tuple(f"task {i % 4}" for i in range(n)),
        quality=(rng.random(shape) < right).astype(float),
        input_tokens=np.full(shape, 20.0),
        cached_tokens=np.full(shape, np.nan),
        output_tokens=rng.integers(50, 150, shape).astype(float),
        reasoning_tokens=np.full(shape, np.nan),
        cost_usd=np.full(shape, np.nan),
    )
    x = rng.normal(size=(n, 8)).astype(np.float32)
    return table, x / np.linalg.norm(x, axis=1, keepdims=True)


def known(table: Table, x: FloatArray, asked: Any, **more: Any) -> RoundState:
    """Everything may be asked, at one dollar, each arm by itself."""
    arms = len(table.arms)
    fields = {
        "unit": np.arange(arms), "askable": np.ones(asked.shape, dtype=bool), "usd": np.ones(asked.shape[1]),
        "order": asking_order(table.tasks, 0),
    }  # fmt: skip
    return RoundState(
        hide(table, asked[:, (fields | more)["unit"]]), x, table.input_tokens, asked=asked, **fields | more
    )


# -- the parts ------------------------------------------------------------------------------------------------------


def test_any_beginning_of_the_order_holds_every_task_in_proportion() -> None:
    tasks = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    order = asking_order(tasks, 3)
    assert (
        sorted(order) == list(range(100))
        and (order == asking_order(tasks, 3)).all()
        and (order != asking_order(tasks, 4)).any()
    )
    for upto in (10, 20, 50):
        counts = Counter(tasks[i] for i in order[:upto])
        for task, share in (("a", 0.6), ("b", 0.3), ("c", 0.1)):
            assert abs(counts[task] - share * upto) <= 2


@given(st.integers(0, 10_000))
def test_an_allocation_is_as_good_as_the_best_of_all(seed: int) -> None:
    """Against brute force over every allocation of three arms."""
    rng = np.random.default_rng(seed)
    worth, usd = rng.uniform(0.1, 3, 3), rng.uniform(0.2, 2, 3)
    least, most = rng.integers(1, 3, 3), rng.integers(4, 9, 3)
    spend = float(rng.uniform(1, 15))
    counts = allocate(worth, usd, least, most, spend)
    assert (counts >= least).all() and (counts <= most).all() and usd @ (counts - least) <= spend + 1e-9
    every = (np.array(n) for n in itertools.product(*(range(a, b + 1) for a, b in zip(least, most, strict=True))))
    best = min((worth / n).sum() for n in every if usd @ (n - least) <= spend)
    # what rounding down loses is less than one query an arm
    assert (worth / np.minimum(counts + 1, most)).sum() <= best + 1e-9


def test_an_allocation_goes_with_the_root_of_worth_over_price() -> None:
    counts = allocate(
        np.array([1.0, 4.0, 1.0]), np.array([1.0, 1.0, 4.0]), np.zeros(3, int), np.full(3, 10_000), 5000.0
    )
    assert counts == pytest.approx([1000, 2000, 500], abs=2)
    assert allocate(np.ones(2), np.array([0.0, 1.0]), np.zeros(2, int), np.full(2, 50), 0.0).tolist() == [50, 0]


def test_contention_is_the_share_of_the_curve_on_which_an_arm_is_chosen() -> None:
    """By hand: of two arms the step lies in the middle of the log axis; a third is never chosen, unless its forecast is
    unsure.
    """
    quality, cost = np.tile([0.2, 0.8, 0.1], (5, 1)), np.tile([1.0, 100.0, 50.0], (5, 1))
    rng = np.random.default_rng(0)
    sure = contention(quality, cost, np.zeros(3), rng)
    steps = np.log([1.0, *(1 + 99 * np.arange(1, 6) / 5)])  # the queries step one after the other
    middle = ((steps[1:] + steps[:-1]) / 2).mean() / np.log(100)
    assert sure == pytest.approx([middle, 1 - middle, 0.0])
    unsure = contention(quality, cost, np.array([0.0, 0.0, 1.0]), rng)
    assert unsure[2] > 0.05 and unsure.sum() == pytest.approx(1)
    assert contention(quality, np.zeros((5, 3)), np.zeros(3), rng).tolist() == [0, 0, 0]
    quality[:, 1] = np.nan
    assert contention(quality, cost, np.zeros(3), rng)[1] == 0


def test_arms_of_one_call_come_together_at_one_price() -> None:
    table, x = made_up(40)
    asked = np.zeros((40, 2), dtype=bool)
    shared = {"unit": np.array([0, 1, 1]), "usd": np.array([1.0, 3.0])}
    first = next_round(known(table, x, asked, **shared), 0.0, 100.0, Settings())
    assert len(first) == 8 and set(first[:, 1]) == {0, 1}
    asked[first[:, 0], first[:, 1]] = True
    more = next_round(known(table, x, asked, **shared), 16.0, 100.0, Settings())
    assert shared["usd"][more[:, 1]].sum() <= 16.0 and len(more)


def test_senseless_settings_are_refused() -> None:
    for wrong in ({"explore": 0.0}, {"explore": 1.5}, {"start": 0}, {"growth": 1.0}):
        with pytest.raises(ConfigError):
            Settings(**wrong)
    table, x = made_up(20)
    with pytest.raises(DataError, match="rise"):
        replay(table, x, table.input_tokens, [0.2, 0.1], "cells")


# -- replayed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_no_budget_is_exceeded_and_nothing_is_asked_twice(strategy: Any) -> None:
    table, x = made_up()
    cost = table.cost()
    budgets = [share * cost.sum() for share in (0.001, 0.05, 0.2, 0.6, 1.0)]
    found = replay(table, x, table.input_tokens, budgets, strategy)
    for one, budget in zip(found, budgets, strict=True):
        assert one.usd <= budget and one.usd == pytest.approx(cost[one.seen].sum())  # each cell is paid for once
        assert one.usd > 0.9 * budget or budget == budgets[0]
    for before, after in itertools.pairwise(found):
        assert (after.seen | ~before.seen).all()
    again = replay(table, x, table.input_tokens, budgets, strategy)
    assert all((a.seen == b.seen).all() for a, b in zip(found, again, strict=True))


def test_what_is_dominated_everywhere_gets_less_than_its_share() -> None:
    table, x = made_up()
    cost = table.cost()
    (chosen,) = replay(table, x, table.input_tokens, [0.3 * cost.sum()], Settings())
    (by_price,) = replay(table, x, table.input_tokens, [0.3 * cost.sum()], Settings(explore=1.0))
    (blind,) = replay(table, x, table.input_tokens, [0.3 * cost.sum()], "queries")

    def share(one: Any) -> float:
        return float(cost[:, 2][one.seen[:, 2]].sum() / one.usd)

    assert share(chosen) < 0.75 * share(by_price) and share(by_price) < share(blind) + 0.05
    assert chosen.seen[:, 2].sum() < 0.75 * chosen.seen[:, 1].sum()  # of the same price
    assert chosen.seen[:, 2].sum() >= Settings().start  # and is not starved


def test_an_arm_is_asked_on_the_first_queries_of_the_order_whatever_they_gave() -> None:
    """So that a missing outcome tells nothing: which queries an arm sees does not depend on any outcome."""
    table, x = made_up()
    budget = [0.3 * table.cost().sum()]
    (one,) = replay(table, x, table.input_tokens, budget, Settings(seed=5))
    seen = one.seen[asking_order(table.tasks, 5)]
    last = seen.sum(axis=0).max()
    for arm in range(3):
        ones = np.flatnonzero(seen[:, arm])
        assert len(ones) == ones[-1] + 1 <= last


def test_cells_that_the_table_does_not_have_cannot_be_asked() -> None:
    table, x = made_up()
    there = np.random.default_rng(1).random(table.quality.shape) < 0.7
    sparse = hide(table, there)
    for strategy in STRATEGIES:
        (one,) = replay(sparse, x, table.input_tokens, [1e9], strategy)
        assert (one.seen == there).all()
