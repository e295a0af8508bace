"""What the ledger costs a request: opened before it is sent, settled after it, at a steady rate, on SQLite with a full sync and PostgreSQL.

Requests arrive at 200 per second for some seconds (open loop), each under a key with limits. `open`: from asking to the row on the disk,
which is what a client waits for. `settle`: the same at the end, when its answer is out. `cpu`: processor time of the whole process per
request (both transactions). `sync`: one write of 4 KiB and fdatasync on the same disk, without any ledger, at the same time: the time
below which no durable row can be written. PostgreSQL is started from Debian's packages, and left out where there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import measure

RATE, SECONDS = 200, 10
DATABASES = ("sqlite", "postgresql")


def cost(args: argparse.Namespace) -> measure.Figures:
    """One database under load."""
    from r2router.gateway.keys import Keys
    from r2router.gateway.ledger import Ledger, Limits, Opened, Settled

    seconds = 2 if args.small else SECONDS
    with tempfile.TemporaryDirectory(dir=measure.ROOT / "build") as folder:
        where, stop = place(args.database, folder)
        key, _ = Keys(where).make("k", Limits(day_nanos=10**15, month_nanos=10**15, minute_requests=10**9, concurrent=10**6))
        opens: list[float] = []
        settles: list[float] = []

        async def one(ledger: Ledger, number: int) -> None:
            begin = time.perf_counter()
            ticket = await ledger.open(
                Opened(id=f"r{number}", asked="auto", arm="m@low", endpoint="chat", reserved=10**6, tokens=9, key=key.id)
            )
            opens.append(time.perf_counter() - begin)
            await asyncio.sleep(0.05)
            begin = time.perf_counter()
            await ledger.settle(ticket, Settled(state="done", cost=10**5))
            settles.append(time.perf_counter() - begin)

        async def load(ledger: Ledger) -> None:
            begin, tasks = time.perf_counter(), []
            for number in range(RATE * seconds):
                await asyncio.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
                tasks.append(asyncio.create_task(one(ledger, number)))
            await asyncio.gather(*tasks)

        with Ledger.at(where) as ledger:
            cpu = time.process_time()
            asyncio.run(load(ledger))
            cpu = time.process_time() - cpu
        syncs = sync_times(Path(folder) / "sync", 100)
        stop()
    return {
        "requests": len(opens),
        "open_ms": quantiles(opens),
        "settle_ms": quantiles(settles),
        "cpu_ms": 1e3 * cpu / len(opens),
        "sync_ms": quantiles(syncs),
    }


def place(database: str, folder: str):
    """(where the ledger lies, what ends it)."""
    if database == "sqlite":
        return f"{folder}/ledger.db", lambda: None
    sys.path.insert(0, str(measure.ROOT / "tests"))
    import postgres_server

    server = postgres_server.start()
    return server.new(), server.stop


def sync_times(path: Path, n: int) -> list[float]:
    times: list[float] = []

    def run() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(n):
                file.write(b"x" * 4096)
                begin = time.perf_counter()
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - begin)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return times


def quantiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {name: 1e3 * ordered[min(int(q * len(ordered)), len(ordered) - 1)] for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}


def drive(run: measure.Run) -> measure.Figures:
    (measure.ROOT / "build").mkdir(exist_ok=True)
    found = {name: run.case("cost", "--database", name, timeout=300) for name in DATABASES}
    rows = []
    for name, f in found.items():
        if "failed" in f:
            print(f"{name}: {f['failed']}")
            continue
        pairs = [f"{f[k]['p50']:.2f} / {f[k]['p99']:.2f}" for k in ("open_ms", "settle_ms", "sync_ms")]
        rows.append((name, f"{f['requests']:,}", *pairs[:2], f"{f['cpu_ms']:.3f}", pairs[2]))
    if rows:
        measure.table(("", "requests", "open p50 / p99 ms", "settle p50 / p99 ms", "cpu ms", "a sync alone, ms"), rows)
    return found


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"cost": cost}, drive, lambda p: p.add_argument("--database", choices=DATABASES, help=argparse.SUPPRESS))
