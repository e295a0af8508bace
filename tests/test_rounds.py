"""Collecting by rounds: the sum is kept, and a run that was broken off chooses the same as one that was not."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")

from r2router.bench.adaptive import Settings
from r2router.bench.journal import Journal
from r2router.bench.plan import CollectionPlan
from r2router.bench.record import read_records
from r2router.bench.rounds import collect_rounds
from r2router.bench.suite import JsonLines
from r2router.cli import main
from r2router.pool.pool import Pool
from r2router.pool.toml import read_providers
from r2router.testing import FakeEndpoint
from r2router.upstream.client import Upstream

POOL = """
[provider.here]
base_url = "URL"
concurrency = CALLS
[[model]]
id = "cheap"
provider = "here"
budgets = [8, 20]
control = ["instruction", "max_tokens"]
usd_per_million = { input = 1.0, output = 10.0 }
[[model]]
id = "chained"
provider = "here"
budgets = [0, 9]
control = ["prefix_sharing"]
usd_per_million = { input = 1.0, output = 10.0 }
[[model]]
id = "dear"
provider = "here"
budgets = [20]
control = ["instruction", "max_tokens"]
usd_per_million = { input = 20.0, output = 200.0 }
"""


def files(folder: Path, url: str, n: int = 60, calls: int = 1, scorer: str = "numeric") -> list[str]:
    """The words of a command, and its files. `cheap` is right on half of the queries: the fake says `word-0 word-1
    ...`.
    """
    rows = [
        {"id": f"q{i}", "text": f"What is {i}?", "task": f"task {i % 3}", "reference": str(i % 40), "scorer": scorer}
        for i in range(n)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "pool.toml").write_text(POOL.replace("URL", url).replace("CALLS", str(calls)))
    return [
        "collect",
        "--suite",
        str(folder / "suite.jsonl"),
        "--pool",
        str(folder / "pool.toml"),
        "--out",
        str(folder / "run"),
    ]


def test_the_command_spends_what_it_may_and_most_of_it_on_many_cheap_answers(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        done = CliRunner().invoke(
            main, [*files(tmp_path, fake.url, calls=8), "--adaptive", "--max-spend", "0.12", "--yes"]
        )
        assert done.exit_code == 0, done.output
        again = CliRunner().invoke(
            main, [*files(tmp_path, fake.url, calls=8), "--adaptive", "--max-spend", "0.12", "--yes"]
        )
    assert "round 2:" in done.output and "next: r2router compact" in done.output and again.exit_code == 0
    records = list(read_records(tmp_path / "run" / "journal.jsonl"))
    assert 0.09 < sum(r.charged_usd for r in records) <= 0.12
    assert set(fake.billed.values()) == {1}
    counts = Counter(r.model for r in records if r.kind == "cell")
    assert counts["cheap"] > 2 * counts["dear"] >= 2 * Settings().start
    chains = {r.query_id for r in records if r.kind == "chain"}
    assert Counter(r.query_id for r in records if r.model == "chained" and r.kind == "cell") == dict.fromkeys(chains, 2)


@pytest.mark.parametrize("after", [7, 60])
def test_a_run_that_was_broken_off_chooses_the_same_afterwards(tmp_path: Path, after: int) -> None:
    def collect(folder: Path, url: str, limit: float, calls: int | None = None) -> Any:
        words = files(folder, url)
        plan = CollectionPlan(list(JsonLines(words[2]).queries()), Pool.read(words[4]), read_providers(words[4]))

        async def go() -> Any:
            stop = asyncio.Event()

            def report(status: Any) -> None:
                if calls is not None and status.calls >= calls:
                    stop.set()

            with Journal(folder / "run" / "journal.jsonl") as journal:
                async with Upstream(plan.providers) as upstream:
                    return await collect_rounds(plan, journal, upstream, max_spend=limit, report=report, stop=stop)

        return asyncio.run(go())

    def keys(folder: Path) -> list[str]:
        return sorted(r.key for r in read_records(folder / "run" / "journal.jsonl"))

    with FakeEndpoint() as fake:
        collect(tmp_path / "whole", fake.url, 0.12)
        broken = collect(tmp_path / "broken", fake.url, 0.12, calls=after)
        assert broken.done < broken.planned and len(keys(tmp_path / "broken")) < len(keys(tmp_path / "whole"))
        status = collect(tmp_path / "broken", fake.url, 0.12)
        assert status.stopped == {} and status.done == status.planned
        collect(tmp_path / "raised", fake.url, 0.05)
        collect(tmp_path / "raised", fake.url, 0.12)
    assert keys(tmp_path / "broken") == keys(tmp_path / "whole")
    assert len(set(keys(tmp_path / "whole"))) == len(keys(tmp_path / "whole"))
    assert set(keys(tmp_path / "raised")) == set(keys(tmp_path / "whole"))


def test_without_any_quality_it_goes_by_price_and_says_so(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        words = files(tmp_path, fake.url, scorer="")
        done = CliRunner().invoke(main, [*words, "--adaptive", "--max-spend", "0.06", "--yes"])
    assert done.exit_code == 0 and "by price alone; name a scorer" in done.output


def test_a_limit_that_ends_the_first_round_is_said(tmp_path: Path) -> None:
    with FakeEndpoint() as fake:
        done = CliRunner().invoke(main, [*files(tmp_path, fake.url), "--adaptive", "--max-spend", "0.0001", "--yes"])
    assert done.exit_code == 0 and "the limit ended the first round" in done.output and fake.requests == 0


def test_it_needs_a_sum_to_spend(tmp_path: Path) -> None:
    wrong = CliRunner().invoke(main, [*files(tmp_path, "http://127.0.0.1:9"), "--adaptive"])
    assert wrong.exit_code == 2 and "--adaptive needs --max-spend" in wrong.output
