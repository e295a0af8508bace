"""What the ledger costs a request, on SQLite with a full sync per commit and on PostgreSQL.

`http`: whole requests through `r2router serve` to a provider that answers after 20 ms, at 200 and at 50 per second
(open loop: a request goes out when it is due): the latency with a ledger, under a key with limits, less that of the
same gateway with `ledger = "none"`; by turns, so that both see the same machine. Then requests per second with 32 at
once and a provider that answers at once, as a share of those without, and the gateway's processor time per request
meanwhile. `disk` is a file on this machine's disk, `memory` one on tmpfs, where a sync costs nothing: the difference is
the disk's.

`cost`: the ledger alone. Requests arrive at 200 per second for some seconds (open loop), each with a call of 50 ms.
`before the call`: what a request waits for before it may be sent; `at the end`: what its answer then waits for the row;
`settle`: behind the answer, for which nobody waits. `begin` is what the gateway does, under a key with limits in
dollars; `open` is under a key with limits per minute too, each of whose requests waits for its row to be on the disk.
`cpu`: processor time of the whole process per request. `sync`: one write of 4 KiB and fdatasync on the same disk,
without any ledger. PostgreSQL is started from Debian's packages, and left out where there is none.
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
RATES = (200, 50)
DATABASES = ("sqlite", "postgresql")
LEDGERS = ("none", "disk", "memory", "postgresql")
DELAY_S, CALL_S = 0.02, 0.05


def cost(args: argparse.Namespace) -> measure.Figures:
    """One database under load."""
    from r2router.gateway.keys import Keys
    from r2router.gateway.ledger import Ledger, Limits, Opened, Settled

    seconds = 2 if args.small else SECONDS
    with tempfile.TemporaryDirectory(dir=measure.ROOT / "build") as folder:
        where, stop = place(args.database, folder)
        most = 10**15
        keys = {
            "begin": Keys(where).make("money", Limits(day_nanos=most, month_nanos=most, total_nanos=most))[0],
            "open": (
                Keys(where).make(
                    "all", Limits(day_nanos=most, month_nanos=most, minute_requests=10**9, concurrent=10**6)
                )[0]
            ),
        }
        times: dict[str, list[float]] = {"before": [], "end": [], "settle": []}

        async def one(ledger: Ledger, way: str, number: int) -> None:
            key, enter = keys[way].id, ledger.begin if way == "begin" else ledger.open
            opened = Opened(
                id=f"{way}{number}", asked="auto", arm="m@low", endpoint="chat", reserved=10**6, tokens=9, key=key
            )
            begin = time.perf_counter()
            ticket = await enter(opened)
            times["before"].append(time.perf_counter() - begin)
            await asyncio.sleep(CALL_S)
            begin = time.perf_counter()
            if ticket.written is not None and not ticket.written.done():
                await asyncio.wait([ticket.written])
            times["end"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            await ledger.settle(ticket, Settled(state="done", cost=10**5))
            times["settle"].append(time.perf_counter() - begin)

        async def arrive(ledger: Ledger, way: str) -> None:
            begin, tasks = time.perf_counter(), []
            for number in range(RATE * seconds):
                await asyncio.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
                tasks.append(asyncio.create_task(one(ledger, way, number)))
            await asyncio.gather(*tasks)

        found: measure.Figures = {}
        for way in keys:
            for spent in times.values():
                spent.clear()
            with Ledger.at(where) as ledger:
                cpu = time.process_time()
                asyncio.run(arrive(ledger, way))
                cpu = time.process_time() - cpu
            found[way] = {"requests": len(times["before"]), "cpu_ms": 1e3 * cpu / len(times["before"])}
            found[way] |= {f"{name}_ms": quantiles(spent) for name, spent in times.items()}
        found["sync_ms"] = quantiles(sync_times(Path(folder) / "sync", 100))
        stop()
    return found


@contextlib.contextmanager
def gateways() -> Iterator[dict[str, tuple[str, str, int]]]:
    """(URL, secret, process id) of a gateway per ledger, before two providers: `slow` answers after a while, `quick` at
    once.
    """
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
            start(
                stack,
                [sys.executable, script, "--case", "provider", "--delay", str(delay), "--port", str(ports[name])],
                environment,
            )
        found = {}
        for name, where in places.items():
            config = Path(disk) / f"{name}.toml"
            config.write_text(
                f'[server]\nport = {ports[name]}\nlogs = "none"\nledger = "{where}"\n'
                + "".join(f'[provider.{p}]\nbase_url = "http://127.0.0.1:{ports[p]}/v1"\n' for p in ("quick", "slow"))
                + "".join(
                    f'[[model]]\nid = "{p}"\nprovider = "{p}"\nusd_per_million = {{ input = 1, output = 2 }}\n'
                    for p in ("quick", "slow")
                )
            )
            most = 10**15
            limits = Limits(day_nanos=most, month_nanos=most, total_nanos=most)
            secret = "" if where == "none" else Keys(where).make("k", limits)[1]
            pid = start(stack, [sys.executable, "-m", "r2router", "serve", "--config", str(config)], environment)
            found[name] = f"http://127.0.0.1:{ports[name]}/v1/chat/completions", secret, pid
        for port in ports.values():
            for _ in range(600):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
        yield found


def start(stack: contextlib.ExitStack, command: list[str], environment: dict[str, str]) -> int:
    """Run a server until the stack ends; its process id."""
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)

    def stop() -> None:
        process.terminate()
        process.wait(30)

    stack.callback(stop)
    return process.pid


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def http(args: argparse.Namespace) -> measure.Figures:
    """Whole requests, with and without a ledger."""
    return asyncio.run(through_http(args.rate, small=args.small))


async def through_http(rate: int, *, small: bool) -> measure.Figures:
    import aiohttp

    rounds, seconds = (1, 0.5) if small else (4, 4.0)
    each = 20 if small else 2 * rate
    slow, quick = (load.asking(model, "Say something. " * 20) for model in ("slow", "quick"))
    with gateways() as found:
        async with contextlib.AsyncExitStack() as stack:
            sessions = {}
            for name, (url, secret, _) in found.items():
                headers = {"Authorization": f"Bearer {secret}"} if secret else {}
                session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)
                sessions[name] = await stack.enter_async_context(session), url
            latency: dict[str, list[float]] = {name: [] for name in found}
            rates: dict[str, list[float]] = {name: [] for name in found}
            cpu: dict[str, list[float]] = {name: [] for name in found}
            for session, url in sessions.values():
                await load.open_load(session, url, [slow] * 40, 100)
            for _ in range(rounds):
                for name, (session, url) in sessions.items():
                    latency[name] += await load.open_load(session, url, [slow] * each, rate)
            for _ in range(1 if small else 3):
                for name, (session, url) in sessions.items():
                    before = cpu_s(found[name][2])
                    rates[name].append(await load.full_load(session, url, quick, seconds))
                    cpu[name].append(1000 * (cpu_s(found[name][2]) - before) / max(1.0, rates[name][-1] * seconds))
    figures: measure.Figures = {"latency": {name: load.spread(ms) for name, ms in latency.items()}}
    figures["requests_per_s"] = {name: statistics.median(values) for name, values in rates.items()}
    figures["cpu_ms"] = {name: statistics.median(values) for name, values in cpu.items()}
    without = figures["latency"]["none"]
    figures["added_p50_ms"] = {
        name: value["p50_ms"] - without["p50_ms"] for name, value in figures["latency"].items() if name != "none"
    }
    figures["throughput"] = {
        name: value / figures["requests_per_s"]["none"]
        for name, value in figures["requests_per_s"].items()
        if name != "none"
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
    return {
        name: 1e3 * ordered[min(int(q * len(ordered)), len(ordered) - 1)]
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))
    }


def drive(run: measure.Run) -> measure.Figures:
    (measure.ROOT / "build").mkdir(exist_ok=True)
    found = {f"http at {rate}": run.case("http", "--rate", rate, threads=1, timeout=600) for rate in RATES}
    for name, whole in found.items():
        if "failed" in whole:
            print(f"{name}: {whole['failed']}")
            continue
        rows = [
            (name, measure.show(whole, f"latency.{name}.p50_ms", "{:.2f}"), measure.show(whole, f"added_p50_ms.{name}",
            "{:+.2f}"),
             measure.show(whole, f"requests_per_s.{name}", "{:,.0f}"), measure.show(whole, f"throughput.{name}",
             "{:.0%}"),
             measure.show(whole, f"cpu_ms.{name}", "{:.2f}"))
            for name in LEDGERS
        ]  # fmt: skip
        measure.table(
            (f"{name} per second", "p50 ms", "added", "requests per second", "of those without", "cpu ms"), rows
        )
    found |= {name: run.case("cost", "--database", name, timeout=300) for name in DATABASES}
    rows = []
    for name in DATABASES:
        f = found[name]
        if "failed" in f:
            print(f"{name}: {f['failed']}")
            continue
        for way in ("begin", "open"):
            pairs = [f"{f[way][k]['p50']:.3f} / {f[way][k]['p99']:.2f}" for k in ("before_ms", "end_ms", "settle_ms")]
            alone = f"{f['sync_ms']['p50']:.2f} / {f['sync_ms']['p99']:.2f}"
            rows.append((f"{name}, {way}", f"{f[way]['requests']:,}", *pairs, f"{f[way]['cpu_ms']:.3f}", alone))
    if rows:
        measure.table(
            ("p50 / p99 in ms", "requests", "before the call", "at the end", "settle", "cpu ms", "a sync alone"), rows
        )
    return found


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the cases."""
    parser.add_argument("--database", choices=DATABASES, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, default=RATE, help=argparse.SUPPRESS)


if __name__ == "__main__":
    cases = {"cost": cost, "http": http}
    measure.run(__file__, __doc__, cases, drive, configure)
