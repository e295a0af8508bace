"""Tables of several sources: token counts that leave thinking out, models without a price, files that do not agree."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from r2router import Recipe, Router, evaluate
from r2router.cli import main
from r2router.errors import ConfigError, DataError, MissingPrice, UsageError
from r2router.evaluation import SparseReport
from r2router.metrics.by_task import gaps, pooled, task_means
from r2router.metrics.methods import Means, Outcomes
from r2router.pool.pool import Pool
from r2router.predict.automatic import Automatic
from r2router.predict.blend import Blend
from r2router.predict.domains import Domains
from r2router.table.bundled import TABLES
from r2router.table.table import Table
from r2router.testing.learners import made_up
from r2router.types import Prices

PRICES = {"a": Prices(input=1.0, output=10.0)}


def rows(*cells: dict[str, object]) -> pl.DataFrame:
    usual = {
        "query_id": "q1",
        "query": "?",
        "task": "t",
        "model": "a",
        "budget": "default",
        "quality": 1.0,
        "output_tokens": 5,
    }
    return pl.DataFrame([usual | cell for cell in cells], infer_schema_length=None)


@pytest.mark.parametrize("basis", ["visible_text", "none", " Visible_Text "])
def test_counts_of_the_visible_text_are_not_used(basis: str) -> None:
    table = Table.read(
        rows({"tokens_basis": basis, "reasoning_tokens": 2}, {"query_id": "q2", "query": "!", "tokens_basis": "api"})
    )
    np.testing.assert_array_equal(table.output_tokens, [[np.nan], [5]])
    assert np.isnan(table.reasoning_tokens).all() and np.isfinite(table.quality).all()
    assert any("1 token counts are of the visible text alone" in note for note in table.notes)


@pytest.mark.parametrize(
    ("said", "used"), [(True, False), ("yes", False), (1, False), (False, True), ("no", True), (None, True)]
)
def test_a_column_may_say_that_only_visible_text_was_counted(said: object, used: bool) -> None:
    table = Table.read(rows({"tokens_visible_only": said}))
    assert np.isfinite(table.output_tokens[0, 0]) == used


def test_an_unknown_basis_is_refused_by_its_row() -> None:
    with pytest.raises(DataError, match=r"row 2: tokens_basis is 'guess'; it must be one of api, text"):
        Table.read(rows({"tokens_basis": "api"}, {"query_id": "q2", "query": "!", "tokens_basis": "guess"}))
    with pytest.raises(DataError, match=r"row 1: tokens_visible_only is 'perhaps'; it must be true or false"):
        Table.read(rows({"tokens_visible_only": "perhaps"}))


def test_models_without_a_price_teach_or_are_dropped_and_else_both_ways_are_named() -> None:
    frame = rows(
        {}, {"model": "gone", "quality": 0.5}, {"query_id": "q2", "query": "!", "model": "gone", "quality": 0.0}
    )
    with pytest.raises(MissingPrice, match=r"'gone'.*--unpriced teach or --unpriced drop"):
        Table.read(frame, prices=PRICES)
    taught = Table.read(frame, prices=PRICES, unpriced="teach")
    assert taught.arms == ("a@default",) and taught.queries == ("?", "!")
    np.testing.assert_array_equal(taught.teaching, [[0.5], [0.0]])
    np.testing.assert_array_equal(taught.take([1]).teaching, [[0.0]])
    assert taught.cost().shape == (2, 1), "only what has a price is priced"
    dropped = Table.read(frame, prices=PRICES, unpriced="drop")
    assert dropped.queries == ("?",) and dropped.teaching is None
    with pytest.raises(MissingPrice, match="'a', 'gone'"):
        Table.read(frame, prices={}, unpriced="teach")
    with pytest.raises(UsageError, match="'teach' or 'drop'"):
        Table.read(frame, prices=PRICES, unpriced="forget")  # type: ignore[arg-type]


def test_arms_outside_a_given_pool_teach_too() -> None:
    pool = Pool.infer(rows({})).with_prices(PRICES)
    taught = Table.read(rows({}, {"budget": "low", "quality": 0.25}, {"model": "b"}), pool, unpriced="teach")
    assert taught.arms == ("a@default",)
    np.testing.assert_array_equal(taught.teaching, [[0.25, 1.0]])


def test_files_of_different_layouts_and_pools_are_one_table(tmp_path: Path) -> None:
    rows({}, {"budget": "low"}).write_parquet(tmp_path / "one.parquet")
    pl.DataFrame(
        {"query": ["!", "?!"], "model": "b", "budget": 100, "quality": [0, 1], "tokens_basis": "text"}
    ).write_csv(tmp_path / "two.csv")
    table = Table.read([tmp_path / "one.parquet", tmp_path / "two.csv"])
    assert table.arms == ("a@low", "a@default", "b@100") and len(table) == 3
    assert np.isfinite(table.quality).sum() == 4


def test_prices_that_disagree_are_told_with_their_files(tmp_path: Path) -> None:
    for name, price in (("one.csv", 10), ("two.csv", 11)):
        (tmp_path / name).write_text(f"model,input_usd_per_million,output_usd_per_million\na,1,{price}\n")
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    with pytest.raises(
        ConfigError, match=r"two prices for 'a'.*1 in, 10 out \(.*one.csv\) and 1 in, 11 out \(.*two.csv\)"
    ):
        Table.read(rows({}), prices=files)
    assert Table.read(rows({}), prices=[files[0], PRICES]).pool["a"].usd_per_million == PRICES["a"], (
        "those that agree are one"
    )


# -- learning and judging ---------------------------------------------------------------------------------------------


def in_blocks(seed: int, n: int = 160) -> tuple[np.ndarray, Table]:
    """Two suites of unlike queries, and a small third one: arms a and b are good on one each of the first two; others
    saw only one.
    """
    rng = np.random.default_rng(seed)
    suite = np.where(np.arange(n) % 8 == 7, 2, np.arange(n) % 2)
    x = (rng.normal(size=(n, 16)) * 0.15 + np.eye(16)[suite]).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    level = {"a": (0.9, 0.3, None), "b": (0.3, 0.9, None), "c": (0.6, 0.6, 0.5), "d": (0.5, 0.4, None)}
    level |= {"e": (0.7, None, None), "f": (None, 0.7, 0.4)}
    cells = []
    for i in range(n):
        for name, of in level.items():
            if (chance := of[suite[i]]) is not None and (name != "c" or i % 3):
                cells.append(
                    {
                        "query_id": f"q{i:03}", "query": f"query number {i} {seed}", "task": f"suite {suite[i]}",
                        "model": name,
                        "budget": "default", "quality": float(rng.random() < chance),
                        "output_tokens": float(rng.integers(50, 150)),
                    }
                )  # fmt: skip
    frame = pl.DataFrame(cells)
    prices = {name: Prices(input=0.1 * (k + 1), output=float(k + 1)) for k, name in enumerate(level)}
    return x, Table.read(frame, prices=prices)


def test_a_sparse_table_is_learned_by_domain_and_a_dense_one_as_before() -> None:
    x, table = in_blocks(0)
    assert isinstance(Automatic().chosen(x, table), (Domains, Blend))
    x_dense, dense = made_up()
    assert Automatic().chosen(x_dense, dense) == Blend()
    same, alone = (learner.fit(x_dense, dense).predict(x_dense) for learner in (Automatic(), Blend()))
    np.testing.assert_array_equal(same.quality, alone.quality)
    np.testing.assert_array_equal(same.tokens, alone.tokens)


def test_an_arm_is_forecast_by_what_it_did_in_the_domain_of_the_query() -> None:
    x, table = in_blocks(1)
    new, other = in_blocks(2)
    forecast = Domains().fit(x, table).predict(new)
    first = np.array(other.tasks) == "suite 0"
    a, b, e = (table.arms.index(f"{name}@default") for name in "abe")
    assert forecast.quality[first, a].mean() > forecast.quality[first, b].mean() + 0.3
    assert forecast.quality[~first, b].mean() > forecast.quality[~first, a].mean() + 0.3
    assert forecast.spread[~first, e].mean() > 1.2 * forecast.spread[first, e].mean(), "it was never seen there"


def test_domains_learn_difficulty_from_models_that_only_teach() -> None:
    x, table = in_blocks(3)
    rng = np.random.default_rng(0)
    hard = rng.random(len(table)) < 0.5
    x = np.concatenate([x, np.where(hard, 1.0, -1.0)[:, None]], axis=1).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    teachers = np.tile(np.where(hard, 0.0, 1.0)[:, None], (1, 30))
    taught = Domains().fit(x, dataclasses.replace(table, teaching=teachers)).predict(x).quality
    assert np.nanmean(taught[~hard]) > np.nanmean(taught[hard]) + 0.1


def test_the_spread_covers_what_an_arm_seldom_seen_really_does() -> None:
    """Of arms seen on one in eight queries, the mean over a suite lies within two spreads of the forecast in nearly all
    cases.
    """
    inside = []
    for seed in range(6):
        x, table = in_blocks(10 + seed, 320)
        rng = np.random.default_rng(seed)
        gone = rng.random(table.quality.shape) < 0.875
        few = dataclasses.replace(table, quality=np.where(gone, np.nan, table.quality))
        forecast = Domains().fit(x, few).predict(x)
        for task in ("suite 0", "suite 1"):
            own = np.array(table.tasks) == task
            seen = np.isfinite(table.quality[own])
            truth = np.where(seen, table.quality[own], 0).sum(0) / np.maximum(seen.sum(0), 1)
            expected, spread = forecast.quality[own].mean(0), forecast.spread[own].mean(0)
            known = seen.any(axis=0)
            inside += (np.abs(truth - expected)[known] <= 2 * spread[known]).tolist()
    assert np.mean(inside) >= 0.9


def test_one_query_alone_is_forecast_as_among_many() -> None:
    x, table = in_blocks(4, 800)
    fitted = Domains().fit(x, table)
    many = fitted.predict(x)
    for row in range(0, 40, 7):
        one = fitted.predict(x[row : row + 1])
        np.testing.assert_allclose(one.quality[0], many.quality[row], atol=2e-4)
        np.testing.assert_allclose(one.tokens[0], many.tokens[row], rtol=1e-3)


@pytest.fixture(scope="module")
def routed() -> tuple[Router, Table, np.ndarray, Table]:
    x, table = in_blocks(5, 400)
    new, other = in_blocks(6, 400)
    router = Recipe(learner=Domains(), folds=2, resamples=20).fit(table, x)
    return router, dataclasses.replace(other), new, table


def test_a_sparse_table_is_judged_task_by_task(routed: tuple[Router, Table, np.ndarray, Table]) -> None:
    router, other, x, train = routed
    assert "each task's best arm" in router.facts.promise
    for given, how in ((None, "the other half"), (train, "the training answers")):
        report = evaluate(router, other, vectors=x, train=given, resamples=50)
        assert isinstance(report, SparseReport)
        words = " ".join(str(report).split())
        assert how in words and "suite 0" in words and "mean of 2 tasks" in words
        assert all(task.queries >= 25 and task.arms >= 4 for task in report.gaps.tasks)
        assert report.gaps.mean.low <= report.gaps.mean.value <= report.gaps.mean.high
        assert report.to_dict()["tasks"]["suite 0"]["queries"] > 100
        assert report.findings("r2router evaluate").sections


def test_a_router_that_knows_the_task_means_only_is_worth_what_the_mixture_is() -> None:
    x, table = in_blocks(7, 400)
    means = task_means(table.quality, table.tasks, table.quality, table.tasks)
    costs = task_means(table.quality, table.tasks, table.cost(), table.tasks)
    outcomes = Outcomes.of(table.arms, table.quality, table.cost())
    found = gaps(table.tasks, means, costs, outcomes, Means(means, costs), 20, 0)
    assert len(found.tasks) == 2 and found.mean.value == pytest.approx(0.0, abs=1e-12)
    assert len(x) == len(table)


def test_pooled_traffic_is_compared_with_the_arms_averages(routed: tuple[Router, Table, np.ndarray, Table]) -> None:
    router, other, x, train = routed
    report = evaluate(router, other, vectors=x, train=train, resamples=100)
    assert isinstance(report, SparseReport)
    assert report.pooled.n == len(other) and report.pooled.low > 0, (
        "who knows the domain knows which of a and b is good there"
    )
    assert "All tasks pooled" in str(report) and report.to_dict()["pooled"]["value"] == report.pooled.value
    outcomes = Outcomes.of(other.arms, other.quality, other.cost())
    means = Means(router.prior_quality, router.pool.cost(np.zeros(1), router.prior_tokens[None])[0])
    same = pooled(*(np.tile(a, (len(other), 1)) for a in (means.quality, means.cost)), outcomes, means, 20, 0)
    assert same.value == same.low == same.high == 0.0


def test_each_file_is_left_out_in_turn(tmp_path: Path) -> None:
    """Two files have one kind of query, a third has a kind of its own; a fourth is too small to compare."""
    x, table = in_blocks(9, 320)
    part = np.where(
        np.arange(len(table)) < 3, 3, np.where(np.array(table.tasks) == "suite 1", 2, np.arange(len(table)) // 2 % 2)
    )
    files = [tmp_path / f"{name}.parquet" for name in ("one", "two", "other", "tiny")]
    rows_of = [np.flatnonzero(part == number) for number in range(4)]
    for file, own in zip(files, rows_of, strict=True):
        table.take(own).write(file)
    whole = Table.read(files, table.pool)
    assert whole.source_of is not None and [int((whole.source_of == k).sum()) for k in range(4)] == [
        len(own) for own in rows_of
    ]
    place = {query: i for i, query in enumerate(table.query_ids)}
    vectors = x[[place[query] for query in whole.query_ids]]
    router = Recipe(learner=Domains(), folds=0).fit(whole, vectors)
    report = evaluate(router, whole, vectors=vectors, leave_out=True, resamples=20)
    assert isinstance(report, SparseReport)
    assert [Path(one.source).stem for one in report.left_out] == ["one", "two", "other"]
    assert all(one.over_mixture.low <= one.over_mixture.value <= one.over_mixture.high for one in report.left_out)
    assert "Each file left out" in str(report) and str(files[2]) in report.to_dict()["left_out"]
    assert not evaluate(router, whole, vectors=vectors, resamples=2).left_out, "only where that was asked for"


def test_small_and_odd_tables_are_learned_from() -> None:
    x, table = in_blocks(8)
    once = table.quality.copy()
    once[1:, 0] = np.nan
    tasks = ("alone", *table.tasks[1:])
    right = np.where(np.isfinite(table.quality), 1.0, np.nan)
    for odd in (
        dataclasses.replace(table, quality=once),
        dataclasses.replace(table, tasks=tasks),
        dataclasses.replace(table, quality=right),
        dataclasses.replace(table, tasks=tuple(f"t{i}" for i in range(len(table)))),
    ):
        forecast = Domains().fit(x, odd).predict(x)
        assert np.isfinite(forecast.quality).all() and ((forecast.quality >= 0) & (forecast.quality <= 1)).all()
        assert (forecast.tokens > 0).all() and (forecast.spread > 0).all()


def test_the_bundled_dense_tables_are_learned_as_before() -> None:
    for file in TABLES.values():
        table = Table.read(file)
        assert Automatic().chosen(np.zeros((len(table), 2), dtype=np.float32), table) == Blend()


def test_train_names_both_ways_for_models_without_a_price(tmp_path: Path) -> None:
    cells = [{"query_id": f"q{i}", "query": f"what is {i}?", "quality": i % 2} for i in range(12)]
    frame = rows(*cells, {"query": "what is 1?", "model": "gone"})
    frame.write_parquet(tmp_path / "table.parquet")
    (tmp_path / "prices.csv").write_text("model,input_usd_per_million,output_usd_per_million\na,1,10\n")
    command = ["train", str(tmp_path / "table.parquet"), "--prices", str(tmp_path / "prices.csv"), "--folds", "0"]
    refused = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "none")])
    assert refused.exit_code == 2 and "--unpriced teach or --unpriced drop" in refused.stderr
    for way in ("teach", "drop"):
        done = CliRunner().invoke(main, [*command, "--unpriced", way, "--out", str(tmp_path / way)])
        assert done.exit_code == 0, done.output
        assert Router.load(tmp_path / way).arms == ("a@default",)
