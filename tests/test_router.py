"""Routers: trained, asked, limited, saved and read back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from conftest import FakeEncoder
from r2router.encode import ENCODERS, load_encoder
from r2router.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    EncoderError,
    MissingPrice,
    NoFeasibleArm,
    PolicyError,
    QueryError,
    UsageError,
)
from r2router.evaluation import calibrate
from r2router.figure import Figure
from r2router.predict.in_distribution import InDistribution
from r2router.predict.input_tokens import InputTokens
from r2router.router import artifact
from r2router.router.card import Facts
from r2router.types import Arm, Budget, FloatArray, Forecast, Model, Prices, Tier

DIM = 8
NAN = math.nan

# -- a router whose forecasts are written by hand
# -----------------------------------------------------------------------


class Written:
    """A predictor that says the same of every query."""

    kind: ClassVar[str] = "written"

    def __init__(self, arms: tuple[Arm, ...], quality: FloatArray, tokens: FloatArray) -> None:
        self.arms, self.quality, self.tokens = arms, quality, tokens

    def predict(self, x: FloatArray) -> Forecast:
        shape = (len(x), len(self.arms))
        return Forecast.of(
            self.arms, np.broadcast_to(self.quality, shape), np.broadcast_to(self.tokens, shape), np.full(shape, 0.05)
        )

    def arrays(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        raise NotImplementedError


def pool_of(**models: Any) -> r2.Pool:
    """`a=dict(budgets=[...], price=..., ...)`; the price is US dollars per million output tokens, and input is a tenth
    of that.
    """
    made = []
    for name, words in models.items():
        said = {"control": ("max_tokens",), "price": 1.0} | words
        price, control = said.pop("price"), said.pop("control")
        budgets = tuple(Budget.of(b, control) for b in said.pop("budgets"))
        made.append(Model(id=name, budgets=budgets, usd_per_million=Prices(input=price / 10, output=price), **said))
    return r2.Pool(made)


def written(pool: r2.Pool, quality: list[float], tokens: list[float], **changes: Any) -> r2.Router:
    """A router that forecasts just this, whatever it is asked; a prompt counts for nothing unless it is long."""
    arms = len(pool)
    usual: dict[str, Any] = {
        "pool": pool,
        "encoder": "fake",
        "dim": DIM,
        "predictor": Written(pool.arms, np.array(quality, float), np.array(tokens, float)),
        "policy": r2.Value(1.0),
        "scale": 0.001,
        "input_tokens": InputTokens((1.0,) * arms, (0.0,) * arms, 0.0),
        "prior_quality": np.full(arms, 0.5),
        "prior_tokens": np.full(arms, 100.0),
        "in_distribution": None,
        "facts": Facts(),
    }
    return r2.Router(**usual | changes)


ONE = np.eye(1, DIM, dtype=np.float32)

# two models; cost of the arms with no input: $0.0001, $0.0003, $0.001, $0.004
PLAIN = pool_of(a={"budgets": [100, 300]}, b={"budgets": [200, 800], "price": 5.0})
QUALITY, TOKENS = [0.3, 0.5, 0.6, 0.9], [100.0, 300.0, 200.0, 800.0]


@pytest.fixture
def plain(fake_encoder: Any) -> r2.Router:
    return written(PLAIN, QUALITY, TOKENS)


# -- forecasts
# ----------------------------------------------------------------------------------------------------------


def test_a_forecast_prices_what_is_forecast(plain: r2.Router) -> None:
    forecast = plain.forecast_vectors(ONE, 1000)
    assert forecast.arms == plain.arms == ("a@100", "a@300", "b@200", "b@800")
    np.testing.assert_allclose(forecast.quality, [QUALITY])
    np.testing.assert_allclose(forecast.tokens, [TOKENS])
    np.testing.assert_allclose(forecast.cost, [[0.0002, 0.0004, 0.0015, 0.0045]])
    assert forecast.familiar.tolist() == [True]


def test_a_long_prompt_is_forecast_and_capped_at_its_tier(fake_encoder: Any, tmp_path: Path) -> None:
    tiered = Prices(1.0, 10.0, tiers=(Tier(2.0, 15.0, above=1000),))
    free = tuple(Budget.of(b) for b in (200, 800))  # without a cap of their own
    pool = r2.Pool(
        [msgspec.structs.replace(m, usd_per_million=tiered, budgets=free) if m.id == "b" else m for m in PLAIN.models]
    )
    router = written(pool, QUALITY, TOKENS, input_tokens=InputTokens((1.0, 1.0, 1.0, 2.0), (0.0,) * 4, 0.0))
    short, long = router.forecast_vectors(ONE, 400).cost[0, 2:], router.forecast_vectors(ONE, 600).cost[0, 2:]
    np.testing.assert_allclose(short, [(400 + 2000) / 1e6, (800 + 8000) / 1e6])
    np.testing.assert_allclose(
        long, [(600 + 2000) / 1e6, (1200 * 2 + 800 * 15) / 1e6], err_msg="the arm that counts 1,200 tokens"
    )
    forecast = router.forecast_vectors(ONE, 600)
    choices = router.decide(ONE, r2.Best(0.0145), 600)
    assert router.arms[choices.arm[0]] == "b@800"
    (most,) = router.limits(forecast, choices, r2.Best(0.0145)).max_tokens
    assert most == 806 and (1200 * 2 + most * 15) / 1e6 <= 0.0145


def test_input_tokens_are_put_on_each_arms_own_scale() -> None:
    router = written(
        PLAIN, QUALITY, TOKENS, input_tokens=InputTokens((1.0, 1.0, 2.0, 2.0), (0.0, 10.0, 20.0, 30.0), 50.0)
    )
    output = np.array([0.0001, 0.0003, 0.001, 0.004])
    np.testing.assert_allclose(
        router.forecast_vectors(ONE, 100).cost[0], output + np.array([1e-5, 1.1e-5, 220 * 5e-7, 230 * 5e-7])
    )
    np.testing.assert_allclose(
        router.forecast_vectors(ONE).cost, router.forecast_vectors(ONE, 50).cost, err_msg="the typical count"
    )
    as_counted = np.array([[100.0, 200.0, 300.0, 400.0]])
    np.testing.assert_allclose(
        router.forecast_vectors(ONE, as_counted).cost[0], output + as_counted[0] * [1e-7, 1e-7, 5e-7, 5e-7]
    )


@pytest.mark.parametrize(
    "given", [7, 7.0, np.float32(7), np.array(7), [7, 7, 7], np.full(3, 7), np.full((3, 4), 7)], ids=repr
)
def test_input_tokens_of_every_shape(plain: r2.Router, given: Any) -> None:
    x = np.repeat(ONE, 3, axis=0)
    np.testing.assert_allclose(
        plain.forecast_vectors(x, given).cost, plain.forecast_vectors(x, np.full((3, 4), 7.0)).cost
    )
    assert len(plain.decide(x, input_tokens=given)) == 3


@pytest.mark.parametrize(
    "given",
    [
        -1,
        NAN,
        math.inf,
        [1, 2],
        [1, 2, NAN],
        [[1], [2], [3]],
        np.ones((4, 3)),
        np.ones((1, 4)),
        "many",
        ["a", "b", "c"],
    ],
    ids=repr,
)
def test_input_tokens_that_are_not_counts_are_refused(plain: r2.Router, given: Any) -> None:
    for ask in (plain.forecast_vectors, lambda x, t: plain.decide(x, input_tokens=t)):
        with pytest.raises(QueryError, match="input_tokens"):
            ask(np.repeat(ONE, 3, axis=0), given)


def broken(**where: float) -> FloatArray:
    x = np.zeros((2, DIM))
    for at, value in where.items():
        x[1, int(at[1:])] = value
    return x


@pytest.mark.parametrize(
    "vectors",
    [
        broken(_3=NAN),
        broken(_3=math.inf),
        broken(_3=math.inf, _4=-math.inf),
        broken(_0=1e300),
        np.zeros((2, DIM - 1)),
        np.zeros((2, DIM + 1)),
        np.zeros(DIM + 1),
        np.zeros((1, 2, DIM)),
        np.zeros(()),
        np.zeros((2, 0)),
        [[0.0] * DIM, [0.0]],
        [["a"] * DIM],
        None,
        "text",
    ],
    ids=lambda v: f"{type(v).__name__} {np.shape(v) if isinstance(v, np.ndarray) else ''}",
)
def test_vectors_that_are_no_embeddings_are_refused(plain: r2.Router, vectors: Any) -> None:
    for ask in (plain.forecast_vectors, plain.decide):
        with pytest.raises(QueryError, match="embeddings"):
            ask(vectors)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, list])
def test_vectors_of_every_kind(plain: r2.Router, kind: Any) -> None:
    x = ONE.tolist() if kind is list else ONE.astype(kind)
    assert plain.decide(x).arm.tolist() == plain.decide(ONE[0]).arm.tolist() == plain.decide(ONE).arm.tolist()


def test_large_vectors_that_are_finite_are_no_error(plain: r2.Router) -> None:
    assert len(plain.decide(np.full((2, DIM), 3e38))) == 2


@pytest.mark.parametrize("size", [1e16, 1e20, 1e38])
def test_large_vectors_are_decided_by_their_direction(world: Any, fake_encoder: Any, size: float) -> None:
    router = r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)
    x = world.vectors[:3].copy()
    x[1] *= np.float32(size) / np.abs(x[1]).max()
    found, expected = router.forecast_vectors(x), router.forecast_vectors(world.vectors[:3])
    np.testing.assert_allclose(found.quality, expected.quality, rtol=1e-4)
    assert found.familiar.tolist() == expected.familiar.tolist()


# -- in Python and in notebooks
# ---------------------------------------------------------------------------------------------


def test_many_texts_give_many_decisions(world: Any, fake_encoder: Any) -> None:
    router = r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)
    texts = [f"topic {i % 6} what?" for i in range(9)]
    for policy in (None, r2.Best(0.0003), r2.Cheapest(0.9)):
        many = router.route_many(texts, policy, exclude=["thinker"])
        for text, d in zip(texts, many, strict=True):
            one = router.route(text, policy, exclude=["thinker"])
            assert (d.arm, d.max_tokens, d.fallbacks, d.met, d.familiar) == (
                one.arm,
                one.max_tokens,
                one.fallbacks,
                one.met,
                one.familiar,
            )
    assert router.route_many([]) == []
    with pytest.raises(r2.QueryError, match="one text"):
        router.route_many("topic 1")  # type: ignore[arg-type]
    with pytest.raises(r2.QueryError, match="query 1 is empty"):
        router.route_many(["topic 1", " "])
    with pytest.raises(r2.NoFeasibleArm, match=r"^text 0: no arm costs at most"):
        router.route_many(texts, r2.Best(1e-12))


def test_a_decision_goes_through_json_and_msgspec(plain: r2.Router) -> None:
    decision = plain.route("why?")
    as_dict = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert as_dict == json.loads(msgspec.json.encode(decision))
    assert (as_dict["arm"], tuple(as_dict["fallbacks"])) == (decision.arm, decision.fallbacks)
    again = msgspec.json.decode(msgspec.json.encode(plain.route("why?", r2.Best(0.002))), type=r2.Decision)
    assert isinstance(again.arm, r2.Arm) and all(isinstance(a, r2.Arm) for a in again.fallbacks)
    assert json.loads(msgspec.json.encode(plain.path("why?")))[0]["arm"] == plain.path("why?")[0].arm
    with pytest.raises(AttributeError):
        decision.arm = "x"  # type: ignore[misc]


def test_reprs_are_short_and_notebooks_get_tables(world: Any, plain: r2.Router) -> None:
    report = r2.evaluate(
        r2.Recipe(encoder="given:x", folds=0).fit(world.table, vectors=world.vectors),
        world.table,
        vectors=world.vectors,
    )
    forecast = plain.forecast(["why?", "who?"])
    for value in (plain, plain.pool, world.table, report, report.comparison, forecast, plain.choose(forecast)):
        assert len(repr(value)) < 250 and "\n" not in repr(value)
    for value in (plain, plain.pool, world.table, report, report.comparison, forecast):
        assert value._repr_html_().startswith("<p")
    odd = r2.Pool([r2.Model(id="<b>", budgets=(r2.Budget("1", 1),), usd_per_million=r2.Prices(1, 1))])
    assert "<b>" not in odd._repr_html_()


WRONG = {
    "learner": lambda r, t: r2.Recipe(learner="ridge"),
    "learner ": lambda r, t: r2.Recipe(learner=r2.Ridge),
    "encoder": lambda r, t: r2.Recipe(encoder=3),
    "folds": lambda r, t: r2.Recipe(folds="5"),
    "keep": lambda r, t: r2.Recipe(keep=None),
    "seed": lambda r, t: r2.Recipe(seed=1.5),
    "table": lambda r, t: r2.Recipe(folds=0).fit("x.csv"),
    "table ": lambda r, t: r2.evaluate(r, "x.csv"),
    "router": lambda r, t: r2.evaluate(t, r),
    "train": lambda r, t: r2.evaluate(r, t, train="x.csv"),
    "resamples": lambda r, t: r2.evaluate(r, t, resamples="5"),
    "test": lambda r, t: t.split(test="x"),
    "test ": lambda r, t: t.split(test=True),
    "seed ": lambda r, t: t.split(seed="a"),
    "pool": lambda r, t: r.with_pool("pool.toml"),
    "outcomes": lambda r, t: r.add_model("x", "outcomes.csv"),
    "folder": lambda r, t: r2.Router.load(3),
    "folder ": lambda r, t: r.save(None),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_type_is_named(name: str, world: Any, plain: r2.Router) -> None:
    with pytest.raises(r2.UsageError, match=rf"^{name.strip()} is .*; give "):
        WRONG[name](plain, world.table)


def test_no_query_is_no_decision(plain: r2.Router) -> None:
    assert len(plain.forecast([])) == 0
    assert len(plain.decide(np.empty((0, DIM)))) == 0
    assert len(plain.decide(np.empty((0, DIM)), input_tokens=np.empty(0))) == 0


def test_curves_are_the_forecast_model_by_model(plain: r2.Router) -> None:
    a, b = plain.curves("why?")
    assert (a.model, a.budgets, a.quality, a.tokens) == ("a", ("100", "300"), (0.3, 0.5), (100.0, 300.0))
    assert (b.model, b.budgets) == ("b", ("200", "800"))
    assert a.cost + b.cost == tuple(plain.forecast("why?").cost[0])


# -- the query
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", " ", "\n\t \r\n", "\u00a0\u2003\u3000"], ids=repr)
def test_an_empty_query_is_refused(plain: r2.Router, text: str) -> None:
    for ask in (plain.route, plain.forecast, plain.curves, plain.path):
        with pytest.raises(QueryError, match="empty"):
            ask(text)
    with pytest.raises(QueryError, match="query 1 is empty"):
        plain.forecast(["fine", text])


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["list"], 1.5], ids=repr)
def test_what_is_no_text_is_refused(plain: r2.Router, text: Any) -> None:
    with pytest.raises(QueryError, match=rf"{type(text).__name__}, not text"):
        plain.route(text)
    with pytest.raises(QueryError, match=rf"query 1 is {type(text).__name__}, not text"):
        plain.forecast(["fine", text])


@pytest.mark.parametrize("wrong", [None, 5, 3.5, b"x", [], {}, {"a": 1}, object()], ids=lambda v: type(v).__name__)
def test_a_wrong_type_is_told_in_our_words_whatever_is_asked(wrong: Any, plain: r2.Router, world: Any) -> None:
    asked: dict[str, Callable[[], object]] = {
        "Table.read": lambda: r2.Table.read(wrong),
        "Table.read, prices": lambda: r2.Table.read("t.parquet", prices=wrong if wrong is not None else 1),
        "Pool.read": lambda: r2.Pool.read(wrong),
        "Router.load": lambda: r2.Router.load(wrong),
        "route": lambda: plain.route(wrong),
        "path": lambda: plain.path(wrong),
        "curves": lambda: plain.curves(wrong),
        "decide": lambda: plain.decide(wrong),
        "add_model": lambda: plain.add_model(wrong, world.table),
        "load_encoder": lambda: load_encoder(wrong),
        "Recipe.fit": lambda: r2.Recipe().fit(wrong),
        "evaluate, router": lambda: r2.evaluate(wrong, world.table),
        "evaluate, table": lambda: r2.evaluate(plain, wrong),
        "calibrate, table": lambda: calibrate(plain, wrong, spend=1.0),
        "calibrate, spend": lambda: calibrate(plain, world.table, spend=[]),
        "split": lambda: world.table.split(test=wrong if not isinstance(wrong, float) else "half"),
    }
    if wrong != []:  # no queries have no forecasts
        asked["forecast"] = lambda: plain.forecast(wrong)
    for name, ask in asked.items():
        with pytest.raises(UsageError) as told:
            ask()
        assert len(str(told.value).splitlines()) <= 2, name


ODD_QUERIES = [
    "\x00",
    "why\x00?",
    "\x1b[31mred\x07",
    "🙂" * 50,
    "你好世界",
    "مرحبا بالعالم",
    "a" * 100_000,
    "word " * 20_000,
    "\ud800",
    "\u200b",
    ".",
]


@pytest.mark.parametrize("text", ODD_QUERIES, ids=lambda t: f"{len(t)} of {t[:6]!a}")
def test_odd_queries_are_routed(plain: r2.Router, text: str) -> None:
    decision = plain.route(text)
    assert decision.arm in plain.arms and math.isfinite(decision.cost)
    assert text not in decision.reason or len(text) == 1, "a query is not repeated in the reason"


def test_odd_queries_are_routed_with_the_embedded_encoder(world: Any) -> None:
    router = r2.Recipe(folds=0).fit(world.table.take(range(12)))
    assert router.encoder == "minilm"
    whole = router.forecast(ODD_QUERIES)
    assert np.isfinite(whole.cost).all() and np.isfinite(whole.quality).all()
    assert router.route(ODD_QUERIES[0]).arm in router.arms


def test_longer_queries_cost_more(plain: r2.Router) -> None:
    short, long = (plain.route("word " * n, r2.Tradeoff(0.0)).cost for n in (10, 1000))
    assert long > short


# -- decisions
# ----------------------------------------------------------------------------------------------------------


def test_a_decision_by_hand(plain: r2.Router) -> None:
    decision = plain.route("why?", r2.Tradeoff(0.0))
    assert (decision.arm, decision.model, decision.budget) == ("b@800", "b", "800")
    assert (decision.quality, decision.tokens, decision.spread, decision.max_tokens) == (0.9, 800.0, 0.05, 800)
    assert decision.cost == pytest.approx(plain.forecast("why?").cost[0, 3])
    assert decision.fallbacks == ("a@300",)
    assert decision.met and decision.familiar
    for word in ("b@800", "0.90", "a@300"):
        assert word in decision.reason


def test_every_policy_gives_a_reason_that_names_the_arm_and_the_wish(plain: r2.Router) -> None:
    for policy, words in [
        (r2.Tradeoff(0.3), ["lambda 0.3"]),
        (r2.Value(0.01), ["$0.01"]),
        (r2.Cheapest(0.55), ["0.55"]),
        (r2.Cheapest(0.95), ["0.95", "No arm"]),
        (r2.Best(0.0015), ["$0.0015"]),
    ]:
        decision = plain.route("why?", policy)
        for word in (decision.arm, *words):
            assert word in decision.reason, decision.reason
        assert decision.met == (policy != r2.Cheapest(0.95))


def test_without_a_policy_a_router_uses_its_own(plain: r2.Router) -> None:
    for policy in (r2.Value(0.0), r2.Value(100.0), r2.Best(0.0004), r2.Cheapest(0.55), r2.Tradeoff(0.5)):
        own = plain.with_policy(policy)
        assert own.route("why?") == plain.route("why?", policy)
        assert own.decide(ONE).arm.tolist() == plain.decide(ONE, policy).arm.tolist()


def test_a_tradeoff_takes_the_routers_scale_unless_it_has_one(plain: r2.Router) -> None:
    # a point of quality costs $0.001 up to a@300, from there $0.007 up to b@200, and from there $0.01 up to b@800
    assert plain.decide(ONE, r2.Tradeoff(0.5)).arm.tolist() == [0], (
        "a point is worth $0.001, and the tie goes to the cheaper"
    )
    assert plain.decide(ONE, r2.Tradeoff(0.4)).arm.tolist() == [1]
    assert plain.decide(ONE, r2.Tradeoff(0.09)).arm.tolist() == [3]
    assert plain.decide(ONE, r2.Tradeoff(0.5, scale=1.0)).arm.tolist() == [3]


@pytest.mark.parametrize("policy", [0.3, "cheap", r2.Value, {"lam": 0.3}, 0], ids=repr)
def test_what_is_no_policy_is_refused(plain: r2.Router, policy: Any) -> None:
    for ask in (lambda p: plain.route("why?", p), lambda p: plain.decide(ONE, p)):
        with pytest.raises(PolicyError, match="policy"):
            ask(policy)


def test_a_policy_of_the_users_own_is_followed(plain: r2.Router) -> None:
    class Second:
        def choose(self, forecast: Forecast, cost: FloatArray) -> Any:
            return np.where(np.isfinite(cost[:, 1]), 1, -1)

    decision = plain.route("why?", Second())
    assert decision.arm == "a@300" and "Second" in decision.reason
    with pytest.raises(NoFeasibleArm):
        plain.route("why?", Second(), exclude=["a"])


def test_fallbacks_are_one_a_model_best_first() -> None:
    pool = pool_of(**{name: {"budgets": [10, 20], "price": 1.0 + i} for i, name in enumerate("abcdefgh")})
    quality = [0.9, 0.1, 0.2, 0.8, 0.7, 0.7, 0.3, 0.4, 0.5, 0.6, 0.65, 0.0, NAN, NAN, 0.55, 0.1]
    decision = written(pool, quality, [10.0] * 16).explain(
        written(pool, quality, [10.0] * 16).forecast_vectors(ONE), r2.Tradeoff(0.0)
    )
    assert decision.arm == "a@10"
    assert decision.fallbacks == ("b@20", "c@10", "f@10", "e@20", "h@10"), (
        "one a model, five at most, never one that was not observed"
    )


def test_a_batch_is_its_queries_one_by_one(world: Any, fake_encoder: Any) -> None:
    router = r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)
    texts = [*world.table.queries[:20], "something else altogether"]
    x, counts = fake_encoder.encode(texts), np.array([len(t.split()) for t in texts], dtype=float)
    for policy in (None, r2.Tradeoff(0.3), r2.Best(0.0005), r2.Cheapest(0.7)):
        whole = router.decide(x, policy, counts)
        for i in range(len(texts)):
            one = router.decide(x[i], policy, counts[i])
            assert whole.arm[i] == one.arm[0]
            np.testing.assert_allclose([whole.quality[i], whole.cost[i]], [one.quality[0], one.cost[0]], rtol=1e-5)
    routed = [router.route(t, r2.Tradeoff(0.3)) for t in texts]
    forecast = router.forecast(texts)
    for i, decision in enumerate(routed):
        at = router.arms.index(decision.arm)
        assert decision.quality == pytest.approx(forecast.quality[i, at], rel=1e-5)
        assert decision.familiar == forecast.familiar[i]


def test_a_large_batch_is_the_same_as_small_ones(world: Any) -> None:
    router = r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)
    x = np.tile(world.vectors, (6, 1))
    counts = np.arange(len(x), dtype=float)
    whole = router.decide(x, r2.Tradeoff(0.4), counts)
    parts = [router.decide(x[i : i + 100], r2.Tradeoff(0.4), counts[i : i + 100]) for i in range(0, len(x), 100)]
    assert whole.arm.tolist() == [a for p in parts for a in p.arm.tolist()]
    assert len(whole) == len(whole.cost) == len(whole.familiar) == len(x)


# -- the path
# -----------------------------------------------------------------------------------------------------------


def test_a_path_by_hand(plain: r2.Router) -> None:
    free = replace(plain, input_tokens=InputTokens((0.0,) * 4, (0.0,) * 4, 0.0))
    path = free.path("why?")
    assert [step.arm for step in path] == ["a@100", "a@300", "b@200", "b@800"]
    assert [step.value for step in path] == pytest.approx([0.0, 0.001, 0.007, 0.01])
    assert [step.lam for step in path] == pytest.approx([1.0, 1 / 2, 1 / 8, 1 / 11])
    assert [step.quality for step in path] == QUALITY
    assert [step.cost for step in path] == pytest.approx([0.0001, 0.0003, 0.001, 0.004])


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 1000)), min_size=4, max_size=4), st.floats(1e-5, 1e-1))
def test_a_path_says_what_every_tradeoff_chooses(arms: list[tuple[int, int]], scale: float) -> None:
    router = written(PLAIN, [q / 100 for q, _ in arms], [float(t) for _, t in arms], scale=scale)
    path = path_of(router)
    assert path[0].lam == 1.0
    assert all(a.lam > b.lam and a.cost < b.cost and a.quality < b.quality for a, b in pairwise(path))
    ends = [*(step.lam for step in path[1:]), 0.0]
    for step, end in zip(path, ends, strict=True):
        for share in (0.01, 0.5, 0.99):
            lam = end + share * (step.lam - end)
            if step.lam - end > 1e-9 and lam < 1.0:
                assert router.arms[int(router.decide(ONE, r2.Tradeoff(lam)).arm[0])] == step.arm
                assert router.arms[int(router.decide(ONE, r2.Value(scale * (1 - lam) / lam)).arm[0])] == step.arm


def path_of(router: r2.Router) -> list[r2.PathStep]:
    """The path without an encoder in between."""
    router.__dict__["_encoder"] = type(
        "Still", (), {"encode": lambda self, texts: np.repeat(ONE, len(texts), axis=0)}
    )()
    router.__dict__["input_tokens"] = InputTokens((0.0,) * len(router.arms), (0.0,) * len(router.arms), 0.0)
    return router.path("why?")


# -- limits
# -------------------------------------------------------------------------------------------------------------

MIXED = pool_of(
    text={"budgets": [100], "price": 1.0, "context": 1000},
    seeing={"budgets": [100, 300], "price": 10.0, "capabilities": frozenset({"vision", "tools"})},
    gone={"budgets": [100], "price": 0.1, "available": False, "capabilities": frozenset({"vision", "tools"})},
    unseen={"budgets": [100], "price": 0.5},
)


@pytest.fixture
def mixed(fake_encoder: Any) -> r2.Router:
    """`gone` is best and cheapest but not available; `unseen` was never observed."""
    return written(MIXED, [0.5, 0.6, 0.8, 1.0, NAN], [100.0, 100.0, 300.0, 10.0, NAN])


@pytest.mark.parametrize(
    "policy",
    [
        r2.Tradeoff(0.0),
        r2.Tradeoff(0.5),
        r2.Tradeoff(1.0),
        r2.Value(1.0),
        r2.Cheapest(0.5),
        r2.Cheapest(1.0),
        r2.Best(1.0),
    ],
    ids=repr,
)
def test_models_that_are_not_available_or_never_observed_are_never_chosen(mixed: r2.Router, policy: Any) -> None:
    decision = mixed.route("why?", policy)
    for arm in (
        decision.arm,
        *decision.fallbacks,
        mixed.arms[int(mixed.decide(ONE, policy).arm[0])],
        *(s.arm for s in mixed.path("why?")),
    ):
        assert arm.model in ("text", "seeing")


def test_a_model_becomes_available_by_another_pool(mixed: r2.Router) -> None:
    models = [msgspec.structs.replace(m, available=True) for m in MIXED.models]
    assert mixed.with_pool(r2.Pool(models)).route("why?", r2.Tradeoff(0.0)).arm == "gone@100"


def test_required_capabilities_and_exclusions(mixed: r2.Router) -> None:
    cheap = r2.Tradeoff(1.0)
    assert mixed.route("why?", cheap).arm == "text@100"
    for limits in (
        {"require": ["vision"]},
        {"require": "vision"},
        {"exclude": ["text"]},
        {"exclude": "text@100"},
        {"require": {"vision", "tools"}},
    ):
        assert mixed.route("why?", cheap, **limits).arm == "seeing@100"
        assert mixed.arms[int(mixed.decide(ONE, cheap, **limits).arm[0])] == "seeing@100"
        assert {s.arm.model for s in mixed.path("why?", **limits)} == {"seeing"}
    assert mixed.route("why?", cheap, require=["vision"], exclude=["seeing@100"]).arm == "seeing@300"
    assert mixed.route("why?", r2.Tradeoff(0.0), exclude=["text"]).fallbacks == ()


@pytest.mark.parametrize(
    "limits",
    [{"require": ["hearing"]}, {"exclude": ["text", "seeing"]}, {"require": ["vision"], "exclude": ["seeing"]}],
    ids=str,
)
def test_limits_that_leave_no_arm(mixed: r2.Router, limits: Any) -> None:
    for policy in (r2.Tradeoff(0.5), r2.Cheapest(0.5), r2.Best(1.0), None):
        with pytest.raises(NoFeasibleArm, match=r"unavailable, excluded, lacks a required capability"):
            mixed.route("why?", policy, **limits)
        assert mixed.decide(ONE, policy, **limits).arm.tolist() == [-1]
    with pytest.raises(NoFeasibleArm):
        mixed.path("why?", **limits)


def test_excluding_what_is_not_there_is_an_error(mixed: r2.Router) -> None:
    with pytest.raises(ConfigError, match=r"'seing'.*did you mean 'seeing'"):
        mixed.route("why?", exclude=["seing"])


def test_a_prompt_longer_than_a_models_context_goes_elsewhere(mixed: r2.Router) -> None:
    cheap, long = r2.Tradeoff(1.0), "word " * 1200
    assert mixed.route("why?", cheap).arm == "text@100"
    assert mixed.route(long, cheap).arm == "seeing@100"
    assert "text" not in {a.model for a in mixed.route(long, r2.Tradeoff(0.0)).fallbacks}
    assert {s.arm.model for s in mixed.path(long)} == {"seeing"}
    assert mixed.decide(np.repeat(ONE, 3, axis=0), cheap, [999, 1000, 5000]).arm.tolist() == [0, 1, 1]
    own = np.tile([5000.0, 1.0, 1.0, 1.0, 1.0], (2, 1))
    own[1, 0] = 10.0
    assert mixed.decide(np.repeat(ONE, 2, axis=0), cheap, own).arm.tolist() == [1, 0], "as each model counts them"
    with pytest.raises(NoFeasibleArm, match="context"):
        mixed.route(long, cheap, exclude=["seeing"])


# -- caps
# ---------------------------------------------------------------------------------------------------------------


def test_a_cap_that_no_arm_meets_names_the_cheapest(plain: r2.Router) -> None:
    with pytest.raises(NoFeasibleArm, match=r"at most \$0\.00001.*cheapest is a@100 at \$0\.0001") as caught:
        plain.route("why?", r2.Best(0.00001))
    assert len(str(caught.value)) < 200
    assert plain.decide(ONE, r2.Best(0.00001)).arm.tolist() == [-1]


@given(st.floats(1.0, 1e6), st.floats(1e-3, 1e3))
def test_raising_the_cap_to_what_the_message_says_is_enough(tokens: float, price: float) -> None:
    router = written(pool_of(a={"budgets": ["unlimited"], "price": price}), [0.5], [tokens])
    forecast = router.forecast_vectors(ONE)
    with pytest.raises(NoFeasibleArm) as caught:
        router.explain(forecast, r2.Best(0.0))
    named = re.search(r"cheapest is a@unlimited at \$([0-9.]+)", str(caught.value))
    assert named
    decision = router.explain(forecast, r2.Best(float(named[1])))
    assert decision.arm == "a@unlimited" and float(named[1]) <= decision.cost * 1.02


def test_a_cap_between_two_budgets_is_answered_with_a_budget_between_them(plain: r2.Router) -> None:
    free = replace(plain, input_tokens=InputTokens((0.0,) * 4, (0.0,) * 4, 0.0))
    # half of the way from $0.0001 for 100 tokens to $0.0003 for 300... and a half again
    decision = free.route("why?", r2.Best(0.00025))
    assert (decision.arm, decision.model, decision.budget) == ("a@250", "a", "250")
    assert (
        decision.quality == pytest.approx(0.45)
        and decision.tokens == pytest.approx(250)
        and decision.cost == pytest.approx(0.00025)
    )
    assert decision.max_tokens == 250
    assert "a@250" in decision.reason and "between" in decision.reason
    batch = free.decide(ONE, r2.Best(0.00025))
    assert (batch.arm[0], batch.budget_tokens[0]) == (0, 250.0)
    assert free.route("why?", r2.Best(0.0003)).arm == "a@300"
    assert free.route("why?", r2.Best(0.0025)).arm == "b@500", (
        "three quarters of a step of b is better than anything of a"
    )


@given(st.floats(1e-6, 1e-2), st.integers(0, 2000))
def test_what_a_cap_enforces_stays_within_it(cap: float, count: int) -> None:
    router = written(PLAIN, QUALITY, TOKENS)
    try:
        decision = router.explain(router.forecast_vectors(ONE, count), r2.Best(cap))
    except NoFeasibleArm:
        assert cap < 0.0001 + count * 1e-7 + 1e-15
        return
    assert decision.cost <= cap
    assert decision.max_tokens is not None and decision.max_tokens >= 1
    price = PLAIN[decision.model].usd_per_million
    assert price is not None
    most = (count * price.input + decision.max_tokens * price.output) / 1e6
    assert most <= cap * (1 + 1e-9) or decision.max_tokens == 1, "an answer of the length enforced would break the cap"


def test_max_tokens_where_nothing_sets_one(fake_encoder: Any) -> None:
    pool = pool_of(a={"budgets": ["unlimited", 100], "control": ("instruction",)}, b={"budgets": [300]})
    router = written(pool, [0.9, 0.5, 0.4], [1000.0, 100.0, 300.0])
    assert router.route("why?", r2.Tradeoff(0.0)).max_tokens is None
    assert router.route("why?", r2.Tradeoff(0.0), exclude=["a@unlimited"]).max_tokens is None, (
        "an instruction is no hard limit"
    )
    assert router.route("why?", r2.Tradeoff(0.0), exclude=["a"]).max_tokens == 300
    assert router.route("why?", r2.Best(0.002)).max_tokens == pytest.approx(2000, abs=2), "what the cap can pay for"


@pytest.mark.parametrize("cap", [1e3, 1e300, 1.7e308])
def test_a_cap_beyond_all_prices_limits_nothing(plain: r2.Router, cap: float) -> None:
    decision = plain.route("why?", r2.Best(cap))
    assert (decision.arm, decision.max_tokens) == ("b@800", 800)
    free = written(pool_of(a={"budgets": ["unlimited"], "price": 0.0}), [0.5], [10.0])
    assert free.explain(free.forecast_vectors(ONE), r2.Best(cap)).max_tokens is None


# -- queries unlike the training data
# -----------------------------------------------------------------------------------


def test_an_unfamiliar_query_is_flagged_and_decided_by_the_arms_means(fake_encoder: Any) -> None:
    known = InDistribution(np.eye(1, DIM, dtype=np.float32), 0.5)
    router = written(
        PLAIN,
        QUALITY,
        TOKENS,
        in_distribution=known,
        prior_quality=np.array([0.9, 0.1, 0.2, 0.3]),
        prior_tokens=np.full(4, 50.0),
    )
    x = np.eye(2, DIM, dtype=np.float32)  # the first is the centre, the second is at a right angle to it
    forecast = router.forecast_vectors(x, 0)
    assert forecast.familiar.tolist() == [True, False]
    np.testing.assert_allclose(forecast.quality, [QUALITY, [0.9, 0.1, 0.2, 0.3]])
    np.testing.assert_allclose(forecast.tokens, [TOKENS, [50.0] * 4])
    np.testing.assert_allclose(forecast.cost[1], [5e-5, 5e-5, 2.5e-4, 2.5e-4])
    choices = router.decide(x, r2.Tradeoff(0.0))
    assert choices.arm.tolist() == [3, 0] and choices.familiar.tolist() == [True, False]
    decision = router.explain(router.forecast_vectors(x[1]), r2.Tradeoff(0.0))
    assert decision.arm == "a@100" and not decision.familiar
    assert (
        "unlike the training data" in decision.reason
        and "not known" in decision.reason
        and "forecast at" not in decision.reason
    )
    assert decision.spread == pytest.approx(math.sqrt(1 / 12)), "a quality of which nothing is known"
    known_one = router.explain(router.forecast_vectors(x[0]), r2.Tradeoff(0.0))
    assert known_one.familiar and known_one.spread == 0.05 and "unlike" not in known_one.reason


def test_the_training_queries_are_familiar_and_others_are_not(world: Any, fake_encoder: Any) -> None:
    router = r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)
    assert router.forecast(world.table.queries).familiar.mean() > 0.97
    strange = router.route("entirely different words")
    assert not strange.familiar
    # the safe choice does not depend on the words of a strange query, only on their number
    assert {router.route(f"{w} different words").arm for w in ("wholly", "thoroughly", "utterly")} == {strange.arm}
    assert router.route("topic 2 question 5000: what is 1 of it?").familiar


# -- training
# -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_once(world: Any) -> r2.Router:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "fake", lambda _: FakeEncoder())
        return r2.Recipe(encoder="fake", resamples=20).fit(world.table, vectors=world.vectors)


@pytest.fixture
def trained(trained_once: r2.Router, fake_encoder: Any) -> r2.Router:
    """A router on the small world, and the encoder it was trained with."""
    return trained_once


def test_a_router_learns_what_there_is_to_learn(world: Any, trained: r2.Router) -> None:
    """Six topics, each with arms of its own that are good at it: routing beats every fixed arm."""
    choices = trained.decide(world.vectors, r2.Tradeoff(0.0))
    routed = world.table.quality[np.arange(len(choices)), choices.arm].mean()
    assert routed > world.table.quality.mean(axis=0).max() + 0.05


def test_its_own_policy_keeps_the_quality_that_was_asked_for(world: Any, trained: r2.Router) -> None:
    choices = trained.decide(world.vectors)
    rows = np.arange(len(choices))
    best = int(np.argmax(world.table.quality.mean(axis=0)))
    assert world.table.quality[rows, choices.arm].mean() >= 0.95 * world.table.quality[:, best].mean()
    assert world.table.cost()[rows, choices.arm].mean() < world.table.cost()[:, best].mean()


def test_training_is_the_same_every_time(world: Any, trained: r2.Router) -> None:
    one, two = trained, r2.Recipe(encoder="fake", resamples=20).fit(world.table, vectors=world.vectors)
    assert one.policy == two.policy and one.facts == two.facts
    np.testing.assert_array_equal(
        one.forecast_vectors(world.vectors).quality, two.forecast_vectors(world.vectors).quality
    )


def test_texts_are_encoded_where_no_vectors_are_given(world: Any, fake_encoder: Any) -> None:
    recipe = r2.Recipe(encoder="fake", folds=0)
    a, b = recipe.fit(world.table), recipe.fit(world.table, vectors=world.vectors)
    np.testing.assert_array_equal(a.forecast_vectors(world.vectors).quality, b.forecast_vectors(world.vectors).quality)


def test_an_encoder_that_cannot_be_had_leaves_the_background_out(world: Any) -> None:
    for encoder in ("given:mine", "openai:text-embedding-3-small", "not-installed"):
        in_distribution = r2.Recipe(encoder=encoder, folds=0).fit(world.table, vectors=world.vectors).in_distribution
        assert in_distribution is not None and not len(in_distribution.background)


def test_vectors_of_no_known_encoder_need_vectors_later(world: Any) -> None:
    router = r2.Recipe(folds=0).fit(world.table, vectors=world.vectors)
    assert len(router.decide(world.vectors)) == len(world.table)
    with pytest.raises(EncoderError, match="vectors"):
        router.route("why?")


@pytest.mark.parametrize(
    "spoil",
    [lambda x: x[:-1], lambda x: x[0], lambda x: np.where(x == x.max(), NAN, x), lambda x: x[None]],
    ids=["few", "one", "NaN", "3-d"],
)
def test_vectors_that_do_not_fit_the_table_are_refused(world: Any, spoil: Callable[[FloatArray], FloatArray]) -> None:
    with pytest.raises(DataError, match="240 queries"):
        r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=spoil(world.vectors))


def sparse(world: Any, seed: int, share: float) -> r2.Table:
    """The world's table with only a share of its cells observed."""
    hole = np.random.default_rng(seed).random(world.table.quality.shape) > share
    cells = {k: np.where(hole, NAN, getattr(world.table, k)) for k in ("quality", "output_tokens", "input_tokens")}
    return replace(world.table, **cells)


def sane(router: r2.Router, x: FloatArray) -> None:
    """Forecasts within their bounds, unfamiliar queries included."""
    for ask in (router, replace(router, in_distribution=InDistribution(np.eye(1, DIM, dtype=np.float32), 2.0))):
        forecast = ask.forecast_vectors(x)
        seen = ~np.isnan(forecast.quality)
        assert (forecast.quality[seen] >= 0).all() and (forecast.quality[seen] <= 1).all()
        assert (forecast.tokens[seen] >= 1).all() and (forecast.cost[seen] > 0).all()
        assert (ask.decide(x, r2.Tradeoff(0.0)).arm >= 0).all()


@pytest.mark.parametrize("learner", [None, r2.Ridge(alpha=30)], ids=["default", "ridge"])
@pytest.mark.parametrize("share", [0.7, 0.2, 0.05])
def test_sparse_tables_train(world: Any, share: float, learner: Any) -> None:
    table = sparse(world, 0, share)
    more = {} if learner is None else {"learner": learner}
    sane(r2.Recipe(encoder="fake", resamples=5, **more).fit(table, vectors=world.vectors), world.vectors)


def test_arms_seen_on_different_kinds_of_queries_have_sane_means(fake_encoder: Any) -> None:
    """One arm was asked hard questions with long answers only, the other easy ones: their fair means must stay possible
    values.
    """
    cells = []
    for i in range(60):
        easy = i % 2
        text = f"topic {easy} question {i}"
        cells.append(
            {
                "query": text,
                "model": "both",
                "budget": "1",
                "quality": float(easy),
                "output_tokens": 10.0 if easy else 10_000.0,
            }
        )
        only = "good" if easy else "bad"
        cells.append(
            {
                "query": text,
                "model": only,
                "budget": "1",
                "quality": float(easy),
                "output_tokens": 5.0 if easy else 2_000.0,
            }
        )
    table = r2.Table.read(
        pl.DataFrame(cells), prices={m: Prices(input=1.0, output=1.0) for m in ("both", "good", "bad")}
    )
    router = r2.Recipe(encoder="fake", folds=0).fit(table)
    assert (router.prior_quality >= 0).all() and (router.prior_quality <= 1).all()
    assert (router.prior_tokens >= 1).all(), "a negative length would be an answer that earns money"
    sane(router, fake_encoder.encode(table.queries))


def test_an_arm_that_was_never_observed_is_never_chosen(world: Any) -> None:
    hole = np.zeros(world.table.quality.shape, dtype=bool)
    hole[:, 3] = True
    cells = {k: np.where(hole, NAN, getattr(world.table, k)) for k in ("quality", "output_tokens", "input_tokens")}
    router = r2.Recipe(encoder="fake", resamples=5).fit(replace(world.table, **cells), vectors=world.vectors)
    forecast = router.forecast_vectors(world.vectors)
    assert np.isnan(forecast.quality[:, 3]).all() and np.isfinite(np.delete(forecast.quality, 3, axis=1)).all()
    for policy in (None, r2.Tradeoff(0.0), r2.Tradeoff(1.0), r2.Cheapest(0.0), r2.Best(1.0)):
        assert 3 not in router.decide(world.vectors, policy).arm
    sane(router, world.vectors)


@pytest.mark.parametrize("column", ["quality", "output_tokens"])
def test_an_arm_without_quality_or_without_lengths_is_never_chosen(world: Any, column: str) -> None:
    values = getattr(world.table, column).copy()
    values[:, 3] = NAN
    quality = world.table.quality.copy()
    quality[:, 3] = 1.0  # it would be the best of all
    table = replace(world.table, **{"quality": quality, column: values})
    router = r2.Recipe(encoder="fake", resamples=5).fit(table, vectors=world.vectors)
    for policy in (None, r2.Tradeoff(0.0), r2.Tradeoff(1.0), r2.Value(1.0), r2.Cheapest(0.0), r2.Best(1.0)):
        assert 3 not in router.decide(world.vectors, policy).arm
    assert math.isfinite(router.scale) and router.scale > 0
    best = np.argmax(np.delete(world.table.quality, 3, axis=1).mean(axis=0))
    assert router.scale == pytest.approx(np.delete(world.table.cost(), 3, axis=1)[:, best].mean())


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_a_handful_of_queries_is_enough_to_fall_back_on_fixed_arms(world: Any, n: int, tmp_path: Path) -> None:
    router = r2.Recipe(encoder="fake", resamples=5).fit(world.table.take(range(n)), vectors=world.vectors[:n])
    sane(router, world.vectors)
    router.save(tmp_path / "router")
    assert r2.Router.load(tmp_path / "router").policy == router.policy


def test_queries_that_are_all_the_same(world: Any) -> None:
    table = replace(world.table, queries=("again",) * len(world.table))
    sane(r2.Recipe(encoder="fake", resamples=5).fit(table, vectors=np.repeat(ONE, len(table), axis=0)), world.vectors)


def test_outcomes_that_are_all_the_same(world: Any) -> None:
    table = replace(
        world.table, quality=np.ones(world.table.quality.shape), output_tokens=np.full(world.table.quality.shape, 10.0)
    )
    router = r2.Recipe(encoder="fake", resamples=5).fit(table, vectors=world.vectors)
    cheapest = int(np.argmin(table.cost().mean(axis=0)))
    assert set(router.decide(world.vectors).arm.tolist()) == {cheapest}, "nothing is won by any other"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.take([]), "no rows"),
        (lambda t: replace(t, quality=np.full(t.quality.shape, NAN)), "no quality at all"),
        (lambda t: replace(t, output_tokens=np.full(t.quality.shape, NAN)), "no output tokens"),
        (lambda t: replace(t, queries=(" ", *t.queries[1:])), "blank"),
    ],
    ids=["no rows", "no quality", "no lengths", "a blank query"],
)
def test_a_table_with_nothing_to_learn_from_is_refused(
    world: Any, spoil: Callable[[r2.Table], r2.Table], words: str
) -> None:
    table = spoil(world.table)
    with pytest.raises(DataError, match=words):
        r2.Recipe(encoder="fake").fit(table, vectors=world.vectors[: len(table)])


def test_a_table_without_prices_is_refused(world: Any) -> None:
    bare = r2.Pool(msgspec.structs.replace(m, usd_per_million=None) for m in world.pool.models)
    with pytest.raises(MissingPrice, match="'small', 'large', 'thinker'"):
        r2.Recipe(encoder="fake").fit(world.table.with_pool(bare), vectors=world.vectors)


def test_free_models_can_be_routed_to(world: Any) -> None:
    free = r2.Pool(msgspec.structs.replace(m, usd_per_million=Prices(input=0.0, output=0.0)) for m in world.pool.models)
    router = r2.Recipe(encoder="fake", resamples=5).fit(world.table.with_pool(free), vectors=world.vectors)
    for policy in (None, r2.Tradeoff(0.3), r2.Best(0.0), r2.Cheapest(0.5)):
        assert (router.decide(world.vectors, policy).arm >= 0).all()
    choices = router.decide(world.vectors)
    assert (choices.cost == 0).all()
    np.testing.assert_array_equal(
        choices.quality, router.forecast_vectors(world.vectors).quality.max(axis=1), "the best, as all are free"
    )


def test_progress_is_told_from_start_to_end(world: Any) -> None:
    told: list[tuple[int, int]] = []
    r2.Recipe(encoder="fake", resamples=5, folds=3).fit(
        world.table, vectors=world.vectors, progress=lambda what, done, of: told.append((done, of))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


# -- saving
# -------------------------------------------------------------------------------------------------------------


def test_a_router_read_back_is_the_same_to_the_bit(world: Any, trained: r2.Router, tmp_path: Path) -> None:
    trained.save(tmp_path / "router")
    loaded = r2.Router.load(tmp_path / "router")
    a, b = (router.forecast_vectors(world.vectors, 17.0) for router in (trained, loaded))
    for name in ("quality", "tokens", "spread", "familiar", "cost"):
        assert np.asarray(getattr(a, name)).tobytes() == np.asarray(getattr(b, name)).tobytes(), name
    for name in ("pool", "encoder", "dim", "policy", "scale", "input_tokens", "ties"):
        assert getattr(loaded, name) == getattr(trained, name), name
    assert msgspec.json.encode(loaded.facts) == msgspec.json.encode(trained.facts)
    own, theirs = trained.predictor.arrays(), loaded.predictor.arrays()
    assert {k: (v.dtype, v.tobytes()) for k, v in own.items()} == {k: (v.dtype, v.tobytes()) for k, v in theirs.items()}
    for text in (*world.table.queries[:5], "something else"):
        for policy in (None, r2.Tradeoff(0.2), r2.Best(0.001)):
            assert loaded.route(text, policy) == trained.route(text, policy)
    loaded.save(tmp_path / "again")
    for file in ("router.json", "weights.safetensors", "card.md"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "router" / file).read_bytes()


@pytest.mark.parametrize(
    "policy",
    [r2.Tradeoff(0.25), r2.Tradeoff(1 / 3, 1e-7), r2.Value(np.float64(0.01)), r2.Cheapest(1), r2.Best(np.float32(0.5))],
    ids=repr,
)
def test_every_policy_can_be_a_routers_own(trained: r2.Router, tmp_path: Path, policy: Any) -> None:
    trained.with_policy(policy).save(tmp_path / "router")
    assert r2.Router.load(tmp_path / "router").policy == policy
    assert "own policy" in (tmp_path / "router" / "card.md").read_text()


def test_figures_that_nobody_could_measure_do_not_lock_a_router_up(
    world: Any, trained: r2.Router, tmp_path: Path
) -> None:
    """NaN has no word in JSON: such figures must be read back all the same."""
    figures = (
        Figure("never reached", NAN, NAN, NAN, 5),
        Figure("no interval", 0.5, NAN, NAN, 5),
        Figure("all well", 0.5, 0.4, 0.6, 5),
    )
    replace(trained, facts=Facts(queries=5, folds=2, figures=figures)).save(tmp_path / "router")
    loaded = r2.Router.load(tmp_path / "router").facts.figures
    assert str(loaded) == str(figures) and loaded[2] == figures[2]
    assert "nan" not in (tmp_path / "router" / "card.md").read_text()
    r2.Recipe(encoder="fake", resamples=0).fit(world.table, vectors=world.vectors).save(tmp_path / "other")
    assert r2.Router.load(tmp_path / "other").facts.figures


def test_the_card_says_what_a_person_must_know(world: Any, trained: r2.Router, tmp_path: Path) -> None:
    trained.save(tmp_path / "router")
    card = (tmp_path / "router" / "card.md").read_text()
    for word in (
        "240 queries",
        "task 0",
        "small",
        "thinker",
        "unlimited",
        "0.1 / 0.4",
        "encoder `fake`",
        "95 % interval",
        "Limits",
    ):
        assert word in card, word


def test_no_folder_of_the_trainers_is_saved(world: Any, fake_encoder: Any, tmp_path: Path) -> None:
    secret = tmp_path / "somebodys-own-folder"
    secret.mkdir()
    rows = [
        {
            "query": f"topic {i % 6} q {i}",
            "model": m,
            "budget": "1",
            "quality": i % 2,
            "output_tokens": -1 if i == 3 else 5,
        }
        for i in range(300)
        for m in "ab"
    ]
    pl.DataFrame(rows).write_parquet(secret / "outcomes.parquet")
    table = r2.Table.read(secret / "outcomes.parquet", prices={m: Prices(input=1.0, output=1.0) for m in "ab"})
    assert table.notes
    r2.Recipe(encoder="fake", folds=0).fit(table).save(tmp_path / "router")
    for file in (tmp_path / "router").iterdir():
        assert b"somebodys-own-folder" not in file.read_bytes()
    assert "outcomes.parquet" in (tmp_path / "router" / "card.md").read_text()


def resave(
    folder: Path,
    router: Callable[[dict[str, Any]], Any] = lambda m: None,
    arrays: Callable[[dict[str, Any]], Any] = lambda a: None,
) -> None:
    """Alter a saved router the way somebody would who knows how: hashes and shapes fit again."""
    manifest, weights = artifact.load(folder, dict[str, Any])
    router(manifest)
    arrays(weights)
    artifact.save(folder, manifest, weights, "", version="0")


@pytest.fixture
def saved(trained: r2.Router, tmp_path: Path) -> Path:
    trained.save(tmp_path / "router")
    assert len(r2.Router.load(tmp_path / "router").arms) == len(trained.arms)
    return tmp_path / "router"


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m["policy"].update(usd=-1.0),
        lambda m: m["policy"].update(usd="much"),
        lambda m: m.update(policy={"policy": "tradeoff", "lam": 7.0}),
        lambda m: m.update(policy={"policy": "os.system"}),
        lambda m: m.update(scale=0.0),
        lambda m: m.update(scale=-1.0),
        lambda m: m.update(scale=None),
        lambda m: m.update(dim=DIM + 1),
        lambda m: m.update(dim=0),
        lambda m: m.update(dim=-1),
        lambda m: m.update(predictor="pickle"),
        lambda m: m.update(predictor="knn"),
        lambda m: m.update(threshold=None),
        lambda m: m.update(surprise=1),
        lambda m: m["models"].append(m["models"][0]),
        lambda m: m["models"].pop(),
        lambda m: m.update(models=[]),
        lambda m: m["models"][0].update(id="a@b"),
        lambda m: m["models"][0].update(usd_per_million={"input": -1, "output": 1}),
        lambda m: m["models"][0].update(usd_per_million=None),
        lambda m: m["models"][0].update(surprise=1),
        lambda m: m["input_tokens"].update(factor=[1.0]),
        lambda m: m["input_tokens"]["factor"].__setitem__(0, -1.0),
        lambda m: m["input_tokens"].update(typical=-5.0),
        lambda m: m.update(ties="dearest"),
        lambda m: m.update(temperature=0.0),
        lambda m: m.update(temperature=-1.0),
    ],
)
def test_a_manifest_that_does_not_make_sense_is_refused(saved: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    resave(saved, router=edit)
    with pytest.raises(ArtifactError) as caught:
        r2.Router.load(saved)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "edit",
    [
        lambda a: a.pop("prior.quality"),
        lambda a: a.pop("prior.tokens"),
        lambda a: a.pop("familiarity.centres"),
        lambda a: a.pop("predictor.weight"),
        lambda a: a.update({"predictor.more": np.zeros(1)}),
        lambda a: a.update({"prior.quality": a["prior.quality"][:-1]}),
        lambda a: a.update({"prior.tokens": a["prior.tokens"][None]}),
        lambda a: a.update({"prior.tokens": -a["prior.tokens"]}),
        lambda a: a.update({"prior.tokens": a["prior.tokens"] * np.inf}),
        lambda a: a.update({"prior.quality": a["prior.quality"] + 1}),
        lambda a: a.update({"familiarity.centres": a["familiarity.centres"][:, :-1]}),
        lambda a: a.update({"familiarity.centres": a["familiarity.centres"][0]}),
        lambda a: a.update({"familiarity.centres": a["familiarity.centres"][:0]}),
        lambda a: a.pop("familiarity.background"),
        lambda a: a.update({"familiarity.background": a["familiarity.background"][:, :-1]}),
        lambda a: a.update({"familiarity.background": a["familiarity.background"][:0]}),
        lambda a: a.update({"familiarity.background": a["familiarity.background"][0]}),
        lambda a: a.update({"predictor.weight": a["predictor.weight"][:-1]}),
        lambda a: a.update({"predictor.weight": a["predictor.weight"][:, :-1]}),
        lambda a: a.update({"predictor.bias": a["predictor.bias"][:-1]}),
        lambda a: a.update({"predictor.spread": a["predictor.spread"][:1]}),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    resave(saved, arrays=edit)
    with pytest.raises(ArtifactError) as caught:
        r2.Router.load(saved)
    assert len(str(caught.value).splitlines()) == 1


def test_a_newer_router_is_refused_with_what_to_do(saved: Path) -> None:
    manifest = json.loads((saved / "router.json").read_text())
    (saved / "router.json").write_text(json.dumps(manifest | {"schema": 2, "r2router": "9.9"}))
    with pytest.raises(ArtifactError, match=r"schema 2 is newer.*9\.9.*upgrade"):
        r2.Router.load(saved)


def test_a_router_of_other_arms_cannot_take_a_pool(trained: r2.Router, world: Any) -> None:
    with pytest.raises(ArtifactError, match="same order"):
        trained.with_pool(world.pool.with_arms(world.pool.arms[1:]))
    dear = r2.Pool(
        msgspec.structs.replace(m, usd_per_million=Prices(input=100.0, output=100.0)) for m in world.pool.models
    )
    np.testing.assert_allclose(
        trained.with_pool(dear).forecast_vectors(ONE, 10).cost,
        dear.cost(trained.input_tokens.estimate(np.array([10.0])), trained.forecast_vectors(ONE).tokens),
    )
