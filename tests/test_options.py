"""The right option of a question, however a file gives it: one reading of the whole column, or an error that names
both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.suites import load_suite
from r2router.bench.suites.options import Options, ReferenceCell, reading_of
from r2router.errors import DataError

ABCD = ["igneous", "oxygen", "copper", "helium"]
NUMBERS = ["2", "0", "1", "3"]


def references(path: Path, *rows: tuple[Any, Any], spec: str = "{}") -> list[str | None]:
    path.write_text("".join(json.dumps({"question": "?", "options": o, "answer": a}) + "\n" for o, a in rows))
    return [q.reference for q in load_suite(spec.format(path)).queries()]


@pytest.mark.parametrize(
    ("rows", "letters"),
    [
        ([(ABCD, 2)], ["C"]),
        ([(NUMBERS, 2)], ["C"]),
        ([(NUMBERS, "2")], ["A"]),
        ([(NUMBERS, 2.0)], ["C"]),
        ([(ABCD, 1), (ABCD, 4)], ["A", "D"]),
        ([(ABCD, "1"), (ABCD, "4")], ["A", "D"]),
        ([(ABCD, "0"), (ABCD, "3")], ["A", "D"]),
        ([(ABCD, "0.0"), (ABCD, "3.0")], ["A", "D"]),  # of a data frame with empty cells
        ([(["1.0", "2.0"], "2.0")], ["B"]),
        ([(NUMBERS, "0"), (ABCD, "3")], ["A", "D"]),  # a column of numbers: the first is no text
        ([(NUMBERS, "1"), (ABCD, "4")], ["A", "D"]),
        ([(NUMBERS, 1), (ABCD, 4)], ["A", "D"]),
        ([(ABCD, "B"), (ABCD, "(C)")], ["B", "C"]),
        ([(ABCD, "oxygen"), (ABCD, "B")], ["B", "B"]),
        ([(["B", "A", "C"], "A"), (ABCD, "B")], ["A", "B"]),  # a column of letters
        ([({"A": "x", "B": "y"}, "B")], ["B"]),
        ([({"A": "B", "B": "A"}, "B")], ["B"]),
        ([({"1": "x", "2": "y"}, "2")], ["B"]),
        ([({"0": "x", "1": "y"}, 1)], ["B"]),
        ([({"text": ["x", "y"], "label": ["A", "B"]}, "B")], ["B"]),
        ([({"text": ["x", "y"], "label": ["1", "2"]}, "1")], ["A"]),
        ([(ABCD, None), (ABCD, 1), (ABCD, 0)], [None, "B", "A"]),
    ],
)
def test_the_column_decides_what_a_reference_means(
    tmp_path: Path, rows: list[tuple[Any, Any]], letters: list[str]
) -> None:
    assert references(tmp_path / "s.jsonl", *rows) == letters


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [(ABCD, "1"), (ABCD, "2")],
            "line 1: the reference '1' is option B counted from 0, and option A counted from 1.*base=1",
        ),
        ([(ABCD, 0), (ABCD, 4)], "line 2: the reference 4 of 4 options is counted from 1, and 0 .*line 1.* from 0"),
        ([(ABCD, 1), (ABCD, 5)], "line 2: the reference 5 is none of the 4 options"),
        ([(ABCD, -1)], "the reference -1 is none of the 4 options"),
        ([(["B", "A"], "A")], "is the letter of option A and the text of option B"),
    ],
)
def test_two_readings_are_an_error_that_names_both(tmp_path: Path, rows: list[tuple[Any, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        references(tmp_path / "s.jsonl", *rows)


def test_the_user_may_say_what_is_counted_from(tmp_path: Path) -> None:
    rows = [(ABCD, "1"), (ABCD, "2")]
    for base, letters in ((0, ["B", "C"]), (1, ["A", "B"])):
        assert references(tmp_path / "s.jsonl", *rows, spec=f"file:{{}}?base={base}") == letters
    for base, answer in ((0, 4), (1, 0)):
        with pytest.raises(DataError, match=f"is none of 4 options from {base} on"):
            references(tmp_path / "s.jsonl", (ABCD, answer), spec=f"file:{{}}?base={base}")
    with pytest.raises(DataError, match="must be 0 or 1"):
        references(tmp_path / "s.jsonl", *rows, spec="file:{}?base=2")


def test_numbers_that_show_no_base_are_said(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pl.DataFrame({"question": ["?", "?"], "choices": [ABCD, ABCD], "answer": [1, 2]}).write_parquet(path)
    suite = load_suite(str(path))
    assert [q.reference for q in suite.queries()] == ["B", "C"]
    assert "counted from 0" in suite.notes[0]  # type: ignore[attr-defined]


@given(
    st.lists(st.tuples(st.integers(2, 6), st.integers(0, 5)), min_size=1, max_size=20),
    st.sampled_from([0, 1]),
    st.booleans(),
)
def test_a_base_that_the_column_shows_is_found(rows: list[tuple[int, int]], base: int, written: bool) -> None:
    right = [(n, i % n) for n, i in rows]
    cells = [ReferenceCell("x", str(i + base) if written else i + base, Options(tuple("abcdef"[:n]))) for n, i in right]
    shown = any(i == 0 for _, i in right) if base == 0 else any(i == n - 1 for n, i in right)
    if not shown and (written or base == 1):
        return  # nothing to tell it by
    reading = reading_of(cells)
    assert [reading.letter(cell) for cell in cells] == ["ABCDEF"[i] for _, i in right]
