"""The learner for sparse tables against what is known of made-up data: plain sums, true qualities, texts of no domain,
odd tables.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from r2router import Recipe, Router
from r2router.cli import main
from r2router.pool.pool import Pool
from r2router.predict.domain_parts import common, length_of
from r2router.predict.domain_stats import DomainStats
from r2router.predict.domains import Domains
from r2router.table.table import Table
from r2router.types import Budget, FloatArray, IntArray, Model, Prices

DOMAINS, GROUPS, ARMS, DIM = 10, 6, 14, 64
CELLS = (0, 1, 3, 10, 40, 150)


@dataclasses.dataclass(frozen=True)
class World:
    """Texts of a few domains, with groups in each, and the true quality of every arm in every group."""

    domain: FloatArray
    group: FloatArray
    truth: FloatArray

    @classmethod
    def of(cls, seed: int) -> World:
        rng = np.random.default_rng(seed)
        domain = rng.normal(size=(DOMAINS, DIM)) * 1.3
        group = domain[:, None] + rng.normal(size=(DOMAINS, GROUPS, DIM)) * 0.7
        odds = rng.normal(0, 1, ARMS) + rng.normal(0, 1, (DOMAINS, 1, 1)) + rng.normal(0, 0.7, (DOMAINS, 1, ARMS))
        odds = odds + rng.normal(0, 0.8, (DOMAINS, GROUPS, 1)) + rng.normal(0, 0.5, (DOMAINS, GROUPS, ARMS))
        return cls(domain, group, 1 / (1 + np.exp(-odds)))

    def texts(self, n: int, rng: np.random.Generator, among: int = DOMAINS) -> tuple[FloatArray, IntArray, FloatArray]:
        """(embeddings, domain, (n, arms) true qualities)."""
        domain, group = rng.integers(among, size=n), rng.integers(GROUPS, size=n)
        x = self.group[domain, group] + rng.normal(size=(n, DIM)) * 0.3
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), domain, self.truth[domain, group]

    def table(self, n: int, rng: np.random.Generator, among: int = DOMAINS) -> tuple[FloatArray, Table, IntArray]:
        """A table of n texts in which a (domain, arm) pair has one of `CELLS` cells at most; and (domains, arms) how
        many it has.
        """
        x, domain, truth = self.texts(n, rng, among)
        quality = (rng.random(truth.shape) < truth).astype(np.float64)
        most = rng.choice(CELLS, (DOMAINS, ARMS))
        most[:, 0] = n  # so that every text has an answer
        for number in range(DOMAINS):
            own = np.flatnonzero(domain == number)
            for arm in range(ARMS):
                quality[own[most[number, arm] :], arm] = np.nan
        return (
            x,
            table_of(quality, [f"task {d}" for d in domain]),
            np.minimum(most, np.bincount(domain, minlength=DOMAINS)[:, None]),
        )


def table_of(quality: FloatArray, tasks: list[str]) -> Table:
    names = [f"m{a:04}" for a in range(quality.shape[1])]
    cells = [
        {
            "query_id": f"q{i:05}", "query": f"text number {i}", "task": tasks[i], "model": names[a],
            "budget": "default",
            "quality": float(quality[i, a]), "output_tokens": 100.0 + a,
        }
        for i, a in np.argwhere(np.isfinite(quality)).tolist()
    ]  # fmt: skip
    usual = (Budget.of("default"),)
    pool = Pool(
        [
            Model(id=name, budgets=usual, usd_per_million=Prices(input=1.0, output=1.0 + a))
            for a, name in enumerate(names)
        ]
    )
    return Table.read(pl.DataFrame(cells), pool)


def test_forecasts_are_the_plain_sums_over_domains_groups_and_factors() -> None:
    rng = np.random.default_rng(0)
    world = World.of(0)
    x, table, _ = world.table(1200, rng)
    fitted = Domains().fit(x, table)
    a = {name: np.asarray(values, dtype=np.float64) for name, values in fitted.arrays().items()}
    asked, arms = world.texts(12, rng)[0], len(table.arms)
    asked[-1] = rng.normal(size=DIM)  # of no domain
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    owner, found = a["group"].astype(int), fitted.predict(asked)
    for i, row in enumerate(asked.astype(np.float64)):
        directions = row @ a["basis"]
        cosines = a["centres"] @ directions / np.linalg.norm(directions)
        nearest_cells = np.argsort(a["cells"] @ directions)[-8:]
        near = np.where(np.isin(a["cell"], nearest_cells), np.exp((cosines - 1) / 0.05), 0.0)
        total = np.array([near[owner == d].sum() for d in range(len(a["bias"]))])
        reached = total + 1e-9 * np.bincount(owner)
        score = a["trust"][0] * (row @ a["weight"] + a["bias"]) + a["trust"][1] * np.log(reached)
        known = np.exp(score - score.max()) * total / reached
        unknown = 1 / (1 + np.exp(20 * (cosines[near > 0].max() * np.linalg.norm(directions) - 0.3)))
        odds = np.append(known / known.sum() * (1 - unknown), unknown)
        share = np.append(near * odds[owner] / np.maximum(total[owner], 1e-30), unknown)
        of_group = np.append(owner, len(a["bias"]))
        net = np.maximum(row @ a["hidden"] + a["shift"], 0) @ a["head"]
        trust = odds[:-1] @ (a["seen"][:-1, :arms] - 0.02)
        common = trust @ net / trust.sum()
        for arm in range(arms):
            weight = share * a["seen"][of_group, arm]
            mean = weight @ a["quality"][:, arm] / weight.sum()
            seen = odds * a["seen"][:, arm]
            level, held = seen @ a["level"][:, arm] / seen.sum(), np.clip(mean, 0.005, 0.995)
            right = (
                level
                + 0.6 * (np.log(held / (1 - held)) - level)
                + (1 - unknown) * (common + trust[arm] * (net[arm] - common))
            )
            lengths = share * a["seen"][of_group, arms + arm]
            tokens = lengths @ np.exp(a["log_tokens"][:, arm]) / lengths.sum() * np.exp(a["offset"][arms + arm])
            assert found.quality[i, arm] == pytest.approx(1 / (1 + np.exp(-right)), abs=3e-4)
            assert found.spread[i, arm] == pytest.approx(np.sqrt(share @ a["variance"][:, arm]), rel=5e-3)
            assert found.tokens[i, arm] == pytest.approx(
                np.clip(tokens, *np.exp([a["low"][arm], a["high"][arm]])), rel=1e-3
            )


def test_an_arm_that_was_not_seen_in_a_domain_differs_there_as_much_as_others_do() -> None:
    """What is common to domains has a slope of the domain: recovered where arms differ by a known factor."""
    rng = np.random.default_rng(1)
    arm, slope = rng.normal(0, 1, 40), np.array([0.25, 0.5, 1.0, 1.0, 1.5, 2.0])
    truth = slope[:, None] * arm + rng.normal(0, 0.5, (6, 1))
    cells = np.where(rng.random(truth.shape) < 0.5, 200.0, 0.0)
    found = common(np.where(cells > 0, truth, 0.0), cells)
    unseen = cells == 0
    assert np.abs(found - truth)[unseen].mean() < 0.2 * np.abs(truth - truth.mean(axis=1, keepdims=True))[unseen].mean()
    assert np.isfinite(common(truth[:1], cells[:1])).all() and not common(truth, 0 * cells).any()


def test_lengths_of_a_domain_hold_for_arms_that_were_not_measured_there() -> None:
    cells = np.array([[50.0, 50.0, 0.0], [50.0, 50.0, 50.0], [0.0, 0.0, 0.0]])
    total = cells * np.array([[1000.0, 2000.0, 0.0], [100.0, 200.0, 400.0], [0.0, 0.0, 0.0]])
    found = length_of(total, cells)
    assert 1500 < found[0, 2] < 4500  # nearly ten times as long as elsewhere, as of the others
    assert found[2, 0] < found[2, 1]


def test_spreads_cover_the_true_qualities_however_often_an_arm_was_seen() -> None:
    """95 % intervals hold some 95 % of the true qualities of new texts, over 4 worlds, in each bin of cells per domain
    and arm.
    """
    inside: dict[tuple[int, int], list[float]] = {pair: [] for pair in pairwise((0, 1, 20, 80, 10_000))}
    for seed in range(4):
        rng, world = np.random.default_rng(seed), World.of(seed)
        x, table, cells = world.table(1500, rng)
        asked, domain, truth = world.texts(400, rng)
        forecast = Domains(seed=seed).fit(x, table).predict(asked)
        within = np.abs(truth - forecast.quality) <= 1.96 * forecast.spread
        for (low, high), shares in inside.items():
            own = (cells[domain] >= low) & (cells[domain] < high)
            shares.append(float(within[own].mean()))
    covered = {pair: float(np.mean(shares)) for pair, shares in inside.items()}
    assert all(0.88 <= share <= 0.99 for share in covered.values()), covered


def test_a_text_of_no_known_domain_is_forecast_by_averages_and_with_a_wide_spread() -> None:
    rng, world = np.random.default_rng(3), World.of(3)
    x, table, _ = world.table(1500, rng)
    fitted = Domains().fit(x, table)
    strange = rng.normal(size=(40, DIM)).astype(np.float32)
    known, unknown = fitted.predict(world.texts(200, rng)[0]), fitted.predict(strange)
    average = fitted.arrays()["quality"][-1].astype(np.float64)
    assert np.abs(unknown.quality - average).mean() < 0.5 * np.abs(known.quality - average).mean()
    assert unknown.spread.mean() > 1.15 * known.spread.mean()


@pytest.mark.parametrize(
    "odd", ["an arm seen once", "a task of one query", "a source of right answers", "a task for every query"]
)
def test_odd_tables_give_routers_that_decide(odd: str) -> None:
    rng, world = np.random.default_rng(5), World.of(5)
    x, table, _ = world.table(300, rng, among=3)
    quality, tasks = table.quality.copy(), list(table.tasks)
    if odd == "an arm seen once":
        quality[np.flatnonzero(np.isfinite(quality[:, 3]))[1:], 3] = np.nan
    elif odd == "a task of one query":
        tasks[7] = "alone"
    elif odd == "a source of right answers":
        own = np.array(tasks) == tasks[0]
        quality[own] = np.where(np.isfinite(quality[own]), 1.0, np.nan)
    else:
        tasks = [f"task {i}" for i in range(len(tasks))]
    table = dataclasses.replace(table, quality=quality, tasks=tuple(tasks))
    router = Recipe(folds=2, resamples=0).fit(table, x)
    forecast, choices = router.forecast_vectors(x), router.decide(x)
    known = np.isfinite(forecast.quality)
    assert known.all(axis=0).any() and (choices.arm >= 0).all() and np.isfinite(choices.cost).all()
    assert ((forecast.quality[known] >= 0) & (forecast.quality[known] <= 1)).all() and (
        forecast.spread[known] > 0
    ).all()
    if odd == "a source of right answers":
        assert forecast.quality[own][np.isfinite(quality[own])].mean() > 0.9


@pytest.mark.slow
def test_five_thousand_arms_are_trained_decided_and_listed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    n, arms = 60, 5000
    quality = np.where(np.arange(arms) % 3 == np.arange(n)[:, None] % 3, rng.random((n, arms)) < 0.5, np.nan).astype(
        np.float64
    )
    table = table_of(quality, [f"task {i % 3}" for i in range(n)])
    x = rng.normal(size=(n, 384)).astype(np.float32)
    router = Recipe(folds=2, resamples=0).fit(table, x)
    assert len(router.arms) == arms and (router.decide(x).arm >= 0).all()
    stats = DomainStats.fit(
        x, table.tasks, table.quality, table.output_tokens, np.full(n, 10.0), {task: task for task in table.tasks}
    )
    dataclasses.replace(router, domain_stats=stats).save(tmp_path / "router")
    assert Router.load(tmp_path / "router").arms == router.arms
    shown = CliRunner().invoke(main, ["models", "--router", str(tmp_path / "router")])
    assert shown.exit_code == 0 and "m4999" in shown.output
