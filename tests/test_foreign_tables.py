"""Tables as others write them: other spellings, encodings and layouts, and files that are made to harm."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import DataError
from r2router.table import parquet_size, rows
from r2router.table.bundled import TABLES
from r2router.table.parquet_size import check_unpacked
from r2router.table.rows import Reading
from r2router.table.split import split_table
from r2router.table.table import ARRAYS, Table
from r2router.table.write import write_frame


def csv(
    path: Path, *lines: str, head: str = "query,model,budget,quality,output_tokens", encoding: str = "utf-8"
) -> Path:
    path.write_text("\n".join([head, *lines]) + "\n", encoding=encoding)
    return path


def arms(path: Any, **more: Any) -> list[tuple[str, int | None]]:
    return [(b.id, b.tokens) for b in Table.read(path, **more).pool.budgets]


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["1k", '"1,000"', "1000.0", "01000", "1e3", "+1000", "1_000"])
def test_a_budget_means_the_same_in_every_file(spelled: str, tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", f"a,m,{spelled},1,5", "b,m,1000,0,5")
    assert arms(path) == [("1000", 1000)]
    for suffix in (".parquet", ".jsonl"):
        other = tmp_path / f"t{suffix}"
        write_frame(pl.read_csv(path, infer_schema=False), other)
        assert arms(other) == [("1000", 1000)]


def test_budgets_that_become_one_are_duplicates_not_two_arms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="m@1000 more than once"):
        Table.read(csv(tmp_path / "t.csv", "a,m,1k,1,5", "a,m,1000,0,5"))


@pytest.mark.parametrize("spelled", ["-1", "1.5", "1.000", '"1,5"', "1k5", "85%", "inf", "0x10"])
def test_a_budget_that_is_no_number_is_named_with_its_row(spelled: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv, row 2: budget .* looks like a number"):
        Table.read(csv(tmp_path / "t.csv", "a,m,low,1,5", f"b,m,{spelled},1,5"))


def test_budgets_of_the_wide_layout_follow_the_rule(tmp_path: Path) -> None:
    path = csv(tmp_path / "m.csv", "a,1,0,1", head="query,010_score,1k_score,unlimited_score")
    assert arms(path) == [("10", 10), ("1000", 1000), ("unlimited", None)]
    with pytest.raises(DataError, match="are one budget, 10"):
        Table.read(csv(tmp_path / "m.csv", "a,1,0", head="query,010_score,10.0_score"))
    with pytest.raises(DataError, match="'1k5_score'.*looks like a number"):
        Table.read(csv(tmp_path / "m.csv", "a,1,0", head="query,10_score,1k5_score"))


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nothing", ["NA", "N/A", "n/a", "nan", "NaN", "null", "NULL", "None", "<NA>", "#N/A", "-", " NA ", ""]
)
def test_spellings_of_nothing_are_not_observed(nothing: str, tmp_path: Path) -> None:
    table = Table.read(csv(tmp_path / "t.csv", f"a,m,10,{nothing},{nothing}", "b,m,10,1,5"))
    assert np.isnan(table.quality).tolist() == [[True], [False]]
    with pytest.raises(DataError, match="row 1: model is None; it must not be empty"):
        Table.read(csv(tmp_path / "t.csv", f"a,{nothing},10,1,1"))


@pytest.mark.parametrize("column", ["error", "judge", "sample"])
def test_nothing_is_no_error_and_no_judge(column: str, tmp_path: Path) -> None:
    head = f"query,model,budget,quality,{column}"
    assert Table.read(csv(tmp_path / "t.csv", "a,m,10,1,NA", "b,m,10,0,nan", head=head)).quality.tolist() == [[1], [0]]


def test_none_is_an_effort(tmp_path: Path) -> None:
    assert arms(csv(tmp_path / "t.csv", "a,m,none,1,5")) == [("none", None)]


def test_percentages_need_their_scale(tmp_path: Path) -> None:
    signs = csv(tmp_path / "signs.csv", "a,m,10,85%,5", "b,m,10,100 %,5")
    plain = csv(tmp_path / "plain.csv", "a,m,10,85,5", "b,m,10,100,5")
    for path in (signs, plain):
        with pytest.raises(DataError, match=r"row 1: quality .*--scale 100"):
            Table.read(path)
        assert Table.read(path, scale=100).quality.tolist() == [[0.85], [1.0]]
    with pytest.raises(DataError, match=r"quality of m@10 is 5\.0"):
        Table.read(csv(tmp_path / "t.csv", "a,m,10,500,5"), scale=100)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(DataError, match="scale is"):
            Table.read(plain, scale=wrong)
    wide = csv(tmp_path / "m.csv", "a,85,1200", head="query,10_score,10_count")
    assert Table.read(wide, scale=100).quality.tolist() == [[0.85]] and Table.read(
        wide, scale=100
    ).output_tokens.tolist() == [[1200]]


@pytest.mark.parametrize(
    ("row", "says"), [('a,m,10,"0,85",5', "0.85"), ('a,m,10,1,"1,200"', "1200"), ("a,m,10,1,5%", "without the sign")]
)
def test_decimal_commas_are_refused_with_the_mend(row: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        Table.read(csv(tmp_path / "t.csv", row))


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "hint"),
    [
        ("prompt,model,budget,quality,x", "--column query=prompt "),
        ("Question,model,budget,quality,x", "--column query=Question "),
        ("query,llm,budget,quality,x", "--column model=llm "),
        ("query,model,effort,quality,x", "--column budget=effort "),
        ("query,model,budget,accuracy,x", "--column quality=accuracy "),
        ("query,model,budget,kappa,x", "--column quality=NAME "),
        ("query;model;budget;quality", "';'"),
        ("query\tmodel\tbudget\tquality", "commas"),
    ],
)
def test_a_missing_column_is_told_in_the_words_of_the_command_line(head: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Table.read(csv(tmp_path / "t.csv", "a,m,10,1,5" if "," in head else "a;m;10;1", head=head))
    assert hint in str(caught.value)


def test_models_and_budgets_can_be_renamed(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "a,meta@70b,4-shot,1,5", "a,other model,low,0,5")
    with pytest.raises(DataError, match="--rename meta@70b=meta-70b"):
        Table.read(path)
    table = Table.read(path, rename={"meta@70b": "meta-70b", "other model": "other", "4-shot": "shots-4"})
    assert table.arms == ("meta-70b@shots-4", "other@low")
    with pytest.raises(DataError, match="no model or budget is called 'meta@7b'"):
        Table.read(path, rename={"meta@7b": "x", "meta@70b": "m", "other model": "o", "4-shot": "s"})


def test_control_characters_in_names_are_refused(tmp_path: Path) -> None:
    for name in ("evil\x1b[2J", "a\u202eb", "x\x9b"):
        with pytest.raises(DataError, match="control characters"):
            Table.read(csv(tmp_path / "t.csv", f"a,{name},10,1,5"))
    with pytest.raises(DataError, match="model is longer than 300"):
        Table.read(csv(tmp_path / "t.csv", f"a,{'m' * 1300},10,1,5"))


def test_cells_and_ids_that_disagree_are_told_with_file_and_row(tmp_path: Path) -> None:
    one = csv(tmp_path / "one.csv", "a,m,10,1,5", "b,m,10,1,5")
    two = csv(tmp_path / "two.csv", "c,m,10,1,5", "b,m,10,0,5")
    with pytest.raises(DataError, match=r"one\.csv, row 2 and .*two\.csv, row 2, with quality 1 and 0"):
        Table.read([one, two])
    head = "query_id,query,model,budget,quality"
    one, two = (
        csv(tmp_path / "one.csv", "1,a,m,10,1", head=head),
        csv(tmp_path / "two.csv", "0,z,m,10,1", "1,b,m,10,1", head=head),
    )
    with pytest.raises(
        DataError, match=r"'1' stands for different texts: 'a' and 'b', in .*one\.csv, row 1 and .*two\.csv, row 2"
    ):
        Table.read([one, two])


def test_a_bundled_table_is_named_and_not_its_path() -> None:
    for name, path in TABLES.items():
        assert [source for source, _ in Table.read(path).sources] == [name]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_name_is_no_pattern(suffix: str, tmp_path: Path) -> None:
    frame = pl.DataFrame({"query": ["a"], "model": ["m"], "budget": ["10"], "quality": [1.0]})
    for name in ("t[1]", "t*", "t1"):
        write_frame(frame.with_columns(query=pl.lit(name)), tmp_path / f"{name}{suffix}")
    assert Table.read(tmp_path / f"t[1]{suffix}").queries == ("t[1]",)
    assert Table.read(tmp_path / f"t*{suffix}").queries == ("t*",)


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_encodings_are_named(suffix: str, encoding: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{encoding[:6].upper()}.*UTF-8"):
        Table.read(csv(tmp_path / f"t{suffix}", "a,m,10,1,5", encoding=encoding))


def test_latin_1_is_read_with_a_note(tmp_path: Path) -> None:
    table = Table.read(csv(tmp_path / "t.csv", "Where is the café?,m,10,1,5", encoding="latin-1"))
    assert table.queries == ("Where is the café?",)
    assert "Latin-1" in table.notes[0] and "café" in table.notes[0]
    assert not Table.read(csv(tmp_path / "t.csv", "Where is the café?,m,10,1,5")).notes


def test_packed_files_are_named(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "a,m,10,1,5")
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match="gzip"):
        Table.read(path)


# -- made to harm -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_pipe_or_device_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"t{suffix}")
    with pytest.raises(DataError, match="pipe"):
        Table.read(tmp_path / f"t{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="device"):
        Table.read(tmp_path / f"zero{suffix}")


@pytest.mark.parametrize("nested", ["[" * 10**5 + "]" * 10**5, '{"a":' * 10**5 + "1" + "}" * 10**5])
def test_deeply_nested_json_is_refused_in_words(nested: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"query": "a", "model": "m", "budget": "10", "quality": 1, "x": {nested}}}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"t\.jsonl, line 1: nested too deeply"):
        Table.read(path)


def test_a_file_of_ten_thousand_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="10,000 columns"):
        Table.read(csv(tmp_path / "t.csv", head=",".join(f"c{i}" for i in range(10_001))))
    (tmp_path / "t.csv").write_text("," * (2 << 20), encoding="utf-8")
    with pytest.raises(DataError, match="10,000 columns"):
        Table.read(tmp_path / "t.csv")
    lines = [json.dumps({f"c{i}_{j}": 1 for j in range(300)}) for i in range(40)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match="10,000 columns"):
        Table.read(tmp_path / "t.jsonl")


def test_rows_that_would_be_arrays_of_nothing_are_refused(tmp_path: Path) -> None:
    n = 20_000
    frame = pl.DataFrame(
        {"query": [f"q{i}" for i in range(n)], "model": [f"m{i}" for i in range(n)], "budget": "10", "quality": 1.0}
    )
    with pytest.raises(DataError, match="20,000 queries x 20,000 arms"):
        Table.read(frame)


@pytest.mark.parametrize("kind", ["one long text", "runs", "zeros"])
def test_a_parquet_bomb_is_refused_before_it_is_unpacked(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100 MB, with the limit lowered to 50: those of many gigabytes differ in nothing."""
    path, words = tmp_path / "t.parquet", {"model": "m", "budget": "10", "quality": 1.0}
    if kind == "one long text":  # dictionary-encoded: all rows point to it
        frame = pl.DataFrame({"query_id": [str(i) for i in range(1_000)], "query": "a" * 100_000, **words})
    elif kind == "runs":
        frame = pl.DataFrame({"query": pl.repeat("a", 4_000_000, eager=True)}).with_columns(
            *(pl.lit(v).alias(k) for k, v in words.items())
        )
    else:  # pages of zeros
        frame = pl.DataFrame({"query": [str(i) + "0" * 1_000_000 for i in range(100)], **words})
    frame.write_parquet(path)
    assert path.stat().st_size < 200_000
    for module in (parquet_size, rows):
        monkeypatch.setattr(module, "SAFE", 50 << 20)
    if kind != "one long text":  # which shows only when it is there, once, with a million references to it
        monkeypatch.setattr(pl.LazyFrame, "collect", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match=r"t\.parquet: has .* bytes and .*0\.[123] GB"):
        Table.read(path)


def test_a_footer_that_lies_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"query": ["0" * 2_000_000] * 3}).write_parquet(path)
    data = path.read_bytes()
    with path.open("rb") as file:
        told = parquet_size._footer(file, len(data))[4][0][1][0][3][6]
        honest = parquet_size._unpacked(file, len(data), None)
    zigzag, small = bytearray(), told * 2
    while small:
        zigzag.append(small & 127 | (128 if small > 127 else 0))
        small >>= 7
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    one = b"\x82" + b"\x80" * (len(zigzag) - 2) + b"\x00"  # of the same length
    path.write_bytes(data[:footer] + data[footer:].replace(bytes(zigzag), one))
    with path.open("rb") as file:
        assert parquet_size._footer(file, len(data))[4][0][1][0][3][6] == 1
        assert sum(parquet_size._unpacked(file, len(data), None)) > 0.99 * sum(honest)


def varint(number: int) -> bytes:
    """A positive number as Parquet's footer has it."""
    found, number = bytearray(), 2 * number
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@pytest.mark.parametrize(("page", "columns"), [(b"\0", 1), (b"\x15\0\0", 20)], ids=["no page", "the same pages"])
def test_a_footer_cannot_have_a_file_read_again_and_again(page: bytes, columns: int, tmp_path: Path) -> None:
    """Pages of a byte, and many columns that all point to the same ones: some kilobytes were looked at for hours."""
    pages = page * 2_000
    meta = b"\x15\x0c\x46" + varint(1) + b"\x26" + varint(len(pages)) + b"\x26" + varint(4) + b"\0"
    group = b"\x19\xfc" + bytes([columns]) + (b"\x3c" + meta + b"\0") * columns + b"\x26" + varint(1) + b"\0"
    footer = b"\x49\x1c" + group + b"\0"
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(DataError, match="page headers are damaged"):
        check_unpacked(path)


def test_the_size_of_tables_is_read(tmp_path: Path) -> None:
    for path in TABLES.values():
        check_unpacked(path)
    path = tmp_path / "t.parquet"
    pl.DataFrame({"a": np.random.default_rng(0).random(50_000), "b": ["text"] * 50_000}).write_parquet(
        path, row_group_size=10_000
    )
    with path.open("rb") as file:
        both = parquet_size._unpacked(file, path.stat().st_size, None)
        one = parquet_size._unpacked(file, path.stat().st_size, {"a"})
    assert len(both) == len(one) == 5
    assert 50_000 * 16 < sum(one) < 50_000 * 17 and 50_000 * 32 < sum(both) < 50_000 * 34, (
        "pages, and a slot for each value"
    )


@given(at=st.integers(0, 10**9), junk=st.binary(max_size=40))
def test_a_damaged_footer_is_an_error_in_words(at: int, junk: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = next(iter(TABLES.values())).read_bytes()
    at %= len(whole)
    path = tmp_path_factory.mktemp("damaged") / "t.parquet"
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    try:
        check_unpacked(path)
    except DataError as error:
        assert "t.parquet" in str(error)  # noqa: PT017


# -- splitting --------------------------------------------------------------------------------------------------------


def same(one: Table, other: Table) -> None:
    assert one.query_ids == other.query_ids and one.queries == other.queries
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_the_parts_in_files_are_those_of_the_table(suffix: str, tmp_path: Path) -> None:
    source = TABLES["r2bench-mini"]
    table = Table.read(source)
    (train, n), (test, m) = split_table(source, tmp_path / f"x{suffix}", test=0.3, seed=5)
    assert (train.name, test.name) == (f"x.train{suffix}", f"x.test{suffix}")
    expected = table.split(0.3, 5)
    assert (n, m) == tuple(map(len, expected))
    for path, part in zip((train, test), expected, strict=True):
        same(Table.read(path, table.pool), part)
    if suffix == ".parquet":
        columns = pl.read_parquet(test).columns
        assert {"response", "reference", "finish_reason"} <= set(columns) and not any(
            c.startswith("__") for c in columns
        )


def test_a_query_goes_one_way_with_all_its_rows(tmp_path: Path) -> None:
    lines = [f"{q},m{m},10,{q % 2},5,j{m}" for q in range(10) for m in range(3)]
    path = csv(tmp_path / "t.csv", *lines, head="prompt,model,budget,score,output_tokens,judge")
    reading = Reading(columns={"query": "prompt", "quality": "score"}, scale=2)
    parts = split_table(
        path, tmp_path / "t.parquet", test=0.2, seed=1, reading=reading, vectors=np.arange(10.0)[:, None]
    )
    train, test = (pl.read_parquet(p) for p, _ in parts)
    assert (len(train), len(test)) == (24, 6) and not set(train["query"]) & set(test["query"])
    assert np.load(tmp_path / "t.test.vectors.npy").ravel().tolist() == [
        float(q) for q in test["query"].unique(maintain_order=True)
    ]
    assert set(train["quality"]) <= {0.0, 0.5}
    again = split_table(path, tmp_path / "u.parquet", test=0.2, seed=1, reading=reading)
    assert again[1][0].read_bytes() == parts[1][0].read_bytes()


def test_wide_files_are_split_under_their_model(tmp_path: Path) -> None:
    csv(tmp_path / "llama.csv", *(f"q{i},1,5" for i in range(5)), head="query,10_score,10_count")
    (train, _), _ = split_table(tmp_path / "llama.csv", tmp_path / "out.parquet")
    assert Table.read(train).arms == ("llama@10",)


def test_spaces_around_a_model_or_a_budget_are_no_part_of_it(tmp_path: Path) -> None:
    path = csv(tmp_path / "t.csv", "q1, m , 100 ,1", "q2,m,100,0", head="query,model,budget,quality")
    assert Table.read(path).arms == ("m@100",)
