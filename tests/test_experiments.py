"""The paper's experiments on small tables: each runs, is right where the answer is known, and says so where it cannot
be had.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from r2router.errors import ConfigError, DataError
from r2router.evaluation.contenders import EmbeddedTable, HoldOutPlan
from r2router.evaluation.experiments import EXPERIMENTS, reproduce
from r2router.evaluation.experiments.anchors import anchor_arms, neighbours
from r2router.evaluation.experiments.curves import _gain, _means
from r2router.evaluation.experiments.judge import agreement
from r2router.evaluation.experiments.main import ahead_of_baselines
from r2router.evaluation.methods import BASELINES, OURS
from r2router.metrics.crossfit import halves_of
from r2router.metrics.intervals import interval, weights
from r2router.metrics.score import Outcomes
from r2router.pool.pool import Pool
from r2router.predict.linear import Ridge
from r2router.report import report_page
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Plot
from r2router.table.table import Table
from r2router.types import Arm, Budget, FloatArray, Model, Prices

SMALL = HoldOutPlan(seeds=(0,), folds=3, resamples=8)
DIM = 6


def world(
    n: int = 60, budgets: tuple[int, ...] = (20, 100, 400), models: int = 3, seed: int = 0
) -> tuple[FloatArray, Table]:
    """Embeddings and outcomes in which the query tells a good deal, longer budgets help, and dearer models are
    better.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, DIM)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    kinds = tuple(Budget.of(b) for b in budgets)
    pool = Pool(
        [
            Model(id=f"m{i}", budgets=kinds, usd_per_million=Prices(input=4.0**i, output=4.0 ** (i + 1)))
            for i in range(models)
        ]
    )
    level = np.array([0.2 * i for i in range(models)])[pool.model_of_arm] + 0.12 * np.log10(pool.budget_tokens / 20)
    quality = np.clip(
        0.3 + level + 0.5 * x @ rng.normal(size=(DIM, len(pool))) + rng.normal(0, 0.1, (n, len(pool))), 0, 1
    )
    tokens = np.ceil(np.minimum(pool.budget_tokens, 500) * rng.uniform(0.5, 1.05, (n, len(pool))))
    nothing = np.full(quality.shape, math.nan)
    ids = tuple(f"q{i:03d}" for i in range(n))
    tasks = tuple(("sums", "facts", "code")[i % 3] for i in range(n))
    return x, Table(
        pool,
        ids,
        tuple(f"question number {i}" for i in range(n)),
        tasks,
        quality,
        nothing + 30,
        nothing,
        tokens,
        nothing,
        nothing,
    )


def run(name: str, made: tuple[FloatArray, Table], **more: Any) -> Findings:
    return reproduce(name, made[1], vectors=made[0], plan=SMALL, **{"learner": Ridge(alpha=1.0), **more})


def grid(found: Findings, title: str) -> Grid:
    return next(p for s in found.sections for p in s.parts if isinstance(p, Grid) and p.title.startswith(title))


def rows(table: Grid) -> dict[str, GridRow]:
    return {row.name: row for row in table.rows}


def untimed(found: Findings) -> str:
    """Everything but the seconds, which are never the same twice."""
    plain = found.to_dict()
    for section in plain["sections"]:
        section["parts"] = [part for part in section["parts"] if part.get("title") != "Work"]
    return json.dumps(plain)


def value(cell: Any) -> float:
    return float(cell.value)


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - {"judge", "encoder", "predictor"}))
def test_every_experiment_runs_is_complete_and_repeats(name: str) -> None:
    found = run(name, world(), command="typed")
    assert found.name == name and found.answers and found.sections and found.command == "typed"
    assert found.settings["seeds"] == [0] and found.settings["folds"] == 3
    json.dumps(found.to_dict(), allow_nan=False)
    assert "<html" in report_page(found)
    assert untimed(run(name, world(), command="typed")) == untimed(found)


def test_main_has_every_baseline_in_both_forms_and_what_bounds_them() -> None:
    found = run("main", world())
    table = rows(grid(found, "Figures"))
    for name in BASELINES:
        assert name in table and f"{name} on the same arms" in table
    assert {"best mixture of fixed arms", "oracle (knows the answers)", OURS, "ours, one budget per LLM"} <= set(table)
    area = grid(found, "Figures").columns.index("area over log cost")
    oracle = value(table["oracle (knows the answers)"].cells[area])
    for row in table.values():
        assert value(row.cells[area]) <= oracle + 1e-9, row.name
    assert value(table[OURS].cells[area]) > value(table["random on the same arms"].cells[area])
    differences = rows(grid(found, "Ours minus"))
    for name, row in differences.items():
        gap = value(table[OURS].cells[area]) - value(table[name].cells[area])
        assert value(row.cells[1]) == pytest.approx(gap, abs=0.05), (
            f"{name}: settings kept by the other half give nearly the same"
        )
    assert [r.name for r in grid(found, "Area by task").rows] == ["code", "facts", "sums"]
    assert len(grid(found, "Kept to the budget").rows) == 9
    assert not any("not available" in note for note in found.notes)


def test_main_also_gives_baselines_a_budget_that_costs_less_for_nearly_the_quality() -> None:
    """Where the most expensive budget adds next to nothing, most of the distance to the published form is that of its
    budget.
    """
    x, table = world()
    quality = table.quality.copy()
    quality[:, 2::3] = quality[:, 1::3] + 1e-6  # 400 tokens are hardly better than 100
    found = run("main", (x, replace(table, quality=np.clip(quality, 0, 1))))
    cheap_enough, usual = (
        rows(grid(found, "Ours minus baselines with a cheaper")),
        rows(grid(found, "Ours minus the other")),
    )
    assert set(cheap_enough) == set(BASELINES)
    assert value(cheap_enough["MIRT"].cells[1]) < value(usual["MIRT"].cells[1])
    assert sum(answer.startswith("If each LLM used its cheapest budget") for answer in found.answers) == 1


def test_main_says_what_the_quality_costs_without_any_router_and_at_which_prices() -> None:
    found = run("main", world())
    alone = value(rows(grid(found, "Figures"))["best mixture of fixed arms"].cells[-1])
    said = next(a for a in found.answers if a.startswith("The best mixture of fixed arms"))
    assert f"${alone:.3g}"[:4] in said and "times [" in said
    assert "m0 1 / 4, m1 4 / 16" in found.settings["prices"]


def test_the_curves_are_the_means_of_every_arm_the_cheapest_first() -> None:
    made = world()
    found = run("curves", made)
    table = made[1]
    costs = EmbeddedTable.of(table, vectors=made[0]).outcomes.cost
    for name, row in rows(grid(found, "Every arm")).items():
        column = [str(arm) for arm in table.arms].index(name)
        assert row.cells[0] == len(table)
        assert value(row.cells[1]) == pytest.approx(table.quality[:, column].mean())
        assert value(row.cells[2]) == pytest.approx(1000 * costs[:, column].mean())
        assert value(row.cells[3]) == pytest.approx(table.output_tokens[:, column].mean())
    (plot,) = (p for s in found.sections for p in s.parts if isinstance(p, Plot))
    assert [s.name for s in plot.series] == ["m0", "m1", "m2"]
    for series in plot.series:
        assert list(series.x) == sorted(series.x)
        assert series.labels == ("20", "100", "400")
        assert all(low <= y <= high for low, y, high in zip(series.low, series.y, series.high, strict=True))
    best = {s.name: s.labels[int(np.argmax(s.y))] for s in plot.series}
    for answer in found.answers:
        model = answer.partition(":")[0]
        assert f"{model}@{best[model]}" in answer
        assert ("no budget is better than its cheapest" in answer) == (best[model] == "20")
    tasks = rows(grid(found, "Where length pays"))
    assert set(tasks) == {"sums", "facts", "code"}
    assert tasks["sums"].cells[1] == pytest.approx(table.quality[::3, 0].mean())


def test_where_no_budget_is_better_the_best_one_gains_nothing() -> None:
    """Chosen and scored on the same queries, the best of several equal budgets is above the first in nearly every
    draw.
    """
    above, arms = 0, list(range(8))
    for seed in range(40):
        rng = np.random.default_rng(seed)
        quality = (rng.random((80, len(arms))) < 0.5).astype(float)
        outcomes = Outcomes(tuple(Arm(f"m@{10 * (a + 1)}") for a in arms), quality, np.ones_like(quality))
        drawn = weights(80, 100, seed)
        more = _gain([_means(quality, drawn * half) for half in halves_of(outcomes, np.arange(80))], arms)
        above += interval("gain", more[0], more[1:], 80).low > 0
    assert above <= 4  # 2.5 % of 40 is 1; more than 4 has a chance of less than 1 in 200


def test_a_budget_that_was_asked_of_harder_queries_only_is_on_no_curve() -> None:
    """Means of different queries compare the queries: all budgets alike, the most expensive one asked where all are
    wrong.
    """
    x, table = world()
    quality = np.tile((np.arange(60) % 2)[:, None].astype(float), (1, 9))
    quality[np.arange(60) % 2 == 1, 2] = np.nan  # m0@400 saw the hard half only
    found = run("curves", (x, replace(table, quality=quality)))
    (plot,) = (p for s in found.sections for p in s.parts if isinstance(p, Plot))
    assert plot.series[0].labels == ("20", "100") and plot.series[1].labels == ("20", "100", "400")
    assert any("on no curve" in note and "m0@400" in note for note in found.notes)
    assert rows(grid(found, "Every arm"))["m0@400"].cells[0] == 30


def test_one_budget_an_llm_is_no_curve() -> None:
    found = run("curves", world(budgets=(100,)))
    assert found.answers == ("No LLM has two budgets: there are points, and no curves.",)


def test_an_oracle_with_curves_is_at_least_one_with_points() -> None:
    table = rows(grid(run("oracle", world()), "Figures"))
    curves, points = (
        value(table[name].cells[0]) for name in ("oracle on (model, budget)", "oracle on models at their best budget")
    )
    assert curves > points


def test_more_queries_help_where_there_is_something_to_learn() -> None:
    made = run("queries", world(300))
    areas = [value(r.cells[0]) for r in grid(made, "Figures").rows]
    assert areas[-1] > areas[0]


def test_where_nothing_can_be_learned_no_size_is_enough() -> None:
    x, table = world()
    found = run("queries", (np.random.default_rng(5).permutation(x), table), learner=Ridge(alpha=1e-3))
    assert found.answers[0] == "At no size does routing clearly beat the best mixture of fixed arms."


def test_moving_prices_change_decisions_and_nothing_else() -> None:
    found = run("prices", world())
    table = grid(found, "When prices move")
    assert len(table.rows) == 2 * 3 + 5
    assert all(0 <= value(r.cells[0]) <= 1 for r in table.rows) and min(value(r.cells[0]) for r in table.rows) < 1


def test_a_task_that_was_left_out_is_forecast_from_the_others() -> None:
    x, table = world(90)
    where = np.array(table.tasks) == "code"
    table.quality[where] = 1 - table.quality[where]  # on this task everything is the other way round
    known = rows(grid(run("ood", (x, table)), "What not knowing"))
    assert value(known["fitted on other tasks"].cells[0]) < value(known["fitted on all tasks"].cells[0])


# -- anchors ----------------------------------------------------------------------------------------------------------


def test_anchors_are_spread_evenly_with_both_ends() -> None:
    _, table = world(4, budgets=(10, 20, 30, 40, 50), models=1)
    assert anchor_arms(table.pool, 2).tolist() == [0, 4]
    assert anchor_arms(table.pool, 3).tolist() == [0, 2, 4]
    assert anchor_arms(table.pool, 9).tolist() == [0, 1, 2, 3, 4]


def test_between_anchors_is_linear_in_tokens() -> None:
    _, table = world(4, budgets=(10, 20, 50, 90), models=2)
    lower, upper, share = neighbours(table.pool, anchor_arms(table.pool, 2))
    assert lower.tolist() == [0, 0, 0, 1, 2, 2, 2, 3] and upper.tolist() == [0, 1, 1, 1, 2, 3, 3, 3]
    np.testing.assert_allclose(share[:4], [0, 10 / 80, 40 / 80, 0])


def test_budgets_without_tokens_are_as_far_apart_as_they_are_in_order() -> None:
    names = ("low", "medium", "high")
    pool = Pool(
        [Model(id="m", budgets=tuple(Budget.of(n) for n in names), usd_per_million=Prices(input=1.0, output=1.0))]
    )
    assert neighbours(pool, anchor_arms(pool, 2))[2].tolist() == [0, 0.5, 0]


def test_all_anchors_interpolate_nothing() -> None:
    table = rows(grid(run("anchors", world(budgets=(20, 50, 100, 400))), "Figures"))
    assert list(table) == ["2 heads per model", "3 heads per model", "all 4 budgets"]


# -- judges -----------------------------------------------------------------------------------------------------------


def test_another_judge_scores_the_same_decisions() -> None:
    x, table = world()
    same = run("judge", (x, table), other=table)
    both = grid(same, "Area by either judge")
    assert all(value(a) == value(b) for a, b in (row.cells for row in both.rows))
    harsh = replace(table, quality=np.clip(table.quality - 0.1, 0, 1))
    found = run("judge", (x, table), other=harsh)
    both = grid(found, "Area by either judge")
    assert all(value(b) < value(a) for a, b in (row.cells for row in both.rows))
    agreed = grid(found, "Agreement")
    assert value(agreed.rows[0].cells[0]) > 0.9 and -0.1 <= value(agreed.rows[1].cells[0]) < -0.08


def test_agreement_by_hand() -> None:
    one, other = np.array([[0.0, 1.0], [0.5, math.nan]]), np.array([[0.2, 0.8], [0.5, 0.1]])
    found = agreement(one, other, 5)
    assert value(found.rows[0].cells[0]) == pytest.approx(1.0) and value(found.rows[1].cells[0]) == pytest.approx(0.0)


# -- what cannot be shown ---------------------------------------------------------------------------------------------


def test_one_budget_only_still_compares_what_there_is() -> None:
    found = run("main", world(budgets=(100,)))
    assert rows(grid(found, "Figures"))
    with pytest.raises(DataError, match="three budgets"):
        run("anchors", world(budgets=(100,)))


def test_one_model_only_still_compares_budgets_and_no_new_llm_can_arrive() -> None:
    found = run("main", world(models=1))
    assert value(rows(grid(found, "Figures"))[OURS].cells[0]) > 0
    with pytest.raises(DataError, match="new LLM needs other LLMs"):
        run("new-llms", world(models=1))


def test_equal_scores_leave_nothing_to_gain() -> None:
    x, table = world()
    table.quality[:] = 0.5
    found = run("main", (x, table))
    figures = rows(grid(found, "Figures"))
    columns = grid(found, "Figures").columns
    assert figures[OURS].cells[columns.index("of the gap to the oracle")] is None
    assert value(figures[OURS].cells[columns.index("peak")]) == 0.5
    assert value(rows(grid(found, "Ours minus"))["best mixture of fixed arms"].cells[0]) == pytest.approx(0, abs=1e-9)


def test_missing_tokens_make_cells_unobserved_never_free() -> None:
    x, table = world()
    table.output_tokens[::2, 0] = math.nan
    found = run("main", (x, table))
    assert value(rows(grid(found, "Figures"))[OURS].cells[0]) > 0


def test_a_task_with_three_queries_is_not_judged_by_itself() -> None:
    x, table = world()
    tasks = tuple("tiny" if i < 3 else "usual" for i in range(len(table)))
    found = run("main", (x, replace(table, tasks=tasks)))
    shown = rows(grid(found, "Area by task"))
    assert value(shown["usual"].cells[1]) > 0 and shown["tiny"].cells[1:] == (None,) * 6


def test_a_table_with_a_single_task_has_none_to_leave_out() -> None:
    x, table = world()
    with pytest.raises(DataError, match="at least two tasks"):
        run("ood", (x, replace(table, tasks=("one",) * len(table))))


def test_without_a_second_judge_there_is_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="--other-judge"):
        run("judge", world())
    x, table = world()
    with pytest.raises(DataError, match="same queries and arms"):
        run("judge", (x, table), other=table.with_arms(table.arms[:4]))


def test_sparse_tables_mark_what_is_not_available() -> None:
    x, table = world()
    hole = np.random.default_rng(1).random(table.quality.shape) < 0.3
    hole[:, 0] = False
    table.quality[hole] = math.nan
    found = run("main", (x, table))
    figures = grid(found, "Figures")
    ours = rows(figures)[OURS].cells
    assert ours[figures.columns.index("area over log cost")] is None, (
        "one arm that was seen everywhere leaves no range of costs"
    )
    assert value(ours[figures.columns.index("peak")]) > 0
    assert any("Areas are not available" in answer for answer in found.answers)
    assert not any("nan" in answer for answer in found.answers)


@pytest.mark.parametrize("name", sorted(set(EXPERIMENTS) - {"judge"}))
@pytest.mark.parametrize("bad", ["thin", "tiny", "free", "all wrong", "one arm", "ten", "twins", "a hole"])
def test_no_experiment_fails_without_words_or_says_what_is_no_number(name: str, bad: str) -> None:
    x, table = world(n={"tiny": 3, "ten": 10}.get(bad, 45), budgets=(100,) if bad == "one arm" else (20, 100, 400))
    rng = np.random.default_rng(1)
    match bad:
        case "thin":
            table = replace(table, quality=np.where(rng.random(table.quality.shape) < 0.6, np.nan, table.quality))
        case "free":
            nothing = np.zeros(table.quality.shape)
            table = replace(table, output_tokens=nothing, input_tokens=nothing)
        case "all wrong":
            table = replace(table, quality=np.zeros(table.quality.shape))
        case "one arm":
            table = table.with_arms(table.arms[:1])
        case "twins":
            table = replace(table, queries=tuple(f"question number {i // 9}" for i in range(45)))
        case "a hole":
            quality = table.quality.copy()
            quality[7, 1:] = np.nan
            table = replace(table, quality=quality)
    with contextlib.suppress(DataError):
        check_words(run(name, (x, table)))


def check_words(found: Findings) -> None:
    assert found.answers
    said = " ".join((*found.answers, *(p.text for s in found.sections for p in s.parts if isinstance(p, Paragraph))))
    assert not re.search(r"\bnan\b|\binf\b|0 of 0", said), said
    json.dumps(found.to_dict(), allow_nan=False)
    assert "<html" in report_page(found)
    assert any("are few" in note for note in found.notes)


def test_a_table_that_no_arm_covers_says_how_much_is_missing() -> None:
    x, table = world()
    table = replace(table, quality=np.where(np.arange(60)[:, None] % 9 == np.arange(9), table.quality, np.nan))
    with pytest.raises(DataError, match=r"no fixed arm.*has 12%"):
        run("main", (x, table))
    assert run("curves", (x, table)).answers


def test_what_cannot_be_compared_is_not_called_a_loss_or_a_gain() -> None:
    x, table = world(n=45)
    free = replace(table, output_tokens=np.zeros((45, 9)), input_tokens=np.zeros((45, 9)))
    for name in ("anchors", "queries"):
        assert run(name, (x, free)).answers[0].startswith("Areas are not available"), name
    wrong = run("main", (x, replace(table, quality=np.zeros((45, 9)))))
    assert wrong.answers[0].startswith("No arm has a quality above 0") and len(wrong.answers) == 1
    same = run("main", (x, replace(table, quality=np.full((45, 9), 0.3))))
    assert same.answers[0].startswith("All fixed arms have the same mean quality, 0.300")
    assert any(
        answer.startswith("On 3 tasks against the mixture") and "clearly below on 0" in answer
        for answer in same.answers
    )


def test_an_oracle_on_models_leaves_out_queries_without_any() -> None:
    x, table = world()
    quality = table.quality.copy()
    quality[7, [0, 2, 3, 5, 6, 8]] = np.nan  # the cheapest and the most expensive budget of every model
    found = run("oracle", (x, replace(table, quality=quality)))
    assert any(note.startswith("1 queries are left out") for note in found.notes)


def test_a_task_too_small_to_judge_stands_in_ood_without_a_figure() -> None:
    x, table = world()
    few = tuple("rare" if i < 3 else task for i, task in enumerate(table.tasks))
    cells = rows(grid(run("ood", (x, replace(table, tasks=few))), "Area, ours minus mixture"))
    assert cells["rare"].cells == (None, None) and cells["sums"].cells[0] is not None


def test_an_encoder_that_is_not_there_is_said_and_the_rest_goes_on() -> None:
    found = run("encoder", world(), encoders=("nowhere",))
    assert any(note.startswith("nowhere: not available: no encoder 'nowhere'") for note in found.notes)


def test_unknown_experiments_are_refused_with_a_hint() -> None:
    with pytest.raises(ConfigError, match="did you mean 'anchors'"):
        run("anchor", world())


def test_simulated_tables_make_simulated_findings() -> None:
    from r2router.simulate import simulate
    from r2router.starter import starter

    made = simulate(starter(), 40, seed=0)
    found = reproduce("oracle", made.table, vectors=made.vectors, plan=SMALL)
    assert found.simulated and "SIMULATED" in report_page(found).upper()


def test_the_verdict_counts_only_what_is_clear() -> None:
    from r2router.figure import Figure
    from r2router.metrics.score import Comparison

    names = list(BASELINES)
    clear, vague = Figure("area", 0.1, 0.05, 0.2), Figure("area", 0.1, -0.05, 0.2)
    better, worse = Figure("qnc", -0.1, -0.2, -0.05), Figure("qnc", -0.1, -0.2, 0.05)
    differences = {name: {"area": clear, "qnc": better} for name in names} | {names[0]: {"area": vague, "qnc": worse}}
    words = ahead_of_baselines(Comparison(1, OURS, {}, differences, {}, {}, Arm("a@1"), (1.0, 1.0), 0.0, 1.0))
    assert (
        f"Area: clearly ahead of {len(names) - 1} of {len(names)} published-form baselines (not of {names[0]})."
        in words
    )


def test_differences_between_learners_and_forms_are_paired_and_have_intervals() -> None:
    pytest.importorskip("lightgbm")
    said = [a for a in run("predictor", world()).answers if a.startswith("Budgets as a choice give")]
    assert len(said) >= 3 and all(re.search(r"[+-]0\.\d{3} \[[+-]0\.\d{3}, [+-]0\.\d{3}\]", a) for a in said)
    late = run("new-llms", world())
    areas = rows(grid(late, "Figures, averaged"))
    for name, row in rows(grid(late, "Area, ours minus the other")).items():
        for other, cell in zip(("Uni-R2Router", "UniRouter"), row.cells, strict=True):
            gap = value(areas[f"ours, {name}"].cells[0]) - value(areas[f"{other}, {name}"].cells[0])
            # which has all arms; the other begins at a higher cost, and is compared from there on
            if other == "Uni-R2Router":
                assert value(cell) == pytest.approx(gap, abs=0.05)
            assert cell.low <= cell.high  # type: ignore[union-attr]
