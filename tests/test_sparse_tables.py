"""Tables of several sources: token counts that leave thinking out, models without a price, files that do not agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from r2router.errors import ConfigError, DataError, MissingPrice, UsageError
from r2router.pool.pool import Pool
from r2router.table.table import Table
from r2router.types import Prices

PRICES = {"a": Prices(input=1.0, output=10.0)}


def rows(*cells: dict[str, object]) -> pl.DataFrame:
    usual = {"query_id": "q1", "query": "?", "task": "t", "model": "a", "budget": "default", "quality": 1.0, "output_tokens": 5}
    return pl.DataFrame([usual | cell for cell in cells], infer_schema_length=None)


@pytest.mark.parametrize("basis", ["visible_text", "none", " Visible_Text "])
def test_counts_of_the_visible_text_are_not_used(basis: str) -> None:
    table = Table.read(rows({"tokens_basis": basis, "reasoning_tokens": 2}, {"query_id": "q2", "query": "!", "tokens_basis": "api"}))
    np.testing.assert_array_equal(table.output_tokens, [[np.nan], [5]])
    assert np.isnan(table.reasoning_tokens).all() and np.isfinite(table.quality).all()
    assert any("1 token counts are of the visible text alone" in note for note in table.notes)


@pytest.mark.parametrize(("said", "used"), [(True, False), ("yes", False), (1, False), (False, True), ("no", True), (None, True)])
def test_a_column_may_say_that_only_visible_text_was_counted(said: object, used: bool) -> None:
    table = Table.read(rows({"tokens_visible_only": said}))
    assert np.isfinite(table.output_tokens[0, 0]) == used


def test_an_unknown_basis_is_refused_by_its_row() -> None:
    with pytest.raises(DataError, match=r"row 2: tokens_basis is 'guess'; it must be one of api, text"):
        Table.read(rows({"tokens_basis": "api"}, {"query_id": "q2", "query": "!", "tokens_basis": "guess"}))
    with pytest.raises(DataError, match=r"row 1: tokens_visible_only is 'perhaps'; it must be true or false"):
        Table.read(rows({"tokens_visible_only": "perhaps"}))


def test_models_without_a_price_teach_or_are_dropped_and_else_both_ways_are_named() -> None:
    frame = rows({}, {"model": "gone", "quality": 0.5}, {"query_id": "q2", "query": "!", "model": "gone", "quality": 0.0})
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
    pl.DataFrame({"query": ["!", "?!"], "model": "b", "budget": 100, "quality": [0, 1], "tokens_basis": "text"}).write_csv(
        tmp_path / "two.csv"
    )
    table = Table.read([tmp_path / "one.parquet", tmp_path / "two.csv"])
    assert table.arms == ("a@low", "a@default", "b@100") and len(table) == 3
    assert np.isfinite(table.quality).sum() == 4


def test_prices_that_disagree_are_told_with_their_files(tmp_path: Path) -> None:
    for name, price in (("one.csv", 10), ("two.csv", 11)):
        (tmp_path / name).write_text(f"model,input_usd_per_million,output_usd_per_million\na,1,{price}\n")
    files = [tmp_path / "one.csv", tmp_path / "two.csv"]
    with pytest.raises(ConfigError, match=r"two prices for 'a'.*1 in, 10 out \(.*one.csv\) and 1 in, 11 out \(.*two.csv\)"):
        Table.read(rows({}), prices=files)
    assert Table.read(rows({}), prices=[files[0], PRICES]).pool["a"].usd_per_million == PRICES["a"], "those that agree are one"
