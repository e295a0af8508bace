"""Money: what is counted is at least what the endpoint reported, and within the limit wherever the endpoint keeps its
caps.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")

from aiohttp import web

from r2router.bench.collect import collect
from r2router.bench.folder import JOURNAL, compact, last_records, remember
from r2router.bench.journal import Journal
from r2router.bench.plan import CollectionPlan
from r2router.bench.record import read_records
from r2router.bench.spend_limit import NANOS
from r2router.bench.status import Status
from r2router.bench.suite import Query
from r2router.cli import main
from r2router.errors import ConfigError
from r2router.pool.pool import Pool
from r2router.testing import FakeEndpoint
from r2router.testing import endpoint as fake_endpoint
from r2router.types import Budget, Model, Prices, Provider
from r2router.upstream.client import Upstream
from r2router.upstream.controls import SAFETY_CAP
from r2router.upstream.reply import Failure, Reply, Request
from r2router.upstream.usage import Usage

IN, OUT = 1_000, 10_000  # nano-dollars per token: $1 and $10 per million
BOTH = ("instruction", "max_tokens")


def plan_of(
    n: int,
    concurrency: int = 4,
    budgets: tuple[int | str, ...] = (8, 20),
    control: Any = BOTH,
    url: str = "http://x/v1",
) -> CollectionPlan:
    made = tuple(Budget.of(b, control) for b in budgets)
    model = Model(id="m", budgets=made, provider="here", upstream="m", usd_per_million=Prices(1.0, 10.0))
    queries = [Query(id=f"q{i}", text=f"What is {i} + {i}?", reference=str(2 * i), scorer="numeric") for i in range(n)]
    return CollectionPlan(
        queries, Pool([model]), {"here": Provider(base_url=url, concurrency=concurrency, timeout_s=5)}
    )


class Endpoint:
    """A named fake engine that keeps the books: `billed` nano-dollars, of attempts that failed too.

    kind: honest (keeps its caps), capless (answers beyond them), upward (reports more than it wrote), silent (no usage,
    honest).
    snapshots: copies of the collection's folder as a kill at that moment would leave it, with what had been billed
    then.
    """

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        self.kind, self.rng, self.folder = kind, random.Random(seed), folder
        self.billed = self.calls = 0
        self.snapshots: list[tuple[Path, int]] = []

    async def call(self, request: Request) -> Reply | Failure:
        self.calls += 1
        cap = request.body["max_tokens"]
        text = request.body["messages"][-1]["content"]
        given = len(text) // 3 + 5
        lost, maybe_billed = None, 0
        for _ in range(self.rng.choice((0, 0, 0, 1, 2))):  # attempts that are billed and never arrive
            if maybe_billed + 1 >= request.billable:
                break
            made = self.rng.randint(0, cap)
            maybe_billed += 1
            self.billed += IN * given + OUT * made
            lost = Usage(given, made + (lost.output if lost else 0))
        for _ in range(self.rng.randint(0, 5)):
            await asyncio.sleep(0)
        made = {"capless": 50 * cap, "upward": cap * self.rng.randint(1, 2000)}.get(self.kind, self.rng.randint(1, cap))
        self.billed += IN * given + OUT * made
        if self.rng.random() < 0.2:
            copy = self.folder.with_name(f"{self.folder.name}-{len(self.snapshots)}")
            shutil.copytree(self.folder, copy)
            self.snapshots.append((copy, self.billed))
        await asyncio.sleep(0)
        usage = None if self.kind == "silent" else Usage(given, made)
        return Reply(
            text="the answer is 4", reasoning="", pieces=["the answer is 4"], finish_reason="stop", usage=usage,
            usage_error="" if usage else "the reply reports no usage", latency_s=0.0, ttft_s=None, model="m",
            attempts=maybe_billed + 1,
            maybe_billed=maybe_billed, lost=lost if self.kind != "silent" else None,
        )  # fmt: skip

    async def probe(self, _provider: str) -> None:
        return None

    def stop(self) -> None: ...

    async def close(self) -> None: ...


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(("honest", "capless", "upward", "silent")),
    seed=st.integers(0, 10**6),
    concurrency=st.integers(1, 12),
    limit=st.sampled_from((0.0001, 0.0007, 0.003, 0.02, None)),
    budgets=st.sampled_from(((8, 20), (300,), ("unlimited",))),
    drop_after=st.one_of(st.none(), st.integers(1, 30)),
)
def test_what_is_counted_is_at_least_what_was_reported_and_within_the_limit(
    kind: str, seed: int, concurrency: int, limit: float | None, budgets: tuple[int | str, ...], drop_after: int | None
) -> None:
    limit = limit if budgets != ("unlimited",) or limit is None else 300 * limit
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room) / "run"
        endpoint = Endpoint(kind, seed, folder)
        plan = plan_of(12, concurrency, budgets)

        async def go(*, drop: int | None) -> None:
            def watch(status: Status) -> None:
                if drop is not None and status.calls >= drop:
                    asyncio.get_running_loop().call_soon(task.cancel)  # as the second Ctrl-C does

            with Journal(folder / JOURNAL) as journal:
                task = asyncio.ensure_future(collect(plan, journal, endpoint, max_spend=limit, report=watch))
                await asyncio.wait([task])
                if not task.cancelled() and (error := task.exception()) is not None:
                    raise error

        for drop in (drop_after, None):
            asyncio.run(go(drop=drop))
            with Journal(folder / JOURNAL) as journal:
                assert journal.spent_nanos >= endpoint.billed
                assert limit is None or kind not in ("honest", "silent") or journal.spent_nanos <= limit * NANOS
        for killed, billed in endpoint.snapshots:
            with Journal(killed / JOURNAL) as journal:  # the next run's
                assert journal.spent_nanos >= billed
                assert limit is None or kind not in ("honest", "silent") or journal.spent_nanos <= limit * NANOS
            with Journal(killed / JOURNAL) as journal:  # and it counts once
                assert journal.notes == [] and journal.spent_nanos >= billed
        if kind == "capless" and limit is None:
            assert endpoint.calls <= 2 * 12  # it stopped, in each of the two runs


def test_a_killed_process_has_counted_what_the_endpoint_billed(tmp_path: Path) -> None:
    billed = 0

    class Counting(FakeEndpoint):
        async def _answer(
            self, request: web.Request, body: Any, what: str, prompt: int, fault: str | None
        ) -> web.StreamResponse:
            nonlocal billed
            reply = await super()._answer(request, body, what, prompt, fault)
            billed += IN * prompt + OUT * fake_endpoint.answer(body)[1]
            return reply

    limit = 0.05
    with Counting(latency_s=0.05) as fake:
        words = files(tmp_path, fake.url, 60, concurrency=8)
        command = [sys.executable, "-m", "r2router.cli", *words, "--yes", "--max-spend", str(limit)]
        for wait in (0.1, 0.35):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            before, begin = fake.requests, time.monotonic()
            while process.poll() is None and fake.requests < before + 8 and time.monotonic() - begin < 60:
                time.sleep(0.01)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.2)  # what was under way is answered, and billed
            assert fake.requests > before
            with Journal(tmp_path / "run" / JOURNAL) as journal:
                assert billed <= journal.spent_nanos <= limit * NANOS
                assert any("killed" in note for note in journal.notes)
        assert "was killed" not in cli(*words, "--yes", "--max-spend", str(limit)).output
        assert (tmp_path / "run").is_dir() and not list((tmp_path / "run").glob("*.in-flight"))


def test_after_an_interrupt_no_attempt_begins_retries_included(tmp_path: Path) -> None:
    with FakeEndpoint(faults=("429-after",), times=99) as fake:
        plan = plan_of(40, 8, url=fake.url)

        async def go() -> tuple[Status, int]:
            stop = asyncio.Event()
            with Journal(tmp_path / JOURNAL) as journal:
                async with Upstream(plan.providers, backoff_s=0.05) as upstream:
                    task = asyncio.ensure_future(collect(plan, journal, upstream, stop=stop))
                    while fake.requests < 3:
                        await asyncio.sleep(0.005)
                    stop.set()
                    await asyncio.sleep(0)
                    before = fake.requests
                    status = await asyncio.wait_for(task, 5)
                    return status, before

        status, before = asyncio.run(go())
        assert fake.requests <= before + 1  # one may be on its way
        fake.faults = ()
        with Journal(tmp_path / JOURNAL) as journal:
            assert journal.errors == status.failed == 0  # an interrupted call is asked again without a word


# -- what the first calls show ----------------------------------------------------------------------------------------


SMALL = Usage(9, 8)


def reply(text: str = "4", finish: str = "stop", usage: Usage | None = SMALL) -> Reply:
    return Reply(
        text=text, reasoning="", pieces=[text], finish_reason=finish, usage=usage,
        usage_error="" if usage else "no usage", latency_s=0.0,
        ttft_s=None, model="m",
    )  # fmt: skip


class Always(Endpoint):
    """A named fake engine: always the same."""

    def __init__(self, result: Reply | Failure) -> None:
        self.result, self.calls, self.now, self.most = result, 0, 0, 0

    async def call(self, _request: Request) -> Reply | Failure:
        self.calls, self.now = self.calls + 1, self.now + 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return self.result


@pytest.mark.parametrize(
    ("result", "calls", "why"),
    [
        (reply(usage=Usage(9, 5000)), 5, "do.* not respect max_tokens"),
        (reply(usage=None), 5, "report no usage.*--retry-failed"),
        (reply("", "content_filter"), 5, "are empty .finish reason 'content_filter'.*--retry-failed"),
        (reply("", "tool_calls"), 5, "are empty"),
        (Failure(kind="server", message="answered 500"), 5, "answered 500"),
    ],
)
def test_what_is_wrong_with_an_endpoint_shows_in_the_first_five_calls(
    tmp_path: Path, result: Any, calls: int, why: str
) -> None:
    engine = Always(result)
    with Journal(tmp_path / JOURNAL) as journal:
        status = asyncio.run(collect(plan_of(50, 16), journal, engine))
    assert engine.calls <= calls and engine.most <= 4
    assert re.search(why, status.stopped["model 'm'"])


def test_an_answer_that_the_budget_cut_off_is_not_empty(tmp_path: Path) -> None:
    engine = Always(reply("", "length"))
    with Journal(tmp_path / JOURNAL) as journal:
        status = asyncio.run(collect(plan_of(20, 16), journal, engine))
    assert not status.stopped and engine.calls == 40 and engine.most > 5


def test_answers_without_usage_are_asked_again_with_retry_failed(tmp_path: Path) -> None:
    plan = plan_of(2)
    with Journal(tmp_path / JOURNAL) as journal:
        asyncio.run(collect(plan, journal, Always(reply(usage=None))))
    with Journal(tmp_path / JOURNAL) as journal:
        assert asyncio.run(collect(plan, journal, Always(reply()))).calls == 0
    with Journal(tmp_path / JOURNAL, retry={"server"}) as journal:
        assert asyncio.run(collect(plan, journal, Always(reply()))).calls == 4
    assert [r.output_tokens for r in last_records(tmp_path / JOURNAL)] == [8] * 4


def test_a_run_that_the_limit_ends_counts_what_is_there(tmp_path: Path) -> None:
    plan = plan_of(30)
    with Journal(tmp_path / JOURNAL) as journal:
        first = asyncio.run(collect(plan, journal, Always(reply()), max_spend=0.001))
    with Journal(tmp_path / JOURNAL) as journal:
        again = asyncio.run(collect(plan, journal, Always(reply()), max_spend=0.001))
    assert 0 < first.done < 60 and (again.done, again.there, again.calls) == (first.done, first.done, 0)


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "control", "most", "cap"),
    [
        ("unlimited", BOTH, None, SAFETY_CAP),
        (100, ("instruction",), None, SAFETY_CAP),
        ("low", ("reasoning_effort",), None, SAFETY_CAP),
        ("low", ("reasoning_effort", "max_tokens"), 900, 900),
        (100, ("max_tokens",), 900, 100),
    ],
)
def test_every_request_has_a_cap(budget: Any, control: Any, most: int | None, cap: int) -> None:
    made = Model(
        id="m",
        budgets=(Budget.of(budget, control),),
        provider="p",
        usd_per_million=Prices(1, 1),
        max_output_tokens=most,
    )
    plan = CollectionPlan([Query(id="q", text="hi")], Pool([made]), {"p": Provider(base_url="http://x/v1")})
    body = plan.controls.request(made, plan.providers["p"], plan.queries[0], made.budgets[0]).body
    assert body["max_tokens"] == cap == plan.cap(made, made.budgets[0])


def pool_file(folder: Path, budgets: str, control: str, more: str = "") -> Path:
    path = folder / "pool.toml"
    path.write_text(
        f'[provider.x]\nbase_url = "http://127.0.0.1:9/v1"\n{more}\n[[model]]\nid = "m"\nprovider = "x"\nbudgets ='
        f" [{budgets}]\ncontrol = [{control}]\nusd_per_million = {{ input = 1, output = 10 }}\n"
    )
    return path


@pytest.mark.parametrize(
    ("budgets", "control"),
    [('"low"', '"max_tokens"'), ('20, "none"', '"instruction"'), ('"a-little"', '"prefix_sharing"')],
)
def test_a_budget_that_sends_nothing_is_refused_where_the_pool_is_read(
    tmp_path: Path, budgets: str, control: str
) -> None:
    with pytest.raises(ConfigError, match="line 7.*would send nothing"):
        Pool.read(pool_file(tmp_path, budgets, control))


def test_budgets_that_would_be_the_same_paid_request_are_refused_before_the_first(tmp_path: Path) -> None:
    checked = cli("pool", "check", str(pool_file(tmp_path, '20, 200, "unlimited"', "")))
    assert checked.exit_code == 2 and "same paid request" in checked.output
    with pytest.raises(ConfigError, match="same paid request"):
        plan_of(1, budgets=(20, 200), control=())


# -- nothing paid for is lost, nothing stale is used
# ---------------------------------------------------------------------


def files(folder: Path, url: str, n: int = 6, **provider: Any) -> list[str]:
    folder.mkdir(exist_ok=True)
    rows = [{"id": f"q{i}", "text": f"What is {i} + {i}?", "reference": "word", "scorer": "exact"} for i in range(n)]
    (folder / "suite.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    more = "".join(f"{k} = {json.dumps(v)}\n" for k, v in provider.items())
    (folder / "pool.toml").write_text(
        f'[provider.here]\nbase_url = "{url}"\n{more}\n[[model]]\nid = "m"\nprovider = "here"\nbudgets = [8, 20]\n'
        'control = ["instruction", "max_tokens"]\nusd_per_million = { input = 1.0, output = 10.0 }\n'
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


def test_a_corrected_reference_a_late_scorer_and_lost_queries_are_seen(tmp_path: Path) -> None:
    suite, run = tmp_path / "suite.jsonl", tmp_path / "run"
    with FakeEndpoint() as fake:
        words = files(tmp_path, fake.url, 3)
        assert cli(*words, "--yes").exit_code == 0
        requests = fake.requests
        suite.write_text(suite.read_text().replace('"word"', '"another"', 1))
        said = cli(*words)
        assert "1 queries have another reference" in said.output and fake.requests == requests
        compact(run)
        assert set(pl.read_parquet(run / "outcomes.parquet")["reference"]) == {"another", "word"}
        (run / "queries.jsonl").unlink()
        lost = cli("compact", str(run))
        assert lost.exit_code == 2 and "queries.jsonl is lost" in lost.output
        assert cli(*words, "--limit", "2").exit_code == 0
        part = cli("compact", str(run))
        assert "2 answers are left out" in part.output and "4 rows" in part.output
        suite.write_text(suite.read_text().replace(', "scorer": "exact"', ""))
        assert "3 queries" in cli(*words, "--scorer", "numeric").output or fake.requests == requests
        assert '"scorer":"numeric"' in (run / "queries.jsonl").read_text() and fake.requests == requests


def test_records_that_stand_twice_are_one_row(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        assert cli(*files(tmp_path, fake.url, 3), "--yes").exit_code == 0
    journal = tmp_path / "run" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines, *lines[1:4], lines[2]]))
    assert len(list(read_records(journal))) == 10 and len(list(last_records(journal))) == 6
    assert compact(tmp_path / "run").rows == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compact", "run", "--out", "run/journal.jsonl"], "'.jsonl' is not"),
        (["compact", "run", "--out", "t.csv"], "'.csv' is not a format that is written here"),
        (["suite", "suite.jsonl", "--out", "suite.jsonl"], "is read by this command"),
        (["suite", "./suite.jsonl", "--out", "sub/../suite.jsonl"], "is read by this command"),
        (["suite", "suite.jsonl", "--out=link.jsonl"], "is read by this command"),
        (["suite", "suite.jsonl", "--out", "run/queries.jsonl"], "belongs to the collection"),
        (["suite", "suite.jsonl", "--out", "run/judgements.jsonl"], "belongs to the collection"),
        (["suite", "suite.jsonl", "--out", "copy.jsonl"], "it is a journal"),
        (["route", "--input", "suite.jsonl", "--output", "suite.jsonl"], "is read by this command"),
        (["route", "--input", "suite.jsonl", "--output", "run/outcomes.parquet"], "belongs to the collection"),
        (["curves", "x", "--html", "pool.toml"], "'.toml' is not"),
        (["simulate", "--out", "run/outcomes.parquet"], "belongs to the collection"),
        (["simulate", "--out", "new.parquet", "--vectors", "new.vectors.npy"], "is read by this command"),
        (["collect", "--suite", "queries.jsonl", "--pool", "pool.toml", "--out", "."], "the folder is no collection"),
    ],
)
def test_an_output_is_never_what_is_read_or_owned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files(tmp_path, "http://127.0.0.1:9/v1")
    (tmp_path / "run").mkdir()
    (tmp_path / "sub").mkdir()
    with Journal(tmp_path / "run" / JOURNAL):
        pass
    remember(tmp_path / "run", [Query(id="a", text="b")])
    shutil.copy("run/journal.jsonl", "copy.jsonl")
    shutil.copy("suite.jsonl", "queries.jsonl")
    Path("link.jsonl").symlink_to("suite.jsonl")
    (tmp_path / "new.vectors.npy").write_bytes(b"mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = cli(*words)
    assert result.exit_code in (1, 2) and says in result.output, result.output
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_goes_to_an_unknown_host_only_by_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "sk-very-secret-0123456789")
    words = files(tmp_path, "http://gateway.invalid:1/v1", key="SOME_SECRET")
    nobody = cli(*words, "--yes")
    assert nobody.exit_code == 2 and "--send-key SOME_SECRET=gateway.invalid:1" in nobody.output
    no = cli(*words, "--yes", stdin="n\n")
    assert no.exit_code == 1 and "no key was sent" in no.output and "interrupted" not in no.output
    other = cli(*words, "--yes", "--send-key", "SOME_SECRET=elsewhere.example")
    assert other.exit_code == 2
    agreed = cli(*words, "--yes", "--send-key", "SOME_SECRET=gateway.invalid:1")
    assert "key: SOME_SECRET goes to gateway.invalid:1" in agreed.output and "sk-very" not in agreed.output
    assert agreed.exit_code == 1 and "give --send-key" not in agreed.output
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    stolen = cli(*files(tmp_path, "http://gateway.invalid:1/v1", key="OPENAI_API_KEY"), "--yes")
    assert stolen.exit_code == 2 and "OPENAI_API_KEY=gateway.invalid:1" in stolen.output


def test_a_key_that_stays_on_this_machine_needs_no_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_SECRET", "sk-very-secret-0123456789")
    with FakeEndpoint(key="sk-very-secret-0123456789") as fake:
        done = cli(*files(tmp_path, fake.url, 2, key="SOME_SECRET"), "--yes")
    assert done.exit_code == 0 and "key: SOME_SECRET goes to 127.0.0.1" in done.output


# -- pool check -------------------------------------------------------------------------------------------------------


def test_a_pool_is_tried_with_one_call_per_model(tmp_path: Path) -> None:
    with FakeEndpoint(models=("m",)) as fake:
        files(tmp_path, fake.url)
        pool = tmp_path / "pool.toml"
        good = cli("pool", "check", str(pool), "--call", "--yes")
        assert good.exit_code == 0 and "all 1 models answered" in good.output and fake.requests == 1
        asked = cli("pool", "check", str(pool), "--call", stdin="n\n")
        assert asked.exit_code == 1 and "nothing was spent" in asked.output and fake.requests == 1
        pool.write_text(pool.read_text().replace('id = "m"', 'id = "gone"'))
        bad = cli("pool", "check", str(pool), "--call", "--yes")
        assert bad.exit_code == 1 and "no answer from gone" in bad.output


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('["instruction", "max_tokens"]', '["thinking_tokens"]', "no field for thinking tokens"),
        ("http://127.0.0.1:9/v1", "ftp://127.0.0.1/v1", "must begin with http"),
        ('["instruction", "max_tokens"]', '["prefix_sharing", "max_tokens"]', "prefix_sharing cannot be combined"),
    ],
)
def test_pool_check_finds_what_collect_would(tmp_path: Path, old: str, new: str, says: str) -> None:
    words = files(tmp_path, "http://127.0.0.1:9/v1")
    pool = tmp_path / "pool.toml"
    pool.write_text(pool.read_text().replace(old, new))
    for tried in (cli("pool", "check", str(pool)), cli(*words, "--dry-run")):
        assert tried.exit_code == 2 and says in tried.output, tried.output
