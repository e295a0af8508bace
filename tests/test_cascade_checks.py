"""Checks of the user's own, log-probabilities, and answers that are continued."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

import r2router as r2
from cascade_world import PRICES, QUESTION, outcomes
from r2router.bench.checks import PassesTests, Scored
from r2router.bench.suite import Query
from r2router.cascade.checks import Matches, verdict
from r2router.cascade.evidence import Beliefs, Evidence
from r2router.cascade.resume import Resumes
from r2router.cascade.signals import WORDS
from r2router.cascade.value import Terms, next_arm
from r2router.mini import mini


@pytest.fixture(scope="module")
def router() -> r2.Router:
    return r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=True, resamples=0).fit(
        r2.Table.read(outcomes(), prices=PRICES)
    )


@pytest.fixture(scope="module")
def bare() -> r2.Router:
    """Without a cascade."""
    return r2.Recipe(learner=r2.Ridge(alpha=10.0), resamples=0).fit(r2.Table.read(outcomes(120), prices=PRICES))


def run(router: r2.Router, texts: dict[str, str], check: Any, policy: r2.Policy | None = None, **more: Any) -> Any:
    """The result of a cascade in which each model answers as `texts` says."""

    async def call(decision: r2.Decision) -> r2.Answer:
        return r2.Answer(str(decision.arm), texts[decision.model], output_tokens=60)

    async def awaited() -> Any:
        return await router.answer(QUESTION, call, policy or r2.Value(1.0), check=check, **more)

    return asyncio.run(awaited())


# -- the truth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passing", [{"small"}, {"middle"}, {"large"}, {"small", "large"}, {"middle", "large"}, set()])
@pytest.mark.parametrize("policy", [r2.Value(1.0), r2.Best(0.05), r2.Cheapest(0.9), r2.Tradeoff(0.01)])
def test_the_cheapest_that_passes_wins(
    router: r2.Router, bare: r2.Router, passing: set[str], policy: r2.Policy
) -> None:
    """Where the check is the truth: with evidence, and without any."""
    texts = {model: f"right by {model}" if model in passing else f"wrong by {model}" for model in PRICES}
    for one in (router, bare):
        result = run(one, texts, lambda _q, answer: answer.startswith("right"), policy)
        if passing:
            assert result.answer.text == texts[next(m for m in PRICES if m in passing)]
            assert result.steps[-1].quality == 1.0 and result.seen[-1] == result.answer
        else:
            assert len(result.seen) == 3 and result.steps[-1].quality < 0.01
        assert [a.arm for a in result.seen] == [f"{m}@default" for m in PRICES][: len(result.seen)]


def test_a_pass_is_not_bought_for_more_than_it_is_worth(bare: r2.Router) -> None:
    result = run(bare, dict.fromkeys(PRICES, "wrong"), lambda _q, _a: False, r2.Value(0.0005))
    assert "large@default" not in {a.arm for a in result.seen}


@pytest.mark.parametrize("said", [np.True_, 1, 1.0, True])
def test_a_verdict_of_any_kind_of_truth(bare: r2.Router, said: Any) -> None:
    assert run(bare, dict.fromkeys(PRICES, "x"), lambda _q, _a: said).answer.arm == "small@default"


def test_a_share_that_passes_is_weaker_than_a_pass(router: r2.Router) -> None:
    some, more = (
        router.step(
            QUESTION, [r2.Answer("small@default", "It is name7.", output_tokens=44, check=share)], r2.Value(0.05)
        ).quality
        for share in (0.2, 0.8)
    )
    assert some < more < 1


def test_the_order_until_one_passes_is_the_best_of_all_orders() -> None:
    """Three of six arms may be asked: beside every ordered choice of up to three."""
    rng, names = np.random.default_rng(0), tuple(r2.Arm.of(f"m{i}", "low") for i in range(6))

    def value(order: tuple[int, ...]) -> float:
        total, left = 0.0, 1.0
        for arm in order:
            total, left = total + left * (usd * p[arm] - cost[arm]), left * (1 - p[arm])
        return total

    for _ in range(40):
        p, cost, usd = rng.uniform(0.05, 0.9, 6), 10 ** rng.uniform(-4, -1, 6), 10 ** rng.uniform(-3, 1)
        beliefs = Beliefs.of(Evidence.empty(names, 2), p[None], 3, WORDS)
        arm, _ = next_arm(beliefs, np.zeros(1, dtype=np.intp), cost[None], Terms(usd, truth=True), 2)
        orders = [order for count in (1, 2, 3) for order in itertools.permutations(range(6), count)]
        best = max(value(order) for order in orders)
        assert max(value(order) for order in orders if order[0] == arm[0]) == pytest.approx(best)


# -- kinds of checks --------------------------------------------------------------------------------------------------


def test_a_programs_tests_run_in_the_sandbox_and_decide(bare: r2.Router) -> None:
    from r2router.bench.scoring.sandbox import isolation

    if isolation() is None:
        pytest.skip("no sandbox works here")
    check = PassesTests("assert double(3) == 6 and double(-1) == -2")
    texts = {
        "small": "```python\ndef double(x):\n    return x + 3\n```",
        "middle": "```python\ndef double(x):\n    return 2 * x\n```",
        "large": "I cannot.",
    }
    result = run(bare, texts, check)
    assert result.answer.arm == "middle@default" and len(result.seen) == 2 and not result.notes
    assert verdict(PassesTests("def check(f):\n    assert f(2) == 4", "double"), "q", texts["middle"]) == (1.0, "")
    with pytest.raises(r2.ConfigError, match="no tests"):
        PassesTests("  ")


def test_a_scorer_of_the_bench_is_a_check(bare: r2.Router) -> None:
    check = Scored.by_reference("numeric", {QUESTION: "42"})
    texts = {"small": "The answer is 41.", "middle": "So the final answer is 42.", "large": "42"}
    assert run(bare, texts, check).answer.arm == "middle@default"
    assert math.isnan(verdict(check, "another question", "42")[0])
    assert Scored.by_suite("exact", [Query(id="1", text="q", reference="Paris")])("q", "Paris") == 1
    for wrong, message in (
        (lambda: Scored.by_reference("numerc", {"q": "1"}), "did you mean 'numeric'"),
        (lambda: Scored("exact", {"q": Query(id="1", text="q")}), "no query has a reference"),
        (lambda: Scored("code-trusted", {"q": Query(id="1", text="q")}), "without a sandbox"),
    ):
        with pytest.raises(r2.R2Error, match=message):
            wrong()


def test_a_check_may_be_a_coroutine(bare: r2.Router) -> None:
    async def check(question: str, answer: str) -> bool:
        await asyncio.sleep(0)
        return answer == "yes"

    assert run(bare, {"small": "no", "middle": "yes", "large": "yes"}, check).answer.arm == "middle@default"


def test_a_pattern_that_would_run_for_ages_cannot_tell() -> None:
    pytest.importorskip("regex")
    found, _ = verdict(Matches(r"^(a|aa)+$"), "q", "a" * 60 + "!")
    assert math.isnan(found), "re would take years"


def checks_that_fail() -> list[Callable[[str, str], Any]]:
    def raises(question: str, answer: str) -> bool:
        raise RuntimeError("broken")

    def hangs(question: str, answer: str) -> bool:
        time.sleep(5)
        return True

    return [raises, hangs, lambda _q, _a: "yes", lambda _q, _a: 7, lambda _q, _a: math.nan]


@pytest.mark.parametrize("check", checks_that_fail(), ids=["raises", "hangs", "says yes", "says 7", "says NaN"])
def test_a_check_that_fails_leaves_the_cascade_as_it_is(router: r2.Router, check: Any) -> None:
    question = router.answer(QUESTION, lambda decision: "It is name7.", r2.Value(0.05), check=check)
    question.check_seconds = 0.05

    async def awaited() -> Any:
        return await question

    result = asyncio.run(awaited())
    assert result.answer.check is None and len(result.notes) == len(result.seen)


def test_a_check_that_hangs_in_training_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import r2router.cascade.replay as module

    monkeypatch.setattr(module, "SECONDS", 0.05)
    asked = []

    def hangs(question: str, answer: str) -> bool:
        asked.append(1)
        time.sleep(0.1)
        return True

    r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=r2.Cascade(check=hangs), resamples=0).fit(
        r2.Table.read(outcomes(70), prices=PRICES)
    )
    assert len(asked) == 3


# -- log-probabilities ------------------------------------------------------------------------------------------------


def test_log_probabilities_of_a_table_are_evidence() -> None:
    """All answers read the same; only how sure the tokens were tells right from wrong."""
    rng = np.random.default_rng(0)
    frame = outcomes(200, telling=False).with_columns(output_tokens=pl.lit(50.0))
    noise = rng.normal(0, 0.15, len(frame))
    frame = frame.with_columns(
        response=pl.lit("It is so."), logprob=pl.Series(-0.3 - 1.2 * (1 - frame["quality"].to_numpy()) + noise)
    )
    router = r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=True, resamples=0).fit(r2.Table.read(frame, prices=PRICES))
    assert router.evidence is not None and router.evidence.plan.active

    def quality(logprobs: tuple[float, ...] | None) -> float:
        answer = r2.Answer("small@default", "It is so.", output_tokens=50, logprobs=logprobs)
        return router.step(QUESTION, [answer], r2.Value(0.05)).quality

    sure, unknown, unsure = quality((-0.2, -0.4)), quality(None), quality((-1.5, -1.5, -1.4))
    assert sure > unknown + 0.1 > unsure + 0.2
    assert quality((math.nan, -math.inf)) == unknown and quality(()) == unknown
    with pytest.raises(r2.QueryError, match="logprobs are numbers"):
        quality(("high",))  # type: ignore[arg-type]


def test_where_a_table_has_none_they_change_nothing(router: r2.Router) -> None:
    steps = [
        router.step(
            QUESTION, [r2.Answer("small@default", "It is name7.", output_tokens=44, logprobs=logprobs)], r2.Value(0.05)
        )
        for logprobs in (None, (-0.01,), (-9.0,) * 50)
    ]
    assert steps[0].quality == pytest.approx(steps[1].quality, abs=1e-3) == pytest.approx(steps[2].quality, abs=1e-3)


def test_numbers_beside_answers_are_read_and_written(tmp_path: Any) -> None:
    frame = outcomes(10).with_columns(logprob=pl.lit(-0.5), latency_s=pl.int_range(pl.len()) / 10)
    table = r2.Table.read(frame, prices=PRICES)
    table.write(tmp_path / "t.csv")
    again = r2.Table.read(str(tmp_path / "t.csv"), prices=PRICES)
    assert table.responses is not None and again.responses is not None
    assert sorted(again.responses.replies()) == sorted(table.responses.replies())
    assert {reply.logprob for reply in again.responses.replies()} == {-0.5}


# -- answers that go on -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def going_on() -> r2.Router:
    return r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=r2.Cascade(continue_answers=True), resamples=0).fit(
        mini().take(np.arange(120))
    )


def test_only_the_same_models_larger_budget_goes_on(going_on: r2.Router) -> None:
    found = Resumes.of(going_on.pool, going_on.controls)
    assert found is not None
    for i, one in enumerate(going_on.arms):
        for j, other in enumerate(going_on.arms):
            assert found.goes[i, j] == (one.model == other.model and int(one.budget) < int(other.budget))
    assert Resumes.of(mini("r2bench-mini-instruction").pool) is None


def test_what_is_written_already_is_paid_as_input(going_on: r2.Router) -> None:
    text, arms = "Solve for x: 7*x + 3 = 59", [str(a) for a in going_on.arms]
    prices = going_on.pool["qwen2.5-coder-1.5b"].usd_per_million
    assert prices is not None
    short = r2.Answer("qwen2.5-coder-1.5b@30", "x =", output_tokens=40, input_tokens=50)
    long = r2.Answer("qwen2.5-coder-1.5b@150", "x = 8", output_tokens=160, input_tokens=50)
    afresh = going_on.step(text, [short, long], r2.Value(1e-9)).paid
    on = going_on.step(text, [short, r2.Answer(long.arm, long.text, 160, 50, continues=0)], r2.Value(1e-9)).paid
    # thirty tokens of the chain, and not the closing words
    assert afresh - on == pytest.approx(30e-6 * (prices.output - prices.input))
    other = r2.Answer("smollm2-135m@30", "x", 40, 50)
    assert going_on.step(
        text, [other, r2.Answer(long.arm, "x", 160, 50, continues=0)], r2.Value(1e-9)
    ).paid == pytest.approx(going_on.step(text, [other, r2.Answer(long.arm, "x", 160, 50)], r2.Value(1e-9)).paid)
    seen = [r2.Answer(arm, "no idea", output_tokens=40, input_tokens=50) for arm in arms if arm.endswith("@30")]
    step = going_on.step(text, seen, r2.Value(1.0), max_steps=9)
    if step.call is not None and step.continues is not None:
        assert (
            seen[step.continues].arm.split("@")[0] == step.call.model
            and step.call.cost < going_on.forecast(text).cost[0, arms.index(str(step.call.arm))]
        )
    with pytest.raises(r2.QueryError, match="continues is 1"):
        going_on.step(text, [r2.Answer(arms[0], "x", continues=1)])


def test_answers_are_continued_by_the_callers_function_or_not_at_all(going_on: r2.Router) -> None:
    policy = r2.Value(1.0)

    def call(decision: r2.Decision) -> r2.Answer:
        return r2.Answer(str(decision.arm), "no idea", output_tokens=decision.tokens)

    def go_on(decision: r2.Decision, before: r2.Answer) -> r2.Answer:
        assert before.arm.split("@")[0] == decision.model
        return r2.Answer(str(decision.arm), before.text + ", none", output_tokens=decision.tokens)

    async def both() -> Any:
        text = "Solve for x: 7*x + 3 = 59"
        return await router.answer(text, call, policy), await router.answer(text, call, policy, go_on=go_on)

    from dataclasses import replace

    import msgspec

    assert going_on.evidence is not None
    plan = msgspec.structs.replace(going_on.evidence.plan, active=True, caution=0.8)
    router = replace(going_on, evidence=replace(going_on.evidence, plan=plan))
    afresh, on = asyncio.run(both())
    assert all(answer.continues is None for answer in afresh.seen)
    assert any(answer.continues is not None for answer in on.seen)


def test_where_nothing_goes_on_the_recipe_says_so() -> None:
    with pytest.raises(r2.ConfigError, match="prefix_sharing"):
        r2.Recipe(cascade=r2.Cascade(continue_answers=True), resamples=0).fit(
            r2.Table.read(outcomes(100), prices=PRICES)
        )
