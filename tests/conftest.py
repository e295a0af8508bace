"""What the tests share: a small made-up world that can be known exactly, and the real data where it is there."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from r2router.encode import ENCODERS
from r2router.pool.pool import Pool
from r2router.table.table import Table
from r2router.types import Budget, FloatArray, Model, Prices
from r2router.upstream.known import KEYS

# `pytest --hypothesis-profile=explore` looks for new counterexamples; by default every run tries the same ones
settings.register_profile("steady", deadline=None, max_examples=60, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("steady")

SHARED = Path(__file__).resolve().parents[2] / "shared"
TOPICS = 6
DIM = 8


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys of whoever runs the tests: they choose the models of the command line."""
    for name in (name for names in KEYS.values() for name in names):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real outcome tables, beside the project."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real outcome tables (../shared/data) are not here")
    return SHARED


class FakeEncoder:
    """Embeddings that depend on the text alone: a topic's direction (`topic 3 ...`) and a little of everything else."""

    id = "fake"
    dim = DIM

    def encode(self, texts: Sequence[str]) -> FloatArray:
        return np.array([self._one(text) for text in texts], dtype=np.float32).reshape(len(texts), DIM)

    def _one(self, text: str) -> FloatArray:
        words = text.split()
        topic = int(words[1]) if len(words) > 1 and words[0] == "topic" and words[1].isdigit() else None
        noise = np.random.default_rng(zlib.crc32(text.encode("utf-8", "surrogatepass"))).normal(size=DIM)
        vector = 0.25 * noise / np.linalg.norm(noise)
        if topic is None:
            vector[DIM - 1] -= 1.0  # a direction of its own, that no topic has
        else:
            vector[topic % TOPICS] += 1.0
        return np.asarray(vector / np.linalg.norm(vector))


def small_pool() -> Pool:
    """Three models with numbers, `unlimited` and efforts as budgets."""
    models = [
        Model(
            id="small",
            budgets=tuple(Budget.of(b, ("instruction", "max_tokens")) for b in (50, 200, "unlimited")),
            provider="here",
            usd_per_million=Prices(input=0.1, output=0.4),
            context=8_000,
        ),
        Model(
            id="large",
            budgets=tuple(Budget.of(b, ("instruction", "max_tokens")) for b in (50, 200, 800)),
            provider="there",
            usd_per_million=Prices(input=2.0, output=8.0, cached_input=0.5),
            capabilities=frozenset({"vision", "tools"}),
        ),
        Model(
            id="thinker",
            budgets=(Budget.of("low"), Budget.of("high")),
            provider="there",
            usd_per_million=Prices(input=1.0, output=4.0, reasoning=5.0),
            capabilities=frozenset({"tools"}),
        ),
    ]
    return Pool(models)


def small_table(pool: Pool, n: int = 240, seed: int = 0) -> Table:
    """n queries on six topics: every arm is good at some, and longer answers help."""
    rng = np.random.default_rng(seed)
    topics = np.arange(n) % TOPICS
    queries = tuple(f"topic {t} question {i}: what is {rng.integers(1000)} of it?" for i, t in enumerate(topics))
    skill = np.random.default_rng(7).uniform(0.2, 0.95, (TOPICS, len(pool)))
    quality = (rng.random((n, len(pool))) < skill[topics]).astype(float)
    length = np.array([40.0 if b.tokens == 50 else 150.0 if b.tokens == 200 else 600.0 for b in pool.budgets])
    output = np.round(length * rng.lognormal(0.0, 0.3, (n, len(pool)))) + 1
    counts = np.array([float(len(q.split()) + 2) for q in queries])
    nothing = np.full(quality.shape, np.nan)
    return Table(
        pool=pool,
        query_ids=tuple(f"q{i}" for i in range(n)),
        queries=queries,
        tasks=tuple(f"task {t % 2}" for t in topics),
        quality=quality,
        input_tokens=np.repeat((1.5 * counts + 10)[:, None], len(pool), axis=1),
        cached_tokens=nothing,
        output_tokens=output,
        reasoning_tokens=nothing,
        cost_usd=nothing,
    )


@dataclass(frozen=True)
class World:
    """A pool, what its arms gave on some queries, and the embeddings of those."""

    pool: Pool
    table: Table
    vectors: FloatArray


@pytest.fixture(scope="session")
def world() -> World:
    pool = small_pool()
    table = small_table(pool)
    return World(pool, table, FakeEncoder().encode(table.queries))


@pytest.fixture
def fake_encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """Stands in the registry as `fake`, so that routers can be trained and asked without the embedded model."""
    encoder = FakeEncoder()
    monkeypatch.setitem(ENCODERS, "fake", lambda _: encoder)
    return encoder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A real PostgreSQL server; skipped where there is none."""
    import postgres_server

    server = postgres_server.start()
    yield server
    server.stop()
