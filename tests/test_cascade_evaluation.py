"""Cascades evaluated: figures, rivals, the report, the experiment; and whatever is bad about what they get."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import r2router as r2
from cascade_world import PRICES, QUESTION, outcomes
from r2router.cascade.value import Terms
from r2router.cli import main
from r2router.evaluation.cascade_rivals import (
    LOOKING,
    MAJORITY,
    THRESHOLD,
    cascade_routing,
    chosen_rivals,
    played_rivals,
)
from r2router.evaluation.cascades import CASCADE, ROUTING, Played, _marks, played
from r2router.evaluation.contenders import HoldOutPlan
from r2router.evaluation.experiments import reproduce
from r2router.evaluation.router_forecasts import forecast_table
from r2router.report import report_page
from r2router.report.findings import Grid


def timed(n: int, seed: int = 0, **more: Any) -> pl.DataFrame:
    frame = outcomes(n, seed=seed, **more)
    tasks = pl.when(pl.int_range(pl.len()) % 6 < 3).then(pl.lit("even")).otherwise(pl.lit("odd"))
    return frame.with_columns(task=tasks, latency_s=pl.when(pl.col("model") == "large").then(3.0).otherwise(1.0))


@pytest.fixture(scope="module")
def router() -> r2.Router:
    return r2.Recipe(learner=r2.Ridge(alpha=10.0), cascade=True, resamples=0).fit(
        r2.Table.read(timed(240), prices=PRICES)
    )


@pytest.fixture(scope="module")
def table() -> r2.Table:
    return r2.Table.read(timed(140, seed=9), prices=PRICES)


@pytest.fixture(scope="module")
def game(router: r2.Router, table: r2.Table) -> Played:
    x = np.concatenate([router._encoder.encode([q]) for q in table.queries])
    found, why = played(router, forecast_table(router, table, x), x)
    assert found is not None, why
    return found


@pytest.fixture(scope="module")
def report(router: r2.Router, table: r2.Table) -> Any:
    return r2.evaluate(router, table, cascade=True, resamples=12)


def test_every_way_to_ask_has_its_figures_and_its_paired_difference(report: Any) -> None:
    found = report.cascade
    assert found is not None and found.looks
    for name in (ROUTING, THRESHOLD, "cascade routing", LOOKING, "oracle"):
        gap = found.comparison.differences[name]["area"]
        assert gap.low <= gap.value <= gap.high, name
    area = {name: row["area"].value for name, row in found.comparison.figures.items()}
    assert area["oracle"] > area[LOOKING] > area[CASCADE] > area[ROUTING]
    assert found.comparison.figures[MAJORITY]["peak"].value > 0, "all three arms cost more than any one: it has no area"
    assert "majority of one LLM" not in area and any("no LLM has three budgets" in note for note in report.notes)


def test_lines_add_up(report: Any, game: Played) -> None:
    for line, usd in zip(report.cascade.settings, game.dollars.tolist(), strict=True):
        run = game.play(Terms(usd))
        assert line.calls == run.calls.mean() and 0 <= line.needless <= 1
        seconds = np.where(
            run.arms >= 0,
            np.where(run.arms == list(map(str, game.outcomes.arms)).index("large@default"), 3.0, 1.0),
            0.0,
        )
        assert line.all_s == pytest.approx(seconds.sum(axis=1).mean()) and line.first_s <= line.all_s <= line.late_s
    assert {t.task for t in report.cascade.tasks} == {"even", "odd"} and sum(
        t.queries for t in report.cascade.tasks
    ) == 140


def test_marks_are_what_they_say_query_by_query(game: Played) -> None:
    run = game.play(Terms(float(game.dollars[7])))
    marks, right = _marks(game, run), game.right
    for i in range(len(right)):
        asked = [int(a) for a in run.arms[i] if a >= 0]
        rest = [a for a in range(3) if a not in asked]
        got = right[i, run.accepted[i]]
        assert marks.worse[i] == (max(right[i, asked]) > got)
        assert marks.needless[i] == (len(asked) > 1 and max(right[i, asked[:-1]]) >= got)
        assert marks.wrong[i] == (bool(rest) and max(right[i, rest]) > got)


def test_the_looking_oracle_asks_until_an_answer_is_right(game: Played) -> None:
    for run in played_rivals(game)[LOOKING]:
        for i, row in enumerate(run.arms.tolist()):
            asked = [arm for arm in row if arm >= 0]
            assert game.right[i, run.accepted[i]] == max(game.right[i, asked])
            assert not game.right[i, asked[:-1]].any()


def test_thresholds_and_voters_are_chosen_on_other_queries(game: Played) -> None:
    """On outcomes that are noise no choice that is scored on other queries can win."""
    rng = np.random.default_rng(1)
    noise = replace(game.outcomes, quality=rng.integers(0, 2, game.right.shape).astype(float))
    found, _ = chosen_rivals(replace(game, outcomes=noise, ratio=np.zeros(game.ratio.shape)))
    for name in (THRESHOLD, MAJORITY):
        _, quality = found[name].points(np.ones(len(game.right)))
        assert abs(quality.mean() - 0.5) < 0.08, name


def test_cascade_routing_stops_and_never_asks_twice(game: Played) -> None:
    for usd in (1e-9, float(game.dollars[6]), 1e3):
        run = cascade_routing(game, usd)
        assert (run.calls >= 1).all() and (run.accepted >= 0).all()
        assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() for row in run.arms)
    assert (cascade_routing(game, 1e-9).calls == 1).all() and cascade_routing(game, 1e3).calls.mean() > 1.2


def test_the_report_shows_it(report: Any) -> None:
    found = report.findings("typed")
    section = next(s for s in found.sections if s.title.startswith("Looking at answers"))
    grids = {part.title: part for part in section.parts if isinstance(part, Grid)}
    assert {"Ways to ask several arms", "Paired differences", "What it did", "The cascade by task"} <= set(grids)
    assert "seconds, all calls" in grids["What it did"].columns and len(grids["What it did"].rows) == 12
    assert "oracle that looks" in report_page(found) and "FrugalGPT" in report_page(found)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (
        plain["cascade"]["settings"][0]["calls"] >= 1
        and plain["cascade"]["differences"]["routing alone"]["area"]["n"] == 140
    )


def test_without_answers_it_says_so_and_has_no_section(router: r2.Router) -> None:
    bare = r2.Table.read(outcomes(60, seed=9).drop("response"), prices=PRICES)
    report = r2.evaluate(router, bare, cascade=True, resamples=5)
    assert report.cascade is None and any("no answers" in note for note in report.notes)
    assert not any("Looking" in s.title for s in report.findings().sections)


def test_answers_that_are_missing_for_some_arms_are_not_asked_for(router: r2.Router) -> None:
    gone = (
        pl.when((pl.col("model") == "middle") | (pl.int_range(pl.len()) % 11 == 0))
        .then(None)
        .otherwise(pl.col("response"))
    )
    table = r2.Table.read(timed(80, seed=3).with_columns(response=gone), prices=PRICES)
    report = r2.evaluate(router, table, cascade=True, resamples=5)
    assert report.cascade is not None
    assert all(line.calls <= 2 for line in report.cascade.settings)


def test_the_experiment_compares_and_says_where_there_is_nothing_to_look_at() -> None:
    plan, ridge = HoldOutPlan(seeds=(0,), folds=2, resamples=5), r2.Ridge(alpha=10.0)
    made = r2.Table.read(timed(160), prices=PRICES)
    from r2router.encode import embed, load_encoder

    x = embed(load_encoder("minilm"), made.queries)
    found = reproduce("cascade", made, vectors=x, plan=plan, learner=ridge)
    assert found.name == "cascade" and "Looking at answers pays here" in found.answers[0]
    assert any("threshold cascade" in answer for answer in found.answers)
    assert any("2 of 2 trainings" in answer for answer in found.answers)
    json.dumps(found.to_dict(), allow_nan=False)
    bare = reproduce("cascade", replace(made, responses=None), vectors=x, plan=plan, learner=ridge)
    assert "no answers" in bare.answers[0] and bare.sections


def test_the_commands_run(tmp_path: Path) -> None:
    timed(160).write_parquet(tmp_path / "t.parquet")
    pl.DataFrame(
        {"model": list(PRICES), "input_usd_per_million": [0.1, 0.5, 3.0], "output_usd_per_million": [0.4, 2.0, 15.0]}
    ).write_csv(tmp_path / "prices.csv")
    given = ["--prices", str(tmp_path / "prices.csv")]
    out, quick = str(tmp_path / "router"), ["--learner", "ridge:alpha=10", "--folds", "3"]
    trained = CliRunner().invoke(
        main, ["train", str(tmp_path / "t.parquet"), *given, *quick, "--cascade", "--test", "0.3", "--out", out]
    )
    assert trained.exit_code == 0, trained.output
    assert "cascade less routing alone" in trained.output
    wrong = CliRunner().invoke(main, ["train", str(tmp_path / "t.parquet"), *given, "--continue-answers", "--out", out])
    assert wrong.exit_code == 2 and "give --cascade too" in wrong.output


# -- bad input --------------------------------------------------------------------------------------------------------


def test_every_arm_seen_and_a_cap_that_is_exceeded(router: r2.Router) -> None:
    seen = [r2.Answer(str(arm), "I am not sure, it might be x.", output_tokens=150) for arm in router.arms]
    for policy in (None, r2.Value(9.0), r2.Best(1e-6), r2.Cheapest(0.99)):
        step = router.step(QUESTION, [*seen, seen[0]], policy)
        assert step.call is None and step.accept is not None
        assert step.met == (policy is None or isinstance(policy, r2.Value))
    over = router.step(QUESTION, seen[:1], r2.Best(1e-9))
    assert over.accept == 0 and not over.met and "more than the cap" in over.reason


@pytest.mark.parametrize("text", ["", "x" * 200_000, "名" * 200_000, "I am not sure. " * 14_000, "1" * 200_000])
def test_answers_that_are_empty_or_huge(router: r2.Router, text: str) -> None:
    step = router.step(QUESTION, [r2.Answer("small@default", text, output_tokens=50_000)], r2.Value(0.05))
    assert (step.call is None) != (step.accept is None)
    if not text:
        assert step.quality < 0.01 and step.call is not None
