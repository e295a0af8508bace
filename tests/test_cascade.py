"""Cascades: evidence from answers, the value of looking, steps; and whatever can be wrong with what is seen."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import r2router as r2
from cascade_world import PRICES, QUESTION, outcomes
from r2router.cascade.checks import JsonSchema, Matches, verdict
from r2router.cascade.evidence import BINS, Beliefs, Evidence
from r2router.cascade.replay import AnswerFeatures, ratios, replay
from r2router.cascade.signals import NAMES, WORDS, agreement, key_words, numbers_of, question_words, value_of
from r2router.cascade.value import STOP, Terms, expected_best, may_ask, next_arm
from r2router.table.write import write_frame


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return outcomes()


@pytest.fixture(scope="module")
def router(frame: pl.DataFrame) -> r2.Router:
    return r2.Recipe(cascade=True, resamples=0).fit(r2.Table.read(frame, prices=PRICES))


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_a_table_finds_the_answers_again_and_holds_none(frame: pl.DataFrame, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"answers{ending}"
    write_frame(frame, path)
    table = r2.Table.read(str(path), prices=PRICES)
    part = table.take([5, 3, 100]).with_arms(["large@default", "small@default"])
    assert part.responses is not None
    found = {(part.query_ids[i], part.arms[a].model): (text, why) for i, a, text, why in part.responses.cells()}
    wanted = frame.filter(pl.col("query_id").is_in(["q5", "q3", "q100"]) & pl.col("model").is_in(["large", "small"]))
    rows = wanted.select("query_id", "model", "response", "finish_reason").iter_rows()
    assert found == {(q, m): (text, why) for q, m, text, why in rows}


def test_a_written_table_keeps_its_answers(frame: pl.DataFrame, tmp_path: Path) -> None:
    table = r2.Table.read(frame, prices=PRICES).take([4, 2])
    table.write(tmp_path / "part.parquet")
    again = r2.Table.read(str(tmp_path / "part.parquet"), prices=PRICES)
    assert table.responses is not None and again.responses is not None
    assert sorted(again.responses.cells()) == sorted(table.responses.cells())


def test_the_page_in_the_docs_runs() -> None:
    page = (Path(__file__).parent.parent / "docs" / "cascade.md").read_text(encoding="utf-8")
    exec(compile("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), "docs/cascade.md", "exec"), {})


def test_a_file_that_changed_is_not_read_as_if_it_had_not(frame: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "answers.parquet"
    frame.write_parquet(path)
    table = r2.Table.read(str(path), prices=PRICES)
    frame[::-1].write_parquet(path)
    assert table.responses is not None
    with pytest.raises(r2.DataError, match=r"answers\.parquet: the file was changed after the table was read"):
        list(table.responses.cells())


def test_a_column_of_another_name_holds_the_answers(frame: pl.DataFrame) -> None:
    renamed = frame.rename({"response": "reply"})
    table = r2.Table.read(renamed, prices=PRICES, columns={"response": "reply"})
    assert table.responses is not None and len(list(table.responses.cells())) == len(frame)
    assert r2.Table.read(renamed, prices=PRICES).responses is None


# -- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "I'm not sure.",
        "Vielleicht; keine Informationen",
        "Je ne sais pas",
        "不知道",
        "lo siento, no sé",
        "わかりません",
        "не знаю",
    ],
)
def test_doubt_shows_in_several_languages(text: str) -> None:
    numbers = dict(zip(NAMES, numbers_of(frozenset(), text, 10, 10, ""), strict=True))
    assert numbers["doubt"] or numbers["refusal"]
    plain = dict(zip(NAMES, numbers_of(frozenset(), "Paris, in 1889.", 10, 10, ""), strict=True))
    assert not plain["doubt"] and not plain["refusal"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400), st.text(max_size=400))
def test_signals_of_any_text_are_finite(question: str, text: str) -> None:
    asked = question_words(question)
    assert np.isfinite(numbers_of(asked, text, math.nan, 100.0, "length", -0.5)).all()
    assert np.isnan(numbers_of(asked, text, math.nan, 100.0, "length")[-1])
    words = key_words(asked, text)[None]
    assert 0 <= agreement(words, words)[0] <= 1
    assert value_of(text) >= 0


def test_answers_that_say_the_same_agree() -> None:
    asked = question_words("Who built the tower?")
    one, same, other = (
        key_words(asked, t)[None]
        for t in ("It was Gustave Eiffel.", "Gustave Eiffel built the tower.", "The architect Renzo Piano.")
    )
    assert agreement(one, same)[0] > 0.5 > agreement(one, other)[0]
    assert value_of("so the final answer is \\boxed{42}") == value_of("42") != value_of("The answer is 41.")


# -- the value of looking ---------------------------------------------------------------------------------------------


def made_evidence(arms: int = 3, seed: int = 0, *, links: bool = False) -> Evidence:
    rng = np.random.default_rng(seed)
    names = tuple(r2.Arm.of(f"m{i}", "default") for i in range(arms))
    right, wrong = (rng.dirichlet(np.ones(BINS), arms) * 0.98 + 0.02 / BINS for _ in range(2))
    beta = np.eye(arms) + (0.3 * (1 - np.eye(arms)) if links else 0)
    plan = msgspec.structs.replace(Evidence.empty(names, 2).plan, caution=1.0, ahead=1.0)
    return replace(Evidence.empty(names, 2), beta=beta, right=right, wrong=wrong, plan=plan)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1_000), st.floats(0.05, 0.95), st.floats(0, 1))
def test_a_look_is_never_worth_less_than_accepting(seed: int, chance: float, best: float) -> None:
    evidence = made_evidence(1, seed)
    found = expected_best(np.array([[chance]]), np.array([[best]]), evidence.right, evidence.wrong)[0, 0]
    assert found >= max(chance, best) - 1e-9
    assert found <= chance + (1 - chance) * best + 1e-9  # a perfect look


def test_two_steps_are_what_enumeration_says() -> None:
    """Without links: all evidence of a first and a second look, one by one."""
    evidence = made_evidence(3, 4)
    p, cost, usd = np.array([0.3, 0.5, 0.6]), np.array([0.001, 0.01, 0.05]), 1.0

    def after(arm: int) -> list[tuple[float, float]]:
        joint, other = p[arm] * evidence.right[arm], (1 - p[arm]) * evidence.wrong[arm]
        return [(float(a + b), float(a / (a + b))) for a, b in zip(joint, other, strict=True)]

    def value(first: int) -> float:
        total = -cost[first]
        for weight, reached in after(first):
            further = [
                -cost[second] + sum(w * usd * max(reached, r) for w, r in after(second))
                for second in range(3)
                if second != first
            ]
            total += weight * max(usd * reached, *further)
        return float(total)

    beliefs = Beliefs.of(evidence, p[None], 3, WORDS)
    arm, worth = next_arm(beliefs, np.zeros(1, dtype=np.intp), cost[None], Terms(usd), more=True)
    np.testing.assert_allclose(worth[0], [value(a) for a in range(3)], rtol=1e-9)
    assert arm[0] == int(np.argmax(worth[0]))


def test_nothing_known_is_the_router_and_one_step() -> None:
    names = tuple(r2.Arm.of(f"m{i}", "default") for i in range(3))
    evidence = Evidence.empty(names, 2)
    p, cost = np.array([[0.3, 0.5, 0.6]]), np.array([[0.001, 0.01, 0.05]])
    for usd in (0.001, 0.1, 1.0, 100.0):
        beliefs, row = Beliefs.of(evidence, p, 2, WORDS), np.zeros(1, dtype=np.intp)
        arm, _ = next_arm(beliefs, row, cost, Terms(usd), more=True)
        assert arm[0] == int(np.argmax(usd * p[0] - cost[0]))
        beliefs.see(row, arm, np.zeros(1), np.zeros((1, WORDS), dtype=np.uint32), np.zeros(1, dtype=np.int64), 0)
        again, _ = next_arm(beliefs, row, may_ask(beliefs, row, cost, None), Terms(usd), more=False)
        better = [a for a in range(3) if usd * (max(p[0, a], p[0, arm[0]]) - p[0, arm[0]]) > cost[0, a]]
        assert (again[0] == STOP) == (not better)


# -- steps ------------------------------------------------------------------------------------------------------------


def test_it_looks_where_answers_tell(router: r2.Router) -> None:
    assert router.evidence is not None and router.evidence.plan.active
    policy = r2.Value(0.05)
    first = router.step(QUESTION, policy=policy)
    assert first.accept is None and first.call is not None and first.call.arm in router.arms
    sure = router.step(QUESTION, [r2.Answer("small@default", "It is name7.", output_tokens=44)], policy)
    unsure = router.step(
        QUESTION, [r2.Answer("small@default", "I am not sure, it might be other3.", output_tokens=140)], policy
    )
    assert sure.quality > unsure.quality + 0.2
    assert unsure.call is not None and unsure.call.arm != "small@default" and "likely right" in unsure.reason
    agreed = [
        r2.Answer("small@default", "It is name7.", output_tokens=44),
        r2.Answer("middle@default", "It is name7.", output_tokens=66),
    ]
    other = [agreed[0], r2.Answer("middle@default", "It is other9.", output_tokens=66)]
    assert router.step(QUESTION, agreed, policy).quality > router.step(QUESTION, other, policy).quality


def test_the_best_answer_is_accepted_and_not_the_last(router: r2.Router) -> None:
    seen = [
        r2.Answer("middle@default", "It is name7.", output_tokens=64),
        r2.Answer("small@default", "I am not sure, it might be other3.", output_tokens=150),
        r2.Answer("large@default", "", output_tokens=80),
    ]
    step = router.step(QUESTION, seen, r2.Value(10.0))
    assert step.accept == 0 and step.call is None and "no other arm may be asked" in step.reason


def test_steps_come_to_an_end_and_count_what_is_paid(router: r2.Router) -> None:
    for policy in (
        None,
        r2.Value(1.0),
        r2.Tradeoff(0.0),
        r2.Tradeoff(1.0),
        r2.Best(0.01),
        r2.Cheapest(0.99),
        r2.Cheapest(0.1),
    ):
        seen: list[r2.Answer] = []
        while (step := router.step(QUESTION, seen, policy)).call is not None:
            assert step.call.arm not in {a.arm for a in seen}
            seen.append(
                r2.Answer(str(step.call.arm), "I am not sure, it might be other3.", output_tokens=130, input_tokens=20)
            )
            assert len(seen) <= len(router.arms)
        assert step.accept is not None and math.isfinite(step.value)
        price = {arm: router.pool[arm.model].usd_per_million for arm in router.arms}
        rates = {str(arm): p for arm, p in price.items() if p is not None}
        assert step.paid == pytest.approx(sum(20e-6 * rates[a.arm].input + 130e-6 * rates[a.arm].output for a in seen))
        msgspec.json.encode(step.to_dict())


def test_caps_and_floors(router: r2.Router) -> None:
    dear = r2.Answer("large@default", "I am not sure, it might be other3.", output_tokens=3_000)
    over = router.step(QUESTION, [dear], r2.Best(0.01))
    assert over.accept == 0 and not over.met and "more than the cap" in over.reason
    within = router.step(
        QUESTION, [r2.Answer("small@default", "I am not sure, it might be x.", output_tokens=150)], r2.Best(0.0004)
    )
    assert within.call is None or within.call.cost + within.paid <= 0.0004
    low = router.step(QUESTION, [r2.Answer("small@default", "It is name7.", output_tokens=44)], r2.Cheapest(0.2))
    assert low.accept == 0 and low.met
    high = router.step(
        QUESTION, [r2.Answer("small@default", "I am not sure, it might be x.", output_tokens=150)], r2.Cheapest(0.7)
    )
    assert high.call is not None
    with pytest.raises(r2.NoFeasibleArm):
        router.step(QUESTION, policy=r2.Best(1e-9))


def test_a_policy_of_another_kind_chooses_among_what_is_left(router: r2.Router) -> None:
    class MostQuality:
        def choose(self, forecast: r2.Forecast, cost: Any) -> Any:
            return np.where(np.isfinite(cost), forecast.quality, -1.0).argmax(axis=1)

    first = router.step(QUESTION, policy=MostQuality())
    assert first.call is not None
    step = router.step(QUESTION, [r2.Answer(str(first.call.arm), "It is name7.", output_tokens=60)], MostQuality())
    assert step.accept == 0 or step.call is not None


@pytest.mark.parametrize("text", ["", " \n ", "x " * 100_000, "\ud800", "\x00" * 50, "名前" * 3_000])
def test_strange_answers(router: r2.Router, text: str) -> None:
    step = router.step(QUESTION, [r2.Answer("small@default", text, output_tokens=0)], r2.Value(0.05))
    assert (step.call is None) != (step.accept is None)
    if not text.strip():
        assert step.quality < 0.01


def test_an_arm_that_was_seen_twice_counts_as_two_answers(router: r2.Router) -> None:
    twice = [r2.Answer("small@default", "It is name7.", output_tokens=44)] * 2
    step = router.step(QUESTION, twice, r2.Value(0.05))
    assert step.call is None or step.call.arm != "small@default"
    assert step.quality >= router.step(QUESTION, twice[:1], r2.Value(0.05)).quality - 0.05


def test_what_is_wrong_with_answers_is_named(router: r2.Router) -> None:
    answer = r2.Answer("small@default", "x")
    wrong: list[tuple[Any, str]] = [
        (
            [r2.Answer("smal@default", "x")],
            r"seen\[0\]: the router does not have the arm 'smal@default' \(did you mean 'small@default'",
        ),
        ([answer, "text"], r"seen\[1\] is not an Answer"),
        (answer, "seen is Answer; give a list"),
        ([r2.Answer("small@default", "x", output_tokens=math.nan)], r"output_tokens is nan"),
        ([r2.Answer("small@default", "x", usd=-1)], r"usd is -1"),
        ([answer] * 65, "seen has 65 answers"),
    ]
    for seen, message in wrong:
        with pytest.raises(r2.QueryError, match=message):
            router.step(QUESTION, seen)
    with pytest.raises(r2.PolicyError, match="max_steps is 0"):
        router.step(QUESTION, max_steps=0)
    with pytest.raises(r2.QueryError, match="empty"):
        router.step(" ")


def test_saved_and_loaded_it_steps_the_same(router: r2.Router, tmp_path: Path) -> None:
    router.save(tmp_path / "router")
    again = r2.Router.load(tmp_path / "router")
    seen = [r2.Answer("small@default", "I am not sure, it might be x.", output_tokens=150)]
    for policy in (r2.Value(0.05), r2.Cheapest(0.6)):
        assert again.step(QUESTION, seen, policy) == router.step(QUESTION, seen, policy)


def test_other_arms_have_no_evidence_of_their_own(router: r2.Router) -> None:
    assert router.evidence is not None
    arms = (*router.arms[1:], r2.Arm.of("new", "low"))
    found = router.evidence.aligned(arms)
    assert found.arms == arms and np.isnan(found.bias[-1]) and found.beta.shape == (3, 3)
    np.testing.assert_array_equal(found.weight[0], router.evidence.weight[1])


# -- without anything to look at ---------------------------------------------------------------------------------------


def test_without_answers_it_says_so_and_is_the_router(frame: pl.DataFrame) -> None:
    router = r2.Recipe(cascade=True, resamples=0).fit(r2.Table.read(frame.drop("response"), prices=PRICES))
    assert router.evidence is None and any("no answers" in note for note in router.facts.notes)
    step, routed = router.step(QUESTION, policy=r2.Value(0.05)), router.route(QUESTION, r2.Value(0.05))
    assert step.call is not None and step.call == routed
    done = router.step(QUESTION, [r2.Answer(str(routed.arm), "It is name7.")], r2.Value(0.05))
    assert done.accept == 0 and "no cascade" in done.reason


def test_answers_that_tell_nothing_are_not_looked_at() -> None:
    """Shuffled outcomes: at most rarely does looking seem to pay."""
    frame = outcomes(telling=False).with_columns(response=pl.lit("It is so."), output_tokens=pl.lit(50.0))
    router = r2.Recipe(cascade=True, resamples=0).fit(r2.Table.read(frame, prices=PRICES))
    assert router.evidence is None or not router.evidence.plan.active
    step = router.step(QUESTION, policy=r2.Value(0.05))
    assert step.call == router.route(QUESTION, r2.Value(0.05))


def test_answers_that_are_missing_for_some_arms(frame: pl.DataFrame) -> None:
    gone = (
        pl.when((pl.col("model") == "middle") | (pl.int_range(pl.len()) % 7 == 0))
        .then(None)
        .otherwise(pl.col("response"))
    )
    router = r2.Recipe(cascade=True, resamples=0).fit(r2.Table.read(frame.with_columns(response=gone), prices=PRICES))
    step = router.step(
        QUESTION, [r2.Answer("middle@default", "I am not sure, it might be x.", output_tokens=150)], r2.Value(0.05)
    )
    assert (step.call is None) != (step.accept is None)


def test_arguments_of_the_recipe() -> None:
    with pytest.raises(r2.UsageError, match="cascade is 'yes'"):
        r2.Recipe(cascade="yes")  # type: ignore[arg-type]
    with pytest.raises(r2.ConfigError, match="max_steps=0"):
        r2.Cascade(max_steps=0)


# -- never worse ------------------------------------------------------------------------------------------------------


def test_on_other_queries_it_is_worth_more_than_routing_alone(router: r2.Router) -> None:
    table = r2.Table.read(outcomes(200, seed=9), prices=PRICES)
    forecast = router.forecast(table.queries)
    evidence, cost = router.evidence, table.cost()
    assert evidence is not None and table.responses is not None
    seen = AnswerFeatures.read(table.queries, table.responses, table.output_tokens, forecast.tokens)
    x = np.concatenate([router._encoder.encode([q]) for q in table.queries])
    ratio = ratios(evidence, x, forecast.quality, seen)
    gains = []
    for usd in np.geomspace(1e-4, 1.0, 8):
        run = replay(evidence, forecast.quality, forecast.cost, seen, ratio, Terms(float(usd)))
        alone = replay(evidence, forecast.quality, forecast.cost, seen, ratio, Terms(float(usd)), max_steps=1)
        each = np.arange(len(table))
        ours, theirs = (table.quality[each, r.accepted] - r.paid(cost) / usd for r in (run, alone))
        gains.append((ours - theirs).mean())
        assert (run.calls <= 3).all() and (alone.calls == 1).all()
    assert np.mean(gains) > 0.02


def test_a_replay_is_what_single_steps_do(router: r2.Router) -> None:
    table = r2.Table.read(outcomes(12, seed=5), prices=PRICES)
    text = {(i, a): t for i, a, t, _ in table.responses.cells()} if table.responses else {}
    forecast = router.forecast(table.queries)
    assert router.evidence is not None and table.responses is not None
    seen = AnswerFeatures.read(table.queries, table.responses, table.output_tokens, forecast.tokens)
    x = np.concatenate([router._encoder.encode([q]) for q in table.queries])
    ratio = ratios(router.evidence, x, forecast.quality, seen)
    run = replay(router.evidence, forecast.quality, forecast.cost, seen, ratio, Terms(0.05))
    for i, query in enumerate(table.queries):
        got: list[r2.Answer] = []
        while (step := router.step(query, got, r2.Value(0.05))).call is not None:
            at = router.arms.index(step.call.arm)
            got.append(
                r2.Answer(str(step.call.arm), text[i, at], float(table.output_tokens[i, at]), finish_reason="stop")
            )
        assert [router.arms.index(r2.Arm(a.arm)) for a in got] == [a for a in run.arms[i].tolist() if a >= 0]
        assert router.arms.index(r2.Arm(got[step.accept or 0].arm)) == run.accepted[i]


def test_evaluate_pays_all_calls(router: r2.Router, frame: pl.DataFrame) -> None:
    table = r2.Table.read(outcomes(120, seed=9), prices=PRICES)
    report = r2.evaluate(router, table, cascade=True, resamples=20)
    gain = report.comparison.differences["cascade"]["area"]
    assert gain.value < 0 and any("all calls paid" in note and "calls per query" not in note for note in report.notes)
    assert "threshold cascade" in report.comparison.figures and any("calls per query" in note for note in report.notes)
    cost, _ = report.comparison.points["cascade"]
    assert cost.min() > 0
    bare = r2.Table.read(outcomes(60, seed=9).drop("response"), prices=PRICES)
    assert any("no answers" in note for note in r2.evaluate(router, bare, cascade=True, resamples=5).notes)


# -- running one ------------------------------------------------------------------------------------------------------


def test_answer_runs_the_steps(router: r2.Router) -> None:
    asked = []

    async def call(decision: r2.Decision) -> r2.Answer:
        asked.append(decision.arm)
        good = decision.model == "large"
        text = "It is name7." if good else "I am not sure, it might be other3."
        return r2.Answer(str(decision.arm), text, output_tokens=90 if good else 150)

    async def run() -> Any:
        result = await router.answer(QUESTION, call, r2.Value(0.5))
        steps = [(step, answer) async for step, answer in router.answer(QUESTION, call, r2.Value(0.5))]
        return result, steps

    result, steps = asyncio.run(run())
    assert (
        result.answer.arm == "large@default"
        and result.steps[-1].accept is not None
        and result.paid == result.steps[-1].paid > 0
    )
    assert [a.arm for a in result.seen] == asked[: len(result.seen)]
    assert len(steps) == len(result.seen) + 1 and steps[-1][1] == result.answer


def test_calls_that_fail_and_deadlines(router: r2.Router) -> None:
    def fails(decision: r2.Decision) -> str:
        if decision.model != "middle":
            raise ConnectionError("refused")
        return "It is name7."

    result = asyncio.run(_awaited(router.answer(QUESTION, fails, r2.Value(0.5))))
    assert result.answer.arm == "middle@default" and all("refused" in why for _, why in result.failed)

    def never(decision: r2.Decision) -> str:
        raise ConnectionError("refused")

    with pytest.raises(r2.NoAnswer, match=r"no arm answered: .*refused"):
        asyncio.run(_awaited(router.answer(QUESTION, never)))

    order = itertools.count()

    async def slow(decision: r2.Decision) -> str:
        await asyncio.sleep(0 if next(order) == 0 else 60)
        return "I am not sure, it might be other3."

    began = time.monotonic()
    late = asyncio.run(_awaited(router.answer(QUESTION, slow, r2.Value(5.0), deadline_s=1.0)))
    assert (
        time.monotonic() - began < 30 and late.steps[-1].accept == 0 and any("deadline" in note for note in late.notes)
    )


async def _awaited(answering: Any) -> Any:
    return await answering


# -- checks -----------------------------------------------------------------------------------------------------------


def test_checks_say_what_they_say() -> None:
    assert verdict(Matches(r"^\d+$"), "q", "42") == (1.0, "") and verdict(Matches(r"^\d+$"), "q", "forty-two")[0] == 0
    pytest.importorskip("jsonschema")
    schema = JsonSchema({"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}})
    assert schema("q", '```json\n{"city": "Paris"}\n```') and schema("q", '{"city": "Paris"}')
    assert not schema("q", '{"town": 1}') and not schema("q", "Paris") and not schema("q", "[" * 100_000)
    with pytest.raises(r2.ConfigError, match="not a JSON schema"):
        JsonSchema({"type": "thing"})
    with pytest.raises(r2.ConfigError, match="not a regular expression"):
        Matches("(")


def test_a_check_that_raises_or_hangs_cannot_tell(router: r2.Router) -> None:
    def raises(question: str, answer: str) -> bool:
        raise ZeroDivisionError("oh")

    assert "ZeroDivisionError: oh" in verdict(raises, "q", "a")[1]
    found, why = verdict(lambda _q, _a: threading.Event().wait(60), "q", "a", seconds=0.05)
    assert math.isnan(found) and "did not end" in why
    assert "which is not true, false" in verdict(lambda _q, _a: "yes", "q", "a")[1]  # type: ignore[arg-type,return-value]
    result = asyncio.run(_awaited(router.answer(QUESTION, lambda d: "It is name7.", r2.Value(0.01), check=raises)))
    assert result.answer.check is None and any("ZeroDivisionError" in note for note in result.notes)


def test_a_verdict_is_the_truth_where_nothing_was_learned(router: r2.Router) -> None:
    passed = router.step(
        QUESTION, [r2.Answer("small@default", "I am not sure.", output_tokens=150, check=True)], r2.Value(10.0)
    )
    failed = router.step(
        QUESTION, [r2.Answer("large@default", "It is name7.", output_tokens=90, check=False)], r2.Value(10.0)
    )
    assert passed.accept == 0 and passed.quality > 0.97
    assert failed.call is not None and failed.quality < 0.2


def test_a_check_whose_reliability_is_learned(frame: pl.DataFrame) -> None:
    spec = r2.Cascade(check=lambda _question, answer: "not sure" not in answer)
    router = r2.Recipe(cascade=spec, resamples=0).fit(r2.Table.read(frame, prices=PRICES))
    assert router.evidence is not None
    passes, fails = router.evidence.verdict
    told = frame.with_columns(check=~pl.col("response").str.contains("not sure"))
    right = told.filter(pl.col("quality") == 1)["check"].mean()
    wrong = told.filter(pl.col("quality") == 0)["check"].mean()
    assert passes == pytest.approx(right, abs=0.02) and fails == pytest.approx(wrong, abs=0.02)
    step = router.step(
        QUESTION, [r2.Answer("small@default", "It is name7.", output_tokens=44, check=False)], r2.Value(0.05)
    )
    assert 0.003 <= step.quality < 0.9
