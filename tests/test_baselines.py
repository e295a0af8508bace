"""Every baseline is what was published: its formula by hand, another library, or gradients by differences."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2router.baselines import (
    MIRT,
    NIRT,
    CarrotKNN,
    CarrotLinear,
    Clusters,
    MatrixFactorisation,
    Random,
    UniRouter,
    factorisation,
)
from r2router.baselines.adam import Descent
from r2router.baselines.cells import cross_entropy, standard_error
from r2router.baselines.clusters import ClusterPredictor, cluster_means
from r2router.baselines.irt import MIRTPredictor, NIRTPredictor, _principal, _relevance
from r2router.errors import ConfigError
from r2router.metrics.frontier import sweep
from r2router.pool.pool import Pool
from r2router.predict.kmeans import kmeans, nearest
from r2router.table.table import Table
from r2router.testing import learners as suite
from r2router.types import Budget, FloatArray, Model, Prices

sklearn_needed = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed (bench group)"
)
torch_needed = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed ([torch] extra)"
)


def with_gaps(table: Table, share: float = 0.3) -> Table:
    gone = np.random.default_rng(4).random(table.quality.shape) < share
    return replace(
        table, quality=np.where(gone, np.nan, table.quality), output_tokens=np.where(gone, np.nan, table.output_tokens)
    )


def unit(x: FloatArray) -> FloatArray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("learner", "field", "value"),
    [
        *[
            (kind, f, 0)
            for kind in (MIRT, NIRT, MatrixFactorisation)
            for f in ("dim", "epochs", "batch_size", "patience")
        ],
        *[(MIRT, f, v) for f in ("learning_rate", "validation") for v in (0.0, -1.0, float("inf"), float("nan"))],
        *[(kind, "seed", -1) for kind in (MIRT, UniRouter, Clusters, Random)],
        *[(UniRouter, "clusters", 0), (UniRouter, "queries", 0), (UniRouter, "sharpness", -1.0), (CarrotKNN, "k", -1)],
        *[(Clusters, f, 0) for f in ("clusters", "nearest", "restarts")],
        *[(Clusters, "sharpness", v) for v in (float("inf"), float("nan"))],
    ],
)
def test_settings_out_of_range_are_refused_by_name(learner: Any, field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{learner.__name__}\({field}=.*{field}"):
        learner(**{field: value})


# -- CARROT -----------------------------------------------------------------------------------------------------------


@sklearn_needed
@pytest.mark.parametrize("k", [1, 5, 256])
def test_carrot_knn_is_scikit_learns(k: int) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    (x, table), (new, _) = suite.made_up(120), suite.made_up(30, seed=1)
    x, new = 3 * x, new / 2  # the length of an embedding does not matter
    forecast = CarrotKNN(k).fit(x, table).predict(new)
    for got, y in ((forecast.quality, table.quality), (forecast.tokens, table.output_tokens)):
        expected = KNeighborsRegressor(min(k, 120), metric="cosine").fit(x, y).predict(new)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_carrot_knn_leaves_out_what_was_not_observed() -> None:
    x = unit(np.array([[1, 0], [1, 0.1], [1, 0.2], [-1, 0]])).astype(np.float32)
    table = suite.made_up(4)[1]
    quality, tokens = (
        np.tile([[0.2], [0.4], [np.nan], [1.0]], (1, 5)),
        np.tile([[10.0], [30.0], [np.nan], [100.0]], (1, 5)),
    )
    quality[:3, 1] = np.nan  # none of its neighbours saw this arm
    forecast = CarrotKNN(k=3).fit(x, replace(table, quality=quality, output_tokens=tokens)).predict(x[:1])
    np.testing.assert_allclose(forecast.quality[0], [0.3, 1.0, 0.3, 0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(forecast.tokens[0], 20.0, rtol=1e-6)


@sklearn_needed
@pytest.mark.parametrize("n", [400, 30, 5])  # with 5 queries of 8 dimensions, the solution of least norm
def test_carrot_linear_is_scikit_learns(n: int) -> None:
    from sklearn.linear_model import LinearRegression

    (x, table), (new, _) = suite.made_up(n), suite.made_up(50, seed=1)
    forecast = CarrotLinear().fit(x, table).predict(new)
    quality = LinearRegression().fit(x.astype(float), table.quality).predict(new.astype(float))
    tokens = LinearRegression().fit(x.astype(float), table.output_tokens).predict(new.astype(float))
    np.testing.assert_allclose(forecast.quality, quality.clip(0, 1), atol=1e-6)
    low, high = table.output_tokens.min(axis=0), table.output_tokens.max(axis=0)
    np.testing.assert_allclose(forecast.tokens, tokens.clip(low, high), rtol=1e-5)
    assert (tokens < low).any(), "no forecast left what was seen, so that nothing was held there"


def test_carrot_linear_fits_each_arm_on_its_own_queries() -> None:
    (x, table), (new, _) = suite.made_up(80), suite.made_up(20, seed=1)
    table = with_gaps(table)
    forecast = CarrotLinear().fit(x, table).predict(new)
    for arm in range(5):
        seen = ~np.isnan(table.quality[:, arm])
        a = np.column_stack([x[seen], np.ones(seen.sum())]).astype(float)
        head = np.linalg.lstsq(a, table.quality[seen, arm], rcond=None)[0]
        np.testing.assert_allclose(forecast.quality[:, arm], (new @ head[:-1] + head[-1]).clip(0, 1), atol=1e-6)


# -- gradients --------------------------------------------------------------------------------------------------------


def parts(seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(7, 5) inputs, (7, 4) qualities with ties and gaps, (7, 3) relevance; float64, so that differences are exact
    enough.
    """
    rng = np.random.default_rng(seed)
    quality = np.round(rng.random((7, 4)), 1)
    quality[1], quality[2:4, 2] = 0.5, np.nan
    return rng.normal(size=(7, 5)), quality, _relevance(rng.normal(size=(7, 3)).astype(np.float32)).astype(float)


def parameters(rng: np.random.Generator, **shapes: tuple[int, ...]) -> dict[str, FloatArray]:
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def cases() -> list[Any]:
    rng = np.random.default_rng(1)
    inputs, quality, relevance = parts()
    mirt = parameters(rng, ability=(4, 3), discrimination=(5, 3), difficulty=(5,))
    nirt = parameters(rng, ability=(4, 3), discrimination=(5,), difficulty=(5, 3), layer=(4,))
    pairs = parameters(rng, arm=(4, 3), projection=(5, 3), output=(3,))
    return [
        pytest.param(lambda p: MIRTPredictor.gradient(p, inputs, quality), mirt, id="mirt"),
        pytest.param(lambda p: NIRTPredictor.gradient(p, inputs, relevance, quality), nirt, id="nirt"),
        pytest.param(lambda p: factorisation.pairwise(p, inputs, quality, np.array([2, 0, 3, 1])), pairs, id="mf"),
        pytest.param(
            lambda p: factorisation.pairwise(p, inputs, quality[:, :3], np.array([2, 0, 1])),
            pairs | {"arm": pairs["arm"][:3]},
        ),
    ]


@pytest.mark.parametrize(("loss", "p"), cases())
def test_gradients_are_those_of_differences(loss: Any, p: dict[str, FloatArray]) -> None:
    gradient = loss(p)[2]
    assert list(gradient) == list(p)
    for name, value in p.items():
        assert gradient[name].shape == value.shape
        for index in np.ndindex(value.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {**p, name: value.copy()}
                moved[name][index] += step
                total, cells, _ = loss(moved)
                ends.append(total / cells)
            assert gradient[name][index] == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7), (name, index)


@torch_needed
def test_cross_entropy_is_torchs() -> None:
    import torch

    rng = np.random.default_rng(0)
    z, y = rng.normal(0, 30, (6, 5)), rng.random((6, 5))
    y[2, 3] = np.nan
    seen = ~np.isnan(y)
    total, cells, slope = cross_entropy(z, y)
    leaf = torch.tensor(z, requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(leaf[torch.tensor(seen)], torch.tensor(y[seen]))
    expected.backward()
    assert cells == 29 and total / cells == pytest.approx(expected.item())
    np.testing.assert_allclose(slope, leaf.grad.numpy(), atol=1e-12)


@torch_needed
def test_descent_is_torchs_adam() -> None:
    import torch

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=40).astype(np.float32)
    batches: list[Any] = []

    def gradient(p: Any, rows: Any, _: Any) -> Any:
        batches.append(rows.copy())
        error = x[rows] @ p["w"] + p["b"] - y[rows]
        return (
            float((error**2).sum()),
            len(rows),
            {"w": 2 * x[rows].T @ error / len(rows), "b": np.atleast_1d(2 * error.mean())},
        )

    start = {"w": np.ones(3, np.float32), "b": np.zeros(1, np.float32)}
    found = Descent(dim=1, epochs=5, batch_size=16, learning_rate=0.05, early_stopping=False).minimise(
        gradient, start, 40
    )
    assert all(sorted(np.concatenate(batches[i : i + 3])) == list(range(40)) for i in range(0, 15, 3))
    w, b = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
    adam = torch.optim.Adam([w, b], lr=0.05)
    for rows in batches:
        adam.zero_grad()
        torch.nn.functional.mse_loss(torch.from_numpy(x[rows]) @ w + b, torch.from_numpy(y[rows])).backward()
        adam.step()
    np.testing.assert_allclose(found["w"], w.detach().numpy(), rtol=1e-4)
    np.testing.assert_allclose(found["b"], b.detach().numpy(), rtol=1e-4)
    assert start["w"].tolist() == [1, 1, 1], "what it starts from was changed"


def test_descent_keeps_the_parameters_of_the_least_held_out_loss() -> None:
    seen: list[float] = []

    def gradient(p: Any, rows: Any, _: Any) -> Any:
        if len(rows) == 2:  # the held-out ones: best where p has come down to 0.5
            seen.append(float(p["p"][0]))
            return 2 * abs(p["p"][0] - 0.5), 2, {"p": np.zeros(1, np.float32)}
        return 0.0, 1, {"p": np.ones(1, np.float32)}  # training pushes it on and on

    spec = Descent(dim=1, epochs=100, batch_size=50, learning_rate=0.1, patience=3)
    assert spec.minimise(gradient, {"p": np.ones(1, np.float32)}, 20)["p"][0] == pytest.approx(0.5, abs=1e-4)
    assert len(seen) == 1 + 5 + 3, "it did not stop three epochs after the best one"


# -- item response ----------------------------------------------------------------------------------------------------


def sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def test_mirt_forecasts_by_its_formula() -> None:
    (x, table), (new, _) = suite.made_up(60), suite.made_up(4, seed=1)
    fitted = MIRT(dim=3, epochs=5).fit(x, table)
    p, got = fitted.arrays(), fitted.predict(new).quality
    for i, query in enumerate(new):
        a, b = (
            query @ p["discrimination"][:-1] + p["discrimination"][-1],
            query @ p["difficulty"][:-1] + p["difficulty"][-1],
        )
        for arm in range(5):
            assert got[i, arm] == pytest.approx(
                sigmoid(sum(a[k] * p["ability"][arm, k] for k in range(3)) - b), abs=1e-6
            )


def test_nirt_forecasts_by_its_formula() -> None:
    (x, table), (new, _) = suite.made_up(60), suite.made_up(4, seed=1)
    fitted = NIRT(dim=3, epochs=5).fit(x, table)
    p, got = fitted.arrays(), fitted.predict(new).quality
    for i, query in enumerate(new):
        ones = np.append(query, 1.0)
        power = np.exp(ones @ p["principal"])
        r, a = 3 * power / power.sum(), ones @ p["discrimination"]
        for arm in range(5):
            terms = [
                r[k] * (sigmoid(p["ability"][arm, k]) - sigmoid(ones @ p["difficulty"][:, k])) * a for k in range(3)
            ]
            assert got[i, arm] == pytest.approx(sigmoid(float(np.dot(p["layer"][:3], terms) + p["layer"][3])), abs=1e-5)


@sklearn_needed
def test_relevance_is_of_scikit_learns_principal_components() -> None:
    from sklearn.decomposition import PCA

    x = suite.made_up(200)[0]
    got = np.column_stack([x, np.ones(200)]) @ _principal(x, 5)
    expected = PCA(5, whiten=True).fit_transform(x.astype(float)) * np.sqrt(200 / 199)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-4)  # up to the sign
    assert np.isfinite(_principal(x[:1], 5)).all() and not _principal(x[:2], 5)[:, 1:].any()


@pytest.mark.parametrize("learner", [MIRT(), NIRT()])
def test_item_response_finds_the_abilities_that_made_the_table(learner: Any) -> None:
    x, table = suite.made_up(1500, noise=0)
    new, rng = suite.made_up(400, seed=3)[0], np.random.default_rng(5)
    truth = {
        "discrimination": rng.normal(0, 3, (8, 2)),
        "ability": rng.normal(0, 2, (5, 2)),
        "difficulty": rng.normal(0, 1, 8),
    }
    chance = [MIRTPredictor.logits(truth, e.astype(float)) for e in (x, new)]
    quality, expected = (1 / (1 + np.exp(-z)) for z in chance)
    answers = (rng.random(quality.shape) < quality).astype(float)
    got = learner.fit(x, replace(table, quality=answers)).predict(new).quality
    assert np.square(got - expected).mean() < 0.12 * expected.var(axis=0).mean() + (
        0.02 if isinstance(learner, NIRT) else 0.0
    )


@pytest.mark.parametrize("kind", [MIRT, NIRT])
def test_item_response_starts_at_the_arms_means(kind: Any) -> None:
    x, table = suite.made_up(300)
    quality = np.tile([0.05, 0.3, 0.5, 0.8, 0.97], (300, 1))
    forecast = kind(epochs=1, learning_rate=1e-9).fit(x, replace(table, quality=quality)).predict(x)
    np.testing.assert_allclose(forecast.quality.mean(axis=0), quality[0], atol=0.03)


@pytest.mark.parametrize("kind", [MIRT, NIRT])
def test_tokens_of_item_response_are_the_arms_means(kind: Any) -> None:
    x, table = suite.made_up(100)
    table = with_gaps(table)
    tokens = kind(epochs=1).fit(x, table).predict(x[:3]).tokens
    np.testing.assert_allclose(tokens, np.tile(np.nanmean(table.output_tokens, axis=0), (3, 1)))


# -- matrix factorisation ---------------------------------------------------------------------------------------------


@torch_needed
def test_pairs_are_scored_as_routellm_does() -> None:
    import torch

    inputs, quality, _ = parts()
    p = parameters(np.random.default_rng(1), arm=(4, 3), projection=(5, 3), output=(3,))
    order = np.array([2, 0, 3, 1])
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in p.items()}
    embedding = torch.nn.functional.normalize(tensors["arm"], p=2, dim=1)
    losses = []
    for i, query in enumerate(torch.tensor(inputs)):
        for one, two in ((2, 0), (3, 1)):
            if np.isnan(quality[i, [one, two]]).any():
                continue
            logit = ((embedding[one] - embedding[two]) * (query @ tensors["projection"])) @ tensors["output"]
            won = 0.5 * (1 + np.sign(quality[i, one] - quality[i, two]))
            losses.append(torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor(won)))
    mean = torch.stack(losses).mean()
    mean.backward()
    total, pairs, gradient = factorisation.pairwise(p, inputs, quality, order)
    assert pairs == len(losses) and total / pairs == pytest.approx(mean.item())
    for name, value in gradient.items():
        np.testing.assert_allclose(value, tensors[name].grad.numpy(), atol=1e-12)
    score = inputs @ factorisation.score_weights(p)
    expected = ((embedding * (torch.tensor(inputs) @ tensors["projection"])[:, None]) @ tensors["output"]).detach()
    np.testing.assert_allclose(score, expected.numpy())


def test_matrix_factorisation_lives_on_the_scale_of_quality() -> None:
    x, table = suite.made_up(400)
    table = with_gaps(table)
    forecast = MatrixFactorisation(dim=32).fit(x, table).predict(x)
    seen = ~np.isnan(table.quality)
    assert forecast.quality[seen].mean() == pytest.approx(table.quality[seen].mean(), abs=0.01)
    slope = np.polyfit(forecast.quality[seen], table.quality[seen], 1)[0]
    assert slope == pytest.approx(1, abs=0.1)  # but for what was cut to [0, 1]
    np.testing.assert_allclose(forecast.tokens[0], np.nanmean(table.output_tokens, axis=0), rtol=1e-5)


def test_matrix_factorisation_learns_who_wins_and_not_by_how_much() -> None:
    (x, table), (new, other) = suite.made_up(400), suite.made_up(200, seed=1)
    ranks = table.quality.argsort(axis=1).argsort(axis=1) / 4  # the same winners, other margins
    one, two = (
        MatrixFactorisation(dim=32).fit(x, replace(table, quality=q)).predict(new).quality
        for q in (table.quality, ranks)
    )
    untied = (np.diff(np.sort(table.quality, axis=1), axis=1) > 0).all(axis=1).mean()
    assert (one.argmax(axis=1) == two.argmax(axis=1)).mean() > untied - 0.1
    best = other.quality[np.arange(200), one.argmax(axis=1)].mean()
    assert best > other.quality.mean(axis=0).max() + 0.5 * (
        other.quality.max(axis=1).mean() - other.quality.mean(axis=0).max()
    )


def test_one_arm_alone_is_its_mean() -> None:
    x, table = suite.made_up(60)
    table = table.with_arms(table.arms[:1])
    forecast = MatrixFactorisation().fit(x, table).predict(x)
    np.testing.assert_allclose(forecast.quality, table.quality.mean(), atol=1e-6)


# -- clusters ---------------------------------------------------------------------------------------------------------


@sklearn_needed
@pytest.mark.parametrize(("n", "k"), [(300, 8), (300, 60), (40, 40)])
def test_kmeans_is_as_good_as_scikit_learns(n: int, k: int) -> None:
    from sklearn.cluster import KMeans

    x = suite.made_up(n)[0]
    centres, member = kmeans(x, k, seed=0, restarts=10)
    theirs = KMeans(k, n_init=10, random_state=0).fit(x)
    inertia = float(np.square(x - centres[member]).sum())
    assert inertia <= 1.03 * theirs.inertia_ + 1e-6
    again = KMeans(k, init=centres, n_init=1).fit(x)  # from our centres it finds nothing much better
    assert again.inertia_ >= 0.999 * inertia - 1e-6
    assert np.array_equal(np.unique(member), np.arange(k))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(0, 5))
def test_kmeans_sends_every_row_to_its_nearest_centre(n: int, k: int, distinct: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(distinct, 3)).astype(np.float32)[rng.integers(distinct, size=n)]  # many rows are the same
    centres, member = kmeans(x, min(k, n), seed)
    far = np.square(x[:, None] - centres).sum(axis=2)
    np.testing.assert_allclose(far[np.arange(n), member], far.min(axis=1), atol=1e-5)
    if k >= n >= distinct:
        np.testing.assert_allclose(far.min(axis=1), 0, atol=1e-5)


def test_nearest_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = suite.made_up(100)[0]
    whole = nearest(x, x[:7])
    monkeypatch.setattr("r2router.predict.kmeans._FLOATS", 50)
    for one, two in zip(whole, nearest(x, x[:7]), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_centres_of_a_large_table_are_those_of_some_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x = suite.made_up(600)[0]
    whole = kmeans(x, 6, 0, restarts=5)
    monkeypatch.setattr("r2router.predict.kmeans.MAX_QUERIES", 300)
    some = kmeans(x, 6, 0, restarts=5)
    spent = [float(np.square(x - centres[member]).sum()) for centres, member in (whole, some)]
    assert len(some[1]) == 600 and spent[0] < spent[1] < 1.05 * spent[0]


def test_unirouter_forecasts_by_its_formula() -> None:
    (x, table), (new, _) = suite.made_up(100), suite.made_up(5, seed=1)
    table = with_gaps(table, 0.5)
    fitted = UniRouter(clusters=12, sharpness=7.0).fit(x, table)
    centres, forecast = fitted.arrays()["centres"], fitted.predict(new)
    assert centres.shape == (12, 8)
    member = kmeans(x[np.argsort(table.query_ids)][np.random.default_rng(0).permutation(100)], 12, 0)[0]
    np.testing.assert_allclose(centres, unit(member), atol=1e-5)
    own = np.square(x[:, None] - member).sum(axis=2).argmin(axis=1)
    psi = np.empty((12, 5))
    for k in range(12):
        for arm in range(5):
            seen = [q for q in table.quality[own == k, arm] if not np.isnan(q)]
            psi[k, arm] = np.mean(seen) if seen else np.nanmean(table.quality[:, arm])
    phi = np.exp(7.0 * new @ centres.T)
    np.testing.assert_allclose(forecast.quality, phi / phi.sum(axis=1, keepdims=True) @ psi, atol=1e-5)
    np.testing.assert_allclose(forecast.tokens, np.tile(np.nanmean(table.output_tokens, axis=0), (5, 1)))


def test_clusters_forecast_from_the_nearest_few() -> None:
    (x, table), (new, _) = suite.made_up(150), suite.made_up(5, seed=1)
    a = (fitted := Clusters(clusters=20, nearest=3).fit(x, table)).arrays()
    forecast = fitted.predict(new)
    for i, query in enumerate(new):
        near = np.argsort(a["centres"] @ query)[-3:]
        weight = np.exp(9 * (a["centres"][near] @ query))
        weight /= weight.sum()
        np.testing.assert_allclose(forecast.quality[i], weight @ a["quality"][near], atol=1e-6)
        np.testing.assert_allclose(forecast.tokens[i], weight @ a["tokens"][near], rtol=1e-6)
    own = np.square(x[:, None] - a["centres"]).sum(axis=2).argmin(axis=1)
    for k in range(20):
        np.testing.assert_allclose(a["tokens"][k], table.output_tokens[own == k].mean(axis=0))


def test_small_tables_have_fewer_clusters() -> None:
    x, table = suite.made_up(60)
    assert len(UniRouter().fit(x, table).arrays()["centres"]) == 12
    assert len(UniRouter(queries=20).fit(x, table).arrays()["centres"]) == 4
    assert len(Clusters(clusters=5).fit(x, table).arrays()["centres"]) == 5


def test_an_arm_that_comes_later_is_described_by_its_cluster_means_alone() -> None:
    x, table = suite.made_up(200)
    whole, before = UniRouter().fit(x, table), UniRouter().fit(x, table.with_arms(table.arms[:4]))
    centres = before.arrays()["centres"]
    np.testing.assert_array_equal(centres, whole.arrays()["centres"])  # they do not know the arms
    by_id = np.argsort(table.query_ids)[np.random.default_rng(0).permutation(200)]
    member = kmeans(x[by_id], len(centres), 0)[1]
    late = cluster_means(member, table.quality[by_id, 4:], len(centres), table.quality[:, 4:].mean(axis=0))
    np.testing.assert_allclose(late[:, 0], whole.arrays()["quality"][:, 4])
    arrays = {**whole.arrays(), "quality": np.column_stack([before.arrays()["quality"], late])}
    both = [ClusterPredictor(table.arms, a).predict(x).quality for a in (arrays, whole.arrays())]
    np.testing.assert_allclose(*both)


# -- chance -----------------------------------------------------------------------------------------------------------


def test_random_chooses_every_arm_alike_and_remembers() -> None:
    x, table = suite.made_up(3000)
    fitted = Random(seed=1).fit(x, table)
    chosen = fitted.predict(x).quality.argmax(axis=1)
    assert np.abs(np.bincount(chosen, minlength=5) / 3000 - 0.2).max() < 4 * np.sqrt(0.2 * 0.8 / 3000)
    np.testing.assert_array_equal(fitted.predict(x[::-1]).quality[::-1].argmax(axis=1), chosen)
    np.testing.assert_array_equal(
        fitted.predict(np.where(x == 0, np.float32(-0.0), x).astype(np.float64)).quality.argmax(axis=1), chosen
    )
    other = Random(seed=2).fit(x, table).predict(x).quality.argmax(axis=1)
    assert (other == chosen).mean() < 0.3
    assert abs(np.corrcoef(chosen == 0, table.quality[:, 0])[0, 1]) < 0.08, "the choice knows something of the query"


def test_random_moves_to_cheap_arms_as_cost_counts() -> None:
    x, table = suite.made_up(500)
    forecast = Random().fit(x, table).predict(x)
    path = sweep(forecast.quality, forecast.tokens)
    cost = path.add_up(*path.parts(forecast.tokens), np.ones(500))
    means = table.output_tokens.mean(axis=0)
    assert cost.min() == pytest.approx(means.min()) and cost.max() == pytest.approx(means.mean(), rel=0.1)


# -- what they share --------------------------------------------------------------------------------------------------


def test_standard_error_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    residual = rng.normal(0, 0.2, (4000, 2))
    residual[:, 1] = np.nan
    error = standard_error(residual, 1)
    assert error[0] == pytest.approx(0.2 / np.sqrt(4000), rel=0.03) and np.isnan(error[1])


@pytest.mark.parametrize(
    "learner", [MIRT(), NIRT(), MatrixFactorisation(), Clusters(), UniRouter(), Random(), CarrotKNN(5), CarrotLinear()]
)
def test_a_spec_survives_the_router_file(learner: Any) -> None:
    from r2router.router.learners import learner_class

    spec = msgspec.to_builtins(learner)
    assert msgspec.convert(spec, learner_class(spec["learner"])) == learner


def test_the_number_of_neighbours_is_chosen_by_what_was_held_out() -> None:
    """Where every query is like all others many neighbours are best; where kinds are small and clear, few."""
    from r2router.baselines.carrot import _by_cross_validation

    rng = np.random.default_rng(0)
    n = 300
    pool = Pool([Model(id="m", budgets=(Budget.of(50),), usd_per_million=Prices(input=1.0, output=1.0))])
    nothing, ids = np.full((n, 1), np.nan), tuple(f"q{i:04d}" for i in range(n))

    def table(quality: FloatArray) -> Table:
        return Table(
            pool, ids, ids, ("",) * n, quality[:, None], nothing, nothing, np.full((n, 1), 20.0), nothing, nothing
        )

    kind = np.arange(n) % 30
    centres = rng.normal(size=(30, 16))
    x = (centres[kind] + rng.normal(0, 0.01, (n, 16))).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    of_kind, of_chance = (rng.random(30) < 0.5).astype(float)[kind], (rng.random(n) < 0.5).astype(float)
    assert _by_cross_validation(x, table(of_kind)) == 5
    assert _by_cross_validation(x, table(of_chance)) >= 80
    order = rng.permutation(n)
    assert _by_cross_validation(x[order], table(of_kind).take(order)) == 5
    assert CarrotKNN(k=0).fit(x, table(of_kind)).predict(x).quality[:, 0] == pytest.approx(of_kind, abs=1e-6)
