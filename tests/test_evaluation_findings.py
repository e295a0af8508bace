"""An evaluation as findings: the report's own figures, in dollars per 1,000 requests, and the right words about
them.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace as replace_struct

from r2router import Pool, Prices, Recipe, evaluate
from r2router.errors import DataError
from r2router.evaluation.report import Report
from r2router.evaluation.sentences import answers_of
from r2router.figure import Figure
from r2router.metrics.frontier import min_cost
from r2router.metrics.score import Comparison
from r2router.report import Style, report_page, report_text
from r2router.report.findings import Findings, Grid, GridRow, Plot
from r2router.table.table import ARRAYS


@pytest.fixture(scope="module")
def report(world: Any) -> Report:
    train, test = np.arange(160), np.arange(160, 240)
    router = Recipe(encoder="given:test", folds=0).fit(world.table.take(train), vectors=world.vectors[train])
    return evaluate(router, world.table.take(test), vectors=world.vectors[test], resamples=40)


def grid(found: Findings, title: str) -> Grid:
    return next(p for s in found.sections for p in s.parts if isinstance(p, Grid) and p.title.startswith(title))


def row(found: Grid, name: str) -> GridRow:
    return next(r for r in found.rows if r.name == name)


def with_figures(report: Report, **changed: Figure) -> Report:
    """The report as if the router's differences to the mixture, or its own figures, were these."""
    c = report.comparison
    gaps = {**c.differences, "fixed": {**c.differences["fixed"], **{k: v for k, v in changed.items() if k != "own"}}}
    figures = c.figures
    if "own" in changed:
        costs = {"router": changed["own"], "fixed": Figure("c", 0.003, 0.003, 0.003)}
        figures = {**c.figures, **{m: {**c.figures[m], "cost_at_keep": cost} for m, cost in costs.items()}}
    return replace(report, comparison=replace(c, differences=gaps, figures=figures))


def test_the_curves_hold_every_method_and_every_fixed_arm(report: Report) -> None:
    plot = next(p for s in report.findings().sections for p in s.parts if isinstance(p, Plot))
    *lines, arms = plot.series
    mixtures = ["best mixture of fixed arms", "mixture that knows these outcomes"]
    assert [line.name for line in lines] == ["router", *mixtures, "one budget per LLM", "oracle (knows the answers)"]
    assert [line.strong for line in lines] == [True, False, False, False, False]
    cost, quality = report.comparison.points["fixed known"]
    assert arms.labels == report.fixed_arms == report.arms
    np.testing.assert_allclose(arms.x, 1000 * cost)
    np.testing.assert_allclose(arms.y, quality)
    for line in lines:
        slopes = np.diff(line.y) / np.diff(line.x)
        assert (np.diff(line.y) >= -1e-12).all() and (np.diff(slopes) <= 1e-6).all(), (
            "mixtures make it concave over cost"
        )
        assert line.x[-1] >= 1000 * report.comparison.high * (1 - 1e-12)
    best = report.comparison.points["router"][1].max()
    assert max(lines[0].y) == pytest.approx(best)


def test_the_tables_are_the_reports_figures(report: Report) -> None:
    found, c = report.findings("typed"), report.comparison
    figures = grid(found, "Every method")
    at = {name: i for i, name in enumerate(figures.columns)}
    router = row(figures, "router")
    assert router.strong and row(figures, "oracle (knows the answers)").bound
    assert router.cells[at["area over log cost"]] == c.figures["router"]["area"]
    cost = router.cells[at["cost at 95 %"]]
    assert isinstance(cost, Figure)
    assert cost.value == pytest.approx(1000 * c.figures["router"]["cost_at_keep"].value)
    for label, m in (("best mixture of fixed arms", "fixed"), ("mixture that knows these outcomes", "fixed known")):
        assert row(figures, label).cells[-2:] == (c.differences[m]["area"], c.differences[m]["area_zero"])
    costs = grid(found, "What a quality costs")
    whole = row(costs, "router").cells[2]
    assert isinstance(whole, Figure) and whole.value == pytest.approx(1000 * min_cost(*c.points["router"], c.best[1]))
    fixed_cost, fixed_quality = c.points["fixed known"]
    assert row(costs, "one fixed arm").cells[2] == pytest.approx(
        1000 * fixed_cost[fixed_quality == fixed_quality.max()].min()
    )
    spends = grid(found, "What a spend buys")
    assert row(spends, "one fixed arm").cells[-1] == pytest.approx(c.best[1])
    assert row(spends, "mixture that knows these outcomes").cells[-1] == pytest.approx(c.best[1])
    assert sum(r.cells[0] for r in grid(found, "Decisions").rows) == pytest.approx(1)  # type: ignore[misc]
    assert [r.name for r in grid(found, "By task").rows] == ["task 0", "task 1"]
    assert found.command == "typed"
    assert "40 draws, seed 0" in found.settings["intervals"]


def test_more_methods_and_figures_are_more_rows_and_columns(report: Report) -> None:
    c = report.comparison
    figures = {**c.figures, "carrot-knn": {**c.figures["fixed"], "regret": Figure("regret", 0.1, 0.05, 0.2, 80)}}
    points, bands = ({**a, "carrot-knn": a["fixed"]} for a in (c.points, c.bands))
    more: Comparison = replace(c, figures=figures, points=points, bands=bands)
    found = replace(report, comparison=more).findings()
    table = grid(found, "Every method")
    assert "regret" in table.columns
    assert row(table, "carrot-knn").cells[table.columns.index("regret")] == figures["carrot-knn"]["regret"]
    assert row(table, "router").cells[table.columns.index("regret")] is None
    for title in ("What a quality costs", "What a spend buys"):
        mine, same = (row(grid(found, title), name).cells for name in ("carrot-knn", "best mixture of fixed arms"))
        np.testing.assert_equal(mine, same)
    plot = next(p for s in found.sections for p in s.parts if isinstance(p, Plot))
    assert "carrot-knn" in [s.name for s in plot.series]


@pytest.mark.parametrize(
    ("gap", "says"),
    [
        (
            Figure("area", 0.04, 0.03, 0.05),
            "Routing is worth it here: at equal spend the mean quality is 0.040 [0.030, 0.050] above",
        ),
        (
            Figure("area", -0.04, -0.05, -0.03),
            "Routing loses here: at equal spend the mean quality is 0.040 [0.030, 0.050] below",
        ),
        (Figure("area", 0.01, -0.01, 0.03), "It is not clear that routing is worth it here: +0.010 [-0.010, +0.030]"),
        (Figure("area", math.nan, math.nan, math.nan), "cannot be said"),
    ],
)
def test_the_first_answer_is_the_verdict(report: Report, gap: Figure, says: str) -> None:
    assert says in answers_of(with_figures(report, area=gap))[0]


@pytest.mark.parametrize(
    ("gap", "own", "says"),
    [
        (
            Figure("c", -0.002, -0.003, -0.001),
            0.001,
            "costs $1.00 per 1,000 requests, $2.00 [$1.00, $3.00] less than the best mixture",
        ),
        (Figure("c", 0.002, 0.001, 0.003), 0.001, "$2.00 [$1.00, $3.00] more than"),
        (Figure("c", -0.002, -0.003, 0.001), 0.001, "$2.00 [-$1.00, $3.00] less than"),
        (Figure("c", 1e-15, 0.0, 1e-15), 0.001, "as much as the best mixture"),
        (Figure("c", -0.002, math.nan, math.nan), 0.001, "$2.00 less than"),
        (Figure("c", math.nan, math.nan, math.nan), math.nan, "The router never reaches 95 % of"),
    ],
)
def test_the_second_answer_is_the_saving(report: Report, gap: Figure, own: float, says: str) -> None:
    answer = answers_of(with_figures(report, cost_at_keep=gap, own=Figure("c", own, own, own)))[1]
    assert says in answer
    crossing = not (gap.high < 0 or gap.low > 0) and "as much" not in answer
    assert ("not clear" in answer) == (crossing and not math.isnan(own))


def test_where_it_does_not_help_is_said(report: Report) -> None:
    def task(name: str, low: float, high: float) -> Any:
        one = report.tasks[0]
        assert one.comparison is not None
        gap = Figure("area", (low + high) / 2, low, high, 40)
        return replace(
            one,
            task=name,
            comparison=replace(one.comparison, differences={"fixed": {"area": gap}, "fixed known": {"area": gap}}),
        )

    lost = replace(report, tasks=(task("law", -0.2, -0.1), task("art", -0.1, 0.1), task("math", 0.1, 0.2)))
    words = " ".join(answers_of(lost))
    assert "It loses on 1 of 3 tasks: law." in words
    assert f"No clear difference on 1 of 3 tasks ({report.tasks[0].queries} queries): art." in words
    verdicts = [r.cells[-1] for r in grid(lost.findings(), "By task").rows]
    assert verdicts == ["loses", "no clear difference", "helps"]
    assert "It helps on each of the 1 tasks." in " ".join(answers_of(replace(report, tasks=(task("math", 0.1, 0.2),))))
    unseen = replace(report, tasks=(replace(report.tasks[0], comparison=None),))
    assert grid(unseen.findings(), "By task").rows[0].cells[1:5] == (None,) * 4
    assert "\n1 of 1 tasks are not shown: fewer than 10 queries" in str(unseen)
    some = str(replace(report, tasks=(*report.tasks, *unseen.tasks)))
    assert f"1 of {len(report.tasks) + 1} tasks are not shown" in some and f"{report.tasks[0].task} " in some


def test_spends_without_gain_are_said(report: Report) -> None:
    c = report.comparison
    cost, quality = np.array([c.low, c.high]), np.array([0.2, 0.6])
    lower = (np.array([c.low, math.sqrt(c.low * c.high), c.high]), np.array([0.1, 0.5, 0.7]))
    found = answers_of(
        replace(report, comparison=replace(c, points={**c.points, "fixed": (cost, quality), "router": lower}))
    )
    assert any("no more than the mixture at spends below $" in answer for answer in found)
    same = replace(c, points={**c.points, "router": c.points["fixed"]})
    assert any(
        "no more than the mixture at any spend" in answer for answer in answers_of(replace(report, comparison=same))
    )


def test_free_arms_and_a_single_arm_are_no_wrong_numbers(world: Any) -> None:
    table = world.table
    free = Pool([replace_struct(m, usd_per_million=Prices(0.0, 0.0)) for m in table.pool.models])
    one = Pool([replace_struct(table.pool.models[0], budgets=table.pool.models[0].budgets[:1])])
    cut = {name: getattr(table, name)[:, :1] for name in ARRAYS}
    for odd in (replace(table, pool=free), replace(table, pool=one, **cut)):
        router = Recipe(encoder="given:test", folds=0).fit(odd, vectors=world.vectors)
        found = evaluate(router, odd, vectors=world.vectors, resamples=10).findings()
        assert "was trained on" in found.answers[0] and "cannot be said" in found.answers[1]
        assert "as much as the best mixture" in found.answers[2]
        assert not any("No clear difference" in answer for answer in found.answers)
        assert all(r.cells[-1] is None for r in grid(found, "By task").rows)
        shown = report_page(found) + report_text(found, Style(80))
        assert not re.search(r"\bnan\b|\binf\b", shown)


def test_words_stand_where_there_is_no_figure(world: Any) -> None:
    router = Recipe(encoder="given:test", folds=0).fit(world.table, vectors=world.vectors)
    rows = np.arange(20)
    table, x = world.table.take(rows), world.vectors[rows]
    nothing, zero = np.full(table.quality.shape, np.nan), np.zeros(table.quality.shape)
    free = evaluate(router, replace(table, cost_usd=zero, tasks=("a", "b") * 10), vectors=x, resamples=10)
    assert "nan" not in str(free) and "not available" in str(free) and "no gap to the oracle" not in str(free)
    assert any("20 queries are few" in note for note in free.notes)
    with pytest.raises(DataError, match="without output tokens"):
        evaluate(router, replace(table, output_tokens=nothing, cost_usd=nothing), vectors=x)


def test_every_drawing_takes_it(report: Report) -> None:
    found = report.findings()
    assert "Is routing worth it?" in report_page(found)
    assert "Is routing worth it?" in report_text(found, Style(80))
    assert b"NaN" not in msgspec.json.encode(found.to_dict())
