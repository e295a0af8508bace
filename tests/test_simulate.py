"""Simulated tables: what is drawn is what was asked for, says what it is, and lets learners and metrics be held to the
truth.
"""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from r2router.cli import main
from r2router.errors import DataError, UsageError
from r2router.metrics.score import FixedArms, Outcomes, Routed, compare, methods
from r2router.predict.in_distribution import InDistribution
from r2router.predict.linear import LinearPredictor
from r2router.simulate import Noise, simulate
from r2router.simulate.arms import _along
from r2router.simulate.noise import mean_correlation
from r2router.simulate.points import among, remembered

ARRAYS = ("quality", "input_tokens", "output_tokens")


@pytest.fixture(scope="module")
def router(world: Any) -> r2.Router:
    return r2.Recipe(encoder="fake", learner=r2.Ridge(alpha=1.0), folds=0).fit(world.table, vectors=world.vectors)


# -- noise
# ----------------------------------------------------------------------------------------------------------------


def exact_beta_binomial(p: float, steps: int, dispersion: float) -> list[float]:
    """Its probabilities by gamma functions, as a textbook has them."""
    size = 1 / dispersion - 1
    a, b = p * size, (1 - p) * size

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    return [math.comb(steps, k) * math.exp(log_beta(k + a, steps - k + b) - log_beta(a, b)) for k in range(steps + 1)]


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("p", [0.03, 0.5, 0.9])
def test_quality_has_the_probabilities_of_the_beta_binomial(steps: int, p: float) -> None:
    n, dispersion = 40_000, 0.4
    rng = np.random.default_rng(1)
    drawn = Noise(steps=steps, dispersion=dispersion, shared=0.5).quality(
        np.full((n, 1), p), rng.standard_normal(n), rng
    )
    counts = np.bincount(np.rint(drawn[:, 0] * steps).astype(int), minlength=steps + 1)
    for got, want in zip(counts / n, exact_beta_binomial(p, steps, dispersion), strict=True):
        assert abs(got - want) < 4.5 * math.sqrt(want * (1 - want) / n) + 1e-4


@given(st.sampled_from([1, 2, 10, 100]), st.floats(0, 0.99), st.floats(0, 0.95), st.integers(0, 1000))
def test_quality_lies_on_its_grid_and_certainty_stays_certain(
    steps: int, dispersion: float, shared: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    expected = np.concatenate([np.zeros((20, 1)), np.ones((20, 1)), rng.random((20, 1))], axis=1)
    drawn = Noise(steps=steps, dispersion=dispersion, shared=shared).quality(expected, rng.standard_normal(20), rng)
    assert (drawn[:, 0] == 0).all() and (drawn[:, 1] == 1).all()
    np.testing.assert_allclose(drawn * steps, np.rint(drawn * steps), atol=1e-9)
    assert ((drawn >= 0) & (drawn <= 1)).all()


def test_tokens_have_the_mean_and_the_spread_that_are_asked_for() -> None:
    n, rng = 60_000, np.random.default_rng(2)
    drawn = Noise(log_sd=0.6, shared_length=0.4).tokens(np.full((n, 2), 400.0), rng.standard_normal(n), rng)
    assert drawn.mean() == pytest.approx(400, rel=0.01)
    assert np.log(drawn).std() == pytest.approx(0.6, abs=0.01)
    assert mean_correlation(np.log(drawn)) == pytest.approx(0.4, abs=0.02)
    np.testing.assert_array_equal(drawn, np.rint(drawn))
    assert Noise().tokens(np.full((50, 2), 0.01), rng.standard_normal(50), rng).min() == 1


@pytest.mark.parametrize(
    "noise", [Noise(1, 0.0, 0.6, 0.5, 0.2), Noise(10, 0.5, 0.3, 0.3, 0.6), Noise(100, 0.2, 0.5, 0.2, 0.0)]
)
def test_noise_is_measured_as_it_was_made(noise: Noise) -> None:
    rng = np.random.default_rng(3)
    n, arms = 4_000, 6
    expected, lengths = rng.uniform(0.1, 0.9, (n, arms)), rng.uniform(50, 500, (n, arms))
    quality = noise.quality(expected, rng.standard_normal(n), rng)
    tokens = noise.tokens(lengths, rng.standard_normal(n), rng)
    quality[rng.random((n, arms)) < 0.1] = np.nan
    found = Noise.measured(quality, tokens, expected, lengths)
    assert found.steps == noise.steps
    assert found.dispersion == pytest.approx(noise.dispersion, abs=0.03)
    assert found.shared == pytest.approx(noise.shared, abs=0.06)
    assert found.log_sd == pytest.approx(noise.log_sd, abs=0.02)
    assert found.shared_length == pytest.approx(noise.shared_length, abs=0.04)


def test_mean_correlation_is_numpy_s() -> None:
    x = np.random.default_rng(4).normal(size=(200, 4)) + np.random.default_rng(5).normal(size=(200, 1))
    assert mean_correlation(x) == pytest.approx(np.corrcoef(x.T)[np.triu_indices(4, 1)].mean())
    assert mean_correlation(x[:, :1]) == 0.0
    assert mean_correlation(np.full((5, 3), np.nan)) == 0.0


# -- embeddings and arms
# --------------------------------------------------------------------------------------------------


def test_new_points_are_mixtures_of_neighbours() -> None:
    rng = np.random.default_rng(6)
    base = rng.normal(size=(40, 5)).astype(np.float32)
    base *= 3 / np.linalg.norm(base, axis=1, keepdims=True)
    x, rows = among(base, 100, rng)
    np.testing.assert_array_equal(x[:40], base)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 3, rtol=1e-5)
    own = (x[40:] * base[rows[40:]]).sum(axis=1) / 9
    nearest = np.sort(base @ base.T / 9, axis=1)[:, -6]  # cosine to the fifth neighbour, itself not counted
    assert (own > nearest[rows[40:]]).all()
    assert (own < 1 - 1e-6).any()


def test_fewer_points_than_there_are_is_a_choice_without_doubles() -> None:
    base = np.arange(20, dtype=np.float32)[:, None]
    x, rows = among(base, 8, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 8
    np.testing.assert_array_equal(x, base[rows])


def test_remembered_points_are_familiar_and_of_norm_one(world: Any) -> None:
    in_distribution = InDistribution.fit(world.vectors, 0)
    x = remembered(in_distribution, 500, np.random.default_rng(0))
    assert in_distribution.knows(x).all()
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, rtol=1e-5)


@given(st.integers(1, 5), st.integers(0, 100))
def test_a_curve_between_its_arms_is_numpy_s_interpolation(arms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, quality = np.sort(rng.uniform(20, 2000, (3, arms)), axis=1), rng.random((3, arms))
    budgets = np.array([5.0, 30.0, 100.0, 700.0, np.inf])
    found, lengths = _along(quality, tokens, budgets)
    for i in range(3):
        np.testing.assert_allclose(lengths[i], np.minimum(budgets, tokens[i, -1]))
        inside = lengths[i] > tokens[i, 0] * (1 + 1e-9)
        np.testing.assert_allclose(
            found[i, inside], np.interp(np.log(lengths[i, inside]), np.log(tokens[i]), quality[i]), atol=1e-9
        )
        steep = quality[i, 0] * np.clip(
            (np.log(lengths[i, ~inside]) - np.log(3)) / (np.log(tokens[i, 0]) - np.log(3)), 0, 1
        )
        np.testing.assert_allclose(found[i, ~inside], steep, atol=1e-6)


def test_the_router_s_own_arms_keep_its_own_forecasts(router: r2.Router) -> None:
    found = simulate(router, 50, seed=1)
    forecast = router.predictor.predict(found.vectors)
    assert found.table.pool == router.pool
    np.testing.assert_allclose(found.quality, forecast.quality)
    np.testing.assert_allclose(found.tokens, np.maximum(forecast.tokens, 1), rtol=1e-6)


def test_more_models_and_budgets_than_the_router_has(router: r2.Router) -> None:
    table = simulate(router, 30, models=5, budgets=4).table
    assert len(table.arms) == 20
    assert [m.id for m in table.pool.models] == ["small", "large", "thinker", "small-copy1", "large-copy1"]
    assert [b.id for b in table.pool.models[0].budgets] == ["10", "200", "4000", "unlimited"]
    prices = [m.usd_per_million for m in table.pool.models]
    assert prices[3].input / prices[0].input == pytest.approx(prices[3].output / prices[0].output) != 1
    assert simulate(router, 30, models=2).table.pool.models == router.pool.models[:2]


def test_arms_without_a_forecast_are_left_out(world: Any) -> None:
    quality = world.table.quality.copy()
    quality[:, 0] = np.nan
    half = r2.Recipe(encoder="fake", learner=r2.Ridge(), folds=0).fit(
        replace(world.table, quality=quality), vectors=world.vectors
    )
    assert simulate(half, 20).table.arms == half.arms[1:]
    blind = LinearPredictor(
        *(getattr(half.predictor, k) for k in ("arms", "weight")), np.full(16, np.nan), *(np.zeros(8),) * 3
    )
    with pytest.raises(UsageError, match="no curves"):
        simulate(replace(half, predictor=blind), 20)


# -- the table
# ------------------------------------------------------------------------------------------------------------


def test_equal_arguments_give_equal_tables_and_other_seeds_others(router: r2.Router) -> None:
    one, same, other = (simulate(router, 40, seed=s) for s in (5, 5, 6))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one.table, name), getattr(same.table, name))
        assert (getattr(one.table, name) != getattr(other.table, name)).any()
    np.testing.assert_array_equal(one.vectors, same.vectors)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_simulated_table_says_so_wherever_it_goes(router: r2.Router, tmp_path: Path, suffix: str) -> None:
    table = simulate(router, 30).table
    assert table.simulated and "simulated" in table.notes[0] and "Simulated" in repr(table)
    assert (
        set(table.tasks) == {"simulated"}
        and table.query_ids[7] == "simulated-000007"
        and "simulated" in table.queries[7]
    )
    table.write(tmp_path / "t.parquet")
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        pl.read_parquet(tmp_path / "t.parquet").filter(pl.col("model") == "small").write_csv(path)
    again = r2.Table.read(path)
    assert again.simulations == table.simulations and again.notes == table.notes
    assert again.take([1, 2]).simulated and again.with_arms(again.arms[:2]).simulated
    fitted = r2.Recipe(folds=0).fit(table, vectors=simulate(router, 30).vectors)
    assert any("simulated" in note for note in fitted.facts.notes)
    fitted.save(tmp_path / "router")
    assert (
        "note: all rows are simulated, nothing may be claimed from them"
        in (tmp_path / "router" / "card.md").read_text()
    )


def test_real_rows_among_simulated_ones_are_counted(router: r2.Router, world: Any, tmp_path: Path) -> None:
    simulate(router, 10).table.write(tmp_path / "made.parquet")
    world.table.take(range(10)).write(tmp_path / "real.parquet")
    assert not r2.Table.read(tmp_path / "real.parquet").simulated
    both = r2.Table.read([tmp_path / "made.parquet", tmp_path / "real.parquet"])
    assert both.simulated and both.notes[0].startswith("80 of 160 rows are simulated")


def test_a_table_round_trip_keeps_cells_and_order(router: r2.Router, tmp_path: Path) -> None:
    table = simulate(router, 25, models=4, budgets=3).table
    table.write(tmp_path / "t.parquet")
    again = r2.Table.read(tmp_path / "t.parquet", table.pool)
    assert again.query_ids == table.query_ids
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(table, name))


def test_like_a_real_table(router: r2.Router, world: Any) -> None:
    found = simulate(router, 500, table=world.table, vectors=world.vectors)
    assert found.noise.steps == 1 and set(np.unique(found.table.quality)) == {0.0, 1.0}
    assert set(found.table.tasks) == {"task 0", "task 1"}
    np.testing.assert_array_equal(found.vectors[:240], world.vectors)
    assert np.median(found.table.input_tokens) == pytest.approx(np.median(world.table.input_tokens), rel=0.25)


def test_its_texts_mean_nothing_so_embeddings_are_wanted(router: r2.Router, fake_encoder: Any) -> None:
    found = simulate(router, 60)
    with pytest.raises(DataError, match=r"texts mean nothing.*--vectors"):
        r2.Recipe(encoder="fake", folds=0).fit(found.table)
    with pytest.raises(DataError, match="texts mean nothing"):
        r2.evaluate(router, found.table)
    with pytest.raises(DataError, match="one row for each of the 60 queries"):
        r2.evaluate(router, found.table, vectors=found.vectors[:50])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"queries": 0}, "queries is 0"),
        ({"queries": -4}, "queries is -4"),
        ({"models": 0}, "models is 0"),
        ({"budgets": 0}, "budgets is 0"),
        ({"budgets": 1000}, "budgets is 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"vectors": np.zeros((3, 5), np.float32)}, "shape \\(3, 5\\)"),
        ({"vectors": np.zeros((0, 8), np.float32)}, "shape \\(0, 8\\)"),
        ({"vectors": np.full((3, 8), np.nan, np.float32)}, "finite"),
    ],
)
def test_senseless_wishes_are_refused(router: r2.Router, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        simulate(router, **({"queries": 10} | wrong))


def test_tables_that_do_not_fit_are_refused(router: r2.Router, world: Any) -> None:
    other = replace(world.table, pool=r2.Pool(r2.Model(id=f"m{i}", budgets=(r2.Budget.of("1"),)) for i in range(8)))
    unscored = replace(world.table, quality=np.full_like(world.table.quality, np.nan))
    for table, says in (
        (other, "none of the router's arms"),
        (unscored, "no quality"),
        (world.table.take(range(5)), "240 embeddings for the 5"),
    ):
        with pytest.raises(DataError, match=says):
            simulate(router, 10, table=table, vectors=world.vectors)
    with pytest.raises(DataError, match="no queries"):
        simulate(router, 10, table=world.table.take([]))


def test_a_router_that_remembers_no_embeddings_needs_some(router: r2.Router, world: Any) -> None:
    forgetful = replace(router, in_distribution=None)
    with pytest.raises(UsageError, match=r"vectors=, --vectors FILE\.npy"):
        simulate(forgetful, 10)
    assert len(simulate(forgetful, 10, vectors=world.vectors).table) == 10


# -- known truth
# ----------------------------------------------------------------------------------------------------------


def test_outcomes_scatter_around_the_truth(router: r2.Router) -> None:
    found = simulate(router, 8_000, seed=7)
    error = (found.table.quality - found.quality).mean(axis=0)
    standard = np.sqrt((found.quality * (1 - found.quality)).mean(axis=0) * 0.6 / 8_000)
    assert (np.abs(error) < 4.5 * standard).all()
    np.testing.assert_allclose(found.table.output_tokens.mean(axis=0), found.tokens.mean(axis=0), rtol=0.03)


@pytest.mark.parametrize("learner", [r2.Ridge(alpha=1.0), r2.PrincipalRidge()])
def test_a_learner_comes_nearer_to_the_truth_with_more_queries(router: r2.Router, learner: Any) -> None:
    fresh = simulate(router, 1_000, seed=100)
    errors = []
    for n in (100, 1_000, 10_000):
        found = simulate(router, n, seed=n)
        fitted = r2.Recipe(learner=learner, folds=0).fit(found.table, vectors=found.vectors)
        forecast = fitted.predictor.predict(fresh.vectors)
        errors.append(float(np.sqrt(((forecast.quality - fresh.quality) ** 2).mean())))
    assert errors[0] > 1.7 * errors[1] > 1.7 * 1.7 * errors[2], errors
    assert errors[2] < 0.025, errors


def test_without_noise_a_router_of_the_truth_is_the_oracle(router: r2.Router) -> None:
    found = simulate(router, 300, seed=8)
    exact = found.exact
    assert exact.simulated and "no noise" in exact.notes[0]
    report = r2.evaluate(router, exact, vectors=found.vectors, resamples=5)
    figures = report.comparison.figures
    # the router's costs use its own estimate of input tokens for a text that means nothing: the same for all queries
    assert figures["router"]["peak"].value == pytest.approx(figures["oracle"]["peak"].value, abs=1e-9)
    outcomes = Outcomes.of(exact.arms, exact.quality, exact.cost())
    routed, oracle = (
        compare(methods(outcomes, exact.quality, exact.cost()), outcomes, 1, 0).figures[m] for m in ("router", "oracle")
    )
    for name in ("area", "audc", "peak", "qnc"):
        assert routed[name].value == pytest.approx(oracle[name].value, rel=0.05), "twelve settings instead of all"
    cost, quality = FixedArms(outcomes, np.arange(len(exact.arms))).points(np.ones(300))
    np.testing.assert_allclose(quality, found.quality.mean(axis=0))
    np.testing.assert_allclose(cost, exact.pool.cost(exact.input_tokens, found.tokens).mean(axis=0))


def test_a_curve_on_noisy_outcomes_is_the_true_curve_up_to_noise(router: r2.Router) -> None:
    """Decisions are made by the same wrong forecasts; only what is scored differs, so every point must agree."""
    found = simulate(router, 6_000, seed=9)
    wrong = np.clip(found.quality + np.random.default_rng(0).normal(0, 0.1, found.quality.shape), 0, 1)
    expected_cost = found.exact.cost()
    noisy, true = (Outcomes.of(t.arms, t.quality, t.cost()) for t in (found.table, found.exact))
    points = [Routed.of(wrong, expected_cost, outcomes).points(np.ones(6_000)) for outcomes in (noisy, true)]
    assert np.abs(points[0][1] - points[1][1]).max() < 0.02
    np.testing.assert_allclose(points[0][0], points[1][0], rtol=0.06)


# -- the command
# ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_other_commands_read(
    router: r2.Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    router.save("router")

    def run(*args: str) -> str:
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 0, result.output
        return result.output

    said = run(
        "simulate",
        "--out",
        "made.parquet",
        "--router",
        "router",
        "--queries",
        "200",
        "--models",
        "4",
        "--truth",
        "--seed",
        "3",
    )
    assert "simulated, 200 queries" in said
    found = simulate(router, 200, models=4, seed=3)
    np.testing.assert_array_equal(np.load("made.vectors.npy"), found.vectors)
    read = r2.Table.read("made.parquet", prices="made.prices.csv")
    assert [m.usd_per_million for m in read.pool.models] == [m.usd_per_million for m in found.table.pool.models]
    truth = r2.Table.read("made.truth.parquet", found.table.pool)
    np.testing.assert_allclose(truth.quality, found.quality)
    assert truth.simulated
    beside = ("made.parquet", "--prices", "made.prices.csv", "--vectors", "made.vectors.npy")
    run("train", *beside, "--out", "again", "--folds", "2")
    assert "simulated" in run("evaluate", "again", "--table", *beside, "--resamples", "5")
    assert "own policy" in run("calibrate", "again", "--table", *beside, "--quality", "0.5")
    assert len(run("route", "--router", "again", "--input", "made.vectors.npy").splitlines()) >= 200


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--out", "x.csv"], "not a format that is written here"),
        (["--out", "nowhere/x.parquet"], "does not exist"),
        (["--out", "x.parquet", "--queries", "0"], "queries is 0"),
        (["--out", "x.parquet", "--router", "nowhere"], "no such router"),
        (["--out", "x.parquet", "--like", "nowhere.parquet"], "no such file"),
        (["--out", "x.parquet", "--vectors", "nowhere.npy"], "no such file"),
        (["--out", "x.parquet", "--vectors", "text.npy"], "not a complete .npy file"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npy").write_text("no numbers")
    result = CliRunner().invoke(main, ["simulate", *args])
    assert result.exit_code == 2 and says in result.output
    assert not list(tmp_path.glob("*.parquet"))


def test_like_the_real_tables(shared: Path) -> None:
    """The noise of simulated outcomes is that of the real ones."""
    from r2router.starter import starter

    table = r2.Table.read(shared / "data" / "tts_knowledge.parquet").take(range(0, 1117, 4))
    router = starter()
    found = simulate(router, 3_000, table=table)
    again = Noise.measured(found.table.quality, found.table.output_tokens, found.quality, found.tokens)
    assert (again.steps, found.noise.steps) == (1, 1)
    assert again.shared == pytest.approx(found.noise.shared, abs=0.06)
    assert again.log_sd == pytest.approx(found.noise.log_sd, abs=0.02)


def test_the_paper_s_size_from_the_released_heads(shared: Path) -> None:
    from r2router.importers.ucf import import_release

    if not (shared / "reference" / "checkpoints").is_dir():
        pytest.skip("the paper's checkpoints are not at ../shared/reference")
    released = import_release(shared / "reference")
    rows = json.loads(gzip.decompress((shared / "reference" / "reference_decisions.json.gz").read_bytes()))["rows"]
    x = np.array([row["embedding"] for row in rows], dtype=np.float32)
    table = simulate(released, 300, vectors=x, models=15, budgets=16).table
    assert (len(table), len(table.arms), len(table.pool.models)) == (300, 240, 15)
    assert [b.id for b in table.pool.models[14].budgets] == [b.id for b in released.pool.models[3].budgets]
    assert np.isfinite(table.quality).all() and (table.output_tokens >= 1).all()
