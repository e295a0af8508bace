"""Every learner keeps the promises of `check_learner`, and each computes what it says it does."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from r2router.baselines import CarrotKNN, MatrixFactorisation, UniRouter
from r2router.errors import ArtifactError, ConfigError, MissingExtra
from r2router.predict import gbdt, knn, mlp
from r2router.predict.gbdt import GBDT, GBDTPredictor
from r2router.predict.knn import KNN
from r2router.predict.linear import Ridge, solve_ridge
from r2router.predict.mlp import MLP
from r2router.predict.tokens import log_tokens
from r2router.router.learners import LEARNERS, learner_class
from r2router.table.table import Table
from r2router.testing import learners as suite
from r2router.types import FloatArray

torch_needed = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed ([torch] extra)"
)
lightgbm_needed = pytest.mark.skipif(
    importlib.util.find_spec("lightgbm") is None, reason="lightgbm is not installed ([gbdt] extra)"
)
NEEDS = {"mlp": torch_needed, "gbdt": lightgbm_needed}
QUICK: dict[str, list[Any]] = {  # settings for small tables, where the defaults take longer
    "mlp": [MLP(epochs=8, learning_rate=4e-3), MLP(epochs=4, learning_rate=3e-3, early_stopping=False)],
    "gbdt": [GBDT(rounds=40, learning_rate=0.15, depth=2, threads=1)],
    "knn": [KNN(), KNN(k=20, weights="similarity", shrink=0)],
    "carrot-knn": [CarrotKNN(k=5), CarrotKNN(k=40)],
    "unirouter": [UniRouter(), UniRouter(queries=100)],
    "mf": [MatrixFactorisation(dim=32)],
}
CONSTANT_TOKENS = ("mirt", "nirt", "unirouter", "mf")  # as published, tokens are a constant per arm
LEARNS = dict.fromkeys(CONSTANT_TOKENS, ("quality",)) | {"random": ()}  # by definition it knows nothing of the query


def every_learner() -> list[Any]:
    """All that are registered, with the settings above or their defaults."""
    chosen = [(name, learner) for name in LEARNERS.built_in for learner in QUICK.get(name, [learner_class(name)()])]
    return [
        pytest.param(learner, LEARNS.get(name, suite.ALL), marks=NEEDS.get(name, ()), id=f"{name}{i}")
        for i, (name, learner) in enumerate(chosen)
    ]


@pytest.mark.parametrize(("learner", "learns"), every_learner())
def test_learner_keeps_its_promises(learner: Any, learns: tuple[str, ...]) -> None:
    suite.check_learner(learner, learns)


@pytest.mark.parametrize(
    ("learner", "field", "value"),
    [
        *[(Ridge, "alpha", v) for v in (0, -1.0, float("inf"), float("nan"))],
        *[(MLP, f, v) for f in ("learning_rate", "validation") for v in (0.0, -1.0, float("inf"), float("nan"))],
        *[(MLP, f, 0) for f in ("epochs", "patience", "batch_size")],
        *[
            (GBDT, f, v)
            for f in ("learning_rate", "feature_share", "validation")
            for v in (0.0, -1.0, float("inf"), float("nan"))
        ],
        *[(GBDT, f, 0) for f in ("rounds", "depth", "min_leaf", "patience")],
        *[
            (MLP, "seed", -1),
            (GBDT, "seed", -1),
            (GBDT, "threads", -1),
            (GBDT, "depth", 9),
            (KNN, "k", 0),
            (KNN, "weights", "cosine"),
        ],
        *[(KNN, "shrink", v) for v in (-1.0, float("inf"), float("nan"))],
    ],
)
def test_settings_out_of_range_are_refused_by_name(learner: Any, field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{learner.__name__}\({field}=.*{field}"):
        learner(**{field: value})


def test_settings_that_do_not_exist_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="neighbours"):
        msgspec.json.decode(b'{"learner": "knn", "neighbours": 3}', type=KNN)


@pytest.mark.parametrize(("learner", "module"), [(MLP(), "torch"), (GBDT(), "lightgbm")])
def test_absent_extra_is_named(learner: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install .*r2router\["):
        learner.fit(*suite.made_up(30))


@pytest.mark.parametrize(
    ("learner", "module"),
    [
        pytest.param(QUICK["mlp"][1], "torch", marks=torch_needed),
        pytest.param(QUICK["gbdt"][0], "lightgbm", marks=lightgbm_needed),
    ],
)
def test_forecasts_do_not_need_what_training_needs(learner: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, table = suite.made_up(120)
    fitted = learner.fit(x, table)
    for name in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    again = type(fitted).from_arrays(table.arms, fitted.arrays())
    assert np.array_equal(again.predict(x).quality, fitted.predict(x).quality)


@pytest.mark.parametrize(
    ("learner", "module", "limits"),
    [
        pytest.param(QUICK["mlp"][1], mlp, {"_ROWS": 7, "_FLOATS": 2 * 256 * 7}, marks=torch_needed, id="mlp"),
        pytest.param(QUICK["gbdt"][0], gbdt, {"_CELLS": 1500}, marks=lightgbm_needed, id="gbdt"),
        pytest.param(KNN(k=20), knn, {"_FLOATS": 1300}, id="knn"),
    ],
)
def test_forecasts_in_blocks_are_the_same(
    learner: Any, module: ModuleType, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, table = suite.made_up(120)
    fitted = learner.fit(x, table)
    whole = fitted.predict(x)
    for name, value in limits.items():
        monkeypatch.setattr(module, name, value)
    for parts in (fitted.predict(x), learner.fit(x, table).predict(x)):
        for name in ("quality", "tokens", "spread"):
            np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-5, atol=1e-6)


def with_gaps(table: Table, share: float = 0.3) -> Table:
    gone = np.random.default_rng(4).random(table.quality.shape) < share
    return replace(
        table, quality=np.where(gone, np.nan, table.quality), output_tokens=np.where(gone, np.nan, table.output_tokens)
    )


# -- ridge ------------------------------------------------------------------------------------------------------------


# more queries than dimensions, and fewer: both systems are solved
@pytest.mark.parametrize(("n", "d"), [(60, 8), (20, 45)])
def test_ridge_is_the_closed_form_of_each_arm(n: int, d: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, d)), rng.random((n, 6))
    y[rng.random(y.shape) < 0.3] = np.nan
    y[:, 2], y[:, 4] = np.nan, rng.random(n)
    weight, bias = solve_ridge(x, y, 2.5)
    for arm in (0, 1, 3, 4, 5):
        seen = ~np.isnan(y[:, arm])
        a = np.column_stack([x[seen], np.ones(seen.sum())])  # the intercept is a column of ones without a penalty
        expected = np.linalg.solve(a.T @ a + 2.5 * np.diag([1.0] * d + [0.0]), a.T @ y[seen, arm])
        np.testing.assert_allclose([*weight[:, arm], bias[arm]], expected, rtol=0, atol=1e-9)
    assert not weight[:, 2].any() and np.isnan(bias[2])


def test_ridge_with_a_huge_penalty_knows_the_arm_means() -> None:
    x, table = suite.made_up(200)
    table = with_gaps(table)
    forecast = Ridge(alpha=1e9).fit(x, table).predict(x)
    np.testing.assert_allclose(forecast.quality, np.tile(np.nanmean(table.quality, axis=0), (len(x), 1)), atol=1e-5)
    np.testing.assert_allclose(
        forecast.tokens, np.tile(np.nanmean(table.output_tokens, axis=0), (len(x), 1)), rtol=1e-5
    )


@pytest.mark.parametrize("alpha", [0.1, 30.0])
def test_ridge_tokens_have_the_right_mean_over_what_was_observed(alpha: float) -> None:
    x, table = suite.made_up(300)
    table = with_gaps(table)
    tokens = np.where(np.isnan(table.output_tokens), np.nan, Ridge(alpha).fit(x, table).predict(x).tokens)
    np.testing.assert_allclose(np.nanmean(tokens, axis=0), np.nanmean(table.output_tokens, axis=0), rtol=0.01)


# -- mlp --------------------------------------------------------------------------------------------------------------


@torch_needed
def test_mlp_heads_are_what_torch_trains_one_by_one() -> None:
    import torch

    x, table = suite.made_up(90)
    table = with_gaps(table)
    spec = MLP(epochs=3, early_stopping=False, learning_rate=1e-3, seed=3)
    fitted = spec.fit(x, table).predict(x).quality
    order = np.argsort(table.query_ids)
    y = table.quality[order]
    xs = torch.from_numpy((x[order] - x.mean(axis=0)) / np.sqrt(np.square(x - x.mean(axis=0)).mean()))
    for arm in range(len(table.arms)):
        start = mlp._start(np.random.default_rng(3), x.shape[1], np.nanmean(y[:, [arm]], axis=0))
        rng = np.random.default_rng(3)
        mlp._start(rng, x.shape[1], np.zeros(1))  # the batches are drawn after the weights
        modules: list[Any] = []
        for w, b in zip(start[::2], start[1::2], strict=True):
            layer = torch.nn.Linear(w.size // b.size, b.size)
            layer.weight.data, layer.bias.data = (
                torch.from_numpy(w.reshape(-1, b.size).T.copy()),
                torch.from_numpy(b.ravel().copy()),
            )
            modules += [layer, torch.nn.ReLU()]
        network = torch.nn.Sequential(*modules[:-1], torch.nn.Sigmoid())
        adam = torch.optim.Adam(network.parameters(), lr=1e-3)
        for _ in range(3):
            for rows in np.array_split(rng.permutation(90), [32, 64]):
                seen = rows[~np.isnan(y[rows, arm])]
                adam.zero_grad()
                torch.nn.functional.mse_loss(network(xs[seen])[:, 0], torch.from_numpy(y[seen, arm]).float()).backward()
                adam.step()
        with torch.no_grad():
            expected = network(xs)[:, 0].numpy()
        np.testing.assert_allclose(fitted[order, arm], expected, atol=2e-4)


@torch_needed
def test_mlp_head_does_not_depend_on_the_heads_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    x, table = suite.made_up(120)
    spec = QUICK["mlp"][0]
    together = spec.fit(x, table).predict(x).quality
    monkeypatch.setattr(mlp, "_GROUP", 2)
    np.testing.assert_allclose(spec.fit(x, table).predict(x).quality, together, atol=1e-3)
    alone = spec.fit(x, table.with_arms(table.arms[3:4])).predict(x).quality
    np.testing.assert_allclose(alone[:, 0], together[:, 3], atol=1e-3)


@torch_needed
def test_mlp_does_not_depend_on_the_number_of_threads_and_leaves_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(mlp, "_GROUP", 2)
    before, forecasts = torch.get_num_threads(), []
    x, table = suite.made_up(120)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            forecasts.append(QUICK["mlp"][1].fit(x, table).predict(x).quality)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(*forecasts)


@torch_needed
def test_mlp_stops_early_where_nothing_can_be_learned() -> None:
    x, table = suite.made_up(600)
    noise = replace(table, quality=np.random.default_rng(1).integers(0, 2, table.quality.shape).astype(float))
    new, spec = suite.made_up(100, seed=8)[0], MLP(epochs=10, learning_rate=2e-3, patience=2)
    stopped, paper = (
        s.fit(x, noise).predict(new).quality for s in (spec, msgspec.structs.replace(spec, early_stopping=False))
    )
    error, worse = (np.abs(quality - 0.5).mean() for quality in (stopped, paper))
    assert error < 0.06 and error < worse / 2


# -- gbdt -------------------------------------------------------------------------------------------------------------


@lightgbm_needed
@pytest.mark.parametrize("depth", [1, 3, 6])
def test_gbdt_trees_answer_as_lightgbm_does(depth: int) -> None:
    import lightgbm

    x, table = suite.made_up(500)
    x = np.round(x, 2)  # so that many queries lie on a threshold or beside it
    boosters = []
    for arm in range(4):
        settings = {
            "max_depth": depth,
            "num_leaves": 2**depth,
            "min_data_in_leaf": 3,
            "verbose": -1,
            "num_threads": 1,
            "seed": 1,
        }
        boosters.append(lightgbm.train(settings, lightgbm.Dataset(x, table.quality[:, arm]), 5 + 20 * arm))
    forests = [b.dump_model()["tree_info"] for b in boosters]
    arrays = gbdt._stack([forests[0], [], *forests[1:], [], *[[]] * 4], depth)  # heads without trees between them
    predictor = GBDTPredictor(
        table.arms, {**arrays, "bias": np.zeros(10), **{k: np.zeros(5) for k in ("spread", "low", "high")}}
    )
    edges = arrays["threshold"][np.isfinite(arrays["threshold"])]
    # lightgbm takes anything up to 1e-35 for 0, and so does not know the edges of 0
    edges = edges[np.abs(edges) > 1e-30][:200]
    near = np.concatenate([edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9))])
    for points in (x, np.random.default_rng(0).choice(near, (400, x.shape[1])).astype(np.float32)):
        got = predictor.raw(points)
        expected = np.stack([b.predict(points) for b in boosters], axis=1)
        np.testing.assert_allclose(got[:, [0, 2, 3, 4]], expected, rtol=0, atol=1e-6)
        assert not got[:, [1, 5, 6, 7, 8, 9]].any()


@lightgbm_needed
def test_gbdt_keeps_the_mean_where_trees_do_not_help() -> None:
    x, table = suite.made_up(200)
    quality = np.random.default_rng(1).integers(0, 2, table.quality.shape).astype(float)
    quality[30:, 0] = np.nan  # so that about three answers are held out
    fitted = GBDT(threads=1).fit(x, replace(table, quality=quality))
    trees, forecast = fitted.arrays()["count"][:5], fitted.predict(x)
    assert trees[0] == 0 and (trees[1:] == 0).any()
    np.testing.assert_allclose(
        forecast.quality[:, trees == 0], np.tile(np.nanmean(quality[:, trees == 0], axis=0), (len(x), 1))
    )
    assert np.abs(forecast.quality - np.nanmean(quality, axis=0)).mean() < 0.1


@lightgbm_needed
def test_gbdt_does_not_depend_on_the_number_of_threads() -> None:
    x, table = suite.made_up(150)
    one, two = (GBDT(rounds=4, threads=t).fit(x, table).predict(x) for t in (1, 2))
    assert np.array_equal(one.quality, two.quality) and np.array_equal(one.tokens, two.tokens)


@lightgbm_needed
def test_gbdt_refuses_trees_that_do_not_fit_together() -> None:
    x, table = suite.made_up(120)
    saved = QUICK["gbdt"][0].fit(x, table).arrays()
    with pytest.raises(ArtifactError, match="same trees"):
        GBDTPredictor.from_arrays(table.arms, {**saved, "leaf": saved["leaf"][:, 1:]})


# -- knn --------------------------------------------------------------------------------------------------------------


def by_hand(x: FloatArray, y: FloatArray, query: FloatArray, spec: KNN) -> list[float]:
    """(arms,) the definition, one query and one arm at a time."""
    cosine = x @ query / np.linalg.norm(x, axis=1) / np.linalg.norm(query)
    near = np.argsort(-cosine)[: spec.k]
    weight = np.maximum(cosine, 0) if spec.weights == "similarity" else np.ones(len(x))
    answer = []
    for arm in range(y.shape[1]):
        seen = [i for i in near if not np.isnan(y[i, arm])]
        mean, total = np.nanmean(y[:, arm]), spec.shrink + sum(weight[i] for i in seen)
        answer.append((sum(weight[i] * y[i, arm] for i in seen) + spec.shrink * mean) / total if total > 0 else mean)
    return answer


@pytest.mark.parametrize("weights", ["uniform", "similarity"])
@pytest.mark.parametrize(("k", "shrink"), [(1, 0.0), (7, 0.0), (7, 2.5), (500, 1.0)])
def test_knn_is_its_definition(k: int, shrink: float, weights: Any) -> None:
    (x, table), (new, _) = suite.made_up(100), suite.made_up(15, seed=1)
    x, new, table = 3 * x, new / 2, with_gaps(table, 0.6)  # the length of an embedding does not matter
    spec = KNN(k=k, shrink=shrink, weights=weights)
    forecast = spec.fit(x, table).predict(new)
    expected = np.array([by_hand(x, table.quality, query, spec) for query in new])
    np.testing.assert_allclose(forecast.quality, expected, atol=1e-5)
    logs = np.array([by_hand(x, log_tokens(table.output_tokens), query, spec) for query in new])
    inside = (forecast.tokens > np.nanmin(table.output_tokens, axis=0) * 1.001) & (
        forecast.tokens < np.nanmax(table.output_tokens, axis=0) * 0.999
    )
    moved = np.where(inside, np.log(forecast.tokens) - logs, np.nan)  # the same for all queries of an arm
    assert np.nanmax(np.nanmax(moved, axis=0) - np.nanmin(moved, axis=0)) < 1e-4


def test_knn_chooses_few_neighbours_where_they_tell_and_many_where_they_do_not() -> None:
    x, table = suite.made_up(400, noise=0.02)
    noise = replace(table, quality=np.random.default_rng(1).random(table.quality.shape))
    chosen = [int(KNN(k=None).fit(x, t).arrays()["settings"][0]) for t in (table, noise)]
    assert chosen[0] <= 32 and chosen[1] == 256


def test_knn_spread_is_that_of_a_mean_of_its_neighbours() -> None:
    x, table = suite.made_up(300)
    x = np.ones_like(x)  # every query is every other's neighbour
    forecast = KNN(k=300, shrink=0).fit(x, table).predict(x[:1])
    np.testing.assert_allclose(forecast.spread[0], table.quality.std(axis=0) / np.sqrt(300), rtol=0.01)


def test_knn_knows_an_embedding_of_zeros() -> None:
    x, table = suite.made_up(50)
    x[3] = 0
    forecast = KNN(weights="similarity", shrink=0).fit(x, table).predict(np.zeros((1, x.shape[1]), np.float32))
    np.testing.assert_allclose(forecast.quality[0], table.quality.mean(axis=0), atol=1e-6)
