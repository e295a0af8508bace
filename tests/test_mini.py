"""R2-Bench-mini as it is shipped: what its card says, scored as today's scorers do, of questions that can be made
again.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from r2router import DataError, Router
from r2router.bench.scoring import scorer_named
from r2router.bench.suite import Query, Score
from r2router.cli import main
from r2router.mini import TABLES, mini, mini_pool
from r2router.upstream.controls import CLOSINGS

CARD = Path(TABLES["r2bench-mini"]).with_name("card.md")


@pytest.fixture(scope="module", params=list(TABLES))
def rows(request: pytest.FixtureRequest) -> pl.DataFrame:
    return pl.read_parquet(TABLES[request.param])


def test_it_is_large_enough_and_every_query_has_all_arms() -> None:
    table = mini()
    assert len(table) >= 300 and len(set(table.tasks)) >= 8
    assert len(table.pool.models) >= 3 and all(len(m.budgets) >= 6 for m in table.pool.models)
    told = mini("r2bench-mini-instruction")
    assert set(told.query_ids) <= set(table.query_ids)
    for one in (table, told):
        seen = np.isfinite(one.quality)
        assert seen.mean() > 0.99 and (one.cost()[seen] > 0).all() and not one.simulated
    with pytest.raises(DataError, match=r"no bundled table 'mini'; there are: r2bench-mini, r2bench-mini-instruction"):
        mini("mini")


def test_the_card_has_the_counts() -> None:
    card = CARD.read_text(encoding="utf-8")
    for name, path in TABLES.items():
        frame = pl.read_parquet(path)
        line = next(line for line in card.splitlines() if f"`{name}`" in line)
        assert f"{frame['query_id'].n_unique()} queries" in line and f"{len(frame):,} rows" in line


def test_scores_are_what_the_scorers_say(rows: pl.DataFrame) -> None:
    assert (rows["quality"].is_null() == rows["error"].is_not_null()).all(), (
        "what failed has no quality, and nothing else"
    )
    for row in rows.filter(pl.col("error").is_null()).iter_rows(named=True):
        query = Query(id=row["query_id"], text=row["query"], reference=row["reference"], scorer=row["judge"])
        score = scorer_named(row["judge"]).score(query, row["response"])
        assert isinstance(score, Score) and score.quality == row["quality"], row["query_id"]


def test_questions_can_be_made_again(rows: pl.DataFrame) -> None:
    pytest.importorskip("reasoning_gym", reason="the suite needs the [bench] extra")
    from r2router.bench.suites.procedural import PRESETS, Procedural

    suite = {q.id: q for q in Procedural(PRESETS["mini"], size=40).queries()}
    for query_id, text, reference in rows.select("query_id", "query", "reference").unique().iter_rows():
        assert (suite[query_id].text, suite[query_id].reference) == (text, reference)


def test_the_pool_is_how_it_was_collected(rows: pl.DataFrame) -> None:
    controls = set(rows["control"])
    assert len(controls) == 1
    shared = controls.pop().startswith("prefix_sharing:final-answer:16")
    pool = mini_pool("r2bench-mini" if shared else "r2bench-mini-instruction")
    assert set(rows.select(pl.format("{}@{}", "model", "budget")).to_series()) == {str(arm) for arm in pool.arms}
    knobs = ("prefix_sharing",) if shared else ("instruction", "max_tokens")
    assert all(budget.control == knobs for model in pool.models for budget in model.budgets)


def test_what_a_shorter_budget_says_is_the_beginning_of_what_a_longer_one_says() -> None:
    frame = pl.read_parquet(TABLES["r2bench-mini"]).filter(pl.col("error").is_null()).sort("budget_tokens")
    for _, chain in frame.group_by("query_id", "model"):
        for (said, cut), (longer, _) in pairwise(chain.select("response", "truncated").rows()):
            # the forced answer may say the closing words once more, so any of them may be where it was cut
            ends = [m.start() for m in re.finditer(re.escape(CLOSINGS["final-answer"]), said)] if cut else [len(said)]
            assert any(longer.startswith(said[:end]) for end in ends), (said, longer)


def test_a_hard_cap_holds() -> None:
    frame = pl.read_parquet(TABLES["r2bench-mini-instruction"])
    assert (frame["output_tokens"] <= frame["budget_tokens"]).all()
    assert frame.filter(pl.col("truncated"))["finish_reason"].unique().to_list() == ["length"]


def test_every_command_that_takes_a_table_knows_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = CliRunner().invoke(
        main, ["train", "r2bench-mini", "--folds", "0", "--learner", "ridge", "--out", "router"]
    )
    assert trained.exit_code == 0, trained.output
    assert len(Router.load("router").arms) == len(mini_pool().arms)
    for words in (
        ["evaluate", "router", "--table", "r2bench-mini-instruction", "--resamples", "2"],
        ["reproduce", "curves", "r2bench-mini"],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    misspelt = CliRunner().invoke(main, ["train", "r2bench-min", "--out", "other"])
    assert misspelt.exit_code == 2 and "r2bench-min: no such file (did you mean 'r2bench-mini'?)" in misspelt.output
    Path("r2bench-mini").write_text("mine", encoding="utf-8")  # a file of that name is meant first
    refused = CliRunner().invoke(main, ["train", "r2bench-mini", "--out", "other"])
    assert refused.exit_code == 2 and "give --prices" in refused.output
