"""What the ledger costs a request, on SQLite with a full sync per commit and on PostgreSQL.

`http`: whole requests through `r2router serve` to a provider that answers after 20 ms, at 200 per second (open loop: a request goes out
when it is due): the latency with a ledger, under a key with limits, less that of the same gateway with `ledger = "none"`; by turns, so that
both see the same machine. Then requests per second with 32 at once and a provider that answers at once, as a share of those without.
`disk` is a file on this machine's disk, `memory` one on tmpfs, where a sync costs nothing: the difference is the disk's.

`cost`: the ledger alone. Requests arrive at 200 per second for some seconds (open loop), each under a key with limits. `open`: from
asking to the row on the disk, which is what a client waits for. `settle`: the same at the end, when its answer is out. `cpu`: processor
time of the whole process per request (both transactions). `sync`: one write of 4 KiB and fdatasync on the same disk, without any ledger,
at the same time: the time below which no durable row can be written. PostgreSQL is started from Debian's packages, and left out where
there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gateway as load
import measure

RATE, SECONDS = 200, 10
DATABASES = ("sqlite", "postgresql")
LEDGERS = ("none", "disk", "memory", "postgresql")
DELAY_S = 0.02


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

        async def arrive(ledger: Ledger) -> None:
            begin, tasks = time.perf_counter(), []
            for number in range(RATE * seconds):
                await asyncio.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
                tasks.append(asyncio.create_task(one(ledger, number)))
            await asyncio.gather(*tasks)

        with Ledger.at(where) as ledger:
            cpu = time.process_time()
            asyncio.run(arrive(ledger))
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


@contextlib.contextmanager
def gateways() -> Iterator[dict[str, tuple[str, str]]]:
    """(URL, secret) of a gateway per ledger, before two providers: `slow` answers after a while, `quick` at once."""
    from r2router.gateway.keys import Keys
    from r2router.gateway.ledger import Limits

    (measure.ROOT / "build").mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(tempfile.TemporaryDirectory(dir=measure.ROOT / "build"))
        memory = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")) if Path("/dev/shm").is_dir() else None
        places = {"none": "none", "disk": f"{disk}/ledger.db"} | ({"memory": f"{memory}/ledger.db"} if memory else {})
        try:
            places["postgresql"], stop = place("postgresql", disk)
            stack.callback(stop)
        except BaseException as skipped:  # noqa: BLE001  a skip of the tests' own
            print(f"postgresql: {skipped}", file=sys.stderr)
        ports = {name: load.free_port() for name in (*places, "quick", "slow")}
        script = str(measure.ROOT / "benchmarks" / "gateway.py")
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        for name, delay in (("quick", 0.0), ("slow", DELAY_S)):
            start(stack, [sys.executable, script, "--case", "provider", "--delay", str(delay), "--port", str(ports[name])], environment)
        found = {}
        for name, where in places.items():
            config = Path(disk) / f"{name}.toml"
            config.write_text(
                f'[server]\nport = {ports[name]}\nlogs = "none"\nledger = "{where}"\n'
                + "".join(f'[provider.{p}]\nbase_url = "http://127.0.0.1:{ports[p]}/v1"\n' for p in ("quick", "slow"))
                + "".join(
                    f'[[model]]\nid = "{p}"\nprovider = "{p}"\nusd_per_million = {{ input = 1, output = 2 }}\n' for p in ("quick", "slow")
                )
            )
            most = 10**15
            limits = Limits(day_nanos=most, month_nanos=most, total_nanos=most)
            secret = "" if where == "none" else Keys(where).make("k", limits)[1]
            start(stack, [sys.executable, "-m", "r2router", "serve", "--config", str(config)], environment)
            found[name] = f"http://127.0.0.1:{ports[name]}/v1/chat/completions", secret
        for port in ports.values():
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
        yield found


def start(stack: contextlib.ExitStack, command: list[str], environment: dict[str, str]) -> None:
    """Run a server until the stack ends."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def stop() -> None:
        process.terminate()
        process.wait(30)

    stack.callback(stop)


def http(args: argparse.Namespace) -> measure.Figures:
    """Whole requests, with and without a ledger."""
    return asyncio.run(through_http(small=args.small))


async def through_http(*, small: bool) -> measure.Figures:
    import aiohttp

    rounds, each, seconds = (1, 20, 0.5) if small else (8, 400, 4.0)
    slow, quick = (load.asking(model, "Say something. " * 20) for model in ("slow", "quick"))
    with gateways() as found:
        async with contextlib.AsyncExitStack() as stack:
            sessions = {}
            for name, (url, secret) in found.items():
                headers = {"Authorization": f"Bearer {secret}"} if secret else {}
                session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)
                sessions[name] = await stack.enter_async_context(session), url
            latency: dict[str, list[float]] = {name: [] for name in found}
            rates: dict[str, list[float]] = {name: [] for name in found}
            for session, url in sessions.values():
                await load.open_load(session, url, [slow] * 40, 100)
            for _ in range(rounds):
                for name, (session, url) in sessions.items():
                    latency[name] += await load.open_load(session, url, [slow] * each, RATE)
            for _ in range(1 if small else 3):
                for name, (session, url) in sessions.items():
                    rates[name].append(await load.full_load(session, url, quick, seconds))
    figures: measure.Figures = {"latency": {name: load.spread(ms) for name, ms in latency.items()}}
    figures["requests_per_s"] = {name: statistics.median(values) for name, values in rates.items()}
    without = figures["latency"]["none"]
    figures["added_p50_ms"] = {name: value["p50_ms"] - without["p50_ms"] for name, value in figures["latency"].items() if name != "none"}
    figures["throughput"] = {
        name: value / figures["requests_per_s"]["none"] for name, value in figures["requests_per_s"].items() if name != "none"
    }
    return figures


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
    found = {"http": run.case("http", threads=1, timeout=900)}
    if "failed" not in found["http"]:
        whole = found["http"]
        rows = [
            (name, measure.show(whole, f"latency.{name}.p50_ms", "{:.2f}"), measure.show(whole, f"added_p50_ms.{name}", "{:+.2f}"),
             measure.show(whole, f"requests_per_s.{name}", "{:,.0f}"), measure.show(whole, f"throughput.{name}", "{:.0%}"))
            for name in LEDGERS
        ]  # fmt: skip
        measure.table(("ledger", "p50 ms", "added", "requests per second", "of those without"), rows)
    found |= {name: run.case("cost", "--database", name, timeout=300) for name in DATABASES}
    rows = []
    for name in DATABASES:
        f = found[name]
        if "failed" in f:
            print(f"{name}: {f['failed']}")
            continue
        pairs = [f"{f[k]['p50']:.2f} / {f[k]['p99']:.2f}" for k in ("open_ms", "settle_ms", "sync_ms")]
        rows.append((name, f"{f['requests']:,}", *pairs[:2], f"{f['cpu_ms']:.3f}", pairs[2]))
    if rows:
        measure.table(("", "requests", "open p50 / p99 ms", "settle p50 / p99 ms", "cpu ms", "a sync alone, ms"), rows)
    return found


if __name__ == "__main__":
    cases = {"cost": cost, "http": http}
    measure.run(__file__, __doc__, cases, drive, lambda p: p.add_argument("--database", choices=DATABASES, help=argparse.SUPPRESS))
