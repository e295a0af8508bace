"""Work beside the calls: wherever it is done, results are those of one process, in order, and a stream is not read
ahead.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")

from r2router.bench.folder import compact
from r2router.bench.scoring import scorer_named
from r2router.bench.spread import ScoringTask, score_answers
from r2router.bench.suite import Query, Score
from r2router.encode import load_encoder
from r2router.encode.embed import embed_texts
from r2router.executors import Here, Threads
from r2router.testing import FakeEndpoint


class Late:
    """A named fake: takes two parts before it gives the first result, as a cluster does."""

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        held: list[bytes] = []
        for part in parts:
            held.append(part)
            if len(held) == 2:
                yield work(held.pop(0))
        yield from map(work, held)


def answers(n: int) -> Iterator[tuple[int, ScoringTask]]:
    for i in range(n):
        query = Query(id=f"q{i}", text="?", reference=str(i % 7), meta={"large": 2**70})
        yield i, ScoringTask(query, f"The answer is {i % 5}.", (("numeric", "exact") if i % 3 else ())[: 1 + i % 2])


@pytest.mark.parametrize("spread", [Here(), Late(), Threads(3)])
def test_scores_are_those_of_the_scorers_in_order(spread: Here) -> None:
    expected = []
    for i, answer in answers(300):
        scores = [scorer_named(name).score(answer.query, answer.response) for name in answer.scorers]
        expected.append((i, [s for s in scores if isinstance(s, Score)]))
    assert list(score_answers(answers(300), spread)) == expected


def test_a_stream_is_read_a_part_at_a_time() -> None:
    read = 0

    def counted() -> Iterator[tuple[int, ScoringTask]]:
        nonlocal read
        for item in answers(100_000):
            read += 1
            yield item

    next(score_answers(counted(), Here()))
    assert read <= 64


@pytest.mark.parametrize("spread", [Here(), Late(), Threads(3)])
def test_embeddings_are_those_of_the_encoder(spread: Here) -> None:
    texts = [f"question {i}" for i in range(600)]
    assert np.array_equal(embed_texts("minilm", texts, spread), load_encoder("minilm").encode(texts))
    assert embed_texts("minilm", [], spread).shape == (0, 384)


SUITE = (
    '{{"id": "q{0}", "text": "How many words has question {0}?", "reference": "7", "scorer": "numeric", "task":'
    ' "t{1}"}}\n'
)
POOL = """
[provider.here]
base_url = "URL"
[[model]]
id = "m"
provider = "here"
budgets = [8, 20]
control = ["max_tokens"]
usd_per_million = { input = 1.0, output = 10.0 }
"""


@pytest.mark.slow
def test_adaptive_collecting_and_scoring_on_ray_give_the_same_table(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the [ray] extra is not installed")
    (tmp_path / "suite.jsonl").write_text("".join(SUITE.format(i, i % 3) for i in range(40)))
    tables = []
    with FakeEndpoint() as fake:
        (tmp_path / "pool.toml").write_text(POOL.replace("URL", fake.url))
        for engine in ("asyncio", "ray"):
            words = [
                "collect",
                "--suite",
                "suite.jsonl",
                "--pool",
                "pool.toml",
                "--adaptive",
                "--max-spend",
                "0.02",
                "--yes",
            ]
            for command in ([*words, "--out", engine], ["compact", engine, "--scorer", "exact"]):
                done = subprocess.run(
                    [sys.executable, "-W", "ignore", "-m", "r2router.cli", *command, "--engine", engine],
                    capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
                    env={**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
            frame = pl.read_parquet(tmp_path / engine / "outcomes.parquet").drop("latency_s", "ttft_s")
            tables.append(frame.sort("query_id", "budget_tokens"))
            compact(tmp_path / engine, tmp_path / "again.parquet")
            assert pl.read_parquet(tmp_path / "again.parquet").equals(
                pl.read_parquet(tmp_path / engine / "outcomes.parquet")
            )
    assert len(tables[0]) > 40 and tables[0].equals(tables[1])


MISTAKE = """
from r2router.executors.on_ray import OnRay
from r2router.bench.spread import ScoringTask, score_answers
from r2router.bench.suite import Query
from r2router.errors import DataError

with OnRay() as ray:
    try:
        list(score_answers([(0, ScoringTask(Query(id="q", text="?"), "4", ("numbers",)))], ray))
    except DataError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_mistake_within_ray_work_is_the_mistake_itself() -> None:
    pytest.importorskip("ray", reason="the [ray] extra is not installed")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MISTAKE], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
    )  # fmt: skip
    assert "no scorer 'numbers'" in done.stdout
