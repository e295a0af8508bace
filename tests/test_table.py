"""Outcome tables: every layout that comes in, every rule they can break, and what survives a round trip."""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import ConfigError, DataError, MissingPrice, SaveError
from r2router.pool.pool import Pool
from r2router.table.table import ARRAYS, Table
from r2router.types import Budget, Model, Prices

PRICES = {"a": Prices(input=1.0, output=10.0, cached_input=0.5, reasoning=20.0), "b": Prices(input=2.0, output=20.0)}


def pool_of(*arms: str) -> Pool:
    models: dict[str, list[Budget]] = {}
    for arm in arms:
        name, _, budget = arm.partition("@")
        models.setdefault(name, []).append(Budget.of(budget))
    return Pool(Model(id=m, budgets=tuple(b), usd_per_million=PRICES.get(m)) for m, b in models.items())


def rows(*cells: dict[str, Any], **everywhere: Any) -> pl.DataFrame:
    """A data frame of rows; what is left out is one good answer of `a@10` to the query "?"."""
    usual = {
        "query_id": "q1",
        "query": "?",
        "model": "a",
        "budget": "10",
        "quality": 1.0,
        "output_tokens": 5,
    } | everywhere
    return pl.DataFrame([usual | cell for cell in cells])


def same(a: Table, b: Table) -> None:
    assert (a.pool.arms, a.query_ids, a.queries, a.tasks) == (b.pool.arms, b.query_ids, b.queries, b.tasks)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


GOOD = rows(
    {"task": "x", "input_tokens": 7, "cached_tokens": 2, "reasoning_tokens": 3, "cost_usd": 0.1},
    {"task": "x", "budget": "unlimited", "quality": 0.5, "output_tokens": 9},
    {"query_id": "q2", "query": "!", "model": "b", "quality": 0.0, "output_tokens": 0},
    {"query_id": "q2", "query": "!", "quality": None, "output_tokens": None, "error": "timeout"},
)


def write(frame: pl.DataFrame, path: Path) -> Path:
    {
        ".parquet": frame.write_parquet,
        ".csv": frame.write_csv,
        ".jsonl": frame.write_ndjson,
        ".ndjson": frame.write_ndjson,
    }[path.suffix](path)
    return path


# -- what comes in ----------------------------------------------------------------------------------------------------


def check_good(table: Table) -> None:
    nan = math.nan
    assert table.pool.arms == ("a@10", "a@unlimited", "b@10")
    assert (table.query_ids, table.queries, table.tasks) == (("q1", "q2"), ("?", "!"), ("x", ""))
    np.testing.assert_array_equal(table.quality, [[1.0, 0.5, nan], [nan, nan, 0.0]])
    np.testing.assert_array_equal(table.output_tokens, [[5, 9, nan], [nan, nan, 0]])
    np.testing.assert_array_equal(table.input_tokens, [[7, nan, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(table.cached_tokens, [[2, nan, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(table.reasoning_tokens, [[3, nan, nan], [nan, nan, nan]])
    np.testing.assert_array_equal(table.cost_usd, [[0.1, nan, nan], [nan, nan, nan]])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ndjson"])
def test_the_long_format_reads_the_same_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = write(GOOD, tmp_path / f"table{suffix}")
    table = Table.read(path)
    check_good(table)
    assert table.sources == ((str(path), hashlib.sha256(path.read_bytes()).hexdigest()),)
    assert table.notes == ()


@pytest.mark.parametrize("frame", [GOOD, GOOD.lazy()], ids=["eager", "lazy"])
def test_data_frames_read_too(frame: Any) -> None:
    table = Table.read(frame)
    check_good(table)
    assert table.sources == ()


def test_upper_case_suffixes_and_text_paths(tmp_path: Path) -> None:
    check_good(Table.read(str(write(GOOD, tmp_path / "t.csv").rename(tmp_path / "T.CSV"))))


def test_columns_nobody_asked_for_do_not_matter() -> None:
    check_good(Table.read(GOOD.with_columns(response=pl.lit("words"), judge=pl.lit("j"), latency_s=pl.lit(-1.0))))


def test_a_foreign_layout_comes_in_through_a_mapping(tmp_path: Path) -> None:
    names = {
        "query": "prompt",
        "quality": "score",
        "model": "llm",
        "budget": "effort",
        "query_id": "id",
        "output_tokens": "completion_tokens",
    }
    path = write(GOOD.rename(names), tmp_path / "foreign.csv")
    check_good(Table.read(path, columns=names))
    with pytest.raises(DataError, match=r"foreign.csv: no column 'query' .*prompt.*columns="):
        Table.read(path)


def test_a_mapping_wins_over_a_column_of_our_own_name() -> None:
    frame = rows({"quality": 0.0, "strict_quality": 1.0})
    assert Table.read(frame, columns={"quality": "strict_quality"}).quality.tolist() == [[1.0]]


def test_a_mapping_to_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DataError, match="'scoer'"):
        Table.read(rows({}), columns={"quality": "scoer"})
    with pytest.raises(DataError, match=r"'qualty' is not a column of ours \(did you mean 'quality'\?\)"):
        Table.read(rows({}), columns={"qualty": "score"})


def test_queries_without_an_id_are_told_apart_by_their_text() -> None:
    table = Table.read(rows({"query": "one"}, {"query": "two"}, {"query": "one", "budget": "20"}).drop("query_id"))
    assert table.query_ids == table.queries == ("one", "two")


@pytest.mark.parametrize("budgets", [[10, 200], [10.0, 200.0], ["10", "200"]], ids=["int", "float", "str"])
@pytest.mark.parametrize("column", ["budget", "budget_tokens"])
def test_budgets_may_be_numbers(column: str, budgets: list[Any]) -> None:
    frame = rows({}, {"query_id": "q2", "query": "!"}).drop("budget").with_columns(pl.Series(column, budgets))
    assert Table.read(frame).pool.budgets == (Budget.of(10), Budget.of(200))


def test_text_from_csv_stays_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("query_id,query,model,budget,quality\n007,1.10,4o,010,1\n7,true,4o,20,0.25\n")
    table = Table.read(path)
    assert table.query_ids == ("007", "7") and table.queries == ("1.10", "true")
    assert set(table.arms) == {"4o@10", "4o@20"}
    assert np.nansum(table.quality) == 1.25


def test_text_with_commas_quotes_line_breaks_and_other_scripts(tmp_path: Path) -> None:
    words = ['a, "b"\nc', "你好 🙂", "naïve\tcafé", "  spaces  "]
    frame = rows(*({"query_id": str(i), "query": w} for i, w in enumerate(words)))
    for suffix in (".csv", ".parquet", ".jsonl"):
        assert Table.read(write(frame, tmp_path / f"t{suffix}")).queries == tuple(words)


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt16, pl.Int64, pl.Float32, pl.Boolean, pl.String])
def test_quality_of_any_kind_of_number(kind: Any) -> None:
    frame = rows({"quality": 1}, {"quality": 0, "budget": "20"})
    quality = pl.col("quality").cast(pl.Int8).cast(kind)
    assert Table.read(frame.with_columns(quality)).quality.tolist() == [[1.0, 0.0]]


def test_categories_are_text() -> None:
    check_good(Table.read(GOOD.with_columns(pl.col("model", "budget", "query_id").cast(pl.Categorical))))


# -- samples and failures ---------------------------------------------------------------------------------------------


def test_samples_of_a_cell_are_averaged() -> None:
    table = Table.read(
        rows({"sample": 0, "quality": 1.0, "output_tokens": 10}, {"sample": 1, "quality": 0.5, "output_tokens": 40})
    )
    assert table.quality.tolist() == [[0.75]] and table.output_tokens.tolist() == [[25.0]]


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_sample_that_was_not_scored_does_not_count(nothing: Any) -> None:
    table = Table.read(
        rows({"sample": 0, "quality": 1.0, "output_tokens": 10}, {"sample": 1, "quality": nothing, "output_tokens": 40})
    )
    assert table.quality.tolist() == [[1.0]] and table.output_tokens.tolist() == [[25.0]]


def test_a_failed_call_is_no_observation_and_never_a_zero() -> None:
    frame = rows(
        {"quality": 0.0, "output_tokens": 3, "error": "rate limit"},
        {"budget": "20", "sample": 0, "quality": 1.0, "error": None},
        {"budget": "20", "sample": 1, "quality": 0.0, "error": "timeout"},
    )
    table = Table.read(frame)
    np.testing.assert_array_equal(table.quality, [[math.nan, 1.0]])
    np.testing.assert_array_equal(table.output_tokens, [[math.nan, 5.0]])


def test_an_empty_error_is_none() -> None:
    assert Table.read(rows({"error": ""})).quality.tolist() == [[1.0]]


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_what_was_not_scored_is_nan(nothing: Any) -> None:
    table = Table.read(rows({"quality": nothing}, {"budget": "20"}))
    np.testing.assert_array_equal(table.quality, [[math.nan, 1.0]])
    assert table.output_tokens.tolist() == [[5.0, 5.0]]


# -- several sources --------------------------------------------------------------------------------------------------


def test_tables_with_different_pools_read_as_one(tmp_path: Path) -> None:
    one = write(rows({"query_id": "q1"}, {"query_id": "q1", "budget": "30"}), tmp_path / "one.parquet")
    two = write(
        rows({"query_id": "q2", "query": "!", "budget": "20", "quality": 0.0}, {"query_id": "q1", "model": "b"}),
        tmp_path / "two.csv",
    )
    table = Table.read([one, two])
    nan = math.nan
    assert table.arms == ("a@10", "a@20", "a@30", "b@10")
    np.testing.assert_array_equal(table.quality, [[1, nan, 1, 1], [nan, 0, nan, nan]])
    assert [name for name, _ in table.sources] == [str(one), str(two)]


def test_a_folder_is_all_its_tables(tmp_path: Path) -> None:
    write(rows({}), tmp_path / "1.parquet")
    write(rows({"budget": "20"}), tmp_path / "2.csv")
    (tmp_path / "README.md").write_text("not a table")
    assert Table.read(tmp_path).arms == ("a@10", "a@20")
    assert len(Table.read([tmp_path]).sources) == 2


def test_a_cell_in_two_sources_is_a_duplicate(tmp_path: Path) -> None:
    one, two = write(rows({}), tmp_path / "one.csv"), write(rows({}), tmp_path / "two.csv")
    with pytest.raises(DataError, match=r"one.csv.*two.csv.*a@10 more than once"):
        Table.read([one, two])


def test_the_wide_layout_of_r2_bench(tmp_path: Path) -> None:
    head = "query,task,unlimited_score,unlimited_count,10_score,10_count,100_score,100_count\n"
    (tmp_path / "small.csv").write_text(head + '"one, two",t,0.5,900,0.1,9,0.3,80\nthree,,0.9,800,,,0,0\n')
    (tmp_path / "large.csv").write_text(head + '"one, two",t,1,90,1,9,1,8\nthree,,1,8,1,1,1,2\n')
    table = Table.read(tmp_path)
    assert table.arms == tuple(f"{m}@{b}" for m in ("large", "small") for b in ("10", "100", "unlimited"))
    assert table.queries == ("one, two", "three") and table.tasks == ("t", "")
    np.testing.assert_array_equal(table.quality, [[1, 1, 1, 0.1, 0.3, 0.5], [1, 1, 1, math.nan, 0.0, 0.9]])
    np.testing.assert_array_equal(table.output_tokens, [[9, 8, 90, 9, 80, 900], [1, 2, 8, math.nan, 0, 800]])
    assert table.pool.budgets[1] == Budget("100", 100)
    only = Table.read([tmp_path / "small.csv"], pool_of("small@10", "large@10"), drop_unknown=True)
    np.testing.assert_array_equal(only.quality, [[0.1, math.nan], [math.nan, math.nan]])


@pytest.mark.parametrize("name", ["question", "prompt", "input", "text"])
def test_the_wide_layout_finds_the_query_under_its_usual_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "m.csv").write_text(f"{name},10_score\nwhy?,1\n")
    assert Table.read(tmp_path / "m.csv").queries == ("why?",)


def test_the_wide_layout_with_names_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("words,number,kind,10_score,10_count\nwhy?,n7,math,1,5\n")
    table = Table.read(tmp_path / "m.csv", columns={"query": "words", "query_id": "number", "task": "kind"})
    assert (table.queries, table.query_ids, table.tasks) == (("why?",), ("n7",), ("math",))
    with pytest.raises(DataError, match=r"m.csv: no column with the query's text"):
        Table.read(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("0.5,5\n1.5,5", ["row 2", "quality of m@100", "1.5"]),
        ("0.5,5\n0.5,-5", ["row 2", "output_tokens of m@100", "-5"]),
        ("0.5,5\nbad,5", ["row 2", "100_score", "'bad'", "number"]),
        ("0.5,many\n0.5,5", ["row 1", "100_count", "'many'", "number"]),
    ],
)
def test_a_mistake_in_a_wide_file_is_named_by_its_own_row(tmp_path: Path, cells: str, words: list[str]) -> None:
    first, second = cells.split("\n")
    (tmp_path / "m.csv").write_text(f"query,10_score,10_count,100_score,100_count\none,1,1,{first}\ntwo,1,1,{second}\n")
    with pytest.raises(DataError) as caught:
        Table.read(tmp_path / "m.csv")
    for word in ("m.csv", *words):
        assert word in str(caught.value)


def test_wide_columns_that_are_no_numbers_at_all() -> None:
    frame = pl.DataFrame({"query": ["one"], "10_score": [[1.0]]})
    with pytest.raises(DataError, match="10_score"):
        Table.read(frame)


def test_wide_files_whose_rows_are_not_the_same_queries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("query,10_score\none,1\ntwo,1\n")
    (tmp_path / "b.csv").write_text("query,10_score\ntwo,1\none,1\n")
    with pytest.raises(DataError, match="different texts"):
        Table.read(tmp_path)


@pytest.mark.parametrize(
    ("path", "scan"),
    [
        ("hf://datasets/someone/bench/data.parquet", "scan_parquet"),
        ("hf://datasets/someone/bench/data.csv", "scan_csv"),
        ("hf://datasets/someone/bench/data.jsonl", "scan_ndjson"),
        ("hf://datasets/someone/bench@main/part-*.parquet", "scan_parquet"),
        ("s3://bucket/folder", "scan_parquet"),
    ],
)
def test_addresses_are_handed_to_polars_as_they_are(monkeypatch: pytest.MonkeyPatch, path: str, scan: str) -> None:
    asked = []

    def fake(source: Any, **_: Any) -> pl.LazyFrame:
        asked.append(source)
        return GOOD.select(pl.all().cast(pl.String) if scan == "scan_csv" else pl.all()).lazy()

    monkeypatch.setattr(pl, scan, fake)
    table = Table.read(path)
    check_good(table)
    assert asked == [path]
    assert table.sources == ((path, ""),)


@pytest.mark.parametrize("path", ["hf://datasets/someone/R2-Bench", "hf://datasets/someone/R2-Bench/*.csv"])
def test_wide_tables_at_an_address_that_names_no_llm_are_refused(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    wide = pl.DataFrame({"query": ["one", "two"], "10_score": ["1", "0"]}).lazy()
    for scan in ("scan_parquet", "scan_csv"):
        monkeypatch.setattr(pl, scan, lambda *_, **__: wide)
    with pytest.raises(DataError, match="give the files one by one"):
        Table.read(path)
    assert [m.id for m in Table.read("hf://datasets/someone/R2-Bench/llama.csv").pool.models] == ["llama"]


def test_an_address_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(*_: Any, **__: Any) -> Any:
        raise OSError("could not connect")

    monkeypatch.setattr(pl, "scan_parquet", fake)
    with pytest.raises(DataError, match=r"hf://datasets/x/y.*could not connect"):
        Table.read("hf://datasets/x/y")


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ({"quality": 1.01}, ["row 2", "quality", "1.01", "[0, 1]"]),
        ({"quality": -0.1}, ["row 2", "quality", "-0.1"]),
        ({"quality": 87.0}, ["row 2", "quality", "87", "percent"]),
        ({"quality": math.inf}, ["row 2", "quality", "inf"]),
        ({"quality": -math.inf}, ["row 2", "quality", "-inf"]),
        ({"output_tokens": -1}, ["row 2", "output_tokens", "-1", "at least 0"]),
        ({"output_tokens": math.inf}, ["row 2", "output_tokens", "inf"]),
        ({"input_tokens": -5.0}, ["row 2", "input_tokens", "-5"]),
        ({"cached_tokens": -5.0}, ["row 2", "cached_tokens"]),
        ({"reasoning_tokens": -5.0}, ["row 2", "reasoning_tokens"]),
        ({"cost_usd": -0.5}, ["row 2", "cost_usd", "-0.5"]),
        ({"model": ""}, ["row 2", "model", "empty"]),
        ({"model": None}, ["row 2", "model", "empty"]),
        ({"budget": None}, ["row 2", "budget", "empty"]),
        ({"query": ""}, ["row 2", "query", "empty"]),
        ({"query": None}, ["row 2", "query", "empty"]),
        ({"model": "a@b"}, ["row 2", "model", "'a@b'", "'@'"]),
        ({"model": "a b"}, ["row 2", "model", "'a b'", "white space"]),
        ({"budget": "1@0"}, ["row 2", "budget", "'1@0'"]),
        ({"query": "other"}, ["'q1'", "different texts"]),
        ({"budget": "10"}, ["'q1'", "a@10", "more than once", "sample"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ""])
def test_a_row_that_breaks_a_rule_is_named(tmp_path: Path, suffix: str, cell: dict[str, Any], words: list[str]) -> None:
    if suffix == ".jsonl" and {math.inf, -math.inf} & set(cell.values()):
        suffix = ".csv"  # JSON has no word for it
    frame = rows({}, {"budget": "20"} | cell, {"budget": "30"})
    path = tmp_path / f"t{suffix}"
    with pytest.raises(DataError) as caught:
        Table.read(write(frame, path) if suffix else frame)
    message = str(caught.value)
    for word in (path.name if suffix else "the data frame", *words):
        assert word in message, message
    assert len(message.splitlines()) == 1


def test_a_few_impossible_amounts_among_many_are_failed_measurements(tmp_path: Path) -> None:
    cells = [{"query_id": f"q{i}", "query": f"?{i}", "output_tokens": -45 if i in (7, 9) else 5} for i in range(400)]
    table = Table.read(write(rows(*cells), tmp_path / "t.parquet"))
    assert np.flatnonzero(np.isnan(table.output_tokens[:, 0])).tolist() == [7, 9]
    assert (table.quality == 1).all(), "the answers themselves still count"
    assert len(table.notes) == 1
    for word in ("2 ", "output_tokens", "row 8", "a@10", "-45", "not observed"):
        assert word in table.notes[0]


def test_many_impossible_amounts_are_a_broken_file() -> None:
    cells = [{"query_id": f"q{i}", "query": f"?{i}", "output_tokens": -45 if i < 20 else 5} for i in range(400)]
    with pytest.raises(DataError, match=r"row 1: output_tokens of a@10 is -45.*20 of 400"):
        Table.read(rows(*cells))


def test_embeddings_are_rows_of_finite_numbers() -> None:
    table = Table.read(rows(*({"query_id": f"q{i}", "query": f"?{i}"} for i in range(3))))
    good = np.ones((3, 4), np.float32)
    table.check_vectors(good)
    table.check_vectors(good.astype(np.float16))
    broken = good.copy()
    broken[1, 2] = np.nan
    for bad, says in (
        (good[:2], "one row for each"),
        (broken, r"row 2: .* not finite \(so do 1 of \d+ queries"),
        (good.astype(str), "row of numbers"),
    ):
        with pytest.raises(DataError, match=says):
            table.check_vectors(bad)


def test_amounts_that_no_answer_can_have_are_no_amounts() -> None:
    cells = [{"query_id": f"q{i}", "query": f"?{i}", "output_tokens": 1e300 if i == 3 else 5.0} for i in range(400)]
    table = Table.read(rows(*cells))
    assert math.isnan(table.output_tokens[3, 0]) and "1e+300" in table.notes[0]
    with pytest.raises(DataError, match=r"at most 1e\+09"):
        Table.read(rows(*cells[:10]))


def test_an_impossible_quality_is_refused_even_if_it_is_one_of_many() -> None:
    with pytest.raises(DataError, match="row 400"):
        Table.read(
            rows(*({"query_id": f"q{i}", "query": f"?{i}", "quality": 1.5 if i == 399 else 1.0} for i in range(400)))
        )


@pytest.mark.parametrize("column", ["query", "model", "budget", "quality"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = write(rows({}).drop(column), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=rf"t.parquet: no column '{column}' \(there are: .*\); map it"):
        Table.read(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("column", ["quality", "output_tokens", "cost_usd"])
def test_words_where_numbers_belong_are_named_with_their_row(tmp_path: Path, suffix: str, column: str) -> None:
    frame = rows({column: "1"}, {column: "bad", "budget": "20"}, {column: "0.5", "budget": "30"})
    with pytest.raises(DataError, match=rf"t{suffix}, row 2: {column} is 'bad'.*number"):
        Table.read(write(frame, tmp_path / f"t{suffix}"))


def test_lists_where_numbers_belong_are_refused() -> None:
    with pytest.raises(DataError, match="quality"):
        Table.read(rows({}).with_columns(quality=pl.Series([[1.0, 2.0]])))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"t{suffix}"):
        Table.read(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ""])
def test_a_table_without_rows_is_refused(tmp_path: Path, suffix: str) -> None:
    frame = rows({}).head(0)
    with pytest.raises(DataError, match="no rows"):
        Table.read(write(frame, tmp_path / f"t{suffix}") if suffix else frame)


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="no table is given"):
        Table.read([])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    path.write_bytes(b"\x80\x04\x95 this is neither \x00\x01\n{")
    with pytest.raises(DataError, match=rf"t{suffix}: cannot be read as {suffix[1:]}"):
        Table.read(path)


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write(GOOD, tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"t.parquet: cannot be read"):
        Table.read(path)


def test_damaged_files_are_refused_whatever_is_damaged(tmp_path: Path) -> None:
    """A few bytes changed here and there: a table or a `DataError`, and nothing else."""
    rng = np.random.default_rng(0)
    for suffix in (".parquet", ".csv", ".jsonl"):
        whole = write(GOOD, tmp_path / f"t{suffix}").read_bytes()
        for _ in range(40):
            damaged = bytearray(whole)
            for at in rng.integers(0, len(whole), 3):
                damaged[at] = rng.integers(256)
            (tmp_path / f"t{suffix}").write_bytes(damaged)
            try:
                Table.read(tmp_path / f"t{suffix}")
            except DataError as error:
                assert f"t{suffix}" in str(error)  # noqa: PT017


def test_a_parquet_reader_that_panics_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which polars does on some damaged files, with an exception that is no `Exception`."""

    def panic(*_: Any, **__: Any) -> Any:
        raise pl.exceptions.PanicException("called `Result::unwrap()`\non an `Err` value")

    path = write(GOOD, tmp_path / "t.parquet")
    monkeypatch.setattr(pl, "scan_parquet", panic)
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read as parquet \(called"):
        Table.read(path)


def test_an_unknown_kind_of_file_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"PK")
    with pytest.raises(DataError, match=r"'.xlsx'.*\.parquet, \.csv, \.jsonl"):
        Table.read(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="holds no table"):
        Table.read(tmp_path / "folder")
    with pytest.raises(DataError, match="no such file"):
        Table.read(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="int"):
        Table.read(3)


# -- pools and prices -------------------------------------------------------------------------------------------------


def test_a_pool_fixes_the_arms_and_their_order() -> None:
    table = Table.read(GOOD, pool_of("b@10", "a@unlimited", "a@10", "a@never"))
    assert table.arms == ("b@10", "a@unlimited", "a@10", "a@never")
    np.testing.assert_array_equal(table.quality, [[math.nan, 0.5, 1.0, math.nan], [0.0, math.nan, math.nan, math.nan]])


def test_an_arm_that_the_pool_does_not_have_is_refused_or_left_out() -> None:
    with pytest.raises(DataError, match=r"model 'b' \(1 rows in all\) is not in the pool"):
        Table.read(GOOD, pool_of("a@10", "a@unlimited"))
    with pytest.raises(DataError, match=r"budget 'unlimited' of model 'a'"):
        Table.read(GOOD, pool_of("a@10", "b@10"))
    with pytest.raises(DataError, match=r"model 'gpt-5-min'.*did you mean 'gpt-5-mini'"):
        Table.read(rows({"model": "gpt-5-min"}), pool_of("gpt-5-mini@10"))
    table = Table.read(GOOD, pool_of("a@10", "a@unlimited"), drop_unknown=True)
    assert table.arms == ("a@10", "a@unlimited") and "1 rows" in table.notes[0]


def test_a_pool_that_knows_none_of_the_arms_leaves_no_table() -> None:
    with pytest.raises(DataError, match="no rows"):
        Table.read(GOOD, pool_of("c@10"), drop_unknown=True)


def test_prices_come_with_an_inferred_pool() -> None:
    table = Table.read(GOOD, prices=PRICES)
    assert table.pool["a"].usd_per_million == PRICES["a"]
    with pytest.raises(MissingPrice, match="'b'"):
        Table.read(GOOD, prices={"a": PRICES["a"]})
    with pytest.raises(MissingPrice):
        Table.read(GOOD).cost()
    with pytest.raises(ConfigError, match="no such file"):
        Table.read(GOOD, prices="nowhere.csv")


def test_cost_by_hand() -> None:
    table = Table.read(GOOD, prices=PRICES)
    cost = table.cost()
    assert cost[0, 0] == 0.1, "what was really paid goes first"
    assert cost[0, 1] == pytest.approx(90e-6), "input tokens that nobody recorded are not billed"
    assert cost[1, 2] == 0.0 and np.isnan(cost[1, 0]) and np.isnan(cost[0, 2])
    assert table.cost(np.array([100.0, 200.0]))[0, 1] == pytest.approx(190e-6), "or billed as estimated"
    assert table.cost(np.full((2, 3), 50.0))[1, 2] == pytest.approx(100e-6)
    unpaid = Table.read(GOOD.drop("cost_usd"), prices=PRICES)
    # 7 in of which 2 cached, 5 out of which 3 thinking
    assert unpaid.cost(np.array([100.0, 200.0]))[0, 0] == pytest.approx((5 * 1 + 2 * 0.5 + 2 * 10 + 3 * 20) / 1e6)


# -- parts of a table -------------------------------------------------------------------------------------------------


def many(n: int, texts: int | None = None) -> Table:
    texts = texts or n
    return Table.read(
        rows(*({"query_id": f"q{i}", "query": f"text {i % texts}", "output_tokens": i} for i in range(n)))
    )


def test_take_keeps_rows_together() -> None:
    table = Table.read(GOOD).take([1, 0, 1])
    assert table.queries == ("!", "?", "!") and table.query_ids == ("q2", "q1", "q2")
    np.testing.assert_array_equal(table.output_tokens[:, 2], [0, math.nan, 0])
    assert len(table.take([])) == 0
    with pytest.raises(IndexError):
        table.take([3])


def test_take_refuses_a_mask() -> None:
    with pytest.raises(DataError, match="row numbers"):
        many(2).take(np.array([False, True]))


def test_with_arms_keeps_the_pools_order() -> None:
    table = Table.read(GOOD).with_arms(["b@10", "a@10"])
    assert table.arms == ("a@10", "b@10")
    np.testing.assert_array_equal(table.quality, [[1.0, math.nan], [math.nan, 0.0]])
    with pytest.raises(DataError, match=r"'a@11' is not in the table"):
        table.with_arms(["a@11"])


def test_with_pool_changes_prices_only() -> None:
    table = Table.read(GOOD)
    priced = table.with_pool(table.pool.with_prices(PRICES))
    same(table, priced)
    assert priced.pool["a"].usd_per_million == PRICES["a"]
    with pytest.raises(DataError, match="same order"):
        table.with_pool(pool_of("b@10", "a@10", "a@unlimited"))


@given(st.integers(2, 60), st.integers(1, 60), st.floats(0.05, 0.95), st.integers(0, 3))
def test_a_split_is_by_query_text_seeded_and_whole(n: int, texts: int, share: float, seed: int) -> None:
    table = many(n, texts)
    distinct = len(set(table.queries))
    try:
        train, test = table.split(test=share, seed=seed)
    except DataError as error:
        assert "cannot be split" in str(error)  # noqa: PT017
        assert distinct == 1 or (1 - share) * distinct < 1
        return
    assert not set(train.queries) & set(test.queries), "a query in both parts"
    assert sorted(train.query_ids + test.query_ids) == sorted(table.query_ids)
    assert len(train) and len(test)
    assert len(set(train.queries)) == int((1 - share) * distinct + 1e-9)
    again = table.split(test=share, seed=seed)
    same(train, again[0])
    same(test, again[1])
    for part in (train, test):  # the arrays went with their queries
        assert part.output_tokens[:, 0].tolist() == [float(i[1:]) for i in part.query_ids]


def test_a_split_is_the_papers_permutation() -> None:
    order = np.random.default_rng(42).permutation(50)
    train, test = many(50).split()
    assert (train.held_out, test.held_out, test.take([0]).held_out) == (False, True, True)
    assert train.query_ids == tuple(f"q{i}" for i in order[:40]) and test.query_ids == tuple(
        f"q{i}" for i in order[40:]
    )
    assert many(50).split(seed=1)[0].query_ids != train.query_ids


def test_the_share_held_out_is_not_rounded_away() -> None:
    assert [len(part) for part in many(10).split(test=0.9)] == [1, 9]
    assert [len(part) for part in many(10).split(test=0.7)] == [3, 7]


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan, math.inf])
def test_a_share_held_out_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(DataError, match=str(share)):
        many(10).split(test=share)


def test_one_query_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 distinct quer.* cannot be split"):
        many(6, texts=1).split()


# -- out again --------------------------------------------------------------------------------------------------------


def test_a_table_survives_a_round_trip(tmp_path: Path) -> None:
    table = Table.read(GOOD)
    table.write(tmp_path / "out.parquet")
    same(Table.read(tmp_path / "out.parquet", table.pool), table)
    frame = pl.read_parquet(tmp_path / "out.parquet")
    assert len(frame) == 3, "cells that were not observed are not written"
    assert frame["quality"].null_count() == 0 and frame["input_tokens"].null_count() == 2


def test_a_real_table_survives_a_round_trip(tmp_path: Path, shared: Path) -> None:
    table = Table.read(shared / "data" / "jhu_concise_cot.parquet")
    table.write(tmp_path / "out.parquet")
    same(Table.read(tmp_path / "out.parquet", table.pool), table)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "out.parquet"
    Table.read(rows({"quality": 0.25})).write(path)
    return path


def test_writing_replaces_what_was_there(written: Path) -> None:
    Table.read(GOOD).write(written)
    check_good(Table.read(written, pool_of("a@10", "a@unlimited", "b@10")))
    assert list(written.parent.iterdir()) == [written], "nothing is left lying about"


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_failed_write_keeps_what_was_there(written: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    real = pl.DataFrame.write_parquet

    def half(self: pl.DataFrame, file: Any, *args: Any, **more: Any) -> None:
        real(self, file, *args, **more)
        full()

    if step == "write":
        monkeypatch.setattr(pl.DataFrame, "write_parquet", half)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SaveError, match=r"out.parquet.*No space left.*untouched"):
        Table.read(GOOD).write(written)
    monkeypatch.undo()
    assert Table.read(written).quality.tolist() == [[0.25]]
    assert list(written.parent.iterdir()) == [written], "the part that was written is gone"


def test_a_folder_that_is_not_there_is_a_save_error(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="nowhere"):
        Table.read(GOOD).write(tmp_path / "nowhere" / "out.parquet")


# -- real data --------------------------------------------------------------------------------------------------------


def test_the_real_tables(shared: Path) -> None:
    tts = Table.read(shared / "data" / "tts_knowledge.parquet", prices=shared / "data" / "prices.csv")
    assert (len(tts), len(tts.arms)) == (1117, 37)
    assert (np.isfinite(tts.quality).mean(axis=0) > 0.999).sum() == 27, "arms on every query"
    assert "3 impossible output_tokens" in tts.notes[0]
    jhu = Table.read(shared / "data" / "jhu_concise_cot.parquet")
    assert (
        (len(jhu), len(jhu.arms)) == (705, 8) and np.isfinite(jhu.quality).all() and np.isfinite(jhu.input_tokens).all()
    )
    both = Table.read([shared / "data" / "tts_knowledge.parquet", shared / "data" / "jhu_concise_cot.parquet"])
    assert (len(both), len(both.arms)) == (1117 + 705, 37 + 8)
    assert np.isnan(both.quality[:1117, 37:]).all() and np.isnan(both.quality[1117:, :37]).all()


def test_reading_is_not_done_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in Python must not grow with the rows: of 200 arms times 100 queries, a handful of passes at
    most.
    """
    asked = 0
    real = Budget.of

    def counting(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        return real(*args)

    monkeypatch.setattr(Budget, "of", counting)
    frame = pl.DataFrame({"query": [f"q{i}" for i in range(100)]}).join(
        pl.DataFrame({"budget": range(1, 201)}), how="cross"
    )
    Table.read(frame.with_columns(model=pl.lit("a"), quality=pl.lit(1.0)))
    assert asked <= 3 * 200
