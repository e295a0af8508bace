"""Collecting: calls per second through `collect` against a fake endpoint of 5 ms, its own time a call, memory, and
opening a large journal.

10,000 calls at concurrency 64, every one on the disk before it counts, streamed and not; the endpoint is a process of
its own on the same machine and takes its share of it. "Own time" is all CPU time of the collecting process over the
calls: HTTP, JSON, journal, plan. The same calls through the retries and limits alone show what HTTP costs. `--ray` does
them as Ray work, too (needs ray).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure

LATENCY_MS, CONCURRENCY = 5.0, 64
BUDGETS = (8, 16)


@contextlib.contextmanager
def endpoint() -> Iterator[str]:
    """The base URL of a fake endpoint in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "r2router.testing.endpoint", "0", str(LATENCY_MS)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def plan_of(url: str, calls: int, stream: bool) -> Any:
    """So many calls: queries of about 30 words, two budgets."""
    from r2router.bench.plan import CollectionPlan
    from r2router.bench.suite import Query
    from r2router.pool.pool import Pool
    from r2router.types import Budget, Model, Prices, Provider

    words = " ".join(f"word{i}" for i in range(28))
    budgets = tuple(Budget.of(b, ("instruction", "max_tokens")) for b in BUDGETS)
    model = Model(id="m", budgets=budgets, provider="here", upstream="m", usd_per_million=Prices(1.0, 4.0))
    queries = [Query(id=f"q{i}", text=f"{i} {words}?", task="t") for i in range(calls // len(BUDGETS))]
    return CollectionPlan(
        queries, Pool([model]), {"here": Provider(base_url=url, concurrency=CONCURRENCY, stream=stream)}
    )


def rss_mib() -> float:
    """Resident memory now."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return float("nan")


def collecting(args: argparse.Namespace, *, stream: bool, engine: str = "asyncio") -> measure.Figures:
    """A whole collection; memory at a tenth of it and at the end."""
    from r2router.bench.collect import collect
    from r2router.bench.engine import open_engine
    from r2router.bench.journal import Journal
    from r2router.bench.status import Status

    calls = 400 if args.small else 10_000
    memory: dict[int, float] = {}

    def watch(status: Status) -> None:
        if status.done % (calls // 10) == 0 and status.done:
            memory[status.done * 10 // calls] = rss_mib()

    async def run(folder: str, url: str) -> measure.Figures:
        plan = plan_of(url, calls, stream)
        plan.input_tokens(next(iter(plan.work())).query_key)  # the tokenizer is loaded once, before the clock
        caller = open_engine(engine, plan.providers)
        with Journal(Path(folder) / "journal.jsonl") as journal:
            try:
                await caller.probe("here")
                wall, cpu = time.perf_counter(), time.process_time()
                status = await collect(plan, journal, caller, report=watch)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            finally:
                await caller.close()
        assert (status.calls, status.failed) == (calls, 0), status
        size = (Path(folder) / "journal.jsonl").stat().st_size
        return {
            "calls": calls, "calls_per_s": calls / wall, "own_ms_per_call": 1e3 * cpu / calls, "seconds": wall,
            "rss_at_tenth_mib": memory[1], "rss_at_end_mib": memory[10], "growth": memory[10] / memory[1],
            "journal_bytes_per_call": size / calls,
        }  # fmt: skip

    with endpoint() as url, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(run(folder, url))


def bare(args: argparse.Namespace) -> measure.Figures:
    """The same requests through `Upstream` alone: no plan, no journal."""
    from r2router.upstream.client import Reply, Upstream

    calls = 400 if args.small else 10_000

    async def run(url: str) -> measure.Figures:
        plan = plan_of(url, calls, stream=False)
        model = plan.pool.models[0]
        requests = [
            plan.controls.request(model, plan.providers["here"], q, b) for q in plan.queries for b in model.budgets
        ]
        async with Upstream(plan.providers) as upstream:
            await upstream.probe("here")
            queue = iter(requests)

            async def work() -> None:
                for request in queue:
                    assert isinstance(await upstream.call(request), Reply)

            wall, cpu = time.perf_counter(), time.process_time()
            await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
            return {
                "calls_per_s": calls / (time.perf_counter() - wall),
                "own_ms_per_call": 1e3 * (time.process_time() - cpu) / calls,
            }

    with endpoint() as url:
        return asyncio.run(run(url))


def large_journal(args: argparse.Namespace) -> measure.Figures:
    """Opening a journal of many records: what a resumed collection begins with."""
    import msgspec

    from r2router.bench.call_key import content_key
    from r2router.bench.journal import Journal
    from r2router.bench.record import FORMAT, VERSION, Record

    records = 20_000 if args.small else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        encoder, response = msgspec.json.Encoder(), "word " * 200
        with path.open("wb") as file:
            file.write(encoder.encode({"format": FORMAT, "version": VERSION}) + b"\n")
            for i in range(records):
                key = content_key(str(i), "m", "100", "max_tokens", 0)
                record = Record(
                    key=key, query=key, query_id=f"q{i}", model="m", budget="100", control="max_tokens",
                    budget_tokens=100,
                    input_tokens=200, output_tokens=200, response=response, finish_reason="stop", charged_usd=0.001,
                )  # fmt: skip
                file.write(encoder.encode(record) + b"\n")
        before = rss_mib()
        seconds = time.perf_counter()
        with Journal(path) as journal:
            seconds = time.perf_counter() - seconds
            after = rss_mib()
            assert journal.records == records and journal.has(key)
            looked_up = measure.times(lambda i: journal.has(key), 20_000 if not args.small else 200)
        size = path.stat().st_size
    return {
        "records": records, "gib": size / 2**30, "open_s": seconds, "mib_per_s": size / 2**20 / seconds,
        "bytes_of_memory_per_record": (after - before) * 2**20 / records,
        "has_us": 1e6 * sum(looked_up) / len(looked_up),
    }  # fmt: skip


CASES = {
    "whole": lambda args: collecting(args, stream=False),
    "streamed": lambda args: collecting(args, stream=True),
    "ray": lambda args: collecting(args, stream=False, engine="ray"),
    "bare": bare,
    "journal": large_journal,
}


def drive(run: measure.Run) -> measure.Figures:
    """All cases, one after the other."""
    names = [n for n in CASES if n != "ray" or run.args.ray]
    figures = {name: run.case(name, threads=1, timeout=900) for name in names}
    rows = [
        (name, *(measure.show(figures, f"{name}.{key}", form) for key, form in (
            ("calls_per_s", "{:,.0f}"), ("own_ms_per_call", "{:.2f}"), ("rss_at_tenth_mib", "{:.0f}"),
            ("rss_at_end_mib", "{:.0f}"),
        )))
        for name in names if name != "journal"
    ]  # fmt: skip
    measure.table(("calls", "a second", "own ms each", "MiB at a tenth", "MiB at the end"), rows)
    shown = [
        measure.show(figures, f"journal.{k}", f)
        for k, f in (("records", "{:,}"), ("gib", "{:.2f} GiB"), ("open_s", "{:.1f} s"))
    ]
    measure.table(("journal", "size", "opened in"), [shown])
    return figures


if __name__ == "__main__":
    measure.run(
        __file__,
        __doc__,
        CASES,
        drive,
        lambda parser: parser.add_argument("--ray", action="store_true", help="with Ray, too"),
    )
