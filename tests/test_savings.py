"""What would I save: prompts of any layout, the ways to answer them against brute force, and intervals that say what is
not known.
"""

from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from r2router.cli import main
from r2router.errors import ConfigError, DataError, UsageError
from r2router.prompts.promise import (
    UNKNOWN,
    Mix,
    Promise,
    PromiseDeviation,
    Promises,
    deviations,
    measured,
    quality_figure,
    saving_figure,
)
from r2router.prompts.read import prompts_of, read_prompts
from r2router.prompts.savings import ALL, MINE, NOW, Savings, arm_of_now
from r2router.prompts.ways import best_within, cheapest, small_pools
from r2router.starter import starter

TEXTS = ["Who wrote Faust?", "Prove that sqrt(2) is irrational.", "SELECT the second highest salary in SQL"]
CHATS = [
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]} for text in TEXTS
]


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["savings", *words])


# -- prompts --------------------------------------------------------------------------------------------------------


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


LAYOUTS = {
    "a.txt": "\n\n".join(TEXTS),
    "a.jsonl": lines([{"prompt": text, "user": "me"} for text in TEXTS]),
    "b.jsonl": lines(list(TEXTS)),
    "c.jsonl": lines(CHATS),
    "d.jsonl": lines([{"custom_id": "1", "body": chat} for chat in CHATS]),
    "e.jsonl": lines([{"id": i, "some words": text} for i, text in enumerate(TEXTS)]),
    "f.ndjson": lines([{"conversations": [{"from": "human", "value": text}, {"from": "gpt",
    "value": "ok"}]} for text in TEXTS]),
    "a.json": json.dumps(TEXTS),
    "b.json": json.dumps({"data": [{"question": text} for text in TEXTS]}),
    "a.csv": "id,question,answer\n" + "".join(f'{i},"{text}",no\n' for i, text in enumerate(TEXTS)),
    "b.csv": "User Prompt;x\n".replace(";x", "") + "".join(f'"{text}"\n' for text in TEXTS),
    "c.csv": "messages,cost\n" + "".join('"' + json.dumps(chat["messages"]).replace('"',
    '""') + '",1\n' for chat in CHATS),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_prompts_of_any_layout(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(LAYOUTS[name], encoding="utf-8")
    found = read_prompts(tmp_path / name)
    assert list(found.texts) == TEXTS and not found.left_out
    chats = name in {"c.jsonl", "d.jsonl", "c.csv"}
    assert set(found.before) == ({"Be brief."} if chats else {""})


def test_prompts_in_parquet_and_a_table_of_outcomes(tmp_path: Path) -> None:
    pl.DataFrame({"n": [1, 2, 3], "Prompt": TEXTS}).write_parquet(tmp_path / "a.parquet")
    assert list(read_prompts(tmp_path / "a.parquet").texts) == TEXTS
    pl.DataFrame(CHATS).write_parquet(tmp_path / "b.parquet")
    assert list(read_prompts(tmp_path / "b.parquet").texts) == TEXTS
    rows = [
        {"query_id": str(i), "query": text, "model": m, "quality": 1.0}
        for i, text in enumerate(TEXTS)
        for m in ("a", "b")
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "c.parquet")
    found = read_prompts(tmp_path / "c.parquet")
    assert list(found.texts) == TEXTS and "3 further rows" in found.notes[0]


def test_a_prompt_that_is_asked_twice_counts_twice() -> None:
    assert len(prompts_of([TEXTS[0], TEXTS[0]])) == 2


def test_rows_without_a_prompt_are_counted_and_named(tmp_path: Path) -> None:
    rows = [*CHATS, {"messages": [{"role": "assistant", "content": "hi"}]}, {"messages": []}, {"x": 1}, "", TEXTS[0]]
    (tmp_path / "log.jsonl").write_text(lines(rows) + "{broken\n", encoding="utf-8")
    found = read_prompts(tmp_path / "log.jsonl")
    assert len(found) == 4
    left = dict(found.left_out)
    assert left["a chat without a turn of the user"] == 2 and sum(left.values()) >= 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "is empty"),
        ("a.txt", "\n \n", "no prompt in it"),
        ("a.csv", "prompt\n", "no prompt in it"),
        ("a.csv", "one,two\nx,y\n", "--column"),
        ("a.jsonl", '{"a": 1, "b": 2}\n', "--column"),
        ("a.json", "{", "malformed JSON"),
        ("a.json", "[]", "no rows"),
        ("a.doc", "x", "name it .csv"),
        ("a.parquet", "x", "a.parquet"),
        ("none.csv", None, "no such file"),
    ],
)
def test_a_file_without_prompts_is_an_error_in_words(
    name: str, content: str | None, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_prompts(tmp_path / name)
    found = run(str(tmp_path / name), "--now", "gpt-4o")
    assert found.exit_code == 2 and words in found.stderr


# -- ways -----------------------------------------------------------------------------------------------------------

numbers = st.integers(0, 8).map(lambda v: v / 8)


@given(st.integers(1, 4), st.integers(1, 4), st.data())
def test_the_cheapest_way_is_that_of_the_least_value_that_reaches_the_target(n: int, arms: int, data: Any) -> None:
    quality, cost = (
        np.array(data.draw(st.lists(numbers, min_size=n * arms, max_size=n * arms))).reshape(n, arms) for _ in range(2)
    )
    cost = cost + 0.01
    target = data.draw(numbers)
    rows, columns = np.arange(n), np.arange(arms)
    way = cheapest("", quality, cost, columns, target)
    reached, spent = quality[rows, way.arm].mean(), cost[rows, way.arm].mean()
    best = quality.max(axis=1).mean()
    assert way.met == (best >= target - 1e-9)
    assert reached >= min(target, best) - 1e-9
    for value in np.geomspace(1e-3, 1e3, 60):  # no other setting of the dial reaches it at less
        arm = (value * quality - cost).argmax(axis=1)
        if quality[rows, arm].mean() >= min(target, best) - 1e-9:
            assert spent <= cost[rows, arm].mean() + 1e-9
    within = best_within("", quality, cost, columns, spent)
    assert (
        within.met
        and cost[rows, within.arm].mean() <= spent + 1e-9
        and quality[rows, within.arm].mean() >= reached - 1e-9
    )


@pytest.mark.parametrize("n", [1, 3, 700])
def test_todays_arm_reaches_its_own_quality_however_it_was_rounded(n: int) -> None:
    rng = np.random.default_rng(n)
    quality, cost = rng.random((n, 2)).astype(np.float32), np.full((n, 2), 0.001)
    target = float(quality[:, 1].astype(np.float64).mean())
    assert cheapest("alone", quality, cost, np.array([1]), target * (1 + 1e-7)).met


def test_small_pools_are_what_trying_all_arms_gives() -> None:
    rng = np.random.default_rng(3)
    quality, cost = rng.random((40, 6)), rng.random((40, 6)) + 0.05
    target = float(np.sort(quality.mean(axis=0))[3])
    pools = small_pools(quality, cost, np.arange(6), target)
    single = [a for a in range(6) if quality[:, a].mean() >= target]
    assert pools[0].tolist() == [min(single, key=lambda a: cost[:, a].mean())]
    for before, pool in pairwise(pools):
        assert set(before) < set(pool) and len(pool) == len(before) + 1
        spent = [cheapest("", quality, cost, p, target) for p in (before, pool)]
        assert [cost[np.arange(40), w.arm].mean() for w in spent] == sorted(
            (cost[np.arange(40), w.arm].mean() for w in spent), reverse=True
        )
        tried = [
            cost[np.arange(40), cheapest("", quality, cost, np.array([*before, a]), target).arm].mean()
            for a in range(6)
            if a not in before
        ]
        assert cost[np.arange(40), spent[1].arm].mean() == pytest.approx(min(tried))


def test_a_pool_of_arms_of_which_none_is_good_enough_comes_as_near_as_it_can() -> None:
    quality, cost = np.array([[0.2, 0.5], [0.6, 0.3]]), np.ones((2, 2))
    one, two = small_pools(quality, cost, np.arange(2), 0.9)
    assert len(one) == 1 and len(two) == 2
    assert not cheapest("", quality, cost, two, 0.9).met


# -- intervals ------------------------------------------------------------------------------------------------------


def test_deviations_are_those_that_made_the_errors() -> None:
    rng = np.random.default_rng(0)
    noise = np.full(4000, 0.03**2)
    errors = 0.02 + 0.1 * rng.standard_normal(4000) + 0.03 * rng.standard_normal(4000)
    found = deviations(errors, noise, ["a"] * 2000 + ["b"] * 2000, [str(i) for i in range(4000)])
    assert found.bias == pytest.approx(0.02, abs=0.006)
    assert found.deviation[""] == pytest.approx(0.1, rel=0.06) and found.deviation["a"] == pytest.approx(0.1, rel=0.08)


OFF = PromiseDeviation(0.0, {"": 0.1, "facts": 0.05, UNKNOWN: 0.2}, 2.0)
MADE_UP = Promises(Promise(OFF, OFF, OFF, OFF), Promise(OFF, OFF, OFF, OFF), answer=0.4, length=0.8)


def test_an_interval_is_what_tasks_and_single_answers_are_off_by() -> None:
    one, many, odd, both = (
        quality_figure("", 0.5, OFF_PROMISE, Mix.of(names), MADE_UP)
        for names in (["code"], ["code"] * 10_000, [UNKNOWN] * 10_000, ["code", "facts"] * 5_000)
    )
    assert (one.low, one.high) == (0, 1), "one answer is right or wrong"
    assert many.high - many.value == pytest.approx(2 * np.hypot(0.1, 0.4 / 100))
    assert odd.high - odd.value == pytest.approx(2 * np.hypot(0.2, 0.4 / 100))
    assert both.high - both.value == pytest.approx(2 * np.sqrt(0.05**2 + 0.025**2 + 0.004**2))
    half = saving_figure("", 0.5, 1.0, OFF_PROMISE, Mix.of(["code"] * 10_000), MADE_UP)
    assert np.log((1 - half.low) / 0.5) == pytest.approx(2 * np.hypot(0.1, 0.8 * np.sqrt(2) / 100))
    still = saving_figure("", 1.0, 0.0, OFF_PROMISE, Mix.of(["facts"] * 5), MADE_UP)
    assert (still.low, still.value, still.high) == (0, 0, 0), "what stays as it is saves nothing, for sure"


OFF_PROMISE = MADE_UP.routed


def test_what_was_measured_is_wider_for_a_router_than_nothing_and_covers_the_domains_of_the_record() -> None:
    kept = measured()
    for promise in (kept.fixed, kept.routed):
        assert {"", UNKNOWN, "mathematics", "medicine"} <= promise.quality.deviation.keys()
        assert promise.quality.z >= 1.96 and promise.cost.z >= 1.96
    assert kept.routed.gain.bias < 0, "choosing the best of many forecasts flatters them"
    assert 0.3 < kept.answer < 0.5 and kept.length > 0.3


@pytest.mark.parametrize("mix", list(product([["facts"], [UNKNOWN], ["facts", "code"]], [1, 50])))
def test_a_figure_lies_within_its_interval(mix: Any) -> None:
    names, times = mix
    kept = measured()
    for ratio in (0.1, 1.0, 3.0):
        figure = saving_figure("", ratio, 1.0, kept.routed, Mix.of(names * times), kept)
        assert figure.low <= figure.value <= figure.high < 1


# -- all of it ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def router(world: Any) -> r2.Router:
    return r2.Recipe(encoder="given:fake", folds=0).fit(world.table, vectors=world.vectors)


def judged(router: r2.Router, world: Any, now: str, **more: Any) -> Savings:
    n = 60
    return r2.savings(list(world.table.queries[:n]), now, router, vectors=world.vectors[:n], **more)


def test_what_is_used_now_saves_nothing_and_a_router_of_it_alone_neither(router: r2.Router, world: Any) -> None:
    found = judged(router, world, "large@800", models="large@800")
    now, every, mine = found.ways[:3]
    assert (now.name, every.name, mine.name) == (NOW, ALL, MINE)
    for way in (now, mine):
        assert way.saving.value == 0 and way.gain.value == 0 and way.arms == (("large@800", 1.0),)
    assert every.saving.value >= 0


def test_costs_and_qualities_are_those_of_the_forecast(router: r2.Router, world: Any) -> None:
    found = judged(router, world, "large@800")
    forecast = router.forecast_vectors(world.vectors[:60])
    at = router.arms.index("large@800")
    kept = measured()
    cost = 1000 * forecast.cost[:, at].mean() * np.exp(kept.fixed.cost.bias)
    assert found.ways[0].cost.value == pytest.approx(cost, rel=0.2), "the prompts' own lengths count, not the usual one"
    quality = np.clip(forecast.quality[:, at].mean() + kept.fixed.quality.bias, 0, 1)
    assert found.ways[0].quality.value == pytest.approx(quality)
    for way in found.ways:
        assert sum(share for _, share in way.arms) <= 1 + 1e-9
        if way.met:
            assert way.quality.value >= found.ways[0].quality.value - 1e-9, (
                "as good as now, what choosing flatters taken off"
            )
    assert all(way.cost.value <= found.ways[0].cost.value * 1.5 for way in found.at_cost)


def test_the_arm_that_is_used_now(router: r2.Router) -> None:
    assert arm_of_now(router, "large@50") == ("large@50", [])
    with pytest.raises(ConfigError, match="several budgets: name one of small@50"):
        arm_of_now(router, "small")
    with pytest.raises(ConfigError, match="no model 'gtp-4o'"):
        arm_of_now(router, "gtp-4o")
    with pytest.raises(ConfigError, match="fits 3 models"):
        arm_of_now(router, "*")
    usual, notes = arm_of_now(starter(), "gpt-5.2")
    assert usual == "gpt-5.2@default" and "gpt-5.2@high" in notes[0]


def test_of_many_prompts_some_are_drawn(router: r2.Router, world: Any) -> None:
    found = judged(router, world, "large@800", sample=20)
    assert (found.prompts, found.read) == (20, 60) and "20 of the 60" in found.notes[0]
    assert found == judged(router, world, "large@800", sample=20), "seeded"


def test_arguments_of_a_wrong_type_are_errors_in_words(router: r2.Router) -> None:
    for wrong in ({"now": 3}, {"now": "large@50", "sample": 0}, {"now": "large@50", "prompts": 7}):
        given_ = {"prompts": ["x"], "router": router} | wrong
        with pytest.raises(UsageError):
            r2.savings(**given_)


def test_prompts_unlike_everything_are_said_to_be_so(tmp_path: Path) -> None:
    file = tmp_path / "odd.txt"
    file.write_text("Hi!\nTell me a joke.\nWrite a haiku about the sea\n", encoding="utf-8")
    found = run(str(file), "--now", "gpt-4o", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["unknown"] == 1.0
    words = run(str(file), "--now", "gpt-4o").stdout
    assert "unlike anything that was graded" in " ".join(words.split()) and "is not known" in " ".join(words.split())


def test_the_command_with_the_starter_router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(lines(CHATS * 4), encoding="utf-8")
    report, other = tmp_path / "savings.html", tmp_path / "savings.json"
    found = run(
        str(file),
        "--now",
        "openai/gpt-4o-2024-08-06",
        "--providers",
        "openai,anthropic",
        "--report",
        str(report),
        "--report",
        str(other),
    )
    assert found.exit_code == 0, found.output
    page = report.read_text(encoding="utf-8")
    assert (
        "gpt-4o" in page
        and "your models" in page
        and "<script" not in page
        and "http" not in page.split("<style>")[1][:50]
    )
    assert json.loads(other.read_text())["name"] == "savings"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    found = run(str(file), "--now", "gpt-4o", "--json")
    assert "only models of openai" in found.stderr
    said = json.loads(found.stdout)
    mine = next(way for way in said["ways"] if way["name"] == MINE)
    assert all(arm.startswith(("gpt", "o3", "o4")) for arm, _ in mine["arms"])
    assert {way["name"] for way in said["ways"]} >= {NOW, ALL, MINE, "best pool of 1"}
    for way in said["ways"]:
        assert way["cost"]["low"] <= way["cost"]["value"] <= way["cost"]["high"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--now", "gtp-4o"), "nearest"),
        (("--now", "gpt-4o", "--models", "nobody"), "no model 'nobody'"),
        (("--now", "gpt-4o", "--providers", "acme"), "there are:"),
        (("--now", "mine"), "needs a similar one"),
        (("--now", "mine", "--like", "mine=qwen3-max"), "no price"),
        (("--now", "gpt-4o", "--column", "nope"), "nope"),
        (("--now", "gpt-4o", "--sample", "0"), "sample"),
        ((), "--now"),
    ],
)
def test_nonsense_is_an_error_in_words(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text("prompt\nWho wrote Faust?\n", encoding="utf-8")
    found = run(str(file), *words)
    assert found.exit_code == 2 and said in found.stderr, found.output


def test_one_prompt_and_a_stand_in(tmp_path: Path) -> None:
    file = tmp_path / "prompts.csv"
    file.write_text("prompt\nWho wrote Faust?\n", encoding="utf-8")
    found = run(str(file), "--now", "mine", "--like", "mine=qwen3-max:0.1/0.4", "--json")
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["prompts"] == 1 and said["now"] == "mine@default"
    assert said["ways"][0]["quality"]["high"] - said["ways"][0]["quality"]["low"] > 0.5, "one answer is right or wrong"


def test_prompts_that_are_too_long_for_a_model_go_to_another(router: r2.Router, world: Any) -> None:
    long = "word " * 9_000  # more than the context of `small`
    found = r2.savings([long, "short"], "large@800", router, vectors=world.vectors[:2])
    assert not any(arm.startswith("small") and share == 1 for way in found.ways for arm, share in way.arms)
    found = r2.savings([long, long], "small@200", router, models="small", vectors=world.vectors[:2])
    assert "2 prompts are longer than the context of small" in found.notes
    with pytest.raises(DataError, match="one row for each of the 2 prompts"):
        r2.savings(["a", "b"], "large@50", router, vectors=world.vectors[:1])


def test_a_model_without_a_price_is_an_error_in_words(router: r2.Router, world: Any) -> None:
    bare = r2.Pool(
        [
            msgspec.structs.replace(m, usd_per_million=None if m.id == "large" else m.usd_per_million)
            for m in router.pool.models
        ]
    )
    with pytest.raises(UsageError, match="large"):
        r2.savings(["x"], "large@50", router.with_pool(bare), vectors=world.vectors[:1])
