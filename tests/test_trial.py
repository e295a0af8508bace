"""Trials: who is held out, what a contender may see, and the figures of forecasts, against what can be worked out by
hand.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from r2router.errors import DataError, UsageError
from r2router.evaluation.accuracy import accuracy, compliance, skipped
from r2router.evaluation.contenders import (
    Contender,
    EmbeddedTable,
    HoldOutPlan,
    attempt,
    comparable,
    held_out,
    transfer,
)
from r2router.evaluation.operating_points import asked_cost, operating_point, shares_grid
from r2router.evaluation.typing_noise import NOISES, noisy
from r2router.metrics.score import Outcomes, Routed, compare, one_budget_each
from r2router.pool.pool import Pool
from r2router.predict.linear import Ridge
from r2router.table.table import Table
from r2router.types import Arm, Budget, FloatArray, Forecast, Model, Prices


def made_up(n: int) -> tuple[FloatArray, Table]:
    """Embeddings (n, 8) of norm 1 and outcomes of 5 arms of 3 LLMs that are linear in them, plus noise."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(0)
    x = rng.normal(size=(n, 8))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    budgets, prices = (Budget.of(50), Budget.of("unlimited")), Prices(input=1.0, output=2.0)
    pool = Pool([Model(id=name, budgets=budgets[: 1 + (name != "c")], usd_per_million=prices) for name in "abc"])
    shape = (n, len(pool))
    quality = np.clip(0.5 + x @ truth.normal(0, 0.5, (8, shape[1])) + rng.normal(0, 0.15, shape), 0, 1)
    tokens = np.round(np.exp(5 + x @ truth.normal(0, 0.8, (8, shape[1])) + rng.normal(0, 0.3, shape))) + 1
    nothing, ids = np.full(shape, math.nan), tuple(f"q{i:04d}" for i in range(n))
    return x, Table(pool, ids, ids, ("",) * n, quality, np.full(shape, 20.0), nothing, tokens, nothing, nothing)


class Spy(msgspec.Struct, frozen=True):
    """A learner that notes what it was fitted on, and forecasts the arms' means."""

    seen: list[Any] = []

    def fit(self, x: FloatArray, table: Any) -> Any:
        self.seen.append((set(table.query_ids), table.arms))
        return Ridge(alpha=1e9).fit(x, table)


@pytest.fixture(scope="module")
def data() -> EmbeddedTable:
    x, table = made_up(90)
    return EmbeddedTable.of(table, vectors=x)


def test_no_query_is_forecast_by_what_was_fitted_on_it(data: EmbeddedTable) -> None:
    spy = Spy(seen=[])
    fold = HoldOutPlan(folds=3).folds_of(data)[0]
    held_out(Contender("spy", spy), data, fold)
    for number, (ids, _) in enumerate(spy.seen):
        own = {data.table.query_ids[i] for i in np.flatnonzero(fold == number)}
        assert not ids & own and ids | own == set(data.table.query_ids)


def test_a_query_of_fold_minus_one_is_only_learned_from(data: EmbeddedTable) -> None:
    spy, fold = Spy(seen=[]), np.full(len(data), -1)
    fold[:20] = 0
    made = held_out(Contender("spy", spy), data, fold)[""]
    assert made.quality.shape == (20, len(data.table.arms)) and np.isfinite(made.quality).all()
    assert spy.seen[0][0] == set(data.table.query_ids[20:])
    assert attempt([Contender("spy", spy)], data, [fold])[0].routed[0].outcomes.quality.shape == (
        20,
        len(data.table.arms),
    )


@pytest.mark.parametrize(("form", "choose"), [("one budget", "best"), ("concise", "cheapest")])
def test_one_budget_an_llm_is_chosen_on_the_training_part(data: EmbeddedTable, form: Any, choose: Any) -> None:
    spy, fold = Spy(seen=[]), HoldOutPlan(folds=3).folds_of(data)[0]
    made = held_out(Contender("spy", spy, form), data, fold)[""]
    for number, (_, arms) in enumerate(spy.seen):
        train = data.take(np.flatnonzero(fold != number))
        assert arms == tuple(data.table.arms[i] for i in one_budget_each(train.outcomes, choose))
        allowed = np.isin(np.array(data.table.arms), np.array(arms))
        rows = np.flatnonzero(fold == number)
        assert (
            np.isfinite(made.quality[np.ix_(rows, allowed)]).all()
            and np.isnan(made.quality[np.ix_(rows, ~allowed)]).all()
        )
    assert len({a.model for a in spy.seen[0][1]}) == len(spy.seen[0][1]) == 3


def test_costs_are_forecast_from_tokens_at_the_pools_prices(data: EmbeddedTable) -> None:
    made = held_out(Contender("ridge", Ridge(alpha=1.0)), data, HoldOutPlan(folds=3).folds_of(data)[0])[""]
    np.testing.assert_allclose(made.cost, (data.input_tokens * 1.0 + made.tokens * 2.0) / 1e6)


def test_other_views_are_forecast_by_the_same_fit(data: EmbeddedTable) -> None:
    fold = HoldOutPlan(folds=3).folds_of(data)[0]
    views = {"same": data.x, "other": data.x[::-1].copy()}
    made = held_out(Contender("ridge", Ridge(alpha=1.0)), data, fold, views)
    assert np.array_equal(made["same"].quality, made[""].quality) and not np.array_equal(
        made["other"].quality, made[""].quality
    )
    tried = attempt([Contender("ridge", Ridge(alpha=1.0))], data, [fold], views=views)[0]
    assert set(tried.views) == {"same", "other"}


def test_one_that_fails_says_why_and_the_others_go_on(data: EmbeddedTable) -> None:
    class Broken(msgspec.Struct, frozen=True):
        def fit(self, x: FloatArray, table: Any) -> Any:
            raise DataError("no such thing")

    tried = attempt(
        [Contender("broken", Broken()), Contender("ridge", Ridge())], data, HoldOutPlan(folds=3).folds_of(data)
    )
    assert tried[0].failed == "no such thing" and not tried[1].failed
    assert list(comparable(tried, data, HoldOutPlan(folds=3).folds_of(data))) == [
        "ridge",
        "fixed",
        "fixed known",
        "oracle",
    ]


def test_a_fit_on_one_table_is_tried_on_another(data: EmbeddedTable) -> None:
    train, test = data.take(np.arange(60)), data.take(np.arange(60, 90))
    tried = transfer(Contender("ridge", Ridge(alpha=1.0)), train, test)
    expected = Ridge(alpha=1.0).fit(train.x, train.table).predict(test.x)
    np.testing.assert_array_equal(tried.forecasts[0].quality, expected.quality)


def test_the_same_plan_gives_the_same_numbers(data: EmbeddedTable) -> None:
    def figures() -> Any:
        folds = HoldOutPlan(seeds=(0, 1), folds=3).folds_of(data)
        tried = attempt([Contender("ridge", Ridge())], data, folds)
        return compare(comparable(tried, data, folds), data.outcomes, 10, 0, base="ridge").figures

    assert figures() == figures()


@pytest.mark.parametrize("wrong", [{"seeds": ()}, {"folds": 1}, {"resamples": 0}])
def test_senseless_plans_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        HoldOutPlan(**wrong)


def test_too_few_queries_for_the_folds_are_refused(data: EmbeddedTable) -> None:
    with pytest.raises(DataError, match="fewer folds"):
        HoldOutPlan(folds=5).folds_of(data.take(np.arange(3)))


def test_vectors_must_be_one_a_query() -> None:
    x, table = made_up(30)
    with pytest.raises(DataError, match="one row for each of the 30"):
        EmbeddedTable.of(table, vectors=x[:20])


def test_queries_without_any_outcome_are_left_out() -> None:
    x, table = made_up(30)
    table.quality[3] = math.nan
    assert len(EmbeddedTable.of(table, vectors=x)) == 29


# -- forecasts --------------------------------------------------------------------------------------------------------


def test_accuracy_by_hand() -> None:
    """Two bins in effect: cells forecast at .2 came out at .4 on average, cells forecast at .8 at .8."""
    forecast = np.array([[0.2, 0.8], [0.2, 0.8]])
    quality = np.array([[0.3, 1.0], [0.5, 0.6]])
    tokens, made = np.array([[10.0, 20.0], [10.0, 80.0]]), np.array([[20.0, 20.0], [10.0, 20.0]])
    arms = (Arm("a@1"), Arm("b@1"))
    outcomes = Outcomes.of(arms, quality, np.ones((2, 2)))
    found = accuracy([Forecast.of(arms, forecast, made, made)], outcomes, tokens, 5, 0)
    assert found["ece"].value == pytest.approx((2 * 0.2 + 2 * 0.0) / 4)
    assert found["rmse"].value == pytest.approx(math.sqrt((0.01 + 0.09 + 0.04 + 0.04) / 4))
    assert found["token_factor"].value == pytest.approx(math.exp((math.log(2) + math.log(4)) / 4))
    assert found["token_bias"].value == pytest.approx(70 / 120)
    assert found["ece"].n == 2


def test_what_was_not_observed_does_not_count_in_accuracy() -> None:
    arms = (Arm("a@1"), Arm("b@1"))
    forecast = Forecast.of(arms, np.array([[0.5, 0.9], [0.5, math.nan]]), np.full((2, 2), 10.0), np.zeros((2, 2)))
    outcomes = Outcomes.of(arms, np.array([[1.0, math.nan], [0.0, 1.0]]), np.ones((2, 2)))
    found = accuracy([forecast], outcomes, np.array([[10.0, math.nan], [math.nan, math.nan]]), 5, 0)
    assert found["ece"].value == pytest.approx(0.0) and found["rmse"].value == pytest.approx(0.5)
    assert found["token_bias"].value == pytest.approx(1.0)


def test_perfect_forecasts_are_calibrated_and_constant_ones_off_by_their_bias(data: EmbeddedTable) -> None:
    quality, tokens = data.table.quality, data.table.output_tokens
    perfect = accuracy([Forecast.of(data.table.arms, quality, tokens, tokens)], data.outcomes, tokens, 5, 0)
    assert perfect["ece"].value == pytest.approx(0) and perfect["token_factor"].value == pytest.approx(1)
    flat = Forecast.of(data.table.arms, np.full_like(quality, 0.9), tokens, tokens)
    assert accuracy([flat], data.outcomes, tokens, 5, 0)["ece"].value == pytest.approx(abs(0.9 - quality.mean()))


def test_compliance_counts_answers_up_to_a_tenth_above_the_budget() -> None:
    _, table = made_up(10)
    column = next(i for i, b in enumerate(table.pool.budgets) if b.tokens == 50)
    table.output_tokens[:, column] = [10, 50, 55, 56, 400, math.nan, math.nan, math.nan, math.nan, math.nan]
    found = dict(compliance(table))
    assert found[table.arms[column]].value == pytest.approx(3 / 5) and found[table.arms[column]].n == 5
    assert all(arm.budget != "unlimited" for arm in found), "an unlimited budget cannot be broken"
    figure = found[table.arms[column]]
    assert figure.low == pytest.approx(0.2307, abs=1e-3) and figure.high == pytest.approx(0.8824, abs=1e-3), (
        "Wilson's interval for 3 of 5"
    )


def test_a_cell_without_a_token_is_no_answer_and_is_said_to_be_left_out() -> None:
    _, table = made_up(10)
    assert skipped(table) == []
    column = next(i for i, b in enumerate(table.pool.budgets) if b.tokens == 50)
    table.output_tokens[:, column] = [10, 50, 0, 0, 400, 400, 0.5, 50, 50, math.nan]
    found = dict(compliance(table))[table.arms[column]]
    assert (found.value, found.n) == (pytest.approx(4 / 6), 6)
    assert skipped(table) == [
        "3 cells with fewer than one used token are left out of compliance and of the error of tokens"
    ]


# -- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOISES)
def test_noise_is_seeded_and_depends_on_the_text_alone(kind: str) -> None:
    texts = ["What is the largest lake in Europe?", "Who was the first king of Norway, and in what year?"] * 5
    one = noisy(texts, kind, 0)
    assert one == noisy(texts, kind, 0) and one[0] == one[2] == noisy(texts[:1], kind, 0)[0]
    assert any(noisy(texts, kind, seed) != one for seed in (1, 2, 3, 4, 5))
    assert any(a != b for a, b in zip(texts, one, strict=True))


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("text", ["", " ", "?", "12 + 7", "日本の首都は", "🙂", "a", "\x00"])
def test_noise_stands_any_text(kind: str, text: str) -> None:
    assert isinstance(noisy([text], kind, 0)[0], str)


def test_typos_change_about_one_letter_in_thirty() -> None:
    text = "the quick brown fox jumps over the lazy dog " * 20
    changed = noisy([text], "typos", 0)[0]
    assert changed != text and abs(len(changed) - len(text)) < len(text) / 20
    assert noisy(["Rome"], "typos", 1) != ["Rome"] or noisy(["Rome"], "typos", 2) != ["Rome"]


# -- operating points -------------------------------------------------------------------------------------------------


def test_an_operating_point_costs_three_ways(data: EmbeddedTable) -> None:
    tried = attempt([Contender("ridge", Ridge())], data, HoldOutPlan(seeds=(0, 1), folds=3).folds_of(data))[0]
    point = operating_point(tried, data, 0.9, 20, 0)
    assert point is not None
    arms, rows = point.arms, np.arange(len(data))
    assert point.quality.value == pytest.approx(np.mean([data.table.quality[rows, a].mean() for a in arms]))
    assert point.used.value == pytest.approx(np.mean([data.outcomes.cost[rows, a].mean() for a in arms]))
    assert point.regret.value >= 0
    limited = np.isfinite(asked_cost(data.table.pool, data.input_tokens)[rows, arms[0]]).all()
    assert math.isnan(point.asked.value) or limited
    oracle = replace(tried, routed=(Routed.oracle(data.outcomes),) * 2)
    best = operating_point(oracle, data, 0.9, 20, 0)
    assert best is not None and best.regret.value == pytest.approx(0, abs=1e-12)
    assert operating_point(tried, data, 5.0, 20, 0) is None, "nobody gets to five times the best"


def test_shares_say_how_many_arms_are_really_used() -> None:
    grid = shares_grid(("a@1", "b@1", "c@1"), np.array([[0, 0, 1, 1], [1, 1, 0, 0]]))
    assert [(r.name, r.cells) for r in grid.rows] == [("a@1", (0.5,)), ("b@1", (0.5,))]
    assert "2 of 3 arms" in grid.about and "as many as 2.0" in grid.about
