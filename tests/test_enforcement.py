"""How a budget is enforced is one rule: what was collected under a control is decided under the same."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from r2router.router import artifact
from r2router.table.write import write_table
from r2router.types import Budget, Model, Provider
from r2router.upstream.controls import CLOSINGS, WORDINGS, Collected, Controls
from test_router import DIM, pool_of, written

ONE = np.eye(1, DIM, dtype=np.float32)
ANTHROPIC = Provider(base_url="http://127.0.0.1:1/v1", dialect="anthropic")


class Asked(msgspec.Struct):
    text: str
    system: str | None = None


CONTROLS = st.builds(
    Controls,
    wording=st.sampled_from(sorted(WORDINGS)),
    place=st.sampled_from(["user", "system"]),
    closing=st.sampled_from(sorted(CLOSINGS)),
    answer_tokens=st.integers(1, 99),
    temperature=st.none() | st.floats(0, 2).map(lambda t: round(t, 3)),
    answer_room=st.integers(1, 99_999),
)
KNOBS = [
    knobs
    for n in range(4)
    for knobs in itertools.combinations(("instruction", "max_tokens", "reasoning_effort", "thinking_tokens"), n)
] + [("prefix_sharing",)]


@given(CONTROLS, st.sampled_from(KNOBS), st.integers(1, 50_000), st.none() | st.integers(1, 99_999))
def test_a_decision_sends_what_collecting_sent(
    controls: Controls, knobs: Any, tokens: int, longest: int | None
) -> None:
    budget = Budget(str(tokens), tokens, knobs)
    model = Model(id="m", budgets=(budget,), max_output_tokens=longest)
    back = Collected.parse(controls.signature(model, budget))
    assert back is not None
    unmarked = Model(id="m", budgets=(budget,))  # the router's pool may know less
    assert back.enforcement(unmarked, msgspec.structs.replace(budget, control=())) == controls.enforcement(
        model, budget
    )


@pytest.mark.parametrize(
    "knobs", ["", "magic", "instruction", "instruction:evil:user", "thinking_tokens:0", "thinking_tokens:x", "x" * 9999]
)
def test_knobs_of_something_else_say_nothing(knobs: str) -> None:
    assert Collected.parse(f"{knobs};temperature=0.0") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "greedy",
        "max_tokens;temperature=nan",
        "max_tokens;temperature=9",
        "none;temperature=0.0;cap=99999999999",
        "none;temperature=0.0;cap=-1",
        "max_tokens;temperature=0.0\nmore",
    ],
)
def test_a_signature_of_something_else_says_nothing(text: str) -> None:
    assert Collected.parse(text) is None


def thinker(control: tuple[str, ...] = ("thinking_tokens", "max_tokens")) -> r2.Router:
    return written(
        pool_of(claude={"budgets": [1024, 4096], "control": control, "price": 10.0}), [0.5, 0.9], [900.0, 3000.0]
    )


def test_thinking_does_not_eat_the_answer() -> None:
    """An allowance of 1,024 was collected with 5,120 tokens for thinking and answer, so that is what a decision
    enforces.
    """
    router = thinker()
    decision = router.explain(router.forecast_vectors(ONE), r2.Tradeoff(1.0))
    model, budget = router.pool.models[0], router.pool.budgets[0]
    collected = Controls().request(model, ANTHROPIC, Asked("why?"), budget).body
    assert decision.arm == "claude@1024"
    assert decision.max_tokens == decision.enforcement.max_tokens == collected["max_tokens"] == 5120
    assert decision.enforcement.thinking_tokens == collected["thinking"]["budget_tokens"] == 1024
    roomy = replace(router, controls=("thinking_tokens:100+max_tokens;temperature=None",) * 2)
    assert roomy.explain(roomy.forecast_vectors(ONE), r2.Tradeoff(1.0)).max_tokens == 1124, (
        "as this curve was collected"
    )
    forecast = roomy.forecast_vectors(np.repeat(ONE, 3, axis=0))
    assert roomy.limits(forecast, roomy.choose(forecast, r2.Tradeoff(0.0)), r2.Tradeoff(0.0)).max_tokens == [4196] * 3


def test_a_cap_in_dollars_leaves_the_answer_room_beside_thinking() -> None:
    router = thinker()
    decision = router.explain(router.forecast_vectors(ONE), r2.Best(0.02))  # pays for 2,000 output tokens
    sent = decision.enforcement
    assert sent.max_tokens == decision.max_tokens in (1999, 2000)
    assert sent.thinking_tokens is not None and 0 < sent.thinking_tokens <= 1000
    wide = router.explain(router.forecast_vectors(ONE), r2.Best(1.0))
    assert (wide.max_tokens, wide.enforcement.thinking_tokens) == (8192, 4096)


def test_between_two_budgets_the_request_asks_for_the_one_between() -> None:
    router = thinker(("instruction", "max_tokens"))
    decision = router.explain(router.forecast_vectors(ONE), r2.Best(0.02))
    between = int(decision.budget)
    assert 1024 < between < 4096 and decision.enforcement.instruction == f"Use at most {between} tokens."
    assert decision.max_tokens is not None and decision.max_tokens <= min(between, 2000)


@pytest.mark.parametrize(
    ("signature", "sent"),
    [
        ("reasoning_effort;temperature=None", {"effort": "1024"}),
        ("reasoning_effort;temperature=None;cap=16384", {"effort": "1024", "max_tokens": 16384}),
        (
            "instruction:words:system;temperature=0.0",
            {"instruction": "Answer in at most 768 words.", "place": "system"},
        ),
        ("prefix_sharing:answer:10;temperature=0.0", {"max_tokens": 1024, "closing": CLOSINGS["answer"]}),
        ("none;temperature=0.0", {}),
    ],
)
def test_what_a_request_must_carry(signature: str, sent: dict[str, Any]) -> None:
    router = replace(thinker(), controls=(signature, ""))
    decision = router.explain(router.forecast_vectors(ONE), r2.Tradeoff(1.0))
    assert msgspec.to_builtins(decision.enforcement) == msgspec.to_builtins(type(decision.enforcement)(**sent))
    assert decision.max_tokens == sent.get("max_tokens")


def test_controls_travel_with_the_table_and_the_router(world: Any, fake_encoder: Any, tmp_path: Path) -> None:
    write_table(world.table, tmp_path / "plain.parquet")
    rows = pl.read_parquet(tmp_path / "plain.parquet")
    assert "control" not in rows.columns and r2.Table.read(rows, world.pool).controls == {}
    often, seldom = "instruction:concise:user+max_tokens;temperature=0.0", "max_tokens;temperature=0.0"
    arm = pl.concat_str("model", "budget", separator="@")
    number = pl.int_range(pl.len())
    rows = rows.with_columns(
        control=pl.when(arm == "large@50").then(pl.when(number % 24 == 3).then(pl.lit(seldom)).otherwise(pl.lit(often)))
    )
    table = r2.Table.read(rows, world.pool)
    assert dict(table.controls) == {"large@50": often}
    write_table(table, tmp_path / "table.parquet")
    table = r2.Table.read(tmp_path / "table.parquet", world.pool)
    train, test = table.split(0.5, 0)
    assert train.controls == test.controls == table.controls
    router = r2.Recipe(encoder="fake", folds=0).fit(train)
    router.save(tmp_path / "router")
    loaded = r2.Router.load(tmp_path / "router")
    assert loaded.controls == router.controls and loaded.controls[loaded.pool.index["large@50"]] == often
    only = [a for a in loaded.arms if a != "large@50"]
    decision = loaded.route("topic 1 what?", exclude=only)
    assert decision.enforcement.instruction == WORDINGS["concise"].format(k=50) and decision.max_tokens == 50
    other = loaded.route("topic 1 what?", exclude=[a for a in loaded.arms if a != "large@200"])
    assert other.enforcement.instruction == "Use at most 200 tokens.", "not recorded: as the pool has it"


def test_an_arm_that_was_enforced_in_several_ways_is_named(world: Any, tmp_path: Path) -> None:
    write_table(world.table, tmp_path / "plain.parquet")
    rows = pl.read_parquet(tmp_path / "plain.parquet").with_row_index("number")
    rows = rows.with_columns(
        control=pl.when(pl.col("number") < 900)
        .then(pl.lit("max_tokens;temperature=0.0"))
        .otherwise(pl.lit("none;temperature=0.0"))
    ).drop("number")
    table = r2.Table.read(rows, world.pool)
    assert any("enforced in several ways" in note for note in table.notes)


def test_routers_of_before_are_read(world: Any, fake_encoder: Any, tmp_path: Path) -> None:
    """No controls, no digest, no background."""
    r2.Recipe(encoder="fake", folds=0).fit(world.table).save(tmp_path / "r")
    manifest, arrays = artifact.load(tmp_path / "r", dict[str, Any])
    for name in ("controls", "temperature"):
        manifest.pop(name)
    for name in ("trained.hashes", "familiarity.background"):
        arrays.pop(name)
    artifact.save(tmp_path / "r", manifest, arrays, "", version="0")
    old = r2.Router.load(tmp_path / "r")
    assert (old.controls, old.trained) == ((), None)
    decision = old.route("topic 1 what?")
    assert decision.enforcement.max_tokens == decision.max_tokens


def test_damaged_controls_are_refused(world: Any, fake_encoder: Any, tmp_path: Path) -> None:
    r2.Recipe(encoder="fake", folds=0).fit(world.table).save(tmp_path / "r")
    manifest, arrays = artifact.load(tmp_path / "r", dict[str, Any])
    manifest["controls"] = ["max_tokens;temperature=0.0"]
    artifact.save(tmp_path / "r", manifest, arrays, "", version="0")
    with pytest.raises(r2.ArtifactError, match="one per arm"):
        r2.Router.load(tmp_path / "r")
