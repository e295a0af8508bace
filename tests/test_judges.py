"""Tables that several judges scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from r2router.cli import main
from r2router.errors import DataError
from r2router.table.table import Table


def rows(*cells: dict[str, Any]) -> pl.DataFrame:
    usual = {
        "query_id": "q1",
        "query": "?",
        "model": "a",
        "budget": "10",
        "quality": 1.0,
        "output_tokens": 5,
        "judge": None,
    }
    return pl.DataFrame([usual | cell for cell in cells], infer_schema_length=None)


TWO = rows(
    {"judge": "strict", "quality": 0.0},
    {"judge": "kind", "quality": 1.0},
    {"judge": "strict", "quality": 0.5, "query_id": "q2", "query": "??"},
    {"judge": "kind", "quality": None, "query_id": "q2", "query": "??"},
)


def test_one_judge_s_rows_are_taken() -> None:
    strict, kind = Table.read(TWO, judge="strict"), Table.read(TWO, judge="kind")
    assert strict.quality[:, 0].tolist() == [0.0, 0.5]
    np.testing.assert_array_equal(kind.quality[:, 0], [1.0, np.nan])
    assert "'strict'" in strict.notes[0] and "'kind'" in strict.notes[0]


def test_several_judges_of_a_cell_need_a_choice() -> None:
    with pytest.raises(
        DataError, match=r"query 'q1' on a@10 .*several judges.*'strict' \(2 rows\), 'kind' \(1 rows\).*--judge NAME"
    ):
        Table.read(TWO)


def test_a_judge_that_failed_everywhere_is_named_with_the_mend() -> None:
    frame = rows({"judge": "one"}, {"judge": "broken", "quality": None})
    with pytest.raises(
        DataError,
        match=r"the judges are 'one' \(1 rows\); 'broken' gave no score for 1 answers: choose.*--retry-failed",
    ):
        Table.read(frame)
    assert Table.read(frame, judge="one").quality[0, 0] == 1.0


def test_judges_of_different_cells_need_none() -> None:
    table = Table.read(rows({"judge": "one"}, {"judge": "other", "query_id": "q2", "query": "??"}))
    assert np.isfinite(table.quality).all()


def test_samples_of_a_cell_by_different_judges_are_not_averaged() -> None:
    frame = rows({"judge": "one", "sample": "0"}, {"judge": "other", "sample": "1", "quality": 0.0})
    with pytest.raises(DataError, match="several judges"):
        Table.read(frame)
    assert Table.read(frame, judge="other").quality[0, 0] == 0.0


def test_a_failed_sample_has_no_judge_and_is_no_conflict() -> None:
    frame = rows({"judge": "one", "sample": "0", "quality": 0.5}, {"sample": "1", "quality": None, "error": "timeout"})
    assert Table.read(frame).quality[0, 0] == 0.5


def test_rows_that_name_no_judge_are_one_to_choose() -> None:
    frame = rows({"quality": 0.25}, {"judge": "one", "quality": 0.75})
    with pytest.raises(DataError, match="'' \\(rows that name none\\)"):
        Table.read(frame)
    assert Table.read(frame, judge="").quality[0, 0] == 0.25
    assert Table.read(frame, judge="one").quality[0, 0] == 0.75


def test_a_judge_who_is_not_there_is_named_with_those_who_are() -> None:
    with pytest.raises(DataError, match=r"'strct'.*did you mean 'strict'.*'kind'"):
        Table.read(TWO, judge="strct")
    with pytest.raises(DataError, match="no row names a judge"):
        Table.read(TWO.drop("judge"), judge="strict")


def test_a_cell_twice_by_one_judge_is_still_a_duplicate() -> None:
    with pytest.raises(DataError, match="more than once"):
        Table.read(rows({"judge": "one"}, {"judge": "one"}), judge="one")


def test_which_judges_there_are(tmp_path: Path) -> None:
    TWO.rename({"judge": "grader"}).write_parquet(tmp_path / "two.parquet")
    assert Table.judges(TWO) == {"strict": 2, "kind": 1}
    assert Table.judges(tmp_path / "two.parquet", columns={"judge": "grader"}) == {"strict": 2, "kind": 1}
    assert Table.judges(TWO.drop("judge")) == {"": 3}


def test_the_command_line_takes_a_judge(tmp_path: Path, world: Any, fake_encoder: Any) -> None:
    world.table.write(tmp_path / "plain.parquet")
    frame = pl.read_parquet(tmp_path / "plain.parquet")
    both = [
        frame.with_columns(judge=pl.lit("as it is")),
        frame.with_columns(judge=pl.lit("reversed"), quality=1 - pl.col("quality")),
    ]
    pl.concat(both).write_parquet(tmp_path / "two.parquet")
    (tmp_path / "prices.csv").write_text(
        "model,input_usd_per_million,output_usd_per_million\nsmall,1,1\nlarge,2,8\nthinker,1,4\n"
    )
    command = [
        "train",
        str(tmp_path / "two.parquet"),
        "--prices",
        str(tmp_path / "prices.csv"),
        "--encoder",
        "fake",
        "--folds",
        "0",
    ]
    refused = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "router")])
    assert refused.exit_code == 2 and "--judge NAME" in refused.output
    done = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "router"), "--judge", "reversed"])
    assert done.exit_code == 0, done.output
    assert "as scored by 'reversed'" in (tmp_path / "router" / "card.md").read_text()
