"""An evaluation cannot flatter: a router that knows nothing about the query is called better than fixed arms in one
draw of twenty at most.

The routers here know nothing: constant forecasts, the same with next to no noise or with much, forecasts from shuffled
or made-up embeddings, costs that differ by query at random. `benchmarks/nulls.py` asks the same of more draws, on the
real tables too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from r2router.metrics.crossfit import halves_of, mean_quality, paths_of
from r2router.metrics.score import SETTINGS, Means, Outcomes, Routed, compare, methods
from r2router.types import Arm, FloatArray

KINDS = (
    "constant",
    "tie broken",
    "tie broken, test means",
    "little noise",
    "much noise",
    "few neighbours",
    "costs by query",
)
MAX = 0.05


def made_up(n: int, rng: np.random.Generator, arms: int = 12) -> tuple[FloatArray, FloatArray]:
    """Right or wrong answers of arms of rising cost, on easier and harder queries; nothing tells which query is
    which.
    """
    cost = np.exp(np.linspace(0, 5, arms) + rng.normal(0, 0.5, arms)) * np.exp(rng.normal(0, 0.5, (n, arms)))
    level = np.linspace(-0.8, 0.8, arms) + rng.normal(0, 0.3, arms) + rng.normal(size=(n, 1))
    return (rng.random((n, arms)) < 1 / (1 + np.exp(-level))).astype(float), cost


def know_nothing(kind: str, train: Any, test: Any, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """(n, arms) forecasts of quality and cost for the test queries."""
    shape, means = test[0].shape, [a.mean(axis=0) for a in train]
    quality, cost = (np.tile(m, (shape[0], 1)) for m in means)
    match kind:
        case "tie broken":
            quality = quality + rng.normal(0, 1e-9, shape)
        case "tie broken, test means":
            quality, cost = (
                test[0].mean(axis=0) + rng.normal(0, 1e-9, shape),
                np.tile(test[1].mean(axis=0), (shape[0], 1)),
            )
        case "little noise" | "much noise":
            quality = quality + rng.normal(0, 0.03 if kind == "little noise" else 0.1, shape)
        case "few neighbours":  # as by embeddings that were dealt to the wrong queries
            near = rng.integers(0, len(train[0]), (shape[0], 20))
            quality, cost = train[0][near].mean(axis=1), train[1][near].mean(axis=1)
        case "costs by query":
            cost = cost + rng.exponential(0.3 * cost.mean(), (shape[0], 1)) * np.linspace(0.2, 1, shape[1])
    return quality, cost


def outcomes_of(quality: FloatArray, cost: FloatArray) -> Outcomes:
    return Outcomes.of(tuple(Arm(f"m{i}@1") for i in range(quality.shape[1])), quality, cost)


def lows(kind: str, n: int, draws: int, resamples: int, table: Any = None) -> Iterator[tuple[str, float, float]]:
    """(verdict, lower ends against the chosen and the knowing mixture) of a router that knows nothing, draw by draw."""
    for draw in range(draws):
        rng = np.random.default_rng([draw, n, KINDS.index(kind)])
        if table is None:
            quality, cost = made_up(3 * n, rng)
        else:
            quality, cost = table
        order = rng.permutation(len(quality))
        test, train = order[:n], order[n:]
        parts = [(quality[rows], cost[rows]) for rows in (train, test)]
        forecast = know_nothing(kind, *parts, rng)
        found = outcomes_of(*parts[1])
        ways = methods(found, *forecast, Means(*(a.mean(axis=0) for a in parts[0])))
        result = compare({m: ways[m] for m in ("router", "fixed", "fixed known")}, found, resamples, draw)
        less = result.differences
        yield result.verdict, less["fixed"]["area"].low, less["fixed known"]["area"].low


def check(said: list[tuple[str, float, float]]) -> None:
    alarms = max(
        sum(verdict == "above" for verdict, _, _ in said), *(sum(row[i] > 1e-9 for row in said) for i in (1, 2))
    )
    assert alarms <= MAX * len(said), f"{alarms} of {len(said)} draws call a router better that knows nothing"


@pytest.mark.parametrize("n", [50, 300])
def test_chance_wins_nothing_on_made_up_outcomes(n: int) -> None:
    check([row for kind in KINDS for row in lows(kind, n, draws=3, resamples=40)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [50, 100, 300, 1000])
def test_chance_wins_nothing_in_many_draws(kind: str, n: int) -> None:
    check(list(lows(kind, n, draws=60, resamples=100)))


def real(shared: Path, name: str) -> tuple[FloatArray, FloatArray]:
    """(n, arms) quality and cost of the arms that nearly every query was asked of, on the queries that all of them
    answered.
    """
    table = r2.Table.read(shared / "data" / f"{name}.parquet", prices=shared / "data" / "prices.csv")
    return _whole(table)


def _whole(table: r2.Table) -> tuple[FloatArray, FloatArray]:
    cost = table.cost()
    seen = np.isfinite(table.quality) & np.isfinite(cost)
    columns = seen.mean(axis=0) > 0.95
    rows = seen[:, columns].all(axis=1)
    return table.quality[rows][:, columns], cost[rows][:, columns]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tts_knowledge", "jhu_concise_cot", "r2bench-mini"])
@pytest.mark.parametrize("n", [50, 100, 300])
def test_chance_wins_nothing_on_real_outcomes(shared: Path, name: str, n: int) -> None:
    from r2router.mini import mini

    table = _whole(mini()) if name == "r2bench-mini" else real(shared, name)
    draws = 20
    n = min(n, len(table[0]) // 2)
    check([row for kind in KINDS for row in lows(kind, n, draws, 100, table)])


def blind(world: Any, seed: int) -> tuple[r2.Router, r2.Table, FloatArray]:
    """A router that was trained on noise for embeddings, with held-out queries and noise for theirs."""
    train, test = world.table.split(test=0.4, seed=seed)
    rng = np.random.default_rng(seed)
    x, z = (rng.normal(size=(len(part), 8)) for part in (train, test))
    x, z = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, z))
    return r2.Recipe(encoder="given:noise", resamples=40).fit(train, x), test, z


def test_no_report_calls_a_blind_router_better(world: Any) -> None:
    """What people read: the evaluation with its tasks, and the card."""
    said, carded, draws = 0, 0, 3
    tasks = task_alarms = 0
    for seed in range(draws):
        router, test, z = blind(world, seed)
        report = r2.evaluate(router, test, vectors=z, resamples=60)
        found = report.to_dict()
        said += (
            "Routing is worth it here" in str(report)
            or found["verdict"] == "above"
            or found["differences"]["fixed"]["area"]["low"] > 1e-9
        )
        tasks += len(found["tasks"])
        task_alarms += sum(task["verdict"] == "above" for task in found["tasks"].values())
        minus = [f for f in router.facts.figures if "router minus" in f.name]
        assert len(minus) == 2
        carded += any(f.low > 1e-9 for f in minus)
    assert not (said or carded) and task_alarms <= MAX * tasks


# -- ties -------------------------------------------------------------------------------------------------------------


def tied(good_first: bool) -> tuple[Outcomes, FloatArray, FloatArray]:
    """100 queries, two arms, one forecast for all. The dear arm is right on half of them, the cheap one on none."""
    right = np.arange(100) < 50 if good_first else np.arange(100) >= 50
    quality = np.column_stack([np.zeros(100), right.astype(float)])
    return (
        outcomes_of(quality, np.tile([1.0, 10.0], (100, 1))),
        np.tile([0.0, 0.5], (100, 1)),
        np.tile([1.0, 10.0], (100, 1)),
    )


@pytest.mark.parametrize("good_first", [True, False])
def test_one_forecast_for_all_is_the_mixture_whatever_the_order_of_rows(good_first: bool) -> None:
    found, quality, cost = tied(good_first)
    result = compare(methods(found, quality, cost, Means(quality[0], cost[0])), found, 20, 0)
    router, *mixtures = (result.figures[m] for m in ("router", "fixed", "fixed known"))
    for mixture in mixtures:
        for name in ("area", "audc", "peak", "cost_at_keep"):
            assert router[name].value == pytest.approx(mixture[name].value, abs=1e-12), name
    # a straight line over cost from (1, 0) to (10, .5), over log cost
    assert router["area"].value == pytest.approx(0.5 / 9 * (9 / np.log(10) - 1))
    gap, knowing = (result.differences[m]["area"] for m in ("fixed", "fixed known"))
    assert max(abs(v) for v in (gap.value, gap.low, gap.high, knowing.value)) < 1e-12
    assert knowing.low <= 0 <= knowing.high
    assert result.verdict == "not clear"


@given(st.integers(0, 10_000), st.sampled_from(["fine", "coarse", "constant"]), st.integers(2, 40))
def test_figures_do_not_depend_on_the_order_of_rows(seed: int, kind: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    quality, cost = made_up(n, rng, arms=5)
    forecast, spend = rng.random((n, 5)), cost * rng.uniform(0.5, 2, cost.shape)
    if kind == "coarse":
        forecast, spend = np.round(forecast * 3) / 3, np.exp2(np.round(np.log2(spend)))
    if kind == "constant":
        forecast, spend = (np.tile(a.mean(axis=0), (n, 1)) for a in (forecast, spend))
    means = Means(rng.random(5), cost.mean(axis=0))

    def figures(order: Any) -> Any:
        found = outcomes_of(quality[order], cost[order])
        return compare(methods(found, forecast[order], spend[order], means), found, 0, 0)

    one, other = figures(np.arange(n)), figures(rng.permutation(n))
    for kept in ("figures", "differences"):
        for method, row in getattr(one, kept).items():
            for name, figure in row.items():
                again = getattr(other, kept)[method][name].value
                assert again == pytest.approx(figure.value, abs=1e-9, nan_ok=True), (method, name)


def test_the_test_of_trust_does_not_depend_on_the_order_of_rows(world: Any) -> None:
    from r2router.predict.permutation_test import passes_permutation_test

    table = world.table
    full = (
        np.where(np.isnan(table.quality), 0.5, table.quality),
        np.log(np.where(np.isnan(table.output_tokens), 100, table.output_tokens)),
    )
    rng = np.random.default_rng(0)
    shift = np.where(np.arange(len(table)) % 2 == 0, 0.2, -0.2)[:, None] * np.ones(len(table.arms))
    shift = shift * (rng.random(len(table.arms)) < 0.5)
    verdicts = set()
    for order in (np.arange(len(table)), np.argsort(full[0].mean(axis=1)), np.argsort(-full[0].mean(axis=1))):
        parts = table.take(order)
        verdicts.add(
            passes_permutation_test(
                (shift[order] * 0 + 1e-3, shift[order] * 0),
                np.arange(len(order)),
                tuple(a[order] for a in full),
                parts,
                0,
            )
        )
    assert verdicts == {False}


# -- what a curve is made of ------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_a_curve_has_few_settings_and_they_do_not_see_the_outcomes(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    forecast, spend = rng.random((n, 7)), np.exp(rng.normal(size=(n, 7)))
    one, other = (
        Routed.of(forecast, spend, outcomes_of(*made_up(n, np.random.default_rng(i), arms=7))) for i in (1, 2)
    )
    assert one.settings is not None and other.settings is not None
    assert one.settings.tolist() == other.settings.tolist() and len(one.settings) <= SETTINGS + 1
    cost, _ = one.points(np.ones(n))
    assert len(cost) == len(one.settings)
    assert one.settings[0] == 0 and one.settings[-1] == len(one.sweep.value), "from the cheapest decisions to the best"


def test_halves_share_no_query_and_come_from_what_was_observed() -> None:
    rng = np.random.default_rng(0)
    found = outcomes_of(*made_up(41, rng))
    rows = np.arange(3, 40)
    halves = halves_of(found, rows)
    for own, other in zip(halves[::2], halves[1::2], strict=True):
        assert not (own & other).any() and np.flatnonzero(own | other).tolist() == rows.tolist()
        assert abs(int(own.sum()) - int(other.sum())) <= 2
    order = rng.permutation(41)
    again = halves_of(found.take(order), np.argsort(order)[rows])
    assert [np.flatnonzero(h).tolist() for h in halves] == [sorted(order[np.flatnonzero(h)].tolist()) for h in again]
    assert halves_of(found, rows[:3]) == []


def test_what_is_kept_is_chosen_on_the_other_half() -> None:
    """Two settings of one cost: each half keeps the one that was better on its counterpart."""
    found = outcomes_of(*made_up(40, np.random.default_rng(3), arms=2))
    forecast, spend = np.random.default_rng(4).random((40, 2)), np.tile([1.0, 2.0], (40, 1))
    routed, halves = Routed.of(forecast, spend, found), halves_of(found, np.arange(40))
    from r2router.metrics.frontier import upper_envelope

    for at, (cost, quality) in enumerate(paths_of(routed, np.ones(40), halves)):
        kept = upper_envelope(*routed.points(halves[at ^ 1].astype(float)))
        own = routed.points(halves[at].astype(float))
        assert cost.tolist() == own[0][kept].tolist() and quality.tolist() == own[1][kept].tolist()


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=6),
    st.floats(0.2, 1),
    st.floats(1.5, 12),
)
def test_mean_quality_along_a_path_is_the_integral(points: list[tuple[float, float]], low: float, high: float) -> None:
    cost, quality = (np.array(a) for a in zip(*points, strict=True))
    got = mean_quality([(cost, quality)], low, high)
    c, q = np.concatenate([[low], cost, [high]]), np.concatenate([quality[:1], quality, quality[-1:]])
    total = 0.0
    for i in range(len(c) - 1):  # piece by piece, also where it goes back
        at = np.linspace(c[i], c[i + 1], 4001)
        y = np.interp(np.linspace(0, 1, 4001), [0, 1], [q[i], q[i + 1]])
        inside = np.log(np.clip(at, low, high))
        total += float((y[1:] + y[:-1]) / 2 @ np.diff(inside))
    assert got == pytest.approx(total / np.log(high / low), abs=1e-4)


# -- where both have it -----------------------------------------------------------------------------------------------


def test_a_method_that_begins_late_is_compared_where_both_have_points() -> None:
    """The dear arm alone against both: where it can be had both give .8; below, it has nothing, which the other
    convention counts as 0.
    """
    n = 60
    found = outcomes_of(np.tile([0.4, 0.8], (n, 1)), np.tile([1.0, 10.0], (n, 1)))
    late = Routed.of(found.quality, found.cost, found, np.array([1]))
    result = compare(
        {"router": Routed.of(found.quality, found.cost, found), "late": late, "both": Routed.oracle(found)}, found, 5, 0
    )
    gap = result.differences["late"]
    assert np.isnan(gap["area"].value), "the two have one cost in common, and no range"
    assert gap["area_zero"].value == pytest.approx(result.figures["router"]["area"].value)
    assert result.figures["late"]["covers"].value == 0 and result.figures["router"]["covers"].value == 1
    wider = outcomes_of(np.tile([0.4, 0.8, 0.8], (n, 1)), np.tile([1.0, 10.0, 100.0], (n, 1)))
    late = Routed.of(wider.quality, wider.cost, wider, np.array([1, 2]))
    result = compare({"router": Routed.of(wider.quality, wider.cost, wider), "late": late}, wider, 5, 0)
    assert result.figures["late"]["covers"].value == pytest.approx(0.5)
    assert result.differences["late"]["area"].value == pytest.approx(0, abs=1e-12)
    assert result.differences["late"]["area_zero"].value > 0.2


# -- seeds and choices in the intervals -------------------------------------------------------------------------------


def test_a_draw_takes_one_of_the_seeds() -> None:
    rng = np.random.default_rng(0)
    quality, cost = made_up(400, rng, arms=4)
    found = outcomes_of(quality, cost)
    good, bad = Routed.oracle(found), Routed.of(-quality, cost, found)
    same, mixed = (
        compare({"router": m, "fixed known": bad}, found, 60, 0).figures["router"]["peak"]
        for m in ([good, good], [good, bad])
    )
    assert same.high - same.low < 0.1 < mixed.high - mixed.low
    assert mixed.value == pytest.approx((good.points(np.ones(400))[1].max() + bad.points(np.ones(400))[1].max()) / 2)
    whole = compare({"router": [good, bad]}, found, 60, 0, cases=True).figures["router"]["peak"]
    assert whole.high - whole.low < 0.1, "cases are averaged over in every draw"


def test_two_that_get_there_with_different_seeds_have_no_difference_of_costs() -> None:
    found = outcomes_of(np.tile([0.0, 1.0], (20, 1)), np.tile([1.0, 2.0], (20, 1)))
    right, wrong = Routed.oracle(found), Routed.of(-found.quality, found.cost, found, np.array([0]))
    result = compare({"router": [right, wrong], "other": [wrong, right]}, found, 5, 0)
    assert np.isnan(result.differences["other"]["cost_at_keep"].value) and np.isnan(
        result.differences["other"]["cheaper"].value
    )


def test_the_best_of_a_group_is_found_again_in_every_draw() -> None:
    """Of twenty blind rivals one is cheapest by luck; who knows that luck comes again is too sure. The re-chosen best
    is never dearer.
    """
    rng = np.random.default_rng(1)
    quality, cost = made_up(80, rng, arms=4)
    found = outcomes_of(quality, cost)
    rivals: dict[str, Any] = {f"r{i}": Routed.of(rng.random(quality.shape), cost, found) for i in range(20)}
    result = compare(
        {"router": Routed.oracle(found), **rivals}, found, 60, 0, groups={"rivals": list(rivals), "none": []}
    )
    name, less = result.best_of["rivals"]
    assert list(result.best_of) == ["rivals"]
    assert less["cheaper"].value == result.differences[name]["cheaper"].value
    assert less["cheaper"].low <= result.differences[name]["cheaper"].low + 1e-12
    assert less["cheaper"].high <= result.differences[name]["cheaper"].high + 1e-12
