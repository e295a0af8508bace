"""Collecting: a plan becomes a table whatever happens to endpoints, processes, money and disks, and nothing is paid for
twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")

from r2router.bench.collect import collect
from r2router.bench.estimate import estimate
from r2router.bench.folder import JOURNAL, compact, remember
from r2router.bench.journal import Journal
from r2router.bench.outcome import answer_record, forced_record
from r2router.bench.plan import CollectionPlan
from r2router.bench.record import read_records
from r2router.bench.spend_limit import NANOS, Hold, SpendLimit, dollars, nanos
from r2router.bench.status import Status
from r2router.bench.suite import JsonLines, Query
from r2router.bench.thinking import without_thinking
from r2router.cli import main
from r2router.errors import ConfigError, DataError, MissingPrice
from r2router.pool.pool import Pool
from r2router.table.table import Table
from r2router.testing import endpoint as fake_endpoint
from r2router.testing.endpoint import FAULTS, FakeEndpoint
from r2router.types import Budget, Model, Prices, Provider, Tier
from r2router.upstream.client import Failure, Reply, Request, Upstream
from r2router.upstream.controls import CLOSINGS, SAFETY_CAP, WORDINGS, Controls
from r2router.upstream.usage import Usage

BOTH = ("instruction", "max_tokens")
PRICES = Prices(1.0, 10.0, cached_input=0.1)
SECRET = "sk-very-secret-0123456789"


def model(name: str = "m", budgets: Sequence[int | str] = (8, 20), control: Any = BOTH, **more: Any) -> Model:
    made = tuple(Budget.of(b, control) for b in budgets)
    return Model(id=name, budgets=made, provider="here", upstream=name, usd_per_million=PRICES, **more)


def queries(n: int) -> list[Query]:
    return [
        Query(id=f"q{i}", text=f"What is {i} + {i}?", task=f"task {i % 3}", reference=str(2 * i), scorer="numeric")
        for i in range(n)
    ]


def plan_for(
    fake: Any, n: int = 10, models: Sequence[Model] = (), controls: Controls | None = None, **settings: Any
) -> CollectionPlan:
    provider = Provider(base_url=fake.url, **{"timeout_s": 2.0, "concurrency": 16, **settings})
    return CollectionPlan(queries(n), Pool(models or [model()]), {"here": provider}, controls or Controls())


def run(plan: CollectionPlan, folder: Path, **more: Any) -> Status:
    async def go() -> Status:
        with Journal(folder / JOURNAL) as journal:
            remember(folder, plan.queries)
            async with Upstream(plan.providers, backoff_s=0.01) as upstream:
                return await collect(plan, journal, upstream, **more)

    return asyncio.run(go())


def table(folder: Path) -> pl.DataFrame:
    """The compacted table without what a clock or a repeated call changes."""
    compact(folder)
    frame = pl.read_parquet(folder / "outcomes.parquet")
    return frame.drop("latency_s", "ttft_s", "paid_usd").sort("query_id", "model", "budget", "sample")


@pytest.mark.parametrize(
    ("text", "finish", "starved"),
    [
        ("<think>\nFirst, 2", "length", True),
        ("<think>2 + 2</think>\n", "length", True),
        ("<think>2 + 2</think>4", "length", False),
        ("<think>2 + 2</think>4", "stop", False),
        ("I <think> so", "length", False),
        ("<think>\nFirst, 2", "stop", True),
        ("[THINK]First, 2", None, True),
        ("<|channel|>analysis<|message|>2 + 2", "length", True),
    ],
)
def test_thinking_left_in_the_answer_that_ate_the_allowance_shows_as_such(
    text: str, finish: str | None, starved: bool
) -> None:
    plan = CollectionPlan(queries(1), Pool([model()]), {"here": Provider(base_url="http://x/v1")})
    reply = Reply(
        text=text,
        reasoning="",
        pieces=[text],
        finish_reason=finish,
        usage=Usage(9, 8),
        usage_error="",
        latency_s=0.1,
        ttft_s=None,
        model="m",
    )
    work = next(plan.work())
    record = answer_record(plan, work, work.budgets[0], "0" * 32, reply, NANOS)
    assert (record.starved, record.truncated, record.response) == (starved, finish == "length", text)


@pytest.mark.parametrize(
    ("cut", "closed"),
    [("<think>2 + 2", True), ("[THINK]2 + 2", True), ("<think>2</think>It is", False), ("2 + 2", False)],
)
def test_an_answer_forced_behind_thinking_that_was_cut_is_an_answer(cut: str, closed: bool) -> None:
    plan = CollectionPlan(queries(1), Pool([model()]), {"here": Provider(base_url="http://x/v1")})
    work = next(plan.work())
    reply = Reply(
        text=" 4",
        reasoning="",
        pieces=[" 4"],
        finish_reason="stop",
        usage=Usage(9, 2),
        usage_error="",
        latency_s=0.1,
        ttft_s=None,
        model="m",
    )
    chain = answer_record(plan, work, work.budgets[0], "0" * 32, reply, 1)
    response = forced_record(plan, work, work.budgets[0], "1" * 32, chain, cut, reply, 1).response or ""
    assert (
        without_thinking(response).endswith("Therefore, the final answer is 4") and ("\n</think>" in response) == closed
    )


# -- a table out of calls -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_every_cell_is_asked_once_and_reads_as_a_table(tmp_path: Path, stream: bool) -> None:
    pool = Pool([model(), model("n", ["unlimited"], ())])
    with FakeEndpoint() as fake:
        plan = plan_for(fake, 10, pool.models, stream=stream)
        status = run(plan, tmp_path)
        assert (status.done, status.failed, status.calls, status.stopped) == (30, 0, 30, {})
        again = run(plan, tmp_path)
        assert (again.done, again.there, again.calls) == (30, 30, 0)
    assert set(fake.billed.values()) == {1} and fake.billed.total() == 30

    rows = table(tmp_path)
    for row, sent in zip(
        rows.filter(pl.col("budget") == "8").iter_rows(named=True), sorted(fake.bodies, key=str), strict=False
    ):
        assert row["control"].startswith("instruction:paper:user+max_tokens") and row["budget_tokens"] == 8
        assert row["output_tokens"] <= 8 and row["truncated"] == (row["finish_reason"] == "length") and sent["model"]
    first = rows.filter((pl.col("query_id") == "q3") & (pl.col("budget") == "20")).row(0, named=True)
    body = plan.controls.request(pool["m"], plan.providers["here"], plan.queries[3], pool["m"].budgets[1]).body
    assert first["response"] == fake_endpoint.answer(body)[0]
    cost = (first["input_tokens"] - 0.9 * first["cached_tokens"] + 10 * first["output_tokens"]) / 1e6
    assert first["cost_usd"] == pytest.approx(cost)

    read = Table.read(tmp_path / "outcomes.parquet", pool)
    assert read.quality.shape == (10, 3) and ((read.quality == 0) | (read.quality == 1)).all()
    assert read.cost_usd == pytest.approx(pool.cost(read.input_tokens, read.output_tokens, read.cached_tokens))


def test_the_same_words_are_asked_once_and_give_a_row_to_each_query(tmp_path: Path) -> None:
    twins = [
        Query(id="a", text="twice", reference="1", scorer="numeric"),
        Query(id="b", text="twice", reference="7", scorer="numeric"),
    ]
    with FakeEndpoint() as fake:
        base = plan_for(fake)
        status = run(CollectionPlan(twins, base.pool, base.providers), tmp_path)
    assert (status.done, status.calls) == (4, 2)
    rows = table(tmp_path)
    assert rows["query_id"].to_list() == ["a", "a", "b", "b"] and rows["response"].n_unique() <= 2


def test_samples_are_calls_of_their_own(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        base = plan_for(fake, 3)
        run(CollectionPlan(base.queries, base.pool, base.providers, samples=2), tmp_path)
    assert table(tmp_path)["sample"].to_list() == [0, 1] * 6 and fake.requests == 12


def test_an_id_that_meant_other_words_before_is_refused(tmp_path: Path) -> None:
    remember(tmp_path, [Query(id="a", text="one")])
    remember(tmp_path, [Query(id="b", text="two")])
    assert [q.id for q in JsonLines(tmp_path / "queries.jsonl").queries()] == ["a", "b"]
    with pytest.raises(DataError, match="a different text"):
        remember(tmp_path, [Query(id="a", text="another")])


def test_thinking_that_ate_the_whole_allowance_shows_as_such(tmp_path: Path) -> None:
    with FakeEndpoint(thinking=15) as fake:
        run(plan_for(fake, 4), tmp_path)
    rows = table(tmp_path)
    short, long = rows.filter(pl.col("budget") == "8"), rows.filter(pl.col("budget") == "20")
    assert short["starved"].all() and (short["response"] == "").all() and (short["finish_reason"] == "length").all()
    assert (short["reasoning_tokens"] == 8).all() and (short["output_tokens"] == 8).all()
    assert not long["starved"].any() and (long["reasoning_tokens"] == 15).all() and (long["response"] != "").all()
    notes = [r.note for r in read_records(tmp_path / JOURNAL) if r.budget == "8"]
    assert set(notes) == {"the whole allowance went into thinking"}


# -- prefix sharing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("echo", [True, False])
def test_one_chain_gives_all_budgets_and_each_arm_the_tokens_it_would_have_used(tmp_path: Path, echo: bool) -> None:
    sharing = model(budgets=(0, 5, 12, 30), control=("prefix_sharing",))
    with FakeEndpoint(echo=echo) as fake:
        plan = plan_for(fake, 12, [sharing])
        status = run(plan, tmp_path)
    assert (status.done, status.failed) == (48, 0)
    records = list(read_records(tmp_path / JOURNAL))
    chains = {r.query_id: r for r in records if r.kind == "chain"}
    cells = [r for r in records if r.kind == "cell"]
    assert len(chains) == 12 and len(cells) == 48
    closing = CLOSINGS["final-answer"]
    natural = 0
    for cell in cells:
        chain, budget = chains[cell.query_id], cell.budget_tokens or 0
        assert chain.output_tokens == len(chain.pieces or [])
        if chain.finish_reason == "stop" and (chain.output_tokens or 0) <= budget:
            natural += 1
            assert (cell.response, cell.output_tokens, cell.input_tokens) == (
                chain.response,
                chain.output_tokens,
                chain.input_tokens,
            )
            assert (cell.truncated, cell.paid_usd) == (False, 0.0)
            continue
        cut = "".join(f" word-{i}" for i in range(budget)) + closing
        assert (cell.response or "").startswith(cut + " word-0") and (cell.response or "").count(closing) == 1
        answered = (cell.response or "").removeprefix(cut).count("word")
        assert (cell.output_tokens, cell.truncated, cell.finish_reason) == (budget + answered, True, "forced")
        assert answered <= 10
        # the fake counts a token for four characters: prompt, closing words and cut; the cut is the model's own output
        prompt = (len(plan.queries[int(cell.query_id[1:])].text) + len(cut)) // 4 + 8
        assert cell.input_tokens == prompt - budget
        assert cell.cost_usd == pytest.approx((cell.input_tokens + 10 * (cell.output_tokens or 0)) / 1e6)
        assert cell.paid_usd is not None and cell.paid_usd < cell.cost_usd + 1e-12 + prompt / 1e6
    assert 0 < natural < 48
    assert fake.requests == 12 + 48 - natural == fake.billed.total()


def test_an_interrupted_chain_is_not_paid_for_again(tmp_path: Path) -> None:
    sharing = model(budgets=(0, 5, 30), control=("prefix_sharing",))
    with FakeEndpoint() as fake:
        plan = plan_for(fake, 5, [sharing])
        run(plan, tmp_path)
        lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
        only_chains = [lines[0], *(line for line in lines if b'"kind":"chain"' in line)]
        whole = table(tmp_path)
        (tmp_path / JOURNAL).write_bytes(b"".join(only_chains))
        before = fake.requests
        run(plan, tmp_path)
        assert table(tmp_path).equals(whole)
        assert all(body["messages"][-1]["role"] == "assistant" for body in fake.bodies[before:])


def test_a_chain_whose_tokens_cannot_be_told_apart_is_an_error_of_its_cells(tmp_path: Path) -> None:
    sharing = model(budgets=(0, 5, 30), control=("prefix_sharing",))
    with FakeEndpoint() as fake:
        status = run(plan_for(fake, 2, [sharing], stream=False), tmp_path)  # a whole reply is one piece
    assert (status.done, status.failed, status.calls) == (6, 6, 2)
    assert all("one piece per token" in e for e in table(tmp_path)["error"])


def test_a_chain_that_cannot_be_cut_is_not_paid_for_again_after_a_kill(tmp_path: Path) -> None:
    sharing = model(budgets=(0, 5, 30), control=("prefix_sharing",))
    with FakeEndpoint() as fake:
        plan = plan_for(fake, 1, [sharing], stream=False)
        run(plan, tmp_path)
        head, chain, *_ = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
        (tmp_path / JOURNAL).write_bytes(head + chain)  # killed before its cells were recorded
        status = run(plan, tmp_path)
    assert (status.done, status.failed, status.calls, fake.billed.total()) == (3, 3, 0, 1)
    assert all("one piece per token" in e for e in table(tmp_path)["error"])


def test_chains_that_cannot_be_cut_stop_their_model_before_much_is_paid_for_them(tmp_path: Path) -> None:
    sharing = model(budgets=(0, 5, 30), control=("prefix_sharing",))
    with FakeEndpoint() as fake:
        status = run(plan_for(fake, 50, [sharing], stream=False, concurrency=1), tmp_path)
    assert "one piece per token" in status.stopped["model 'm'"] and (status.calls, fake.billed.total()) == (3, 3)


# -- controls -------------------------------------------------------------------------------------------------------


def fields(
    dialect: Any, budget: Budget, controls: Controls | None = None, url: str = "http://x/v1", system: str | None = None
) -> dict[str, Any]:
    """What a control puts into a request, beside the model and a plain message."""
    one = Model(id="m", budgets=(budget,), provider="p", upstream="m", usd_per_million=PRICES)
    provider = Provider(base_url=url, dialect=dialect)
    made = controls or Controls()
    made.check(one, provider)
    body = made.request(one, provider, Query(id="q", text="hi", system=system), budget).body
    return {
        k: v for k, v in body.items() if k != "model" and (k != "messages" or v != [{"role": "user", "content": "hi"}])
    }


@pytest.mark.parametrize(
    ("dialect", "budget", "expected"),
    [
        ("openai", Budget.of(50, ("max_tokens",)), {"max_tokens": 50, "temperature": 0.0}),
        ("openai", Budget.of("low", ("reasoning_effort",)), {"reasoning_effort": "low"}),
        ("openrouter", Budget.of("high", ("reasoning_effort",)), {"reasoning": {"effort": "high"}}),
        ("openrouter", Budget.of(2000, ("thinking_tokens",)), {"reasoning": {"max_tokens": 2000}}),
        ("openrouter", Budget.of(0, ("thinking_tokens",)), {"reasoning": {"effort": "none"}}),
        ("anthropic", Budget.of(2000, ("thinking_tokens",)), {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("anthropic", Budget.of(0, ("thinking_tokens",)), {"thinking": {"type": "disabled"}}),
        ("gemini", Budget.of(512, ("thinking_tokens",)), {"extra_body": {"google": {"thinking_config": {"thinking_budget": 512}}}}),
        ("gemini", Budget.of("low", ("reasoning_effort",)), {"reasoning_effort": "low"}),
        ("qwen", Budget.of(512, ("thinking_tokens",)), {"enable_thinking": True, "thinking_budget": 512}),
        ("qwen", Budget.of(0, ("thinking_tokens",)), {"enable_thinking": False}),
        ("vllm", Budget.of(512, ("thinking_tokens",)), {"chat_template_kwargs": {"enable_thinking": True},
        "thinking_token_budget": 512}),
        ("vllm", Budget.of(0, ("thinking_tokens",)), {"chat_template_kwargs": {"enable_thinking": False}}),
        ("sglang", Budget.of(512, ("thinking_tokens",)),
            {"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 512},
            "custom_params": {"thinking_budget": 512}}),
        ("sglang", Budget.of(0, ("thinking_tokens",)), {"chat_template_kwargs": {"enable_thinking": False}}),
        ("llama.cpp", Budget.of(9, ("thinking_tokens",)), {"chat_template_kwargs": {"enable_thinking": True},
        "thinking_budget_tokens": 9}),
        ("deepseek", Budget.of(0, ("thinking_tokens",)), {"thinking": {"type": "disabled"}}),
        ("sglang", Budget.of(9, ("thinking_tokens", "max_tokens")),
            {"chat_template_kwargs": {"enable_thinking": True, "thinking_budget": 9},
            "custom_params": {"thinking_budget": 9},
                "max_tokens": 4105}),
        ("openai", Budget.of("unlimited", BOTH), {"temperature": 0.0}),
    ],
)  # fmt: skip
def test_each_dialect_gets_the_fields_that_it_documents(dialect: Any, budget: Budget, expected: dict[str, Any]) -> None:
    thinking = (budget.tokens or 0) if "thinking_tokens" in budget.control else 0
    # where no budget caps it, a safety cap does
    assert fields(dialect, budget) == {"max_tokens": thinking + SAFETY_CAP} | expected


def test_openai_itself_takes_the_newer_name_of_the_cap() -> None:
    assert (
        fields("openai", Budget.of(50, ("max_tokens",)), url="https://api.openai.com/v1")["max_completion_tokens"] == 50
    )


@pytest.mark.parametrize("wording", WORDINGS)
@pytest.mark.parametrize("place", ["user", "system"])
@pytest.mark.parametrize("system", [None, "You are kind."])
def test_an_instruction_stands_where_it_is_wanted_and_names_the_budget(
    wording: str, place: Any, system: str | None
) -> None:
    messages = fields("openai", Budget.of(60, ("instruction",)), Controls(wording=wording, place=place), system=system)[
        "messages"
    ]
    words = WORDINGS[wording].format(k=60, words=45)
    texts = {m["role"]: m["content"] for m in messages}
    assert texts["user"] == (f"hi\n\n{words}" if place == "user" else "hi")
    assert texts.get("system") == (system if place == "user" else f"{system}\n\n{words}" if system else words)
    assert ("60" in words) != ("45" in words)


def test_the_papers_wording_is_the_papers() -> None:
    assert WORDINGS["paper"].format(k=150).lower() == "use at most 150 tokens."


@pytest.mark.parametrize(
    ("dialect", "budget", "words"),
    [
        ("openai", Budget.of(5, ("thinking_tokens",)), "no field for thinking tokens"),
        ("anthropic", Budget.of(5, ("prefix_sharing",)), "does not report single tokens"),
        ("anthropic", Budget.of(500, ("thinking_tokens",)), "1,024"),
        ("anthropic", Budget.of("low", ("reasoning_effort",)), "ignore reasoning_effort"),
        ("deepseek", Budget.of(500, ("thinking_tokens",)), "only a budget of 0"),
        ("gemini", Budget.of(50, ("prefix_sharing",)), "cannot continue an answer"),
        ("openai", Budget.of("low", ("thinking_tokens",)), "number of tokens"),
        ("openai", Budget.of(50, ("prefix_sharing", "max_tokens")), "cannot be combined"),
    ],
)
def test_a_control_that_an_endpoint_would_ignore_is_refused_before_the_first_call(
    dialect: Any, budget: Budget, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        fields(dialect, budget)


@pytest.mark.parametrize(
    ("dialect", "more", "said"),
    [
        ("llama.cpp", {}, {}),
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}, {}),
        ("deepseek", {}, {"prefix": True}),
    ],
)
def test_an_answer_is_continued_in_the_endpoints_own_way(
    dialect: Any, more: dict[str, Any], said: dict[str, Any]
) -> None:
    one, provider = model(), Provider(base_url="http://x/v1", dialect=dialect)
    body = Controls().forced(one, provider, queries(1)[0], "so").body
    assert body["messages"][-1] == {"role": "assistant", "content": "so\nTherefore, the final answer is", **said}
    assert {k: body[k] for k in ("continue_final_message", "add_generation_prompt") if k in body} == more
    assert body["max_tokens"] == 10


def test_a_model_without_a_price_or_an_unknown_wording_is_refused() -> None:
    unpriced = Model(id="m", budgets=(Budget.of(5),), provider="groq")
    with pytest.raises(MissingPrice, match="0 for a model of your own"):
        CollectionPlan(queries(1), Pool([unpriced]), {})
    with pytest.raises(ConfigError, match="there are: paper"):
        Controls(wording="papre")


# -- faults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "stream", "share"),
    [
        (60, True, 0.6),
        (60, False, 0.6),
        pytest.param(5_000, True, 0.3, marks=pytest.mark.slow, id="ten thousand calls"),
    ],
)
def test_every_fault_ends_as_a_result_and_the_table_is_that_of_a_quiet_day(
    tmp_path: Path, n: int, stream: bool, share: float
) -> None:
    many = {"stream": stream, "concurrency": 64 if n > 1_000 else 16, "timeout_s": 4.0 if n > 1_000 else 0.3}
    with FakeEndpoint() as quiet:
        run(plan_for(quiet, n, **many), tmp_path / "quiet")
    with FakeEndpoint(faults=FAULTS, share=share, latency_s=0.005) as fake:
        status = run(plan_for(fake, n, **many), tmp_path / "loud")
    assert (status.done, status.failed, status.stopped) == (2 * n, 0, {})
    assert len(fake.faulted) == len(FAULTS) and set(fake.billed.values()) == {1} and fake.billed.total() == 2 * n
    wanted, got = table(tmp_path / "quiet"), table(tmp_path / "loud")
    uncounted = got["input_tokens"].is_null()  # an impossible usage is no usage
    assert uncounted.sum() == fake.faulted["usage"]
    assert got.filter(~uncounted).equals(wanted.filter(~uncounted))
    assert got["response"].equals(wanted["response"])
    records = list(read_records(tmp_path / "loud" / JOURNAL))
    lost = sum(fake.faulted[f] for f in ("timeout", "malformed", "empty", "cut"))
    assert sum(r.paid_usd is None for r in records) == fake.faulted["usage"] + lost
    # what may be billed counts against the limit
    assert all(r.charged_usd > (r.cost_usd or 0) for r in records if r.paid_usd is None)


def test_lasting_faults_are_recorded_errors_and_never_a_quality(tmp_path: Path) -> None:
    lasting = [f for f in FAULTS if f not in ("usage", "reset")]
    with FakeEndpoint(faults=lasting, share=0.5, times=99) as fake:
        plan = plan_for(fake, 20, timeout_s=0.05)
        status = run(plan, tmp_path)
        assert status.done == 40 and 0 < status.failed < 40 and not status.stopped
        rows = table(tmp_path)
        failed = rows.filter(pl.col("error").is_not_null())
        assert len(failed) == status.failed and failed["quality"].null_count() == failed[
            "response"
        ].null_count() == len(failed)
        fake.faults = ()
        assert run(plan, tmp_path).calls == 0  # an error is an outcome too

        async def retry() -> Status:
            with Journal(tmp_path / JOURNAL, retry=("server", "rate_limit", "timeout", "malformed", "cut")) as journal:
                async with Upstream(plan.providers) as upstream:
                    return await collect(plan, journal, upstream)

        assert asyncio.run(retry()).calls == status.failed
    assert table(tmp_path)["error"].null_count() == 40
    assert set(fake.billed.values()) == {1}


def test_a_prompt_beyond_the_context_is_an_error_of_its_cell_alone(tmp_path: Path) -> None:
    long = Query(id="long", text="x" * 4000)
    with FakeEndpoint(context=200) as fake:
        base = plan_for(fake, 3, [model(), model("chained", (0, 9), ("prefix_sharing",))])
        status = run(CollectionPlan([*base.queries, long], base.pool, base.providers), tmp_path)
    assert (status.done, status.failed, status.stopped) == (16, 4, {})
    failed = table(tmp_path).filter(pl.col("error").is_not_null())
    assert set(failed["query_id"]) == {"long"} and all("context length" in e for e in failed["error"])
    assert fake.seen.most_common(1)[0][1] == 1  # no retries


def test_a_wrong_key_stops_its_provider_at_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)
    with FakeEndpoint(key="another") as locked, FakeEndpoint() as free:
        providers = {"here": Provider(base_url=free.url), "there": Provider(base_url=locked.url, key="FAKE_KEY")}
        pool = Pool([model(), Model(id="n", budgets=(Budget.of(9),), provider="there", usd_per_million=PRICES)])
        status = run(CollectionPlan(queries(5), pool, providers), tmp_path)
        assert locked.requests == 0  # the probe saw it
    assert (status.done, status.planned) == (10, 15)
    assert list(status.stopped) == ["provider 'there'"] and "refused the key" in status.stopped["provider 'there'"]
    assert SECRET not in str(status) + (tmp_path / JOURNAL).read_text()


def test_an_unknown_model_stops_that_model_and_is_not_recorded(tmp_path: Path) -> None:
    with FakeEndpoint(models=("m",)) as fake:
        plan = plan_for(fake, 5, [model(), model("unheard-of")])
        status = run(plan, tmp_path)
        assert status.done == 10 and "unheard-of" in status.stopped["model 'unheard-of'"]
        fake.models = None
        assert run(plan, tmp_path).done == 20  # nothing is in the way of asking it later


def test_a_model_that_refuses_its_first_calls_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeEndpoint, "_fault", lambda _self, _what: "refuse")

    async def refuse(*_: Any) -> Any:
        return fake_endpoint.error(400, "Unsupported parameter: max_tokens", "unsupported_parameter")

    monkeypatch.setattr(FakeEndpoint, "_answer", refuse)
    with FakeEndpoint() as fake:
        status = run(plan_for(fake, 50, concurrency=1), tmp_path)
    assert "Unsupported parameter" in status.stopped["model 'm'"] and fake.requests == 5 and status.failed == 4


def test_a_model_that_never_answers_does_not_turn_its_whole_plan_into_errors(tmp_path: Path) -> None:
    with FakeEndpoint(faults=("500", "429"), times=99) as fake:
        plan = plan_for(fake, 100, concurrency=8)
        status = run(plan, tmp_path)
        assert "model 'm'" in status.stopped and status.done == status.failed == 4
        fake.faults = ()
        assert (run(plan, tmp_path).done, len(table(tmp_path).filter(pl.col("error").is_not_null()))) == (200, 4)


class Dying:
    """A named fake engine: every call may have been billed once, and then its endpoint is gone."""

    async def call(self, _request: Request) -> Failure:
        return Failure(kind="connection", message="cannot be reached (tried 2 times)", attempts=2, maybe_billed=1)

    async def probe(self, _provider: str) -> None:
        return None

    def stop(self) -> None: ...

    async def close(self) -> None: ...


def test_what_may_have_been_billed_before_an_endpoint_went_away_is_charged(tmp_path: Path) -> None:
    plan = CollectionPlan(
        queries(3), Pool([model()]), {"here": Provider(base_url="http://127.0.0.1:9/v1", concurrency=1)}
    )
    with Journal(tmp_path / JOURNAL) as journal:
        status = asyncio.run(collect(plan, journal, Dying(), max_spend=1.0))
        (record,) = read_records(tmp_path / JOURNAL)
        assert "provider 'here'" in status.stopped and record.error_kind == "connection" and record.paid_usd is None
        assert journal.spent == record.charged_usd == nanos(plan.ceiling_usd(next(plan.work()), 8)) / NANOS > 0


def test_an_endpoint_that_dies_on_the_way_stops_and_can_be_gone_on_with(tmp_path: Path) -> None:
    with FakeEndpoint(latency_s=0.01) as fake:
        plan = plan_for(fake, 200, concurrency=4)

        def kill(status: Status) -> None:
            if status.done == 40:
                fake.stop()

        status = run(plan, tmp_path, report=kill)
    assert 40 <= status.done < 400 and "provider 'here'" in status.stopped and status.failed <= 4
    port = int(fake.url.split(":")[2].split("/")[0])
    with FakeEndpoint(port=port) as again:
        done = run(plan, tmp_path)
    assert done.done == 400 and again.billed.total() + status.done - status.failed <= 400 + 4


# -- money ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_spending_limit_is_never_exceeded_and_goes_over_runs(tmp_path: Path, concurrency: int) -> None:
    with FakeEndpoint() as fake:
        plan = plan_for(fake, 100, concurrency=concurrency)
        run(plan, tmp_path / "all")
        whole = sum(r.charged_usd for r in read_records(tmp_path / "all" / JOURNAL))
        for share in (0.3, 0.6):
            status = run(plan, tmp_path / "part", max_spend=share * whole)
            spent = sum(r.charged_usd for r in read_records(tmp_path / "part" / JOURNAL))
            assert 0.9 * share * whole < spent <= share * whole
            assert "spend limit" in status.stopped[""] and status.spent_usd == pytest.approx(spent)
        assert run(plan, tmp_path / "part", max_spend=10 * whole).done == 200
    assert table(tmp_path / "part").equals(table(tmp_path / "all"))


@pytest.mark.parametrize(
    ("usd", "words"), [(0, "$0"), (0.0000024, "$0.00000240"), (0.5, "$0.5000"), (1234.5, "$1,234.50")]
)
def test_small_sums_are_not_shown_as_nothing(usd: float, words: str) -> None:
    assert dollars(usd) == words


@pytest.mark.parametrize("times", [2, 99])
def test_the_limit_holds_where_attempts_fail_that_may_be_billed(tmp_path: Path, times: int) -> None:
    limit = 0.01
    with FakeEndpoint(faults=("cut", "malformed", "empty"), share=0.5, times=times) as fake:
        plan = plan_for(fake, 200)
        status = run(plan, tmp_path, max_spend=limit)
        spent = sum(r.charged_usd for r in read_records(tmp_path / JOURNAL))
        assert 0.9 * limit < spent <= limit and "spend limit" in status.stopped[""]


class Book:
    """A ledger that has charged nothing."""

    spent_nanos = 0
    flying = 0

    def in_flight(self, nano: int) -> None:
        self.flying = nano


@pytest.mark.parametrize(
    ("usd", "nano"), [(0, 0), (0.3, 300_000_000), (3e-8, 30), (1e-12, 1), (1.0000000001, NANOS + 1), (1e9, 10**18)]
)
def test_amounts_are_whole_nano_dollars_rounded_up(usd: float, nano: int) -> None:
    assert nanos(usd) == nano


def test_money_of_many_calls_comes_back_whole() -> None:
    async def go() -> None:
        book = Book()
        limit = SpendLimit(1e6, book)
        holds = [await limit.take(nanos(usd), 3) for usd in (1e5, 0.1, 0.3, 12345.678, 0.7)]
        assert book.flying == sum(h.total for h in holds if h) == 3 * nanos(112346.778)
        for hold in holds:
            assert hold is not None
            limit.give_back(hold)
        assert book.flying == 0
        # what rounding leaves over is no call under way
        assert await asyncio.wait_for(limit.take(nanos(2e6)), 1) is None
        whole = nanos(1e6)
        assert await limit.take(whole, 3) == Hold(whole, 1) and await SpendLimit(None, Book()).take(whole, 3) == Hold(
            whole, 3
        )

    asyncio.run(go())


def test_an_estimate_prices_each_prompt_by_its_own_length(tmp_path: Path) -> None:
    """The tokens of many short prompts are many, and yet none of them reaches the tier of long prompts."""
    tiered = msgspec.structs.replace(PRICES, tiers=(Tier(1000.0, 10_000.0, above=2000),))
    with FakeEndpoint() as fake, Journal(tmp_path / JOURNAL) as journal:
        plain = estimate(plan_for(fake, 200, [model(budgets=(8,))]), journal)
        prompts = plan_for(fake, 200, [msgspec.structs.replace(model(budgets=(8,)), usd_per_million=tiered)])
        assert estimate(prompts, journal) == plain
        long = Query(id="long", text="one two three four five six " * 1000, reference="1", scorer="numeric")
        with_long = CollectionPlan([*prompts.queries, long], prompts.pool, prompts.providers)
        assert estimate(with_long, journal)[0].usd > 6000 * 1000 / 1e6
        work = list(with_long.work())[-1]
        assert with_long.ceiling_usd(work, 8) > (6000 * 1000 + 8 * 10_000) / 1e6


def test_the_estimate_brackets_what_it_comes_to_and_learns_from_the_journal(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        plan = plan_for(fake, 40, [model(budgets=(8, 40)), model("chained", (0, 9, 30), ("prefix_sharing",))])
        with Journal(tmp_path / "empty" / JOURNAL) as journal:
            guess = estimate(plan, journal)
        run(plan, tmp_path / "whole")
        paid = sum(r.charged_usd for r in read_records(tmp_path / "whole" / JOURNAL))
        assert sum(e.low_usd for e in guess) < paid < sum(e.high_usd for e in guess)
        half = CollectionPlan(plan.queries[:20], plan.pool, plan.providers)
        run(half, tmp_path / "half")
        with Journal(tmp_path / "half" / JOURNAL) as journal:
            better = [e for e in estimate(plan, journal) if e.model == "m"]
        rest = {(r.model, r.budget): 0.0 for r in read_records(tmp_path / "whole" / JOURNAL) if r.model == "m"}
        late = {q.id for q in plan.queries[20:]}
        for r in read_records(tmp_path / "whole" / JOURNAL):
            if r.model == "m" and r.query_id in late:
                rest[r.model, r.budget] += r.charged_usd
        for e in better:
            assert (e.measured, e.calls) == (20, 20) and e.low_usd <= rest[e.model, e.budget] <= e.high_usd


# -- the command ----------------------------------------------------------------------------------------------------


def files(folder: Path, url: str, n: int = 6, **provider: Any) -> list[str]:
    """A suite and a pool in files, and the options that name them."""
    folder.mkdir(exist_ok=True)
    rows = [
        {"id": q.id, "text": q.text, "task": q.task, "reference": q.reference, "scorer": q.scorer} for q in queries(n)
    ]
    (folder / "suite.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    settings = "".join(f"{k} = {json.dumps(v)}\n" for k, v in provider.items())
    (folder / "pool.toml").write_text(
        f'[provider.here]\nbase_url = "{url}"\n{settings}\n[[model]]\nid = "m"\nprovider = "here"\nbudgets = [8,'
        ' 20]\ncontrol = ["instruction", "max_tokens"]\nusd_per_million = { input = 1.0, output = 10.0, cached_input'
        ' = 0.1 }\n[[model]]\nid = "chained"\nprovider = "here"\nbudgets = [0, 9]\ncontrol ='
        ' ["prefix_sharing"]\nusd_per_million = { input = 1.0, output = 10.0, cached_input = 0.1 }\n'
    )
    return [
        "collect",
        "--suite",
        str(folder / "suite.jsonl"),
        "--pool",
        str(folder / "pool.toml"),
        "--out",
        str(folder / "run"),
    ]


def cli(*words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=stdin)


def test_the_command_prices_asks_collects_and_goes_on(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        words = files(tmp_path, fake.url)
        dry = cli(*words, "--dry-run")
        assert dry.exit_code == 0 and "chain:9" in dry.output and "expected" in dry.output and fake.requests == 0
        assert not (tmp_path / "run" / "queries.jsonl").exists()
        no = cli(*words, stdin="n\n")
        assert (
            no.exit_code == 1
            and "spend about $" in no.output
            and "nothing was spent" in no.output
            and "interrupted" not in no.output
            and fake.requests == 0
        )
        yes = cli(*words, "--limit", "3", stdin="y\n")
        assert yes.exit_code == 0 and "12 of 12 cells" in yes.output
        more = cli(*words, "--yes")
        assert more.exit_code == 0 and "24 of 24 cells, 12 of them in this run" in more.output
        assert "all 24 cells are done" in cli(*words).output
    made = cli("compact", str(tmp_path / "run"))
    assert made.exit_code == 0 and "24 rows, 24 judged, 0 errors" in made.output
    assert Table.read(tmp_path / "run" / "outcomes.parquet", Pool.read(tmp_path / "pool.toml")).quality.shape == (6, 4)
    assert set(fake.billed.values()) == {1}


def test_the_command_ends_with_one_line_for_what_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeEndpoint() as fake:
        pass
    down = cli(*files(tmp_path, fake.url), "--yes")
    assert down.exit_code == 1 and "cannot be reached" in down.output and len(down.stderr.splitlines()) <= 2
    monkeypatch.setenv("FAKE_KEY", SECRET)
    with FakeEndpoint(key="another") as locked:
        refused = cli(*files(tmp_path, locked.url, key="FAKE_KEY"), "--yes")
    assert refused.exit_code == 1 and "refused the key" in refused.output and SECRET not in refused.output
    for words, what in (
        (["--suite", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--control", "wording=papre"], "there are: paper"),
        (["--control", "place=roof"], "Invalid enum value 'roof'"),
        (["--control", "colour"], "KEY=VALUE"),
        (["--control", "temperature=nan"], "temperature nan is not between 0 and 2"),
        (["--max-spend", "-1"], "--max-spend"),
    ):
        wrong = cli(*files(tmp_path, fake.url), *words)
        assert wrong.exit_code == 2 and what in wrong.output, wrong.output
    nothing = cli("compact", str(tmp_path / "nowhere"))
    assert nothing.exit_code == 2 and "is no collection" in nothing.output


def test_pricing_a_plan_leaves_no_trace(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        words = files(tmp_path, fake.url)
        assert "no call" in cli(*words, "--dry-run").output and not (tmp_path / "run").exists()
        nobody = cli(*words)
        assert nobody.exit_code == 2 and "--yes" in nobody.stderr
        assert cli(*words, "--yes", "--limit", "3").exit_code == 0
        torn = (tmp_path / "run" / JOURNAL).read_bytes()[:-9]
        (tmp_path / "run" / JOURNAL).write_bytes(torn)
        with Journal(tmp_path / "other" / JOURNAL):  # while another process collects into it
            assert cli(*words, "--out", str(tmp_path / "other"), "--dry-run").exit_code == 0
        assert "14 records there" in cli(*words, "--dry-run").output
    assert (tmp_path / "run" / JOURNAL).read_bytes() == torn


def test_temperature_may_be_left_to_the_endpoint_and_samples_at_0_are_pointed_out(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        words = [*files(tmp_path, fake.url), "--limit", "1", "--samples", "2"]
        assert "will hardly differ" in cli(*words, "--dry-run").stderr
        assert cli(*words, "--control", "temperature=0.7", "--dry-run").stderr == ""
        assert cli(*words, "--control", "temperature=none", "--yes").exit_code == 0
    assert any("temperature" not in body for body in fake.bodies)


@pytest.mark.parametrize("thinking", [5, 90])
def test_an_allowance_for_thinking_that_is_ignored_shows(tmp_path: Path, thinking: int) -> None:
    with FakeEndpoint(thinking=thinking) as fake:
        words = files(tmp_path, fake.url, dialect="vllm")
        pool = (tmp_path / "pool.toml").read_text()
        pool = pool[: pool.index("[[model]]", pool.index("[[model]]") + 1)].replace(
            '["instruction", "max_tokens"]', '["thinking_tokens"]'
        )
        (tmp_path / "pool.toml").write_text(pool)
        done = cli(*words, "--yes")
    assert done.exit_code == 0 and ("12 answers used more thinking tokens" in done.stderr) == (thinking == 90), (
        done.output
    )


def test_a_run_says_what_its_errors_were(tmp_path: Path) -> None:
    with FakeEndpoint(context=9) as fake:
        done = cli(*files(tmp_path, fake.url), "--yes")
    assert (
        done.exit_code == 0
        and "24 failed (context); the first: " in done.stderr
        and "maximum context length" in done.stderr
    )
    assert "about $0 and 0 s remaining" in done.stderr
    assert "no call gave an answer" in cli("compact", str(tmp_path / "run")).stderr


def test_what_no_scorer_can_judge_is_said_before_it_is_paid_for(tmp_path: Path) -> None:
    words = files(tmp_path, "http://127.0.0.1:9/v1")
    (tmp_path / "suite.jsonl").write_text('{"text": "a", "scorer": "numeric"}\n{"text": "b", "scorer": "exact"}\n')
    nobody = cli(*words, "--dry-run")
    assert nobody.exit_code == 2 and "none of the 2 queries" in nobody.stderr
    with (tmp_path / "suite.jsonl").open("a") as file:
        file.write('{"text": "c", "scorer": "numeric", "reference": "forty"}\n')
    some = cli(*words, "--dry-run")
    assert some.exit_code == 0 and "judge 2 of 3 queries" in some.stderr and "1 references are not right" in some.stderr


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    words = files(tmp_path, "http://127.0.0.1:9/v1")
    (tmp_path / "suite.jsonl").write_bytes(
        b"\xef\xbb\xbf" + (tmp_path / "suite.jsonl").read_bytes().replace(b"\n", b"\r\n")
    )
    assert cli(*words, "--dry-run").exit_code == 0
    assert next(q.id for q in JsonLines(tmp_path / "suite.jsonl").queries()) == "q0"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("input = 1.0", "input = 1e308", "a price is finite and at least 0"),
        ("base_url", "base_ulr", "pool.toml, line 2: unknown key 'base_ulr' (did you mean 'base_url'?)"),
        ("concurrency = 4", "concurrency = 0", "pool.toml, line 3: Expected `int` >= 1"),
        ("concurrency = 4", "dialect = 'klingon'", "pool.toml, line 3: Invalid enum value 'klingon'"),
        ('base_url = "http', 'key = "http', "pool.toml, line 1: Object missing required field `base_url`"),
        ("http://127", "127", "base_url must begin with http"),
        (
            'provider = "here"',
            'provider = "hree"',
            "model 'm' has provider 'hree' (did you mean 'here'?): add [provider.hree]",
        ),
    ],
)
def test_a_provider_that_is_wrong_names_the_line(tmp_path: Path, old: str, new: str, what: str) -> None:
    words = files(tmp_path, "http://127.0.0.1:9/v1", concurrency=4)
    pool = tmp_path / "pool.toml"
    pool.write_text(pool.read_text().replace(old, new, 1))
    result = cli(*words, "--yes")
    assert result.exit_code == 2 and what in result.output, result.output


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}', "line 2: id 'x' is taken by line 1"),
        ('{"text": 7}', "line 1: .*`str`"),
        ('{"id": "x"}', "line 1: .*text"),
        ('{"text": " "}', "line 1: text and id must not be empty"),
        ("{", "line 1"),
        ("\n", "no queries"),
        ('{"text": "\\ud800"}', "line 1"),
    ],
)
def test_a_suite_that_is_wrong_names_the_line(tmp_path: Path, line: str, what: str) -> None:
    (tmp_path / "suite.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=what):
        list(JsonLines(tmp_path / "suite.jsonl").queries())


# -- kills ----------------------------------------------------------------------------------------------------------


def _killed_and_resumed(tmp_path: Path, kills: int, n: int) -> None:
    rng = random.Random(7)
    with FakeEndpoint(latency_s=0.03) as fake:
        words = [*files(tmp_path, fake.url, n, concurrency=4), "--yes"]
        command = [sys.executable, "-m", "r2router.cli", *words]
        for _ in range(kills):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            journal = tmp_path / "run" / JOURNAL
            size, begin = journal.stat().st_size if journal.exists() else 0, time.monotonic()
            while (
                process.poll() is None
                and time.monotonic() - begin < 30
                and not (journal.exists() and journal.stat().st_size > size + 100)
            ):
                time.sleep(0.005)  # until it writes: a kill while it starts would show nothing
            time.sleep(rng.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
            process.wait()
        billed_before = fake.billed.total()
        assert cli(*words).exit_code == 0
        records = list(read_records(tmp_path / "run" / JOURNAL))
        assert len({r.key for r in records}) == len(records)  # nothing is counted twice
        called = sum(r.kind == "chain" or r.paid_usd != 0.0 for r in records)
        # lost: at most what was in flight at each kill
        assert billed_before > 0 and fake.billed.total() <= called + kills * 4
    with FakeEndpoint() as quiet:
        assert cli(*files(tmp_path / "quiet", quiet.url, n), "--yes").exit_code == 0
    assert table(tmp_path / "run").equals(table(tmp_path / "quiet" / "run"))


def test_killed_and_resumed_it_gives_the_same_table(tmp_path: Path) -> None:
    _killed_and_resumed(tmp_path, kills=3, n=40)


@pytest.mark.slow
def test_killed_twenty_times_it_gives_the_same_table(tmp_path: Path) -> None:
    _killed_and_resumed(tmp_path, kills=20, n=300)


def test_ctrl_c_waits_for_what_is_paid_for(tmp_path: Path) -> None:
    with FakeEndpoint(latency_s=0.3) as fake:
        words = files(tmp_path, fake.url, 60, concurrency=4)
        process = subprocess.Popen(
            [sys.executable, "-m", "r2router.cli", *words, "--yes"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        while fake.requests < 8:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1 and "waiting for the calls in progress" in said and "interrupted" in said
        records = list(read_records(tmp_path / "run" / JOURNAL))
        assert sum(r.kind == "chain" or r.paid_usd != 0.0 for r in records) == fake.billed.total()


# -- engines --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_gives_the_same_table(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the [ray] extra is not installed")
    passing = [f for f in FAULTS if f != "usage"]  # without a count a chain cannot be cut
    with FakeEndpoint(faults=passing, share=0.3) as fake:
        words = files(tmp_path, fake.url, 40, timeout_s=0.5)
        run_ = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "r2router.cli", *words, "--yes", "--engine", "ray"],
            capture_output=True, text=True, timeout=300, check=False, env={**os.environ,
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
        )  # fmt: skip
        assert run_.returncode == 0, run_.stderr
        assert set(fake.billed.values()) == {1}
        fake.faults = ()
        assert cli(*files(tmp_path / "one", fake.url, 40), "--yes").exit_code == 0
    assert table(tmp_path / "run").equals(table(tmp_path / "one" / "run"))
