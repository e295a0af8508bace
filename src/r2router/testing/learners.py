"""One suite for every learner, ours and those from outside: `check_learner(learner)` raises AssertionError for a broken
promise.

The promises are those of `r2router.predict.Learner` and `Predictor`. Every table is small; a learner is fitted about 16
times.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from r2router.errors import ArtifactError
from r2router.pool.pool import Pool
from r2router.predict import Learner, Predictor
from r2router.router.learners import predictor_class
from r2router.table.table import Table
from r2router.types import Arm, Budget, FloatArray, Forecast, Model, Prices

TOLERANCE = 1e-3  # of quality, and of tokens as a share: what another order of rows or arms may change
DIM = 8
ALL = ("quality", "log tokens")


def check_learner(learner: Learner, learns: Collection[str] = ALL) -> None:
    """Run every check with warnings as errors; `AssertionError` says what does not hold.

    learns: what it forecasts from the query; a baseline may be blind to a part by its definition, and all other
    promises hold for it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for check in (
            check_spec,
            check_seeded,
            check_order_of_rows,
            check_order_of_arms,
            check_saved,
            check_missing_tokens,
            check_few_queries,
            check_constant_outcomes,
        ):
            check(learner)
        check_missing_cells(learner, learns)
        check_learns(learner, learns)


def made_up(n: int = 240, seed: int = 0, noise: float = 0.15) -> tuple[FloatArray, Table]:
    """Embeddings (n, 8) of norm 1 and outcomes of 5 arms: quality and log tokens are linear in the embedding, plus
    noise.
    """
    truth, rng = np.random.default_rng(99), np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    budgets = (Budget.of(50), Budget.of("unlimited"))
    prices = Prices(input=1.0, output=2.0)
    pool = Pool([Model(id=name, budgets=budgets[: 1 + (name != "c")], usd_per_million=prices) for name in "abc"])
    shape = (n, len(pool))
    quality = np.clip(0.5 + x @ truth.normal(0, 0.5, (DIM, shape[1])) + rng.normal(0, noise, shape), 0, 1)
    tokens = np.round(np.exp(5 + x @ truth.normal(0, 0.8, (DIM, shape[1])) + rng.normal(0, 0.3, shape))) + 1
    nothing = np.full(shape, np.nan)
    ids = tuple(f"q{i:04d}" for i in rng.permutation(n))
    return x, Table(pool, ids, ids, ("",) * n, quality, np.full(shape, 20.0), nothing, tokens, nothing, nothing)


def check_spec(learner: Learner) -> None:
    """A spec is frozen, can be compared and survives JSON."""
    text = msgspec.json.encode(learner)
    assert msgspec.json.decode(text, type=type(learner)) == learner, "a spec that was written and read is not the same"
    assert hash(learner) == hash(msgspec.json.decode(text, type=type(learner))), "equal specs have different hashes"
    assert isinstance(learner, Learner)


def check_seeded(learner: Learner) -> None:
    """The same data give the same forecasts, and neither they nor the embeddings are changed by it."""
    x, table = made_up()
    kept = x.copy(), table.quality.copy(), table.output_tokens.copy()
    state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    first, second = learner.fit(x, table).predict(x), learner.fit(x, table).predict(x)
    for name in ("quality", "tokens", "spread"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), (
            f"two fits on the same data differ in {name}"
        )
    for before, now in zip(kept, (x, table.quality, table.output_tokens), strict=True):
        assert np.array_equal(before, now), "fit or predict changed what it was given"
    now = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
    assert np.array_equal(state, now), "fit drew from numpy's global generator"
    _bounds(first, table)


def check_order_of_rows(learner: Learner) -> None:
    """The order of the training queries does not matter."""
    (x, table), (new, _) = made_up(), made_up(20, seed=1)
    order = np.random.default_rng(5).permutation(len(x))
    _same(
        learner.fit(x, table).predict(new),
        learner.fit(x[order], table.take(order)).predict(new),
        "another order of the rows",
    )


def check_order_of_arms(learner: Learner) -> None:
    """The order of the arms does not matter, beyond the order of the answer."""
    (x, table), (new, _) = made_up(), made_up(20, seed=1)
    models = [msgspec.structs.replace(m, budgets=m.budgets[::-1]) for m in reversed(table.pool.models)]
    names = ("quality", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
    back = replace(table, pool=Pool(models), **{name: getattr(table, name)[:, ::-1] for name in names}, responses=None)
    assert back.arms == table.arms[::-1]
    turned = learner.fit(x, back).predict(new)
    assert turned.arms == back.arms
    turned = Forecast.of(table.arms, turned.quality[:, ::-1], turned.tokens[:, ::-1], turned.spread[:, ::-1])
    _same(learner.fit(x, table).predict(new), turned, "another order of the arms")


def check_saved(learner: Learner) -> None:
    """A predictor is its named arrays; damaged ones are refused."""
    x, table = made_up()
    fitted = learner.fit(x, table)
    assert isinstance(fitted, Predictor) and fitted.arms == table.arms
    kind: Any = predictor_class(fitted.kind)
    saved = {name: np.array(value, copy=True, order="C") for name, value in fitted.arrays().items()}
    for name, value in saved.items():
        assert value.dtype.kind in "fiub", f"array {name!r} is of type {value.dtype}: only numbers can be saved"
        value.setflags(write=False)
    again = kind.from_arrays(table.arms, saved)
    for name in ("quality", "tokens", "spread"):
        assert np.array_equal(getattr(fitted.predict(x), name), getattr(again.predict(x), name)), (
            f"saved and loaded, {name} differs"
        )
    one, none = again.predict(x[:1]), again.predict(x[:0])
    assert one.quality.shape == (1, len(table.arms)) and none.quality.shape == none.spread.shape == (0, len(table.arms))
    _same(one, _rows(again.predict(x), 1), "a query alone and among others", 1e-5)
    name = max(saved, key=lambda key: saved[key].size)
    for damaged in (
        {k: v for k, v in saved.items() if k != name},
        {**saved, "more": saved[name]},
        {**saved, name: saved[name].ravel()},
    ):
        _refused(kind, table.arms, damaged)
    _refused(kind, table.arms[1:], saved)


def _refused(kind: Any, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
    try:
        kind.from_arrays(arms, arrays)
    except ArtifactError:
        return
    raise AssertionError("arrays of other names or shapes were taken: from_arrays must raise ArtifactError")


def check_missing_cells(learner: Learner, learns: Collection[str] = ALL) -> None:
    """Cells may be missing: an arm that was never observed is NaN, all others are known, however little was seen of
    them.
    """
    (x, table), (new, other) = made_up(), made_up(20, seed=1)
    rng = np.random.default_rng(3)
    gone = rng.random(table.quality.shape) < 0.5
    gone[:, 1] = True  # never observed
    gone[:, 2] = np.arange(len(x)) != 17  # once
    sparse = replace(
        table, quality=np.where(gone, np.nan, table.quality), output_tokens=np.where(gone, np.nan, table.output_tokens)
    )
    forecast = learner.fit(x, sparse).predict(new)
    _bounds(forecast, sparse)
    assert np.isnan(forecast.quality[:, 1]).all() and np.isnan(forecast.tokens[:, 1]).all(), (
        "an arm never observed must be NaN"
    )
    assert not (forecast.spread[:, 2] == 0).any() or len(set(forecast.quality[:, 2])) == 1, "one answer is no certainty"
    known = [0, 3, 4]
    error, mean = (
        np.square(f - other.quality[:, known]).mean()
        for f in (forecast.quality[:, known], np.nanmean(sparse.quality[:, known], axis=0))
    )
    assert "quality" not in learns or error < 1.1 * mean, (
        f"on a sparse table the error is {error:.4f}, the arms' means have {mean:.4f}"
    )
    empty = replace(
        table, quality=np.full_like(table.quality, np.nan), output_tokens=np.full_like(table.quality, np.nan)
    )
    assert np.isnan(learner.fit(x, empty).predict(new).quality).all(), "nothing was observed, yet a quality is forecast"


def check_missing_tokens(learner: Learner) -> None:
    """Tokens may be missing altogether, or be known where quality is not."""
    (x, table), (new, _) = made_up(), made_up(20, seed=1)
    nothing = np.full_like(table.quality, np.nan)
    forecast = learner.fit(x, replace(table, output_tokens=nothing)).predict(new)
    assert np.isnan(forecast.tokens).all() and np.isfinite(forecast.quality).all(), (
        "without tokens only tokens are unknown"
    )
    quality = table.quality.copy()
    quality[:, 0] = np.nan
    forecast = learner.fit(x, replace(table, quality=quality)).predict(new)
    assert np.isnan(forecast.quality[:, 0]).all() and np.isfinite(forecast.tokens).all(), (
        "without quality only quality is unknown"
    )


def check_few_queries(learner: Learner) -> None:
    """Tables of one to three queries, fewer than dimensions, are learned from without a failure."""
    for n in (1, 2, 3):
        x, table = made_up(n)
        _bounds(learner.fit(x, table).predict(made_up(4, seed=1)[0]), table)


def check_constant_outcomes(learner: Learner) -> None:
    """Where all answers are equal, the forecasts must be equal, too; also where all are right or all are wrong."""
    x, table = made_up(120)
    for score in (0.7, 1.0, 0.0):
        constant = replace(
            table, quality=np.full_like(table.quality, score), output_tokens=np.full_like(table.quality, 120.0)
        )
        forecast = learner.fit(x, constant).predict(x)
        _bounds(forecast, constant)
        assert np.abs(forecast.quality - score).max() < 0.02, f"all scores are {score}, forecasts are not"
        assert np.abs(forecast.tokens / 120 - 1).max() < 0.02, "all answers have 120 tokens, forecasts do not"
        assert forecast.spread.max() < 0.1, "all scores are equal, and the forecast is unsure"


def check_learns(learner: Learner, learns: Collection[str] = ALL) -> None:
    """On outcomes that are linear in the embedding it beats the arms' means, and the mean of tokens is right."""
    (x, table), (new, other) = made_up(400), made_up(200, seed=1)
    predictor = learner.fit(x, table)
    forecast = predictor.predict(new)
    logs = np.log(table.output_tokens)
    for name, error, mean in (
        ("quality", forecast.quality - other.quality, table.quality.mean(axis=0) - other.quality),
        (
            "log tokens",
            np.log(forecast.tokens) - np.log(other.output_tokens),
            logs.mean(axis=0) - np.log(other.output_tokens),
        ),
    ):
        ratio = np.square(error).mean() / np.square(mean).mean()
        assert (ratio < 0.8) == (name in learns), f"{name}: squared error is {ratio:.2f} of the arms' means"
    ratio = predictor.predict(x).tokens.mean(axis=0) / table.output_tokens.mean(axis=0)
    assert np.abs(ratio - 1).max() < 0.1, f"forecast tokens are {ratio} of the used ones on average"


def _bounds(forecast: Forecast, table: Table) -> None:
    """Right shapes; quality in [0, 1], tokens above 0, spread at least 0, all finite where the arm was observed."""
    assert forecast.arms == table.arms
    shape = (len(forecast), len(table.arms))
    assert forecast.quality.shape == forecast.tokens.shape == forecast.spread.shape == shape
    seen = ~np.isnan(table.quality).all(axis=0)
    quality, spread = forecast.quality[:, seen], forecast.spread[:, seen]
    tokens = forecast.tokens[:, ~np.isnan(table.output_tokens).all(axis=0)]
    assert ((quality >= 0) & (quality <= 1)).all(), "quality must lie in [0, 1] for an observed arm"
    assert (np.isfinite(tokens) & (tokens > 0)).all(), "tokens must be above 0 for an observed arm"
    assert (np.isfinite(spread) & (spread >= 0)).all(), "spread must be finite for an observed arm"


def _rows(forecast: Forecast, n: int) -> Forecast:
    return Forecast.of(forecast.arms, forecast.quality[:n], forecast.tokens[:n], forecast.spread[:n])


def _same(one: Forecast, two: Forecast, what: str, tolerance: float = TOLERANCE) -> None:
    assert np.allclose(one.quality, two.quality, rtol=0, atol=tolerance), (
        f"{what}: quality {np.abs(one.quality - two.quality).max():.1e}"
    )
    assert np.allclose(one.tokens, two.tokens, rtol=tolerance, atol=0), (
        f"{what}: tokens {np.abs(one.tokens / two.tokens - 1).max():.1e}"
    )
    assert np.allclose(one.spread, two.spread, rtol=tolerance, atol=tolerance), (
        f"{what}: spread {np.abs(one.spread - two.spread).max():.1e}"
    )
