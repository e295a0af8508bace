"""What a cascade is expected to do: plans of one question, the first arms of many, and what the command line says of
them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import r2router as r2
from cascade_world import PRICES, QUESTION, outcomes
from r2router.cascade.replay import AnswerFeatures, ratios, replay
from r2router.cascade.value import Terms
from r2router.cli import main


@pytest.fixture(scope="module")
def router() -> r2.Router:
    return r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=True, resamples=0).fit(
        r2.Table.read(outcomes(), prices=PRICES)
    )


@pytest.fixture(scope="module")
def folder(router: r2.Router, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("plan") / "router"
    router.save(path)
    return str(path)


def test_a_plan_begins_as_the_cascade_does(router: r2.Router) -> None:
    for policy in (None, r2.Value(1e-5), r2.Value(0.05), r2.Tradeoff(0.2), r2.Best(0.001), r2.Cheapest(0.8)):
        plan, step = router.plan(QUESTION, policy), router.step(QUESTION, policy=policy)
        assert plan.first == step.call and plan.looks
        assert sum(plan.calls_share) == pytest.approx(1) and 1 <= plan.calls <= len(router.arms)
        assert plan.calls == pytest.approx(sum(k * share for k, share in enumerate(plan.calls_share, 1)))
        assert plan.cost >= plan.first.cost - 1e-15 and 0 < plan.quality <= 1
        assert sum(share for _, share in plan.second) == pytest.approx(1 - plan.calls_share[0], abs=1e-9)
        if isinstance(policy, r2.Best):
            assert plan.cost <= policy.max_cost


def test_the_first_answer_is_accepted_from_where_the_plan_says(router: r2.Router) -> None:
    """By answers that are more and more doubtful: each is accepted just where its chance is above."""
    policy = r2.Value(0.02)
    plan, sides = router.plan(QUESTION, policy), set()
    texts = (
        "It is name7.",
        "It might be name7.",
        "I am not sure, it might be x.",
        "I am not sure. Perhaps, possibly, it might be x; I cannot know.",
    )
    for text, tokens in [(text, tokens) for text in texts for tokens in (40.0, 80.0, 150.0)]:
        step = router.step(QUESTION, [r2.Answer(str(plan.first.arm), text, output_tokens=tokens)], policy)
        if abs(step.quality - plan.accept_from) > 0.02:
            assert (step.accept == 0) == (step.quality > plan.accept_from)
            sides.add(step.accept == 0)
    assert sides == {True, False}


def test_plans_are_right_on_average(router: r2.Router) -> None:
    """Expected calls, cost and quality beside what cascades came to on other queries."""
    table = r2.Table.read(outcomes(120, seed=9), prices=PRICES)
    forecast = router.forecast(table.queries)
    assert router.evidence is not None and table.responses is not None
    seen = AnswerFeatures.read(table.queries, table.responses, table.output_tokens, forecast.tokens)
    x = np.concatenate([router._encoder.encode([q]) for q in table.queries])
    run = replay(
        router.evidence,
        forecast.quality,
        forecast.cost,
        seen,
        ratios(router.evidence, x, forecast.quality, seen),
        Terms(0.05),
    )
    plans = [router.plan(query, r2.Value(0.05)) for query in table.queries[:40]]
    assert np.mean([p.calls for p in plans]) == pytest.approx(run.calls.mean(), rel=0.2)
    assert np.mean([p.cost for p in plans]) == pytest.approx(run.paid(table.cost()).mean(), rel=0.25)
    got = table.quality[np.arange(len(table)), run.accepted].mean()
    assert np.mean([p.quality for p in plans]) == pytest.approx(got, abs=0.1)


@pytest.mark.parametrize(
    "policy", [None, r2.Value(0.05), r2.Value(1e-6), r2.Tradeoff(0.4), r2.Best(0.001), r2.Best(1e-9), r2.Cheapest(0.6)]
)
def test_the_first_arms_of_many_are_those_of_single_steps(router: r2.Router, policy: r2.Policy | None) -> None:
    texts = [f"Which of the old long blue lost kings number {i} is it?" for i in range(7)]
    x = np.concatenate([router._encoder.encode([text]) for text in texts])
    from r2router.encode import count_tokens

    found = router.first_steps(x, policy, count_tokens(texts), exclude=["middle"])
    for text, arm, cost, quality in zip(texts, found.arm.tolist(), found.cost, found.quality, strict=True):
        if arm < 0:
            with pytest.raises(r2.NoFeasibleArm):
                router.step(text, policy=policy, exclude=["middle"])
            continue
        step = router.step(text, policy=policy, exclude=["middle"])
        assert step.call is not None and step.call.arm == router.arms[arm]
        assert (step.call.cost, step.call.quality) == (pytest.approx(cost), pytest.approx(quality))


def test_without_a_cascade_first_arms_and_plans_are_the_routers() -> None:
    table = r2.Table.read(outcomes(60).drop("response"), prices=PRICES)
    router = r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=True, resamples=0).fit(table)
    x = router._encoder.encode([QUESTION])
    np.testing.assert_array_equal(router.first_steps(x, r2.Value(0.01)).arm, router.decide(x, r2.Value(0.01)).arm)
    plan = router.plan(QUESTION, r2.Value(0.01))
    assert (
        not plan.looks
        and plan.calls == 1
        and plan.first == router.route(QUESTION, r2.Value(0.01))
        and "no cascade" in plan.reason
    )
    assert len(router.first_steps(x[:0])) == 0


def test_the_command_shows_the_plan(folder: str, router: r2.Router) -> None:
    asked = ["route", "--router", folder, "--cascade", "--value", "0.05", QUESTION]
    shown = CliRunner().invoke(main, asked, catch_exceptions=False)
    assert shown.exit_code == 0
    plan = router.plan(QUESTION, r2.Value(0.05))
    assert shown.stdout.splitlines()[0] == str(plan.first.arm)
    said = " ".join(shown.stdout.split())
    assert f"{plan.calls:.2f} expected" in said and "is accepted" in said and "for all calls" in said
    found = json.loads(CliRunner().invoke(main, [*asked, "--json"]).stdout)
    assert found["arm"] == str(plan.first.arm) and found["plan"]["calls"] == pytest.approx(plan.calls)
    assert found["plan"]["second"] == [[arm, pytest.approx(share)] for arm, share in plan.second]


def test_a_router_without_a_cascade_says_so_in_words(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["route", "--cascade", QUESTION])
    assert shown.exit_code == 0 and "This router has no cascade" in " ".join(shown.stdout.split())
    found = json.loads(CliRunner().invoke(main, ["route", "--cascade", "--json", QUESTION]).stdout)
    assert found["plan"]["looks"] is False and found["plan"]["calls"] == 1
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    wrong = CliRunner().invoke(main, ["route", "--cascade", "--input", str(tmp_path / "a.txt")])
    assert wrong.exit_code == 2 and "first_steps" in wrong.stderr


# -- other arms than those of training
# ------------------------------------------------------------------------------------


def test_a_router_of_some_models_looks_with_what_is_left(router: r2.Router, folder: str) -> None:
    mine = router.only(["small", "large"])
    assert mine.looks is not None and mine.looks.arms == mine.arms == ("small@default", "large@default")
    unsure = [r2.Answer("small@default", "I am not sure, it might be x.", output_tokens=150)]
    step = mine.step(QUESTION, unsure, r2.Value(0.05))
    assert step.call is not None and step.call.arm == "large@default"
    assert step.quality == pytest.approx(router.step(QUESTION, unsure, r2.Value(0.05)).quality)
    with pytest.raises(r2.QueryError, match="does not have the arm 'middle@default'"):
        mine.step(QUESTION, [r2.Answer("middle@default", "It is name7.")])
    asked = ["route", "--router", folder, "--cascade", "--models", "small,large", "--value", "0.05", "--json", QUESTION]
    found = json.loads(CliRunner().invoke(main, asked, catch_exceptions=False).stdout)
    assert {found["arm"], *(arm for arm, _ in found["plan"]["second"])} <= set(map(str, mine.arms))


def test_a_stand_in_shows_what_its_model_would(router: r2.Router) -> None:
    mine = router.only(like={"mine": "small:0.1/0.4"})
    for text in ("It is name7.", "I am not sure, it might be x."):
        own, other = (
            mine.step(QUESTION, [r2.Answer(f"{m}@default", text, output_tokens=60)], r2.Value(1e-9))
            for m in ("mine", "small")
        )
        assert own.quality == pytest.approx(other.quality)


def test_an_added_model_is_asked_and_its_answers_are_read_by_what_all_answers_show(router: r2.Router) -> None:
    frame = outcomes(120, seed=4)
    import polars as pl

    late = frame.filter(pl.col("model") == "large").with_columns(model=pl.lit("late"))
    table = r2.Table.read(late, prices={"late": r2.Prices(0.01, 0.04)})
    wider = router.add_model("late", table)
    assert wider.looks is not None and wider.looks.arms == wider.arms and "late@default" in wider.arms
    first = wider.step(QUESTION, policy=r2.Value(0.05))
    assert first.call is not None and first.call.arm in wider.arms
    sure, unsure = (
        wider.step(QUESTION, [r2.Answer("late@default", text, output_tokens=tokens)], r2.Value(0.05)).quality
        for text, tokens in (("It is name7.", 80), ("I am not sure, it might be x.", 240))
    )
    assert sure > unsure
    assert wider.plan(QUESTION, r2.Value(0.05)).calls >= 1
