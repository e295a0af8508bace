"""The default learner's parts where the answer can be computed by hand, and what blending is for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.encode.rows import unit_rows
from r2router.errors import ArtifactError, ConfigError
from r2router.pool.pool import Pool
from r2router.predict.blend import Blend, BlendPredictor, blend_weights
from r2router.predict.clusters import SoftClusters, cluster_means, spherical_centres
from r2router.predict.principal import PrincipalRidge
from r2router.table.table import Table
from r2router.types import Budget, FloatArray, Model, Prices


def unit(n: int, d: int, seed: int) -> FloatArray:
    return unit_rows(np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32))


def bundles(n: int, seed: int, kinds: int = 8, d: int = 12) -> tuple[FloatArray, FloatArray]:
    """(n, d) embeddings in tight bundles, (n,) the bundle of each."""
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    kind = rng.integers(kinds, size=n)
    return unit_rows(
        (unit_rows(truth.normal(size=(kinds, d)))[kind] + 0.08 * rng.normal(size=(n, d))).astype(np.float32)
    ), kind


def table_of(quality: FloatArray, seed: int = 0) -> Table:
    """A table with these qualities, two models with as many arms between them."""
    n, arms = quality.shape
    budgets = tuple(Budget.of(50 * (i + 1)) for i in range(arms // 2))
    pool = Pool(
        Model(id=m, budgets=budgets, usd_per_million=Prices(input=p, output=2 * p)) for m, p in (("a", 1.0), ("b", 9.0))
    )
    nothing, ids = np.full(quality.shape, np.nan), tuple(f"q{i:04d}" for i in range(n))
    tokens = np.round(np.exp(np.random.default_rng(seed).normal(5, 0.3, quality.shape))) + 1
    return Table(pool, ids, ids, ("",) * n, quality, np.full(quality.shape, 20.0), nothing, tokens, nothing, nothing)


# -- clusters ---------------------------------------------------------------------------------------------------------


def test_centres_find_bundles_that_are_apart() -> None:
    x, kind = bundles(400, 1, kinds=4)
    own = np.stack([unit_rows(x[kind == k].mean(axis=0, keepdims=True))[0] for k in range(4)])
    best = max(
        (spherical_centres(x, 4, np.random.default_rng(seed)) for seed in range(5)),
        key=lambda c: (x @ c.T).max(axis=1).sum(),
    )
    np.testing.assert_allclose(np.linalg.norm(best, axis=1), 1, atol=1e-5)
    assert (best @ own.T).max(axis=0).min() > 0.999


@given(st.integers(0, 100), st.integers(1, 4), st.integers(1, 6), st.floats(1e-4, 10.0))
def test_memberships_are_shares_and_do_not_depend_on_length(
    seed: int, partitions: int, clusters: int, temperature: float
) -> None:
    x, centres = unit(15, 5, seed), unit(partitions * clusters, 5, seed + 1).reshape(partitions, clusters, 5)
    share = SoftClusters(centres, temperature).membership(x)
    assert (share >= 0).all()
    np.testing.assert_allclose(share.reshape(15, partitions, clusters).sum(axis=2), 1 / partitions, rtol=1e-5)
    np.testing.assert_allclose(SoftClusters(centres, temperature).membership(3 * x), share, atol=1e-3)


def test_a_cold_membership_is_the_nearest_centre_and_a_warm_one_is_all_of_them() -> None:
    x, centres = unit(30, 6, 2), unit(7, 6, 3)
    cold = SoftClusters(centres[None], 1e-5).membership(x)
    assert (cold.argmax(axis=1) == (x @ centres.T).argmax(axis=1)).all()
    assert np.median(cold.max(axis=1)) > 0.99
    np.testing.assert_allclose(SoftClusters(centres[None], 1e5).membership(x), 1 / 7, rtol=1e-3)


@given(st.integers(0, 200), st.sampled_from([1.0, 0.4]))
def test_left_out_means_are_those_of_the_other_queries(seed: int, seen: float) -> None:
    """Against the definition: the query is taken out of its clusters and the means are formed again."""
    rng = np.random.default_rng(seed)
    n, partitions, clusters, arms = 12, 2, 3, 4
    share = rng.dirichlet(np.ones(clusters), (n, partitions)).reshape(n, -1) / partitions
    y, scored = rng.normal(size=(n, arms)), rng.permutation(n)[:5]
    means, left_out = cluster_means(share, y, scored, partitions, seen)

    def by_hand(rows: FloatArray) -> FloatArray:
        member = share[rows] * partitions
        return np.array(
            [member[:, j] @ y[rows] / (member[:, j].sum() + 5.0 / seen) for j in range(partitions * clusters)]
        )

    np.testing.assert_allclose(means, by_hand(np.arange(n)))
    np.testing.assert_allclose(left_out, [share[i] @ by_hand(np.delete(np.arange(n), i)) for i in scored])


def test_clusters_of_one_query_and_of_equal_queries() -> None:
    for x in (unit(1, 4, 0), np.repeat(unit(1, 4, 0), 30, axis=0), np.zeros((30, 4), np.float32)):
        share = SoftClusters.of(x, np.arange(len(x)), 0).membership(x)
        np.testing.assert_allclose(share.sum(axis=1), 1, rtol=1e-5)


# -- weights ----------------------------------------------------------------------------------------------------------


def test_the_forecast_that_is_right_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    target, noise = rng.normal(size=(500, 3)), rng.normal(size=(500, 3))
    assert np.abs(blend_weights(target, noise, target) - [1, 0]).max() < 0.1
    assert np.abs(blend_weights(noise, target, target) - [0, 1]).max() < 0.1
    assert (blend_weights(-target, noise, target) >= 0).all(), "a forecast that is wrong way round is not turned around"


def test_where_forecasts_tell_little_the_weights_are_equal() -> None:
    rng = np.random.default_rng(0)
    target, one, other = rng.normal(size=(3, 500, 3))
    np.testing.assert_allclose(blend_weights(0.05 * one, 0.05 * other, target), 0.5, atol=0.05)
    np.testing.assert_allclose(blend_weights(0 * one, 0 * other, target), 0.5)


# -- the learner ------------------------------------------------------------------------------------------------------


def test_it_learns_what_is_peculiar_to_kinds_of_queries() -> None:
    """Twelve kinds in six dimensions: linear heads cannot give each its own mean, cluster means can."""
    level = np.random.default_rng(5).random((12, 4))
    (x, kind), (new, new_kind) = (bundles(n, seed, kinds=12, d=6) for n, seed in ((600, 1), (300, 2)))
    table = table_of(np.clip(level[kind] + np.random.default_rng(3).normal(0, 0.1, (600, 4)), 0, 1))
    error, linear = (
        np.square(spec.fit(x, table).predict(new).quality - level[new_kind]).mean()
        for spec in (Blend(), PrincipalRidge())
    )
    assert error < 0.6 * linear


def test_on_linear_outcomes_it_loses_little_to_ridge_alone() -> None:
    truth = np.random.default_rng(7).normal(0, 0.5, (12, 4))
    x, new = unit(500, 12, 1), unit(300, 12, 2)
    table = table_of(np.clip(0.5 + x @ truth + np.random.default_rng(3).normal(0, 0.1, (500, 4)), 0, 1))
    right = np.clip(0.5 + new @ truth, 0, 1)
    error, linear = (
        np.square(spec.fit(x, table).predict(new).quality - right).mean() for spec in (Blend(), PrincipalRidge())
    )
    assert error < np.square(right - right.mean(axis=0)).mean() / 10
    assert error < 2 * linear


def test_where_the_query_tells_nothing_it_knows_the_arms_means() -> None:
    table = table_of(np.random.default_rng(1).integers(0, 2, (200, 6)).astype(float))
    predictor = Blend().fit(unit(200, 12, 4), table)
    forecast = predictor.predict(unit(50, 12, 5))
    np.testing.assert_allclose(forecast.quality, np.tile(table.quality.mean(axis=0), (50, 1)))
    assert not predictor.arrays()["values"].any() and not predictor.arrays()["weight"].any()


def test_a_small_change_of_the_embedding_changes_a_forecast_a_little() -> None:
    level = np.random.default_rng(5).random((12, 4))
    x, kind = bundles(600, 1, kinds=12, d=6)
    predictor = Blend().fit(x, table_of(level[kind]))
    assert predictor.arrays()["values"].any()
    a, b = (predictor.predict(unit(400, 6, 8) + step).quality for step in (np.float32(0), np.float32(1e-5)))
    assert np.abs(a - b).max() < 0.005


def test_spread_covers_the_error_of_the_mean() -> None:
    """About as wide as the truth is away, over many tables: neither a tenth of it nor ten times."""
    truth, errors, spreads = np.random.default_rng(7).normal(0, 0.3, (12, 4)), [], []
    for seed in range(10):
        x, new = unit(300, 12, seed), unit(50, 12, 100 + seed)
        noisy = (np.random.default_rng(seed).random((300, 4)) < np.clip(0.5 + x @ truth, 0, 1)).astype(float)
        forecast = Blend().fit(x, table_of(noisy, seed)).predict(new)
        errors.append(forecast.quality - np.clip(0.5 + new @ truth, 0, 1))
        spreads.append(forecast.spread)
    ratio = np.sqrt(np.square(errors).mean()) / np.mean(spreads)
    assert 0.4 < ratio < 2.5


@pytest.mark.parametrize("power", [0.5, 5.0, float("nan")])
def test_a_power_out_of_range_is_refused_by_name(power: float) -> None:
    with pytest.raises(ConfigError, match=r"Blend\(power="):
        Blend(power=power)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("centres", lambda a: a[:, 1:], "do not fit together"),
        ("centres", lambda a: a[..., 1:], "do not fit together"),
        ("values", lambda a: a[1:], "do not fit together"),
        ("temperature", lambda a: 0 * a, "temperature is 0.0"),
        ("temperature", lambda a: np.nan * a, "temperature is nan"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(name: str, change: object, words: str) -> None:
    x, kind = bundles(60, 1)
    table = table_of(np.random.default_rng(5).random((8, 4))[kind])
    arrays = Blend().fit(x, table).arrays()
    with pytest.raises(ArtifactError, match=words):
        BlendPredictor.from_arrays(table.arms, {**arrays, name: change(arrays[name])})  # type: ignore[operator]


def test_an_arm_of_constant_quality_does_not_outweigh_the_others() -> None:
    """Outcomes are standardised; one that hardly varies must not be blown up to what the others are."""
    x, kind = bundles(300, 1)
    quality = np.random.default_rng(5).random((8, 4))[kind]
    quality[:, 1] = 0.3
    quality[7, 1] = 0.3001
    with_it, without = table_of(quality), table_of(quality)
    forecast = Blend().fit(x, with_it).predict(x).quality
    assert np.abs(forecast[:, 1] - 0.3).max() < 1e-4
    plain = Blend().fit(x, replace(without, quality=np.where(np.arange(4) == 1, 0.3, quality))).predict(x).quality
    np.testing.assert_allclose(forecast, plain, atol=1e-3)
