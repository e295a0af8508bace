"""The answers of a run: found by what became of them, shown without harm, exported whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from click.testing import CliRunner

from r2router.bench.answers import Filter, find_answers
from r2router.bench.call_key import query_key
from r2router.bench.folder import compact
from r2router.bench.record import FORMAT, VERSION, Header, Record
from r2router.bench.suite import Query
from r2router.cli import main
from r2router.errors import DataError

QUERIES = [
    Query(id=f"q{i}", text=f"What is {i} + 1?", task="odd" if i % 2 else "even", reference=str(i + 1), scorer="numeric")
    for i in range(6)
]
EVIL = "\x1b[2J\x1b]0;owned\x07 3 \x9b31m \u202e"


def record(query: Query, budget: str, response: str | None, **more: Any) -> Record:
    key = hashlib.sha256(f"{query.id}@{budget}".encode()).hexdigest()[:32]
    made = {"model": "m", "control": "max_tokens", "output_tokens": 3, "charged_usd": 0.001} | more
    return Record(key=key, query=query_key(query), query_id=query.id, budget=budget, response=response, **made)


def lines(path: Path, *items: Any) -> None:
    with path.open("ab") as file:
        file.writelines(msgspec.json.encode(item) + b"\n" for item in items)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """Six queries under two budgets: right below 3, then wrong; one call failed, one gave nothing, one answer is
    hostile.
    """
    folder = tmp_path / "run"
    folder.mkdir()
    lines(folder / "queries.jsonl", *QUERIES)
    lines(folder / "journal.jsonl", Header(FORMAT, VERSION))
    for i, query in enumerate(QUERIES):
        lines(folder / "journal.jsonl", record(query, "100", str(i + 1 if i < 3 else 99)))
    first, second, third = QUERIES[:3]
    lines(folder / "journal.jsonl", record(first, "10", None, error="the endpoint answered 500", error_kind="server"))
    lines(folder / "journal.jsonl", record(second, "10", "", starved=True), record(third, "10", EVIL))
    return folder


def found(source: Any, **wanted: Any) -> list[tuple[str, str]]:
    return list(find_answers(source, Filter(**wanted)).rows.select("query_id", "budget").iter_rows())


def shown(*args: object) -> Any:
    return CliRunner().invoke(main, ["answers", *map(str, args)])


def test_filters_say_which_answers(run_folder: Path) -> None:
    compact(run_folder)
    for source in (run_folder, run_folder / "outcomes.parquet"):
        assert len(found(source)) == 9
        assert found(source, failed=True) == [("q0", "10"), ("q1", "10")]
        assert found(source, arms=("m@10",)) == [("q0", "10"), ("q1", "10"), ("q2", "10")]
        assert len(found(source, arms=("m",))) == 9
        assert found(source, tasks=("odd",), arms=("m@100",)) == [("q1", "100"), ("q3", "100"), ("q5", "100")]
        assert found(source, below_quality=0.5, arms=("m@100",)) == [("q3", "100"), ("q4", "100"), ("q5", "100")]
        assert found(source, text="what IS 4") == [("q4", "100")]
        assert found(source, text=".*") == []
        for wrong, says in (({"arms": ("m@11",)}, "did you mean 'm@10"), ({"tasks": ("evn",)}, "did you mean 'even'")):
            with pytest.raises(DataError, match=says):
                found(source, **wrong)
        with pytest.raises(DataError, match=r"in \[0, 1\]"):
            found(source, below_quality=2)


def test_a_run_is_seen_before_it_is_compacted_and_after_it_went_on(run_folder: Path) -> None:
    before = find_answers(run_folder)
    assert before.rows["quality"].null_count() == 9 and "r2router compact" in before.notes[0]
    compact(run_folder)
    assert not find_answers(run_folder).notes
    retried = record(QUERIES[0], "10", "1")
    lines(run_folder / "journal.jsonl", retried)
    later = (run_folder / "outcomes.parquet").stat().st_mtime + 5
    os.utime(run_folder / "journal.jsonl", (later, later))
    after = find_answers(run_folder, Filter(failed=True))
    assert "older than the journal" in after.notes[0]
    assert list(after.rows["query_id"]) == ["q1"], "the retried call counts, not the one that failed"


def test_pages_are_bounded_and_join_to_the_whole(run_folder: Path) -> None:
    pages = [find_answers(run_folder, first=n, maximum=4) for n in (0, 4, 8, 12)]
    assert [len(p.rows) for p in pages] == [4, 4, 1, 0] and {p.found for p in pages} == {9}
    whole = find_answers(run_folder).rows
    assert pl.concat([p.rows for p in pages if len(p.rows)]).equals(whole)
    result = shown(run_folder, "--limit", 4, "--skip", 4)
    assert result.exit_code == 0 and "4 of 9 found among 9 answers; the next: --skip 8" in result.output
    assert shown(run_folder, "--limit", 100_000).exit_code == 2


def test_an_answer_is_shown_with_why(run_folder: Path) -> None:
    compact(run_folder)
    result = shown(run_folder, "--failed")
    assert "the call failed: the endpoint answered 500" in result.output
    assert "no answer came: the whole allowance went into thinking" in result.output
    wrong = shown(run_folder, "--below-quality", 1, "--arm", "m@100", "--limit", 1).output
    for part in (
        "1. m@100  query q3, task odd, 3 output tokens",
        "What is 3 + 1?",
        "reference 4",
        "answer    99",
        "quality 0 by numeric",
    ):
        assert part in wrong


def test_a_hostile_answer_does_not_act_on_the_terminal(run_folder: Path) -> None:
    result = shown(run_folder, "--full")
    assert "owned" in result.output
    assert all(c.isprintable() or c == "\n" for c in result.output)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_was_found_is_exported_whole(run_folder: Path, tmp_path: Path, suffix: str) -> None:
    compact(run_folder)
    out = tmp_path / f"wrong{suffix}"
    result = shown(run_folder, "--below-quality", 0.5, "--limit", 1, "--out", out)
    assert result.exit_code == 0 and f"{out}: " in result.output and " of 9 answers" in result.output
    read = {".csv": pl.read_csv, ".jsonl": pl.read_ndjson, ".parquet": pl.read_parquet}[suffix](out)
    assert len(read) == len(found(run_folder, below_quality=0.5)) >= 3
    assert {"query", "reference", "response", "judge_reason", "error"} <= set(read.columns)


def test_what_is_read_is_never_written_over(run_folder: Path) -> None:
    compact(run_folder)
    for name in ("outcomes.parquet", "queries.jsonl", "journal.jsonl"):
        before = (run_folder / name).read_bytes()
        result = shown(run_folder, "--out", run_folder / name)
        assert result.exit_code == 2 and "must not be replaced" in result.output
        assert (run_folder / name).read_bytes() == before
    assert shown(run_folder, "--out", "x.txt").exit_code == 2


def test_a_table_without_responses_says_so(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("query,model,budget,quality\na,m,10,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'response'"):
        find_answers(tmp_path / "t.csv")


def test_the_bundled_table_shows_its_answers() -> None:
    result = shown("r2bench-mini", "--failed", "--limit", 1)
    assert result.exit_code == 0 and "the call failed" in result.output
    wrong = shown("r2bench-mini", "--arm", "nobody")
    assert wrong.exit_code == 2 and wrong.output.startswith("error: r2bench-mini: ")
