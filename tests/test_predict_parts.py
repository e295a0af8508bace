"""What learners are made of, where the truth is known: fair means, familiarity, input tokens, lengths on a log scale,
folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.pool.pool import Pool
from r2router.predict.crossval import fold_of, out_of_fold
from r2router.predict.in_distribution import InDistribution
from r2router.predict.input_tokens import InputTokens
from r2router.predict.means import fair_means
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.table.table import Table
from r2router.types import Budget, FloatArray, Forecast, Model, Prices

NAN = math.nan


def table_of(n: int, *arms: str, **cells: Any) -> Table:
    """n queries on the arms; what is not given was not observed."""
    names: dict[str, list[Budget]] = {}
    for arm in arms:
        names.setdefault(arm.split("@")[0], []).append(Budget.of(arm.split("@")[1]))
    pool = Pool(Model(id=m, budgets=tuple(b), usd_per_million=Prices(input=1.0, output=1.0)) for m, b in names.items())
    nothing = np.full((n, len(arms)), NAN)
    columns = dict.fromkeys(
        ("quality", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd"), nothing
    )
    ids = tuple(str(i) for i in range(n))
    return Table(pool=pool, query_ids=ids, queries=ids, tasks=("",) * n, **columns | cells)


# -- fair means -------------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 6), st.integers(0, 1000))
def test_fair_means_of_whole_columns_are_plain_means(n: int, arms: int, seed: int) -> None:
    y = np.random.default_rng(seed).random((n, arms))
    np.testing.assert_allclose(fair_means(y), y.mean(axis=0))


def test_an_arm_that_saw_easy_queries_only_is_not_flattered() -> None:
    easy = np.repeat([1.0, 0.0], 50)
    y = 0.6 * easy[:, None] + np.linspace(0.4, 0.1, 8)  # the arms differ by as much on every query
    true = y.mean(axis=0)
    y[50:, 7] = NAN  # the worst arm was asked the easy half only, where it looks as good as the best
    assert np.nanmean(y, axis=0)[7] == pytest.approx(true.max())
    np.testing.assert_allclose(fair_means(y), true, atol=0.05)
    assert fair_means(y).argmin() == 7


@given(st.integers(0, 500))
def test_fair_means_of_scattered_cells_are_near_the_means_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.random(5) + rng.random((300, 1))
    hole = rng.random(y.shape) < 0.3
    np.testing.assert_allclose(fair_means(np.where(hole, NAN, y)), y.mean(axis=0), atol=0.08)


def test_an_arm_that_was_never_observed_has_no_mean() -> None:
    y = np.array([[0.5, NAN, 1.0], [0.7, NAN, NAN]])
    means = fair_means(y)
    assert math.isnan(means[1]) and np.isfinite(means[[0, 2]]).all()
    assert np.isnan(fair_means(np.full((3, 2), NAN))).all()


@given(st.integers(0, 500))
def test_fair_means_do_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.where(rng.random((12, 5)) < 0.4, NAN, rng.random((12, 5)))
    rows, columns = rng.permutation(12), rng.permutation(5)
    np.testing.assert_allclose(fair_means(y[rows][:, columns]), fair_means(y)[columns], atol=1e-7)


# -- familiarity ------------------------------------------------------------------------------------------------------


def sphere(rng: np.random.Generator, n: int, around: FloatArray, noise: float = 0.3) -> FloatArray:
    x = around + noise * rng.normal(size=(n, len(around))) / math.sqrt(len(around))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_nearly_all_queries_like_those_of_training_are_familiar() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(4, 64)
    known = InDistribution.fit(np.concatenate([sphere(rng, 400, c) for c in centres]), seed=0)
    for c in centres:
        assert known.knows(sphere(rng, 500, c)).mean() > 0.95
    assert not known.knows(sphere(rng, 500, np.eye(64)[10])).any(), "a direction that was never there"
    assert not known.knows(-sphere(rng, 500, centres[0])).any()


def test_familiarity_is_seeded() -> None:
    x = sphere(np.random.default_rng(1), 300, np.ones(16))
    a, b, c = (InDistribution.fit(x, seed) for seed in (0, 0, 1))
    assert a.threshold == b.threshold and (a.centres == b.centres).all()
    assert a.threshold != c.threshold
    assert a.centres.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(a.centres, axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 11])
def test_familiarity_of_a_handful_of_queries(n: int) -> None:
    x = sphere(np.random.default_rng(2), n, np.ones(8))
    known = InDistribution.fit(x, seed=0)
    assert 1 <= len(known.centres) <= n and math.isfinite(known.threshold)
    assert known.knows(x).shape == (n,)
    assert known.knows(x).any()


def test_one_query_is_not_enough_to_call_another_strange() -> None:
    known = InDistribution.fit(np.eye(1, 4, dtype=np.float32), seed=0)
    assert known.knows(np.eye(4, dtype=np.float32)).all()


@pytest.mark.parametrize("row", [np.eye(1, 8)[0], np.zeros(8)], ids=["twins", "zeros"])
def test_familiarity_where_all_queries_are_the_same(row: FloatArray) -> None:
    x = np.repeat(row[None], 50, axis=0).astype(np.float32)
    known = InDistribution.fit(x, seed=0)
    assert np.isfinite(known.centres).all()
    assert known.knows(x).all()


def test_without_a_background_the_score_is_the_cosine_to_the_nearest_centre() -> None:
    known = InDistribution(np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32), 0.9)
    x = np.array([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]], dtype=np.float32)
    np.testing.assert_allclose(known.score(x), [1.0, 0.8, 0.0], atol=1e-6)
    assert known.knows(x).tolist() == [True, False, False]
    assert known.knows(x[:0]).shape == (0,)


def test_a_background_tells_near_strangers_apart() -> None:
    rng = np.random.default_rng(4)
    eye = np.eye(64)
    # strangers that share most of a direction with the training queries
    ours, near = eye[:4], 0.87 * eye[:4] + 0.5 * eye[10:14]
    train = np.concatenate([sphere(rng, 400, c, noise=1.0) for c in ours])
    strangers = np.concatenate([sphere(rng, 200, c, noise=1.0) for c in near])
    background = np.concatenate([sphere(rng, 10, c, noise=1.0) for c in near])
    alone, against = InDistribution.fit(train, 0), InDistribution.fit(train, 0, background)
    assert alone.knows(strangers).mean() > 0.5
    assert against.knows(strangers).mean() < 0.2
    unseen = np.concatenate([sphere(rng, 300, c, noise=1.0) for c in ours])
    assert against.knows(unseen).mean() > 0.95


def test_prompts_of_the_training_datas_own_kind_are_no_background() -> None:
    rng = np.random.default_rng(5)
    train, other = sphere(rng, 400, np.eye(32)[0]), sphere(rng, 20, np.eye(32)[9])
    background = np.concatenate([sphere(rng, 20, np.eye(32)[0], noise=0.1), other])
    known = InDistribution.fit(train, 0, background)
    np.testing.assert_array_equal(known.background, other)
    same = InDistribution.fit(train, 0, background[:20])
    assert not len(same.background) and same.threshold == InDistribution.fit(train, 0).threshold


@pytest.mark.parametrize("n", [2, 3, 11])
def test_a_background_of_a_handful_of_queries(n: int) -> None:
    x = sphere(np.random.default_rng(2), n, np.ones(8))
    known = InDistribution.fit(x, 0, np.eye(8, dtype=np.float32))
    assert math.isfinite(known.threshold) and np.isfinite(known.score(x)).all() and known.knows(x).any()


# -- input tokens -----------------------------------------------------------------------------------------------------

COUNTS = np.random.default_rng(3).integers(5, 400, 80).astype(float)


def test_factor_and_overhead_are_found_again() -> None:
    used = np.stack([1.2 * COUNTS + 15, 1.2 * COUNTS + 40, 0.9 * COUNTS], axis=1)
    learned = InputTokens.fit(COUNTS, table_of(80, "a@1", "a@2", "b@1", input_tokens=used))
    np.testing.assert_allclose(learned.factor, [1.2, 1.2, 0.9])
    np.testing.assert_allclose(learned.overhead, [15, 40, 0], atol=1e-9)
    assert learned.typical == pytest.approx(COUNTS.mean())
    np.testing.assert_allclose(learned.estimate(np.array([100.0, 0.0])), [[135, 160, 90], [15, 40, 0]], atol=1e-9)


def test_without_records_the_count_itself_is_the_estimate() -> None:
    learned = InputTokens.fit(COUNTS, table_of(80, "a@1", "b@1"))
    assert learned.factor == (1.0, 1.0) and learned.overhead == (0.0, 0.0)


def test_an_arm_without_records_goes_by_its_models_other_arms() -> None:
    used = np.stack([1.5 * COUNTS + 20, np.full(80, NAN), np.full(80, NAN)], axis=1)
    learned = InputTokens.fit(COUNTS, table_of(80, "a@1", "a@2", "b@1", input_tokens=used))
    np.testing.assert_allclose(learned.factor, [1.5, 1.5, 1.0])
    np.testing.assert_allclose(learned.overhead, [20, 20, 0], atol=1e-9)


@given(st.integers(0, 500), st.sampled_from([-60.0, -5.0, 0.0, 30.0]), st.sampled_from([-1.0, 0.0, 0.3, 2.0]))
def test_the_mean_estimate_is_the_mean_of_what_was_used(seed: int, intercept: float, slope: float) -> None:
    """Whatever the shape of the truth; factor and overhead are never negative."""
    rng = np.random.default_rng(seed)
    used = np.maximum(slope * COUNTS[:, None] + intercept + rng.normal(scale=10, size=(80, 3)), 1.0)
    used[rng.random(used.shape) < 0.3] = NAN
    learned = InputTokens.fit(COUNTS, table_of(80, "a@1", "a@2", "b@1", input_tokens=used))
    assert min(*learned.factor, *learned.overhead) >= 0
    estimate = np.where(np.isnan(used), NAN, learned.estimate(COUNTS))
    np.testing.assert_allclose(np.nanmean(estimate, axis=0), np.nanmean(used, axis=0))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_queries_of_one_length_scale_by_the_means(n: int) -> None:
    learned = InputTokens.fit(np.full(n, 10.0), table_of(n, "a@1", "a@2", input_tokens=np.tile([30.0, 50.0], (n, 1))))
    np.testing.assert_allclose(learned.estimate(np.array([10.0])), [[30, 50]])
    assert learned.estimate(np.array([20.0])).min() > 30


def test_nothing_used_is_nothing_estimated() -> None:
    learned = InputTokens.fit(COUNTS, table_of(80, "a@1", input_tokens=np.zeros((80, 1))))
    assert (learned.estimate(COUNTS) == 0).all()


# -- lengths on a log scale -------------------------------------------------------------------------------------------


def test_an_empty_answer_counts_as_one_token() -> None:
    np.testing.assert_allclose(log_tokens(np.array([[0.0, 0.5, 1.0, math.e, NAN]])), [[0, 0, 0, 1, NAN]])


@given(st.integers(0, 500), st.floats(0.01, 2.0))
def test_smearing_gives_the_mean_of_the_tokens_back(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    level = rng.normal(5, 1, (60, 4))
    tokens = np.exp(level + noise * rng.normal(size=level.shape)) + 1
    tokens[rng.random(tokens.shape) < 0.3] = NAN
    forecast = np.exp(level + log_smearing(level, tokens))
    np.testing.assert_allclose(
        np.nanmean(np.where(np.isnan(tokens), NAN, forecast), axis=0), np.nanmean(tokens, axis=0)
    )


def test_smearing_and_bounds_of_an_arm_that_was_never_observed() -> None:
    tokens = np.array([[NAN, 5.0], [NAN, 0.0]])
    assert log_smearing(np.zeros((2, 2)), tokens)[0] == 0.0
    low, high = log_bounds(tokens)
    np.testing.assert_allclose(low, [0, 0])
    np.testing.assert_allclose(high, [0, math.log(5)])


# -- folds ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 5))
def test_folds_keep_equal_texts_together_and_are_of_a_size(texts: list[str], folds: int, seed: int) -> None:
    fold = fold_of(texts, folds, seed)
    assert fold.shape == (len(texts),) and (fold >= 0).all() and (fold < folds).all()
    of = dict(zip(texts, fold.tolist(), strict=True))
    assert all(of[t] == f for t, f in zip(texts, fold.tolist(), strict=True))
    sizes = np.bincount(list(of.values()), minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    assert fold.tolist() == fold_of(texts, folds, seed).tolist()


def test_folds_differ_by_seed() -> None:
    texts = [str(i) for i in range(30)]
    assert fold_of(texts, 5, 0).tolist() != fold_of(texts, 5, 1).tolist()


class Remembering:
    """A learner whose forecast says which queries it was shown: quality is 1 where the query was among them."""

    def fit(self, x: FloatArray, table: Table) -> Any:
        shown = set(x[:, 0].tolist())
        assert shown == {float(i) for i in table.query_ids}, "vectors and rows have come apart"

        class Shown:
            def predict(self, x: FloatArray) -> Forecast:
                known = np.array([[float(v in shown)] for v in x[:, 0].tolist()])
                return Forecast.of(table.arms, known, 100 + x[:, :1], np.full_like(known, len(shown)))

        return Shown()


def test_a_query_is_forecast_by_a_predictor_that_has_not_seen_it_or_its_twin() -> None:
    table = table_of(20, "a@1", quality=np.ones((20, 1)), output_tokens=np.ones((20, 1)))
    twins = replace(table, queries=tuple(str(i % 10) for i in range(20)))
    x = np.arange(20.0)[:, None]
    told: list[tuple[str, int, int]] = []
    forecast = out_of_fold(Remembering(), x, twins, 5, 0, lambda *words: told.append(words))
    assert (forecast.quality == 0).all(), "a query was among those it was forecast from"
    assert (forecast.tokens[:, 0] == 100 + np.arange(20)).all(), "a forecast stands at another query's row"
    assert (forecast.spread == 16).all()
    assert [t[1:] for t in told] == [(i, 5) for i in range(1, 6)]

    class Twin(Remembering):
        def fit(self, x: FloatArray, table: Table) -> Any:
            both = np.concatenate([x, (x + 10) % 20])  # whoever has seen one twin has seen the other
            return (
                super().fit(x, table)
                if set(both[:, 0].tolist()) == set(x[:, 0].tolist())
                else pytest.fail("twins were parted")
            )

    out_of_fold(Twin(), x, twins, 5, 0)


@pytest.mark.parametrize(("n", "folds"), [(2, 2), (3, 5), (5, 5)])
def test_more_folds_than_queries_leave_one_out(n: int, folds: int) -> None:
    table = table_of(n, "a@1", quality=np.ones((n, 1)), output_tokens=np.ones((n, 1)))
    forecast = out_of_fold(Remembering(), np.arange(float(n))[:, None], table, folds, 0)
    assert (forecast.quality == 0).all() and (forecast.spread == n - 1).all()


@pytest.mark.parametrize(
    "same", [lambda n: ("again",) * n, lambda n: ("again",) * (n - 1) + ("other",)], ids=["one text", "two texts"]
)
def test_queries_of_one_text_cannot_be_forecast_from_others(same: Callable[[int], tuple[str, ...]]) -> None:
    table = replace(table_of(6, "a@1", quality=np.ones((6, 1)), output_tokens=np.ones((6, 1))), queries=same(6))
    forecast = out_of_fold(Remembering(), np.arange(6.0)[:, None], table, 2, 0)
    assert np.isnan(forecast.quality).all() == (len(set(table.queries)) == 1)
    assert not (forecast.quality == 1).any()
