"""LLMs that arrive later: the heads against a refit by hand, what may and must change in a router, and what is
refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from r2router import (
    GBDT,
    KNN,
    MLP,
    Blend,
    Pool,
    PrincipalRidge,
    Recipe,
    Ridge,
    Router,
    Table,
    Tradeoff,
    Value,
    evaluate,
)
from r2router.cli import main
from r2router.errors import ArtifactError, ConfigError, DataError, EncoderError, MissingPrice, UsageError
from r2router.predict import Learner
from r2router.predict.curve_features import KnownArms, _ridge, learn_heads
from r2router.predict.linear import LinearPredictor
from r2router.predict.principal import Basis
from r2router.router.add_model import MIN_QUERIES
from r2router.router.extended import ExtendedPredictor, extend, known_quality
from r2router.table.table import ARRAYS
from r2router.types import Budget, FloatArray, Model, Prices

NEW = "thinker"
LEARNERS = [
    Blend(),
    PrincipalRidge(),
    Ridge(),
    KNN(k=16),
    pytest.param(GBDT(rounds=5), marks=pytest.mark.slow),
    pytest.param(MLP(epochs=3), marks=pytest.mark.slow),
]


def without(table: Table, model: str = NEW) -> Table:
    return table.with_arms([a for a in table.arms if a.model != model])


def only(table: Table, model: str = NEW) -> Table:
    return table.with_arms([a for a in table.arms if a.model == model])


TRAINED = range(120)


def trained(world: Any, learner: Learner | None = None, encoder: str = "fake") -> Router:
    """A router that does not know one of the world's models, and only half of its queries."""
    pytest.importorskip("torch" if isinstance(learner, MLP) else "lightgbm" if isinstance(learner, GBDT) else "numpy")
    recipe = Recipe(encoder=encoder, folds=0) if learner is None else Recipe(encoder=encoder, folds=0, learner=learner)
    return recipe.fit(without(world.table).take(TRAINED), vectors=world.vectors[TRAINED])


Graded = tuple[Table, FloatArray]


@pytest.fixture
def graded(world: Any) -> Graded:
    """The other half, with the outcomes of all models."""
    return world.table.take(range(120, 240)), world.vectors[120:240]


@pytest.fixture
def base(world: Any, fake_encoder: Any) -> Router:
    return trained(world)


# -- the heads --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(12, 25), st.integers(1, 4))
def test_left_out_forecasts_are_those_of_a_refit(seed: int, n: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 5)), rng.normal(size=(n, k))
    y += x[:, :1] * 2.0
    basis = Basis.of(x, 1.0)
    fit = _ridge(basis, y, 1.0)
    gain = np.divide(fit.weight, basis.u.T @ (y - y.mean(axis=0)))[:, 0]
    if not gain.any():
        expected = np.array([np.delete(y, i, axis=0).mean(axis=0) for i in range(n)])
    else:  # the ridge that has this gain on its coordinates, with the mean as one more coordinate that is not held back
        penalty = np.diag([0.0, *(1.0 / gain - 1.0)])
        design = np.c_[np.full(n, n**-0.5), basis.u]
        rows = [np.delete(np.arange(n), i) for i in range(n)]
        expected = np.array(
            [
                design[i] @ np.linalg.solve(design[r].T @ design[r] + penalty, design[r].T @ y[r])
                for i, r in enumerate(rows)
            ]
        )
    np.testing.assert_allclose(fit.left_out, expected, atol=1e-8)
    assert ((y - fit.left_out) ** 2).mean() <= ((y - y.mean(axis=0)) ** 2).mean() * (n / (n - 1)) ** 2 + 1e-12


def made_up(n: int, rng: np.random.Generator, slope: float) -> tuple[FloatArray, Table, KnownArms, FloatArray]:
    """Queries of random difficulty that two known arms and, times a slope, a new one share; the new arm's true
    quality.
    """
    x = rng.normal(size=(n, 6))
    hard = np.clip(0.15 * rng.normal(size=n), -0.3, 0.3)
    quality = np.c_[0.5 + hard, 0.6 + 0.5 * hard]
    truth = 0.5 + slope * hard
    observed = (rng.random((n, 2)) < quality).astype(float)
    pool = Pool([Model(id="new", budgets=(Budget.of(50),), usd_per_million=Prices(1, 1))])
    nothing, ids = np.full((n, 1), np.nan), tuple(f"q{i}" for i in range(n))
    outcome = (rng.random(n) < truth).astype(float)[:, None]
    tokens = np.full((n, 1), 50.0)
    table = Table(pool, ids, ids, ("",) * n, outcome, nothing, nothing, tokens, nothing, nothing)
    return x, table, KnownArms(quality, observed, np.array([0.5, 0.6]), np.array([0.5]), 0.05), truth


def forecasts(x: FloatArray, heads: Any, quality: FloatArray) -> FloatArray:
    return np.asarray((quality @ heads.on_quality + x @ heads.on_vector + heads.bias)[:, 0])


def test_a_new_arm_is_learned_from_what_the_known_find_hard() -> None:
    rng = np.random.default_rng(0)
    x, table, known, _ = made_up(200, rng, slope=1.5)
    heads = learn_heads(x, table, known)
    more, _, other, truth = made_up(2_000, rng, slope=1.5)
    error = forecasts(more, heads, other.quality) - truth
    assert (error**2).mean() < 0.3 * truth.var()
    assert heads.mean[0] == pytest.approx(0.5, abs=0.1)
    assert heads.tokens[0] == pytest.approx(50.0)


def test_where_nothing_can_be_known_little_more_than_the_mean_is_used() -> None:
    rng = np.random.default_rng(1)
    swing = []
    for _ in range(20):
        x, table, known, _ = made_up(40, rng, slope=0.0)
        swing.append(forecasts(x, learn_heads(x, table, known), known.quality).std())
    assert np.median(swing) < 0.05  # of a quality that scatters by 0.5


def test_the_mean_of_few_outcomes_moves_to_what_is_expected() -> None:
    rng = np.random.default_rng(2)
    x, table, known, _ = made_up(12, rng, slope=0.0)
    lucky = replace(table, quality=np.ones((12, 1)))
    few = learn_heads(x, lucky, known).mean[0]
    x, table, known, _ = made_up(400, rng, slope=0.0)
    many = learn_heads(x, replace(table, quality=np.ones((400, 1))), known).mean[0]
    assert 0.5 < few < many <= 1.0
    assert many > 0.99


def test_outcomes_of_known_arms_take_luck_off_the_mean() -> None:
    """All arms succeed or fail together; which queries were drawn then says how far off the new arm's mean is."""
    blind, seeing = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        x, table, known, _ = made_up(50, rng, slope=0.0)
        together = (rng.random((50, 1)) < 0.5).astype(float)
        table, known = replace(table, quality=together), replace(known, quality=np.full((50, 2), 0.5), variance=1e6)
        blind.append(learn_heads(x, table, replace(known, observed=np.full((50, 2), np.nan))).mean[0] - 0.5)
        seeing.append(learn_heads(x, table, replace(known, observed=np.repeat(together, 2, axis=1))).mean[0] - 0.5)
    assert np.square(seeing).mean() < 0.2 * np.square(blind).mean()


# -- predictors -------------------------------------------------------------------------------------------------------


def test_over_linear_heads_the_new_ones_are_columns(world: Any, fake_encoder: Any, graded: Graded) -> None:
    (table, x), base = graded, trained(world, PrincipalRidge())
    added = base.add_model(NEW, only(table), x)
    assert isinstance(base.predictor, LinearPredictor)
    assert isinstance(added.predictor, LinearPredictor)
    known = known_quality(base.predictor, x)
    heads = learn_heads(
        x, only(table), KnownArms(known, np.full(known.shape, np.nan), base.prior_quality, np.full(2, 0.5), 0.1)
    )
    arms = only(table).arms
    folded = extend(base.predictor, arms, heads).predict(x)
    beside = known @ heads.on_quality + x @ heads.on_vector + heads.bias
    np.testing.assert_allclose(folded.quality[:, -2:], np.clip(beside[:, :2], 0, 1), atol=1e-5)
    np.testing.assert_allclose(folded.tokens[:, -2:], np.exp(np.clip(beside[:, 2:], heads.low, heads.high)), rtol=1e-4)
    np.testing.assert_array_equal(folded.spread[0, -2:], heads.spread)


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda one: type(one).__name__)
def test_whatever_learned_the_router(
    learner: Learner, world: Any, fake_encoder: Any, tmp_path: Path, graded: Graded
) -> None:
    before = trained(world, learner)
    table, x = graded
    old = before.forecast_vectors(x, 10.0)
    added = before.add_model(NEW, only(table), x)
    assert before.arms == without(world.table).arms, "the old router has changed"
    assert added.arms == (*before.arms, *only(table).arms)
    got = added.forecast_vectors(x, 10.0)
    n = len(before.arms)
    np.testing.assert_allclose(got.quality[:, :n], old.quality, atol=1e-6)
    np.testing.assert_allclose(got.cost[:, :n], old.cost, rtol=1e-5)
    assert np.isfinite(got.quality).all() and np.isfinite(got.cost).all() and np.isfinite(got.spread).all()
    outcome = only(table).quality
    assert ((got.quality[:, n:] - outcome) ** 2).mean() < 1.02 * ((outcome.mean(axis=0) - outcome) ** 2).mean()
    added.save(tmp_path / "router")
    loaded = Router.load(tmp_path / "router")
    again = loaded.forecast_vectors(x, 10.0)
    for name in ("quality", "tokens", "cost", "spread"):
        np.testing.assert_array_equal(getattr(again, name), getattr(got, name))
    assert (loaded.facts, loaded.pool, loaded.policy, loaded.scale) == (
        added.facts,
        added.pool,
        added.policy,
        added.scale,
    )
    np.testing.assert_array_equal(loaded.decide(x, Value(0.01)).arm, added.decide(x, Value(0.01)).arm)
    assert loaded.route(table.queries[0]).arm in added.arms
    assert [c.model for c in loaded.curves(table.queries[0])] == ["small", "large", NEW]


@pytest.mark.parametrize("learner", [Ridge(), KNN(k=16)], ids=lambda one: type(one).__name__)
def test_one_after_the_other(learner: Learner, world: Any, fake_encoder: Any, tmp_path: Path, graded: Graded) -> None:
    small = Recipe(encoder="fake", folds=0, learner=learner).fit(only(world.table, "small"), vectors=world.vectors)
    table, x = graded
    first = small.add_model("large", only(table, "large"), x)
    both = first.add_model(NEW, only(table), x)
    assert both.arms == table.arms
    one, two = first.forecast_vectors(x, 1.0), both.forecast_vectors(x, 1.0)
    np.testing.assert_allclose(two.quality[:, : len(first.arms)], one.quality, atol=1e-6)
    if isinstance(both.predictor, ExtendedPredictor):
        assert not isinstance(both.predictor.base, ExtendedPredictor)
    both.save(tmp_path / "router")
    np.testing.assert_array_equal(Router.load(tmp_path / "router").forecast_vectors(x, 1.0).quality, two.quality)
    assert [a.model for a in both.facts.added] == ["large", NEW]


def test_damaged_arrays_are_refused(world: Any, fake_encoder: Any, graded: Graded) -> None:
    table, x = graded
    added = trained(world, KNN(k=16)).add_model(NEW, only(table), x)
    arrays = added.predictor.arrays()
    assert ExtendedPredictor.from_arrays(added.arms, arrays).arms == added.arms
    own = np.frombuffer(b"extended", dtype=np.uint8)
    unheard = np.frombuffer(b"os.system", dtype=np.uint8)
    for change in (
        {"kind": own},
        {"kind": unheard},
        {"spread": arrays["spread"][:1]},
        {"on_vector": np.zeros((8, 3))},
        {"on_quality": np.zeros((1, 4))},
        {"more": np.zeros(1)},
    ):
        with pytest.raises(ArtifactError):
            ExtendedPredictor.from_arrays(added.arms, arrays | change)
    for name in arrays:
        with pytest.raises(ArtifactError):
            ExtendedPredictor.from_arrays(added.arms, {k: v for k, v in arrays.items() if k != name})


# -- the router -------------------------------------------------------------------------------------------------------


def test_a_saved_router_needs_no_training_data(base: Router, tmp_path: Path, graded: Graded) -> None:
    base.save(tmp_path / "router")
    table, x = graded
    loaded = Router.load(tmp_path / "router").add_model(NEW, only(table))
    given_vectors = base.add_model(NEW, only(table), x)
    np.testing.assert_allclose(
        loaded.forecast_vectors(x, 1.0).quality, given_vectors.forecast_vectors(x, 1.0).quality, atol=1e-6
    )


def test_what_stays_and_what_comes(base: Router, graded: Graded) -> None:
    table, x = graded
    added = base.add_model(NEW, only(table), x)
    n = len(base.arms)
    assert (added.policy, added.scale, added.in_distribution, added.dim) == (
        base.policy,
        base.scale,
        base.in_distribution,
        base.dim,
    )
    np.testing.assert_array_equal(added.prior_quality[:n], base.prior_quality)
    np.testing.assert_allclose(added.prior_quality[n:], only(table).quality.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(added.prior_tokens[n:], only(table).output_tokens.mean(axis=0), rtol=1e-6)
    strange = -np.eye(8, dtype=np.float32)[:1]
    unfamiliar = added.forecast_vectors(strange, 10.0)
    assert not unfamiliar.familiar.any()
    np.testing.assert_array_equal(unfamiliar.quality[0], added.prior_quality)
    assert added.input_tokens.typical == base.input_tokens.typical
    estimate = added.input_tokens.estimate(np.array([20.0]))[0]  # every model of this world counts alike
    np.testing.assert_allclose(estimate[n:], estimate[0], rtol=0.1)


def test_input_tokens_that_were_not_recorded_are_those_of_the_known(base: Router, graded: Graded) -> None:
    table, x = graded
    silent = replace(only(table), input_tokens=np.full((len(table), 2), np.nan))
    got = base.add_model(NEW, silent, x).input_tokens.estimate(np.array([20.0]))[0]
    np.testing.assert_allclose(got[-2:], got[:-2].mean(), rtol=1e-6)


def test_known_outcomes_may_be_there_too(base: Router, graded: Graded) -> None:
    table, x = graded[0].take(range(60)), graded[1][:60]
    quality = table.quality.copy()
    # so that they tell something: by itself every arm of this world has luck of its own
    quality[:, -2:] = quality[:, :2]
    table = replace(table, quality=quality)
    alone, beside = base.add_model(NEW, only(table), x), base.add_model(NEW, table, x)
    assert alone.arms == beside.arms
    assert not beside.facts.added[0].notes
    assert not np.array_equal(alone.prior_quality[-2:], beside.prior_quality[-2:])


def test_missing_cells(base: Router, graded: Graded) -> None:
    table, x = graded
    own = only(table)
    quality = own.quality.copy()
    quality[np.random.default_rng(0).random(quality.shape) < 0.4] = np.nan
    holes = replace(own, quality=quality, output_tokens=np.where(np.isnan(quality), np.nan, own.output_tokens))
    added = base.add_model(NEW, holes, x)
    forecast = added.forecast_vectors(x, 1.0)
    assert np.isfinite(forecast.quality).all()
    np.testing.assert_allclose(forecast.quality[:, -2:].mean(axis=0), own.quality.mean(axis=0), atol=0.12)
    assert added.facts.added[0].queries == int(np.isfinite(quality).any(axis=1).sum())


def test_an_arm_without_outcomes_is_never_chosen(base: Router, graded: Graded) -> None:
    table, x = graded
    spec = table.pool[NEW]
    spec = msgspec.structs.replace(spec, budgets=(*spec.budgets, Budget.of("max")))
    added = base.add_model(spec, only(table), x)
    assert np.isnan(added.forecast_vectors(x, 1.0).quality[:, -1]).all()
    assert "'thinker@max'" in added.facts.added[0].notes[0]
    assert "thinker@max" not in {added.arms[i] for i in added.decide(x, Value(1e6)).arm}


def test_notes_say_what_is_doubtful(base: Router, graded: Graded) -> None:
    table = graded[0].take(range(30))
    stranger = Model(id="stranger", budgets=(Budget.of(50),), usd_per_million=Prices(1, 1))
    wide = replace(
        table,
        pool=Pool((*table.pool.models, stranger)),
        **{k: np.c_[getattr(table, k), np.full(len(table), np.nan)] for k in ARRAYS},
    )
    x = np.repeat(-np.eye(8, dtype=np.float32)[:1], 30, axis=0)
    notes = " ".join(base.add_model(NEW, wide, x).facts.added[0].notes)
    assert "30 graded queries are few" in notes
    assert "100% of the graded queries are unlike" in notes
    assert "'stranger@50'" in notes


def test_the_card_tells_when_and_on_what(base: Router, tmp_path: Path, graded: Graded) -> None:
    table, x = graded
    base.add_model(NEW, only(table), x).save(tmp_path / "router")
    card = (tmp_path / "router" / "card.md").read_text(encoding="utf-8")
    assert "## Added later" in card
    assert "from 120 graded queries (`task 0`: 60, `task 1`: 60)" in card
    mean = only(table).quality[:, 0].mean()
    assert f"mean quality as graded: thinker@low | {mean:.4g}" in card
    assert "left-out forecasts explain" in card


def test_the_explained_share_is_the_refits(base: Router, graded: Graded) -> None:
    table, x = graded
    figures = base.add_model(NEW, only(table), x).facts.added[0].figures
    share = figures[-1]
    assert -0.2 < share.low < share.value < share.high < 1
    assert share.value > 0.02, "topics differ in skill, and the forecasts know the topic"
    for arm, figure in zip(only(table).arms, figures[:-1], strict=True):
        assert arm in figure.name
        assert figure.low < figure.value < figure.high
        assert figure.n == len(table)


@pytest.mark.slow
def test_adding_is_worth_it_on_real_data(shared: Path) -> None:
    table = Table.read(shared / "data" / "jhu_concise_cot.parquet", prices=shared / "data" / "prices.csv")
    train, test = table.take(np.random.default_rng(0).permutation(len(table))[:300]).split(0.3, seed=0)
    router = Recipe(folds=0).fit(without(train, "gpt-4"))
    added = router.add_model("gpt-4", only(train.take(range(100)), "gpt-4"))
    before, after = (
        evaluate(one, test, resamples=1).comparison.figures["router"]["peak"].value for one in (router, added)
    )
    assert after > before + 0.05  # of at most twelve settings each, so that neither peak is picked from hundreds
    assert added.route("What is two and two?", Tradeoff(0.5)).arm in added.arms


# -- what is refused --------------------------------------------------------------------------------------------------


def test_bad_words_are_refused(base: Router, graded: Graded) -> None:
    table, x = graded
    own = only(table)
    with pytest.raises(ConfigError, match="already in the router"):
        base.add_model("small", table, x)
    with pytest.raises(DataError, match=r"no row of model 'thinkre' \(did you mean 'thinker'\?\)"):
        base.add_model("thinkre", own, x)
    with pytest.raises(DataError, match="none of the budgets to add"):
        base.add_model(msgspec.structs.replace(table.pool[NEW], budgets=(Budget.of("tiny"),)), own, x)
    with pytest.raises(MissingPrice, match="thinker"):
        base.add_model(msgspec.structs.replace(table.pool[NEW], usd_per_million=None), own, x)
    with pytest.raises(DataError, match=f"graded on 9 queries, at least {MIN_QUERIES}"):
        base.add_model(NEW, own.take(range(9)), x[:9])
    with pytest.raises(DataError, match="graded on 1 queries"):
        base.add_model(NEW, replace(own, queries=("the same",) * len(own)), x)
    with pytest.raises(DataError, match="cannot be priced"):
        base.add_model(NEW, replace(own, output_tokens=np.full(own.quality.shape, np.nan)), x)
    with pytest.raises(DataError, match=r"expected finite values of shape \(120, 8\)"):
        base.add_model(NEW, own, x[:50])
    with pytest.raises(DataError, match="blank"):
        base.add_model(NEW, replace(own, queries=(" ", *own.queries[1:])), x)


def test_vectors_from_elsewhere_must_be_given(world: Any, fake_encoder: Any, graded: Graded) -> None:
    router = Recipe(encoder="given:elsewhere", folds=0).fit(without(world.table), vectors=world.vectors)
    table, x = graded
    assert len(router.add_model(NEW, only(table), x).arms) == len(table.arms)
    with pytest.raises((UsageError, EncoderError), match="elsewhere"):
        router.add_model(NEW, only(table))


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def room(tmp_path: Path, base: Router, monkeypatch: pytest.MonkeyPatch, graded: Graded) -> Path:
    base.save(tmp_path / "router")
    graded[0].write(tmp_path / "both.parquet")
    only(graded[0]).write(tmp_path / "new.parquet")
    (tmp_path / "prices.csv").write_text(
        "model,input_usd_per_million,output_usd_per_million\nthinker,1,4\n", encoding="utf-8"
    )
    (tmp_path / "pool.toml").write_text(
        '[[model]]\nid = "other"\nbudgets = [50]\nusd_per_million = {input=1, output=1}\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(args))
    return result.exit_code, result.output


def test_the_command_adds_what_is_new(room: Path, base: Router, fake_encoder: Any) -> None:
    code, said = run("add", "router", "--table", "both.parquet", "--prices", "prices.csv", "--out", "more")
    assert code == 0, said
    assert "thinker, from 120 graded queries" in said
    assert "more: 3 models, 8 arms" in said
    assert len(Router.load("more").arms) == len(base.arms) + 2
    assert len(Router.load("router").arms) == len(base.arms)
    table = Table.read("both.parquet")
    expected = base.add_model(msgspec.structs.replace(table.pool[NEW], usd_per_million=Prices(1, 4)), table)
    x = fake_encoder.encode(table.queries)
    np.testing.assert_array_equal(Router.load("more").forecast_vectors(x).quality, expected.forecast_vectors(x).quality)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "give --prices"),
        (("--prices", "prices.csv", "--model", "thinkr"), "no outcomes of 'thinkr' (did you mean 'thinker'?)"),
        (("--pool", "pool.toml"), "pool.toml does not list 'thinker'"),
        (("--prices", "prices.csv", "--model", "small"), "holds no outcomes of 'small'"),
    ],
)
def test_the_command_refuses(room: Path, args: tuple[str, ...], says: str) -> None:
    code, said = run("add", "router", "--table", "new.parquet", *args)
    assert code == 2
    assert says in " ".join(said.split())


def test_the_command_saves_in_place_once(room: Path) -> None:
    assert run("add", "router", "--table", "new.parquet", "--prices", "prices.csv")[0] == 0
    code, said = run("add", "router", "--table", "new.parquet", "--prices", "prices.csv")
    assert code == 2
    assert "already has all models of the table" in said
