"""Decisions are made in one place: whoever asks, and however, gets the same arm for the same request."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

import r2router as r2
from r2router.cli import main
from r2router.encode import count_tokens
from r2router.errors import DataError, NoFeasibleArm, PolicyError, QueryError
from r2router.evaluation import calibrate
from r2router.evaluation.own_policy import OwnDecisions
from r2router.evaluation.router_forecasts import forecast_table
from r2router.types import FloatArray, Forecast, IntArray

SOURCE = Path(r2.__file__).parent


@pytest.fixture(scope="module")
def table(world: Any) -> r2.Table:
    """Outcomes in which longer answers are better, so that a cap may fall between two budgets; the model that is off is
    the best.
    """
    rng = np.random.default_rng(1)
    topic = np.arange(len(world.table)) % 6
    step = np.array([0.0, 0.2, 0.25, 0.15, 0.4, 0.6, 0.5, 0.7])
    quality = np.clip(0.1 + 0.04 * topic[:, None] + step + rng.normal(0, 0.03, (len(topic), len(step))), 0, 1)
    return replace(world.table, quality=quality)


@pytest.fixture(scope="module")
def saved(table: r2.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A router whose best model is switched off, and whose `small` has a context that some prompts fill."""
    from conftest import FakeEncoder
    from r2router.encode import ENCODERS

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "fake", lambda _: FakeEncoder())
        trained = r2.Recipe(encoder="fake", folds=2, resamples=5).fit(table)
    models = [msgspec.structs.replace(m, available=m.id != "thinker") for m in trained.pool.models]
    folder = tmp_path_factory.mktemp("one") / "router"
    trained.with_pool(r2.Pool(models)).save(folder)
    return folder


@pytest.fixture
def router(saved: Path, fake_encoder: Any) -> r2.Router:
    return r2.Router.load(saved)


def mean_cap(router: r2.Router, texts: tuple[str, ...]) -> float:
    """A cap that falls between two budgets on many queries."""
    cost, column = router.forecast(texts).cost, router.pool.index
    return float((cost[:, column["large@50"]].mean() + cost[:, column["large@200"]].mean()) / 2)


@pytest.mark.parametrize("kind", ["own", "tradeoff", "value", "cheapest", "best"])
def test_everything_decides_alike(router: r2.Router, saved: Path, table: r2.Table, kind: str, tmp_path: Path) -> None:
    cap = mean_cap(router, table.queries)
    policy, flags = {
        "own": (None, []),
        "tradeoff": (r2.Tradeoff(0.2), ["--lambda", "0.2"]),
        "value": (r2.Value(0.01), ["--value", "0.01"]),
        "cheapest": (r2.Cheapest(0.7), ["--min-quality", "0.7"]),
        "best": (r2.Best(cap), ["--max-cost", repr(cap)]),
    }[kind]
    one_by_one = [str(router.route(text, policy).arm) for text in table.queries]
    assert not {arm for arm in one_by_one if arm.startswith("thinker")}, "that model is off"

    counts = count_tokens(table.queries)
    vectors = router._encoder.encode(table.queries)
    for choices in (
        router.decide(vectors, policy, counts),
        router.choose(router.forecast(table.queries), policy),
        router.choose(router.forecast_vectors(vectors, counts), policy, router.usable(counts=counts)),
    ):
        assert [str(a) for a in router.chosen_arms(choices)] == one_by_one

    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps({"query": text}) + "\n" for text in table.queries))
    run = CliRunner().invoke(
        main, ["route", "--router", str(saved), "--input", str(source), "--output", str(target), *flags]
    )
    assert run.exit_code == 0, run.output
    assert [json.loads(line)["arm"] for line in target.read_text().splitlines()] == one_by_one
    run = CliRunner().invoke(main, ["route", "--router", str(saved), "--json", *flags, table.queries[3]])
    assert json.loads(run.output)["arm"] == one_by_one[3]

    own = router if policy is None else router.with_policy(policy)
    decided = OwnDecisions.of(own, forecast_table(own, table))
    assert [str(a) for a in router.chosen_arms(decided.choices)] == one_by_one, "all cells were observed"

    report = r2.evaluate(own, table, resamples=5)
    expected = Counter(arm if arm in router.pool.index else "between" for arm in one_by_one)
    shares: Counter[str] = Counter()
    for arm, share in report.shares:
        shares[arm if arm in router.pool.index else "between"] += share  # type: ignore[assignment]
    assert {k: round(v * len(one_by_one)) for k, v in shares.items()} == dict(expected)
    assert (expected["between"] > 20) == (kind == "best")
    assert not any("thinker" in arm for arm in report.fixed_arms), "what cannot be chosen is no rival either"
    assert any("'thinker'" in note and "not available" in note for note in report.notes)
    assert "thinker@" not in str(report).split("note: ")[0].replace("unknown", "")


def test_between_two_budgets_the_outcome_lies_between(router: r2.Router, table: r2.Table) -> None:
    own = router.with_policy(r2.Best(mean_cap(router, table.queries)))
    evaluated = forecast_table(own, table)
    decided, quality = OwnDecisions.of(own, evaluated), evaluated.outcomes.quality
    high, share = own.neighbours(decided.choices)
    assert ((share >= 0) & (share < 1)).all() and (share > 0).sum() > 20
    for at, row in enumerate(decided.rows):
        low_q, high_q = quality[row, decided.choices.arm[at]], quality[row, high[at]]
        assert decided.quality[at] == pytest.approx(low_q + share[at] * (high_q - low_q))
    before = decided.choices.budget_tokens
    low, above = own.pool.budget_tokens[decided.choices.arm], own.pool.budget_tokens[high]
    np.testing.assert_allclose(np.where(share > 0, low + share * (above - low), before), before)


def test_a_table_of_models_that_are_off_is_an_error(router: r2.Router, table: r2.Table) -> None:
    models = [msgspec.structs.replace(m, available=False) for m in router.pool.models]
    with pytest.raises(DataError, match=r"available = true"):
        r2.evaluate(router.with_pool(r2.Pool(models)), table, resamples=2)


def test_calibration_sees_what_a_request_sees(router: r2.Router, table: r2.Table) -> None:
    found = calibrate(router, table, spend=1.0)
    chosen = router.decide(router._encoder.encode(table.queries), found.policy, count_tokens(table.queries))
    rows = np.arange(len(table))
    assert float(table.quality[rows, chosen.arm].mean()) == pytest.approx(found.quality)


def test_a_report_says_on_how_many_queries_a_cap_leaves_no_arm(router: r2.Router, table: r2.Table) -> None:
    cheapest = router.forecast(table.queries).cost[:, :6].min(axis=1)
    cap = float(np.mean([cheapest.min(), cheapest.max()]))
    without = int((cheapest > cap).sum())
    assert 0 < without < 240
    report = r2.evaluate(router.with_policy(r2.Best(cap)), table, resamples=2)
    assert any("without an arm" in note and f"{without} of 240" in note for note in report.notes), report.notes
    nothing = r2.evaluate(router.with_policy(r2.Best(0.0)), table, resamples=2)
    assert any("240 of 240" in note for note in nothing.notes) and nothing.shares == ()
    assert np.isnan(nothing.own[0].value)
    assert str(nothing)


def test_the_best_arm_does_not_vanish_because_a_table_lacks_it_on_some_queries(
    router: r2.Router, table: r2.Table
) -> None:
    best = router.pool.index["large@800"]
    quality = table.quality.copy()
    quality[: len(quality) // 10, best] = np.nan
    report = r2.evaluate(router, replace(table, quality=quality), resamples=2)
    assert "large@800" not in report.fixed_arms
    assert any("large@800 (90%)" in note for note in report.notes)
    assert any(re.search(r"216 queries that both answered, large@800 is 0\.(19|20)", note) for note in report.notes), (
        report.notes
    )
    assert not any("fixed arms here" in note for note in r2.evaluate(router, table, resamples=2).notes)


# -- masks and forecasts
# ------------------------------------------------------------------------------------------------


def test_a_mask_can_only_take_away(router: r2.Router, table: r2.Table) -> None:
    forecast, best = router.forecast(table.queries[:4]), r2.Tradeoff(0.0)
    everything = np.ones(len(router.arms), dtype=np.bool_)
    assert router.choose(forecast, best, everything).arm.tolist() == router.choose(forecast, best).arm.tolist()
    only = np.zeros((4, len(router.arms)), dtype=np.bool_)
    only[np.arange(4), [0, 1, 6, 3]] = True
    assert router.choose(forecast, best, only).arm.tolist() == [0, 1, -1, 3], "6 is an arm of the model that is off"
    with pytest.raises(NoFeasibleArm):
        router.explain(router.forecast("topic 1 what?"), best, only[2])


def test_forecasts_and_masks_of_something_else_are_refused(router: r2.Router) -> None:
    forecast, arms = router.forecast(["topic 1 a?", "topic 2 b?"]), len(router.arms)
    with pytest.raises(QueryError, match="other arms"):
        router.choose(msgspec.structs.replace(forecast, arms=forecast.arms[::-1]))
    with pytest.raises(QueryError, match="no cost"):
        router.choose(Forecast.of(forecast.arms, forecast.quality, forecast.tokens, forecast.spread))
    for wrong in (np.ones(arms), np.ones(arms + 1, dtype=np.bool_), np.ones((3, arms), dtype=np.bool_), "all"):
        with pytest.raises(QueryError, match="usable is"):
            router.choose(forecast, None, wrong)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="one query"):
        router.explain(forecast)


# -- policies of others
# -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cautious:
    """The best quality less some spreads: a policy that this package does not have."""

    spreads: float = 1.0

    def choose(self, forecast: Forecast, cost: FloatArray) -> IntArray:
        return np.where(np.isfinite(cost), forecast.quality - self.spreads * forecast.spread, -np.inf).argmax(axis=1)


@dataclass(frozen=True)
class Always:
    """One arm, whether it may be used or not."""

    arm: Any = 0

    def choose(self, forecast: Forecast, cost: FloatArray) -> Any:
        return np.full(len(cost), self.arm) if np.ndim(self.arm) == 0 else self.arm


def test_any_policy_will_do(router: r2.Router, table: r2.Table, tmp_path: Path) -> None:
    policy = Cautious()
    arms = [str(router.route(text, policy).arm) for text in table.queries[:40]]
    assert [str(a) for a in router.chosen_arms(router.choose(router.forecast(table.queries[:40]), policy))] == arms
    decision = router.route(table.queries[0], policy)
    assert "Cautious" in decision.reason and decision.met and decision.fallbacks
    own = router.with_policy(policy)
    assert own.route(table.queries[0]).arm == decision.arm
    report = r2.evaluate(own, table, resamples=5)
    assert report.own_policy == "Cautious" and "Cautious" in str(report)
    with pytest.raises(PolicyError, match="Cautious cannot be saved"):
        own.save(tmp_path / "router")
    assert not (tmp_path / "router").exists()


def test_a_policy_that_chooses_what_may_not_be_used_chooses_nothing(router: r2.Router, table: r2.Table) -> None:
    index = router.pool.index
    decision = router.route("topic 1 a?", Always(index["large@50"]))
    assert decision.arm == "large@50" and decision.fallbacks == ()
    off = Always(index["thinker@low"])
    assert router.decide(router._encoder.encode(table.queries), off).arm.tolist() == [-1] * len(table)
    with pytest.raises(NoFeasibleArm, match="Always chose no arm that may be used"):
        router.route("topic 1 a?", off)


@pytest.mark.parametrize("answer", [99, -2, 0.5, True, [0], [[0, 1, 2]], ["large@50"] * 3, [[0], [1, 2], [3]]], ids=str)
def test_a_policy_that_answers_no_arms_is_an_error(router: r2.Router, answer: Any) -> None:
    with pytest.raises(PolicyError, match=r"Always\.choose"):
        router.choose(router.forecast(["topic 1 a?", "topic 2 b?", "topic 3 c?"]), Always(answer))


@pytest.mark.parametrize("wrong", [r2.Value, "value", 0.3], ids=str)
def test_what_is_no_policy_is_an_error(router: r2.Router, wrong: Any) -> None:
    for ask in (lambda: router.route("topic 1 a?", wrong), lambda: router.with_policy(wrong)):
        with pytest.raises(PolicyError, match="not a policy"):
            ask()
    with pytest.raises(PolicyError, match="not a policy"):
        router.route("topic 1 a?", router)  # type: ignore[arg-type]


# -- and it stays so
# ----------------------------------------------------------------------------------------------------


def test_only_the_router_puts_forecast_policy_and_pool_together() -> None:
    callers = {}
    for path in SOURCE.rglob("*.py"):
        called = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        if called & {"decide", "ranked", "anchor_pairs"} and path.parent.name != "cli":
            callers[str(path.relative_to(SOURCE))] = called & {"decide", "ranked", "anchor_pairs"}
    assert callers == {"router/router.py": {"decide", "ranked", "anchor_pairs"}}
